"""Resampling of a scan to the network's grid, and of the network's residual back to the scan's own.

Axis legend: arrays (z, y, x); mm, LPS; "taps" of an axis: indices and float32 weights of the samples whose
weighted sum each new sample is, both (new size, taps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drmc.errors import InputError
from drmc.imaging.geometry import Geometry, triple

Taps = tuple[np.ndarray, np.ndarray]

GRID_MM = 2.0
"""Voxel edge [mm] of the grid on which the network is trained and run (paper, section 3.1)."""

KEPT_MM = (1.6, 2.1)
"""Voxel edges [mm] between these two are kept; finer voxels are averaged to the lower one.

Resampling a scan of 1.65 mm to voxels of 2 mm loses detail that the way back cannot restore: with the same
network its own voxels gained 0.5 dB (docs/resampling.md), at up to twice as many tiles.
"""

NOISE_FWHM_MM = 4.0
"""The noise model of the way back: white noise blurred by a Gaussian of this FWHM [mm] along each axis.

The noise of C1 to C6 and of four other simulated scanners has 3.6 to 9 mm (docs/resampling.md). The low end
is assumed: a width above the scan's own would leave its fine noise, one below it costs almost nothing.
"""

GRID_ERROR = 0.01
"""Variance of the grid residual's error relative to that of the noise; it keeps the way back stable."""

BACK_TAPS = 6
"""Least number of grid samples per axis that estimate a voxel's residual: 12 mm. More gain nothing."""

BACK_VOXELS = 4
"""Least number of scan voxels that these samples span: with fewer, lesions on 5 mm voxels lose SUVpeak."""

_MOST_GRID_VOXELS = 1 << 30
_SIGMA_PER_FWHM = 1 / math.sqrt(8 * math.log(2))


def resample_to_grid(array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """Resamples an image to the network's grid along its own axes, for training and inference alike.

    An axis with a spacing within KEPT_MM is kept; a finer one is resampled to the lower end of KEPT_MM, a
    coarser one to GRID_MM. If all three are kept, the same array and geometry are returned, uncopied.

    Each axis is weighted by a triangle whose half-width is the larger of the two spacings: linear
    interpolation if the scan is coarser than the grid, an area-like average (anti-aliasing, standard
    deviation 0.41 voxels of the grid) if it is finer. Beyond the outermost voxel centers the edge voxel is
    repeated. The new grid has the old one's direction and physical center; its extent differs by less than
    half a voxel at each side.

    NumPy, slice by slice: three times as fast as SimpleITK's filter on one core, and without memory beyond
    the result.

    Args:
        array: image (z, y, x), any real type; nothing is clipped.
        geometry: its grid.

    Returns:
        float32 array (z, y, x) and its grid.

    Raises:
        InputError: the new image would have more than 2^30 voxels (a wrong spacing).
    """
    return _resampled(array, geometry, [_grid_step(step) for step in geometry.spacing_zyx])


def resample_to_spacing(array: np.ndarray, geometry: Geometry, step_mm: float) -> tuple[np.ndarray, Geometry]:
    """Resamples an image to voxels of one edge along its own axes, as `resample_to_grid` does.

    Args:
        array: image (z, y, x), any real type.
        geometry: its grid.
        step_mm: the new edge; axes that have it within 0.01 mm are kept.

    Returns:
        float32 array (z, y, x) and its grid.

    Raises:
        InputError: the new image would have more than 2^30 voxels (a wrong spacing).
    """
    kept = lambda step: abs(step - step_mm) < 0.01
    return _resampled(array, geometry, [s if kept(s) else step_mm for s in geometry.spacing_zyx])


def _resampled(
    array: np.ndarray, geometry: Geometry, steps_zyx: Sequence[float]
) -> tuple[np.ndarray, Geometry]:
    shape, spacing_zyx, offset_zyx = [], [], []
    for size, step, new_step in zip(geometry.shape, geometry.spacing_zyx, steps_zyx, strict=True):
        new_size = size if new_step == step else max(1, round(size * step / new_step))
        shape.append(new_size)
        spacing_zyx.append(new_step)
        offset_zyx.append(((size - 1) * step - (new_size - 1) * new_step) / 2)
    if math.prod(shape) > _MOST_GRID_VOXELS:
        raise InputError(
            f"{geometry.shape} voxels (z, y, x) with spacing {geometry.spacing} mm (x, y, z) "
            f"would make {shape} voxels of the network's grid: check the spacing in the scan's header"
        )
    direction = np.reshape(geometry.direction, (3, 3))
    origin = np.asarray(geometry.origin) + direction @ offset_zyx[::-1]
    grid = replace(
        geometry,
        shape=(shape[0], shape[1], shape[2]),
        spacing=triple(reversed(spacing_zyx)),
        origin=triple(origin),
    )
    if grid == geometry:
        return np.asarray(array, dtype=np.float32), grid
    taps_zyx = [
        _taps_to_grid(*axis, offset)
        for axis, offset in zip(_axes(geometry, grid), offset_between(geometry, grid), strict=True)
    ]
    return _resample(array, taps_zyx), grid


def resample_from_grid(array: np.ndarray, grid: Geometry, geometry: Geometry) -> np.ndarray:
    """Estimates a residual on the scan's own grid from its image under `resample_to_grid` on the network's.

    Interpolation would smooth it once more: even a perfect residual would leave a fifth to a third of noise
    of 4 mm FWHM. Wanted is the residual r of each voxel whose image g = A r on the grid is known, A being
    `resample_to_grid`. For noise r of covariance R the linear estimate of least mean square error is, along
    each axis,

        r = R A^T (A R A^T + e I)^-1 g,   R_ij = exp(-d_ij^2 / (4 s^2)),

    the Wiener (Gauss-Markov) estimate (Kay, Fundamentals of Statistical Signal Processing I, 1993, theorem
    12.1), with d the distance of two voxels, s the standard deviation of a Gaussian of NOISE_FWHM_MM and e
    GRID_ERROR. It adapts to spacing and phase, and if the grid is the finer one it is close to the scan whose
    interpolation fits the residual best. A voxel is estimated from the BACK_TAPS samples or BACK_VOXELS
    voxels nearest to it ("moving neighborhood" in kriging), its weights scaled to sum to 1: a constant stays
    that constant.

    A voxel all of whose neighbors on the grid are 0 is exactly 0: outside of the tiles nothing is changed.

    Args:
        array: float32 image (z, y, x) on `grid`.
        grid: the grid that `resample_to_grid` returned for `geometry`.
        geometry: the scan's own grid.

    Returns:
        float32 array (z, y, x) on `geometry`; the same array if that is the grid.
    """
    if grid == geometry:
        return np.asarray(array, dtype=np.float32)
    taps_zyx = [
        _taps_from_grid(*axis, offset)
        for axis, offset in zip(_axes(geometry, grid), offset_between(geometry, grid), strict=True)
    ]
    with np.errstate(invalid="ignore"):  # non-finite values of a failing network are reported by the pipeline
        result = _resample(array, taps_zyx)
    (lower_z, upper_z), (lower_y, upper_y), (lower_x, upper_x) = (
        (np.floor(position).astype(int), np.ceil(position).astype(int))
        for position in grid_positions(geometry, grid)
    )
    for result_yx, lower, upper in zip(result, lower_z, upper_z, strict=True):
        near_yx = (array[lower] != 0) | (array[upper] != 0)
        near_yx = near_yx[lower_y] | near_yx[upper_y]
        near_yx = near_yx[:, lower_x] | near_yx[:, upper_x]
        result_yx[~near_yx] = 0.0
    return result


def _grid_step(step_mm: float) -> float:
    lower, upper = KEPT_MM
    return max(step_mm, lower) if step_mm <= upper else GRID_MM


def offset_between(source: Geometry, target: Geometry) -> np.ndarray:
    """Offset of the target's first voxel center from the source's, (z, y, x) along their common axes [mm]."""
    direction = np.reshape(source.direction, (3, 3))
    return np.linalg.solve(direction, np.subtract(target.origin, source.origin))[::-1]


def grid_positions(geometry: Geometry, grid: Geometry) -> list[np.ndarray]:
    """Positions of a scan's voxel centers on a grid per axis (z, y, x) [voxels], clipped to its outermost."""
    return [
        _positions(source, target, offset)
        for (target, source), offset in zip(
            _axes(geometry, grid), offset_between(grid, geometry), strict=True
        )
    ]


def _axes(geometry: Geometry, grid: Geometry) -> list[tuple[tuple[int, float], tuple[int, float]]]:
    """Size and spacing [mm] of the scan's and the grid's axes, in the order (z, y, x)."""
    scan = zip(geometry.shape, geometry.spacing_zyx, strict=True)
    return list(zip(scan, zip(grid.shape, grid.spacing_zyx, strict=True), strict=True))


def _resample(array: np.ndarray, taps_zyx: Sequence[Taps]) -> np.ndarray:
    """The weighted sums over the taps of all three axes, slice by slice."""
    taps_z, taps_y, taps_x = taps_zyx
    result = np.empty([len(indices) for indices, _ in taps_zyx], dtype=np.float32)
    in_plane: dict[int, np.ndarray] = {}
    for result_yx, indices_z, weights_z in zip(result, *taps_z, strict=True):
        for z in [z for z in in_plane if z < indices_z.min()]:
            del in_plane[z]
        result_yx[:] = 0.0
        for z, weight in zip(indices_z.tolist(), weights_z, strict=True):
            if weight:
                if z not in in_plane:
                    rows_yx = _weighted_sum(np.asarray(array[z], dtype=np.float32), taps_y)
                    # Gathering whole rows is far faster than gathering columns, even with both copies.
                    result_xy = _weighted_sum(np.ascontiguousarray(rows_yx.T), taps_x)
                    in_plane[z] = np.ascontiguousarray(result_xy.T)
                result_yx += weight * in_plane[z]
    return result


def _weighted_sum(rows: np.ndarray, taps: Taps) -> np.ndarray:
    """Sum over the taps of weight times the row there, in order of the taps."""
    parts = zip(taps[0].T, taps[1].T, strict=True)
    index, weight = next(parts)
    total = np.take(rows, index, axis=0)
    total *= weight[:, None]
    for index, weight in parts:
        part = np.take(rows, index, axis=0)
        part *= weight[:, None]
        np.add(total, part, out=total)
    return total


def _positions(source: tuple[int, float], target: tuple[int, float], offset: float) -> np.ndarray:
    """Positions of the target's samples among the source's [samples], clipped to the outermost ones.

    `source` and `target` are (size, spacing); `offset` is the distance of the target's first center from the
    source's [mm].
    """
    (size, step), (new_size, new_step) = source, target
    position = np.clip((offset + new_step * np.arange(new_size)) / step, 0.0, size - 1.0)
    # A position within rounding of a center is that center, so that a weight of 1e-13 does not become a tap.
    return np.where(np.abs(position - np.rint(position)) < 1e-6, np.rint(position), position)


def _taps_to_grid(scan: tuple[int, float], grid: tuple[int, float], offset: float) -> Taps:
    """Triangle taps of an axis; see `resample_to_grid`. Arguments as those of `_positions`."""
    (size, step), (_, grid_step) = scan, grid
    half_width = max(step, grid_step) / step
    position = _positions(scan, grid, offset)
    first = np.ceil(position - half_width + 1e-9).astype(int)
    index = first[:, None] + np.arange(int(np.ceil(2 * half_width)))
    weight = np.maximum(0.0, 1.0 - np.abs(position[:, None] - index) / half_width)
    weight[(index < 0) | (index >= size)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, size - 1), weight.astype(np.float32)


def _taps_from_grid(scan: tuple[int, float], grid: tuple[int, float], offset: float) -> Taps:
    """Wiener taps of an axis; see `resample_from_grid`. Arguments as those of `_positions`."""
    (size, step), (grid_size, grid_step) = scan, grid
    if scan == grid:  # an axis that was kept
        return np.arange(size)[:, None], np.ones((size, 1), np.float32)
    index, forward = _taps_to_grid(scan, grid, offset)
    forward, place = forward.astype(np.float64), step * index  # (grid size, forward taps)
    count = min(max(BACK_TAPS, math.ceil(BACK_VOXELS * step / grid_step)), grid_size)
    center = (step * np.arange(size) - offset) / grid_step
    first = np.clip(np.ceil(center - count / 2), 0, grid_size - count).astype(int)
    taps = first[:, None] + np.arange(count)

    # A R A^T is needed only between samples less than `count` apart: row k holds samples j and j + k.
    band = np.zeros((count, grid_size))
    for apart in range(count):
        near, far = slice(0, grid_size - apart), slice(apart, None)
        covariance = _noise_covariance(place[near, :, None] - place[far, None, :])
        band[apart, near] = np.einsum("nt,ntu,nu->n", forward[near], covariance, forward[far])
    row, column = np.indices((count, count))
    grid_covariance = band[np.abs(row - column), first[:, None, None] + np.minimum(row, column)]
    voxel = step * np.arange(size)[:, None, None]
    cross = (forward[taps] * _noise_covariance(voxel - place[taps])).sum(axis=2)
    weight = np.linalg.solve(grid_covariance + GRID_ERROR * np.eye(count), cross[..., None])[..., 0]
    weight /= weight.sum(axis=1, keepdims=True)
    return taps, weight.astype(np.float32)


def _noise_covariance(distance_mm: np.ndarray) -> np.ndarray:
    """Covariance of noise of variance 1: that of blurred white noise is a Gaussian of twice the variance."""
    sigma = NOISE_FWHM_MM * _SIGMA_PER_FWHM
    return np.exp(-(distance_mm**2) / (4 * sigma**2))
