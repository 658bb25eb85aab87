"""Organs before and after in the panel of DRMC Denoise: numbers, what must be there first, a stale table."""

from __future__ import annotations

import numpy as np
import pytest
from support.slicer.modules import sectionOf
from support.slicer.processes import waitUntil
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
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.statusLabel.text
    return node, masks


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
    assert panel.ui.organChangeLabel.text == "The table is of strength 1: measure again."
    measured(panel, qtSlicer)
    assert "SUVmean of" in panel.ui.organChangeLabel.text


def test_without_organs_the_button_says_what_is_missing(panel, qtSlicer):
    volumeNode(qtSlicer, phantom(), oblique(), units=SUV)
    qtSlicer.app.processEvents()
    assert not panel.ui.measureOrgansButton.enabled
    assert "Choose a segmentation of organs" in panel.ui.measureOrgansButton.toolTip
