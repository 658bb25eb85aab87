"""What is corrected with a notice, warned of, or refused by tag."""

from __future__ import annotations

import pytest
from drmc.errors import InputError
from drmc.suv import rules
from support.engine.suv_decisions import (
    PLAIN,
    decide,
    refusal,
)

# ---- fixes


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


# ---- refusals


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
