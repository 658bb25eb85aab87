"""DRMC Segment in the stand-in: refusals, the numbers of the command line, cancel, saved scenes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import host
import numpy as np
import pytest
from support.engine.labeled_torso import labeled_torso, write_torso
from support.slicer.modules import sectionOf
from support.slicer.organs import loadTorso, onNode
from support.slicer.processes import Puppet, drmc, waitUntil
from support.slicer.scene import loadVolume, nodeIDs, segmentationNode

NODES = ("inputVolume", "outputSegmentation", "organTable", "uptake", "uptakeTable", "report")


@pytest.fixture
def panel(qtSlicer):
    """The open panel over an empty scene; closed, it leaves no temporary file."""
    widget = host.openWidget(sys.modules["DRMCSegment"], "DRMCSegment")
    yield widget
    host.closeWidget(widget)
    assert list(Path(qtSlicer.app.temporaryPath).glob("DRMC-*")) == []


@pytest.fixture
def torso(qtSlicer, tmp_path):
    """The torso as a volume of a file, the paths of its files, and its organs as a segmentation."""
    return loadTorso(qtSlicer, tmp_path / "in")


@pytest.fixture
def puppet(monkeypatch):
    """The process of every job from now on; it does what the test says."""
    import DRMCCoreLib.process.runner

    one = Puppet()
    monkeypatch.setattr(DRMCCoreLib.process.runner, "createProcess", lambda: one)
    return one


def rowsOf(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "scan"} for row in csv.DictReader(file)]


def rowsOfNode(node) -> list[dict[str, str]]:
    from DRMCCoreLib.panel.tables import tableText

    lines = csv.DictReader(tableText(node, ",").splitlines())
    return [{key: value for key, value in row.items() if key != "scan"} for row in lines]


def namesOf(segmentationNode) -> list[str]:
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]


def measured(panel, slicer, volume, organs, **choices):
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.outputSegmentation = volume, organs
    for name, value in choices.items():
        setattr(parameters, name, value)
    panel.ui.measureButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.statusLabel.text
    return parameters


def test_without_a_model_it_says_so_in_one_sentence_and_still_measures(panel, qtSlicer, torso, monkeypatch):
    volume, _paths, organs = torso
    monkeypatch.setattr(sys.modules["DRMCCoreLib.sections.modelchooser"], "list_models", lambda: [])
    panel.exit()
    panel.enter()
    tip = panel.ui.applyButton.toolTip
    assert not panel.ui.applyButton.enabled and tip.startswith("No model of organs is installed: put a ")
    parameters = measured(panel, qtSlicer, volume, organs)
    assert len(rowsOfNode(parameters.organTable)) == 6


def test_a_script_without_a_model_is_refused_and_the_scene_stays(slicer, tmp_path, monkeypatch):
    from drmc.errors import InputError

    monkeypatch.setenv("DRMC_MODELS", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    volume = loadVolume(slicer, write_torso(tmp_path / "in")["scan"])
    before = nodeIDs(slicer)
    logic = sys.modules["DRMCSegment"].DRMCSegmentLogic()
    with pytest.raises(InputError, match=r"no model of organs is installed"):
        logic.process(volume)
    with pytest.raises(InputError, match="no input volume"):
        logic.process(None)
    assert nodeIDs(slicer) == before


def test_apply_has_the_bits_of_command_line_and_batch(panel, qtSlicer, torso, organModel, tmp_path):
    volume, paths, _organs = torso
    panel.exit()
    panel.enter()
    ui, parameters = panel.ui, panel._parameterNode
    parameters.inputVolume, parameters.outputSegmentation = volume, None
    parameters.model, parameters.device = organModel, "cpu"
    parameters.thresholdMethod, parameters.outputFolder = "SUV", str(tmp_path / "kept")
    qtSlicer.app.processEvents()
    assert ui.applyButton.enabled, ui.applyButton.toolTip
    assert ui.applyButton.toolTip == "Label the organs of the input volume and measure them"
    ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    assert ui.statusLabel.text.startswith("Done in"), ui.statusLabel.text

    options = ("--model", organModel, "--device", "cpu", "--threshold", "4.0")
    done = drmc("segment", paths["scan"], "-o", tmp_path / "cli", *options)
    assert done.returncode == 0, done.stderr
    script = Path(sys.modules["DRMCSegment"].__file__).parent / "Scripts" / "DRMCSegmentBatch.py"
    for folder in ("cohort/a", "cohort/b"):
        write_torso(tmp_path / folder)
    command = [sys.executable, script, tmp_path / "cohort", "-o", tmp_path / "batch", *options]
    command += ["--match", "*/pet.nii.gz"]
    batch = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert batch.returncode == 0, batch.stderr

    names = [path.name for path in (tmp_path / "batch").iterdir() if path.is_dir()]
    assert len(names) == 2
    for table in ("organs.csv", "uptake.csv"):
        expected = rowsOf(tmp_path / "cli" / table)
        assert expected and rowsOf(tmp_path / "kept" / table) == expected
        assert all(rowsOf(tmp_path / "batch" / name / table) == expected for name in names)
    rows = rowsOfNode(parameters.organTable)
    assert rows == rowsOf(tmp_path / "cli" / "organs.csv")
    assert any("the model is unsure in" in row["flags"] for row in rows)
    for index, row in enumerate(rows):
        item = ui.organTableWidget.item(index, 0)
        assert row["flags"] in item.toolTip() and item.text().endswith("\u25b2") == bool(row["flags"])
    import SimpleITK as sitk

    labels = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "organs.seg.nrrd")))
        for folder in (tmp_path / "kept", tmp_path / "cli", tmp_path / "batch" / names[0])
    ]
    assert all(np.array_equal(labels[0], other) for other in labels[1:])


def test_segments_have_names_codes_and_colors_and_lie_where_the_volume_is(panel, qtSlicer, torso, organModel):
    from drmc.organs.table import by_name

    volume, _paths, _organs = torso
    transform = qtSlicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    panel.exit()
    panel.enter()
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.outputSegmentation = volume, None
    parameters.device, parameters.thresholdMethod = "cpu", "none"
    qtSlicer.app.processEvents()
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    node = parameters.outputSegmentation
    assert node.GetName() == "pet organs (DRMC)" and node.GetParentTransformNode() is transform
    assert parameters.uptake is None and parameters.uptakeTable is None
    assert node.GetAttribute("DRMC.Model") == organModel
    assert node.GetAttribute("DRMC.IntendedUse") == "Research use only"
    display = node.GetDisplayNode()
    assert display.GetVisibility2D() and not display.GetVisibility3D()
    segmentation = node.GetSegmentation()
    for segmentID in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentID)
        one = by_name()[segment.GetName()]
        shade = 0.85 if one.side == "right" else 1.0
        assert list(segment.GetColor()) == pytest.approx([shade * part / 255 for part in one.color], abs=1e-3)
        assert segment.GetTerminology() == one.terminology
    panel.ui.showOrgansCheckBox.click()
    assert not display.GetVisibility2D() and not parameters.showOrgans


def test_corrected_organs_have_the_bits_of_the_command_line(panel, qtSlicer, torso, tmp_path):
    volume, paths, organs = torso
    lesions = segmentationNode(qtSlicer, volume, onNode(volume, labeled_torso()[2]))
    parameters = measured(panel, qtSlicer, volume, organs, lesions=lesions, thresholdMethod="PERCIST")
    given = ("--segmentation", paths["organs"], "--lesions", paths["lesions"], "--threshold", "percist")
    done = drmc("segment", paths["scan"], "-o", tmp_path / "cli", *given)
    assert done.returncode == 0, done.stderr
    assert rowsOfNode(parameters.organTable) == rowsOf(tmp_path / "cli" / "organs.csv")
    assert rowsOfNode(parameters.uptakeTable) == rowsOf(tmp_path / "cli" / "uptake.csv")
    summary = json.loads((tmp_path / "cli" / "summary.json").read_text())
    node = parameters.outputSegmentation
    assert node is organs and json.loads(node.GetAttribute("DRMC.References")) == summary["references"]
    assert json.loads(node.GetAttribute("DRMC.Uptake")) == summary["uptake"]
    stages = {(row["organ"], row["stage"]) for row in rowsOfNode(parameters.organTable)}
    assert ("liver", "without_lesions") in stages
    assert panel.ui.organTableWidget.item(2, 1).text().count("\n") == 1  # liver: with and without lesions


def test_what_else_is_in_a_measured_segmentation_stays(panel, qtSlicer, torso):
    volume, _paths, organs = torso
    own = np.zeros(qtSlicer.util.arrayFromVolume(volume).shape, np.uint8)
    own[4:8, 4:8, 4:8] = 1
    segmentID = organs.GetSegmentation().AddEmptySegment("", "my region")
    qtSlicer.util.updateSegmentBinaryLabelmapFromArray(own, organs, segmentID, volume)
    organs.GetSegmentation().GetSegment(segmentID).SetColor(0.1, 0.2, 0.3)
    before = namesOf(organs)
    parameters = measured(panel, qtSlicer, volume, organs)
    assert parameters.outputSegmentation is organs and namesOf(organs) == before
    assert organs.GetSegmentation().GetSegment(segmentID).GetColor() == pytest.approx((0.1, 0.2, 0.3))
    assert "my region" in panel.ui.logTextEdit.toPlainText()  # said to be left out of the table
    assert {row["organ"] for row in rowsOfNode(parameters.organTable)} == set(before) - {"my region"}


def test_physiological_uptake_is_one_click_away_and_never_removed(panel, qtSlicer, torso):
    volume, _paths, organs = torso
    parameters = measured(panel, qtSlicer, volume, organs, thresholdMethod="PERCIST")
    ui, uptake = panel.ui, parameters.uptake
    segmentation, display = uptake.GetSegmentation(), uptake.GetDisplayNode()
    totals = json.loads(organs.GetAttribute("DRMC.Uptake"))["totals"]
    assert totals["all"]["count"] == 5 and totals["without_physiological"]["count"] == 2

    def shown() -> list[str]:
        return [one for one in segmentation.GetSegmentIDs() if display.GetSegmentVisibility(one)]

    assert len(shown()) == 2 and segmentation.GetNumberOfSegments() == 5
    assert "in 2 parts, without" in ui.totalsLabel.text.splitlines()[0]
    assert "in 5 parts, with" in ui.totalsLabel.text.splitlines()[1]
    ui.countPhysiologicalCheckBox.click()
    assert len(shown()) == 5 and "in 5 parts, with" in ui.totalsLabel.text.splitlines()[0]
    ui.countPhysiologicalCheckBox.click()
    assert len(shown()) == 2 and ui.uptakeTableWidget.rowCount == 5
    ui.takeButton.click()
    assert parameters.lesions is not None and len(namesOf(parameters.lesions)) == 2
    assert not any("physiological" in name for name in namesOf(parameters.lesions))


def test_the_threshold_goes_to_the_drawing_of_lesions(panel, qtSlicer, torso):
    volume, _paths, organs = torso
    parameters = measured(panel, qtSlicer, volume, organs, thresholdMethod="blood pool")
    threshold = json.loads(organs.GetAttribute("DRMC.Uptake"))["threshold"]["suv"]
    assert "2 x" in panel.ui.totalsLabel.text and "blood pool" in panel.ui.totalsLabel.text
    panel.ui.drawButton.click()
    editor = qtSlicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editor.GetSourceVolumeIntensityMask()
    assert editor.GetSourceVolumeIntensityMaskRange()[0] == pytest.approx(threshold)  # the voxels are SUV
    assert editor.GetSegmentationNode() is parameters.lesions is not None
    assert editor.GetSourceVolumeNode() is volume


def test_clicks_go_to_organs_parts_and_references(panel, qtSlicer, torso):
    volume, _paths, organs = torso
    measured(panel, qtSlicer, volume, organs, thresholdMethod="PERCIST")
    from DRMCCoreLib.nodes.jump import crosshairPoint

    ui = panel.ui
    organRow, uptakeRow = (sectionOf(panel, f"{one}Section").onRowChosen for one in ("Organ", "Uptake"))
    organRow(5, 0)  # the bladder, the last of the table
    middle = organs.GetSegmentCenterRAS(organs.GetSegmentation().GetSegmentIdBySegmentName("urinary bladder"))
    assert crosshairPoint() == pytest.approx(tuple(middle))
    ui.liverButton.click()
    x, y, z = json.loads(organs.GetAttribute("DRMC.References"))["liver"]["center_lps_mm"]
    assert crosshairPoint() == pytest.approx((-x, -y, z))
    uptakeRow(0, 0)
    row = rowsOfNode(panel._parameterNode.uptakeTable)[0]
    x, y, z = (float(row[f"suv_max_{axis}_mm"]) for axis in "xyz")
    assert crosshairPoint() == pytest.approx((-x, -y, z))


def test_an_uncorrected_scan_is_measured_relative_to_the_body(panel, qtSlicer, torso):
    volume, _paths, organs = torso
    parameters = measured(panel, qtSlicer, volume, organs, uncorrected=True)
    assert all(row["suv_mean"] == "" for row in rowsOfNode(parameters.organTable))
    assert panel.ui.organTableWidget.horizontalHeaderItem(2).text() == "Mean / body’s"
    assert "no uptake above a threshold" in panel.ui.logTextEdit.toPlainText()
    assert not panel.ui.drawButton.enabled and parameters.uptake is None


def test_a_volume_without_units_is_welcome(panel, qtSlicer, torso):
    volume, paths, organs = torso
    paths["scan"].with_name("pet.json").unlink()
    panel._parameterNode.inputVolume = volume
    waitUntil(qtSlicer, lambda: "No SUV" in panel.ui.suvLabel.text)
    parameters = measured(panel, qtSlicer, volume, organs)
    assert all(row["relative_mean"] for row in rowsOfNode(parameters.organTable))


def test_progress_cancel_and_refusal_leave_the_scene_as_it_was(panel, qtSlicer, torso, organModel, puppet):
    volume, _paths, _organs = torso
    panel.exit()
    panel.enter()
    parameters, ui = panel._parameterNode, panel.ui
    parameters.inputVolume, parameters.outputSegmentation = volume, None
    before = nodeIDs(qtSlicer)
    ui.applyButton.click()
    command = puppet.started[0]
    assert command[3] == "segment" and "--cancel-on-eof" in command and "percist" in command
    puppet.outputLine.emit(json.dumps({"event": "progress", "done": 1, "total": 4, "seconds_left": 3.0}))
    assert ui.statusLabel.text == "Slab 1 of 4, 3 s left"
    assert not ui.measureButton.enabled
    ui.applyButton.click()
    assert ui.statusLabel.text == "Canceling..." and not puppet.inputIsOpen
    puppet.finished.emit(130)
    assert ui.statusLabel.text == "Canceled; the scene is as it was." and nodeIDs(qtSlicer) == before


@pytest.mark.real_engine
def test_a_real_run_is_canceled_without_traces(panel, qtSlicer, torso, organModel, tmp_path):
    volume, _paths, _organs = torso
    panel.exit()
    panel.enter()
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.outputSegmentation = volume, None
    parameters.outputFolder = str(tmp_path / "kept")
    before = nodeIDs(qtSlicer)
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: "Slab" in panel.ui.statusLabel.text or panel.job is None)
    panel.ui.applyButton.click()
    waitUntil(qtSlicer, lambda: panel.job is None)
    if panel.ui.statusLabel.text.startswith("Canceled"):  # a fast machine may be done before
        assert nodeIDs(qtSlicer) == before and not (tmp_path / "kept").exists()


def test_a_scene_that_is_saved_and_loaded_brings_all_back(panel, qtSlicer, torso, tmp_path):
    volume, _paths, organs = torso
    parameters = measured(panel, qtSlicer, volume, organs, thresholdMethod="PERCIST")
    before = {name: getattr(parameters, name).GetName() for name in NODES}
    totals, organRows = panel.ui.totalsLabel.text, rowsOfNode(parameters.organTable)
    parts = namesOf(parameters.uptake)
    path = _saved(qtSlicer, tmp_path)
    qtSlicer.mrmlScene.SetURL(path)
    assert qtSlicer.mrmlScene.Connect()
    qtSlicer.app.processEvents()
    parameters = panel._parameterNode
    assert {name: getattr(parameters, name).GetName() for name in NODES} == before
    assert panel.ui.totalsLabel.text == totals and namesOf(parameters.uptake) == parts
    loaded = [
        {key: row[key] for key in ("organ", "stage", "flags")} for row in rowsOfNode(parameters.organTable)
    ]
    assert loaded == [{key: row[key] for key in ("organ", "stage", "flags")} for row in organRows]
    assert panel.ui.organTableWidget.rowCount == 6


def _saved(slicer, folder: Path) -> str:
    """Saves the scene with all its data; the path of the .mrml file."""
    scene, path = slicer.mrmlScene, folder / "scene.mrml"
    scene.SetURL(str(path))
    for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
        if not node.GetSaveWithScene() or node.GetHideFromEditors() or not node.GetModifiedSinceRead():
            continue
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is not None:
            storage.SetFileName(str(folder / f"{node.GetID()}.{storage.GetDefaultWriteFileExtension()}"))
            assert storage.WriteData(node), node.GetName()
    assert scene.Commit(str(path))
    return str(path)


def test_options_of_jobs_are_options_of_the_engine(slicer):
    """`--accept-rule` was passed once, which the command line does not know."""
    import argparse

    from drmc.cli import denoise, segment
    from DRMCCoreLib.process.enginejob import optionList

    options = {"model": "m", "accept_rule": "ST", "device": "cpu", "precision": None, "dicom_seg": True}
    for command in (denoise, segment):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        command.add_arguments(parser)
        found = parser.parse_args(["scan", "-o", "out", *optionList(options, {"PatientWeight": "70"})])
        assert (found.accept_rule, found.dicom_seg, found.precision) == ("ST", True, "auto")
        assert found.header == {"PatientWeight": "70"}
