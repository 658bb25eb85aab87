"""The body mask loses no uptake, and the tiles lose nothing of the mask."""

from __future__ import annotations

import numpy as np
import pytest
from drmc.imaging.body import body_mask, fill_slices, grow
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

SPACING = (2.0, 2.0, 2.0)


def ellipsoid(shape: tuple[int, int, int], center: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii, strict=True)) < 1


def test_a_noisy_body_is_found_whole_and_air_is_left_out():
    shape = (60, 70, 80)
    body = ellipsoid(shape, (30, 35, 40), (26, 18, 28))
    lung = ellipsoid(shape, (30, 35, 40), (8, 8, 8))
    rng = np.random.default_rng(1)
    suv = np.where(lung, 0.02, np.where(body, 0.5, 0.0)) + rng.normal(0, 0.15, shape)
    mask = body_mask(suv.astype(np.float32), SPACING)
    assert mask[body].mean() > 0.999
    assert mask[lung].all(), "holes are filled"
    assert mask[~grow(body, (5, 5, 5))].mean() < 0.01


def test_both_legs_of_a_single_slice_are_body():
    shape = (1, 60, 100)
    left, right = ellipsoid(shape, (0, 30, 22), (1, 20, 15)), ellipsoid(shape, (0, 30, 78), (1, 20, 15))
    mask = body_mask(np.where(left | right, 0.4, 0.0).astype(np.float32), (3.0, 3.0, 3.0))
    assert mask[left].all() and mask[right].all()
    assert not mask[:, :, 48:52].any()


def test_a_faint_speck_in_air_is_no_body_and_an_empty_scan_has_none():
    shape = (60, 60, 60)
    suv = np.where(ellipsoid(shape, (25, 25, 25), (20, 20, 20)), 0.5, 0.0).astype(np.float32)
    suv[54:57, 54:57, 54:57] = 0.6
    assert not body_mask(suv, SPACING)[52:, 52:, 52:].any()
    assert not body_mask(np.full(shape, 0.02, np.float32), SPACING).any()


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.6, 6.0)] * 3),
    seed=st.integers(0, 2**32 - 1),
    spots=st.integers(1, 8),
)
def test_no_voxel_of_lesion_like_uptake_is_ever_lost(shape, spacing, seed, spots):
    rng = np.random.default_rng(seed)
    suv = rng.normal(0.0, 0.1, shape).astype(np.float32)
    suv[tuple(rng.integers(0, shape, (spots, 3)).T)] = rng.uniform(1.001, 30, spots)
    before = suv.copy()
    mask = body_mask(suv, spacing)
    assert mask.shape == shape and mask.dtype == bool
    assert mask[suv > 1].all()
    assert np.array_equal(suv, before)


@pytest.mark.parametrize("reach", [(0, 0, 0), (1, 2, 3), (7, 0, 5), (30, 1, 2)])
def test_grow_is_a_box_dilation(reach):
    shape = (9, 11, 13)
    mask = np.zeros(shape, bool)
    mask[4, 5, 6] = mask[0, 0, 12] = True
    expected = np.zeros(shape, bool)
    for point in ((4, 5, 6), (0, 0, 12)):
        expected[tuple(slice(max(0, p - r), p + r + 1) for p, r in zip(point, reach, strict=True))] = True
    assert np.array_equal(grow(mask, reach), expected)


@pytest.mark.parametrize("background", [0.6, 0.2, 0.06])
def test_arms_are_body_whatever_the_tracer_leaves_there(background):
    """A trunk with a hot organ between two arms, in noisy air; muscle takes up little of some tracers."""
    z, y, x = np.ogrid[:30, :50, :120]
    trunk = ((y - 25) / 18.0) ** 2 + ((x - 60) / 30.0) ** 2 + 0 * z < 1
    arms = np.minimum((x - 12) ** 2, (x - 108) ** 2) + (y - 25) ** 2 + 0 * z < 8**2
    suv = np.where(trunk, 1.3 * background, 0.0) + np.where(arms, background, 0.0)
    suv[8:20, 18:32, 48:62] = 12.0
    suv = (suv + np.abs(np.random.default_rng(1).normal(0, 0.004, suv.shape))).astype(np.float32)
    mask = body_mask(suv, (4.0, 4.0, 4.0))
    assert mask[trunk].all() and mask[arms].mean() > 0.97
    away = ((y - 25) / 23.0) ** 2 + ((x - 60) / 58.0) ** 2 + 0 * z > 1
    assert not mask[away].any()


def test_air_alone_is_no_body():
    air = np.abs(np.random.default_rng(2).normal(0, 0.005, (20, 40, 40))).astype(np.float32)
    assert not body_mask(air, (3.0, 4.0, 4.0)).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 8), (5, 12, 7), (40, 6, 30)])
def test_holes_of_each_slice_are_filled_and_what_leads_to_an_edge_of_it_is_not(shape):
    mask = np.random.default_rng(1).random(shape) < 0.6
    expected = [ndimage.binary_fill_holes(slice_yx) for slice_yx in mask]
    assert np.array_equal(fill_slices(mask), expected)
    box = np.ones((3, 5, 5), bool)
    box[:, 2, 2] = False  # a hole of each slice, and a tunnel through all
    assert fill_slices(box).all()
