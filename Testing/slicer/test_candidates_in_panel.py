"""Lesion candidates in the panel: what `drmc candidates` finds is a segmentation; the user's own stays."""

from __future__ import annotations

import numpy as np
import pytest
from support.slicer.processes import waitUntil
from support.slicer.scene import oblique, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")
SUV = "{SUVbw}g/ml"


def array() -> np.ndarray:
    """Two hot boxes in a warm body; voxels of `oblique` are larger than 10 mm3."""
    found = np.full((30, 30, 30), 1.0, np.float32)
    found += np.random.default_rng(5).normal(0, 0.05, found.shape).astype(np.float32)
    found[4:14, 4:14, 4:14] = 9.0
    found[18:28, 18:28, 18:28] = 6.0
    return found


def search(panel, qtSlicer, volume, method: str = "SUV") -> str:
    panel._parameterNode.inputVolume = volume
    panel._parameterNode.candidateMethod = method
    panel.ui.candidatesButton.click()
    waitUntil(qtSlicer, lambda: not panel.ui.lesionMessageLabel.text.startswith("Looking"))
    return panel.ui.lesionMessageLabel.text


def segmentNames(node) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]


def test_the_default_is_that_of_the_command_line(slicer):
    from drmc.measures.candidates import FIXED_SUV
    from DRMCDenoiseLib.logic import DRMCDenoiseLogic

    assert DRMCDenoiseLogic.presetDefaults()["candidateSUV"] == FIXED_SUV


def test_what_is_found_is_that_of_the_command_line(panel, qtSlicer):
    volume = volumeNode(qtSlicer, array(), oblique(), units=SUV)
    text = search(panel, qtSlicer, volume)
    assert text.startswith(f"2 candidates in '{volume.GetName()}' with SUV 4.00 or more.")
    node = panel._parameterNode.lesions
    assert segmentNames(node) == [f"candidate {number} (may be physiological)" for number in (1, 2)]
    for number, segmentID in enumerate(node.GetSegmentation().GetSegmentIDs()):
        mask = qtSlicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume) > 0
        np.testing.assert_array_equal(mask, array() == (9.0, 6.0)[number])


def test_a_second_search_fills_its_own_segmentation_again_and_leaves_others(panel, qtSlicer):
    volume = volumeNode(qtSlicer, array(), oblique(), units=SUV)
    mask = np.zeros(array().shape, bool)
    mask[10:20, 10:20, 10:20] = True
    own = segmentationNode(qtSlicer, volume, {"candidate of mine": mask})
    panel._parameterNode.lesions = own
    search(panel, qtSlicer, volume)
    first = panel._parameterNode.lesions
    assert first is not own and segmentNames(own) == ["candidate of mine"]
    kept = first.GetSegmentation().GetSegmentIDs()[1]
    first.GetSegmentation().GetSegment(kept).SetName("Node, left")
    panel._parameterNode.candidateSUV = 7.0
    assert search(panel, qtSlicer, volume).startswith("1 candidate ")
    assert panel._parameterNode.lesions is first
    assert segmentNames(first) == ["Node, left", "candidate 1 (may be physiological)"]


def test_percist_takes_a_segment_called_liver_or_a_sphere_at_the_crosshair(panel, qtSlicer):
    volume = volumeNode(qtSlicer, array(), np.diag([4.0, 4.0, 4.0, 1.0]), units=SUV)
    panel._parameterNode.inputVolume = volume
    from DRMCCoreLib.nodes.jump import showCrosshair

    showCrosshair((64.0, 64.0, 64.0))
    assert "of liver sphere" in search(panel, qtSlicer, volume, "PERCIST")
    mask = np.zeros(array().shape, bool)
    mask[14:18, 2:28, 2:28] = True
    segmentationNode(qtSlicer, volume, {"Liver": mask}, "Drawn")
    text = search(panel, qtSlicer, volume, "PERCIST")
    assert "2 candidates" in text and "of Liver in 'Drawn')" in text
    panel._parameterNode.lesions = None
    panel._parameterNode.organs = segmentationNode(qtSlicer, volume, {"liver": mask}, "Organs")
    assert "of liver in 'Organs')" in search(panel, qtSlicer, volume, "PERCIST")
    panel._parameterNode.candidateMethod = "SUV"
    assert not panel.ui.candidateSUVSpinBox.isHidden()


def test_nothing_found_leaves_the_scene_as_it_is(panel, qtSlicer):
    volume = volumeNode(qtSlicer, array(), oblique(), units=SUV)
    panel._parameterNode.candidateSUV = 50.0
    assert search(panel, qtSlicer, volume).startswith("0 candidates ")
    assert panel._parameterNode.lesions is None
    assert qtSlicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_noise_is_refused_in_the_words_of_the_panel(panel, qtSlicer):
    noisy = np.random.default_rng(2).random((60, 60, 60)).astype(np.float32)
    volume = volumeNode(qtSlicer, noisy * 9, np.diag([6.0, 6.0, 12.0, 1.0]), units=SUV)
    panel._parameterNode.candidateSUV = 7.5
    text = search(panel, qtSlicer, volume)
    assert text.startswith("No candidates: ") and "--" not in text
