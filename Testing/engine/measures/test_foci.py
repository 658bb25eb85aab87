"""Foci lowered by more than noise explains: found at their place, on any grid, and not among noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drmc.imaging.geometry import Geometry
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.measures import foci
from drmc.measures.foci import MOST, limit_of, lowered_foci
from drmc.measures.rows import LOWERED_PERCENT
from drmc.measures.spots import Spot, spots_image
from drmc.measures.suv_peak import suv_peak
from drmc.segments.segment import Segment

SPACING = (3.0, 2.5, 2.5)
SHAPE = (60, 70, 80)
GRID = Geometry(SHAPE, SPACING[::-1], (-90.0, -80.0, 400.0))
PLACE = (30, 35, 30)


def blur(image: np.ndarray, fwhm_mm: float, spacing=SPACING) -> np.ndarray:
    return smooth(image, [fwhm_mm / FWHM_PER_SIGMA / step for step in spacing]).numpy()


def tissue(shape=SHAPE, spacing=SPACING) -> np.ndarray:
    """A cylinder of SUV 1 with a hot organ, in air."""
    z, y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True))
    inside = (y[:, None] / 80.0) ** 2 + (x[None] / 92.0) ** 2 < 1
    suv = np.where(inside, 1.0, 0.0)[None] * np.ones((len(z), 1, 1))
    organ = np.abs(z[:, None, None] - 50) + np.abs(y[:, None]) + np.abs(x - 45) < 30
    suv[organ] = 5.0
    return blur(suv.astype(np.float32), 6.0, spacing)


def noise(seed: int, relative: float, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    """Noise of 6 mm FWHM to multiply an image with: proportional to uptake, skewed like that of OSEM."""
    rough = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    rough = blur(rough, 6.0, spacing)
    return np.exp(relative * rough / rough.std()).astype(np.float32)


def spot(peak: float, diameter: float = 12.0, place=PLACE, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    return spots_image([Spot(place, diameter, peak)], shape, spacing, 6.0)


def world(place, grid: Geometry = GRID) -> np.ndarray:
    return (grid.matrix @ [*reversed(place), 1.0])[:3]


def position(focus) -> np.ndarray:
    return np.array([focus[f"{axis}_mm"] for axis in "xyz"])


@pytest.mark.parametrize("relative", [0.15, 0.4])
def test_what_a_filter_does_to_noise_alone_is_hardly_ever_listed(relative):
    counts = []
    for seed in range(6):
        scan = tissue() * noise(seed, relative)
        found = lowered_foci(scan, blur(scan, 8.0), GRID)
        assert found["candidates"] > 200 and found["limit_sigmas"] > 3.5
        counts.append(found["count"])
    # The limit allows half a focus a scan for log-normal noise; noise that is skewed more gives some more.
    assert sum(counts) <= 12 and max(counts) <= 3, counts


def test_without_the_limit_regression_to_the_mean_would_fill_the_list(monkeypatch):
    scan = tissue() * noise(0, 0.4)
    monkeypatch.setattr(foci, "limit_of", lambda maxima: 0.0)
    assert lowered_foci(scan, blur(scan, 8.0), GRID)["count"] > 60


def test_a_wiped_out_spot_is_found_at_its_place_with_its_numbers():
    factor = noise(1, 0.1)
    scan = (tissue() + spot(3.0)) * factor
    denoised = blur(tissue() * factor, 7.0)  # as if the spot had never been there
    lesion = Segment("Node", spot(3.0) > 1.0)
    elsewhere = Segment("Elsewhere", spot(1.0, place=(10, 20, 20)) > 0.5)
    found = lowered_foci(scan, denoised, GRID, [elsewhere, lesion])
    first = found["foci"][0]
    assert np.linalg.norm(position(first) - world(PLACE)) <= 4.0
    assert first["rank"] == 1 and abs(first["slice"] - 1 - PLACE[0]) <= 1 and first["segment"] == "Node"
    assert first["sigmas"] > found["limit_sigmas"]
    peak = suv_peak(scan, lesion, SPACING)
    assert first["suv_before"] == pytest.approx(peak, rel=0.05) and first["suv_after"] < 0.6 * peak
    change = 100 * (first["suv_after"] / first["suv_before"] - 1)
    assert first["change_percent"] == pytest.approx(change)
    assert found["count"] == len(found["foci"]) <= 2


def test_a_spot_that_stays_is_not_listed_nor_one_that_noise_explains():
    factor = noise(2, 0.1)
    scan = (tissue() + spot(3.0)) * factor
    kept = blur(tissue() * factor, 7.0) + spot(3.0)
    near = lambda found: [f for f in found["foci"] if np.linalg.norm(position(f) - world(PLACE)) < 15]
    assert near(lowered_foci(scan, kept, GRID)) == []
    # The same loss of a faint spot is beyond the noise of a good scan, and within that of a poor one.
    for relative, listed in ((0.05, True), (0.6, False)):
        factor = noise(3, relative)
        faint = (tissue() + spot(0.7)) * factor
        assert bool(near(lowered_foci(faint, blur(tissue() * factor, 9.0), GRID))) == listed


def test_nothing_changed_or_no_body_is_no_list():
    scan = (tissue() + spot(3.0)) * noise(4, 0.2)
    same = lowered_foci(scan, scan.copy(), GRID)
    assert (same["count"], same["foci"]) == (0, []) and same["candidates"] > 0
    empty = np.zeros(SHAPE, np.float32)
    assert lowered_foci(empty, empty, GRID) == {"count": 0, "foci": [], "candidates": 0, "limit_sigmas": None}
    tiny = np.ones((2, 3, 3), np.float32)
    assert lowered_foci(tiny, 0.5 * tiny, Geometry((2, 3, 3), (4.0, 4.0, 4.0)))["count"] == 0
    # A fall of less than the bound is none, however certain.
    sure = tissue() + spot(3.0)
    found = lowered_foci(sure, sure - 0.09 * spot(3.0), GRID)
    assert found["count"] == 0 and LOWERED_PERCENT == 15


def test_a_wiped_spot_in_an_image_that_is_unchanged_elsewhere_is_listed():
    scan = tissue() * noise(5, 0.1)
    found = lowered_foci(scan + spot(2.0), scan, GRID)
    assert found["count"] == 1 and np.linalg.norm(position(found["foci"][0]) - world(PLACE)) <= 4.0
    assert math.isfinite(found["foci"][0]["sigmas"])


def test_the_list_is_the_same_for_any_order_and_direction_of_the_axes():
    factor = noise(6, 0.1)
    scan = (tissue() + spot(3.0) + spot(2.0, place=(15, 30, 50))) * factor
    denoised = blur(tissue() * factor, 7.0)
    expected = lowered_foci(scan, denoised, GRID)
    assert expected["count"] >= 2
    z, y, x = SPACING
    # Array axes become (x, -z, y); the directions say where they point.
    turn = lambda image: np.ascontiguousarray(image.transpose(2, 0, 1)[:, ::-1])
    origin = world((SHAPE[0] - 1, 0, 0))
    direction = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float)  # columns: y, -z, x
    grid = Geometry((SHAPE[2], SHAPE[0], SHAPE[1]), (y, z, x), tuple(origin), tuple(direction.ravel()))
    turned = lowered_foci(turn(scan), turn(denoised), grid)
    assert turned["count"] == expected["count"] and turned["limit_sigmas"] == expected["limit_sigmas"]
    for one, other in zip(expected["foci"], turned["foci"], strict=True):
        assert position(one) == pytest.approx(position(other), abs=1e-6)
        assert one["suv_before"] == pytest.approx(other["suv_before"], rel=1e-5)
        assert one["sigmas"] == pytest.approx(other["sigmas"], rel=0.02)


@pytest.mark.parametrize("spacing", [(1.6, 4.4, 4.4), (5.0, 2.0, 2.0), (1.5, 1.5, 1.5)], ids=str)
def test_anisotropic_and_small_voxels_find_the_same_spot(spacing):
    shape = tuple(round(110 / step) for step in spacing)
    place = tuple(n // 2 for n in shape)
    grid = Geometry(shape, spacing[::-1])
    factor = noise(7, 0.1, shape, spacing)
    added = spot(3.0, place=place, shape=shape, spacing=spacing)
    scan, denoised = (1 + added) * factor, blur(factor, 7.0, spacing)
    found = lowered_foci(scan, denoised, grid)
    assert 1 <= found["count"] <= 2
    assert np.linalg.norm(position(found["foci"][0]) - world(place, grid)) <= max(spacing) + 1


def test_slabs_do_not_change_the_list():
    factor = noise(8, 0.1)
    scan, denoised = (tissue() + spot(3.0)) * factor, blur(tissue() * factor, 7.0)
    whole = lowered_foci(scan, denoised, GRID)
    assert whole["count"] >= 1
    assert lowered_foci(scan, denoised, GRID, slab_voxels=1) == whole
    assert lowered_foci(scan, denoised, GRID, slab_voxels=50 * 80 * 90) == whole


def test_at_most_twenty_are_listed_the_most_conspicuous_first():
    places = [(z, y, x) for z in range(8, 56, 8) for y in (25, 35, 45) for x in (20, 32)]
    factor = noise(9, 0.03)
    spots = sum(spot(2.0 + 0.02 * i, 8.0, place) for i, place in enumerate(places))
    found = lowered_foci((tissue() + spots) * factor, tissue() * blur(factor, 7.0), GRID)
    assert found["count"] >= 30 and len(found["foci"]) == MOST == 20
    sigmas = [focus["sigmas"] for focus in found["foci"]]
    assert sigmas == sorted(sigmas, reverse=True) and [f["rank"] for f in found["foci"]] == [*range(1, 21)]
    points = np.array([position(focus) for focus in found["foci"]])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert apart[~np.eye(20, dtype=bool)].min() >= 10


def test_the_limit_is_that_of_the_maxima_of_a_gaussian_random_field():
    # One in two scans has a maximum of noise above it: counted in fields with a Gaussian correlation.
    shape, sigma, above, maxima = (48, 48, 48), 1.5, 0, []
    rng = np.random.default_rng(10)
    for _ in range(30):
        field = smooth(rng.normal(0, 1, shape).astype(np.float32), [sigma] * 3).numpy()[6:-6, 6:-6, 6:-6]
        field = (field - field.mean()) / field.std()
        core = field[1:-1, 1:-1, 1:-1]
        peaks = np.ones(core.shape, bool)
        for shift in np.ndindex(3, 3, 3):
            if shift != (1, 1, 1):
                peaks &= core > field[tuple(slice(s, s + n) for s, n in zip(shift, core.shape, strict=True))]
        maxima.append(int(peaks.sum()))
        above += int((core[peaks] > limit_of(maxima[-1], chance=2.0)).sum())
    assert 30 <= above <= 90, (above, maxima)  # 60 are expected
    assert limit_of(5000) > limit_of(500) > limit_of(5) > 1
