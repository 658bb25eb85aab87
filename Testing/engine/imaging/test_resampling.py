"""A scan to the network's grid and a residual back: place, extent, noise, and what must not change a bit."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.imaging.resampling import GRID_MM, KEPT_MM, grid_positions, resample_from_grid, resample_to_grid
from hypothesis import given, settings
from hypothesis import strategies as st

ROUGH = (0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6)
"""A rotation about no axis of the scan."""

SPACINGS = (0.8, 1.18, 1.65, 1.87, 2.036, 2.4, 3.15, 4.07, 4.6875, 5.47)
"""From a brain's pixels to the coarsest whole bodies [mm]."""


def points(geometry: Geometry, indices_zyx: np.ndarray) -> np.ndarray:
    """LPS points of indices (..., 3) in (z, y, x) order, by SimpleITK's own rule."""
    scaled = np.asarray(indices_zyx)[..., ::-1] * np.asarray(geometry.spacing)
    return np.asarray(geometry.origin) + scaled @ np.reshape(geometry.direction, (3, 3)).T


def grid_of(geometry: Geometry) -> Geometry:
    return resample_to_grid(np.zeros(geometry.shape, np.float32), geometry)[1]


# ------------------------------------------------------------------------------------------------ to the grid
@pytest.mark.parametrize("spacing", [(2.01, 1.99, 2.0), (1.65, 1.65, 1.65), (2.036, 2.036, 1.6)])
def test_a_scan_on_the_grid_is_not_resampled(spacing):
    array, geometry = np.ones((5, 6, 7), np.float32), Geometry((5, 6, 7), spacing)
    assert resample_to_grid(array, geometry) == (array, geometry)


def test_each_axis_is_kept_or_comes_to_the_nearer_end():
    geometry = Geometry((20, 20, 20), (1.18, 1.87, 4.07))
    assert grid_of(geometry).spacing == (KEPT_MM[0], 1.87, GRID_MM)


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 7.0)] * 3),
)
def test_the_grid_keeps_place_extent_and_linear_images(shape, spacing):
    geometry = Geometry(shape, spacing, (5.0, -6.0, 7.0), ROUGH)
    constant, grid = resample_to_grid(np.full(shape, 1.7, np.float32), geometry)
    assert constant.dtype == np.float32 and constant.shape == grid.shape
    np.testing.assert_allclose(constant, 1.7, rtol=1e-6)
    middle = points(geometry, (np.array(shape) - 1) / 2)
    np.testing.assert_allclose(points(grid, (np.array(grid.shape) - 1) / 2), middle, atol=1e-9)
    for size, step, new_size, new_step in zip(
        shape, spacing[::-1], grid.shape, grid.spacing[::-1], strict=True
    ):
        assert new_step in (KEPT_MM[0], GRID_MM) or new_step == step
        assert KEPT_MM[0] <= new_step <= KEPT_MM[1]
        assert abs(size * step - new_size * new_step) <= new_step / 2 + 1e-9 or new_size == 1
    back = resample_from_grid(constant, grid, geometry)
    assert back.shape == shape
    np.testing.assert_allclose(back, 1.7, rtol=1e-6)

    indices = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), -1)
    slope = np.array([0.3, -0.2, 0.1])
    linear, _ = resample_to_grid((points(geometry, indices) @ slope).astype(np.float32), geometry)
    inner = tuple(slice(3, -3) for _ in range(3))
    grid_indices = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), -1)
    expected = points(grid, grid_indices) @ slope
    # The area average of a slope is the slope up to the asymmetry of its few samples.
    reach = 0.15 * GRID_MM * np.abs(slope).sum()
    np.testing.assert_allclose(linear[inner], expected[inner], atol=reach)


def test_it_is_linear_interpolation_as_simpleitk_has_it_where_the_scan_is_coarser():
    import SimpleITK as sitk

    rng = np.random.default_rng(3)
    array = rng.normal(size=(12, 14, 13)).astype(np.float32)
    geometry = Geometry(array.shape, (3.3, 2.4, 5.1), (1.0, 2.0, 3.0), ROUGH)
    ours, grid = resample_to_grid(array, geometry)
    theirs = sitk.Resample(
        geometry.to_image(array),
        grid.to_image(ours),
        sitk.Transform(),
        sitk.sitkLinear,
        0.0,
        sitk.sitkFloat32,
    )
    inner = tuple(slice(2, -2) for _ in range(3))
    np.testing.assert_allclose(ours[inner], sitk.GetArrayFromImage(theirs)[inner], atol=2e-6)


def test_anti_aliasing_keeps_the_mean_and_lets_no_pattern_fold_down():
    rng = np.random.default_rng(4)
    for step in (0.6, 1.0, 1.3):
        geometry = Geometry((48, 48, 48), (step,) * 3)
        noise = rng.normal(1.0, 1.0, geometry.shape).astype(np.float32)
        coarse, _ = resample_to_grid(noise, geometry)
        assert abs(coarse.mean() - noise.mean()) < 4 / np.sqrt(noise.size)
        # A triangle of half-width w over samples `step` apart: variance 2/3 * step / w per axis.
        expected = (2 / 3 * step / KEPT_MM[0]) ** 1.5
        assert coarse[2:-2, 2:-2, 2:-2].std() == pytest.approx(expected, rel=0.2)
    x = np.arange(300) * 0.4
    for period in (1.6, 1.75, 1.2):  # none of them is to be seen on voxels of 1.6 mm
        wave = np.broadcast_to(np.cos(2 * np.pi * x / period), (1, 1, 300)).astype(np.float32)
        folded, _ = resample_to_grid(wave, Geometry((1, 1, 300), (0.4, 2.0, 2.0)))
        assert np.abs(folded[..., 2:-2]).max() < 0.06


def test_a_false_spacing_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match="spacing"):
        resample_to_grid(np.zeros((20, 30, 30), np.float32), Geometry((20, 30, 30), (4000.0, 4000.0, 3.0)))


# ------------------------------------------------------------------------------------------------ and back
def line(size: int, step: float, rows: int = 1) -> Geometry:
    """A scan of which only the x axis is resampled."""
    return Geometry((1, rows, size), (step, GRID_MM, GRID_MM))


def matrices(size: int, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """To the grid (grid, scan), back from it, and back by linear interpolation, as matrices of one axis."""
    forward = resample_to_grid(np.eye(size, dtype=np.float32)[None], line(size, step, size))[0][0].T
    geometry = line(size, step, len(forward))
    grid = grid_of(geometry)
    # One more everywhere, so that no voxel lies away from all that is not 0.
    back = resample_from_grid(np.eye(len(forward), dtype=np.float32)[None] + 1, grid, geometry)[0].T - 1
    position = grid_positions(geometry, grid)[2]
    linear = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(len(forward))))
    return forward.astype(np.float64), back.astype(np.float64), linear


def covariance(size: int, step: float, fwhm_mm: float) -> np.ndarray:
    """White noise blurred by a Gaussian of this FWHM, variance 1."""
    distance = step * np.subtract.outer(np.arange(size), np.arange(size))
    return np.exp(-(distance**2) * 2 * np.log(2) / fwhm_mm**2)


def error(back: np.ndarray, forward: np.ndarray, noise: np.ndarray) -> float:
    """Root mean square of what is left of noise of this covariance by a perfect residual that comes back."""
    left = np.eye(len(noise)) - back @ forward
    return float(np.sqrt(np.trace(left @ noise @ left.T) / len(noise)))


@pytest.mark.parametrize("step", SPACINGS)
@pytest.mark.parametrize("extent_mm", [61.0, 62.3, 64.9])
def test_a_perfect_residual_cancels_noise_nearly_as_well_as_any_linear_way_can(step, extent_mm):
    """The oracle is the estimate of least mean square error from all samples of the axis at once."""
    size = round(extent_mm / step)
    forward, back, linear = matrices(size, step)
    noise = covariance(size, step, 4.0)
    if KEPT_MM[0] <= step <= KEPT_MM[1]:
        assert error(back, forward, noise) == 0
        return
    on_grid = forward @ noise @ forward.T
    best = noise @ forward.T @ np.linalg.inv(on_grid + 1e-6 * np.eye(len(forward)))
    assert error(back, forward, noise) < error(best, forward, noise) + 0.07
    assert error(back, forward, noise) < 0.6 * error(linear, forward, noise)
    for fwhm in (3.0, 5.0, 7.0, 9.0):  # noise that is not what it is taken to be
        noise = covariance(size, step, fwhm)
        assert error(back, forward, noise) < error(linear, forward, noise)


@pytest.mark.parametrize("step", SPACINGS)
def test_what_the_residual_gets_wrong_on_the_grid_is_not_blown_up(step):
    """White errors of variance 1 on the grid: per axis the same variance, less on voxels coarser than it."""
    _, back, _ = matrices(round(100 / step), step)
    variance = (back**2).sum(axis=1)
    assert variance[3:-3].max() < 1.6
    assert variance[3:-3].mean() < 1.25
    assert variance.max() < 3  # beyond the grid's outermost centers it is extrapolated


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 17)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 7.0)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_way_back_is_linear_and_keeps_air_and_nothing_at_exactly_zero(shape, spacing, seed):
    geometry = Geometry(shape, spacing, (5.0, -6.0, 7.0), ROUGH)
    grid = grid_of(geometry)
    rng = np.random.default_rng(seed)
    one, other = rng.uniform(1, 2, (2, *grid.shape)).astype(np.float32)
    both = resample_from_grid(2 * one - 3 * other, grid, geometry)
    parts = 2 * resample_from_grid(one, grid, geometry) - 3 * resample_from_grid(other, grid, geometry)
    np.testing.assert_allclose(both, parts, atol=2e-4)

    nothing = resample_from_grid(np.zeros(grid.shape, np.float32), grid, geometry)
    assert nothing.tobytes() == np.zeros(shape, np.float32).tobytes()
    spot = tuple(rng.integers(0, grid.shape))
    one[:] = 0
    one[spot] = 1
    back = resample_from_grid(one, grid, geometry)
    beside = [np.abs(place - at) < 1 for place, at in zip(grid_positions(geometry, grid), spot, strict=True)]
    away = np.ones(shape, bool)
    away[np.ix_(*beside)] = False
    assert back[away].tobytes() == np.zeros(int(away.sum()), np.float32).tobytes()


def test_an_axis_of_the_grid_s_own_spacing_is_left_alone():
    geometry = Geometry((12, 15, 31), (1.3, 3.1, 2.0))
    grid = grid_of(geometry)
    array = np.zeros(grid.shape, np.float32)
    array[5] = np.random.default_rng(0).uniform(1, 2, grid.shape[1:])
    back = resample_from_grid(array, grid, geometry)
    assert not np.delete(back, 5, axis=0).any() and back[5].all()


def test_nothing_is_done_on_the_grid_s_own_voxels():
    geometry = Geometry((5, 6, 7), (2.01, 1.99, 2.0))
    array = np.ones(geometry.shape, np.float32)
    assert resample_from_grid(array, grid_of(geometry), geometry) is array


@pytest.mark.parametrize("spacing", [(1.2, 1.2, 1.2), (4.07, 4.07, 5.0)])
def test_the_way_back_holds_little_but_its_result(spacing):
    geometry = Geometry(tuple(round(400 / step) for step in spacing[::-1]), spacing)
    grid = grid_of(geometry)
    array = np.ones(grid.shape, np.float32)
    tracemalloc.start()
    result = resample_from_grid(array, grid, geometry)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.nbytes + 16 * max(array[0].nbytes, result[0].nbytes)
