"""Measures of noise, on fields whose noise is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drmc.imaging.smoothing import FWHM_PER_SIGMA
from drmc.simulation import noise

SPACING = (3.0, 4.0, 4.0)


def field(shape, sigma_voxels=(0.0, 0.0, 0.0), seed=0) -> np.ndarray:
    """Gaussian noise of mean 0 and standard deviation 1, smoothed by a Gaussian."""
    white = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smoothed = noise.smooth(white, sigma_voxels).numpy()
    return smoothed / smoothed.std()


def ball(shape, radius_mm, spacing=SPACING) -> np.ndarray:
    grids = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    return sum(g**2 for g in grids) <= radius_mm**2


ORGAN = ball((44, 34, 34), 60.0)
"""A ball of 900 ml, with room around it."""


# ---- the public metric


def literal_metric(suv: np.ndarray) -> float:
    """The metric sum |v - G(v)| / #(G(v) > 0.1) on voxels of 1.65 mm, voxel by voxel of the definition."""
    v = np.log1p(suv.astype(np.float64))
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    kernel /= kernel.sum()
    smoothed = v
    for axis in range(3):
        padded = np.pad(smoothed, [(8, 8) if a == axis else (0, 0) for a in range(3)], mode="edge")
        smoothed = np.apply_along_axis(lambda line: np.convolve(line, kernel, "valid"), axis, padded)
    return np.abs(v - smoothed).sum() / (smoothed > 0.1).sum()


def metric(suv, spacing: tuple[float, float, float]) -> float:
    """The metric of a whole image; NaN where nothing is body."""
    numerator, denominator = noise.udpet_terms(suv, spacing)
    return numerator / denominator if denominator else math.nan


def test_the_metric_is_the_published_one():
    suv = 1.0 + 0.3 * field((20, 18, 16)).clip(-3, 3)
    suv[:, :5] = 0
    assert metric(suv, (1.65,) * 3) == pytest.approx(literal_metric(suv), rel=1e-5)


def test_slabs_add_up_to_the_whole():
    suv = np.exp(0.3 * field((60, 16, 16), (1, 1, 1)))
    whole = np.array(noise.udpet_terms(suv, (1.65,) * 3))
    end = 10  # voxels, more than the reach of the filter
    middle = noise.udpet_terms(suv[20 - end : 40 + end], (1.65,) * 3, end_mm=end * 1.65)
    first = noise.udpet_terms(
        np.pad(suv, [(end, 0), (0, 0), (0, 0)], "edge")[: 20 + 2 * end], (1.65,) * 3, end_mm=end * 1.65
    )
    last = noise.udpet_terms(
        np.pad(suv, [(0, end), (0, 0), (0, 0)], "edge")[30:], (1.65,) * 3, end_mm=end * 1.65
    )
    assert np.add(np.add(first, middle), last) == pytest.approx(whole, rel=1e-5)


def test_the_metric_counts_the_body_only_and_knows_no_negative_uptake():
    suv = np.zeros((16, 24, 24), np.float32)
    assert math.isnan(metric(suv, (1.65,) * 3))
    suv[:, 8:16, 8:16] = 2.0
    _, body = noise.udpet_terms(suv, (1.65,) * 3)
    assert 16 * 8 * 8 <= body < 16 * 16 * 16
    assert metric(suv - 1e-3, (1.65,) * 3) == pytest.approx(metric(suv, (1.65,) * 3), rel=0.01)


def test_the_metric_resamples_to_its_own_voxels():
    suv = np.exp(0.2 * field((20, 20, 20), (1, 1, 1)))
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(suv)[None, None], size=(40, 40, 40), mode="trilinear"
    )
    assert metric(suv, (3.3,) * 3) == pytest.approx(metric(fine[0, 0], (1.65,) * 3), rel=1e-4)


# ---- spheres


def test_spheres_fit_inside_the_mask_and_only_there():
    mask = ORGAN.copy()
    mask[22, 17, 17] = False
    offsets = noise.sphere_offsets(30.0, SPACING)
    wanted = np.zeros_like(mask)
    for center in np.argwhere(mask):
        at = center + offsets
        inside = ((at >= 0) & (at < mask.shape)).all()
        wanted[tuple(center)] = inside and mask[tuple(at.T)].all()
    found = np.zeros_like(mask)
    found[tuple(noise.sphere_centers(mask, SPACING).T)] = True
    assert wanted.any() and (found == wanted).all()


@pytest.mark.parametrize("margin", [4.0, 9.0])
def test_erosion_keeps_what_lies_deeper_than_the_margin(margin):
    full = np.ones((20, 20, 20), bool)  # the array's edge is an edge
    left = noise.eroded(full, (2.0, 2.0, 2.0), margin)
    depth = int(margin / 2)
    assert left[depth:-depth, depth:-depth, depth:-depth].all() and left.sum() == (20 - 2 * depth) ** 3


@pytest.mark.parametrize("cv", [0.05, 0.2])
def test_the_variation_of_known_noise_is_found(cv):
    image = 2.0 * (1 + cv * field(ORGAN.shape))
    found = noise.sphere_statistics(image, ORGAN, SPACING)
    assert found.median == pytest.approx(cv, rel=0.03) and found.detrended_median == pytest.approx(
        cv, rel=0.03
    )
    assert found.quietest < found.p05 < found.median < found.p95
    assert found.mean_suv == pytest.approx(2.0, rel=0.02)


def test_a_quadratic_trend_is_removed_and_nothing_else():
    z, y, x = np.meshgrid(*(np.arange(n) for n in ORGAN.shape), indexing="ij")
    trend = 3 + 0.02 * x - 0.01 * z + 0.001 * (y - 17) ** 2 + 0.0005 * x * z
    flat = noise.sphere_statistics(trend.astype(np.float32), ORGAN, SPACING)
    assert flat.median > 0.01 and flat.detrended_p95 < 1e-4
    noisy = noise.sphere_statistics((trend + 0.3 * field(ORGAN.shape)).astype(np.float32), ORGAN, SPACING)
    assert noisy.detrended_median * noisy.mean_suv == pytest.approx(0.3, rel=0.03)


def test_nothing_fits_into_a_small_mask():
    mask = ball(ORGAN.shape, 12.0)
    image = np.ones(ORGAN.shape, np.float32)
    assert noise.sphere_statistics(image, mask, SPACING) is None
    assert noise.lag_autocorrelation(image, mask, SPACING) is None
    assert noise.correlation_width(image, mask, SPACING) is None


# ---- correlation


def filtered_correlation(sigma_voxels: float, lag: int) -> float:
    """Of white noise under the sampled Gaussian that `smooth` applies."""
    if not sigma_voxels:
        return 0.0
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / sigma_voxels) ** 2)
    return float((kernel[lag:] * kernel[: len(kernel) - lag]).sum() / (kernel**2).sum())


def test_each_axis_has_its_own_correlation():
    sigma = (0.0, 0.6, 0.9)
    # The Gaussian of sigma 12 mm lowers every lag by the same amount within a box, as white noise shows.
    white = noise.lag_autocorrelation(2 + 0.3 * field(ORGAN.shape, seed=3), ORGAN, SPACING)
    found = noise.lag_autocorrelation(2 + 0.3 * field(ORGAN.shape, sigma, seed=4), ORGAN, SPACING)
    assert found.positions == 40 and found.lags == (1, 2, 3)
    assert max(abs(v) for axis in "zyx" for v in white.mean[axis]) < 0.06
    assert found.mean["z"][0] == pytest.approx(0.0, abs=0.07)
    for axis, width in (("y", 0.6), ("x", 0.9)):
        assert found.mean[axis][0] == pytest.approx(filtered_correlation(width, 1), abs=0.09)
    assert found.mean["x"][0] > found.mean["y"][0] + 0.2


def test_correlation_is_blind_to_scale_offset_and_a_slow_trend():
    image = field(ORGAN.shape, (0.5, 0.7, 0.7), seed=5)
    slope = np.linspace(0, 3, ORGAN.shape[2], dtype=np.float32)
    plain = noise.lag_autocorrelation(image, ORGAN, SPACING)
    changed = noise.lag_autocorrelation(5 + 2 * (image + slope * 0.1), ORGAN, SPACING)
    for axis in "zyx":
        assert changed.mean[axis] == pytest.approx(plain.mean[axis], abs=0.02)


def test_the_width_of_the_correlation_is_that_of_the_filter():
    # white noise under a Gaussian of standard deviation s correlates as a Gaussian of sqrt(2) s
    fwhm = (7.0, 9.0, 12.0)
    sigma = [f / FWHM_PER_SIGMA / s for f, s in zip(fwhm, SPACING, strict=True)]
    shape = (60, 48, 48)
    mask = ball(shape, 84.0)
    widths = noise.correlation_width(field(shape, sigma, seed=6), mask, SPACING)
    for axis, wanted in zip("zyx", fwhm, strict=True):
        assert widths[axis] == pytest.approx(wanted * math.sqrt(2), rel=0.12)


def test_a_constant_correlates_everywhere():
    widths = noise.correlation_width(np.ones(ORGAN.shape), ORGAN, SPACING)
    assert set(widths.values()) == {math.inf}


def test_skewness():
    values = np.random.default_rng(1).normal(size=200_000)
    assert noise.skewness(values) == pytest.approx(0, abs=0.02)
    # log-normal: (exp(s^2) + 2) sqrt(exp(s^2) - 1)
    s = 0.4
    wanted = (math.exp(s * s) + 2) * math.sqrt(math.exp(s * s) - 1)
    assert noise.skewness(np.exp(s * values)) == pytest.approx(wanted, rel=0.03)
    assert math.isnan(noise.skewness(np.ones(5))) and math.isnan(noise.skewness(np.array([])))


# ---- power spectrum


def test_white_noise_is_flat_and_filtered_noise_falls_as_its_filter():
    shape, spacing = (200, 48, 48), (2.0, 3.0, 3.0)
    mask = np.ones(shape, bool)
    white = noise.noise_power(field(shape, seed=7), mask, spacing)
    assert min(white.power) > 0.8 and math.isnan(white.half_power())
    fwhm = 8.0
    sigma = fwhm / FWHM_PER_SIGMA
    smooth = noise.noise_power(field(shape, (0, sigma / 3, sigma / 3), seed=7), mask, spacing)
    # power exp(-(2 pi f sigma)^2), relative to that of the lowest bin
    slope = 2 * math.pi * sigma
    wanted = math.sqrt(math.log(2) + (slope * smooth.frequencies[0]) ** 2) / slope
    assert smooth.half_power() == pytest.approx(wanted, rel=0.12)
    assert smooth.at(0.1) < 0.05 < smooth.at(wanted)


def test_power_needs_room():
    assert noise.noise_power(np.ones((4, 20, 20)), np.ones((4, 20, 20), bool), (2.0, 3.0, 3.0)) is None
    mask = np.zeros((4, 64, 64), bool)
    mask[:, 30:34, 30:34] = True
    assert noise.noise_power(np.ones((4, 64, 64)), mask, (2.0, 3.0, 3.0)) is None
