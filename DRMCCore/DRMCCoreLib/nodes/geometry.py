"""Geometry between MRML (RAS, a 4 x 4 matrix) and the engine's files (LPS, as SimpleITK), without resampling.

Matrices are float64 (4, 4) from a voxel index (i, j, k) to millimeters; arrays are (k, j, i), which is (z, y,
x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from drmc.imaging import geometry
from drmc.imaging.geometry import Geometry
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MOST_VOXELS_MOVED = 0.5  # by an acquisition transform; drmc.dicom takes slices for even up to here


def nodeMatrix(volumeNode) -> np.ndarray:
    """IJK to RAS of the node itself, its parent transform left out."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def imageMatrix(spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]) -> np.ndarray:
    """IJK to RAS of a file with this LPS geometry, as in a SimpleITK image."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
    matrix[:3, 3] = origin
    return LPS_TO_RAS @ matrix


def gridOf(volumeNode) -> Geometry:
    """The node's own geometry in LPS.

    Raises ValueError if the node's axes are not perpendicular: no file form of the engine can say that.
    """
    matrix = LPS_TO_RAS @ nodeMatrix(volumeNode)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise ValueError(
            "its axes are not perpendicular: resample it first (module Resample Scalar/Vector/DWI Volume)"
        )
    shape = volumeNode.GetImageData().GetDimensions()[::-1]
    # The node's matrix went through an inversion: the last digits of a spacing such as 3.27 mm come back
    # changed.
    return Geometry(shape, tuple(spacing), tuple(matrix[:3, 3]), tuple(direction.ravel())).rounded()


def imageFromNode(volumeNode) -> sitk.Image:
    """The node's voxels as a float32 image with the node's own geometry in LPS; ValueError as of `gridOf`."""
    array = np.ascontiguousarray(slicer.util.arrayFromVolume(volumeNode), dtype=np.float32)
    return gridOf(volumeNode).to_image(array)


def onNodeGrid(array: np.ndarray, matrix: np.ndarray, volumeNode) -> np.ndarray | None:
    """The array (k, j, i) of a file with this IJK to RAS, turned to the node's order of voxels.

    None if the two grids are not the same set of voxels (drmc.imaging.geometry).
    """
    toNode = np.linalg.inv(nodeMatrix(volumeNode)) @ matrix
    return geometry.turned(array, toNode, slicer.util.arrayFromVolume(volumeNode).shape)


def checkTransform(volumeNode) -> None:
    """Raises ValueError if the node's parent transform changes its size or shape.

    The network sees the node in its own frame, in millimeters. A rotation or a shift (a registration) changes
    nothing there, an acquisition transform less than the engine itself passes over; scaling, shear and
    warping do.
    """
    transformNode = frameTransform(volumeNode, volumeNode)
    if transformNode is None:
        return
    advice = "harden the transform on a copy of the volume (module Transforms) and denoise that"
    if volumeNode.GetAttribute("DICOM.instanceUIDs"):
        advice += ", saying what its voxels are: they are then no longer those of its DICOM files"
    if not transformNode.IsTransformToWorldLinear():
        raise ValueError(f"it is under the non-linear transform '{transformNode.GetName()}': {advice}")
    matrix = vtk.vtkMatrix4x4()
    transformNode.GetMatrixTransformToWorld(matrix)
    linear = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
    if np.abs(linear.T @ linear - np.eye(3)).max() > 1e-4:
        raise ValueError(
            f"it is under the transform '{transformNode.GetName()}', which scales or shears: {advice}"
        )


def frameTransform(node, volumeNode):
    """The transform node of a node without the acquisition transform of its volume; None without one.

    Two nodes with the same one are in one frame.
    """
    transformNode = node.GetParentTransformNode()
    if transformNode is not None and transformNode is acquisitionTransform(volumeNode):
        return transformNode.GetParentTransformNode()
    return transformNode


def betweenFrames(source, target, volumeNode):
    """The transform from a node's own frame to that of another, None where they are in one frame.

    The acquisition transform of the volume counts for none, as in `frameTransform`.
    """
    here, there = (frameTransform(node, volumeNode) for node in (source, target))
    if here is there:
        return None
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(here, there, transform)
    return transform


def acquisitionTransform(volumeNode):
    """The volume's transform node if it is a grid that moves every voxel by less than half of one, else None.

    Slicer's DICOM reader puts a series whose slices are not evenly spaced on an even grid, under such a
    transform (DICOMScalarVolumePlugin). The engine reads the series on the same even grid, and passes over as
    much (drmc.dicom).
    """
    transformNode = volumeNode.GetParentTransformNode()
    isGrid = transformNode is not None and transformNode.IsA("vtkMRMLGridTransformNode")
    if not isGrid or volumeNode.GetImageData() is None:
        return None
    matrix, size = nodeMatrix(volumeNode), volumeNode.GetImageData().GetDimensions()
    axes = [np.linspace(0, size[0] - 1, 5), np.linspace(0, size[1] - 1, 5), np.arange(size[2])]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    for points in (before, after):
        points.SetDataTypeToDouble()
    here = index @ matrix[:3, :3].T + matrix[:3, 3]
    before.SetData(numpy_to_vtk(here, deep=True))
    transformNode.GetTransformToParent().TransformPoints(before, after)
    moved = (vtk_to_numpy(after.GetData()) - here) @ np.linalg.inv(matrix[:3, :3]).T
    return transformNode if np.abs(moved).max() < _MOST_VOXELS_MOVED else None
