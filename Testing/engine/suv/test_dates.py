"""Dates, midnight, offsets of time zones and nuclides that live for days."""

from __future__ import annotations

import math

import pytest
from drmc.suv import rules
from support.engine.suv_decisions import (
    DOSE,
    F18,
    LAMBDA,
    LATE,
    PLAIN,
    decide,
    refusal,
)
from support.engine.synthetic_dicom import header_facts


def test_midnight():
    night = {
        "SeriesDate": "20240301",
        "SeriesTime": "003000",
        "AcquisitionDate": "20240301",
        "AcquisitionTime": "003000",
        "RadiopharmaceuticalStartTime": "233000",
    }
    for moment in (None, "20240229233000"):
        decision = decide(**night, RadiopharmaceuticalStartDateTime=moment)
        assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
        assert any("midnight" in notice for notice in decision.notices)


def test_dates_shifted_by_an_anonymizer():
    decision = decide(RadiopharmaceuticalStartDateTime="20190713100000")
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert any("not on the day of the scan" in notice for notice in decision.notices)


def test_no_dates_at_all():
    decision = decide(SeriesDate=None, AcquisitionDate="")
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert decision.reference_time == "11:00:00" and any("no dates" in notice for notice in decision.notices)


@pytest.mark.parametrize("date", [None, "20240229"])
def test_a_series_over_midnight_without_acquisition_dates(date):
    night = decide(
        SeriesDate=date,
        AcquisitionDate=None,
        SeriesTime="235959",
        AcquisitionTime=lambda i: "000001" if i else "235959",
        RadiopharmaceuticalStartTime="225959",
        RadiopharmaceuticalStartDateTime=None,
    )
    assert night.rule == "ST" and night.factor == pytest.approx(PLAIN, rel=1e-12)


@pytest.mark.parametrize("missing", ["SeriesDate", "AcquisitionDate"])
def test_one_date_stands_for_both(missing):
    decision = decide(**{missing: None})
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert any(missing in notice for notice in decision.notices)


def test_acquisition_datetime_stands_in():
    decision = decide(
        **LATE,
        AcquisitionDate=None,
        AcquisitionTime=None,
        AcquisitionDateTime="20240229110230",
        FrameReferenceTime=299605.0,
    )
    assert decision.rule == "BACK" and decision.factor == pytest.approx(PLAIN, rel=1e-5)


def test_time_zones():
    """A moment in UTC on a scanner that states +0100; without such a statement the written clock is taken."""
    utc = {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": "20240229090000+0000"}
    assert decide(**utc, TimezoneOffsetFromUTC="+0100").factor == pytest.approx(PLAIN, rel=1e-12)
    written = decide(RadiopharmaceuticalStartDateTime="20240229100000.000000+0100")
    assert written.factor == pytest.approx(PLAIN, rel=1e-12)


def test_two_start_times_that_differ():
    line = refusal(RadiopharmaceuticalStartTime="090000")
    assert "(0018,1078)" in line and "(0018,1072)" in line and "remove the wrong one" in line
    decision = decide(RadiopharmaceuticalStartTime="095900")
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12) and any(
        "differ" in w for w in decision.warnings
    )


def test_long_lived_nuclides_need_their_date():
    zirconium = {
        "RadionuclideHalfLife": 282_276.0,
        "RadionuclideCodeValue": "C-168A4",
        "RadionuclideCodeMeaning": "^89^Zirconium",
        "RadiopharmaceuticalStartTime": "093000",
        "RadiopharmaceuticalStartDateTime": "20240225093000",
    }
    decision = decide(**zirconium)
    uptake = (4 * 24 + 1.5) * 3600
    assert decision.factor == pytest.approx(70_000 / DOSE * 2 ** (uptake / 282_276.0), rel=1e-12)
    for moment in (None, "20230101093000"):
        line = refusal(**{**zirconium, "RadiopharmaceuticalStartDateTime": moment})
        assert "(0018,1078)" in line and "correct the dates" in line
    undated = refusal(**zirconium, SeriesDate=None, AcquisitionDate=None)
    assert "long-lived" in undated


LONG_LIVED = {  # nuclide, half-life in s, code, days from the injection to the scan
    "Zr-89": (282_276.0, "C-168A4", 7),
    "Cu-64": (45_723.6, "C-127A2", 2),
    "Y-90": (230_580.0, "C-162A7", 6),
    "I-124": (360_806.4, "C-114A5", 21),
}


@pytest.mark.parametrize("nuclide", LONG_LIVED)
def test_late_images_with_complete_dates_up_to_ten_half_lives(nuclide):
    half_life, code, days = LONG_LIVED[nuclide]
    header = {
        "RadionuclideHalfLife": half_life,
        "RadionuclideCodeValue": code,
        "RadionuclideCodeMeaning": "",
        "SeriesDate": "20240329",
        "AcquisitionDate": "20240329",
        "RadiopharmaceuticalStartDateTime": f"202403{29 - days:02d}100000",
    }
    decision = decide(**header)
    uptake = days * 86_400 + 3600
    assert decision.factor == pytest.approx(70_000 / DOSE * 2 ** (uptake / half_life), rel=1e-12)
    assert decision.facts["uptake_minutes"] == uptake / 60
    line = refusal(**{**header, "RadiopharmaceuticalStartDateTime": "20230329100000"})
    assert "within ten half-lives" in line and "correct the dates" in line


def test_an_uptake_of_hours_with_complete_dates_is_computed():
    """What an anonymizer has shifted lies whole days off; eight hours of one day are eight hours."""
    late = decide(RadiopharmaceuticalStartTime="030000", RadiopharmaceuticalStartDateTime="20240229030000")
    assert late.factor == pytest.approx(70_000 / DOSE * 2 ** (8 * 3600 / F18), rel=1e-12)
    shifted = decide(RadiopharmaceuticalStartDateTime="20240228100000")
    assert shifted.factor == pytest.approx(PLAIN, rel=1e-12)


def test_an_offset_that_cannot_be_placed_is_asked_about():
    """(0018,1078) in UTC on a scanner that does not say its zone: an hour is 46 % of an F-18 SUV."""
    utc = {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": "20240229090000+0000"}
    line = refusal(**utc)
    assert (
        "(0018,1078)" in line and "(0008,0201)" in line and "+0000" in line and "--accept-suv CLOCK" in line
    )
    taken = rules.decide(header_facts(3, **utc), accept_clock=True)
    assert taken.factor == pytest.approx(70_000 / DOSE * 2 ** (7200 / F18), rel=1e-12)
    assert any("written clock is used" in text for text in taken.warnings)
    zirconium = {"RadionuclideHalfLife": 282_276.0, "RadionuclideCodeValue": "C-168A4"}
    long_lived = decide(**utc, **zirconium, RadionuclideCodeMeaning="")
    assert any("an hour is 0.888 % of the SUV" in text for text in long_lived.warnings)
    private = {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None}
    assert "(0008,0201)" in refusal(**private, GEAdministrationDateTime="20240229090000+0000")


@pytest.mark.parametrize(
    "header",
    [
        {"RadiopharmaceuticalStartTime": "100000", "RadiopharmaceuticalStartDateTime": "20240229090000+0000"},
        {"RadiopharmaceuticalStartTime": "100000", "RadiopharmaceuticalStartDateTime": "20240229153000+0530"},
        {
            "RadiopharmaceuticalStartTime": None,
            "RadiopharmaceuticalStartDateTime": "20240229090000+0000",
            "AcquisitionDateTime": "20240229110000+0100",
        },
        {
            "RadiopharmaceuticalStartTime": None,
            "RadiopharmaceuticalStartDateTime": "20240229090000+0000",
            "TimezoneOffsetFromUTC": "+0100",
        },
    ],
)
def test_an_offset_is_placed_by_whatever_tells_the_scanner_s_zone(header):
    decision = decide(**header)
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12) and not decision.warnings


def test_a_reference_time_whose_offset_cannot_be_placed_decides_nothing():
    decision = decide(GEScanDateTime="20240229103000+0000")
    assert decision.rule == "ST" and decision.factor == pytest.approx(PLAIN, rel=1e-12)
    private = next(c for c in decision.candidates if c["rule"] == "PRIVATE")
    assert not private["plausible"] and "offset from UTC" in private["note"]
    same = decide(GEScanDateTime="20240229110000+0100")
    assert same.rule == "PRIVATE" and same.factor == pytest.approx(PLAIN, rel=1e-12)


@pytest.mark.parametrize("vendor", ["GE MEDICAL SYSTEMS", "Another"])
@pytest.mark.parametrize("seconds", [240, 600])
@pytest.mark.parametrize("cropped", [0, 2])
def test_beds_whose_decay_factor_says_that_their_reference_is_their_start(vendor, seconds, cropped):
    """GE: DecayFactor = 2^(FRT/T) times the in-frame term; SeriesTime is late, the first bed is cut off."""
    x = LAMBDA * seconds

    def bed(index: int) -> int:
        return (index // 2 + cropped) * (seconds + 3) + 10

    def clock(index: int) -> str:
        time = 11 * 3600 + bed(index)
        return f"{time // 3600:02d}{time // 60 % 60:02d}{time % 60:02d}"

    header = {
        "Manufacturer": vendor,
        "SeriesTime": "123000",
        "AcquisitionTime": clock,
        "FrameReferenceTime": lambda i: 1000.0 * bed(i),
        "ActualFrameDuration": 1000 * seconds,
        "DecayFactor": lambda i: f"{2 ** (bed(i) / F18) * x / (1 - math.exp(-x)):.6g}",
    }
    decision = decide(6, **header)
    assert decision.rule == "GE_AT_FRT" and decision.factor == pytest.approx(PLAIN, rel=1e-9)
    assert any("start of the frame" in text for text in decision.notices)
    back = next(c for c in decision.candidates if c["rule"] == "BACK")
    assert not back["plausible"] and "DecayFactor" in back["note"]
    # Where the factor is that of the mean-count time, or none is stated, the frames are computed back as
    # before.
    if not cropped:
        frames = {**header, "DecayFactor": None, "FrameReferenceTime": lambda i: 1000.0 * bed(i) + 1.0}
        assert decide(6, **frames).rule == "BACK"


@pytest.mark.parametrize(
    ("code", "meaning", "half_life"),
    [
        ("C-111A1", "", 6586.2),
        ("77004003", "^18^Fluorine", 6586.2),
        ("", "18F", 6586.2),
        ("", "F-18", 6586.2),
        ("C-131A3", "^68^Gallium", 4057.7),
        ("", "Ga68", 4057.7),
        ("", "Zr-89", 282_276.0),
        ("", "^64^Copper", 45_723.6),
        ("", "Lu-177", 574_300.8),
    ],
)
def test_missing_half_life_comes_from_the_nuclide(code, meaning, half_life):
    decision = decide(RadionuclideHalfLife=None, RadionuclideCodeValue=code, RadionuclideCodeMeaning=meaning)
    assert decision.facts["half_life_s"] == half_life
    assert any("(0018,1075)" in notice for notice in decision.notices)


def test_half_life_against_the_nuclide():
    kept = decide(RadionuclideHalfLife=7000.0)
    assert kept.factor == pytest.approx(70_000 / DOSE * 2 ** (3600 / 7000), rel=1e-12)
    assert any("differs from F-18" in warning for warning in kept.warnings)
    assert "contradicts F-18" in refusal(RadionuclideHalfLife=109.77)
    contradicting = {"RadionuclideCodeValue": "C-131A1", "RadionuclideCodeMeaning": "^68^Gallium"}
    assert decide(**contradicting, RadionuclideHalfLife=4057.7).facts["nuclide"] == "Ga-68"
    assert "(0018,1075)" in refusal(**contradicting, RadionuclideHalfLife=None)
