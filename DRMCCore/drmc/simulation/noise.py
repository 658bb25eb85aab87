"""Measures of image noise that a real and a simulated scan share: one rule for both.

Arrays are (z, y, x) SUV, spacings (z, y, x) in mm. Nothing here knows where an image comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from drmc.imaging.smoothing import smooth

METRIC_VOXEL_MM = 1.65
METRIC_SIGMA_VOXELS = 2.0
METRIC_BODY = 0.1  # of log1p(SUV), smoothed
SPHERE_MM = 30.0
BOX_MM = 18.0  # half width of the boxes in which correlation is measured
TREND_SIGMA_MM = 12.0
POSITIONS = 40
POWER_VOXELS = 32
AXES = ("z", "y", "x")
_SPHERE_GRID_MM = 3.0  # centers on finer voxels are thinned to about this grid
_CHUNK = 256


# ---- the metric of the public low-dose study


def udpet_terms(
    suv_zyx: np.ndarray | torch.Tensor, spacing_zyx: Sequence[float], *, end_mm: float = 0.0
) -> tuple[float, float]:
    """Numerator and denominator of the noise metric of the UDPET study; those of slabs of one scan add up.

    The metric is sum |v - G(v)| / #(G(v) > 0.1) with v = log1p(SUV) on voxels of 1.65 mm. G is a Gaussian of
    2 voxels standard deviation; the image is resampled linearly. `end_mm`: what a slab carries at both axial
    ends beyond its own share, smoothed over but not counted.
    """
    volume = torch.as_tensor(suv_zyx, dtype=torch.float32)[None, None].clamp(min=0)
    size = [
        max(1, round(n * s / METRIC_VOXEL_MM)) for n, s in zip(volume.shape[2:], spacing_zyx, strict=True)
    ]
    resampled = functional.interpolate(volume, size=size, mode="trilinear", align_corners=False)[0, 0]
    values = torch.log1p(resampled)
    smoothed = smooth(values, (METRIC_SIGMA_VOXELS,) * 3)
    end = round(end_mm / METRIC_VOXEL_MM)
    inner = slice(end, values.shape[0] - end)
    difference = (values[inner] - smoothed[inner]).abs().sum(dtype=torch.float64)
    return float(difference), float((smoothed[inner] > METRIC_BODY).sum())


# ---- spheres in an organ


def eroded(mask_zyx: np.ndarray, spacing_zyx: Sequence[float], margin_mm: float) -> np.ndarray:
    """The voxels of a mask around which a sphere of radius `margin_mm` lies inside it and the array."""
    return _fits(mask_zyx, sphere_offsets(2 * margin_mm, spacing_zyx))


def sphere_offsets(diameter_mm: float, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Voxel offsets (n, 3) whose centers lie within a sphere around a voxel center."""
    reach = [int(diameter_mm / 2 / step) for step in spacing_zyx]
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    return grid[((grid * np.asarray(spacing_zyx)) ** 2).sum(1) <= (diameter_mm / 2) ** 2 + 1e-9]


def sphere_centers(
    mask_zyx: np.ndarray, spacing_zyx: Sequence[float], diameter_mm: float = SPHERE_MM
) -> np.ndarray:
    """Voxels (n, 3) around which a sphere fits inside the mask; on fine voxels on a grid of about 3 mm."""
    inside = _fits(mask_zyx, sphere_offsets(diameter_mm, spacing_zyx))
    steps = [max(1, round(_SPHERE_GRID_MM / step)) for step in spacing_zyx]
    centers = np.argwhere(inside)
    return centers[(centers % steps == 0).all(1)]


def _fits(mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where the voxels at all offsets are inside the mask: the outline of the offsets decides, row by row."""
    mask = np.asarray(mask, bool)
    fits = mask.copy()
    reach = np.abs(offsets).max(0)
    padded = np.pad(mask, [(r, r) for r in reach])
    runs = padded.copy()
    # rows along x of growing half width: every offset (z, y) needs one row of its own width
    widths: dict[int, list[tuple[int, int]]] = {}
    for z, y in np.unique(offsets[:, :2], axis=0):
        width = int(offsets[(offsets[:, 0] == z) & (offsets[:, 1] == y), 2].max())
        widths.setdefault(width, []).append((int(z), int(y)))
    nz, ny, nx = mask.shape
    for width in range(int(reach[2]) + 1):
        if width:
            runs = runs & np.roll(padded, width, 2) & np.roll(padded, -width, 2)
        for z, y in widths.get(width, []):
            z, y = z + reach[0], y + reach[1]
            fits &= runs[z : z + nz, y : y + ny, reach[2] : reach[2] + nx]
    return fits


@dataclass(frozen=True)
class SphereStatistics:
    """Coefficient of variation over the spheres of an organ; `detrended_*`: without quadratic trends."""

    spheres: int
    mean_suv: float
    median: float
    p05: float
    p95: float
    quietest: float
    detrended_median: float
    detrended_p05: float
    detrended_p95: float
    detrended_quietest: float

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-able."""
        return asdict(self)


def sphere_statistics(
    suv_zyx: np.ndarray, mask_zyx: np.ndarray, spacing_zyx: Sequence[float], diameter_mm: float = SPHERE_MM
) -> SphereStatistics | None:
    """Coefficient of variation in every sphere that fits inside the mask; None where none fits."""
    centers = sphere_centers(mask_zyx, spacing_zyx, diameter_mm)
    if not len(centers):
        return None
    offsets = sphere_offsets(diameter_mm, spacing_zyx)
    position = offsets * np.asarray(spacing_zyx) / diameter_mm
    z, y, x = position.T
    terms = np.stack([np.ones_like(z), z, y, x, z * z, y * y, x * x, z * y, z * x, y * x], 1)
    trend, _ = np.linalg.qr(terms)
    raw, detrended, means = [], [], []
    for start in range(0, len(centers), _CHUNK):
        at = centers[start : start + _CHUNK, None] + offsets
        values = np.asarray(suv_zyx)[at[..., 0], at[..., 1], at[..., 2]].astype(np.float64)
        mean = values.mean(1)
        rest = (values**2).sum(1) - ((values @ trend) ** 2).sum(1)
        means.append(mean)
        raw.append(values.std(1, ddof=1) / mean)
        detrended.append(np.sqrt(rest.clip(min=0) / max(1, len(offsets) - terms.shape[1])) / mean)
    median, p05, p95, quietest = _summary(np.concatenate(raw))
    detrended_median, detrended_p05, detrended_p95, detrended_quietest = _summary(np.concatenate(detrended))
    return SphereStatistics(
        len(centers),
        float(np.concatenate(means).mean()),
        median,
        p05,
        p95,
        quietest,
        detrended_median,
        detrended_p05,
        detrended_p95,
        detrended_quietest,
    )


def _summary(cv: np.ndarray) -> tuple[float, float, float, float]:
    """Median, 5th and 95th percentile, and minimum."""
    median, p05, p95 = (float(v) for v in np.percentile(cv, (50, 5, 95)))
    return median, p05, p95, float(cv.min())


# ---- correlation


@dataclass(frozen=True)
class Autocorrelation:
    """Mean and SD over `positions` boxes of the correlation at `lags` voxels, per axis (z, y, x)."""

    positions: int
    lags: tuple[int, ...]
    mean: dict[str, list[float]]
    sd: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-able."""
        return {**asdict(self), "lags": list(self.lags)}


def spread(centers: np.ndarray, count: int = POSITIONS) -> np.ndarray:
    """At most `count` of the centers, evenly through their order (by z, then y, then x)."""
    if len(centers) <= count:
        return centers
    return centers[np.linspace(0, len(centers) - 1, count).round().astype(int)]


def _box(center: Sequence[int], shape: Sequence[int], spacing: Sequence[float]) -> tuple[slice, ...]:
    reach = [max(1, int(BOX_MM / step)) for step in spacing]
    return tuple(
        slice(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(center, reach, shape, strict=True)
    )


def _pairs(box: np.ndarray, axis: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
    lines = np.moveaxis(box, axis, 0)
    return lines[: max(0, len(lines) - lag)], lines[lag:]


def _pearson(box: np.ndarray, axis: int, lag: int) -> float:
    """Correlation of the voxels `lag` apart; NaN beyond the box or where nothing varies."""
    first, second = (part - part.mean() if part.size else part for part in _pairs(box, axis, lag))
    size = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / size if size else math.nan


def lag_autocorrelation(
    suv_zyx: np.ndarray,
    mask_zyx: np.ndarray,
    spacing_zyx: Sequence[float],
    *,
    lags: Sequence[int] = (1, 2, 3),
    positions: int = POSITIONS,
) -> Autocorrelation | None:
    """Correlation of neighbors in boxes of +-18 mm around spheres inside the mask; None where none fits.

    A box is cut out and a Gaussian of sigma 12 mm of the box itself is subtracted (its edges repeated), so
    that nothing outside the organ takes part; the lag's correlation is Pearson's over all its pairs of
    voxels.
    """
    centers = spread(sphere_centers(mask_zyx, spacing_zyx), positions)
    if not len(centers):
        return None
    image = np.asarray(suv_zyx, np.float32)
    sigma = [TREND_SIGMA_MM / step for step in spacing_zyx]
    found = []
    for center in centers:
        box = image[_box(center, image.shape, spacing_zyx)]
        detail = (torch.from_numpy(box) - smooth(box, sigma)).double().numpy()
        found.append([[_pearson(detail, axis, lag) for lag in lags] for axis in range(3)])
    mean, sd = np.mean(found, 0), np.std(found, 0)
    by_axis = lambda table: {axis: [float(v) for v in row] for axis, row in zip(AXES, table, strict=True)}
    return Autocorrelation(len(centers), tuple(lags), by_axis(mean), by_axis(sd))


def correlation_width(
    noise_zyx: np.ndarray, mask_zyx: np.ndarray, spacing_zyx: Sequence[float]
) -> dict[str, float] | None:
    """Full width at half maximum (mm, per axis) of the autocorrelation of a pure noise image.

    None where no sphere fits inside the mask.
    `noise_zyx` holds no anatomy, such as a low-dose less a full-dose image of the same events. The mean
    correlation over boxes of +-18 mm is interpolated linearly; infinity where it stays above one half inside
    the box.
    """
    centers = spread(sphere_centers(mask_zyx, spacing_zyx))
    if not len(centers):
        return None
    noise = np.asarray(noise_zyx, np.float64)
    boxes = [noise[_box(center, noise.shape, spacing_zyx)] for center in centers]
    square = sum(float((box**2).mean()) for box in boxes)
    widths = {}
    for axis, (name, step) in enumerate(zip(AXES, spacing_zyx, strict=True)):
        before, lag = 1.0, 1
        while True:
            products = [np.multiply(*_pairs(box, axis, lag)) for box in boxes]
            if not all(product.size for product in products):
                widths[name] = math.inf
                break
            now = sum(float(product.mean()) for product in products) / square
            if now < 0.5:
                widths[name] = float(2 * (lag - 1 + (before - 0.5) / (before - now)) * step)
                break
            before, lag = now, lag + 1
    return widths


def skewness(values: np.ndarray) -> float:
    """Third standardized moment; 0 for a normal distribution, NaN without spread."""
    values = np.asarray(values, np.float64).ravel()
    if not values.size:
        return math.nan
    deviation = values - values.mean()
    sd = math.sqrt(float((deviation**2).mean()))
    return float((deviation**3).mean() / sd**3) if sd else math.nan


# ---- power spectrum


@dataclass(frozen=True)
class PowerSpectrum:
    """Radial noise power in the transverse plane relative to its maximum, at frequencies in 1/mm."""

    frequencies: list[float]
    power: list[float]

    def half_power(self) -> float:
        """Frequency (1/mm) beyond the maximum at which the power is one half; NaN where it stays above."""
        first = int(np.argmax(self.power))
        for i in range(first + 1, len(self.power)):
            if self.power[i] < 0.5:
                share = (self.power[i - 1] - 0.5) / (self.power[i - 1] - self.power[i])
                return self.frequencies[i - 1] + share * (self.frequencies[i] - self.frequencies[i - 1])
        return math.nan

    def at(self, frequency: float) -> float:
        """Relative power at a frequency in 1/mm, interpolated."""
        return float(np.interp(frequency, self.frequencies, self.power))


def noise_power(
    noise_zyx: np.ndarray, mask_zyx: np.ndarray, spacing_zyx: Sequence[float]
) -> PowerSpectrum | None:
    """Power spectrum of a pure noise image in Hann windows of 32 x 32 voxels, one per slice of the organ.

    A region lies around the middle of the organ's slice and counts where half of it, weighted by the window,
    is organ. None where no slice has one.
    """
    n = POWER_VOXELS
    window = np.hanning(n + 2)[1:-1]
    window = window[:, None] * window[None]
    total, regions = np.zeros((n, n)), 0
    masks = np.asarray(mask_zyx, bool)
    # one mean for all: a region's own would take its slow noise along
    offset = float(noise_zyx[masks].mean()) if masks.any() else 0.0
    for noise, mask in zip(np.asarray(noise_zyx, np.float64), masks, strict=True):
        if not mask.any():
            continue
        first = [round(float(c.mean())) - n // 2 for c in np.nonzero(mask)]
        if min(first) < 0 or any(f + n > size for f, size in zip(first, mask.shape, strict=True)):
            continue
        region = tuple(slice(f, f + n) for f in first)
        if (window * mask[region]).sum() < 0.5 * window.sum():
            continue
        total += np.abs(np.fft.fft2((noise[region] - offset) * window)) ** 2
        regions += 1
    if not regions:
        return None
    fy, fx = (np.fft.fftfreq(n, step) for step in spacing_zyx[1:])
    radius = np.hypot(fy[:, None], fx[None])
    width = 1 / (n * max(spacing_zyx[1:]))
    index = (radius / width).round().astype(int)
    # without frequency 0, which holds the offset; beyond the axes' Nyquist frequency only corners are left
    bins = range(1, n // 2 + 1)
    power = np.array([total[index == b].mean() for b in bins])
    frequencies = [float(radius[index == b].mean()) for b in bins]
    return PowerSpectrum(frequencies, [float(p) for p in power / power.max()])
