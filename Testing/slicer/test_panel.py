"""The panel of DRMCDenoise, opened from its module file and .ui, clicked and read as a user does."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from support.slicer.processes import Puppet, leftOf, processesOf, waitUntil
from support.slicer.scene import matrixOf, nodeIDs, oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def puppet(monkeypatch):
    """The process of every job from now on; it does what the test says."""
    import DRMCCoreLib.process.runner

    one = Puppet()
    monkeypatch.setattr(DRMCCoreLib.process.runner, "createProcess", lambda: one)
    return one


def scan(slicer, **keywords):
    return volumeNode(slicer, phantom(**keywords), oblique(), units="{SUVbw}g/ml")


def test_what_is_missing_is_said_where_apply_is_disabled(panel, qtSlicer):
    ui = panel.ui
    assert not ui.applyButton.enabled and ui.applyButton.toolTip == "Choose an input volume"
    node = scan(qtSlicer)
    qtSlicer.app.processEvents()
    assert ui.inputSelector.currentNode() is node and panel._parameterNode.inputVolume is node
    assert ui.applyButton.enabled and ui.applyButton.toolTip == "Denoise the input volume"
    ui.outputSelector.setCurrentNode(node)
    assert not ui.applyButton.enabled and "other than the input" in ui.applyButton.toolTip
    ui.outputSelector.setCurrentNode(None)
    assert ui.applyButton.enabled


def test_without_a_model_apply_says_where_models_belong(panel, qtSlicer, monkeypatch):
    scan(qtSlicer)
    monkeypatch.setattr(sys.modules["DRMCCoreLib.sections.modelchooser"], "list_models", lambda: [])
    panel.exit()
    panel.enter()
    assert not panel.ui.applyButton.enabled and "No model is installed" in panel.ui.applyButton.toolTip
    assert panel.ui.modelComboBox.currentText == "none is installed"


def test_apply_denoises_and_fills_the_lesion_table(panel, qtSlicer):
    node = scan(qtSlicer)
    hot = phantom() > 5
    panel.ui.lesionsSelector.setCurrentNode(segmentationNode(qtSlicer, node, {"Hot": hot}))
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Tiny"))
    before = nodeIDs(qtSlicer)

    panel.ui.applyButton.click()
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Cancel"
    waitUntil(qtSlicer, lambda: panel.job is None)

    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.statusLabel.text
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"
    output = panel.ui.outputSelector.currentNode()
    assert output.GetName() == "PET denoised (DRMC)"
    assert np.array_equal(matrixOf(qtSlicer, output), matrixOf(qtSlicer, node))
    assert not np.array_equal(qtSlicer.util.arrayFromVolume(output), qtSlicer.util.arrayFromVolume(node))
    table = panel._parameterNode.lesionTable
    assert table.GetName() == "PET lesions (DRMC)" and table.GetTable().GetNumberOfRows() == 3
    once = nodeIDs(qtSlicer)
    assert len(once - before) >= 2

    panel.ui.applyButton.click()  # again, into the same nodes
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("Done in") and nodeIDs(qtSlicer) == once


def test_progress_and_cancel(panel, qtSlicer, puppet):
    scan(qtSlicer)
    before = nodeIDs(qtSlicer)
    panel.ui.applyButton.click()
    assert (
        puppet.started[0][3:5] == ["denoise", puppet.started[0][4]] and "--cancel-on-eof" in puppet.started[0]
    )
    puppet.outputLine.emit(json.dumps({"event": "progress", "done": 3, "total": 8, "seconds_left": 41.2}))
    assert (panel.ui.progressBar.value, panel.ui.progressBar.maximum) == (3, 8)
    assert panel.ui.statusLabel.text == "Tile 3 of 8, 41 s left"
    puppet.outputLine.emit(json.dumps({"event": "notice", "message": "out of GPU memory: on the CPU"}))
    assert "out of GPU memory" in panel.ui.logTextEdit.toPlainText()
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text == "Canceling..." and not puppet.inputIsOpen
    assert not panel.ui.applyButton.enabled  # one request is enough
    puppet.finished.emit(130)
    assert panel.ui.statusLabel.text == "Canceled; the scene is as it was."
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"
    assert panel.ui.progressBar.value == 0
    assert nodeIDs(qtSlicer) == before


@pytest.mark.parametrize(("exitCode", "inLog"), [(2, False), (1, True)])
def test_a_refusal_and_a_failure_are_shown(panel, qtSlicer, puppet, exitCode, inLog):
    scan(qtSlicer)
    panel.ui.applyButton.click()
    puppet.errorLine.emit("Traceback: where it was")
    puppet.outputLine.emit(json.dumps({"event": "error", "message": "what is wrong", "exit_code": exitCode}))
    puppet.finished.emit(exitCode)
    assert panel.ui.statusLabel.text == "what is wrong" and panel.ui.applyButton.enabled
    assert ("Traceback" in panel.ui.logTextEdit.toPlainText()) == inLog


def test_a_node_that_is_refused_before_the_engine_starts(panel, qtSlicer, puppet):
    volumeNode(qtSlicer, phantom(), units="[hnsf'U]", name="CT")
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text.startswith("'CT' is in [hnsf'U]") and panel.ui.applyButton.enabled
    assert puppet.started is None


def test_an_engine_that_cannot_be_started(panel, qtSlicer, monkeypatch):
    import DRMCCoreLib.process.runner

    monkeypatch.setattr(DRMCCoreLib.process.runner, "pythonExecutable", lambda: "/there/is/no/such/python")
    scan(qtSlicer)
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("/there/is/no/such/python") and panel.ui.applyButton.enabled


@pytest.mark.real_engine
def test_closing_the_scene_ends_the_run(panel, qtSlicer):
    scan(qtSlicer, shape=(70, 110, 110))
    panel.ui.applyButton.click()
    scratch = panel.job._scratch
    waitUntil(qtSlicer, lambda: processesOf(str(scratch)) or not sys.platform.startswith("linux"))
    qtSlicer.mrmlScene.Clear(0)
    assert panel.job is None and leftOf(str(scratch)) == [] and not scratch.exists()
    assert qtSlicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert not panel.ui.applyButton.enabled and panel._parameterNode is not None


def test_the_choice_of_model_and_device_is_kept_in_the_scene(panel, qtSlicer, model):
    ui, combo = panel.ui, panel.ui.modelComboBox
    assert combo.itemText(0) == combo.currentText == "default"
    combo.setCurrentIndex(combo.findText("Tiny"))
    assert panel._parameterNode.model == model
    ui.deviceComboBox.setCurrentIndex(1)
    assert panel._parameterNode.device == "cpu"
    panel.exit()
    panel.enter()
    assert combo.currentText == "Tiny" and ui.deviceComboBox.currentText == "cpu"
    panel._parameterNode.model = "elsewhere"
    assert combo.currentText == "elsewhere (not installed)"
    panel._parameterNode.model = ""
    assert combo.currentText == "default"


def test_leaving_and_coming_back_leaves_one_observer(panel, qtSlicer):
    scan(qtSlicer)
    before = [len(section.Observations) for section in panel.sections]
    for _ in range(5):
        panel.exit()
        panel.enter()
    assert [len(section.Observations) for section in panel.sections] == before
    panel.exit()
    assert [len(section.Observations) for section in panel.sections] == [0] * len(panel.sections)


def test_the_report_is_in_the_scene_and_can_be_saved(panel, qtSlicer, model, tmp_path, monkeypatch):
    import DRMCCoreLib.panel.reports

    node = scan(qtSlicer)
    assert not panel.ui.openReportButton.enabled and not panel.ui.saveReportButton.enabled
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Tiny"))
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    report = panel._parameterNode.report
    assert report.GetName() == "PET report (DRMC)" and panel.ui.saveReportButton.enabled
    page = report.GetText()
    assert "Research use only" in page and qtSlicer.app.temporaryPath not in page
    monkeypatch.setattr(DRMCCoreLib.panel.reports, "askWhere", lambda *_: str(tmp_path / "report.html"))
    panel.ui.saveReportButton.click()
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    monkeypatch.setattr(
        DRMCCoreLib.panel.reports, "askWhere", lambda *_: str(tmp_path / "nowhere" / "report.html")
    )
    panel.ui.saveReportButton.click()
    assert panel.ui.statusLabel.text.endswith("the report cannot be written (No such file or directory)")
    assert node.GetName() == "PET"


def test_files_are_kept_where_the_panel_says(panel, qtSlicer, model, tmp_path):
    scan(qtSlicer)
    ui = panel.ui
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findText("Tiny"))
    ui.writeDICOMCheckBox.click()
    assert not ui.applyButton.enabled and "Choose the folder" in ui.applyButton.toolTip
    ui.outputFolderPathLineEdit.setCurrentPath(str(tmp_path / "kept"))
    assert ui.applyButton.enabled
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert "DICOM" in ui.statusLabel.text and not (tmp_path / "kept").exists()  # the input is no series
    ui.writeDICOMCheckBox.click()
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert ui.statusLabel.text.startswith("Done in")
    assert {"denoised.nrrd", "report.html", "summary.json"} <= {
        one.name for one in (tmp_path / "kept").iterdir()
    }


def test_results_go_to_the_parameters_of_the_run_though_the_panel_was_left(
    panel, qtSlicer, puppet, monkeypatch
):
    scan(qtSlicer)
    panel.ui.applyButton.click()
    job, parameters = panel.job, panel._parameterNode
    panel.exit()
    output = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Out")
    monkeypatch.setattr(
        job,
        "_bringIntoScene",
        lambda summary: (setattr(job, "outputVolume", output), job.summary.update(summary)),
    )
    summary = {
        "seconds": {"total": 1.0, "denoise": 0.5},
        "tiles": {"count": 0},
        "device": "cpu",
        "outputs": [],
    }
    puppet.outputLine.emit(json.dumps({"event": "result", "summary": summary}))
    puppet.finished.emit(0)
    assert panel.job is None and parameters.outputVolume is output
    panel.enter()
    assert panel.ui.outputSelector.currentNode() is output


def test_errors_are_the_same_after_a_reload(panel, monkeypatch):
    """DRMC Training catches them by the classes that it has imported."""
    from drmc.errors import InputError

    before = dict(sys.modules)
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget

    monkeypatch.setattr(ScriptedLoadableModuleWidget, "onReload", lambda self: None)
    try:
        panel.onReload()
        assert not {"drmc", "drmc.suv", "DRMCCoreLib", "DRMCDenoiseLib"} & set(sys.modules)
        from drmc.suv.manual import checked

        with pytest.raises(InputError):
            checked({"NoSuchKeyword": "1"})
    finally:
        sys.modules.update(before)
