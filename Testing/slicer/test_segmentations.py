"""What is added to a segmentation of the scene: in which frame, beside what, and with which mask."""

from __future__ import annotations

import host
import numpy as np
import pytest
from support.slicer.scene import oblique, segmentationNode, volumeNode

SHAPE = (14, 16, 18)
SUV = "{SUVbw}g/ml"


def hotScan(slicer, name: str = "PET"):
    """A hot box in a cold scan; where the box is, and a world point inside of it."""
    mask = np.zeros(SHAPE, bool)
    mask[5:9, 6:10, 7:11] = True
    node = volumeNode(slicer, np.where(mask, np.float32(8), np.float32(1)), oblique(), name, SUV)
    return node, mask, (oblique() @ [9, 8, 7, 1])[:3]


def movedBy(slicer, node, matrix) -> None:
    """Puts a node under a transform of its own."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def shift(millimeters: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = millimeters, -millimeters, 2 * millimeters
    return matrix


def inScan(slicer, segmentation, segmentID: str, volume) -> np.ndarray:
    """A segment on the voxels of a volume, each under its own transform."""
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentID, volume) > 0


@pytest.mark.parametrize("isVolumeMoved", [True, False])
def test_a_lesion_by_threshold_lies_on_the_scan_in_whatever_frame_the_segmentation_is(slicer, isVolumeMoved):
    """A segmentation from a file is under no transform, a registered scan is; or the other way round."""
    from DRMCDenoiseLib.hotspot import addHotSpot

    volume, mask, point = hotScan(slicer)
    lesions = segmentationNode(slicer, volume, {"Mine": np.roll(mask, 3, axis=2)})
    movedBy(slicer, volume if isVolumeMoved else lesions, shift(31.0))
    world = [0.0, 0.0, 0.0]
    volume.TransformPointToWorld(point, world)
    found = addHotSpot(volume, lesions, world)
    assert found.voxels == mask.sum()
    np.testing.assert_array_equal(inScan(slicer, lesions, found.segmentID, volume), mask)


def test_no_lesion_by_threshold_joins_surfaces_or_contours(slicer):
    """A segmentation of surfaces, such as a structure set, would take it as a surface that is another."""
    from drmc.errors import InputError
    from DRMCDenoiseLib.hotspot import addHotSpot

    volume, mask, point = hotScan(slicer)
    lesions = segmentationNode(slicer, volume, {"GTV": mask}, "RTSTRUCT")
    lesions.CreateClosedSurfaceRepresentation()
    lesions.SetSourceRepresentationToClosedSurface()
    with pytest.raises(InputError, match="'RTSTRUCT' holds surfaces or contours"):
        addHotSpot(volume, lesions, point)
    assert lesions.GetSegmentation().GetNumberOfSegments() == 1


def searchIn(slicer, volume, folder, boxes: dict[str, np.ndarray]):
    """A search that has found these segments in the volume."""
    from DRMCCoreLib.nodes.segmentations import lesionFile
    from DRMCDenoiseLib.candidates import CandidateSearch

    folder.mkdir()
    found = segmentationNode(slicer, volume, boxes, "found")
    written = lesionFile(found, volume, folder).path
    written.rename(folder / "found.seg.nrrd")
    slicer.mrmlScene.RemoveNode(found)
    search = CandidateSearch(lambda *_: None)
    search._folder = folder
    return search


def names(node) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]


def test_candidates_of_another_scan_do_not_take_the_place_of_these(slicer, tmp_path):
    """Nor do they stand under the name of the other patient's scan."""
    first, mask, _point = hotScan(slicer, "First")
    second, _mask, _point = hotScan(slicer, "Second")
    denoised = volumeNode(slicer, np.zeros(SHAPE, np.float32), oblique(), "First denoised", SUV)
    denoised.SetNodeReferenceID("DRMC.Input", first.GetID())
    found = {f"candidate {number} (may be physiological)": np.roll(mask, number, 2) for number in (1, 2)}
    ofFirst = searchIn(slicer, first, tmp_path / "1", found).takeInto(None, first)
    assert len(names(ofFirst)) == 2 and ofFirst.GetName() == "Candidates in First"
    ofSecond = searchIn(slicer, second, tmp_path / "2", dict([*found.items()][:1])).takeInto(ofFirst, second)
    assert ofSecond is not ofFirst and ofSecond.GetName() == "Candidates in Second"
    assert (len(names(ofFirst)), len(names(ofSecond))) == (2, 1)
    again = searchIn(slicer, denoised, tmp_path / "3", dict([*found.items()][1:])).takeInto(ofFirst, denoised)
    assert again is ofFirst and names(ofFirst) == ["candidate 2 (may be physiological)"]


def test_candidates_lie_on_the_scan_that_was_moved_after_an_earlier_search(slicer, tmp_path):
    volume, mask, _point = hotScan(slicer)
    found = {"candidate 1 (may be physiological)": mask}
    first, second = (searchIn(slicer, volume, tmp_path / name, found) for name in ("1", "2"))
    node = first.takeInto(None, volume)
    movedBy(slicer, volume, shift(23.0))
    assert second.takeInto(node, volume) is node
    (segmentID,) = node.GetSegmentation().GetSegmentIDs()
    np.testing.assert_array_equal(inScan(slicer, node, segmentID, volume), mask)


def test_a_threshold_of_an_earlier_drawing_does_not_mask_the_next(slicer):
    """Corrections of organs would paint nothing in cold voxels; a mask of the user's own stays."""
    from DRMCCoreLib.nodes.segmentations import newSegmentation, openSegmentEditor

    volume, _mask, _point = hotScan(slicer)
    lesions, organs = newSegmentation(volume), newSegmentation(volume, "Organs")
    openSegmentEditor(lesions, volume, 4.0)
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editor.GetSourceVolumeIntensityMask()
    openSegmentEditor(organs, volume)
    assert not editor.GetSourceVolumeIntensityMask()
    editor.SetSourceVolumeIntensityMask(True)
    openSegmentEditor(lesions, volume)
    assert editor.GetSourceVolumeIntensityMask()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("12: PET AC", "12_ PET AC"),
        ("aux", "_aux"),
        ("COM1.old", "_COM1.old"),
        ("auxiliary", "auxiliary"),
        ("x" * 99 + ". more", "x" * 99),
        (" . ", "volume"),
    ],
)
def test_a_name_is_a_file_on_windows_too(name, wanted):
    """No name of a device, and no dot or blank at the end (Microsoft: Naming Files, Paths and Namespaces)."""
    if host.missingCore() is None:
        host.start()
    from DRMCCoreLib.nodes.names import fileName

    assert fileName(name) == wanted
