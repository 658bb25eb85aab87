"""The panel's input: the SUV, found by the engine in a child process and corrected by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import host
import numpy as np
import pytest
from support.slicer.modules import sectionOf
from support.slicer.processes import denoisedOf, drmc, leftOf, waitUntil
from support.slicer.scene import Database, oblique, phantom, volumeNode

pytestmark = pytest.mark.usefixtures("model")


def inspection(panel):
    return sectionOf(panel, "InputSection")._inspection


def settle(slicer, panel) -> str:
    """Waits until the engine has answered; gives the line on the SUV."""
    section = sectionOf(panel, "InputSection")
    waitUntil(
        slicer, lambda: not section._timer.isActive() and section._inspection.state.value != "asking", 60
    )
    return panel.ui.suvLabel.text


def type_(edit, text: str) -> None:
    """Types into a line edit and leaves it."""
    from host.pythonqt import raw

    edit.setText(text)
    raw(edit).editingFinished.emit()


def choose(combo, data: str) -> None:
    combo.setCurrentIndex(combo.findData(data))


def series(slicer, monkeypatch, folder: Path, name="PET", shape=(6, 20, 22), **header):
    """A node loaded from a DICOM series that Slicer's database knows."""
    import vtk
    from support.engine.synthetic_dicom import write_series

    files = write_series(folder, phantom(shape=shape) * 5000.0, **header)
    names = vtk.vtkStringArray()
    for path in files:
        names.InsertNextValue(str(path))
    node = slicer.modules.volumes.logic().AddArchetypeScalarVolume(str(files[0]), name, 0, names)
    database = Database(files)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(database.files))
    return node


def test_without_a_volume_nothing_is_said(panel, qtSlicer):
    assert panel.ui.suvLabel.text == "" and panel.ui.suvCollapsibleButton.collapsed
    assert inspection(panel).state.value == "nothing was asked"


def test_a_volume_in_suv_stays_as_it_is(panel, qtSlicer):
    volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml")
    qtSlicer.app.processEvents()
    assert panel.ui.suvLabel.text == "Looking at the volume..."
    assert settle(qtSlicer, panel) == "SUVbw g/ml, as it is"
    assert panel.ui.applyButton.enabled
    assert not panel.ui.headerGroupBox.visible and not panel.ui.ruleComboBox.visible


def test_a_dicom_series_is_told_as_the_command_line_tells_it(panel, qtSlicer, monkeypatch, tmp_path):
    series(qtSlicer, monkeypatch, tmp_path / "series", AcquisitionTime="110020", FrameReferenceTime=169605.0)
    line = settle(qtSlicer, panel)
    decision = json.loads(drmc("suv", tmp_path / "series", "--json").stdout)
    assert line == f"SUVbw = Bq/ml × {decision['factor']:.5g} (reference time: series time)" != ""
    details = panel.ui.suvDetailsLabel.text
    for said in ("70 kg", "370 MBq", "6586.2 s", "60 min", "ST (series time)", "AT_MIN", "SUV +0.21 %"):
        assert said in details, said
    weight = sectionOf(panel, "InputSection")._fields.edits["PatientWeight"]
    dose = sectionOf(panel, "InputSection")._fields.edits["RadionuclideTotalDose"]
    assert panel.ui.headerGroupBox.isVisibleTo(panel.ui.suvCollapsibleButton)
    assert (weight.text, weight.placeholderText, dose.placeholderText) == ("", "70", "370")


def test_a_missing_weight_is_given_by_hand(panel, qtSlicer, monkeypatch, tmp_path):
    node = series(qtSlicer, monkeypatch, tmp_path / "series", PatientWeight=None)
    said = drmc("suv", tmp_path / "series").stderr.strip().removeprefix("drmc: ")
    assert settle(qtSlicer, panel) == said and said.startswith("PatientWeight")
    assert not panel.ui.applyButton.enabled and panel.ui.applyButton.toolTip == said
    assert not panel.ui.suvCollapsibleButton.collapsed  # it opens where this can be mended
    fields = sectionOf(panel, "InputSection")._fields.edits
    assert fields["PatientWeight"].placeholderText == "not in the header"

    type_(fields["PatientWeight"], "heavy")
    assert "write a positive number" in panel.ui.suvLabel.text and not panel.ui.applyButton.enabled
    type_(fields["PatientWeight"], "70,5")
    type_(fields["RadionuclideTotalDose"], "350")
    line = settle(qtSlicer, panel)
    assert line.startswith("SUVbw = Bq/ml ×") and line.endswith("2 warnings, see the details")
    assert "PatientWeight given by hand: 70.5 kg (the header says nothing)" in panel.ui.suvDetailsLabel.text
    assert panel._parameterNode.headerValues == "PatientWeight=70.5\nRadionuclideTotalDose=350000000"
    assert panel.ui.applyButton.enabled

    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Tiny"))
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    output = panel.ui.outputSelector.currentNode()
    done = drmc(
        *("denoise", tmp_path / "series", "-o", tmp_path / "out", "--format", "nrrd", "--model", "tiny"),
        *("--header", "PatientWeight=70.5", "--header", "RadionuclideTotalDose=350000000"),
    )
    assert done.returncode == 0, done.stderr
    expected = denoisedOf(tmp_path / "out")
    found = qtSlicer.util.arrayFromVolume(output)
    assert np.array_equal(found, expected) or np.array_equal(found, expected[::-1])
    assert node.GetAttribute("DRMC.SUVFactor") is None

    type_(fields["PatientWeight"], "")
    type_(fields["RadionuclideTotalDose"], "")
    assert panel._parameterNode.headerValues == "" and settle(qtSlicer, panel) == said


def test_a_header_value_is_left_out_with_a_dash(panel, qtSlicer, monkeypatch, tmp_path):
    series(qtSlicer, monkeypatch, tmp_path / "series", RadiopharmaceuticalStartDateTime="20240229113000")
    assert "differ" in settle(qtSlicer, panel)
    edit = sectionOf(panel, "InputSection")._fields.edits["RadiopharmaceuticalStartDateTime"]
    type_(edit, "-")
    assert settle(qtSlicer, panel).startswith("SUVbw = Bq/ml ×")
    assert panel._parameterNode.headerValues == "RadiopharmaceuticalStartDateTime=" and edit.text == "-"


def test_where_rules_disagree_one_is_chosen(panel, qtSlicer, monkeypatch, tmp_path):
    series(qtSlicer, monkeypatch, tmp_path / "series", AcquisitionTime="112000")
    assert "contradict each other" in settle(qtSlicer, panel)
    combo = panel.ui.ruleComboBox
    assert combo.isVisibleTo(panel.ui.suvCollapsibleButton) and combo.currentText == "automatic"
    choose(combo, "AT_MIN")
    assert panel._parameterNode.acceptRule == "AT_MIN"
    line = settle(qtSlicer, panel)
    assert "(reference time: earliest acquisition time)" in line
    factor = json.loads(drmc("suv", tmp_path / "series", "--accept-suv", "AT_MIN", "--json").stdout)["factor"]
    assert f"× {factor:.5g} " in line and combo.currentText.startswith("AT_MIN (earliest")
    choose(combo, "")
    assert "contradict each other" in settle(qtSlicer, panel)


def test_unknown_units_are_said_by_the_user(panel, qtSlicer):
    volumeNode(qtSlicer, phantom() * np.float32(4000), oblique(), name="Un/known")
    assert settle(qtSlicer, panel) == "Unknown units: say under SUV details what the voxels are"
    assert "&#x27;Un/known&#x27; does not say its units" in panel.ui.suvDetailsLabel.text
    assert not panel.ui.applyButton.enabled and "does not say its units" in panel.ui.applyButton.toolTip
    choose(panel.ui.voxelsComboBox, "factor")
    assert "a positive number" in panel.ui.suvLabel.text
    assert panel.ui.factorLineEdit.isVisibleTo(panel.ui.suvCollapsibleButton)
    type_(panel.ui.factorLineEdit, "0.00025")
    assert settle(qtSlicer, panel).startswith("SUVbw = voxel value × 0.00025 (as you say under SUV details)")
    assert sectionOf(panel, "InputSection").runArguments()["suv"] == 0.00025 and panel.ui.applyButton.enabled
    choose(panel.ui.voxelsComboBox, "SUV")
    assert settle(qtSlicer, panel).startswith("SUVbw g/ml, as it is")
    assert sectionOf(panel, "InputSection").runArguments()["suv"] == "SUV"
    choose(panel.ui.voxelsComboBox, "")
    assert settle(qtSlicer, panel).startswith("Unknown units")


def test_values_that_can_be_suv_are_not_taken_so(panel, qtSlicer):
    """An activity in kBq/ml has the range of an SUV: the user says what the voxels are."""
    volumeNode(qtSlicer, phantom())
    assert settle(qtSlicer, panel) == "Unknown units: say under SUV details what the voxels are"
    assert "99.9th percentile" in panel.ui.suvDetailsLabel.text and not panel.ui.applyButton.enabled
    choose(panel.ui.voxelsComboBox, "SUV")
    assert settle(qtSlicer, panel) == "SUVbw g/ml, as it is" and panel.ui.applyButton.enabled


def test_units_that_are_none_of_pet_are_refused_at_once(panel, qtSlicer):
    volumeNode(qtSlicer, phantom(), units="[hnsf'U]", name="CT")
    assert settle(qtSlicer, panel).startswith("'CT' is in [hnsf'U]") and not panel.ui.applyButton.enabled


def test_another_volume_is_another_question_and_the_old_answer_is_not_shown(panel, qtSlicer):
    first = volumeNode(qtSlicer, phantom() * np.float32(4000), name="First")
    second = volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml", name="Second")
    panel.ui.inputSelector.setCurrentNode(first)
    waitUntil(qtSlicer, lambda: inspection(panel).state.value == "asking", 60)
    earlier = inspection(panel)._job
    panel.ui.inputSelector.setCurrentNode(second)
    assert earlier.cancelRequested and panel.ui.suvLabel.text == "Looking at the volume..."
    assert settle(qtSlicer, panel) == "SUVbw g/ml, as it is"
    waitUntil(qtSlicer, lambda: not earlier.isRunning(), 60)
    assert panel.ui.suvLabel.text == "SUVbw g/ml, as it is"
    panel.ui.inputSelector.setCurrentNode(first)
    assert settle(qtSlicer, panel).startswith("Unknown units")


def test_a_changed_volume_is_asked_about_again(panel, qtSlicer):
    node = volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml")
    assert settle(qtSlicer, panel) == "SUVbw g/ml, as it is"
    qtSlicer.util.arrayFromVolume(node)[:] *= 4000
    qtSlicer.util.arrayFromVolumeModified(node)
    line = settle(qtSlicer, panel)
    assert "the SUVbw in the body is implausible" in line and not panel.ui.applyButton.enabled
    choose(panel.ui.voxelsComboBox, "SUV")  # the user vouches for it
    assert settle(qtSlicer, panel) == "SUVbw g/ml, as it is; 1 warning, see the details"
    assert "the SUVbw in the body is implausible" in panel.ui.suvDetailsLabel.text


def test_the_question_writes_nothing_larger_than_a_header(panel, qtSlicer, monkeypatch, tmp_path):
    nodes = [
        volumeNode(qtSlicer, phantom((30, 40, 50)), units="{SUVbw}g/ml", name="Of no file"),
        series(qtSlicer, monkeypatch, tmp_path / "series"),
    ]
    for node in nodes:
        panel.ui.inputSelector.setCurrentNode(node)
        waitUntil(qtSlicer, lambda: inspection(panel).state.value == "asking", 60)
        (scratch,) = Path(qtSlicer.app.temporaryPath).iterdir()
        assert sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file()) < 1000
        assert settle(qtSlicer, panel).startswith("SUVbw")


def test_an_edited_series_is_refused_when_the_run_starts(panel, qtSlicer, monkeypatch, tmp_path):
    node = series(qtSlicer, monkeypatch, tmp_path / "series")
    array = qtSlicer.util.arrayFromVolume(node)
    array[2, 3, 4] += 0.1 * array.max()
    qtSlicer.util.arrayFromVolumeModified(node)
    assert settle(qtSlicer, panel).startswith("SUVbw = Bq/ml ×") and panel.ui.applyButton.enabled
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Tiny"))
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("'PET' no longer holds what its DICOM files hold")
    assert panel._parameterNode.outputVolume is None


def test_what_is_implausible_is_taken_by_the_word_of_the_user(panel, qtSlicer, monkeypatch, tmp_path):
    """A dose in mCi is refused with a remedy; the user can accept it, and the warning stays."""
    series(qtSlicer, monkeypatch, tmp_path / "series", RadionuclideTotalDose=10.0)
    line = settle(qtSlicer, panel)
    assert "looks like mCi" in line and "choose to take it so under SUV details" in line and "--" not in line
    combo = panel.ui.ruleComboBox
    assert combo.isVisibleTo(panel.ui.suvCollapsibleButton) and not panel.ui.applyButton.enabled
    combo.setCurrentIndex(next(n for n in range(combo.count) if "DOSE" in str(combo.itemData(n))))
    assert "see the details" in settle(qtSlicer, panel) and panel.ui.applyButton.enabled
    assert "looks like mCi" in panel.ui.suvDetailsLabel.text


def test_an_engine_that_fails_does_not_keep_from_applying(panel, qtSlicer, monkeypatch):
    import DRMCCoreLib.sections.inspection

    monkeypatch.setattr(
        DRMCCoreLib.sections.inspection,
        "engineCommand",
        lambda *_: [sys.executable, "-c", "raise SystemExit('broken')"],
    )
    volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml")
    assert settle(qtSlicer, panel) == "broken" and panel.ui.applyButton.enabled


def test_leaving_the_module_ends_the_question(panel, qtSlicer):
    volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml")
    waitUntil(qtSlicer, lambda: inspection(panel).state.value == "asking", 60)
    job = inspection(panel)._job
    panel.exit()
    assert job.cancelRequested
    waitUntil(qtSlicer, lambda: not job.isRunning(), 60)
    assert leftOf(qtSlicer.app.temporaryPath) == []
    panel.enter()
    assert settle(qtSlicer, panel) == "SUVbw g/ml, as it is"
    answered = inspection(panel).decision
    panel.exit()
    panel.enter()
    qtSlicer.app.processEvents()
    assert inspection(panel).decision is answered  # nothing has changed: nothing is asked


def test_closing_the_panel_leaves_no_process(qtSlicer, model):
    panel = host.openWidget(sys.modules["DRMCDenoise"], "DRMCDenoise")
    volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml")
    waitUntil(qtSlicer, lambda: inspection(panel).state.value == "asking", 60)
    job = inspection(panel)._job
    host.closeWidget(panel)
    assert not job.isRunning() and leftOf(qtSlicer.app.temporaryPath) == []
    assert list(Path(qtSlicer.app.temporaryPath).iterdir()) == []


def test_what_was_said_is_in_the_scene_and_comes_back(panel, qtSlicer, monkeypatch, tmp_path):
    series(qtSlicer, monkeypatch, tmp_path / "series", PatientWeight=None)
    settle(qtSlicer, panel)
    type_(sectionOf(panel, "InputSection")._fields.edits["PatientWeight"], "70")
    panel.exit()
    sectionOf(panel, "InputSection")._fields.setValues("")
    panel.enter()
    assert sectionOf(panel, "InputSection")._fields.edits["PatientWeight"].text == "70"
    assert settle(qtSlicer, panel).startswith("SUVbw = Bq/ml ×")


@pytest.mark.parametrize(
    ("declared", "suv", "units"),
    [(None, "SUV", "SUV"), ("g/ml", None, "SUV"), ("Bq/ml", "SUV", "SUV"), ("Bq/ml", 2.5e-4, "Bq/ml")],
)
def test_what_is_in_suv_says_so_to_the_data_probe_and_segment_statistics(qtSlicer, declared, suv, units):
    from DRMCDenoiseLib import results

    node = volumeNode(qtSlicer, phantom(), units=declared)
    stored = "SUV" if units == "SUV" else "BQML"
    summary = {
        "input": {"units": stored},
        "suv": {"factor": 1.0 if stored == "SUV" else suv, "type": "SUVbw", "rule": "sidecar", "facts": {}},
        "model": {"name": "m", "sha256": "0"},
        "strength": 1.0,
        "versions": {"drmc": "0"},
    }
    output = results.showDenoised(phantom(), node, None, summary)
    code = output.GetVoxelValueUnits()
    if units == "SUV":
        assert (code.GetCodeValue(), code.GetCodingSchemeDesignator()) == ("{SUVbw}g/ml", "UCUM")
        quantity = output.GetVoxelValueQuantity()
        assert (quantity.GetCodeValue(), quantity.GetCodeMeaning()) == (
            "126400",
            "Standardized Uptake Value",
        )
    else:
        assert code.GetCodeValue() == units


def test_stored_lean_body_suv_is_not_called_suvbw(slicer):
    from DRMCDenoiseLib.results import _isInSUV

    suv = {"factor": 1.1, "type": "SUVbw", "facts": {"stored_suv_type": "SUVlbm"}}
    assert not _isInSUV({"input": {"units": "GML"}, "suv": suv})
    assert not _isInSUV({"input": {"units": "GML"}, "suv": {**suv, "factor": 1}})
    assert _isInSUV(
        {"input": {"units": "GML"}, "suv": {**suv, "factor": 1, "facts": {"stored_suv_type": "SUVbw"}}}
    )
