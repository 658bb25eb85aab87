"""Two grids of the same voxels, whose axes may come in another order or run the other way. No resampling."""

from __future__ import annotations

import numpy as np


def turned(array: np.ndarray, to_target: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The array (z, y, x) turned to the order of another grid's voxels; None where the grids are not the same voxels.

    `to_target`: (4, 4), from a voxel index (x, y, z) of the array to one of the target grid, whose array has `shape`
    (z, y, x). Same means to half a voxel at the farthest corner (a DICOM reader may sort slices either way).
    """
    steps = np.round(to_target[:3, :3])
    if not (np.abs(steps).sum(axis=0) == 1).all() or not (np.abs(steps).sum(axis=1) == 1).all():
        return None
    axes = [int(np.flatnonzero(row)[0]) for row in steps]  # for each axis of the target, the array's
    result = array.transpose(2, 1, 0).transpose(axes)
    result = result[tuple(slice(None, None, int(steps[axis].sum())) for axis in range(3))]
    if result.shape != tuple(shape)[::-1]:
        return None
    last = np.array(array.shape[::-1]) - 1
    offset = np.where(steps.sum(axis=1) > 0, 0, np.array(shape[::-1]) - 1)
    for corner in np.ndindex(2, 2, 2):
        index = np.array(corner) * last
        if np.abs(to_target[:3, :3] @ index + to_target[:3, 3] - (steps @ index + offset)).max() > 0.5:
            return None
    return np.ascontiguousarray(result.transpose(2, 1, 0))
