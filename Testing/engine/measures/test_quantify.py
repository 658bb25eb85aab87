"""Lesion numbers: published values, a brute-force oracle, invariances, the table, bias."""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.measures.bias import (
    REPEATABILITY_COEFFICIENT_PERCENT,
    lesion_bias,
    repeatability_flags,
)
from drmc.measures.lesion_files import write_lesions_csv
from drmc.measures.lesions import lesion_table, segment_statistics
from drmc.measures.rows import LESION_COLUMNS, POSITION, STAGES
from drmc.measures.suv_peak import PEAK_RADIUS_MM, peak_sphere
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine.lesion_masks import box_mask, grid
from support.engine.lesion_tables import read_lesions_csv

# ---- published values


@pytest.fixture(scope="module")
def ge_scan(data_folder: Path) -> tuple[np.ndarray, Geometry]:
    """The GE scan in SUV by its published factor, read without the project's reader."""
    slices = [
        pydicom.dcmread(path) for path in sorted((data_folder / "ge_wb_sts001" / "image").glob("*.dcm"))
    ]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    array = np.stack(
        [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
    )
    ends = [np.asarray(slices[i].ImagePositionPatient, dtype=float) for i in (0, -1)]
    row, column = (float(value) for value in slices[0].PixelSpacing)
    step = float(ends[1][2] - ends[0][2]) / (len(slices) - 1)
    return (array * 0.00024290295).astype(np.float32), grid(array.shape, (column, row, step), tuple(ends[0]))


def test_lesion_of_the_ge_scan_has_its_published_numbers(ge_scan, data_folder):
    suv, geometry = ge_scan
    segments, notices = read_segments(data_folder / "ge_wb_sts001" / "GTV_Mass_fullgrid.nii.gz", geometry)
    (segment,) = segments
    assert segment.voxels == 5095
    assert notices == []  # nominal 3.27 mm against irregular slices: still voxel for voxel
    numbers = segment_statistics(suv, segment.mask, geometry.spacing_zyx)
    assert numbers["volume_ml"] == pytest.approx(366.08, abs=0.01)
    assert numbers["suv_mean"] == pytest.approx(2.5552, abs=1e-4)
    assert numbers["suv_max"] == pytest.approx(7.9107, abs=1e-4)
    assert numbers["suv_peak"] == pytest.approx(6.078, abs=1e-3)
    assert numbers["mtv41_ml"] == pytest.approx(113.02, abs=0.01)
    assert numbers["tlg41"] == pytest.approx(469.5, abs=0.05)
    assert len(peak_sphere(geometry.spacing_zyx)[1]) == 15


@pytest.mark.parametrize(
    "spacing, partial",
    [
        ((0.7,) * 3, False),
        ((2.0,) * 3, False),
        ((3.27, 4.6875, 4.6875), False),
        ((3.27, 5.47, 5.47), True),
        ((5.0,) * 3, True),
    ],
)
def test_peak_sphere_is_one_milliliter(spacing, partial):
    assert pytest.approx(6.2035, abs=5e-5) == PEAK_RADIUS_MM
    offsets, weights = peak_sphere(spacing)
    assert weights.sum() == pytest.approx(1.0)
    voxel_ml = math.prod(spacing) / 1000
    inside = ((offsets * spacing) ** 2).sum(1) <= PEAK_RADIUS_MM**2
    assert partial == (abs(inside.sum() * voxel_ml - 1) > 0.1)
    if partial:  # the voxel in the middle lies in the sphere, and has its volume's share of 1 ml
        assert weights[(offsets == 0).all(1)] == pytest.approx(voxel_ml, rel=0.01)
        assert len(weights) > inside.sum()
    else:
        assert inside.all() and weights == pytest.approx(1 / len(weights))


# ---- oracle


@cache
def sphere_shares(spacing_zyx: tuple[float, ...]) -> dict[tuple[int, ...], float]:
    """Share of each voxel in the sphere of 1 ml.

    Whole voxels by their centers, or, where their volume is off by more than 10 %, by counting points.
    """
    radius = (3000 / (4 * math.pi)) ** (1 / 3)
    within = lambda offset: sum((o * s) ** 2 for o, s in zip(offset, spacing_zyx, strict=True)) <= radius**2
    reach = [int(radius / step) + 1 for step in spacing_zyx]
    offsets = [
        tuple(i - r for i, r in zip(index, reach, strict=True))
        for index in np.ndindex(*(2 * r + 1 for r in reach))
    ]
    whole = {offset: 1.0 for offset in offsets if within(offset)}
    if abs(len(whole) * math.prod(spacing_zyx) / 1000 - 1) <= 0.1:
        return whole
    points = [(k + 0.5) / 16 - 0.5 for k in range(16)]
    counted = {
        offset: sum(
            within([o + p for o, p in zip(offset, point, strict=True)]) for point in product(points, repeat=3)
        )
        / 16**3
        for offset in offsets
        if sum((max(0.0, abs(o) - 0.5) * s) ** 2 for o, s in zip(offset, spacing_zyx, strict=True))
        <= radius**2
    }
    return {offset: share for offset, share in counted.items() if share}


def brute_force(suv: np.ndarray, mask: np.ndarray, spacing_zyx) -> dict[str, float | None]:
    """The definitions, word by word."""
    voxels = [tuple(index) for index in np.argwhere(mask)]
    values = [float(suv[voxel]) for voxel in voxels]
    voxel_ml = math.prod(spacing_zyx) / 1000.0
    best = None
    shares = sphere_shares(tuple(spacing_zyx))
    for center in voxels:
        places = {
            tuple(c + o for c, o in zip(center, offset, strict=True)): w for offset, w in shares.items()
        }
        if any(not 0 <= p < n for place in places for p, n in zip(place, suv.shape, strict=True)):
            continue
        mean = math.fsum(w * float(suv[place]) for place, w in places.items()) / math.fsum(shares.values())
        best = mean if best is None else max(best, mean)
    largest = max(values)
    hot = [value for value in values if value >= 0.41 * largest] if largest > 0 else None
    return {
        "volume_ml": len(values) * voxel_ml,
        "suv_min": min(values),
        "suv_mean": math.fsum(values) / len(values),
        "suv_median": float(np.median(values)),
        "suv_max": largest,
        "suv_peak": best,
        "mtv41_ml": None if hot is None else len(hot) * voxel_ml,
        "tlg41": None if hot is None else math.fsum(hot) * voxel_ml,
    }


@st.composite
def lesions(draw):
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    spacing = draw(st.tuples(*[st.sampled_from([1.65, 2.0, 2.886, 3.27, 4.0, 4.6875, 7.0])] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    suv = rng.gamma(1.5, 2.0, shape).astype(np.float32) - np.float32(draw(st.sampled_from([0.0, 1.0, 40.0])))
    mask = rng.random(shape) < draw(st.sampled_from([0.05, 0.3, 1.0]))
    mask[tuple(rng.integers(0, n) for n in shape)] = True
    return suv, mask, spacing


@settings(max_examples=60, deadline=None)
@given(lesions())
def test_every_number_agrees_with_the_brute_force(lesion):
    suv, mask, spacing = lesion
    expected = brute_force(suv, mask, spacing)
    for key, value in segment_statistics(suv, mask, spacing).items():
        assert value == (
            None if expected[key] is None else pytest.approx(expected[key], rel=1e-12, abs=1e-12)
        ), key


# ---- invariances


@settings(max_examples=40, deadline=None)
@given(lesions(), st.integers(-6, 6))
def test_scaling_the_suv_scales_every_number_and_moves_no_threshold(lesion, power):
    suv, mask, spacing = lesion
    scale = 2.0**power  # exact in binary, so that the 41 % threshold meets the same voxels
    before = segment_statistics(suv, mask, spacing)
    after = segment_statistics(suv * np.float32(scale), mask, spacing)
    for key, value in before.items():
        factor = 1.0 if key in ("volume_ml", "mtv41_ml") else scale
        assert after[key] == (
            None if value is None else pytest.approx(value * factor, rel=1e-12, abs=1e-12)
        ), key


@settings(max_examples=40, deadline=None)
@given(lesions(), st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_order_and_direction_of_the_axes_change_nothing(lesion, order, steps):
    suv, mask, spacing = lesion
    turn = tuple(slice(None, None, step) for step in steps)
    turned = segment_statistics(
        suv[turn].transpose(order), mask[turn].transpose(order), [spacing[axis] for axis in order]
    )
    for key, value in segment_statistics(suv, mask, spacing).items():
        assert turned[key] == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)), key


def test_peak_may_use_voxels_outside_the_segment_but_none_outside_the_image():
    suv = np.full((9, 9, 9), 1.0, dtype=np.float32)
    suv[4, 4, 5] = 34.0  # next to the one voxel of the segment
    mask = box_mask(suv.shape, (4, 4, 4), (5, 5, 5))
    count = len(peak_sphere((2.0, 2.0, 2.0))[1])
    numbers = segment_statistics(suv, mask, (2.0, 2.0, 2.0))
    assert numbers["suv_max"] == 1.0
    assert numbers["suv_peak"] == pytest.approx(1.0 + 33.0 / count)
    assert (
        segment_statistics(suv, box_mask(suv.shape, (0, 0, 0), (1, 9, 9)), (2.0, 2.0, 2.0))["suv_peak"]
        is None
    )


# ---- refusals of numbers


def test_empty_segments_other_shapes_and_nan_are_refused():
    suv = np.ones((5, 6, 7), dtype=np.float32)
    with pytest.raises(InputError, match="empty"):
        segment_statistics(suv, np.zeros(suv.shape, dtype=bool), (2.0, 2.0, 2.0))
    with pytest.raises(InputError, match="must be equal"):
        segment_statistics(suv, np.ones((5, 6, 6), dtype=bool), (2.0, 2.0, 2.0))
    with pytest.raises(InputError, match="axes"):
        segment_statistics(suv, np.ones((6, 7), dtype=bool), (2.0, 2.0, 2.0))
    suv[2, 2, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        segment_statistics(suv, np.ones(suv.shape, dtype=bool), (2.0, 2.0, 2.0))
    with pytest.raises(InputError, match="next to it"):
        segment_statistics(suv, box_mask(suv.shape, (2, 2, 3), (3, 3, 4)), (5.0, 5.0, 5.0))


# ---- the table


def stages_of(shape=(12, 12, 12), seed=0):
    rng = np.random.default_rng(seed)
    original = rng.gamma(2.0, 1.5, shape).astype(np.float32)
    return {
        "original": original,
        "denoised": (0.9 * original).astype(np.float32),
        "reference": rng.gamma(2.0, 1.5, shape).astype(np.float32),
    }


def test_table_has_one_row_per_segment_and_stage_and_overlapping_segments_do_not_touch_each_other():
    stages = stages_of()
    shape = stages["original"].shape
    a, b = box_mask(shape, (3, 3, 3), (8, 8, 8)), box_mask(shape, (6, 6, 6), (10, 10, 10))
    geometry = grid(shape)
    rows = lesion_table("s", [Segment("a", a), Segment("b", b)], stages, geometry)
    assert [(row["segment"], row["stage"]) for row in rows] == [(s, stage) for s in "ab" for stage in STAGES]
    assert all(tuple(row) == LESION_COLUMNS for row in rows)
    alone = lesion_table("s", [Segment("b", b)], stages, geometry)
    assert rows[4:] == alone
    change = next(row for row in rows if row["stage"] == "change_percent")
    for key in ("suv_mean", "suv_max", "suv_peak", "suv_median", "tlg41"):
        assert change[key] == pytest.approx(-10.0, abs=1e-4)
    assert change["volume_ml"] == 0.0


def test_the_place_of_the_maximum_is_its_voxel_center_as_simpleitk_has_it():
    geometry = Geometry((6, 7, 8), (1.5, 2.5, 4.0), (3.0, -20.0, 11.0), (0, 1, 0, -1, 0, 0, 0, 0, 1))
    original = np.zeros(geometry.shape, np.float32)
    original[5, 6, 7] = 50.0  # hotter, but not in the segment
    original[3, 2, 4] = 9.0
    denoised = np.roll(original, 1, axis=2)
    denoised[3, 2, 6] = 8.0
    segment = Segment("a", box_mask(geometry.shape, (2, 1, 2), (5, 4, 7)))
    rows = lesion_table("s", [segment], {"original": original, "denoised": denoised}, geometry)
    places = {row["stage"]: tuple(row[key] for key in POSITION) for row in rows}
    image = geometry.to_image(original)
    assert places["original"] == pytest.approx(image.TransformIndexToPhysicalPoint((4, 2, 3)))
    assert places["denoised"] == pytest.approx(image.TransformIndexToPhysicalPoint((5, 2, 3)))
    assert places["change_percent"] == (None, None, None)


def test_stages_that_are_not_given_have_no_rows():
    stages = stages_of()
    segment = Segment("a", box_mask((12, 12, 12), (3, 3, 3), (8, 8, 8)))
    rows = lesion_table("s", [segment], {"original": stages["original"]}, grid((12, 12, 12)))
    assert [row["stage"] for row in rows] == ["original"]
    with pytest.raises(ValueError, match="unknown stages"):
        lesion_table("s", [segment], {"after": stages["original"]}, grid((12, 12, 12)))


def test_change_from_zero_or_below_is_undefined():
    zero = np.zeros((4, 4, 4), dtype=np.float32)
    segment = Segment("a", np.ones(zero.shape, dtype=bool))
    rows = lesion_table("s", [segment], {"original": zero, "denoised": zero + 1}, grid(zero.shape))
    original, _, change = rows
    assert (original["mtv41_ml"], original["tlg41"], change["suv_max"], change["suv_min"]) == (None,) * 4


def test_csv_gives_the_rows_back_to_the_last_bit(tmp_path: Path):
    stages = stages_of()
    shape = stages["original"].shape
    names = ['Mass, "left"', "Läsion\n2", "=1+1", "1;2"]
    segments = [Segment(name, box_mask(shape, (i, 3, 3), (i + 1, 4, 5 + i))) for i, name in enumerate(names)]
    rows = lesion_table("scan, 1", segments, stages, grid(shape, (1.7, 2.1, 3.3)))
    assert any(row["suv_peak"] is None for row in rows)
    path = tmp_path / "lesions.csv"
    write_lesions_csv(path, rows)
    assert read_lesions_csv(path) == rows
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == (
        "scan,segment,stage,volume_ml,suv_min,suv_mean,suv_median,suv_max,suv_peak,mtv41_ml,tlg41,"
        "suv_max_x_mm,suv_max_y_mm,suv_max_z_mm,"
        "mtv_suv25_ml,tlg_suv25,mtv_suv40_ml,tlg_suv40,mtv41_original_ml,percist_threshold,mtv_percist_ml,tlg_percist,"
        "suv_mean_interval90_low,suv_mean_interval90_high,suv_peak_interval90_low,suv_peak_interval90_high,"
        "suv_max_interval90_low,suv_max_interval90_high,interval_note,"
        "sul_mean,sul_max,sul_peak,sul_note"
    )


# ---- bias and repeatability


def row(segment, stage, mean, largest, peak):
    return {"segment": segment, "stage": stage, "suv_mean": mean, "suv_max": largest, "suv_peak": peak}


def constructed():
    return [
        row("a", "reference", 2.0, 10.0, 8.0),
        row("a", "original", 2.2, 15.0, 8.0),
        row("a", "denoised", 1.9, 9.0, 7.6),
        row("b", "reference", 4.0, 5.0, None),
        row("b", "original", 3.0, 5.5, None),
        row("b", "denoised", 4.4, 4.5, None),
        row("c", "original", 1.0, 1.0, 1.0),  # no full-dose image: counts nowhere
    ]


def test_bias_is_the_mean_over_lesions_of_the_relative_distance_to_full_dose():
    bias = lesion_bias(constructed())
    original, denoised = bias["patient"]["original"], bias["patient"]["denoised"]
    assert original["B_mean"] == pytest.approx((0.1 + 0.25) / 2)
    assert original["B_max"] == pytest.approx((0.5 + 0.1) / 2)
    assert denoised["B_mean"] == pytest.approx((0.05 + 0.1) / 2)
    assert denoised["B_max"] == pytest.approx(0.1)
    assert denoised["B_peak"] == pytest.approx(0.05)
    assert (denoised["n_mean"], denoised["n_max"], denoised["n_peak"]) == (2, 2, 1)
    signed = [entry["signed_mean"] for entry in bias["lesions"] if entry["stage"] == "original"]
    assert signed == pytest.approx([0.1, -0.25])
    assert original["signed_median_mean"] == pytest.approx(-0.075)
    spread = 1.96 * 0.35 / math.sqrt(2)
    assert original["limit_low_mean"] == pytest.approx(-0.075 - spread)
    assert original["limit_high_mean"] == pytest.approx(-0.075 + spread)
    assert denoised["limit_low_peak"] is None  # one lesion has no spread
    assert {entry["segment"] for entry in bias["lesions"]} == {"a", "b"}


def test_bias_without_a_reference_is_empty():
    rows = [one for one in constructed() if one["stage"] != "reference"]
    assert lesion_bias(rows) == {"lesions": [], "patient": {}}


def test_identical_images_have_no_bias():
    stages = stages_of()
    stages["reference"] = stages["denoised"] = stages["original"]
    segment = Segment("a", box_mask((12, 12, 12), (4, 4, 4), (7, 7, 7)))
    rows = lesion_table("s", [segment], stages, grid((12, 12, 12)))
    patient = lesion_bias(rows)["patient"]["denoised"]
    assert (patient["B_mean"], patient["B_max"], patient["B_peak"]) == (0.0, 0.0, 0.0)


def test_repeatability_flags_what_noise_alone_would_not_show():
    limits = REPEATABILITY_COEFFICIENT_PERCENT
    assert limits == {"suv_max": pytest.approx(15.512), "suv_peak": pytest.approx(6.925)}
    rows = [row("a", "change_percent", -30.0, -15.6, -6.8), row("b", "change_percent", 0.0, 15.4, 7.0)]
    flags = repeatability_flags([*rows, row("a", "original", 99.0, 99.0, 99.0)])
    found = {(flag["segment"], flag["quantity"]): flag["exceeds"] for flag in flags}
    assert found == {
        ("a", "suv_max"): True,
        ("a", "suv_peak"): False,
        ("b", "suv_max"): False,
        ("b", "suv_peak"): True,
    }
