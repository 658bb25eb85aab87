"""Header values given by hand: what they change, and what is said of them."""

from __future__ import annotations

import pytest
from drmc.errors import InputError, SUVRefusedError
from drmc.pet.reading import read_volume
from drmc.suv import manual
from support.engine.suv_decisions import (
    PLAIN,
)
from support.engine.synthetic_dicom import write_series

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
