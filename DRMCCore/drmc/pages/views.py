"""Anatomical views of a volume.

A view is a 2-D array with the head (or, axial, the front) up and the patient's right on the left of the
picture (radiological), whatever the order and direction of the scan's axes; oblique grids are shown along
their nearest anatomical axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

_MARGIN_MM = 12.0


def anatomical_order(direction: Sequence[float]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """How to transpose and flip an array (z, y, x) to the axes head to feet, front to back, right to left.

    Args:
        direction: the LPS direction matrix (9,) of SimpleITK (columns: the x, y, z axes of the image).

    Returns:
        the array axes in that order, and which of them to reverse.
    """
    matrix = np.reshape(np.asarray(direction, dtype=float), (3, 3))
    best = max(
        itertools.permutations(range(3)), key=lambda p: sum(abs(matrix[row, p[row]]) for row in range(3))
    )
    # best[row] is the image axis (x=0) nearest to L, P, S; the array has these axes in reverse order.
    axes = (2 - best[2], 2 - best[1], 2 - best[0])
    toward_feet = matrix[2, best[2]] > 0
    toward_front = matrix[1, best[1]] < 0
    toward_right = matrix[0, best[0]] < 0
    return axes, (bool(toward_feet), bool(toward_front), bool(toward_right))


def to_anatomical(array_zyx: np.ndarray, direction: Sequence[float]) -> np.ndarray:
    """The array as a view with the axes (head to feet, front to back, right to left)."""
    axes, reverse = anatomical_order(direction)
    turned = np.transpose(array_zyx, axes)
    return turned[tuple(slice(None, None, -1) if back else slice(None) for back in reverse)]


def anatomical_spacing(
    spacing_zyx: Sequence[float], direction: Sequence[float]
) -> tuple[float, float, float]:
    """Spacing [mm] along the axes (head to feet, front to back, right to left)."""
    axes, _ = anatomical_order(direction)
    along_z, along_y, along_x = (float(spacing_zyx[axis]) for axis in axes)
    return along_z, along_y, along_x


def strongest(array: np.ndarray, axis: int) -> np.ndarray:
    """Projection along an axis: the value of the largest magnitude, with its sign."""
    high, low = array.max(axis=axis), array.min(axis=axis)
    return np.where(high >= -low, high, low)


def uptake_center(array: np.ndarray) -> tuple[int, ...]:
    """Index of the center of the uptake, hot spots counted as SUV 2; the middle if there is no uptake."""
    weight = np.clip(np.nan_to_num(array), 0.0, 2.0)
    if not weight.any():
        return tuple(n // 2 for n in array.shape)
    place = []
    for axis in range(array.ndim):
        other = tuple(o for o in range(array.ndim) if o != axis)
        profile = weight.sum(axis=other, dtype=np.float64)
        place.append(round(float((profile * np.arange(profile.size)).sum() / profile.sum())))
    return tuple(place)


def extent(body: np.ndarray, axis: int, spacing: float) -> slice:
    """The extent of a body along an axis, with a margin of 12 mm; the whole axis if there is no body.

    Args:
        body: mask, bool with three axes.
        axis: the axis.
        spacing: spacing of the axis [mm].
    """
    occupied = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
    if not occupied.size:
        return slice(None)
    margin = math.ceil(_MARGIN_MM / spacing)
    return slice(max(0, int(occupied[0]) - margin), int(occupied[-1]) + 1 + margin)


def resized(picture: np.ndarray, spacing: tuple[float, float], step: float) -> np.ndarray:
    """A picture interpolated linearly to square pixels, float32.

    Args:
        picture: (rows, columns).
        spacing: spacing of rows and columns [mm].
        step: edge of the new pixels [mm].
    """
    for axis, size in enumerate(spacing):
        count = picture.shape[axis]
        pixels = max(1, round(count * size / step))
        place = np.clip((np.arange(pixels) + 0.5) * count / pixels - 0.5, 0, count - 1)
        below = np.minimum(place.astype(int), max(count - 2, 0))
        weight = (place - below).reshape([-1 if a == axis else 1 for a in range(2)])
        above = np.minimum(below + 1, count - 1)
        picture = picture.take(below, axis) * (1 - weight) + picture.take(above, axis) * weight
    return picture.astype(np.float32)


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a 2-D mask with a neighbor outside of it, bool."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
