"""SUV factors: published ones of four vendors, every type of SUV, every unit."""

from __future__ import annotations

import json

import pytest
from drmc.suv import rules
from drmc.suv.formulas import suv_type_name
from support.engine.suv_decisions import (
    HEADERS,
    PLAIN,
    WEIGHT,
    decide,
    real_header,
)

# ---- published numbers


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
    """SUV scale factor alone, series time, and the time computed back are three ways to one number."""
    header = real_header(data_folder, "PHILIPS_CNTS_AND_SUV")
    for instance in header:
        instance.update(Units="BQML", PhilipsSUVScaleFactor=None)
    decision = rules.decide(header)
    candidates = {c["rule"]: c for c in decision.candidates}
    assert decision.rule == "ST"
    assert candidates["BACK"]["difference_percent"] == pytest.approx(0.0, abs=0.01)
    assert candidates["AT_MIN"]["difference_percent"] == pytest.approx(19.1, abs=0.1)
    assert any("AT_MIN" in warning for warning in decision.warnings)


# ---- types and units


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
