"""A result is measured again without denoising, and its side-car keeps what other SUV types need."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from support.engine.denoising_cases import GRID, lesion_mask, suv_image
from support.engine.synthetic_dicom import write_series

EXACT = ("--device", "cpu", "--precision", "fp32")
pytestmark = pytest.mark.usefixtures("models")


def series(folder, **header):
    write_series(folder, suv_image() * 4000.0, spacing=GRID.spacing[:2], positions=GRID.spacing[2], **header)
    return folder


def mask_of(scan, path, mask=None):
    write_image(
        path, (lesion_mask() if mask is None else mask).astype(np.float32), read_volume(scan).geometry
    )
    return path


def told(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["bw", "lbm", "lbmjanma", "bsa", "ibw"])
@pytest.mark.parametrize("run", ["bw", "lbm"])
@pytest.mark.parametrize("header", [{}, {"Units": "GML", "SUVType": "BW"}], ids=["activity", "SUV"])
def test_the_written_image_has_every_suv_type_of_the_scan(capsys, tmp_path, kind, run, header):
    scan = series(tmp_path / "scan", **header)
    if header:
        write_series(scan, suv_image(), spacing=GRID.spacing[:2], positions=GRID.spacing[2], **header)
    told(capsys, "denoise", scan, "-o", tmp_path / "out", "--model", "zero", "--suv-type", run, *EXACT)
    card = json.loads((tmp_path / "out" / "denoised.json").read_text())
    assert (card["PatientWeight"], card["PatientSize"], card["PatientSex"]) == (70.0, 1.75, "F")
    found = read_volume(tmp_path / "out" / "denoised.nii.gz", suv_type=kind).suv
    expected = read_volume(scan, suv_type=kind).suv
    assert found.factor == pytest.approx(expected.factor, rel=1e-12) and found.type == expected.type


def test_a_result_folder_is_measured_with_other_lesions(capsys, tmp_path):
    scan = series(tmp_path / "scan")
    first = mask_of(scan, tmp_path / "first.nii.gz")
    second = mask_of(scan, tmp_path / "second.nii.gz", lesion_mask() & (np.arange(GRID.shape[2]) < 15))
    out = tmp_path / "out"
    told(capsys, "denoise", scan, "-o", out, "--lesions", first, *EXACT)
    summary = json.loads((out / "summary.json").read_text())
    found = json.loads(told(capsys, "quantify", out, "--lesions", first, "--json"))
    assert found["segments"] == summary["lesions"]["segments"]  # to the bit
    assert found["suv"]["rule"] == "ST" and any("measured again" in text for text in found["notices"])
    told(capsys, "denoise", scan, "-o", tmp_path / "again", "--lesions", second, *EXACT)
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    found = json.loads(told(capsys, "quantify", out, "--lesions", second, "--json"))
    assert found["segments"] == again["lesions"]["segments"]
    text = told(capsys, "quantify", out, "--lesions", second)
    assert "change_percent" in text and "measured again, original:" in text
    full = json.loads(
        told(capsys, "quantify", out, "--lesions", second, "--json", "--reference", scan, "--suv-type", "bsa")
    )
    rows = {row["stage"]: row for row in full["segments"]}
    assert rows["reference"]["suv_max"] == rows["original"]["suv_max"]
    # Another SUV type, as for any image; nothing in the result has changed.
    lean = json.loads(told(capsys, "quantify", out, "--lesions", second, "--json", "--suv-type", "lbmjanma"))
    factor = read_volume(scan, suv_type="lbmjanma").suv.factor
    assert lean["suv"]["factor"] == factor != found["suv"]["factor"]
    assert json.loads((out / "summary.json").read_text()) == summary


@pytest.mark.parametrize("form", ["nrrd", "dicom"])
def test_every_form_of_result_and_the_settings_of_its_run_count(capsys, tmp_path, form):
    scan = series(tmp_path / "scan", PatientWeight=0.0)
    mask = tmp_path / "mask.nii.gz"
    write_image(
        mask, lesion_mask().astype(np.float32), read_volume(scan, header={"PatientWeight": "80"}).geometry
    )
    out = tmp_path / "out"
    run = ("--header", "PatientWeight=80", "--format", form, "--suv-type", "bsa", "--lesions", mask)
    told(capsys, "denoise", scan, "-o", out, *run, *EXACT)
    summary = json.loads((out / "summary.json").read_text())
    found = json.loads(told(capsys, "quantify", out, "--lesions", mask, "--json"))
    assert found["suv"]["factor"] == summary["suv"]["factor"]
    for row, expected in zip(found["segments"], summary["lesions"]["segments"], strict=True):
        assert row["stage"] == expected["stage"]
        tolerance = 1e-12 if form == "nrrd" else 2e-3
        assert row["suv_mean"] == pytest.approx(expected["suv_mean"], rel=tolerance, abs=tolerance)


def test_a_scan_that_moved_or_changed_is_refused(capsys, tmp_path):
    scan = series(tmp_path / "scan")
    mask = mask_of(scan, tmp_path / "mask.nii.gz")
    out = tmp_path / "out"
    told(capsys, "denoise", scan, "-o", out, *EXACT)
    scan.rename(tmp_path / "moved")
    asked = ["quantify", str(out), "--lesions", str(mask)]
    assert main(asked) == 2
    line = capsys.readouterr().err
    assert "no longer at" in line and "denoised.nii.gz" in line and line.count("\n") == 1
    series(scan, PatientWeight=71.0)
    assert main(asked) == 2 and "has changed since" in capsys.readouterr().err
    (out / "denoised.nii.gz").unlink()
    assert main(asked) == 2 and "denoised image is gone" in capsys.readouterr().err
