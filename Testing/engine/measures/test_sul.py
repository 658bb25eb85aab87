"""SUL beside SUV: Janmahasatian's formula by hand, on every image, and the reason where facts lack."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from drmc.suv.lean import sul_per_suv
from support.engine.denoising_cases import GRID, lesion_mask, suv_image, write_case
from support.engine.synthetic_dicom import write_series

EXACT = ("--device", "cpu", "--precision", "fp32", "--model", "tiny")
# 9270 W / (6680 + 216 BMI) for men, 9270 W / (8780 + 244 BMI) for women; over the weight.
MALE = 9270.0 / (6680.0 + 216.0 * 70.0 / 1.75**2)
FEMALE = 9270.0 / (8780.0 + 244.0 * 70.0 / 1.75**2)
PERSON = {"weight_kg": 70.0, "height_m": 1.75}


@pytest.mark.parametrize(
    ("sex", "kind", "expected"),
    [
        ("M", "SUVbw", MALE),
        ("F", "SUVbw", FEMALE),
        ("O", "SUVbw", (MALE + FEMALE) / 2),
        ("F", "SUVlbmjanma", 1.0),
        ("F", "SUVlbm", FEMALE * 70 / (1.07 * 70 - 148 * (70 / 175) ** 2)),
    ],
)
def test_the_ratio_is_that_of_the_masses(sex, kind, expected):
    ratio, note = sul_per_suv({"type": kind, "facts": {**PERSON, "sex": sex}})
    assert ratio == pytest.approx(expected, rel=1e-12) and note == ""


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "PatientWeight (0010,1030)"),
        ({"weight_kg": 70.0, "sex": "F"}, "PatientSize (0010,1020)"),
        ({**PERSON, "sex": None}, "PatientSex (0010,0040)"),
        ({"weight_kg": 0.0, "height_m": 1.75, "sex": "F"}, "PatientWeight (0010,1030)"),
    ],
)
def test_what_lacks_is_named(facts, words):
    ratio, note = sul_per_suv({"type": "SUVbw", "facts": facts})
    assert ratio is None and words in note


@pytest.mark.parametrize(
    "person", [(15.0, 1.0), (42.0, 1.65), (190.0, 1.60), (70_000.0, 1.75), (70.0, 0.175)]
)
def test_nobody_beyond_the_people_of_the_formula_has_a_sul(person):
    """A child; adults of BMI 15.4 and 74.2; weights and heights that nobody has."""
    facts = {"weight_kg": person[0], "height_m": person[1], "sex": "F"}
    ratio, note = sul_per_suv({"type": "SUVbw", "facts": facts})
    assert ratio is None and "adults of BMI 17.1 to 69.9" in note
    # Of a scan read with it both are one number, which has its warning.
    assert sul_per_suv({"type": "SUVlbmjanma", "facts": facts}) == (1.0, "")


def ran(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("models")
def test_tables_have_it_on_every_image(capsys, tmp_path):
    spacing = {"spacing": GRID.spacing[:2], "positions": GRID.spacing[2]}
    write_series(tmp_path / "scan", suv_image() * 4000.0, **spacing)
    geometry = read_volume(tmp_path / "scan").geometry
    write_image(tmp_path / "lesions.nii.gz", lesion_mask().astype(np.float32), geometry)
    out = tmp_path / "out"
    arguments = ("--lesions", tmp_path / "lesions.nii.gz", "--reference", tmp_path / "scan")
    ran(capsys, "denoise", tmp_path / "scan", "-o", out, *arguments, *EXACT)
    rows = rows_of(out / "lesions.csv")
    assert list(rows[0])[-4:] == ["sul_mean", "sul_max", "sul_peak", "sul_note"]
    assert {row["stage"] for row in rows} == {"original", "denoised", "reference", "change_percent"}
    for row in rows:
        ratio = 1.0 if row["stage"] == "change_percent" else FEMALE
        assert row["sul_note"] == ""
        for name in ("mean", "max", "peak"):
            assert float(row[f"sul_{name}"]) == pytest.approx(float(row[f"suv_{name}"]) * ratio, rel=1e-12)
    page = (out / "report.html").read_text()
    assert "SULpeak" in page and "Janmahasatian" in page
    summary = json.loads((out / "summary.json").read_text())
    found = json.loads(ran(capsys, "quantify", out, *arguments, "--json"))
    assert found["segments"] == summary["lesions"]["segments"]


@pytest.mark.usefixtures("models")
def test_without_the_facts_the_cells_are_empty_and_say_why(capsys, tmp_path):
    case = write_case(tmp_path / "case")
    out = tmp_path / "out"
    ran(capsys, "denoise", case["low"], "-o", out, "--lesions", case["lesions"], *EXACT)
    for row in rows_of(out / "lesions.csv"):
        assert {row[f"sul_{name}"] for name in ("mean", "max", "peak")} == {""}
        assert row["sul_note"].startswith("PatientWeight (0010,1030) is missing")
    page = (out / "report.html").read_text()
    assert "SUL is not stated: PatientWeight" in page and "SULpeak" not in page
