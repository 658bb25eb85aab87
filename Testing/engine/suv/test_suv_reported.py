"""Warnings on an SUV go wherever the SUV goes: terminal, JSON, tables, report, DICOM."""

from __future__ import annotations

import csv
import json

import numpy as np
import pydicom
import pytest
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from drmc.suv import wording
from support.engine.command_line import EXACT
from support.engine.denoising_cases import GRID, lesion_mask, suv_image, write_case
from support.engine.synthetic_dicom import write_series

pytestmark = pytest.mark.usefixtures("default_model")
HEAVY = "PatientWeight (0010,1030) 320 kg is unusual"


def series(folder, **header):
    """The image of the pipeline's tests in Bq/ml."""
    write_series(
        folder,
        suv_image() * 4000.0,
        spacing=GRID.spacing[:2],
        positions=GRID.spacing[2],
        origin=(0.0, 0.0, 0.0),
        **header,
    )
    return folder


def mask_of(scan, path):
    volume = read_volume(scan)
    write_image(path, lesion_mask().astype(np.float32), volume.geometry)
    return path


def told(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_quantify_says_factor_rule_and_warnings_of_scan_and_reference(capsys, tmp_path):
    scan, full = series(tmp_path / "scan", PatientWeight=320.0), series(tmp_path / "full", DecayFactor="7")
    mask = mask_of(scan, tmp_path / "mask.nii.gz")
    asked = ("quantify", scan, "--lesions", mask, "--reference", full)
    out = told(capsys, *asked)
    factor = read_volume(scan).suv.factor
    assert f"SUVbw = BQML value x {factor:.6g}, rule ST" in out and f"warning: {HEAVY}" in out
    assert "reference: SUVbw = BQML value x" in out and "warning: reference: DecayFactor" in out
    found = json.loads(told(capsys, *asked, "--json"))
    assert {"factor", "type", "rule", "notices", "warnings"} <= set(found["suv"])
    assert found["suv"]["factor"] == factor and any(HEAVY in text for text in found["suv"]["warnings"])
    assert any("DecayFactor" in text for text in found["reference"]["suv"]["warnings"])
    alone = json.loads(told(capsys, "quantify", full, "--lesions", mask, "--json"))
    assert alone["reference"] is None and "segments" in alone and "bias" in alone and "notices" in alone


def test_a_run_says_it_in_every_output(capsys, tmp_path):
    scan = series(tmp_path / "scan", PatientWeight=320.0)
    mask = mask_of(scan, tmp_path / "mask.nii.gz")
    out = told(
        capsys,
        "denoise",
        scan,
        "-o",
        tmp_path / "out",
        "--lesions",
        mask,
        "--dicom",
        "--reference",
        scan,
        *EXACT,
    )
    assert f"warning: {HEAVY}" in out and f"warning: reference: {HEAVY}" in out and "rule ST" in out
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert HEAVY in report and f"Full-dose reference: {HEAVY}" in report
    rows = list(csv.DictReader(open(tmp_path / "out" / "lesions.csv", encoding="utf-8", newline="")))
    assert {row["stage"] for row in rows} == {"original", "denoised", "reference", "change_percent"}
    factor = read_volume(scan).suv.factor
    for row in rows:
        assert row["suv_rule"] == "ST" and float(row["suv_factor"]) == factor and HEAVY in row["suv_warnings"]
    written = pydicom.dcmread(tmp_path / "out" / "denoised" / "IM0001.dcm")
    assert HEAVY in written.ImageComments and "rule ST" in written.ImageComments
    assert f"{factor:.6g}" in written.ImageComments
    # And from the written image on: whoever measures it is told again.
    again = told(capsys, "quantify", tmp_path / "out" / "denoised.nii.gz", "--lesions", mask)
    assert f"warning: {HEAVY}" in again


def test_what_the_source_commented_is_kept(tmp_path, capsys):
    scan = series(tmp_path / "scan", ImageComments="two beds")
    told(capsys, "denoise", scan, "-o", tmp_path / "out", "--format", "dicom", *EXACT)
    comments = pydicom.dcmread(tmp_path / "out" / "denoised" / "IM0001.dcm").ImageComments
    assert comments.startswith("two beds SUVbw = BQML value x ") and "warning" not in comments


def test_a_word_that_was_given_holds_for_the_written_image(capsys, tmp_path):
    low = write_case(tmp_path / "case", factor=0.25)["low"]
    asked = ("denoise", low, "-o", tmp_path / "out", *EXACT)
    card = json.loads(low.with_name("low.json").read_text())
    low.with_name("low.json").write_text(json.dumps({**card, "SUVFactor": 250.0}))
    assert main([*map(str, asked)]) == 2 and "--accept-suv SUV" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    out = told(capsys, *asked, "--accept-suv", "SUV")
    assert "taken so by the caller: SUV" in out
    written = read_volume(tmp_path / "out" / "denoised.nii.gz")
    assert written.suv.factor == 250.0 and any("implausible" in text for text in written.suv.warnings)


def test_a_batch_says_which_scans_have_warnings(capsys, tmp_path):
    for name, header in (("good", {}), ("heavy", {"PatientWeight": 320.0})):
        series(tmp_path / "in" / name, **header)
    asked = ("denoise", tmp_path / "in", "-o", tmp_path / "out", *EXACT)
    for outcome in ("done", "skipped"):
        out = told(capsys, *asked, *(("--resume",) if outcome == "skipped" else ()))
        assert "SUV warnings in 1 of 2 scans, see batch.csv: heavy" in out
        rows = list(csv.DictReader(open(tmp_path / "out" / "batch.csv", encoding="utf-8", newline="")))
        assert list(rows[0])[:6] == ["scan", "outcome", "seconds", "input", "output", "message"]
        assert [row["outcome"] for row in rows] == [outcome] * 2
        assert rows[0]["warnings"] == "" and HEAVY in rows[1]["warnings"] and rows[1]["message"] == ""


def test_a_batch_refuses_an_implausible_scan_and_does_the_others(capsys, tmp_path):
    for name, header in (("good", {}), ("kbq", {"RadionuclideTotalDose": 370_000.0})):
        series(tmp_path / "in" / name, **header)
    assert main(["denoise", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *EXACT]) == 2
    rows = list(csv.DictReader(open(tmp_path / "out" / "batch.csv", encoding="utf-8", newline="")))
    assert [row["outcome"] for row in rows] == ["done", "refused"] and "looks like kBq" in rows[1]["message"]
    assert not (tmp_path / "out" / "kbq").exists()


def test_one_line_of_a_factor_that_differs_by_slice():
    decision = {
        "factor": 2.0,
        "factor_per_slice": [1.0, 3.0],
        "type": "SUVbw",
        "rule": "NONE",
        "warnings": [],
    }
    assert wording.one_line(decision, "BQML") == "SUVbw = BQML value x 1 to 3 by slice, rule NONE"
    assert wording.cell(["a\nb", "c"]) == "a b | c"
