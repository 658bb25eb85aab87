"""Header values given by hand, models that are added, and what the command line says of the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.models.registry import find_model, user_folder
from drmc.pet.reading import read_volume
from support.engine.command_line import EXACT, refused
from support.engine.denoising_cases import GRID, lesion_mask, suv_image, tree, write_case
from support.engine.synthetic_dicom import write_series


def said(capture, *arguments: object) -> dict:
    """What a command prints for programs; its exit code with it."""
    code = main([*map(str, arguments), "--progress", "json"])
    lines = capture.readouterr().out.splitlines()
    return {"code": code, **json.loads(lines[-1])}


def activity(folder: Path, **header: object) -> Path:
    """A DICOM series of the suv_image in Bq/ml."""
    write_series(folder, suv_image() * 4000.0, **header)
    return folder


def test_suv_takes_values_by_hand_and_says_so(capsys, tmp_path):
    wrong = activity(tmp_path / "wrong", PatientWeight=0.0)
    right = activity(tmp_path / "right")
    refusal = said(capsys, "suv", wrong)
    assert refusal["code"] == 2 and refusal["event"] == "error"
    assert refusal["message"].startswith("PatientWeight (0010,1030) is missing or zero")
    assert refusal["stated"]["PatientWeight"] == "0" and refusal["stated"]["RadionuclideHalfLife"] == "6586.2"
    found = said(capsys, "suv", wrong, "--header", "PatientWeight=70")
    assert found["factor"] == said(capsys, "suv", right)["factor"]
    assert found["warnings"] == ["PatientWeight given by hand: 70 kg (the header says 0)"]
    assert main(["suv", str(wrong), "--header", "PatientWeight=70"]) == 0
    out = capsys.readouterr().out
    assert "warning: PatientWeight given by hand: 70 kg (the header says 0)" in out and "{" not in out


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (["PatientName=X"], "--header PatientName: cannot be given by hand"),
        (["PatientWeight"], "write KEYWORD=VALUE"),
        (["PatientWeight=70", "--header", "PatientWeight=71"], "occurs twice"),
        (["PatientWeight=heavy"], "write a positive number"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(capfd, tmp_path, header, sentence):
    scan = activity(tmp_path / "scan")
    for command in (
        ("suv", scan),
        ("denoise", scan, "-o", tmp_path / "out"),
        ("quantify", scan, "--lesions", "x"),
    ):
        assert sentence in refused(capfd, tmp_path, *command, "--header", *header)


def test_an_image_without_a_dicom_header_has_nothing_to_replace(capfd, tmp_path):
    low = write_case(tmp_path / "case")["low"]
    line = refused(capfd, tmp_path, "suv", low, "--header", "PatientWeight=70")
    assert "is no DICOM" in line and "side-car low.json" in line


def test_denoising_with_a_value_by_hand_is_as_with_a_right_header(capsys, tmp_path):
    wrong = activity(tmp_path / "wrong", PatientWeight=None)
    right = activity(tmp_path / "right")
    before = tree(wrong)
    asked = ("--format", "nrrd", "--dicom", *EXACT)
    assert main(["denoise", str(right), "-o", str(tmp_path / "a"), *asked]) == 0
    arguments = ["denoise", str(wrong), "-o", str(tmp_path / "b"), *asked, "--header", "PatientWeight=70"]
    assert main(arguments) == 0
    assert tree(wrong) == before
    one, other = (read_volume(tmp_path / name / "denoised.nrrd") for name in "ab")
    assert np.array_equal(one.array, other.array) and one.suv.factor == other.suv.factor
    summary = json.loads((tmp_path / "b" / "summary.json").read_text())
    line = "PatientWeight given by hand: 70 kg (the header says nothing)"
    assert summary["suv"]["warnings"][0] == line and summary["settings"]["header"] == {"PatientWeight": "70"}
    assert summary["suv"]["facts"]["weight_kg"] == 70.0
    assert line in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    # The written series stands for itself: whoever reads it finds the same SUV without being told.
    series, same = (read_volume(tmp_path / name / "denoised") for name in "ab")
    assert series.suv.factor == same.suv.factor and np.array_equal(series.array, same.array)
    assert "carries the values given by hand: PatientWeight" in " ".join(summary["notices"])


def test_a_batch_is_resumed_with_the_same_values_only(capsys, tmp_path):
    activity(tmp_path / "cohort" / "one", PatientWeight=None)
    activity(tmp_path / "cohort" / "two", PatientWeight=None)
    fixed = ("denoise", tmp_path / "cohort", "-o", tmp_path / "out", "--resume", *EXACT)

    def weight(kilograms: int) -> tuple:
        table = tmp_path / "headers.csv"
        table.write_text(f"scan,PatientWeight\none,{kilograms}\ntwo,{kilograms}\n")
        return "--headers", table

    assert said(capsys, *fixed, *weight(70))["counts"] == {"done": 2}
    assert said(capsys, *fixed, *weight(70))["counts"] == {"skipped": 2}
    assert said(capsys, *fixed, *weight(71))["counts"] == {"done": 2}


# ---- voxels that another program passes in


def image_of(path: Path, array: np.ndarray) -> Path:
    """The voxels of a program that has another order of them than the file."""
    sitk.WriteImage(GRID.to_image(array)[:, ::-1, :], str(path))
    return path


def test_an_image_file_speaks_for_the_voxels_as_long_as_they_are_the_same(capsys, tmp_path):
    low = write_case(tmp_path / "case", factor=0.00025)["low"]
    array = read_volume(low).array
    voxels = image_of(tmp_path / "node.mha", array)
    same = read_volume(low, voxels=voxels, label="PET")
    assert same.source == low and same.suv.factor == 0.00025 and np.array_equal(same.array, array)
    passed = ("suv", low, "--voxels", voxels, "--label", "PET")
    assert said(capsys, *passed)["factor"] == 0.00025
    changed = array.copy()
    changed[3, 4, 5] += 1.0
    write_image(voxels, changed * 0.00025, GRID)
    (tmp_path / "node.json").write_text('{"Units": "SUV"}')
    other = read_volume(low, voxels=voxels, label="PET")
    assert other.source == voxels and np.array_equal(other.array, read_volume(voxels).array)
    assert said(capsys, *passed)["factor"] == 1.0
    low.write_bytes(b"something else")
    assert read_volume(low, voxels=voxels).source == voxels


def test_voxels_that_differ_from_their_series_are_refused(capfd, tmp_path):
    series = activity(tmp_path / "series")
    volume = read_volume(series)
    voxels = tmp_path / "node.mha"
    passed = (series, "--voxels", voxels)
    write_image(voxels, np.round(volume.array), volume.geometry)  # as Slicer's reader may
    assert main(["denoise", *map(str, passed), "-o", str(tmp_path / "out"), *EXACT]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["scan"] == "series" and summary["input"]["kind"] == "dicom"
    changed = volume.array.copy()
    changed[2, 2, 2] += 0.01 * changed.max()
    write_image(voxels, changed, volume.geometry)
    line = refused(capfd, tmp_path, "suv", *passed)
    assert line.startswith(f"drmc: {series} no longer holds what its DICOM files hold")
    for command in (("suv",), ("denoise", "-o", tmp_path / "refused", *EXACT)):
        line = refused(capfd, tmp_path, *command, *passed, "--label", "Low dose")
        assert line.startswith("drmc: 'Low dose' no longer holds what its DICOM files hold")


LABEL = "O'Neil & <Sons>"


def test_the_label_stands_in_messages_tables_and_the_report(capfd, tmp_path):
    low = write_case(tmp_path / "case")["low"]
    lesions = tmp_path / "temporary.nii.gz"
    write_image(lesions, lesion_mask(), GRID)
    fixed = ("denoise", low, "-o", tmp_path / "out", "--label", LABEL, *EXACT)
    marked = ("--lesions", lesions, "--lesions-label", "Marks")
    assert main([*map(str, (*fixed, *marked))]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["scan"] == LABEL and summary["lesions"]["input"] == "Marks"
    assert {row["scan"] for row in summary["lesions"]["segments"]} == {LABEL}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "O&#x27;Neil &amp; &lt;Sons&gt;" in page and "<Sons>" not in page
    assert str(tmp_path) not in page
    write_image(lesions, np.zeros(GRID.shape, np.float32), GRID)
    assert refused(capfd, tmp_path, *fixed, *marked).startswith("drmc: 'Marks': the segmentation is empty")
    full = suv_image().astype(np.float32)
    full[0, 0, 0] = np.nan
    write_image(tmp_path / "full.nrrd", full, GRID)
    passed = ("--reference", tmp_path / "full.nrrd", "--reference-label", "Full")
    assert refused(capfd, tmp_path, *fixed, *passed).startswith("drmc: 'Full' has 1 voxels that are NaN")


def test_the_label_stands_in_what_is_said_of_a_damaged_series(capfd, tmp_path):
    series = activity(tmp_path / "series")
    file = sorted(series.iterdir())[2]
    file.write_bytes(file.read_bytes()[:-50])
    line = refused(capfd, tmp_path, "suv", series, "--label", "PET")
    assert line.startswith(f"drmc: 'PET' ({file.name}) is truncated") and str(tmp_path) not in line


@pytest.mark.parametrize(
    "option", ["voxels", "label", "reference-voxels", "reference-label", "lesions-label"]
)
def test_a_batch_has_no_single_scan_to_name(capfd, tmp_path, option):
    activity(tmp_path / "cohort" / "one")
    line = refused(
        capfd, tmp_path, "denoise", tmp_path / "cohort", "--batch", "-o", tmp_path / "out", f"--{option}", "x"
    )
    assert f"--{option}: is for one scan" in line


# ---- the SUV by the header alone


def test_the_header_alone_gives_the_same_decision(capsys, tmp_path):
    """Also where the pixel data cannot be read, since nobody looks at them."""
    series = activity(tmp_path / "series")
    whole = said(capsys, "suv", series)
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        ds.BitsAllocated = 24
        ds.save_as(file)
    assert said(capsys, "suv", series)["code"] == 2
    assert said(capsys, "suv", series, "--header-only") == whole
    refusal = said(capsys, "suv", activity(tmp_path / "wrong", PatientWeight=None), "--header-only")
    assert refusal["code"] == 2 and refusal["stated"]["RadionuclideHalfLife"] == "6586.2"


def test_the_header_of_an_image_may_stand_without_voxels(capsys, tmp_path):
    header = tmp_path / "node.mhd"
    header.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 8 9 10\nElementSpacing = 2 2 2\n"
        "ElementType = MET_FLOAT\nElementDataFile = node.raw\n"
    )
    asked = ("suv", header, "--header-only", "--label", "PET")
    refusal = said(capsys, *asked)
    assert refusal["unknown_units"] and refusal["message"].startswith(
        "'PET' does not say its units: write a side"
    )
    assert "99.9th percentile in the body 4000)" in said(capsys, *asked, "--body-percentile", 4000)["message"]
    (tmp_path / "node.json").write_text('{"Units": "SUV"}')
    assert said(capsys, *asked)["factor"] == 1.0
    assert said(capsys, *asked, "--body-percentile", 10)["warnings"] == []
    refusal = said(capsys, *asked, "--body-percentile", 4000)
    assert "the SUVbw in the body is implausible" in refusal["message"] and refusal["accept"] == "SUV"


def test_what_does_not_go_with_the_header_alone_is_refused(capfd, tmp_path):
    series = activity(tmp_path / "series")
    line = refused(capfd, tmp_path, "suv", series, "--header-only", "--voxels", "x.mha")
    assert "--voxels: nothing is compared" in line
    assert "is for --header-only" in refused(capfd, tmp_path, "suv", series, "--body-percentile", "4")


# ---- models and devices


def test_a_model_is_added_to_the_users_folder(capfd, tmp_path, models, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    mine = tmp_path / "elsewhere"
    mine.mkdir()
    for ending in (".pt", ".json"):
        shutil.copy(models / f"tiny{ending}", mine / f"mine{ending}")
    found = said(capfd, "models", "--add", mine / "mine.pt")
    assert found["code"] == 0 and found["added"]["name"] == "mine" and not found["added"]["default"]
    added = find_model(user_folder() / "mine.pt")
    assert added.card["training"] == {"data": "none", "steps": 0} and added.sha256 == found["added"]["sha256"]
    assert said(capfd, "models", "--add", mine / "mine.pt")["code"] == 0  # again: the same model
    (mine / "mine.json").unlink()
    (mine / "mine.pt").write_bytes(b"not weights")
    assert "is not a weight file" in refused(capfd, tmp_path, "models", "--add", mine / "mine.pt")
    assert find_model(user_folder() / "mine.pt").sha256 == added.sha256


def test_another_model_of_the_same_name_is_not_written_over(capfd, tmp_path, models, monkeypatch):
    from drmc.models.weights import save_model
    from drmc.networks.drmc import DRMC, NetworkConfig

    monkeypatch.setattr("drmc.models.registry.user_folder", lambda: models)
    (tmp_path / "elsewhere").mkdir()
    other = DRMC(NetworkConfig(channels=8, blocks=1, experts=2, heads=2, hidden=4))
    save_model(tmp_path / "elsewhere" / "tiny.pt", other, 16)
    line = refused(capfd, tmp_path, "models", "--add", tmp_path / "elsewhere" / "tiny.pt")
    assert "another model of this name is there" in line


def test_devices_names_what_auto_takes(capsys):
    found = said(capsys, "devices")
    chosen = next(one for one in found["devices"] if one["name"] == found["auto"])
    assert chosen["title"] and found["why"]
    processor = found["devices"][-1]
    assert processor["name"] == processor["kind"] == "cpu" and processor["cores"] >= 1
    assert processor["total_bytes"] is None or processor["total_bytes"] > 0
    assert main(["devices"]) == 0
    assert f"auto takes {found['auto']}" in capsys.readouterr().out


def test_devices_without_pytorch_says_what_to_do(capfd, tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    from drmc.errors import InputError
    from drmc.inference import devices

    with pytest.raises(InputError, match="PyTorch is missing: install it"):
        devices.list_devices()
