"""Image metrics against closed forms and a word-by-word oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drmc.measures.agreement import bland_altman
from drmc.measures.metrics import attainable_gain_db, nrmse, psnr, share_of_attainable, ssim
from drmc.measures.metrics_legacy import (
    psnr_clipped,
    psnr_legacy,
    psnr_reference_maximum,
    psnr_slices,
    ssim_legacy,
)
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 1.0, (6, 7, 8))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 30.0), st.floats(0.5, 100.0))
def test_psnr_of_a_constant_error_is_its_closed_form(error, data_range):
    reference = np.random.default_rng(0).gamma(2.0, 1.0, (4, 5, 6))
    expected = 20.0 * math.log10(data_range / error)
    assert psnr(reference + error, reference, data_range=data_range) == pytest.approx(expected, abs=1e-9)


def test_the_published_example_of_the_range():
    """0.22 SUV of RMSE is 49.5 dB with the range 66.5 and 39 dB with the range 20."""
    reference = np.zeros((3, 3, 3))
    assert psnr(reference + 0.2234, reference) == pytest.approx(39.04, abs=0.01)
    reference[1, 1, 1] = 66.5
    assert psnr_reference_maximum(reference + 0.2234, reference) == pytest.approx(49.48, abs=0.01)


def test_a_mask_leaves_the_rest_out(image):
    estimate = image.copy()
    estimate[0] += 5.0
    mask = np.ones(image.shape, dtype=bool)
    mask[0] = False
    assert psnr(estimate, image, mask=mask) == math.inf
    assert nrmse(estimate, image, mask=mask) == 0.0
    assert psnr(estimate, image, mask=~mask) == pytest.approx(20.0 * math.log10(4.0))


def test_clipping_hides_what_is_hotter_than_the_range(image):
    estimate, reference = image.copy(), image.copy()
    estimate[0, 0, 0], reference[0, 0, 0] = 60.0, 40.0
    assert psnr_clipped(estimate, reference) == math.inf
    expected = 10.0 * math.log10(400.0 * image.size / 400.0)
    assert psnr(estimate, reference) == pytest.approx(expected)


def test_legacy_psnr_is_blind_to_a_global_scale(image):
    assert psnr_legacy(3.0 * image, image) == 100.0
    noisy = image.copy()
    noisy.flat[np.argmin(image)] += 0.5 * image.max()
    expected = 10.0 * math.log10(image.size / 0.25)
    assert psnr_legacy(noisy, image) == pytest.approx(expected)


def test_slice_psnr_counts_every_slice_of_every_axis_blank_ones_too():
    reference = np.zeros((3, 4, 5))
    reference[0, 0, 0] = 2.0
    estimate = reference.copy()
    estimate[0, 1, 1] = 1.0  # 0.5 of the maximum, in one slice per axis
    errors = [10.0 * math.log10(4.0 * count) for count in (20, 15, 12)]
    assert psnr_slices(estimate, reference) == pytest.approx((sum(errors) + 9 * 100.0) / 12)


def test_nrmse_of_a_scaled_image(image):
    assert nrmse(1.1 * image, image) == pytest.approx(0.1)
    assert nrmse(0.0 * image, image) == pytest.approx(1.0)


def window_similarity(x, y, center, c1, c2, *, zeros: bool) -> float:
    """SSIM at one voxel, by the definition."""
    weights, xs, ys = [], [], []
    for offset in np.ndindex(*(11,) * x.ndim):
        place = [c + o - 5 for c, o in zip(center, offset, strict=True)]
        weight = math.exp(-0.5 * sum((o - 5) ** 2 for o in offset) / 1.5**2)
        inside = all(0 <= p < n for p, n in zip(place, x.shape, strict=True))
        if inside or zeros:
            weights.append(weight)
            xs.append(x[tuple(place)] if inside else 0.0)
            ys.append(y[tuple(place)] if inside else 0.0)
    weights, xs, ys = (np.asarray(values) for values in (weights, xs, ys))
    weights = weights / weights.sum()
    mean_x, mean_y = weights @ xs, weights @ ys
    variance_x, variance_y = weights @ (xs - mean_x) ** 2, weights @ (ys - mean_y) ** 2
    covariance = weights @ ((xs - mean_x) * (ys - mean_y))
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )


@pytest.mark.parametrize("shape", [(5, 4, 6), (1, 7, 9), (13, 2, 3)])
def test_ssim_agrees_with_its_definition(shape):
    rng = np.random.default_rng(1)
    x, y = rng.gamma(2.0, 2.0, shape), rng.gamma(2.0, 2.0, shape)
    mask = rng.random(shape) < 0.4
    voxels = [tuple(index) for index in np.argwhere(mask)]
    expected = np.mean([window_similarity(x, y, v, 0.04, 0.36, zeros=False) for v in voxels])
    assert ssim(x, y, mask=mask) == pytest.approx(expected, rel=1e-10)
    voxels = list(np.ndindex(*shape))
    expected = np.mean([window_similarity(x, y, v, 1e-4, 9e-4, zeros=True) for v in voxels])
    assert ssim_legacy(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "place", [(0, 0, 0), (7, 30, 64), (8, 99, 129), (15, 50, 60), (16, 50, 60), (19, 99, 0)]
)
def test_ssim_does_not_feel_where_the_work_is_cut(place):
    rng = np.random.default_rng(2)
    x = rng.gamma(2.0, 2.0, (20, 100, 130)).astype(np.float32)
    y = (x + rng.normal(0.0, 0.5, x.shape)).astype(np.float32)
    mask = np.zeros(x.shape, dtype=bool)
    mask[:, 50, 60] = True
    one = np.zeros(x.shape, dtype=bool)
    one[place] = True
    expected = window_similarity(x, y, place, 0.04, 0.36, zeros=False)
    assert ssim(x, y, mask=one) == pytest.approx(expected, rel=1e-6)
    column = [window_similarity(x, y, (z, 50, 60), 0.04, 0.36, zeros=False) for z in (7, 8, 15, 16)]
    mask[:] = False
    mask[[7, 8, 15, 16], 50, 60] = True
    mask[0, 0, 0] = mask[-1, -1, -1] = False
    assert ssim(x, y, mask=mask) == pytest.approx(np.mean(column), rel=1e-6)


def test_ssim_of_equal_and_of_constant_images(image):
    assert ssim(image, image) == pytest.approx(1.0, abs=1e-12)
    a, b = np.full((12, 12, 12), 3.0), np.full((12, 12, 12), 5.0)
    assert ssim(a, b) == pytest.approx((2 * 15.0 + 0.04) / (9.0 + 25.0 + 0.04))


def test_attainable_gain_is_reached_by_the_best_estimator_and_not_exceeded():
    """Low counts are a subset of the full ones: E[full | low] gains 10 log10(DRF) over the low-dose image."""
    assert attainable_gain_db(10.0) == pytest.approx(10.0)
    rng = np.random.default_rng(3)
    drf, truth = 4.0, 400.0
    low = rng.poisson(truth / drf, 400_000).astype(float)
    full = low + rng.poisson(truth * (1 - 1 / drf), low.size)
    best = low + truth * (1 - 1 / drf)
    gain = psnr(best, full) - psnr(low * drf, full)
    assert gain == pytest.approx(attainable_gain_db(drf), abs=0.05)
    assert share_of_attainable(gain, drf) == pytest.approx(1.0, abs=0.01)
    oracle = psnr(np.full(low.size, truth), full) - psnr(low * drf, full)
    assert oracle < gain  # even the truth without noise is further from the noisy full dose


def test_bland_altman_closed_form():
    agreement = bland_altman([1.0, 2.0, 3.0, 10.0])
    spread = 1.96 * math.sqrt(50.0 / 3.0)
    assert agreement == {
        "n": 4,
        "median": 2.5,
        "mean": 4.0,
        "limit_low": pytest.approx(4.0 - spread),
        "limit_high": pytest.approx(4.0 + spread),
    }
    assert bland_altman([])["mean"] is None


def test_float32_images_lose_nothing_in_the_sums():
    reference = np.full((40, 100, 100), 1000.0, dtype=np.float32)
    estimate = reference + np.float32(0.125)
    assert psnr(estimate, reference) == pytest.approx(20.0 * math.log10(20.0 / 0.125), abs=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: psnr(x, x[:-1]),
        lambda x: psnr(x, x, data_range=0.0),
        lambda x: psnr(x, x, mask=np.zeros(x.shape, dtype=bool)),
        lambda x: psnr(x, x, mask=np.ones(x.shape, dtype=np.uint8)),
        lambda x: nrmse(x, 0 * x),
        lambda x: psnr_legacy(0 * x, x),
        lambda x: ssim(x, x[:-1]),
        lambda x: attainable_gain_db(0.5),
        lambda x: share_of_attainable(1.0, 1.0),
    ],
)
def test_what_has_no_answer_is_an_error(call, image):
    with pytest.raises(ValueError):
        call(image)
