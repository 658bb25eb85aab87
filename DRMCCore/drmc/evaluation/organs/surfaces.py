"""Distances between the surfaces of two masks.

A surface is made of the voxels of a mask that have a voxel outside among their six neighbors. Where a mask is
cut by the end of the image there is no surface: nothing is known beyond. Distances are from voxel center to
voxel center [mm] and not weighted by area.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


def surface(mask_zyx: np.ndarray) -> np.ndarray:
    """The surface voxels of a mask, bool (z, y, x)."""
    inside = np.ones_like(mask_zyx)
    for axis in range(3):
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        inside[tuple(here)] &= mask_zyx[tuple(there)]
        inside[tuple(there)] &= mask_zyx[tuple(here)]
    return mask_zyx & ~inside


def surface_distances(
    one_zyx: np.ndarray, other_zyx: np.ndarray, spacing_zyx: Sequence[float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """From each surface voxel of a mask to the nearest one of the other [mm], both ways; None without both.

    Args:
        one_zyx: mask, bool.
        other_zyx: mask on the same grid.
        spacing_zyx: of the voxels [mm].
    """
    union = one_zyx | other_zyx
    cuts = []
    for axis, size in enumerate(union.shape):
        found = np.flatnonzero(union.any(axis=tuple(a for a in range(3) if a != axis)))
        if not found.size:
            return None
        # one voxel more, so that an end of the box is no end of the image
        cuts.append(slice(max(0, int(found[0]) - 1), min(size, int(found[-1]) + 2)))
    box = cuts[0], cuts[1], cuts[2]
    first, second = surface(one_zyx[box]), surface(other_zyx[box])
    if not first.any() or not second.any():
        return None
    return _nearest(first, second, spacing_zyx), _nearest(second, first, spacing_zyx)


def _nearest(points_zyx: np.ndarray, surface_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """From each point to the nearest voxel of a surface [mm]."""
    image = sitk.GetImageFromArray(surface_zyx.astype(np.uint8))
    image.SetSpacing(tuple(reversed([float(step) for step in spacing_zyx])))
    distance = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    return np.maximum(sitk.GetArrayViewFromImage(distance)[points_zyx], 0.0)
