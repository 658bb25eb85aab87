"""The fraction of small faint foci that a denoiser preserves in a given scan, measured with virtual spots.

A spot is a ball of uptake as the scanner would show it: convolved with a Gaussian of the image's resolution,
scaled to its nominal peak, and added to the scan. The scan is denoised without and with the spots; the
difference of the two results is what remains of them. For comparison, a Gaussian filter that leaves the same
noise: it is linear, so that its difference is the smoothed spots. A real focus adds noise, a virtual spot
does not.

Arrays (z, y, x) SUV, spacings (z, y, x) in mm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from drmc.errors import InputError
from drmc.imaging.body import body_mask
from drmc.imaging.smoothing import FWHM_PER_SIGMA, noise_level, smooth
from drmc.measures.rows import LEAST_KEPT, SpotKept, SpotRow, SpotsNoise
from drmc.measures.suv_peak import PEAK_RADIUS_MM, peak_sphere
from drmc.runtime.control import Cancel, raise_if_canceled

DIAMETERS_MM = (7.0, 10.0, 14.0)
PEAKS_SUV = (1.0, 2.0, 4.0)
RESOLUTION_MM = 6.0  # FWHM of the image, that of a common clinical reconstruction
APART_MM = 40.0
DEPTH_MM = 14.0  # of a spot's center in the body
_MOST_SUV = 4.0  # of the smoothed surroundings: nobody looks for a faint spot in brain, bladder or heart
_SMOOTHED_MM = 12.0
_REACH_MM = 3.0  # beyond the ball, within which a shifted peak still belongs to the spot
_WIDEST_MM = 40.0
_CANDIDATES = 20000
_NO_PLACE = (
    f"no place for a spot: nothing in the body is {DEPTH_MM:g} mm deep with uptake below SUV "
    f"{_MOST_SUV:g}: use a scan of a larger part of the body"
)

Denoise = Callable[[np.ndarray], np.ndarray]


class NoSpotFitsError(InputError):
    """No virtual spot fits into an image."""


@dataclass(frozen=True)
class Spot:
    """One virtual spot: its center's voxel (z, y, x), the ball's diameter in mm, and its peak in SUV."""

    center: tuple[int, int, int]
    diameter_mm: float
    peak_suv: float


def blurred_ball(distance_mm: np.ndarray, diameter_mm: float, resolution_mm: float) -> np.ndarray:
    """A ball of uptake convolved with a Gaussian, at distances from its center, divided by its peak.

    With R the radius and s the standard deviation of the Gaussian, the value at r is

        (erf((R - r) / (sqrt(2) s)) + erf((R + r) / (sqrt(2) s))) / 2
        - s / (r sqrt(2 pi)) (exp(-(R - r)^2 / 2 s^2) - exp(-(R + r)^2 / 2 s^2)).

    Args:
        distance_mm: distances from the center, of any shape.
        diameter_mm: diameter of the ball.
        resolution_mm: FWHM of the Gaussian.
    """
    radius, sigma = diameter_mm / 2, resolution_mm / FWHM_PER_SIGMA
    erf = lambda x: torch.erf(torch.from_numpy(np.asarray(x / (math.sqrt(2) * sigma)))).numpy()
    bell = lambda x: np.exp(-(x**2) / (2 * sigma**2))

    def value(r: np.ndarray) -> np.ndarray:
        edges = (erf(radius - r) + erf(radius + r)) / 2
        return edges - sigma / (r * math.sqrt(2 * math.pi)) * (bell(radius - r) - bell(radius + r))

    least = 1e-3 * sigma  # the limit at 0, to the square of this
    return value(np.maximum(np.asarray(distance_mm, np.float64), least)) / value(np.array(least))


def plan_spots(
    suv_zyx: np.ndarray,
    spacing_zyx: Sequence[float],
    *,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    peaks_suv: Sequence[float] = PEAKS_SUV,
    seed: int = 0,
) -> list[Spot]:
    """As many spots as fit: APART_MM from each other, DEPTH_MM inside the body, where uptake is not high.

    Args:
        suv_zyx: the scan, (z, y, x) [SUV].
        spacing_zyx: voxel spacing [mm].
        diameters_mm: diameters, used in turn.
        peaks_suv: peaks, used in turn with every diameter.
        seed: determines the order of the places.

    Returns:
        the spots, at least one.

    Raises:
        NoSpotFitsError: none fits.
    """
    spacing = np.asarray(spacing_zyx, np.float64)
    body = body_mask(suv_zyx, spacing_zyx)
    if not body.any():
        raise NoSpotFitsError(_NO_PLACE)
    image = sitk.GetImageFromArray(np.pad(body, 1).astype(np.uint8))
    image.SetSpacing([float(v) for v in spacing[::-1]])
    depth = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    depth = sitk.GetArrayFromImage(depth)[1:-1, 1:-1, 1:-1]
    quiet = smooth(suv_zyx, (_SMOOTHED_MM / FWHM_PER_SIGMA / spacing).tolist()).numpy() < _MOST_SUV
    # Whole spots only: the ends of the image cut them like the skin.
    reach = np.ceil((max(diameters_mm) / 2 + _REACH_MM + PEAK_RADIUS_MM) / spacing).astype(int)
    inner = np.zeros_like(body)
    inner[tuple(slice(r, n - r) for r, n in zip(reach, body.shape, strict=True))] = True

    rng = np.random.default_rng(seed)
    places = np.argwhere(inner & quiet & (depth >= DEPTH_MM))
    left = places[rng.permutation(len(places))[:_CANDIDATES]]
    kinds = [(diameter, peak) for diameter in diameters_mm for peak in peaks_suv]
    spots: list[Spot] = []
    while len(left):
        z, y, x = (int(v) for v in left[0])
        spots.append(Spot((z, y, x), *kinds[len(spots) % len(kinds)]))
        left = left[np.linalg.norm((left - left[0]) * spacing, axis=1) >= APART_MM]
    if not spots:
        raise NoSpotFitsError(_NO_PLACE)
    return spots


def spots_image(
    spots: Sequence[Spot],
    shape_zyx: Sequence[int],
    spacing_zyx: Sequence[float],
    resolution_mm: float,
    cancel: Cancel | None = None,
) -> np.ndarray:
    """The spots without the scan, float32 SUV (z, y, x). Raises CanceledError if `cancel` returns True."""
    image, spacing = np.zeros(shape_zyx, np.float32), np.asarray(spacing_zyx, np.float64)
    for spot in spots:
        raise_if_canceled(cancel)
        box, distance = distances_around(
            spot.center, shape_zyx, spacing, spot.diameter_mm / 2 + 2 * resolution_mm
        )
        image[box] += (spot.peak_suv * blurred_ball(distance, spot.diameter_mm, resolution_mm)).astype(
            np.float32
        )
    return image


def distances_around(
    center: Sequence[int], shape_zyx: Sequence[int], spacing: np.ndarray, reach_mm: float
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box around a voxel, within the image, and the distances [mm] of its voxels from that one.

    Args:
        center: the voxel (z, y, x).
        shape_zyx: shape of the image.
        spacing: voxel spacing (z, y, x) [mm].
        reach_mm: half the edge of the box.
    """
    reach = np.ceil(reach_mm / spacing).astype(int)
    box = tuple(
        slice(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(center, reach, shape_zyx, strict=True)
    )
    axes = [(np.arange(b.start, b.stop) - c) * step for b, c, step in zip(box, center, spacing, strict=True)]
    z, y, x = (axis**2 for axis in axes)
    return box, np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None])


@dataclass(frozen=True)
class SpotsFound:
    """What denoising keeps of every virtual spot of one image.

    Attributes:
        each: one record for each spot, in their order.
        noise: of the image and of the denoised image [SUV].
        gaussian_fwhm_mm: of the Gaussian filter that leaves the same noise; None if no filter does.
    """

    each: list[SpotKept]
    noise: SpotsNoise
    gaussian_fwhm_mm: float | None

    def rows(self) -> list[SpotRow]:
        """One row for each diameter and peak."""
        return spot_rows(self.each)


def measure_spots(
    suv_zyx: np.ndarray,
    spacing_zyx: Sequence[float],
    denoise: Denoise,
    spots: Sequence[Spot] | None = None,
    *,
    resolution_mm: float = RESOLUTION_MM,
    denoised_zyx: np.ndarray | None = None,
    cancel: Cancel | None = None,
) -> SpotsFound:
    """Denoises an image with and without spots, and measures what remains of the spots.

    Args:
        suv_zyx: the scan, (z, y, x) [SUV].
        spacing_zyx: voxel spacing [mm].
        denoise: denoises an image in SUV.
        spots: of `plan_spots`; None: those of seed 0.
        resolution_mm: FWHM of the image's resolution.
        denoised_zyx: the denoised scan without spots, if it is known already.
        cancel: called between the steps; True stops.

    Raises:
        NoSpotFitsError: no spot is given, and none fits.
        CanceledError: `cancel` returned True.
    """
    spots = plan_spots(suv_zyx, spacing_zyx) if spots is None else spots
    added = spots_image(spots, suv_zyx.shape, spacing_zyx, resolution_mm, cancel)
    without = denoise(suv_zyx) if denoised_zyx is None else denoised_zyx
    remaining = denoise(suv_zyx + added) - without
    raise_if_canceled(cancel)
    body = body_mask(suv_zyx, spacing_zyx)
    noise: SpotsNoise = {
        "scan": noise_level(suv_zyx, body, spacing_zyx),
        "denoised": noise_level(without, body, spacing_zyx),
    }
    width = _gaussian_of_noise(suv_zyx, body, spacing_zyx, noise, cancel)
    smoothed = None if width is None else smooth(added, _sigma(width, spacing_zyx)).numpy()
    each: list[SpotKept] = []
    for spot in spots:
        mean, peak = _kept(spot, remaining, added, spacing_zyx)
        gaussian = (None, None) if smoothed is None else _kept(spot, smoothed, added, spacing_zyx)
        each.append(
            {
                "diameter_mm": spot.diameter_mm,
                "peak_suv": spot.peak_suv,
                "mean_kept": mean,
                "peak_kept": peak,
                "gaussian_mean_kept": gaussian[0],
                "gaussian_peak_kept": gaussian[1],
            }
        )
    return SpotsFound(each, noise, width)


def spot_rows(each: Sequence[SpotKept]) -> list[SpotRow]:
    """Means over the spots of one diameter and peak, of one image or of several: every spot counts alike."""
    rows: list[SpotRow] = []
    for diameter, peak in sorted({(spot["diameter_mm"], spot["peak_suv"]) for spot in each}):
        mine = [spot for spot in each if (spot["diameter_mm"], spot["peak_suv"]) == (diameter, peak)]
        shares = [spot["mean_kept"] for spot in mine]
        share = float(np.mean(shares))
        rows.append(
            {
                "diameter_mm": diameter,
                "peak_suv": peak,
                "spots": len(mine),
                "mean_kept": share,
                "mean_kept_low": float(np.quantile(shares, 0.1)),
                "peak_kept": float(np.mean([spot["peak_kept"] for spot in mine])),
                "gaussian_mean_kept": _mean([spot["gaussian_mean_kept"] for spot in mine]),
                "gaussian_peak_kept": _mean([spot["gaussian_peak_kept"] for spot in mine]),
                "warning": share < LEAST_KEPT,
            }
        )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _kept(
    spot: Spot, remaining: np.ndarray, added: np.ndarray, spacing_zyx: Sequence[float]
) -> tuple[float, float]:
    """Fractions of the mean over 1 ml and of the peak that remain of a spot."""
    offsets, weights = peak_sphere(spacing_zyx)
    places = tuple((offsets + spot.center).T)
    box, distance = distances_around(
        spot.center, added.shape, np.asarray(spacing_zyx, np.float64), spot.diameter_mm / 2 + _REACH_MM
    )
    near = distance <= spot.diameter_mm / 2 + _REACH_MM
    return (
        float(weights @ remaining[places] / (weights @ added[places])),
        float(remaining[box][near].max() / added[box][near].max()),
    )


def _gaussian_of_noise(
    suv_zyx: np.ndarray,
    body: np.ndarray,
    spacing_zyx: Sequence[float],
    noise: SpotsNoise,
    cancel: Cancel | None,
) -> float | None:
    """FWHM [mm] of the Gaussian filter that leaves the same noise, to 0.1 mm; None if no width does."""
    level = lambda fwhm: noise_level(smooth(suv_zyx, _sigma(fwhm, spacing_zyx)).numpy(), body, spacing_zyx)
    low, high = 0.0, _WIDEST_MM
    if noise["denoised"] >= noise["scan"]:
        return 0.0
    if level(high) > noise["denoised"]:
        return None
    while high - low > 0.1:
        raise_if_canceled(cancel)
        middle = (low + high) / 2
        low, high = (middle, high) if level(middle) > noise["denoised"] else (low, middle)
    return round(high, 1)


def _sigma(fwhm_mm: float, spacing_zyx: Sequence[float]) -> list[float]:
    return [fwhm_mm / FWHM_PER_SIGMA / step for step in spacing_zyx]
