"""Geometry between MRML (RAS, a 4 x 4 matrix) and the engine's files (LPS, as SimpleITK), without resampling.

Matrices are float64 (4, 4) from a voxel index (i, j, k) to millimeters; arrays are (k, j, i), which is (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from drmc import grids

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A node's matrix went through an inversion: the last digits of a spacing such as 3.27 mm come back rounded off.
_SPACING_DIGITS, _ORIGIN_DIGITS, _DIRECTION_DIGITS = 10, 9, 12


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


def imageFromNode(volumeNode) -> sitk.Image:
    """The node's voxels as a float32 image with the node's own geometry in LPS.

    Raises ValueError if the node's axes are not perpendicular: no file form of the engine can say that.
    """
    matrix = LPS_TO_RAS @ nodeMatrix(volumeNode)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise ValueError(
            "its axes are not perpendicular: resample it first (module Resample Scalar/Vector/DWI Volume)"
        )
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(slicer.util.arrayFromVolume(volumeNode), dtype=np.float32)
    )
    image.SetSpacing([round(float(value), _SPACING_DIGITS) for value in spacing])
    image.SetOrigin([round(float(value), _ORIGIN_DIGITS) for value in matrix[:3, 3]])
    image.SetDirection([round(float(value), _DIRECTION_DIGITS) for value in direction.ravel()])
    return image


def onNodeGrid(array: np.ndarray, matrix: np.ndarray, volumeNode) -> np.ndarray | None:
    """The array (k, j, i) of a file with this IJK to RAS, turned to the node's order of voxels.

    None if the two grids are not the same set of voxels (drmc.grids).
    """
    toNode = np.linalg.inv(nodeMatrix(volumeNode)) @ matrix
    return grids.turned(array, toNode, slicer.util.arrayFromVolume(volumeNode).shape)


def checkTransform(volumeNode) -> None:
    """Raises ValueError if the node's parent transform changes its size or shape.

    The network sees the node in its own frame, in millimeters. A rotation or a shift (a registration) changes nothing
    there; scaling, shear and warping do.
    """
    transformNode = volumeNode.GetParentTransformNode()
    if transformNode is None:
        return
    advice = "harden the transform on a copy of the volume (module Transforms) and denoise that"
    if not transformNode.IsTransformToWorldLinear():
        raise ValueError(f"it is under the non-linear transform '{transformNode.GetName()}': {advice}")
    matrix = vtk.vtkMatrix4x4()
    transformNode.GetMatrixTransformToWorld(matrix)
    linear = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
    if np.abs(linear.T @ linear - np.eye(3)).max() > 1e-4:
        raise ValueError(
            f"it is under the transform '{transformNode.GetName()}', which scales or shears: {advice}"
        )
