"""A sequence is denoised frame by frame, into a sequence of its own in the same browser."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import host
import numpy as np
import pytest
from support.slicer.modules import engineErrors, logicOf, sectionOf
from support.slicer.processes import Puppet, leftOf, waitUntil
from support.slicer.scene import nodeIDs, oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")
TIMES = ("0", "30.5")


@pytest.fixture
def proxy(slicer):
    """The proxy of a dynamic PET of two frames, in SUV."""
    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Dynamic")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for index, value in enumerate(TIMES):
        frame = slicer.vtkMRMLScalarVolumeNode()
        template = volumeNode(slicer, phantom(seed=index), oblique())
        frame.CopyContent(template)
        frame.SetName("Dynamic frame")
        sequence.SetDataNodeAtValue(frame, value)
        scene.RemoveNode(template)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    node = browser.GetProxyNode(sequence)
    node.SetName("PET")
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning("{SUVbw}g/ml", "UCUM", "SUVbw")
    node.SetVoxelValueUnits(entry)
    scene.GetSubjectHierarchyNode()  # made when first asked for
    return node


def browserOf(slicer):
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")


def test_every_frame_is_denoised_as_it_would_be_alone(slicer, proxy, tmp_path):
    browser = browserOf(slicer)
    grid = np.indices(phantom().shape) - (np.array(phantom().shape)[:, None, None, None] - 1) / 2
    lesions = segmentationNode(slicer, proxy, {"Hot": np.linalg.norm(grid, axis=0) < 3.5})
    progress = []
    output = logicOf(slicer).process(
        proxy,
        model="tiny",
        allFrames=True,
        lesions=lesions,
        organs=lesions,
        outputFolder=tmp_path / "out",
        progressCallback=lambda *values: progress.append(values),
    )
    sequence = browser.GetSequenceNode(output)
    assert sequence.GetName() == "Dynamic denoised (DRMC)" and output.GetName() == "PET denoised (DRMC)"
    assert [sequence.GetNthIndexValue(i) for i in range(2)] == list(TIMES)
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "s")
    for index in range(2):
        alone = logicOf(slicer).process(
            volumeNode(slicer, phantom(seed=index), oblique(), units="{SUVbw}g/ml"), model="tiny"
        )
        expected = slicer.util.arrayFromVolume(alone)
        frame = sequence.GetNthDataNode(index)
        assert np.array_equal(slicer.util.arrayFromVolume(frame), expected)
        assert frame.GetVoxelValueUnits().GetCodeValue() == "{SUVbw}g/ml"
        for name in ("report.html", "organs.csv"):
            assert (tmp_path / "out" / f"frame{index + 1:04d}" / name).is_file()
        browser.SetSelectedItemNumber(index)  # the one slider moves both
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        assert np.array_equal(slicer.util.arrayFromVolume(output), expected)
        assert np.array_equal(slicer.util.arrayFromVolume(proxy), phantom(seed=index))
    assert [done for done, _, _ in progress] == sorted(done for done, _, _ in progress)
    assert {total for _, total, _ in progress} == {2}
    table = slicer.util.getNode("PET lesions (DRMC)").GetTable()
    assert table.GetNumberOfRows() == 6
    assert [table.GetValueByName(row, "scan").ToString() for row in (0, 3)] == list(TIMES)


def test_a_second_run_goes_into_the_same_sequence(slicer, proxy):
    output = logicOf(slicer).process(proxy, model="tiny", allFrames=True)
    before = nodeIDs(slicer)
    assert logicOf(slicer).process(proxy, output, model="tiny", allFrames=True) is output
    assert nodeIDs(slicer) == before
    assert browserOf(slicer).GetSequenceNode(output).GetNumberOfDataNodes() == 2


def test_a_frame_that_is_refused_ends_the_run_and_the_scene_is_as_it_was(slicer, proxy):
    sequence = browserOf(slicer).GetSequenceNode(proxy)
    slicer.util.arrayFromVolume(sequence.GetNthDataNode(1))[2, 3, 4] = np.nan
    before = nodeIDs(slicer)
    with pytest.raises(engineErrors().InputError, match=r"^'PET, frame 2 of 2' has 1 voxels that are NaN"):
        logicOf(slicer).process(proxy, model="tiny", allFrames=True)
    assert nodeIDs(slicer) == before and list(Path(slicer.app.temporaryPath).iterdir()) == []


def test_what_is_no_sequence_is_refused(slicer, proxy):
    InputError = engineErrors().InputError
    with pytest.raises(InputError, match="is no frame of a sequence"):
        logicOf(slicer).process(volumeNode(slicer, phantom(), name="Static"), allFrames=True)
    with pytest.raises(InputError, match="leave out the reference"):
        logicOf(slicer).process(proxy, reference=proxy, allFrames=True)


def test_the_panel_offers_all_frames_and_cancel_leaves_the_scene_as_it_was(qtSlicer, proxy):
    panel = host.openWidget(sys.modules["DRMCDenoise"], "DRMCDenoise")
    try:
        box = panel.ui.allFramesCheckBox
        panel.ui.inputSelector.setCurrentNode(proxy)
        assert box.isVisibleTo(panel.ui.inputCollapsibleButton) and box.checked
        assert box.text == "all 2 frames of the sequence"
        assert sectionOf(panel, "InputSection").runArguments()["allFrames"] is True
        static = volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml", name="Static")
        panel.ui.inputSelector.setCurrentNode(static)
        assert not box.isVisibleTo(panel.ui.inputCollapsibleButton)
        assert "allFrames" not in sectionOf(panel, "InputSection").runArguments()
        panel.ui.inputSelector.setCurrentNode(proxy)
        box.click()
        assert panel._parameterNode.allFrames is False
        assert "allFrames" not in sectionOf(panel, "InputSection").runArguments()
        box.click()

        panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Tiny"))
        before = nodeIDs(qtSlicer)
        panel.ui.applyButton.click()
        job, shown = panel.job, []
        job.progress.connect(lambda *_: shown.append(panel.ui.statusLabel.text))
        waitUntil(qtSlicer, lambda: len(job._done) == 1)
        assert any(text.startswith("0 of 2 frames done") for text in shown), shown
        panel.ui.applyButton.click()
        waitUntil(qtSlicer, lambda: panel.job is None)
        assert panel.ui.statusLabel.text == "Canceled; the scene is as it was."
        assert nodeIDs(qtSlicer) == before and leftOf(qtSlicer.app.temporaryPath) == []
    finally:
        host.closeWidget(panel)
    assert list(Path(qtSlicer.app.temporaryPath).iterdir()) == []


@pytest.fixture
def puppets(monkeypatch):
    """The processes of all jobs, one after the other; they do what the test says."""
    import DRMCCoreLib.process.runner

    made = []
    monkeypatch.setattr(
        DRMCCoreLib.process.runner, "createProcess", lambda: made.append(Puppet()) or made[-1]
    )
    return made


def say(puppet, exitCode: int, **event) -> None:
    puppet.outputLine.emit(json.dumps(event))
    puppet.finished.emit(exitCode)


def test_a_frame_that_fails_is_the_last(slicer, proxy, puppets):
    from DRMCDenoiseLib.sequencejob import SequenceJob

    job = SequenceJob(proxy)
    job.start()
    say(puppets[0], 1, event="error", message="what is wrong", exit_code=1)
    assert str(job.error) == "what is wrong" and not job.isRunning() and len(puppets) == 1


def test_a_sequence_that_is_removed_meanwhile(slicer, proxy, puppets, monkeypatch):
    from DRMCDenoiseLib import results
    from DRMCDenoiseLib.sequencejob import SequenceJob

    monkeypatch.setattr(results, "readDenoised", lambda path, node: slicer.util.arrayFromVolume(node))
    job = SequenceJob(proxy)
    job.start()
    say(puppets[0], 0, event="result", summary={"outputs": []})
    slicer.mrmlScene.RemoveNode(proxy)
    before = nodeIDs(slicer)
    say(puppets[1], 0, event="result", summary={"outputs": []})
    assert isinstance(job.error, engineErrors().CanceledError) and "removed" in str(job.error)
    assert nodeIDs(slicer) == before and list(Path(slicer.app.temporaryPath).iterdir()) == []
