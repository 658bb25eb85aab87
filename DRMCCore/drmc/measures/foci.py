"""Foci that denoising lowered by more than noise explains, so that none disappears silently.

A focus is a local maximum of the original, smoothed to means over about 1 ml. All maxima of a noisy image are
too high, and a denoiser is right to lower them (regression to the mean). So a lowered focus is compared with
what the same denoising did to the tissue around it:

    ratio = log(mean of the original / mean of the denoised), for 1 ml means
    sigmas = (ratio - its median around the focus) / spread around the focus

The logarithm, since the noise of iterative reconstructions is about log-normal (Barrett, Wilson and Tsui,
Phys Med Biol 1994). The spread is that of tissue of comparable uptake: by the median absolute deviation or by
the 95th percentile, whichever is larger, because noise may have a longer tail upward. A focus that remains
hotter than its surroundings after denoising has less relative noise than they have: its spread is multiplied
by (uptake / uptake of the surroundings)^(-1/3), between the 0 of noise that is proportional to uptake and the
-1/2 of Poisson noise.

The limit is corrected for the number of maxima. In a Gaussian random field with a Gaussian correlation, of N
local maxima about N (u^2 - 1) exp(-u^2 / 2) / 1.36 are above u standard deviations (expected Euler
characteristic, Adler 1981, over the density of maxima, Bardeen et al., Astrophys J 1986).

Arrays (z, y, x) SUV, positions (x, y, z) in mm, LPS. Without PyTorch, which another strength of a kept
residual does not load.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from drmc.imaging.body import body_mask
from drmc.imaging.masks import bounding_box
from drmc.measures.rows import LOWERED_PERCENT, LoweredFoci, LoweredFocus
from drmc.measures.suv_peak import PEAK_RADIUS_MM, peak_sphere
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

MOST = 20  # foci in the list
CHANCE = 0.5  # noise maxima above the limit that are expected in one scan with Gaussian noise
_SIGMA_MM = PEAK_RADIUS_MM / math.sqrt(5.0)  # of the Gaussian with the second moments of the 1 ml sphere
_NEAR_MM = (10.0, 20.0)  # the shell whose median is the level of the surroundings
_AROUND_MM = (12.0, 36.0)  # the shell that says what denoising did to comparable tissue
_NEAR_STEP_MM, _AROUND_STEP_MM = 4.0, 6.0
_COMPARABLE = 2.0  # largest factor between comparable tissue and the surroundings
_FEWEST = 30  # samples of tissue
_MAD_TO_SD = 1.4826  # of normally distributed values
_UPPER, _UPPER_IN_SD = 0.95, 1.6449  # a percentile, and its place in a normal distribution
_LEAST_SPREAD = 0.02  # 1 ml means are never known better
_LEAST_LEVEL = 0.02  # of the mean of the body: lower means count as nothing
_LEAST_SURROUNDINGS = 0.05  # of the mean of the body: below, as in air, noise is not log-normal
_LEVEL_EXPONENT = -1.0 / 3.0
_APART_MM = 10.0  # between listed foci
_SLAB_VOXELS = 16_000_000
_CHUNK = 1000  # maxima that are compared at once


@dataclass(frozen=True)
class _Found:
    """Maxima that were lowered enough, as arrays: places (n, 3), means before and after, sigmas, contrast."""

    places: np.ndarray
    before: np.ndarray
    after: np.ndarray
    sigmas: np.ndarray
    above: np.ndarray  # in sigmas, over the surroundings in the original


def lowered_foci(
    original: np.ndarray,
    denoised: np.ndarray,
    geometry: Geometry,
    segments: Sequence[Segment] | None = None,
    *,
    slab_voxels: int = _SLAB_VOXELS,
) -> LoweredFoci:
    """Finds the foci of the original that denoising lowered by more than noise explains.

    A focus is listed if its 1 ml mean fell by at least LOWERED_PERCENT, by more than the limit of sigmas, and
    if it stands out from its surroundings by as many. As for SUVpeak, the sphere of 1 ml must fit into the
    image. Of foci closer than 10 mm only the most conspicuous is listed.

    Args:
        original: the scan, (z, y, x) [SUV].
        denoised: as `original`.
        geometry: their grid.
        segments: lesions on this grid, to name the foci that touch one.
        slab_voxels: size of the slabs in which the image is processed, which bounds the memory.
    """
    body = body_mask(original, geometry.spacing_zyx)
    count, parts = 0, []
    for maxima, found in _slabs(original, denoised, body, geometry.spacing_zyx, slab_voxels):
        count += maxima
        parts.append(found)
    if not count:
        return {"count": 0, "foci": [], "candidates": 0, "limit_sigmas": None}
    limit = limit_of(count)
    every = _Found(
        *(np.concatenate(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True))
    )
    listed = _most_conspicuous(every, limit, geometry.spacing_zyx)
    return {
        "count": len(listed),
        "foci": [_row(every, index, rank, geometry, segments) for rank, index in enumerate(listed[:MOST], 1)],
        "candidates": count,
        "limit_sigmas": limit,
    }


def limit_of(maxima: int, chance: float = CHANCE) -> float:
    """The height [standard deviations] above which `chance` of so many maxima of noise are expected."""
    expected = lambda u: maxima * (u**2 - 1) * math.exp(-(u**2) / 2) / 1.36
    low, high = math.sqrt(3.0), 40.0  # the expected number falls from sqrt(3) on
    if expected(low) <= chance:
        return low
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) > chance else (low, middle)
    return high


@dataclass(frozen=True)
class _Slab:
    """A part of the image: its first voxel in the image, 1 ml means before and after, and the body."""

    first: np.ndarray
    before: np.ndarray
    after: np.ndarray
    body: np.ndarray


def _slabs(
    original: np.ndarray, denoised: np.ndarray, body: np.ndarray, spacing: Sequence[float], slab_voxels: int
) -> Iterator[tuple[int, _Found]]:
    """The number of maxima and the lowered ones, slab by slab of the part of the image with the body."""
    box = bounding_box(body)
    mean = 0.0 if box is None else float(original[body].mean(dtype=np.float64))
    if box is None or mean <= 0:
        return
    shells = _shell(spacing, _NEAR_MM, _NEAR_STEP_MM), _shell(spacing, _AROUND_MM, _AROUND_STEP_MM)
    halo = [
        max(2, *(int(shell[:, axis].max(initial=0)) for shell in shells)) + math.ceil(4 * _SIGMA_MM / step)
        for axis, step in enumerate(spacing)
    ]
    wide = [
        slice(max(0, part.start - width), min(size, part.stop + width))
        for part, width, size in zip(box, halo, body.shape, strict=True)
    ]
    across = (wide[1].stop - wide[1].start) * (wide[2].stop - wide[2].start)
    thickness = max(1, slab_voxels // across - 2 * halo[0])
    for start in range(box[0].start, box[0].stop, thickness):
        stop = min(start + thickness, box[0].stop)
        region = (slice(max(0, start - halo[0]), min(body.shape[0], stop + halo[0])), wide[1], wide[2])
        first = np.array([part.start for part in region])
        before, after = (_smoothed(image[region], spacing) for image in (original, denoised))
        slab = _Slab(first, before, after, body[region])
        maxima = _local_maxima(slab.before) & slab.body & (slab.before > _LEAST_LEVEL * mean)
        maxima[: start - slab.first[0]] = False
        maxima[stop - slab.first[0] :] = False
        places = np.argwhere(maxima)
        yield len(places), _judged(original, denoised, slab, places, mean, spacing, *shells)


def _smoothed(image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Means over about 1 ml, float32."""
    sigma_xyz = [_SIGMA_MM / step for step in reversed(spacing)]
    wide = np.pad(image, [(0, max(0, 4 - size)) for size in image.shape], mode="edge")  # the filter needs 4
    smoothed = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(wide.astype(np.float32)), sigma_xyz)
    return sitk.GetArrayFromImage(smoothed)[tuple(slice(size) for size in image.shape)]


def _judged(
    original: np.ndarray,
    denoised: np.ndarray,
    slab: _Slab,
    places: np.ndarray,
    mean: float,
    spacing: Sequence[float],
    near: np.ndarray,
    around: np.ndarray,
) -> _Found:
    """The maxima of a slab that fell enough, compared with what is around them.

    `places` (n, 3) in the slab; `mean` of the body; `near` and `around`: offsets of the two shells.
    """
    in_image = places + slab.first
    reach = peak_sphere(spacing)[0].max(axis=0)
    fits = ((in_image >= reach) & (in_image < np.array(original.shape) - reach)).all(axis=1)
    fits &= slab.before[tuple(places.T)] > slab.after[tuple(places.T)]
    places, in_image = places[fits], in_image[fits]
    first, second = (_sphere_means(image, in_image, spacing) for image in (original, denoised))
    enough = (first > 0) & (100.0 * (first - second) >= LOWERED_PERCENT * first)
    places, in_image, first, second = (each[enough] for each in (places, in_image, first, second))

    least = _LEAST_LEVEL * mean
    known = (np.where(slab.body & (image > least), image, np.nan) for image in (slab.before, slab.after))
    known_before, known_after = known
    chunks = [
        _compared(slab, known_before, known_after, places[start : start + _CHUNK], least, near, around)
        for start in range(0, max(len(places), 1), _CHUNK)
    ]
    sigmas, above, level = (np.concatenate(columns) for columns in zip(*chunks, strict=True))
    judged = np.isfinite(sigmas) & (level > _LEAST_SURROUNDINGS * mean)
    return _Found(*(each[judged] for each in (in_image, first, second, sigmas, above)))


def _compared(
    slab: _Slab,
    known_before: np.ndarray,
    known_after: np.ndarray,
    places: np.ndarray,
    least: float,
    near: np.ndarray,
    around: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maxima compared with what is around them.

    Args:
        slab: the slab.
        known_before: its 1 ml means before, NaN outside the body and where they count as nothing.
        known_after: as `known_before`.
        places: (n, 3), the maxima in the slab.
        least: means up to this count as nothing [SUV].
        near: offsets of the surroundings.
        around: offsets of the tissue to compare with.

    Returns:
        for each maximum how far it fell beyond the tissue, and how far it was above its surroundings before,
        both in standard deviations, NaN with too little tissue; and the surroundings after [SUV].
    """
    own_before = slab.before[tuple(places.T)]
    own_after = np.maximum(slab.after[tuple(places.T)], least)
    near_before, near_after = (
        _median(_samples(image, places, near)) for image in (known_before, known_after)
    )
    tissue = _samples(known_after, places, around)
    samples = np.log(_samples(known_before, places, around) / tissue)
    level = tissue / near_after[:, None]
    comparable = np.where((level > 1 / _COMPARABLE) & (level < _COMPARABLE), samples, np.nan)
    few = np.isfinite(comparable).sum(axis=1) < _FEWEST
    samples = np.where(few[:, None], samples, comparable)  # without comparable tissue, all there is
    middle = _median(samples)
    spread = np.maximum(
        _MAD_TO_SD * _median(np.abs(samples - middle[:, None])),
        (_quantile(samples, _UPPER) - middle) / _UPPER_IN_SD,
    )
    spread = np.hypot(spread, _LEAST_SPREAD)
    spread *= np.maximum(own_after / near_after, 1.0) ** _LEVEL_EXPONENT
    spread[np.isfinite(samples).sum(axis=1) < _FEWEST] = np.nan
    sigmas = (np.log(own_before / own_after) - middle) / spread
    return sigmas, np.log(own_before / near_before) / spread, near_after


def _shell(spacing: Sequence[float], reach_mm: tuple[float, float], step_mm: float) -> np.ndarray:
    """Offsets (K, 3) [voxels] of a lattice of about `step_mm` between two distances, the same under flips."""
    steps = [max(1, round(step_mm / size)) for size in spacing]
    axes = [
        step * np.arange(-int(reach_mm[1] // (size * step)), int(reach_mm[1] // (size * step)) + 1)
        for size, step in zip(spacing, steps, strict=True)
    ]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.linalg.norm(offsets * np.asarray(spacing), axis=1)
    return offsets[(distance >= reach_mm[0]) & (distance <= reach_mm[1])]


def _local_maxima(image: np.ndarray) -> np.ndarray:
    """Voxels that are not below any of their 26 neighbors."""
    largest = image
    for axis in range(3):
        wider = largest.copy()
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        np.maximum(wider[tuple(behind)], largest[tuple(ahead)], out=wider[tuple(behind)])
        np.maximum(wider[tuple(ahead)], largest[tuple(behind)], out=wider[tuple(ahead)])
        largest = wider
    return image >= largest


def _samples(image: np.ndarray, places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Values (n, K) at the offsets from each place; NaN outside the image."""
    index = places[:, None, :] + offsets
    shape = np.array(image.shape)
    outside = ((index < 0) | (index >= shape)).any(axis=-1)
    z, y, x = np.moveaxis(np.clip(index, 0, shape - 1), -1, 0)
    return np.where(outside, np.nan, image[z, y, x])


def _median(values: np.ndarray) -> np.ndarray:
    """The median of each row without its NaN; NaN of a row that has nothing else."""
    ordered, last = _in_order(values)
    rows = np.arange(len(ordered))
    return (ordered[rows, last // 2] + ordered[rows, (last + 1) // 2]) / 2


def _quantile(values: np.ndarray, share: float) -> np.ndarray:
    """The value of each row at a share of its numbers in order, without its NaN."""
    ordered, last = _in_order(values)
    return ordered[np.arange(len(ordered)), np.round(share * last).astype(int)]


def _in_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row in order, NaN last, and the index of its last number (0 without any)."""
    ordered = np.sort(values, axis=1)
    return ordered, np.maximum(np.isfinite(ordered).sum(axis=1) - 1, 0)


def _sphere_means(image: np.ndarray, places: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Means over the sphere of 1 ml of SUVpeak around each place, float64 (n,)."""
    offsets, weights = peak_sphere(spacing)
    means = np.zeros(len(places))
    for offset, weight in zip(offsets, weights, strict=True):
        means += weight * image[tuple((places + offset).T)]
    return means


def _most_conspicuous(found: _Found, limit: float, spacing: Sequence[float]) -> list[int]:
    """Indices of the foci beyond the limit, most sigmas first, none near one that comes before it."""
    beyond = np.flatnonzero((found.sigmas > limit) & (found.above > limit))
    order = beyond[np.lexsort((*found.places[beyond].T, -found.sigmas[beyond]))]
    points = found.places * np.asarray(spacing)
    kept: list[int] = []
    for index in order:
        if all(np.linalg.norm(points[index] - points[other]) >= _APART_MM for other in kept):
            kept.append(int(index))
    return kept


def _row(
    found: _Found, index: int, rank: int, geometry: Geometry, segments: Sequence[Segment] | None
) -> LoweredFocus:
    place = found.places[index]
    x, y, z = (float(v) for v in (geometry.matrix @ [*place[::-1], 1.0])[:3])
    before, after = float(found.before[index]), float(found.after[index])
    return {
        "rank": rank,
        "x_mm": x,
        "y_mm": y,
        "z_mm": z,
        "slice": int(place[0]) + 1,
        "suv_before": before,
        "suv_after": after,
        "change_percent": 100.0 * (after - before) / before,
        "sigmas": float(found.sigmas[index]),
        "segment": _segment_at(place, geometry.spacing_zyx, segments or ()),
    }


def _segment_at(place: np.ndarray, spacing: Sequence[float], segments: Sequence[Segment]) -> str | None:
    """The segment with the largest share of the sphere around a place; None if none touches it."""
    offsets, weights = peak_sphere(spacing)
    largest, name = 0.0, None
    for segment in segments:
        index = place + offsets - [part.start for part in segment.box]
        within = ((index >= 0) & (index < segment.inside.shape)).all(axis=1)
        share = float(weights[within] @ segment.inside[tuple(index[within].T)])
        if share > largest:
            largest, name = share, segment.name
    return name
