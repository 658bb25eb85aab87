"""A lesion by threshold: the voxels that hang together with the hottest one near the crosshair.

Looks at no more than a box around the crosshair, so that it takes a few milliseconds however large the scan
is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from drmc.errors import InputError
from drmc.measures.mtv import FRACTION_OF_MAXIMUM
from DRMCCoreLib.nodes import geometry
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

SEARCH_MM = 15.0  # from the crosshair to the hottest voxel
REACH_MM = 60.0  # from the crosshair to the faces of the box


@dataclass
class HotSpot:
    """A segment that was added; `isCut`: it reaches a face of the box within the scan and may go on there."""

    name: str
    segmentID: str
    voxels: int
    isCut: bool


def addHotSpot(
    volumeNode, segmentationNode, pointRAS, *, suvPerUnit: float | None = None, suv: float | None = None
) -> HotSpot:
    """Adds a segment by threshold: 41 % of the hottest voxel near the world point, or `suv`.

    `suv` needs `suvPerUnit`. The segment's name says what was done. Raises InputError where the point lies
    outside the volume, nothing near it reaches the threshold, the SUV is needed and not known, or the
    segmentation cannot take voxels as they are.
    """
    _checkTakesVoxels(segmentationNode)
    if suv is not None and suvPerUnit is None:
        raise InputError(
            _("the SUV of '{volume}' is known after a run: run first, or take 41 % of SUVmax").format(
                volume=volumeNode.GetName()
            )
        )
    array = slicer.util.arrayFromVolume(volumeNode)
    ijkToRAS = geometry.nodeMatrix(volumeNode)
    local = [0.0, 0.0, 0.0]
    volumeNode.TransformPointFromWorld(pointRAS, local)
    center = (np.linalg.inv(ijkToRAS) @ [*local, 1.0])[2::-1]  # k, j, i
    if (center < -0.5).any() or (center > np.array(array.shape) - 0.5).any():
        raise InputError(
            _(
                "the crosshair is outside '{volume}': put it on the lesion (hold Shift and move the mouse)"
            ).format(volume=volumeNode.GetName())
        )
    spacing = np.linalg.norm(ijkToRAS[:3, :3], axis=0)[::-1]
    first = np.maximum(0, np.ceil(center - REACH_MM / spacing)).astype(int)
    last = np.minimum(np.array(array.shape) - 1, np.floor(center + REACH_MM / spacing)).astype(int)
    box = array[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))].astype(np.float32)
    axes = np.ogrid[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    away = sum(((axis - c) * step) ** 2 for axis, c, step in zip(axes, center, spacing, strict=True))
    near = np.where(away <= max(SEARCH_MM, 0.51 * float(np.linalg.norm(spacing))) ** 2, box, -np.inf)
    seed = np.unravel_index(int(near.argmax()), near.shape)
    largest = float(box[seed])
    threshold = FRACTION_OF_MAXIMUM * largest if suv is None else suv / suvPerUnit
    if largest <= 0 or largest < threshold:
        raise InputError(
            _("nothing within {mm:g} mm of the crosshair reaches {what}: put it on the lesion").format(
                mm=SEARCH_MM, what=_("a value above 0") if suv is None else f"SUV {suv:g}"
            )
        )
    mask = _connected(box, seed, threshold)
    name = _uniqueName(segmentationNode, _threshold(suv, largest, suvPerUnit))
    image = _orientedImage(mask, first, ijkToRAS)
    transform = geometry.betweenFrames(volumeNode, segmentationNode, volumeNode)
    if transform is not None:
        slicer.vtkOrientedImageDataResample.TransformOrientedImage(image, transform)
    segmentID = segmentationNode.AddSegmentFromBinaryLabelmapRepresentation(image, name)
    isCut = any(
        face.any()
        for axis in range(3)
        for face, atBorder in (
            (mask.take(0, axis), first[axis] == 0),
            (mask.take(-1, axis), last[axis] == array.shape[axis] - 1),
        )
        if not atBorder
    )
    return HotSpot(name, segmentID, int(mask.sum()), isCut)


def _checkTakesVoxels(segmentationNode) -> None:
    """Raises InputError for contours and surfaces: beside them voxels would become a surface, or be lost."""
    segmentation = segmentationNode.GetSegmentation()
    voxels = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentation.GetNumberOfSegments() and segmentation.GetSourceRepresentationName() != voxels:
        raise InputError(
            _(
                "'{name}' holds surfaces or contours: choose no segmentation, so that a new one is made, or "
                "make binary labelmaps of it first (module Segmentations, Representations)"
            ).format(name=segmentationNode.GetName())
        )


def _connected(box: np.ndarray, seed, threshold: float) -> np.ndarray:
    import SimpleITK as sitk  # not needed before

    image = sitk.GetImageFromArray(box)
    found = sitk.ConnectedThreshold(
        image, [tuple(int(i) for i in seed[::-1])], threshold, float(box.max()), 1
    )
    return sitk.GetArrayFromImage(found).astype(bool)


def _threshold(suv: float | None, largest: float, suvPerUnit: float | None) -> str:
    if suv is not None:
        return _("SUV {suv:.1f} or more").format(suv=suv)
    if suvPerUnit is None:
        return _("41 % of the maximum")
    return _("41 % of SUVmax {suv:.1f}").format(suv=largest * suvPerUnit)


def _uniqueName(segmentationNode, what: str) -> str:
    segmentation = segmentationNode.GetSegmentation()
    names = {segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())}
    number = 1
    while any(name.startswith(_("Lesion {number}, ").format(number=number)) for name in names):
        number += 1
    return _("Lesion {number}, ").format(number=number) + what


def _orientedImage(mask: np.ndarray, first: np.ndarray, ijkToRAS: np.ndarray):
    """The mask as an image of a segment: on the volume's voxels, its extent no larger than the box."""
    k, j, i = (int(value) for value in first)
    depth, height, width = mask.shape
    image = slicer.vtkOrientedImageData()
    image.SetExtent(i, i + width - 1, j, j + height - 1, k, k + depth - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ijkToRAS.ravel().tolist())
    image.SetImageToWorldMatrix(matrix)
    return image
