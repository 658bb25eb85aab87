"""Intervals of what full dose would have shown: calibration, coverage, and where none is stated."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.measures.intervals import (
    Calibration,
    CalibrationLesion,
    calibrate,
    calibration_lesions,
    coverage,
    state_intervals,
)
from drmc.measures.lesion_features import FEATURES, METRICS, KnownLesion, UndefinedError, known_lesion
from drmc.measures.lesions import lesion_table
from drmc.measures.rows import INTERVAL_BOUNDS, INTERVAL_OF
from drmc.segments.segment import Segment
from support.engine.denoising_cases import GRID, lesion_mask, suv_image
from support.engine.interval_cases import drawn_calibration, drawn_lesions

SUV = {"type": "SUVbw", "facts": {}}
SPACING = GRID.spacing_zyx


def images() -> tuple[np.ndarray, np.ndarray, Segment]:
    """A scan, a smoother one, and the lesion."""
    original = suv_image()
    denoised = (0.5 * original + 0.5 * (1 + 5 * lesion_mask())).astype(np.float32)
    return original, denoised, Segment("Hot", lesion_mask())


def stated(calibration, original, denoised, segments, suv=SUV, geometry=GRID):
    rows = lesion_table("s", segments, {"original": original, "denoised": denoised}, geometry)
    state_intervals(rows, calibration, suv, original, denoised, segments, geometry.spacing_zyx)
    return {(row["segment"], row["stage"]): row for row in rows}


# ---- features


def test_features_counted_by_hand():
    grid = Geometry((20, 20, 20), (2.0, 2.0, 2.0))
    mask = np.zeros(grid.shape, bool)
    mask[9:11, 9:11, 9:11] = True
    denoised = np.where(mask, 8.0, 2.0).astype(np.float32)
    original = denoised.copy()
    original[::2] += 0.5
    original[1::2] -= 0.5  # noise that alternates from slice to slice
    known = known_lesion(original, denoised, Segment("a", mask), grid.spacing_zyx)
    found = dict(zip(FEATURES, np.exp(known.features), strict=True))
    assert found["diameter"] == pytest.approx((6 * 64 / math.pi) ** (1 / 3))
    assert found["voxel"] == pytest.approx(2.0) and found["contrast"] == pytest.approx(4.0)
    assert found["noise_inside"] == pytest.approx(0.5 / 8)
    assert found["noise_around"] == pytest.approx(1.4826 * 0.5 / 8)
    # Neighbors differ by 1 along one axis of three, and not at all along the others; the SD is 0.5.
    assert found["roughness"] == pytest.approx(math.sqrt((1 / 3) / (2 * 0.25)), rel=0.01)
    assert found["max_over_mean"] == pytest.approx(1.0) and found["change_mean"] == pytest.approx(1.0)
    assert found["change_max"] == pytest.approx(8 / 8.5)
    assert known.denoised["suv_mean"] == 8.0 and known.denoised["suv_max"] == 8.0


def test_features_do_not_depend_on_the_suv_factor_nor_on_mirrored_axes():
    original, denoised, segment = images()
    first = known_lesion(original, denoised, segment, SPACING)
    scaled = known_lesion(original * np.float32(0.25), denoised * np.float32(0.25), segment, SPACING)
    np.testing.assert_allclose(scaled.features, first.features, rtol=0, atol=1e-6)
    flipped = Segment("Hot", segment.mask[::-1, :, ::-1])
    mirrored = known_lesion(original[::-1, :, ::-1], denoised[::-1, :, ::-1], flipped, SPACING)
    np.testing.assert_allclose(mirrored.features, first.features, rtol=0, atol=1e-9)


def test_what_has_no_logarithm_or_no_surroundings_is_undefined():
    original, denoised, segment = images()
    with pytest.raises(UndefinedError, match="SUVmean is not above 0"):
        known_lesion(-original - 1, denoised, segment, SPACING)
    edge = np.zeros(GRID.shape, bool)
    edge[0, 0, 0] = True
    with pytest.raises(UndefinedError, match="SUVpeak is not defined"):
        known_lesion(original + 5, denoised + 5, Segment("edge", edge), SPACING)
    whole = np.ones(GRID.shape, bool)
    with pytest.raises(UndefinedError, match="too little of the image is around it"):
        known_lesion(original + 5, denoised + 5, Segment("whole", whole), SPACING)


# ---- calibration and coverage


def test_new_centers_are_covered_and_bias_and_width_are_learned():
    calibration = calibrate(drawn_lesions(0))
    check = coverage(calibration, drawn_lesions(1, centers=200, name="N"))
    assert check["centers"] == check["patients"] == 200 and check["stated"] > 0.9 * check["lesions"]
    for metric, bias in (("suv_mean", 0.1), ("suv_peak", 0.05), ("suv_max", 0.2)):
        found = check[metric]
        assert 0.87 < found["coverage"] < 0.96, metric
        assert found["of_lesions"] == pytest.approx(1 - found["below"] - found["above"])
        assert abs(found["below"] - found["above"]) < 0.06
        assert sum(one["lesions"] for one in found["sizes"]) == check["stated"]
        low, high = calibration.interval(KnownLesion(np.zeros(len(FEATURES)), {metric: 1.0}), metric)
        assert math.sqrt(low * high) == pytest.approx(math.exp(bias), rel=0.05)
    noisy, quiet = np.zeros((2, len(FEATURES)))
    noisy[FEATURES.index("noise_around")], quiet[FEATURES.index("noise_around")] = 8.0, -8.0
    width = [
        np.log(np.divide(*calibration.interval(KnownLesion(one, {"suv_mean": 1.0}), "suv_mean")[::-1]))
        for one in (noisy, quiet)
    ]
    assert width[0] > 1.3 * width[1]


def test_the_order_of_the_lesions_and_the_suv_factor_do_not_matter():
    lesions = drawn_lesions(3, centers=25)
    first = calibrate(lesions).to_dict()
    shuffled = [lesions[k] for k in np.random.default_rng(0).permutation(len(lesions))]
    assert calibrate(shuffled).to_dict() == first
    scaled = [
        replace(
            one,
            denoised={key: 4 * value for key, value in one.denoised.items()},
            full={key: 4 * value for key, value in one.full.items()},
        )
        for one in lesions
    ]
    assert calibrate(scaled).to_dict() == first, "a factor of 2^n changes no bit of a ratio"


def test_centers_are_the_unit_where_there_are_enough_else_patients_and_few_are_refused():
    lesions = drawn_lesions(0, centers=24)
    assert calibrate(lesions).made_from["unit"] == "center"
    one_center = [replace(lesion, center="C1") for lesion in lesions]
    made = calibrate(one_center, {"split": "validation"}).made_from
    assert made == {
        "unit": "patient",
        "centers": 1,
        "patients": 24,
        "images": 24,
        "lesions": 288,
        "split": "validation",
    }
    with pytest.raises(InputError, match="at least 20 centers or patients, here are 19"):
        calibrate([lesion for lesion in lesions if int(lesion.center[1:]) < 19])


def test_the_range_leaves_out_the_most_extreme_lesions_and_one_beyond_is_named():
    lesions = drawn_lesions(5, centers=100)
    lesions[7] = replace(lesions[7], features=(*lesions[7].features[:-1], 40.0))
    calibration = calibrate(lesions)
    beyond = [lesion for lesion in lesions if calibration.beyond(np.array(lesion.features))]
    assert lesions[7] in beyond and len(beyond) <= 2 * 0.0025 * len(lesions) * len(FEATURES)
    features = np.array(lesions[0].features)
    features[0] = 20.0
    assert "diameter [mm]" in calibration.beyond(features)
    check = coverage(calibration, [replace(lesions[0], features=tuple(features))])
    assert (check["lesions"], check["stated"]) == (1, 0)


def test_lesions_of_calibration_are_measured_as_in_the_table():
    original, denoised, segment = images()
    full = denoised * np.float32(1.1)
    names = {"center": "C1", "patient": "p", "image": "p low 4"}
    nothing = Segment("cold", ~lesion_mask() & (np.arange(GRID.shape[0]) < 4)[:, None, None])
    (lesion,) = calibration_lesions(original, denoised, full, [segment, nothing], SPACING, **names)
    rows = lesion_table("s", [segment], {"denoised": denoised, "reference": full}, GRID)
    for metric in METRICS:
        assert lesion.denoised[metric] == pytest.approx(rows[0][metric], rel=1e-12)
        assert lesion.full[metric] == pytest.approx(rows[1][metric], rel=1e-12)
    assert lesion.diameter_mm == pytest.approx((6000 * rows[0]["volume_ml"] / math.pi) ** (1 / 3))
    assert CalibrationLesion.from_dict(json.loads(json.dumps(lesion.to_dict()))) == lesion


# ---- in the table


def test_only_denoised_rows_have_intervals_and_they_are_those_of_the_calibration():
    original, denoised, segment = images()
    calibration = drawn_calibration()
    rows = stated(calibration, original, denoised, [segment])
    for stage in ("original", "change_percent"):
        assert {rows["Hot", stage][key] for key in (*INTERVAL_BOUNDS, "interval_note")} == {None}
    row = rows["Hot", "denoised"]
    known = known_lesion(original, denoised, segment, SPACING)
    for metric in METRICS:
        low, high = (row[key] for key in INTERVAL_OF[metric])
        assert (low, high) == calibration.interval(known, metric) and 0 < low < high
        assert math.sqrt(low * high) / row[metric] < 2
    assert row["interval_note"] is None


def test_intervals_scale_with_the_suv_and_do_not_depend_on_other_segments():
    original, denoised, segment = images()
    calibration = drawn_calibration()
    other = Segment("Other", np.roll(segment.mask, (2, -6, 8), (0, 1, 2)))
    alone = stated(calibration, original, denoised, [segment])["Hot", "denoised"]
    beside = stated(calibration, original, denoised, [other, segment])["Hot", "denoised"]
    assert beside == alone
    half = np.float32(0.5)
    scaled = stated(calibration, original * half, denoised * half, [segment])["Hot", "denoised"]
    for key in INTERVAL_BOUNDS:
        assert scaled[key] == pytest.approx(alone[key] / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("suv", "note"),
    [
        ({"type": "SUVlbm", "facts": {}}, "calibrated for SUVbw, not for SUVlbm"),
        ({"type": "SUVbw", "facts": {"accepted": ["SUV"]}}, "the SUV is implausible (accepted: SUV)"),
    ],
)
def test_another_or_an_implausible_suv_has_a_note_instead(suv, note):
    original, denoised, segment = images()
    row = stated(drawn_calibration(), original, denoised, [segment], suv)["Hot", "denoised"]
    assert row["interval_note"] == note and {row[key] for key in INTERVAL_BOUNDS} == {None}


def test_a_lesion_outside_calibration_has_a_note_instead_and_no_calibration_leaves_all_empty():
    original, denoised, segment = images()
    calibration = drawn_calibration()
    narrow = replace(calibration, high=calibration.high - 10.0)
    row = stated(narrow, original, denoised, [segment])["Hot", "denoised"]
    assert (
        row["interval_note"].startswith("diameter [mm]: 2") and "outside calibration" in row["interval_note"]
    )
    assert {row[key] for key in INTERVAL_BOUNDS} == {None}
    row = stated(None, original, denoised, [segment])["Hot", "denoised"]
    assert {row[key] for key in (*INTERVAL_BOUNDS, "interval_note")} == {None}


# ---- in the card


def test_the_card_gives_the_calibration_back_to_the_last_bit():
    calibration = drawn_calibration()
    content = json.loads(json.dumps(calibration.to_dict()))
    again = Calibration.read(content, "card.json")
    assert again.to_dict() == calibration.to_dict()
    known = KnownLesion(np.linspace(-3, 3, len(FEATURES)), dict.fromkeys(METRICS, 4.0))
    for metric in METRICS:
        assert again.interval(known, metric) == calibration.interval(known, metric)
    assert len(json.dumps(content)) < 8000, "a few KB"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"metrics": {}}, "no 'suv_mean'"),
        ({"center": [0.0]}, "11 finite numbers are needed"),
        ({"scale": [0.0] * 11}, "a width is not above 0"),
        ({"low": [float("nan")] * 11}, "11 finite numbers are needed"),
        ({"level": 0.5}, "level 0.5 is not 0.9"),
        ({"made_from": 3}, "not iterable"),
    ],
    ids=str,
)
def test_a_damaged_calibration_is_refused_in_one_line(damage, reason):
    content = {**drawn_calibration().to_dict(), **damage}
    with pytest.raises(InputError) as refused:
        Calibration.read(content, "card.json")
    assert str(refused.value).startswith("card.json: its lesion intervals (lesion_intervals) are damaged (")
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_no_calibration_or_one_of_another_version_is_refused():
    for content in (None, [], "text", 3, {}):
        with pytest.raises(InputError, match="damaged"):
            Calibration.read(content, "card.json")
    for other in ({"format": 2}, {"features": ["diameter"]}):
        with pytest.raises(InputError, match="of another version: update drmc"):
            Calibration.read({**drawn_calibration().to_dict(), **other}, "card.json")
