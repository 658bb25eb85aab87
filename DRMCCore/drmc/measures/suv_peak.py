"""SUVpeak: the largest mean over a sphere of 1 ml."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc.errors import InputError
from drmc.measures.rows import POSITION
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

PEAK_RADIUS_MM = (3.0 * 1000.0 / (4.0 * math.pi)) ** (1.0 / 3.0)  # 6.2035 mm: a sphere of 1 cm^3
PEAK_VOLUME_TOLERANCE = 0.1  # of 1 ml, up to which the sphere consists of whole voxels
PEAK_POINTS = 16  # sample points along each edge of a voxel, for the fraction of it inside the sphere


def peak_sphere(spacing_zyx: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of SUVpeak's sphere.

    Args:
        spacing_zyx: voxel spacing [mm].

    Returns:
        offsets (K, 3), (z, y, x), from the voxel of the center, and weights (K,) that sum to 1.
    """
    return _peak_sphere(tuple(float(step) for step in spacing_zyx))


@lru_cache(maxsize=16)
def _peak_sphere(spacing_zyx: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    spacing = np.asarray(spacing_zyx)
    reach = np.floor(PEAK_RADIUS_MM / spacing + 0.5).astype(int)
    offsets = _lattice([np.arange(-n, n + 1) for n in reach])
    shares = (((offsets * spacing) ** 2).sum(axis=1) <= PEAK_RADIUS_MM**2).astype(np.float64)
    if abs(shares.sum() * math.prod(spacing_zyx) / 1000.0 - 1) > PEAK_VOLUME_TOLERANCE:
        points = _lattice([(np.arange(PEAK_POINTS) + 0.5) / PEAK_POINTS - 0.5] * 3)
        shares = np.array(
            [np.mean((((o + points) * spacing) ** 2).sum(axis=1) <= PEAK_RADIUS_MM**2) for o in offsets]
        )
    return offsets[shares > 0], shares[shares > 0] / shares.sum()


def _lattice(axes: Sequence[np.ndarray]) -> np.ndarray:
    """All points (n, 3) of three axes."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def suv_peak(suv: np.ndarray, segment: Segment, spacing_zyx: Sequence[float]) -> float | None:
    """SUVpeak of a segment; None if no complete sphere fits into the image.

    Args:
        suv: the image, (z, y, x) [SUV].
        segment: the segment on its grid.
        spacing_zyx: voxel spacing [mm].

    Raises:
        InputError: a sphere contains NaN or infinity.
    """
    offsets, weights = peak_sphere(spacing_zyx)
    reach = offsets.max(axis=0)
    centers = np.stack(np.nonzero(segment.inside), axis=1) + [part.start for part in segment.box]
    complete = ((centers >= reach) & (centers < np.asarray(suv.shape) - reach)).all(axis=1)
    centers = centers[complete]
    if not len(centers):
        return None
    low = centers.min(axis=0) - reach
    high = centers.max(axis=0) + reach + 1
    region = np.ascontiguousarray(suv[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    strides = np.array([region.shape[1] * region.shape[2], region.shape[2], 1])
    flat = region.ravel()
    steps = offsets @ strides
    best = -math.inf
    for start in range(0, len(centers), 1 << 18):
        index = (centers[start : start + (1 << 18)] - low) @ strides
        total = np.zeros(len(index), dtype=np.float64)
        for step, weight in zip(steps, weights, strict=True):
            total += weight * flat[index + step]
        best = max(best, float(total.max()))
        if not np.isfinite(total).all():
            raise InputError(f"segment '{segment.name}': the image has NaN or infinity next to it")
    return best


def is_at_end(index_zyx: Sequence[float] | np.ndarray, geometry: Geometry) -> bool:
    """Whether the sphere around a voxel reaches beyond an end of the image, so that it is not measured."""
    reach = peak_sphere(geometry.rounded().spacing_zyx)[0].max(axis=0)
    index = np.asarray(index_zyx)
    return bool(((index < reach) | (index >= np.array(geometry.shape) - reach)).any())


def edge_notes(rows: Iterable[Mapping[str, Any]], geometry: Geometry) -> list[str]:
    """A notice on segments whose SUVmax lies where no sphere of SUVpeak is complete; empty without any.

    Args:
        rows: rows of the lesion table.
        geometry: the grid of its images.
    """
    to_index = np.linalg.inv(geometry.rounded().matrix)
    names: dict[str, None] = {}
    for row in rows:
        position = [row.get(key) for key in POSITION]
        if None in position:
            continue
        if is_at_end(np.rint(to_index @ np.array([*position, 1.0]))[2::-1], geometry):
            names[row["segment"]] = None
    if not names:
        return []
    why = "which lies at an end of the image, where the sphere of 1 ml is not complete"
    what = "it is that of the rest of the segment, or not stated"
    return [f"SUVpeak of {', '.join(names)} leaves out the SUVmax, {why}: {what}"]
