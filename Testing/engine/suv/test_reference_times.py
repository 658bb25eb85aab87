"""The time to which activity is corrected: every rule, and times that contradict each other."""

from __future__ import annotations

import math

import pytest
from drmc.suv.formulas import mean_count_time
from support.engine.suv_decisions import (
    DOSE,
    F18,
    LAMBDA,
    LATE,
    PLAIN,
    WEIGHT,
    decide,
    refusal,
)

# ---- decay correction


def test_admin_needs_no_times():
    times = dict.fromkeys(
        ("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime", "SeriesTime", "AcquisitionTime")
    )
    decision = decide(DecayCorrection="ADMIN", **times)
    assert decision.factor == pytest.approx(WEIGHT * 1000 / DOSE, rel=1e-14) and decision.rule == "ADMIN"
    assert decide(DecayCorrection="ADMIN").facts["uptake_minutes"] == 60.0


def test_none_corrects_every_slice_by_itself():
    uncorrected = ["NORM", "DTIM", "ATTN", "SCAT", "RAN"]
    decision = decide(
        4,
        DecayCorrection="NONE",
        CorrectedImage=uncorrected,
        AcquisitionTime=lambda i: f"11{5 * i:02d}00.5",
        ActualFrameDuration=lambda i: 120_000 + 60_000 * i,
    )
    for index, factor in enumerate(decision.factor_per_slice):
        duration, start = 120.0 + 60.0 * index, 3600.5 + 300.0 * index
        in_frame = LAMBDA * duration / (1.0 - math.exp(-LAMBDA * duration))
        assert factor == pytest.approx(70_000 / DOSE * in_frame * math.exp(LAMBDA * start), rel=1e-12)
    assert decision.factor == pytest.approx(sum(decision.factor_per_slice) / 4, rel=1e-14)
    same = decide(DecayCorrection="NONE", CorrectedImage=uncorrected)
    assert same.factor_per_slice is None and same.factor == pytest.approx(PLAIN * 1.015872, rel=1e-5)


def test_none_with_one_acquisition_time_for_several_beds_is_asked_about():
    beds = {
        "DecayCorrection": "NONE",
        "CorrectedImage": ["ATTN"],
        "FrameReferenceTime": lambda i: 400_000.0 * i,
    }
    line = refusal(**beds)
    assert "AcquisitionTime (0008,0032)" in line and "--accept-suv NONE" in line
    assert decide(accept="NONE", **beds).warnings


def test_mean_count_time():
    """At that time the activity equals its mean over the frame."""
    for duration in (1e-3, 60.0, 300.0, 3600.0):
        mean = (1.0 - math.exp(-LAMBDA * duration)) / (LAMBDA * duration)
        assert math.exp(-LAMBDA * mean_count_time(F18, duration)) == pytest.approx(mean, rel=1e-9)


# ---- reference time


def test_late_series_time_gives_way_to_the_frames():
    decision = decide(**LATE, AcquisitionTime="110230", FrameReferenceTime=299605.0)
    assert decision.rule == "BACK" and decision.reference_time.startswith("2024-02-29T11:00:00")
    assert decision.factor == pytest.approx(PLAIN, rel=1e-5)
    assert any(
        "SeriesTime (0008,0031)" in notice and "after the acquisition" in notice
        for notice in decision.notices
    )


def test_back_computed_time_must_be_one_time():
    """FrameReferenceTime as the start of the bed (GE) spreads: the earliest acquisition time is taken."""
    beds = {
        "FrameReferenceTime": lambda i: 1000.0 + 243_000.0 * i,
        "ActualFrameDuration": 240_000,
        "Manufacturer": "GE MEDICAL SYSTEMS",
    }
    decision = decide(6, **LATE, NumberOfSlices=6, **beds)
    assert decision.rule == "AT_MIN" and decision.factor == pytest.approx(PLAIN, rel=1e-12)
    candidates = {c["rule"]: c for c in decision.candidates}
    assert not candidates["BACK"]["plausible"] and "spreads" in candidates["BACK"]["note"]
    assert not candidates["GE_AT_FRT"]["plausible"]
    assert decide(6, **beds).rule == "ST"


def test_clocks_that_differ_by_seconds_are_equal():
    seconds = {"AcquisitionTime": "110000", "FrameReferenceTime": 0.0, "NumberOfSlices": 3}
    assert decide(SeriesTime="110002.9", **seconds).rule == "ST"
    assert decide(SeriesTime="110003.1", **seconds).rule == "AT_MIN"
    spread = {**LATE, "NumberOfSlices": 3, "AcquisitionTime": "110000"}
    assert decide(**spread, FrameReferenceTime=lambda i: 149_000.0 + 900 * i).rule == "BACK"
    assert decide(**spread, FrameReferenceTime=lambda i: 149_000.0 + 1100 * i).rule == "AT_MIN"


def test_the_philips_ratio_supports_a_choice():
    """Its factors have few digits; half a percent apart is agreement."""
    times = {"AcquisitionTime": "113000", "FrameReferenceTime": 0.0}
    refusal(**times)
    ratio = decide(PhilipsSUVScaleFactor=PLAIN * 1.003, PhilipsActivityConcentrationScaleFactor=1.0, **times)
    assert ratio.rule == "ST" and ratio.warnings
    refusal(PhilipsSUVScaleFactor=PLAIN * 1.3, PhilipsActivityConcentrationScaleFactor=1.0, **times)


def test_acquisitions_on_both_sides_of_midnight_with_one_date():
    """The date was not carried on: the earliest time of day is then a day early."""
    line = refusal(
        NumberOfSlices=3,
        SeriesTime="235800",
        AcquisitionTime=lambda i: "000200" if i else "235800",
        RadiopharmaceuticalStartTime="225000",
        RadiopharmaceuticalStartDateTime=None,
    )
    assert "more than 12 h" in line and "--accept-suv RULE" in line


def test_earliest_acquisition_counts_only_for_a_whole_series():
    beds = {"FrameReferenceTime": 0.0, **LATE}
    assert decide(NumberOfSlices=3, **beds).rule == "AT_MIN"
    for announced in (None, 267):
        line = refusal(NumberOfSlices=announced, **beds)
        assert "SeriesTime (0008,0031)" in line and "--accept-suv RULE" in line


def test_a_single_long_frame_reference_time_proves_nothing():
    """One second of difference between two clocks must not throw the series time away (Philips)."""
    decision = decide(SeriesTime="105959", FrameReferenceTime=1_328_700.0, ActualFrameDuration=120_700)
    assert decision.rule == "ST"
    line = refusal(**LATE, NumberOfSlices=3, FrameReferenceTime=1_328_700.0, ActualFrameDuration=120_700)
    assert "unverified" in line and "--accept-suv RULE" in line


def test_partial_reconstruction_of_a_long_acquisition():
    """Siemens: the image of minutes 50 to 70 is corrected to the series' start; the frames confirm it."""
    decision = decide(
        AcquisitionTime="115000", ActualFrameDuration=1_200_000, FrameReferenceTime=3_000_000.0 + 593_697.0
    )
    assert decision.rule == "ST" and decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert any("AT_MIN" in warning for warning in decision.warnings)


def test_contradicting_times_are_asked_about():
    contradiction = {"AcquisitionTime": "113000", "FrameReferenceTime": 0.0}
    line = refusal(**contradiction)
    assert (
        "SeriesTime (0008,0031)" in line
        and "AT_MIN" in line
        and "+20.9 %" in line
        and "--accept-suv RULE" in line
    )
    assert decide(accept="ST", **contradiction).factor == pytest.approx(PLAIN, rel=1e-12)
    forced = decide(accept="at_min", **contradiction)
    assert forced.factor == pytest.approx(PLAIN * 2 ** (1800 / F18), rel=1e-12) and forced.warnings
    warned = decide(AcquisitionTime="110500", FrameReferenceTime=0.0)
    assert warned.rule == "ST" and any("+3.2 %" in warning for warning in warned.warnings)


def test_accepting_a_rule_that_the_header_has_no_time_for():
    line = refusal(accept="PRIVATE")
    assert "PRIVATE" in line and "ST" in line
    assert "unknown" in refusal(accept="GUESS")
    assert any("not needed" in n for n in decide(accept="ST", Units="GML").notices)


@pytest.mark.parametrize("key", ["GEScanDateTime", "SiemensDecayCorrectionDateTime"])
def test_private_reference_times(key):
    decision = decide(**LATE, AcquisitionTime="110000", **{key: "20240229110000.00"})
    assert decision.rule == "PRIVATE" and decision.factor == pytest.approx(PLAIN, rel=1e-12)
    far = decide(**{key: "20230101110000.00"})
    assert far.rule == "ST" and any(c["rule"] == "PRIVATE" and not c["plausible"] for c in far.candidates)
    varying = decide(**{key: lambda i: f"2024022911{i:02d}00"})
    assert varying.rule == "ST" and any("differs between the slices" in w for w in varying.warnings)


def test_private_administration_time_of_ge():
    decision = decide(
        RadiopharmaceuticalStartTime=None,
        RadiopharmaceuticalStartDateTime=None,
        GEAdministrationDateTime="20240229100000",
    )
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert any("(0009,xx3B)" in notice for notice in decision.notices)


def test_decay_correction_datetime_is_a_candidate():
    decision = decide(DecayCorrectionDateTime="20240229110000")
    assert any(c["rule"] == "DCDT" and c["difference_percent"] == 0 for c in decision.candidates)


@pytest.mark.parametrize("factor", ["siemens", "ge"])
def test_both_conventions_of_the_decay_factor_pass(factor):
    frame, duration = 600.0, 240.0
    value = 2 ** (frame / F18)
    if factor == "ge":
        value *= LAMBDA * duration / (1 - math.exp(-LAMBDA * duration))
    header = {"FrameReferenceTime": frame * 1000, "ActualFrameDuration": duration * 1000}
    assert not any("DecayFactor" in w for w in decide(DecayFactor=round(value, 5), **header).warnings)
    assert any("DecayFactor (0054,1321)" in w for w in decide(DecayFactor=1.0, **header).warnings)
