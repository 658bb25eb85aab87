"""SUV decisions: published factors, every formula, every refusal, and headers damaged at random."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from datetime import datetime, timedelta
from random import Random

import pytest
from drmc.errors import InputError, SUVRefusedError
from drmc.pet.reading import read_volume
from drmc.suv import manual, rules
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import mean_count_time, suv_type_name
from drmc.suv.nuclides import NUCLIDES
from drmc.suv.times import parse_date, parse_datetime, parse_offset, parse_time
from engine.synthetic_dicom import header_facts, write_series
from hypothesis import given, settings
from hypothesis import strategies as st

F18 = 6586.2
LAMBDA = math.log(2.0) / F18
WEIGHT, HEIGHT, DOSE = 70.0, 1.75, 3.7e8
PLAIN = WEIGHT * 1000.0 / (DOSE * 2.0 ** (-3600.0 / F18))  # SUVbw per Bq/ml of the synthetic scan
HEADERS = ("SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "PHILIPS_CNTS_AND_SUV")


def decide(slices: int = 3, *, suv_type: str = "bw", accept: str | None = None, **overrides) -> SUVDecision:
    return rules.decide(header_facts(slices, **overrides), suv_type=suv_type, accept_rule=accept)


def refusal(slices: int = 3, *, suv_type: str = "bw", accept: str | None = None, **overrides) -> str:
    with pytest.raises(InputError) as caught:
        decide(slices, suv_type=suv_type, accept=accept, **overrides)
    return str(caught.value)


def real_header(data_folder, name: str) -> list[dict]:
    instances = json.loads((data_folder / "suv_headers" / f"{name}-instances.json").read_text())
    for instance in instances:
        private = instance.pop("PhilipsPETPrivateGroup")
        instance["PhilipsSUVScaleFactor"] = private.get("SUVScaleFactor")
        instance["PhilipsActivityConcentrationScaleFactor"] = private.get("ActivityConcentrationScaleFactor")
    return instances


# ---------------------------------------------------------------------------------------- published numbers


@pytest.mark.parametrize("name", HEADERS)
def test_published_factors_of_four_vendors(data_folder, name):
    expected = json.loads((data_folder / "suv_headers" / "expected_suvbw_factors.json").read_text())[name]
    decision = rules.decide(real_header(data_folder, name))
    assert decision.factor == pytest.approx(expected, rel=1e-6)
    assert decision.rule == ("PHILIPS_SSF" if "CNTS" in name else "ST")
    assert not decision.warnings


def test_every_candidate_of_a_real_philips_header_is_listed(data_folder):
    candidates = {c["rule"]: c for c in rules.decide(real_header(data_folder, "PHILIPS_BQML")).candidates}
    assert candidates["BACK"]["difference_percent"] == pytest.approx(-12.49, abs=0.01)
    assert not candidates["BACK"]["plausible"] and "unverified" in candidates["BACK"]["note"]
    assert candidates["AT_MIN"]["difference_percent"] == pytest.approx(0.0105, abs=0.001)
    assert candidates["SSF_RATIO"]["difference_percent"] == pytest.approx(0.011, abs=0.002)
    assert candidates["ST"]["time"].endswith("T11:01:55") and candidates["ST"]["difference_percent"] == 0


def test_the_philips_counts_of_a_real_header_agree_with_its_times(data_folder):
    """Its SUV scale factor alone, its series time, and the time computed back are three ways to one
    number."""
    header = real_header(data_folder, "PHILIPS_CNTS_AND_SUV")
    for instance in header:
        instance.update(Units="BQML", PhilipsSUVScaleFactor=None)
    decision = rules.decide(header)
    candidates = {c["rule"]: c for c in decision.candidates}
    assert decision.rule == "ST"
    assert candidates["BACK"]["difference_percent"] == pytest.approx(0.0, abs=0.01)
    assert candidates["AT_MIN"]["difference_percent"] == pytest.approx(19.1, abs=0.1)
    assert any("AT_MIN" in warning for warning in decision.warnings)


# ---------------------------------------------------------------------------------------- types and units


def test_start_corrected_activity_by_hand():
    decision = decide()
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert (decision.type, decision.rule, decision.factor_per_slice) == ("SUVbw", "ST", None)
    assert decision.reference_time == "2024-02-29T11:00:00"
    assert decision.facts["uptake_minutes"] == 60.0
    assert not decision.notices and not decision.warnings
    json.dumps(decision.to_dict(), allow_nan=False)


# W 70 kg, H 175 cm: lean and ideal masses worked out by hand from the published formulas, in kg; BSA in m2.
BODY = {
    ("lbm", "M"): 1.10 * 70 - 120 * 0.16,
    ("lbm", "F"): 1.07 * 70 - 148 * 0.16,
    ("lbmjames128", "M"): 1.10 * 70 - 128 * 0.16,
    ("lbmjames128", "F"): 1.07 * 70 - 148 * 0.16,
    ("lbmjanma", "M"): 648_900 / (6680 + 216 * 22.857142857142858),
    ("lbmjanma", "F"): 648_900 / (8780 + 244 * 22.857142857142858),
    ("ibw", "M"): 48.0 + 1.06 * 23,
    ("ibw", "F"): 45.5 + 0.91 * 23,
    ("bsa", "M"): 1.8481 * 10,
    ("bsa", "F"): 1.8481 * 10,
}


@pytest.mark.parametrize(("kind", "sex"), BODY)
def test_body_norms(kind, sex):
    per_kg = decide(suv_type=kind, PatientSex=sex).factor / PLAIN * WEIGHT
    assert per_kg == pytest.approx(BODY[kind, sex], rel=5e-5 if kind == "bsa" else 1e-9)


@pytest.mark.parametrize("kind", ["lbm", "lbmjames128", "lbmjanma", "ibw"])
def test_sex_other_is_the_mean_of_both_and_said(kind):
    decision = decide(suv_type=kind, PatientSex="O")
    assert decision.factor / PLAIN * WEIGHT == pytest.approx(
        (BODY[kind, "M"] + BODY[kind, "F"]) / 2, rel=1e-9
    )
    assert any("PatientSex (0010,0040) O" in notice for notice in decision.notices)


@pytest.mark.parametrize("name", ["bw", "SUVbw", "BW", "suvBW"])
def test_suv_type_names(name):
    assert suv_type_name(name) == "bw"


def test_stored_suv_is_taken_as_it_is_or_converted():
    assert decide(Units="GML", SUVType="BW").factor == 1.0
    assert decide(Units="GML", SUVType=None, PatientWeight=None).factor == 1.0
    james = decide(Units="GML", SUVType="LBMJAMES128", PatientSex="M")
    assert james.factor == pytest.approx(WEIGHT / BODY["lbmjames128", "M"], rel=1e-9)
    ideal = decide(Units="GML", SUVType="IBW", PatientSex="O")
    assert ideal.factor == pytest.approx(WEIGHT / ((BODY["ibw", "M"] + BODY["ibw", "F"]) / 2), rel=1e-9)
    area = decide(Units="CM2ML", SUVType="BSA")
    assert area.factor == pytest.approx(70_000 / 18_481, rel=5e-5)
    assert area.facts["stored_suv_type"] == "SUVbsa" and area.type == "SUVbw"
    assert decide(Units="GML", SUVType="LBM", suv_type="lbm", PatientSize=None, PatientSex=None).factor == 1.0
    assert decide(Units="CM2ML", suv_type="bsa", PatientSize=None).factor == 1.0


def test_stored_suv_needs_neither_dose_nor_times():
    gone = dict.fromkeys(
        (
            "RadionuclideTotalDose",
            "RadiopharmaceuticalStartTime",
            "RadiopharmaceuticalStartDateTime",
            "SeriesTime",
        )
    )
    decision = decide(Units="GML", **gone)
    assert decision.factor == 1.0 and decision.facts["dose_bq"] is None
    assert decide(Units="CNTS", PhilipsSUVScaleFactor="0.0005", **gone).factor == 0.0005


def test_philips_factors():
    assert decide(Units="CNTS", PhilipsSUVScaleFactor="0.000728 ").factor == 0.000728
    lean = decide(Units="CNTS", PhilipsSUVScaleFactor=0.001, suv_type="lbm").factor
    assert lean == pytest.approx(0.001 * BODY["lbm", "F"] / WEIGHT, rel=1e-9)
    by_activity = decide(
        Units="CNTS", PhilipsSUVScaleFactor="0.0", PhilipsActivityConcentrationScaleFactor="0.5"
    )
    assert by_activity.factor == pytest.approx(0.5 * PLAIN, rel=1e-12) and by_activity.rule == "ST"
    both = decide(PhilipsSUVScaleFactor=0.5 * PLAIN, PhilipsActivityConcentrationScaleFactor=0.5)
    assert both.factor == pytest.approx(PLAIN, rel=1e-12), "with Bq/ml the factors must not be applied"
    ratio = next(c for c in both.candidates if c["rule"] == "SSF_RATIO")
    assert ratio["difference_percent"] == pytest.approx(0.0, abs=1e-3)


# ---------------------------------------------------------------------------------------- decay correction


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


# ---------------------------------------------------------------------------------------- reference time

LATE = {"SeriesTime": "113000"}  # the series was reconstructed again, half an hour after the scan


def test_late_series_time_gives_way_to_the_frames():
    decision = decide(**LATE, AcquisitionTime="110230", FrameReferenceTime=299605.0)
    assert decision.rule == "BACK" and decision.reference_time.startswith("2024-02-29T11:00:00")
    assert decision.factor == pytest.approx(PLAIN, rel=1e-5)
    assert any(
        "SeriesTime (0008,0031)" in notice and "after the acquisition" in notice
        for notice in decision.notices
    )


def test_back_computed_time_must_be_one_time():
    """FrameReferenceTime as the start of the bed, as GE has it, spreads; the earliest acquisition then
    stands."""
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
    """Siemens: the image of minutes 50 to 70 is still corrected to the series' start, which the frames
    confirm."""
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


# ---------------------------------------------------------------------------------------- dates and midnight


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
    # Where the factor is that of the mean-count time, or none is stated, the frames are computed back as before.
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


# ---------------------------------------------------------------------------------------- fixes


@pytest.mark.parametrize(
    ("overrides", "notice"),
    [
        ({"PatientWeight": 70_000}, "grams"),
        ({"RadionuclideTotalDose": 370.0}, "MBq"),
        ({"RadionuclideHalfLife": None}, "6586.2 s of F-18"),
    ],
)
def test_fixes_are_told(overrides, notice):
    decision = decide(**overrides)
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert any(notice in text for text in decision.notices)


def test_height_in_centimeters():
    decision = decide(PatientSize=175, suv_type="bsa")
    assert decision.factor == pytest.approx(decide(suv_type="bsa").factor, rel=1e-12)
    assert any("taken as cm" in text for text in decision.notices)


def test_unusual_but_possible_is_warned_of():
    assert any("unusual" in w for w in decide(PatientWeight=350).warnings)
    assert any("unusual" in w for w in decide(RadionuclideTotalDose=370_000.0).warnings)
    assert any(
        "unusual for FDG" in w
        for w in decide(
            RadiopharmaceuticalStartTime=None, RadiopharmaceuticalStartDateTime="20240229104500"
        ).warnings
    )
    assert any(
        "before the injection" in w
        for w in decide(
            RadiopharmaceuticalStartTime=None, RadiopharmaceuticalStartDateTime="20240229110500"
        ).warnings
    )


def test_nonsense_that_nobody_needs_does_not_refuse():
    decision = decide(PatientSize="tall")
    assert decision.factor == pytest.approx(PLAIN, rel=1e-12)
    assert any("PatientSize (0010,1020)" in n and "not needed" in n for n in decision.notices)


# ---------------------------------------------------------------------------------------- refusals

CORRECTED = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
REFUSALS = {
    # 1 weight
    "no weight": ({"PatientWeight": None}, "(0010,1030)", "kg"),
    "weight zero": ({"PatientWeight": 0}, "(0010,1030)", "kg"),
    "weight below 1 kg": ({"PatientWeight": 0.5}, "(0010,1030)", "kg"),
    "weight is text": ({"PatientWeight": "heavy"}, "(0010,1030)", "correct the header"),
    "weight negative": ({"PatientWeight": -70}, "(0010,1030)", "correct the header"),
    "no weight with counts": (
        {"PatientWeight": None, "Units": "CNTS", "PhilipsActivityConcentrationScaleFactor": 0.5},
        "(0010,1030)",
        "kg",
    ),
    "no weight with lean SUV": (
        {"PatientWeight": None, "Units": "GML", "SUVType": "LBM"},
        "(0010,1030)",
        "kg",
    ),
    "no weight with SUVbsa": ({"PatientWeight": None, "Units": "CM2ML"}, "(0010,1030)", "kg"),
    # 2 height and sex
    "no height": ({"PatientSize": None, "suv_type": "lbm"}, "(0010,1020)", "height in m"),
    "height of a house": ({"PatientSize": 1750, "suv_type": "bsa"}, "(0010,1020)", "height in m"),
    "no height to read lean SUV": (
        {"PatientSize": None, "Units": "GML", "SUVType": "IBW"},
        "(0010,1020)",
        "height",
    ),
    "no sex": ({"PatientSex": None, "suv_type": "ibw"}, "(0010,0040)", "SUVbw"),
    "sex unknown": ({"PatientSex": "U", "suv_type": "lbmjanma"}, "(0010,0040)", "SUVbw"),
    "no lean mass": ({"PatientSize": 0.5, "PatientWeight": 120, "suv_type": "lbm"}, "(0010,1020)", "SUVbw"),
    "no ideal weight": ({"PatientSize": 0.9, "PatientSex": "M", "suv_type": "ibw"}, "(0010,1020)", "SUVbw"),
    # 3 units
    **{
        f"units {units}": ({"Units": units}, "(0054,1001)", "Bq/ml")
        for units in ("PROPCNTS", "PROPCPS", "1CM", "NONE", "CPS", "FURLONG", "")
    },
    "counts without factors": ({"Units": "CNTS"}, "(7053,xx09)", "private tags"),
    "counts with zero factors": (
        {"Units": "CNTS", "PhilipsSUVScaleFactor": 0, "PhilipsActivityConcentrationScaleFactor": "0.0"},
        "(0054,1001)",
        "private tags",
    ),
    # 4 SUV type
    "GML of unknown type": ({"Units": "GML", "SUVType": "SUL"}, "(0054,1006)", "correct"),
    "GML of area type": ({"Units": "GML", "SUVType": "BSA"}, "(0054,1006)", "correct"),
    "CM2ML of weight type": ({"Units": "CM2ML", "SUVType": "BW"}, "(0054,1006)", "correct"),
    # 5 dose and half-life
    "no dose": ({"RadionuclideTotalDose": None}, "(0018,1074)", "Bq"),
    "dose zero": ({"RadionuclideTotalDose": 0.0}, "(0018,1074)", "Bq"),
    "dose negative": ({"RadionuclideTotalDose": -3.7e8}, "(0018,1074)", "correct the header"),
    "no dose with ADMIN": ({"RadionuclideTotalDose": None, "DecayCorrection": "ADMIN"}, "(0018,1074)", "Bq"),
    "no half-life": (
        {"RadionuclideHalfLife": None, "RadionuclideCodeValue": None, "RadionuclideCodeMeaning": None},
        "(0018,1075)",
        "half-life in s",
    ),
    "half-life negative": ({"RadionuclideHalfLife": -1}, "(0018,1075)", "correct"),
    "half-life absurd": ({"RadionuclideHalfLife": 1e-9}, "(0018,1075)", "half-life in s"),
    # 6 injection
    "no start time": (
        {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None},
        "(0018,1072)",
        "time of injection",
    ),
    # 7 reference time
    "no times": ({"SeriesTime": None, "AcquisitionTime": None}, "(0008,0031)", "restore"),
    "series time alone": ({"AcquisitionTime": None}, "(0008,0032)", "--accept-suv"),
    "late series time alone": (
        {"SeriesTime": "113000", "FrameReferenceTime": None},
        "(0054,1300)",
        "--accept-suv",
    ),
    "injection after the scan": (
        {"RadiopharmaceuticalStartTime": "130000", "RadiopharmaceuticalStartDateTime": "20240229130000"},
        "(0018,1078)",
        "correct the time of injection",
    ),
    "injection half a day before": (
        {"RadiopharmaceuticalStartTime": "020000", "RadiopharmaceuticalStartDateTime": None},
        "(0018,1072)",
        "correct the time of injection",
    ),
    # 8 is test_long_lived_nuclides_need_their_date
    # 9 decay correction
    "no decay correction": ({"DecayCorrection": None}, "(0054,1102)", "restore"),
    "decay correction unknown": ({"DecayCorrection": "MAYBE"}, "(0054,1102)", "restore"),
    "NONE without frame duration": (
        {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "ActualFrameDuration": None},
        "(0018,1242)",
        "restore",
    ),
    "NONE without acquisition time": (
        {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "AcquisitionTime": None},
        "(0008,0032)",
        "restore",
    ),
    "NONE but corrected": ({"DecayCorrection": "NONE"}, "(0054,1102)", "correct the one"),
    # 10 corrections
    "not attenuation-corrected": (
        {"CorrectedImage": ["NORM", "DECY"]},
        "(0028,0051)",
        "attenuation-corrected series",
    ),
    "no corrections stated": ({"CorrectedImage": None}, "(0028,0051)", "attenuation-corrected series"),
    "stored SUV, not attenuation-corrected": (
        {"CorrectedImage": ["DECY"], "Units": "GML"},
        "(0028,0051)",
        "choose",
    ),
    "START without DECY": ({"CorrectedImage": ["NORM", "ATTN"]}, "(0028,0051)", "decay-corrected"),
    # 11 intercept
    "intercept": ({"RescaleIntercept": -1024}, "(0028,1052)", "export"),
    # 12 mixed series
    **{
        f"mixed {key}": ({key: lambda i, a=a, b=b: b if i else a}, tag, "one series per folder")
        for key, tag, a, b in (
            ("Units", "(0054,1001)", "BQML", "CNTS"),
            ("RadionuclideTotalDose", "(0018,1074)", 3.7e8, 3.0e8),
            ("PatientWeight", "(0010,1030)", 70, 71),
            ("RadiopharmaceuticalStartTime", "(0018,1072)", "100000", "100500"),
            ("RadionuclideHalfLife", "(0018,1075)", 6588, 4057.7),
            ("DecayCorrection", "(0054,1102)", "START", "ADMIN"),
            ("SeriesTime", "(0008,0031)", "110000", "111000"),
        )
    },
    # 14 injections
    "two injections": ({"RadiopharmaceuticalItems": 2}, "(0054,0016)", "keep the one"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_tag_and_the_mend(case):
    overrides, tag, mend = REFUSALS[case]
    line = refusal(**overrides)
    assert tag in line and mend in line, line
    assert "\n" not in line and len(line) < 420


def test_unknown_suv_type_and_no_slices():
    assert "lbmjanma" in refusal(suv_type="lean")
    with pytest.raises(InputError, match="no slices"):
        rules.decide([])


# ---------------------------------------------------------------------------------------- wild inputs


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999), st.integers(1, 6))
def test_every_dicom_time_is_read(hour, minute, second, micro, digits):
    fraction = f"{micro:06d}"[:digits]
    exact = hour * 3600 + minute * 60 + second + int(fraction) / 10**digits
    assert parse_time(f"{hour:02d}{minute:02d}{second:02d}.{fraction} ") == pytest.approx(exact, abs=1e-9)
    assert parse_time(f"{hour:02d}{minute:02d}\0") == hour * 3600 + minute * 60
    assert parse_time(f" {hour:02d}") == hour * 3600
    assert parse_time(f"{hour:02d}:{minute:02d}:{second:02d}") == hour * 3600 + minute * 60 + second


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-12 * 60, 14 * 60))
def test_every_dicom_moment_is_read(moment, offset):
    seconds = (moment - datetime(1900, 1, 1)) / timedelta(seconds=1)
    text = moment.strftime("%Y%m%d%H%M%S.%f")
    assert parse_datetime(text) == (pytest.approx(seconds, abs=1e-5), None)
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}{abs(offset) % 60:02d}"
    assert parse_datetime(text + zone)[1] == offset * 60.0
    assert parse_datetime(moment.strftime("%Y%m%d%H%M"))[0] == seconds - seconds % 60
    assert parse_date(moment.strftime("%Y%m%d")) == parse_date(moment.strftime("%Y.%m.%d"))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=24), st.from_regex(r"[0-9]{0,16}[.+-]?[0-9]{0,7}", fullmatch=True)))
def test_anything_else_is_no_time(text):
    for parse in (parse_time, parse_date, parse_datetime, parse_offset):
        try:
            found = parse(text)
        except ValueError as error:
            assert str(error).startswith("not a")
        else:
            assert found is None or isinstance(found, (float, tuple))
            assert (found is None) == (not text.strip(" \t\r\n\0"))


ODD = [
    None,
    "",
    "  ",
    "abc",
    "-1",
    "0",
    0,
    -5,
    "1e400",
    "nan",
    float("nan"),
    float("inf"),
    "70\\80",
    [],
    ["a", "b"],
    b"\xff",
]
NUMBERS = [
    0.001,
    0.4,
    1.2,
    64,
    175,
    999,
    1800,
    6588,
    "6586.2 ",
    4057.7,
    70_000,
    126e6,
    1e12,
    -3.0,
    1.7,
    282_276,
]
TIMES = [
    "110155",
    "1101",
    "11",
    "11:01:55",
    "000010",
    "235959.9",
    "246000",
    "100058.123456 ",
    "20201217100058",
    "9",
]
DATES = [
    "20201217",
    "20201218",
    "20201216",
    "2020.12.17",
    "19000101",
    "20201332",
    "20201217093000",
    "99999999",
]
CODES = [
    *("BQML", "CNTS", "GML", "CM2ML", "CPS", "START", "ADMIN", "NONE", "BW", "LBM", "BSA", "M", "F", "O"),
    *(["ATTN"], ["ATTN", "DECY"], ["DECY"], "ATTN\\DECY"),
    *("C-131A3", "^89^Zirconium", "SIEMENS", "GE MEDICAL SYSTEMS"),
]
POOL = ODD + NUMBERS + TIMES + DATES + CODES
KEYS = (
    "Units SUVType DecayCorrection CorrectedImage PatientWeight PatientSize PatientSex "
    "RadionuclideTotalDose RadionuclideHalfLife RadionuclideCodeValue RadionuclideCodeMeaning "
    "RadiopharmaceuticalStartTime RadiopharmaceuticalStartDateTime SeriesDate SeriesTime AcquisitionDate "
    "AcquisitionTime AcquisitionDateTime FrameReferenceTime ActualFrameDuration DecayFactor GEScanDateTime "
    "GEAdministrationDateTime Manufacturer SiemensDecayCorrectionDateTime PhilipsSUVScaleFactor "
    "PhilipsActivityConcentrationScaleFactor NumberOfSlices DecayCorrectionDateTime RescaleIntercept "
    "RadiopharmaceuticalItems DecayCorrected"
).split()
BASES = [
    {},
    {"DecayCorrection": "ADMIN"},
    {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"]},
    {"Units": "GML", "SUVType": "LBM"},
    {"Units": "CM2ML"},
    {"Units": "CNTS", "PhilipsSUVScaleFactor": "0.000728", "PhilipsActivityConcentrationScaleFactor": "1.3"},
    {"Units": "CNTS", "PhilipsActivityConcentrationScaleFactor": "1.3"},
    {"Manufacturer": "GE MEDICAL SYSTEMS", "GEScanDateTime": "20240229110000"},
    {
        "SeriesTime": "113000",
        "AcquisitionTime": "110230",
        "FrameReferenceTime": 299605.0,
        "NumberOfSlices": 3,
    },
    {"DecayCorrected": "YES", "DecayCorrectionDateTime": "20201217110000", "RadionuclideTotalDose": 370.0},
    {"DecayCorrected": "NO", "DecayCorrection": "NONE", "CorrectedImage": ["ATTN"]},
]
COMMON = {
    "SeriesDate": "20201217",
    "SeriesTime": "110155",
    "AcquisitionDate": "20201217",
    "AcquisitionTime": "110155",
    "RadiopharmaceuticalStartTime": "100058",
    "RadiopharmaceuticalStartDateTime": "20201217100058",
}


def damaged_header(random: Random) -> list[dict]:
    """A sound header in which one to four elements were removed, emptied, retyped, moved or exchanged."""
    header = header_facts(3, **{**COMMON, **random.choice(BASES)})
    for _ in range(random.randint(1, 4)):
        key, value = (
            random.choice(KEYS),
            random.choice([*POOL, random.uniform(-2.0, 3.0) * 10 ** random.randint(-3, 9)]),
        )
        where = random.choice(["all", "all", "all", "one", "exchange"])
        if where == "exchange":
            other = random.choice(KEYS)
            for facts in header:
                facts[key], facts[other] = facts.get(other), facts.get(key)
        for index in range(3) if where == "all" else [random.randrange(3)] if where == "one" else []:
            header[index][key] = value
    return header


@settings(max_examples=5000, deadline=None, derandomize=True)
@given(st.integers(0, 2**63))
def test_damaged_headers_give_a_confirmed_decision_or_a_refusal(seed):
    decided(damaged_header(Random(seed)))


def decided(header: list[dict]) -> bool:
    """Whether a header was decided, the decision then confirmed within 0.1 %, or refused in one line."""
    try:
        decision = rules.decide(header)
    except InputError as error:
        assert "\n" not in str(error)
        return False
    json.dumps(decision.to_dict(), allow_nan=False)
    for index, expected in enumerate(recomputed(header, decision)):
        factor = decision.factor if decision.factor_per_slice is None else decision.factor_per_slice[index]
        assert factor == pytest.approx(expected, rel=1e-3), (decision.rule, header)
    return True


CLOCK_KEYS = ("SeriesTime", "AcquisitionTime", "RadiopharmaceuticalStartTime")
MOMENT_KEYS = ("RadiopharmaceuticalStartDateTime", "DecayCorrectionDateTime", "GEScanDateTime")


def _removed(random: Random, header: list[dict], key: str) -> None:
    for facts in header:
        facts.pop(key, None)


def _emptied(random: Random, header: list[dict], key: str) -> None:
    value = random.choice(["", "  ", None, [], b""])
    for facts in header:
        facts[key] = value


def _retyped(random: Random, header: list[dict], key: str) -> None:
    change = random.choice(
        [
            str,
            lambda v: str(v).encode(),
            lambda v: [v],
            lambda v: [v, v],
            lambda v: f" {v} ",
            lambda v: f"{v}\0",
        ]
    )
    for facts in header:
        if facts.get(key) is not None:
            facts[key] = change(facts[key])


def _out_of_range(random: Random, header: list[dict], key: str) -> None:
    scale, odd = (
        random.choice([-1, 0, 1e-6, 1e-3, 1e3, 1e6, 1e12]),
        random.choice([*TIMES, *DATES, "nan", "99"]),
    )
    for facts in header:
        value = facts.get(key)
        facts[key] = value * scale if isinstance(value, (int, float)) else odd


def _shuffled_times(random: Random, header: list[dict], key: str) -> None:
    keys = random.choice([CLOCK_KEYS, MOMENT_KEYS, ("SeriesDate", "AcquisitionDate")])
    order = random.sample(keys, len(keys))
    values = [[facts.get(name) for name in order] for facts in header]
    if random.random() < 0.3:  # among the slices as well
        random.shuffle(values)
    for facts, own in zip(header, values, strict=True):
        facts.update(zip(keys, own, strict=True))


MUTATIONS = (_removed, _emptied, _retyped, _out_of_range, _shuffled_times)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_mutated_real_headers_give_a_confirmed_decision_or_a_refusal(data_folder, form):
    """5,000 headers of four vendors, as their classic slices and as an Enhanced PET image would say them."""
    real = [real_header(data_folder, name) for name in HEADERS]
    outcomes: Counter[tuple[str, bool]] = Counter()
    for seed in range(2500):
        random = Random(seed)
        header = [dict(facts) for facts in random.choice(real)]
        if form == "enhanced":
            for facts in header:
                date, time = str(facts["SeriesDate"]), str(facts["SeriesTime"])
                facts.update(DecayCorrected="YES", DecayCorrectionDateTime=date + time.strip())
                facts["RadionuclideTotalDose"] /= 1e6
        present = sorted({key for facts in header for key in facts})
        kinds = random.sample(MUTATIONS, random.choice([1, 1, 2, 3]))
        for mutate in kinds:
            mutate(random, header, random.choice(present))
        known = decided(header)
        outcomes.update((mutate.__name__, known) for mutate in kinds)
    for mutate in MUTATIONS:
        assert min(outcomes[mutate.__name__, known] for known in (True, False)) >= 100, outcomes


def recomputed(header: list[dict], decision: SUVDecision) -> list[float]:
    """SUVbw per stored unit of every slice, the straightforward way, by the rule that the decision names."""
    first = header[0]
    fixed = []

    def text(value):
        if isinstance(value, list):
            value = value[0] if len(value) == 1 else "several"
        plain = value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
        return plain.strip(" \t\r\n\0")

    def number(key):
        found = text(first.get(key))
        return float(found) if re.fullmatch(r"[-+0-9.eE]+", found) else 0.0

    def scaled(key, unit, wrong):
        value = number(key)
        if wrong(value):
            fixed.append(key)
            value *= unit
        return value

    # These are functions because a rule reads only what it needs.
    def weight():
        return scaled("PatientWeight", 1e-3, lambda v: v > 1000)

    def height():
        return scaled("PatientSize", 1e-2, lambda v: v > 3)

    def dose():
        return scaled("RadionuclideTotalDose", 1e6, lambda v: v < 1e4)

    def lean():
        w, h = weight(), height() * 100
        both = {"M": 1.1 * w - 120 * (w / h) ** 2, "F": 1.07 * w - 148 * (w / h) ** 2}
        both["O"] = (both["M"] + both["F"]) / 2
        return both[text(first["PatientSex"]).upper()]

    rule, units = decision.rule, text(first["Units"]).upper()
    if rule == "PHILIPS_SSF":
        return [number("PhilipsSUVScaleFactor")] * 3
    if rule == "GML":
        kind = text(first.get("SUVType")) if first.get("SUVType") != [] else ""
        kind = kind or "BW"
        return [{"BW": lambda: 1.0, "LBM": lambda: weight() / lean()}[kind]()] * 3
    if rule == "CM2ML":
        return [weight() * 1000 / (0.007184 * weight() ** 0.425 * (height() * 100) ** 0.725 * 1e4)] * 3
    scale = number("PhilipsActivityConcentrationScaleFactor") if units == "CNTS" else 1.0
    plain = scale * weight() * 1000 / dose()
    if rule == "ADMIN":
        return [plain] * 3
    half_life = decision.facts["half_life_s"]
    if number("RadionuclideHalfLife"):
        assert half_life == number("RadionuclideHalfLife")
    else:
        fixed.append("RadionuclideHalfLife")
        assert half_life == NUCLIDES[decision.facts["nuclide"]][0]

    def clock(value, skip=0):
        """Seconds of the day of a TM, or of a DT from its ninth digit."""
        digits = text(value).replace(":", "")[skip:]
        fields = [float(digits[i:j] or 0) for i, j in ((0, 2), (2, 4), (4, None))]
        return fields[0] * 3600 + fields[1] * 60 + fields[2]

    def sound(value, pattern):
        return re.fullmatch(pattern, text(value)) is not None

    time_of_day, moment = (
        r"[0-2]\d(:?[0-5]\d(:?[0-5]\d(\.\d{1,6})?)?)?",
        r"(18|19|2\d)\d\d[01]\d[0-3]\d[0-2]\d.*",
    )

    def acquired(facts):
        if sound(facts.get("AcquisitionTime"), time_of_day) and (
            sound(facts.get("AcquisitionDate"), r"(18|19|2\d)\d\d\.?[01]\d\.?[0-3]\d")
            or not sound(facts.get("AcquisitionDateTime"), moment)
        ):
            return clock(facts["AcquisitionTime"])
        return clock(facts["AcquisitionDateTime"], 8)

    def milliseconds(facts, key):
        return float(text(facts[key])) / 1000

    def back(facts):
        x = math.log(2) / half_life * milliseconds(facts, "ActualFrameDuration")
        mean = (
            math.log(x / (1 - math.exp(-x))) * half_life / math.log(2)
            if x > 1e-5
            else x / 2 * half_life / math.log(2)
        )
        return acquired(facts) + mean - milliseconds(facts, "FrameReferenceTime")

    if sound(first.get("RadiopharmaceuticalStartDateTime"), moment):
        injected = clock(first["RadiopharmaceuticalStartDateTime"], 8)
    elif sound(first.get("RadiopharmaceuticalStartTime"), time_of_day):
        injected = clock(first["RadiopharmaceuticalStartTime"])
    else:
        injected = clock(first["GEAdministrationDateTime"], 8)

    def uptake(reference):
        """Hours are enough: for F-18 and Ga-68 no uptake is longer than a day."""
        if half_life >= 41_400:
            return decision.facts["uptake_minutes"] * 60
        return (reference - injected + 3600) % 86_400 - 3600

    if rule == "NONE":
        frames = [math.log(2) / half_life * milliseconds(s, "ActualFrameDuration") for s in header]
        gains = [x / (1 - math.exp(-x)) if x > 1e-9 else 1.0 for x in frames]
        earliest = uptake(min(acquired(s) for s in header))
        times = [earliest + acquired(s) - min(acquired(t) for t in header) for s in header]
        expected = [plain * g * 2 ** (t / half_life) for g, t in zip(gains, times, strict=True)]
    else:
        private = first.get("GEScanDateTime")
        private = private if sound(private, moment) else first.get("SiemensDecayCorrectionDateTime")
        reference = {
            "PRIVATE": lambda: clock(private, 8),
            "ST": lambda: clock(first["SeriesTime"]),
            "AT_MIN": lambda: min(acquired(s) for s in header),
            "BACK": lambda: sum(back(s) for s in header) / 3,
            "DCDT": lambda: clock(first["DecayCorrectionDateTime"], 8),
        }[rule]()
        expected = [plain * 2 ** (uptake(reference) / half_life)] * 3
    assert not fixed or decision.notices, "a fix must be told"
    return expected


# ---------------------------------------------------------------------------------------- values given by hand

# What is wrong in a header -> what is given by hand, as the file would have said it from the start.
MENDED = {
    "no weight": ({"PatientWeight": 0.0}, {"PatientWeight": "70"}),
    "weight of somebody else": ({"PatientWeight": 81.5}, {"PatientWeight": "70"}),
    "no dose": ({"RadionuclideTotalDose": None}, {"RadionuclideTotalDose": "3.7e8"}),
    "no half-life and no nuclide": (
        {"RadionuclideHalfLife": None, "RadionuclideCodeValue": None, "RadionuclideCodeMeaning": None},
        {"RadionuclideHalfLife": "6586.2"},
    ),
    "no injection time": (
        {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None},
        {"RadiopharmaceuticalStartTime": "10:00:00"},
    ),
    "injection in another zone": (
        {"RadiopharmaceuticalStartTime": "120000", "RadiopharmaceuticalStartDateTime": "20240229120000"},
        {
            "RadiopharmaceuticalStartTime": "100000",
            "RadiopharmaceuticalStartDateTime": "2024-02-29 10:00:00",
        },
    ),
    "two injection times, one of them wrong": (
        {"RadiopharmaceuticalStartDateTime": "20240229113000"},
        {"RadiopharmaceuticalStartDateTime": ""},
    ),
    "no acquisition time": (
        {"AcquisitionTime": None, "SeriesTime": None},
        {"AcquisitionTime": "110000", "SeriesTime": "11:00"},
    ),
    "no decay correction": ({"DecayCorrection": ""}, {"DecayCorrection": "start"}),
}


@pytest.mark.parametrize("case", MENDED)
def test_a_value_by_hand_is_as_if_the_header_had_said_it(tmp_path, case):
    wrong, given = MENDED[case]
    right = {**wrong, **{key: text or None for key, text in manual.checked(given).items()}}
    for name, header in (("wrong", wrong), ("right", right)):
        write_series(tmp_path / name, slices=3, **header)
    expected = read_volume(tmp_path / "right").suv
    found = read_volume(tmp_path / "wrong", header=given).suv
    assert (found.factor, found.rule, found.reference_time) == (
        expected.factor,
        expected.rule,
        expected.reference_time,
    )
    assert found.candidates == expected.candidates and found.notices == expected.notices
    told = found.facts.pop("given_by_hand")
    assert found.facts == expected.facts and set(told) == set(given)
    assert len(found.warnings) == len(expected.warnings) + len(given)
    assert all(f"{key} given by hand" in line for key, line in zip(given, found.warnings, strict=False))


@pytest.mark.parametrize(
    ("header", "given", "idle"),
    [
        (
            {
                "Units": "CNTS",
                "PhilipsSUVScaleFactor": "0.00055",
                "PhilipsActivityConcentrationScaleFactor": "2",
            },
            {"PatientWeight": "80", "RadionuclideTotalDose": "1e8", "SeriesTime": "113000"},
            "PHILIPS_SSF",
        ),
        ({"Units": "GML", "SUVType": "BW"}, {"PatientWeight": "80", "RadionuclideTotalDose": "1e8"}, "GML"),
        (
            {"DecayCorrection": "ADMIN"},
            {"RadionuclideHalfLife": "6588", "RadiopharmaceuticalStartTime": "100100"},
            "ADMIN",
        ),
        ({}, {"PatientSize": "1.8", "PatientSex": "M", "ActualFrameDuration": "180000"}, "ST"),
    ],
)
def test_a_value_by_hand_without_effect_is_said_to_have_none(tmp_path, header, given, idle):
    write_series(tmp_path, slices=3, **header)
    plain, found = read_volume(tmp_path).suv, read_volume(tmp_path, header=given).suv
    assert found.factor == plain.factor
    for keyword in given:
        line = next(text for text in found.warnings if text.startswith(f"{keyword} given by hand"))
        assert line.endswith(f"it has no effect on the SUVbw, the rule {idle} decides without it")
        assert found.facts["given_by_hand"][keyword]["effect"] is False


@pytest.mark.parametrize(
    ("header", "given", "kind"),
    [
        ({}, {"PatientWeight": "80"}, "bw"),
        ({"DecayCorrection": "ADMIN"}, {"RadionuclideTotalDose": "3e8", "PatientWeight": "70"}, "bw"),
        ({"Units": "GML"}, {"PatientWeight": "80", "PatientSize": "1.8"}, "lbm"),
        ({}, {"PatientSize": "1.8"}, "lbm"),
        ({}, {"SeriesTime": "105000"}, "bw"),
    ],
)
def test_a_value_by_hand_that_counts_is_not_said_to_have_no_effect(tmp_path, header, given, kind):
    write_series(tmp_path, slices=3, **header)
    found = read_volume(tmp_path, header=given, suv_type=kind, accept_rule="ST").suv
    assert not any("no effect" in text for text in found.warnings)


def test_philips_factors_that_disagree_are_told(tmp_path):
    counts = {
        "Units": "CNTS",
        "PhilipsSUVScaleFactor": 1.1 * PLAIN,
        "PhilipsActivityConcentrationScaleFactor": 1.0,
    }
    write_series(tmp_path / "apart", slices=3, **counts)
    with pytest.raises(SUVRefusedError) as caught:  # more than 5 %: only by the caller's word
        read_volume(tmp_path / "apart")
    assert "-9.1 %" in str(caught.value) and caught.value.accept == "PHILIPS"
    assert "take it so with --accept-suv PHILIPS" in str(caught.value)
    (line,) = read_volume(tmp_path / "apart", accept_rule="PHILIPS").suv.warnings
    assert "(7053,xx00)" in line and "(7053,xx09)" in line and "-9.1 %" in line
    assert line.endswith("(taken so by the caller: PHILIPS)")
    write_series(tmp_path / "near", slices=3, **{**counts, "PhilipsSUVScaleFactor": 1.03 * PLAIN})
    (line,) = read_volume(tmp_path / "near").suv.warnings
    assert "-2.9 %" in line and "taken so" not in line
    write_series(tmp_path / "same", slices=3, **{**counts, "PhilipsSUVScaleFactor": PLAIN})
    assert not read_volume(tmp_path / "same").suv.warnings


def test_what_was_given_by_hand_is_said_beside_what_the_header_says(tmp_path):
    write_series(tmp_path, slices=3, PatientWeight=0.0, RadionuclideHalfLife=None)
    given = {"PatientWeight": "70", "RadionuclideHalfLife": "6586.2", "RadiopharmaceuticalStartDateTime": ""}
    volume = read_volume(tmp_path, header=given)
    assert volume.suv.factor == pytest.approx(PLAIN, rel=1e-12)
    assert volume.suv.warnings == [
        "PatientWeight given by hand: 70 kg (the header says 0)",
        "RadionuclideHalfLife given by hand: 6586.2 s (the header says nothing)",
        "RadiopharmaceuticalStartDateTime given by hand: left out (the header says 20240229100000)",
    ]
    assert volume.suv.facts["given_by_hand"]["PatientWeight"] == {"value": "70", "header": "0"}
    assert volume.header_values["PatientWeight"] == "0" and volume.header_values["SeriesTime"] == "110000"


def test_a_refusal_tells_what_the_header_says_and_what_there_is_to_choose(tmp_path):
    write_series(
        tmp_path / "rules", slices=3, AcquisitionTime="112000", FrameReferenceTime=149605.0, Manufacturer="X"
    )
    with pytest.raises(SUVRefusedError, match="contradict each other") as caught:
        read_volume(tmp_path / "rules")
    rules = {row["rule"]: row for row in caught.value.details["candidates"]}
    assert rules["ST"]["difference_percent"] == 0.0 and rules["AT_MIN"]["difference_percent"] > 5
    write_series(tmp_path / "weight", slices=3, PatientWeight=None)
    with pytest.raises(SUVRefusedError, match="PatientWeight") as caught:
        read_volume(tmp_path / "weight")
    assert caught.value.details["stated"]["PatientWeight"] == ""
    assert caught.value.details["stated"]["RadionuclideTotalDose"] == "370000000"


@pytest.mark.parametrize(
    ("keyword", "text", "sentence"),
    [
        ("PatientName", "Somebody", "cannot be given by hand, only PatientWeight, "),
        ("Units", "BQML", "cannot be given by hand"),
        ("PatientWeight", "seventy", "write a positive number of at most 16 characters, in kg"),
        ("PatientWeight", "-70", "write a positive number"),
        ("PatientWeight", "0", "write a positive number"),
        ("PatientWeight", "1e999", "write a positive number"),
        ("PatientWeight", "70.00000000000000001", "at most 16 characters"),
        ("PatientSex", "X", "write one of M, F, O"),
        ("SeriesTime", "25:00", "write a time of day"),
        ("SeriesDate", "20240230", "write a date"),
        ("RadiopharmaceuticalStartDateTime", "10:00", "write a date and time"),
        ("ActualFrameDuration", "1.5", "write a positive whole number, in ms"),
    ],
)
def test_what_cannot_be_given_by_hand_is_refused_by_name(keyword, text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        manual.checked({keyword: text})
    assert str(caught.value).startswith(f"--header {keyword}")
