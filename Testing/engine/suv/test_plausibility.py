"""Implausible facts and SUVs: refused with tag, value and remedy on every path, or accepted explicitly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drmc.errors import InputError, SUVRefusedError
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.suv import bounds
from drmc.suv.formulas import body_norm
from drmc.suv.plausibility import nuclides_of_tracer, percentile_in_body
from drmc.suv.sources import WORDS, accepted
from support.engine.synthetic_dicom import header_facts, write_series

F18 = 6586.2
PLAIN = 70_000 / (3.7e8 * 2 ** (-3600 / F18))
BIDS = {
    "Units": "Bq/mL",
    "PatientWeight": 70,
    "PatientSize": 1.75,
    "PatientSex": "F",
    "InjectedRadioactivity": 370,
    "InjectedRadioactivityUnits": "MBq",
    "TracerName": "FDG",
    "TracerRadionuclide": "F18",
    "RadionuclideHalfLife": F18,
    "InjectionStart": 0,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 3600,
}


def body(high: float = 20_000.0) -> np.ndarray:
    """A body of 5,000 Bq/ml with a hot ball, large enough to have a 99.9th percentile, in air."""
    z, y, x = np.mgrid[:6, :32, :32]
    image = np.where(((y - 15.5) / 10) ** 2 + ((x - 15.5) / 13) ** 2 <= 1, 5000.0, 0.0)
    image[(z - 3) ** 2 + (y - 15) ** 2 + (x - 20) ** 2 <= 9] = high
    return image


def image(folder, sidecar=None, name="scan.nii.gz", array=None, metadata=None):
    folder.mkdir(parents=True, exist_ok=True)
    array = body() if array is None else array
    write_image(
        folder / name, array.astype(np.float32), Geometry(array.shape, (5.0, 5.0, 5.0)), metadata=metadata
    )
    if sidecar is not None:
        (folder / f"{name.split('.')[0]}.json").write_text(json.dumps(sidecar))
    return folder / name


def scan(folder, form: str, header: dict, sidecar: dict):
    """One scan as a classic or Enhanced series by `header`, or as an image with a side-car by `sidecar`."""
    if form in ("nifti", "nrrd"):
        name = "scan.nii.gz" if form == "nifti" else "scan.nrrd"
        card = {key: value for key, value in {**BIDS, **sidecar}.items() if value is not None}
        return image(folder / form, card, name)
    write_series(folder / form, body(), spacing=(5.0, 5.0), positions=5.0, form=form, **header)
    return folder / form


def refusal(path, **reading) -> SUVRefusedError:
    with pytest.raises(SUVRefusedError) as caught:
        read_volume(path, **reading)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 620
    return caught.value


FORMS = ("classic", "enhanced", "nifti", "nrrd")
# name -> header, side-car, what the refusal says, the word that vouches
IMPLAUSIBLE = {
    "half-life in minutes": (
        {"RadionuclideHalfLife": 109.77, "RadionuclideCodeValue": None, "RadionuclideCodeMeaning": None},
        {"RadionuclideHalfLife": 109.77, "TracerRadionuclide": None},
        ("109.77", "FDG", "looks like minutes"),
        "HALF_LIFE",
    ),
    "half-life in hours, no tracer": (
        {
            "RadionuclideHalfLife": 1.8295,
            "RadionuclideCodeValue": None,
            "RadionuclideCodeMeaning": None,
            "Radiopharmaceutical": None,
        },
        {"RadionuclideHalfLife": 1.8295, "TracerRadionuclide": None, "TracerName": None},
        ("1.8295", "looks like hours"),
        "",  # no SUV comes out at all
    ),
    "half-life of another nuclide than the tracer's": (
        {"Radiopharmaceutical": "[68Ga]Ga-DOTATATE"},
        {"TracerName": "[68Ga]Ga-DOTATATE", "TracerRadionuclide": None},
        ("6586.2", "Ga", "of the SUV"),
        "HALF_LIFE",
    ),
    "dose in mCi": (
        {"RadionuclideTotalDose": 10.0},
        {"InjectedRadioactivity": 10, "InjectedRadioactivityUnits": None},
        ("10", "0.143 MBq/kg", "looks like mCi"),
        "DOSE",
    ),
    "dose in GBq": (
        {"RadionuclideTotalDose": 0.37},
        {"InjectedRadioactivity": 0.37},
        ("0.37", "looks like GBq"),
        "DOSE",
    ),
    "dose in kBq": (
        {"RadionuclideTotalDose": 370_000.0},
        {"InjectedRadioactivity": 370_000, "InjectedRadioactivityUnits": "Bq"},
        ("370000", "looks like kBq"),
        "DOSE",
    ),
    "injection after the scan": (
        {"RadiopharmaceuticalStartTime": "111500", "RadiopharmaceuticalStartDateTime": "20240229111500"},
        {"InjectionStart": 4500},
        ("15.0 min before the injection",),
        "UPTAKE",
    ),
    "nine hours of uptake": (
        {"RadiopharmaceuticalStartTime": "020000", "RadiopharmaceuticalStartDateTime": "20240229020000"},
        {"InjectionStart": -28_800},
        ("540.0 min", "longer than F-18 is imaged"),
        "UPTAKE",
    ),
    "weight without its last digit": (
        {"PatientWeight": 7.0},
        {"PatientWeight": 7},
        ("52.9 MBq/kg", "7 kg", "weight and height"),
        "DOSE",
    ),
    "weight of nobody": (
        {"PatientWeight": 700.0, "RadionuclideTotalDose": 3.7e9},
        {"PatientWeight": 700, "InjectedRadioactivity": 3700},
        ("700 kg is implausible",),
        "BODY",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_the_implausible_is_refused_and_taken_by_the_word_of_the_caller(tmp_path, case, form):
    header, sidecar, words, word = IMPLAUSIBLE[case]
    if form == "enhanced" and "dose" in case:  # which states its dose in MBq
        header = {"RadionuclideTotalDose": header["RadionuclideTotalDose"] * 1e6}
    path = scan(tmp_path, form, header, sidecar)
    error = refusal(path)
    for part in words:
        assert part in str(error), str(error)
    place = ("scan.json",) if form in ("nifti", "nrrd") else ("(0018,10", "(0010,10")
    assert any(tag in str(error) for tag in place)
    if not word:
        return
    assert word in error.accept.split(",") and f"--accept-suv {error.accept}" in str(error)
    volume = read_volume(path, accept_rule=error.accept)
    assert word in volume.suv.facts["accepted"]
    assert any(f"taken so by the caller: {word}" in text for text in volume.suv.warnings)


@pytest.mark.parametrize("form", FORMS)
def test_a_usual_scan_has_no_warning(tmp_path, form):
    volume = read_volume(scan(tmp_path, form, {}, {}))
    assert volume.suv.factor == pytest.approx(PLAIN, rel=1e-9) and not volume.suv.warnings


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("header", "sidecar", "words"),
    [
        ({"RadionuclideTotalDose": 2.1e7}, {"InjectedRadioactivity": 21}, "MBq/kg of F-18"),
        ({"PatientWeight": 320.0}, {"PatientWeight": 320}, "320 kg is unusual"),
        (
            {"RadiopharmaceuticalStartTime": "104500", "RadiopharmaceuticalStartDateTime": "20240229104500"},
            {"InjectionStart": 2700},
            "unusual for FDG",
        ),
    ],
)
def test_the_unusual_is_a_warning(tmp_path, form, header, sidecar, words):
    path = scan(tmp_path, form, header, sidecar)
    assert any(words in text for text in read_volume(path).suv.warnings)


def test_infants_and_ultra_low_doses_are_no_mistakes(tmp_path):
    infant = {"PatientWeight": 4.0, "PatientSize": 0.55, "RadionuclideTotalDose": 2.6e7}
    write_series(tmp_path / "infant", body(), spacing=(5.0, 5.0), positions=5.0, **infant)
    assert not read_volume(tmp_path / "infant").suv.warnings
    low = {"RadionuclideTotalDose": 2.1e7}  # 0.3 MBq/kg on a long axial scanner
    write_series(tmp_path / "low", body() / 18, spacing=(5.0, 5.0), positions=5.0, **low)
    assert read_volume(tmp_path / "low").suv.warnings


@pytest.mark.parametrize("form", FORMS)
def test_a_half_life_that_is_off_is_weighed_by_its_effect(tmp_path, form):
    """7000 s are 2 % of the SUV after an hour: a warning. 5000 s are 13 %: that takes the caller's word."""
    for name, half_life in (("small", 7000.0), ("large", 5000.0)):
        stated = {"RadionuclideHalfLife": half_life}
        path = scan(tmp_path / name, form, stated, stated)
        if name == "small":
            (line,) = read_volume(path).suv.warnings
            assert "7000 s" in line and "F-18" in line
        else:
            error = refusal(path)
            assert "5000 s is not that of F-18 (6586.2 s), +12.8 % of the SUV" in str(error)
            assert error.accept == "HALF_LIFE"


def test_a_mouse_needs_the_word_and_keeps_its_number(tmp_path):
    path = image(tmp_path, {**BIDS, "PatientWeight": 0.025, "InjectedRadioactivity": 10, "PatientSize": None})
    error = refusal(path)
    volume = read_volume(path, accept_rule=error.accept)
    assert volume.suv.factor == pytest.approx(25 / (1e7 * 2 ** (-3600 / F18)), rel=1e-9)


@pytest.mark.parametrize(("scale", "word"), [(1000.0, "implausible"), (1e-3, "implausible")])
def test_the_suv_in_the_body_is_looked_at_whatever_it_came_from(tmp_path, scale, word):
    path = image(tmp_path, {"Units": "Bq/mL", "SUVFactor": PLAIN * scale})
    assert word in str(refusal(path)) and refusal(path).accept == "SUV"
    path = image(tmp_path, {"Units": "SUV"}, array=body() * PLAIN * scale)
    assert '"Units"' in str(refusal(path))
    volume = read_volume(path, accept_rule="SUV")
    assert volume.suv.factor == 1.0 and any("99.9th percentile" in text for text in volume.suv.warnings)


def test_air_around_the_body_does_not_count():
    wide = np.zeros((6, 200, 200))
    wide[:, 80:112, 80:112] = body()
    few, many = (percentile_in_body(one, (5.0, 5.0, 5.0)) for one in (body(), wide))
    assert few == pytest.approx(many, rel=0.2) and many >= 5000
    assert percentile_in_body(np.ones((3, 3, 3)), (5.0, 5.0, 5.0)) is None
    assert percentile_in_body(np.zeros((20, 20, 20)), (5.0, 5.0, 5.0)) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "weight", "height", "refused"),
    [
        ("lbm", 160.0, 1.50, "maximum at 81.3 kg"),
        ("lbmjames128", 160.0, 1.50, "maximum at 81.3 kg"),
        ("lbmjanma", 160.0, 1.50, ""),
        ("bw", 160.0, 1.50, ""),
        ("lbm", 81.0, 1.50, ""),
        ("ibw", 20.0, 1.10, "adults from 1.52 m"),
        ("ibw", 45.0, 1.45, ""),
    ],
)
def test_body_formulas_beyond_their_range(tmp_path, form, kind, weight, height, refused):
    dose = 4e6 * weight
    header = {"PatientWeight": weight, "PatientSize": height, "RadionuclideTotalDose": dose}
    card = {
        "PatientWeight": weight, "PatientSize": height, "InjectedRadioactivity": dose / 1e6,
    }  # fmt: skip
    path = scan(tmp_path, form, header, card)
    if refused:
        error = refusal(path, suv_type=kind)
        assert refused in str(error) and "--suv-type" in str(error) and error.accept == "FORMULA"
        taken = read_volume(path, suv_type=kind, accept_rule="FORMULA").suv
        assert any(refused in text for text in taken.warnings)
    else:
        decision = read_volume(path, suv_type=kind).suv
        expected = body_norm(kind, weight, height, "F") / (dose * 2 ** (-3600 / F18))
        assert decision.factor == pytest.approx(expected, rel=1e-9)
        assert bool(decision.warnings) == (height == 1.45 or (weight == 160.0))


def test_a_stored_lean_suv_beyond_its_range_is_not_turned_into_another(tmp_path):
    obese = {"PatientWeight": 160.0, "PatientSize": 1.5, "Units": "GML", "SUVType": "LBM"}
    write_series(tmp_path, body() * PLAIN, spacing=(5.0, 5.0), positions=5.0, **obese)
    assert "maximum" in str(refusal(tmp_path)) and read_volume(tmp_path, suv_type="lbm").suv.factor == 1.0


def test_what_a_tracer_is_made_with():
    names = nuclides_of_tracer
    assert names("FDG -- fluorodeoxyglucose") == names("PSMA-1007") == names("[18F]FDG") == ("F-18",)
    assert names("68Ga-PSMA-11") == ("Ga-68",) and "Ga-68" in names("PSMA-11") and "F-18" in names("PSMA-11")
    assert names("Rubidium chloride") == ("Rb-82",) and names("unheard of") == () and names("") == ()


def test_bounds_are_in_order_and_have_a_source():
    tables = [*bounds.DOSE_MBQ_PER_KG.values(), *bounds.UPTAKE_MINUTES.values()]
    tables += [getattr(bounds, n) for n in ("WEIGHT_KG", "HEIGHT_M", "BMI", "SUV_PERCENTILE")]
    for one in tables:
        assert one.lowest <= one.low < one.high <= one.highest and one.source
        assert one.judge(one.low) == "usual" and one.judge(one.highest * 1.01) == "implausible"


@pytest.mark.parametrize("text", ["PRIVATE", "ST,DOSE", "dose, suv", "half-life", "", None])
def test_what_the_caller_accepts(text):
    rule, words = accepted(text)
    assert rule in (None, "PRIVATE", "ST") and words <= set(WORDS)


@pytest.mark.parametrize("text", ["NONSENSE", "ST,BACK", "DOSE;SUV"])
def test_what_cannot_be_accepted_is_refused_with_the_choice(text):
    with pytest.raises(InputError, match="accept one of PRIVATE, ST"):
        accepted(text)
    assert header_facts(1)


@pytest.mark.parametrize("stored", ["Bq/mL", "SUV"])
@pytest.mark.parametrize("kind", ["bw", "lbm", "lbmjames128", "lbmjanma", "bsa", "ibw"])
def test_a_sidecar_in_grams_and_centimeters_is_that_in_kilograms_and_meters(tmp_path, stored, kind):
    """As in DICOM headers, with a notice: 172 m would have made the lean body mass 77 % too large."""
    usual = {**BIDS, "Units": stored, "PatientWeight": 72.5, "PatientSize": 1.72}
    other = {**usual, "PatientWeight": 72_500, "PatientSize": 172}
    array = body() if stored == "Bq/mL" else body() / 5000.0
    expected = read_volume(image(tmp_path / "usual", usual, array=array), suv_type=kind).suv
    found = read_volume(image(tmp_path / "other", other, array=array), suv_type=kind)
    assert found.suv.factor == pytest.approx(expected.factor, rel=1e-12)
    assert found.suv.facts["weight_kg"] == 72.5 and found.suv.facts["height_m"] == 1.72
    for words in ('"PatientWeight" 72500 taken as grams: 72.5 kg', '"PatientSize" 172 taken as cm: 1.72 m'):
        assert words in found.notices


def test_a_sidecar_of_sex_o_has_the_mean_of_both_formulas_and_says_so(tmp_path):
    """As in DICOM headers."""
    card = {**BIDS, "PatientSex": "O"}
    found = read_volume(image(tmp_path, card), suv_type="lbmjanma")
    male, female = (
        read_volume(image(tmp_path / sex, {**BIDS, "PatientSex": sex}), suv_type="lbmjanma").suv
        for sex in "MF"
    )
    assert found.suv.factor == pytest.approx((male.factor + female.factor) / 2, rel=1e-12)
    assert '"PatientSex" O: mean of the male and female SUVlbmjanma' in found.notices
    assert not any("PatientSex" in text for text in (*male.notices, *female.notices))
