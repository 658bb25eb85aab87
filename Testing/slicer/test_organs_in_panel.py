"""Organs before and after in the panel of DRMC Denoise: numbers, what must be there first, a stale table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from support.engine.labeled_torso import labeled_torso
from support.slicer.modules import sectionOf
from support.slicer.organs import loadTorso, onNode
from support.slicer.processes import drmc, waitUntil
from support.slicer.scene import SUV, nodeIDs, oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")


def denoised(panel, slicer):
    """The panel after a run on a phantom with a segmentation of organs; masks by name."""
    array = phantom()
    node = volumeNode(slicer, array, oblique(), units=SUV)
    masks = {"liver": array > 1.0, "spleen": np.indices(array.shape)[0] < 4}
    panel._parameterNode.organs = segmentationNode(slicer, node, masks, "Organs")
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Tiny"))
    assert not panel.ui.measureOrgansButton.enabled
    assert "Denoise first" in panel.ui.measureOrgansButton.toolTip
    applied(panel, slicer)
    return node, masks


def applied(panel, slicer) -> None:
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.statusLabel.text


def byCommandLine(out: Path, paths: dict[str, Path], *options: str) -> Path:
    """The folder with the results of `drmc denoise` with the organs and lesions of the torso."""
    given = ("--organs", paths["organs"], "--lesions", paths["lesions"], "--model", "tiny", "--device", "cpu")
    done = drmc("denoise", paths["scan"], "-o", out, "--format", "nrrd", *given, *options)
    assert done.returncode == 0, done.stderr
    return out


def rowsOf(table) -> list[dict[str, str]]:
    """The rows of a table node, or of a CSV file, without the name of the scan."""
    from DRMCCoreLib.panel.tables import tableText

    text = table.read_text() if isinstance(table, Path) else tableText(table, ",")
    return [{key: row[key] for key in row if key != "scan"} for row in csv.DictReader(text.splitlines())]


def measured(panel, slicer):
    panel.ui.measureOrgansButton.click()
    section = sectionOf(panel, "OrganSection")
    assert panel.ui.organChangeLabel.text == "Measuring..." and not panel.ui.measureOrgansButton.enabled
    waitUntil(slicer, lambda: section._job is None)
    return panel._parameterNode.organTable


def test_the_table_has_the_numbers_of_both_volumes(panel, qtSlicer):
    node, masks = denoised(panel, qtSlicer)
    output = panel._parameterNode.outputVolume
    before = nodeIDs(qtSlicer)
    table = measured(panel, qtSlicer)
    assert len(nodeIDs(qtSlicer) - before) <= 2  # the table and its storage: nothing else changes
    rows = {}
    for row in range(table.GetTable().GetNumberOfRows()):
        organ, stage = (table.GetTable().GetValueByName(row, name).ToString() for name in ("organ", "stage"))
        rows[organ, stage] = table.GetTable().GetValueByName(row, "suv_mean").ToDouble()
    for organ, mask in masks.items():
        means = [
            float(qtSlicer.util.arrayFromVolume(one)[mask].mean(dtype=np.float64)) for one in (node, output)
        ]
        assert [rows[organ, stage] for stage in ("original", "denoised")] == pytest.approx(means, rel=1e-5)
        assert rows[organ, "change_percent"] == pytest.approx(100 * (means[1] / means[0] - 1), abs=1e-3)
    assert panel.ui.organChangeTableWidget.rowCount == 2
    assert "SUVmean of" in panel.ui.organChangeLabel.text  # kept, or by how much it is not


def test_a_table_of_another_strength_says_so(panel, qtSlicer):
    denoised(panel, qtSlicer)
    measured(panel, qtSlicer)
    panel._parameterNode.strength = 0.5
    section = sectionOf(panel, "StrengthSection")
    waitUntil(qtSlicer, lambda: section._isSettled())
    assert "SUVmean of" in panel.ui.organChangeLabel.text  # it came with the other numbers
    panel._parameterNode.organs = None
    panel._parameterNode.strength = 0.75
    waitUntil(qtSlicer, lambda: section._isSettled())
    assert panel.ui.organChangeLabel.text == "The table is of strength 0.5: measure again."


def test_apply_hands_the_organs_to_the_run_as_the_command_line_does(panel, qtSlicer, tmp_path):
    volume, paths, organs = loadTorso(qtSlicer, tmp_path / "in")
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.organs = volume, organs
    parameters.lesions = segmentationNode(qtSlicer, volume, onNode(volume, labeled_torso()[2]))
    parameters.model, parameters.device = "tiny", "cpu"
    parameters.outputFolder = str(tmp_path / "kept")
    applied(panel, qtSlicer)
    expected = byCommandLine(tmp_path / "cli", paths)
    for name in ("organs.csv", "lesions.csv"):
        assert rowsOf(tmp_path / "kept" / name) == rowsOf(expected / name)
    assert rowsOf(parameters.organTable) == rowsOf(expected / "organs.csv")
    assert rowsOf(parameters.lesionTable) == rowsOf(expected / "lesions.csv")
    assert any(row["percist_threshold"] for row in rowsOf(parameters.lesionTable))  # by the organs' liver
    assert "SUVmean of" in panel.ui.organChangeLabel.text and "liver" in panel.ui.organChangeLabel.text
    assert panel.ui.organChangeTableWidget.rowCount == len(labeled_torso()[1])
    own, section = parameters.organTable, sectionOf(panel, "StrengthSection")
    parameters.strength = 0.5
    waitUntil(qtSlicer, lambda: section._isSettled())
    half = byCommandLine(tmp_path / "half", paths, "--strength", "0.5")
    assert parameters.organTable is own and rowsOf(own) == rowsOf(half / "organs.csv")
    assert rowsOf(parameters.lesionTable) == rowsOf(half / "lesions.csv")
    assert rowsOf(measured(panel, qtSlicer)) == rowsOf(half / "organs.csv")
    parameters.organs = None
    applied(panel, qtSlicer)  # numbers of an earlier run do not stand beside this one's images
    assert parameters.organTable is None and panel.ui.organChangeTableWidget.rowCount == 0


def test_an_empty_segmentation_of_organs_is_refused_before_the_run(panel, qtSlicer):
    node = volumeNode(qtSlicer, phantom(), oblique(), units=SUV)
    panel._parameterNode.organs = segmentationNode(qtSlicer, node, {}, "Organs")
    panel.ui.applyButton.click()
    assert panel.job is None and panel.ui.statusLabel.text.startswith("'Organs' has no segment")


def test_without_organs_the_button_says_what_is_missing(panel, qtSlicer):
    volumeNode(qtSlicer, phantom(), oblique(), units=SUV)
    qtSlicer.app.processEvents()
    assert not panel.ui.measureOrgansButton.enabled
    assert "Choose a segmentation of organs" in panel.ui.measureOrgansButton.toolTip
