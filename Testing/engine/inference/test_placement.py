"""Tiles cover the whole body, overlap, and are few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drmc.imaging.body import grow, tile_region
from drmc.inference.placement import place_tiles
from hypothesis import given, settings
from hypothesis import strategies as st


def ellipsoid(shape: tuple[int, int, int], center: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii, strict=True)) < 1


def covered(starts: np.ndarray, tile: int, shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, bool)
    for start in starts:
        found[tile_region(start, tile, shape)] = True
    return found


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 50)] * 3),
    tile=st.sampled_from([7, 12, 16, 20, 32, 34]),
    margin=st.integers(0, 3),
    overlap=st.integers(0, 6),
    density=st.sampled_from([0.0, 0.0005, 0.01, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_cover_every_voxel_of_any_mask_and_hold_some_of_it(shape, tile, margin, overlap, density, seed):
    mask = grow(np.random.default_rng(seed).random(shape) < density, (1, 1, 1))
    starts = place_tiles(mask, tile, min(overlap, tile // 2), margin)
    assert covered(starts, tile, shape)[mask].all()
    assert all(mask[tile_region(start, tile, shape)].any() for start in starts)
    assert len(np.unique(starts, axis=0)) == len(starts)
    for start, size in zip(starts.T, shape, strict=True):
        if size >= tile:
            assert np.all((start >= 0) & (start + tile <= size))
        else:
            assert np.all(start == -((tile - size) // 2))


@pytest.mark.parametrize("tile", [1, 2, 3, 4, 12, 32])
def test_tiles_may_overlap_by_half(tile):
    mask = np.random.default_rng(2).random((tile, 2 * tile + 1, 3 * tile)) < 0.9
    assert covered(place_tiles(mask, tile, tile // 2), tile, mask.shape)[mask].all()


@pytest.mark.parametrize(("length", "tiles"), [(64, 1), (65, 2), (112, 2), (113, 3), (300, 6)])
def test_neighbors_overlap_by_a_quarter_with_as_few_tiles_as_that_takes(length, tiles):
    starts = place_tiles(np.ones((length, 1, 1), bool), 64, 16)[:, 0]
    assert len(starts) == tiles
    assert starts[0] == 0 and starts[-1] + 64 == length
    assert all(step <= 48 for step in np.diff(starts))


def test_a_caller_that_changes_the_tiles_of_a_scan_changes_no_others():
    mask = np.zeros((40, 20, 30), bool)
    mask[5:35, 2:8, 3:29] = True
    first = place_tiles(mask, 12, 3)
    kept = first.copy()
    first += 1
    assert (place_tiles(mask, 12, 3) == kept).all()
    other = mask.reshape(20, 40, 30)  # the same bits in another shape
    assert covered(place_tiles(other, 12, 3), 12, other.shape)[other].all()


def test_tiles_follow_the_body_and_not_its_bounding_box():
    shape = (160, 150, 150)
    trunk = ellipsoid(shape, (110, 75, 75), (50, 40, 60))
    legs = ellipsoid(shape, (30, 75, 30), (40, 20, 20)) | ellipsoid(shape, (30, 75, 120), (40, 20, 20))
    starts = place_tiles(trunk | legs, 32, 8)
    regular = math.prod(math.ceil((size - 8) / 24) for size in shape)
    assert covered(starts, 32, shape)[trunk | legs].all()
    assert len(starts) < 0.5 * regular
