"""Label images on a scan's grid: whether their voxels coincide, and nearest-neighbor resampling if not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


ALIGNMENT_TOLERANCE = 0.1  # voxels: largest distance between a voxel of the segmentation and one of the scan


def _index_transform(source: sitk.Image, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(A, b): voxel i (x, y, z) of `source` lies at the continuous index A i + b of the scan."""
    to_point = np.reshape(source.GetDirection(), (3, 3)) * np.asarray(source.GetSpacing())
    to_index = np.linalg.inv(np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing))
    return to_index @ to_point, to_index @ (np.asarray(source.GetOrigin()) - np.asarray(geometry.origin))


def _corners(source: sitk.Image, geometry: Geometry) -> np.ndarray:
    """Continuous scan indices (8, 3), (x, y, z), of the centers of the corner voxels of `source`."""
    matrix, offset = _index_transform(source, geometry)
    ends = [(0, size - 1) for size in source.GetSize()]
    corners = np.array([(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=float)
    return corners @ matrix.T + offset


def is_aligned(source: sitk.Image, geometry: Geometry) -> bool:
    """Whether all voxels of `source` lie on the scan's grid (endlessly continued), to a tenth of a voxel."""
    matrix, offset = _index_transform(source, geometry)
    steps = np.round(matrix)
    if not (np.abs(steps).sum(axis=0) == 1).all() or not (np.abs(steps).sum(axis=1) == 1).all():
        return False
    # An affine difference is largest at a corner.
    ends = [(0, size - 1) for size in source.GetSize()]
    corners = np.array([(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=float)
    difference = corners @ (matrix - steps).T + offset - np.round(offset)
    return bool(np.abs(difference).max() <= ALIGNMENT_TOLERANCE)


def place_warning(source: sitk.Image, geometry: Geometry) -> str | None:
    """A warning for a segmentation that has the scan's shape but not its position; else None."""
    if tuple(source.GetSize()) != tuple(geometry.shape[::-1]):
        return None
    if is_aligned(source, geometry) and contains(source, geometry):
        return None
    matrix, offset = _index_transform(source, geometry)
    corners = np.array([(0, 0, 0), np.asarray(source.GetSize()) - 1], dtype=float)
    apart = corners @ matrix.T + offset - corners
    if np.abs(apart).max() <= 0.5:
        return None
    apart = apart * np.asarray(geometry.spacing)
    distance = float(np.linalg.norm(apart, axis=1).max())
    return (
        f"it has the scan's shape but another position or direction (corners up to {distance:.4g} mm apart; "
        f"origin {_point(source.GetOrigin())} against {_point(geometry.origin)} mm, LPS): if it was drawn on "
        "this scan, its geometry was lost: save it again with the scan's, else nothing it marks is where it "
        "should be"
    )


def _point(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def contains(source: sitk.Image, geometry: Geometry) -> bool:
    """Whether the whole image `source` lies on the scan's voxels."""
    corners = _corners(source, geometry)
    last = np.asarray(geometry.shape[::-1], dtype=float) - 1.0
    return bool((corners >= -0.5).all() and (corners <= last + 0.5).all())


def voxels_outside(layer: sitk.Image, label: int, geometry: Geometry) -> int:
    """How many voxels of a label lie outside the scan."""
    matrix, offset = _index_transform(layer, geometry)
    zyx = np.nonzero(sitk.GetArrayViewFromImage(layer) == label)
    index = np.stack(zyx[::-1], axis=1) @ matrix.T + offset
    last = np.asarray(geometry.shape[::-1], dtype=float) - 1.0
    return int(np.count_nonzero(((index < -0.5) | (index > last + 0.5)).any(axis=1)))


def resample_labels(layer: sitk.Image, geometry: Geometry) -> tuple[tuple[slice, ...], np.ndarray]:
    """Resamples a layer onto the part of the scan's grid that it covers.

    Only that part, so that a hundred small segments cost neither the time nor the memory of as many scans.

    Returns:
        the part as slices (z, y, x) of the scan, and the label values there.
    """
    corners = _corners(layer, geometry)
    size = np.asarray(geometry.shape[::-1])
    low = np.clip(np.floor(corners.min(axis=0)) - 1, 0, size - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size - 1).astype(int)
    matrix = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    resample = sitk.ResampleImageFilter()
    resample.SetSize([int(n) for n in high - low + 1])
    resample.SetOutputSpacing([float(s) for s in geometry.spacing])
    resample.SetOutputOrigin([float(o) for o in np.asarray(geometry.origin) + matrix @ low])
    resample.SetOutputDirection([float(d) for d in geometry.direction])
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
    return box, sitk.GetArrayFromImage(resample.Execute(layer))
