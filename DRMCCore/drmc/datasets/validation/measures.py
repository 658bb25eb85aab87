"""What is measured of an image: its content's hash, a coarse picture, activity, percentiles and noise.

Arrays (z, y, x) in SUV; spacings in mm.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from drmc.imaging.geometry import Geometry

PERCENTILES = (5, 25, 50, 75, 95, 99)
_FOREGROUND = 0.02  # of the 99.9th percentile: what lies below is air, whatever the units are
_MAD_TO_SD = 1.4826  # of a normal distribution
_COARSE = 12


def content_hash(array: np.ndarray, geometry: Geometry) -> str:
    """SHA-256 of grid and voxels, the same for every file format and compression.

    Voxels count as float32, places in steps of 1 um.
    """
    place = (*geometry.spacing, *geometry.origin, *geometry.direction)
    head = f"{geometry.shape} {[round(value, 3) + 0.0 for value in place]}"
    digest = hashlib.sha256(head.encode("ascii"))
    digest.update(np.ascontiguousarray(array, dtype="<f4") + np.float32(0))  # -0 counts as 0
    return digest.hexdigest()


def noise(suv: np.ndarray, body: np.ndarray) -> float | None:
    """Standard deviation of what a Laplacian leaves inside the body: voxel noise, nearly free of anatomy.

    By the median of the magnitudes, so that edges and hot organs do not count; scaled so that white noise of
    standard deviation 1 gives 1. None where the body has fewer than 100 voxels.
    """
    if min(suv.shape) < 3:
        return None
    inner = body[1:-1, 1:-1, 1:-1]
    if np.count_nonzero(inner) < 100:
        return None
    left = 6 * suv[1:-1, 1:-1, 1:-1]
    for axis in range(3):
        for side in (slice(0, -2), slice(2, None)):
            window = [slice(1, -1)] * 3
            window[axis] = side
            left = left - suv[tuple(window)]
    return float(np.median(np.abs(left[inner]))) * _MAD_TO_SD / math.sqrt(42)


def foreground_median(suv: np.ndarray) -> float:
    """Median of the voxels that are not air, by a threshold relative to the image; 0 where all are air."""
    top = float(np.percentile(suv, 99.9))
    return float(np.median(suv[suv > _FOREGROUND * top])) if top > 0 else 0.0


def coarse(suv: np.ndarray) -> np.ndarray:
    """A picture of the image, of whatever scale: its means over at most 12 x 12 x 12 blocks, of norm 1.

    Two scans of one patient have much the same one.

    Args:
        suv: (z, y, x), with values other than 0.

    Returns:
        float64, at most (12, 12, 12).
    """
    array = suv.astype(np.float64)
    for axis in range(3):
        size = array.shape[axis]
        edges = np.unique(np.linspace(0, size, min(_COARSE, size) + 1).astype(int))
        sums = np.add.reduceat(array, edges[:-1], axis=axis)
        widths = np.diff(edges).reshape([-1 if other == axis else 1 for other in range(3)])
        array = sums / widths
    return array / np.linalg.norm(array)


def quartiles(values: Sequence[float]) -> list[float] | None:
    """Lower quartile, median and upper quartile; None of nothing."""
    return [float(v) for v in np.percentile(values, (25, 50, 75))] if len(values) else None
