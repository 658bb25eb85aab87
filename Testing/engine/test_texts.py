"""Text of files in tables and on terminals: formulas, escape sequences, and paths whose bytes are no text."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc import files
from drmc.cli.main import main
from drmc.denoising.pipeline import run
from drmc.denoising.request import DenoiseRequest
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from drmc.runtime.progress import TerminalProgress
from drmc.segments.reading import read_segments
from drmc.texts import ShownStream, cell, shown, text_of_cell
from hypothesis import given
from hypothesis import strategies as st
from support.engine.denoising_cases import GRID, lesion_mask, suv_image
from support.engine.lesion_tables import read_lesions_csv
from support.engine.synthetic_dicom import write_series

FORMULAS = ('=HYPERLINK("http://x","y")', "+cmd|' /C calc'!A1", "-2+3", "@SUM(A1)", "\tx", "\r=1", "-", "=")
EXACT = ("--device", "cpu", "--precision", "fp32")
pytestmark = pytest.mark.usefixtures("models")


# ---------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(text):
    assert cell(text) == "'" + text and text_of_cell(cell(text)) == text


@pytest.mark.parametrize(
    "value", [-1.5, 7, None, "-1.5", "+3", "-inf", "nan", "1e-5", "", "liver", "a=b", "a-b"]
)
def test_numbers_and_plain_words_stay_as_they_are(value):
    assert cell(value) == value


@given(st.text())
def test_no_cell_is_a_formula_and_what_was_written_comes_back(text):
    written = cell(text)
    assert text_of_cell(written) == shown(text, keep="\t\r\n")
    try:
        float(written)
    except ValueError:
        assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert shown(written, keep="\t\r\n") == written


@given(st.text(alphabet="'=+-@a1"))
def test_apostrophes_are_kept_apart(text):
    assert text_of_cell(cell(text)) == text


def test_csv_text_is_safe_whoever_writes_it():
    text = files.csv_text(("a", "b"), [("=1+1", -2.5), ("-3.25", "x\x1b[2J\n")])
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], ["'=1+1", "-2.5"], ["-3.25", "x?[2J\n"]]


# ---------------------------------------------------------------------------------------- terminals


def test_what_is_not_to_be_seen_is_a_question_mark():
    assert shown("\x1b[31mred\x07\x9b\x7f\u202egnp\udcfc\n") == "?[31mred????gnp??"
    assert shown("Läsion 1 / 肺, α–β 🫀") == "Läsion 1 / 肺, α–β 🫀"


def test_a_stream_writes_only_what_is_to_be_seen():
    raw = io.StringIO()
    stream = ShownStream(raw)
    print("a\tb\x1b[1m", file=stream)
    stream.writelines(["\r", "c\n"])
    assert raw.getvalue() == "a\tb?[1m\n?c\n" and not stream.isatty()
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    ShownStream(latin).write("ä 肺 \udcfc")
    latin.seek(0)
    assert latin.read() == "ä ? ?"


def test_progress_keeps_its_own_control_characters():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    raw = Terminal()
    progress = TerminalProgress(ShownStream(raw))
    progress.scan("\x1b[31mA", 1, 2)
    progress.progress(1, 2, None, "tile")
    progress.notice("b\x1b[1m\nc")
    assert "\r\x1b[K[" in raw.getvalue() and "?[31mA" in raw.getvalue() and "b?[1m?c\n" in raw.getvalue()


def segmentation(path: Path, *names: str) -> Path:
    """A Slicer segmentation on GRID with one ball under each name."""
    mask = np.stack([lesion_mask() * 1] * len(names), axis=-1).astype(np.uint8)
    image = sitk.GetImageFromArray(mask, isVector=True)
    image.SetSpacing(GRID.spacing)
    image.SetOrigin(GRID.origin)
    image.SetDirection(GRID.direction)
    for index, name in enumerate(names):
        for key, value in (("Name", name), ("ID", f"S{index}"), ("LabelValue", "1"), ("Layer", str(index))):
            image.SetMetaData(f"Segment{index}_{key}", value)
    sitk.WriteImage(image, str(path))
    return path


def image(folder: Path, name: str = "low.nii.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / name, suv_image(), GRID)
    (folder / f"{name.partition('.')[0]}.json").write_text(json.dumps({"Units": "SUV"}))
    return folder / name


def test_names_of_segments_in_every_output(tmp_path, capfd):
    names = ('=HYPERLINK("http://x","y")', "\x1b[31m+cmd|' /C calc'!A1", "@sum", "ok")
    expected = [names[0], "?[31m+cmd|' /C calc'!A1", "@sum", "ok"]
    scan, lesions = image(tmp_path / "case"), segmentation(tmp_path / "s.seg.nrrd", *names)
    assert [segment.name for segment in read_segments(lesions, GRID)[0]] == expected
    output = tmp_path / "out"
    assert main(["denoise", str(scan), "-o", str(output), "--lesions", str(lesions), *EXACT]) == 0
    assert main(["quantify", str(scan), "--lesions", str(lesions)]) == 0
    assert main(["quantify", str(scan), "--lesions", str(lesions), "--json"]) == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err and expected[1] in out
    for table in ("lesions.csv", "routing_lesions.csv"):
        with open(output / table, newline="", encoding="utf-8") as file:
            cells = {row["segment"] for row in csv.DictReader(file)}
        assert cells == {"'" + expected[0], expected[1], "'@sum", "ok"}
    read = read_lesions_csv(output / "lesions.csv")
    assert list(dict.fromkeys(row["segment"] for row in read)) == expected
    summary = json.loads((output / "summary.json").read_text())
    assert read == summary["lesions"]["segments"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in page and '=HYPERLINK("' not in page


def test_names_of_scans_in_the_tables_of_a_batch(tmp_path, capfd):
    for name in ("=1+1", "+\x1b[31mred", "c"):
        image(tmp_path / "cohort" / name)
    (tmp_path / "cohort" / "c" / "low.json").write_text('{"Units": "\x1b]0;x"}')
    code = main(["denoise", str(tmp_path / "cohort"), "-o", str(tmp_path / "out"), *EXACT])
    out, err = capfd.readouterr()
    assert code == 2 and "\x1b" not in out + err and "?[31mred" in err
    with open(tmp_path / "out" / "batch.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == ["'+?[31mred", "'=1+1", "c"]
    assert not any("\x1b" in value for row in rows for value in row.values())


def test_a_refusal_shows_no_control_characters(tmp_path, capfd):
    for name in ("\x1b[31mno", "a\nb"):
        assert main(["suv", str(tmp_path / name)]) == 2
        out, err = capfd.readouterr()
        assert not out and err.count("\n") == 1 and "\x1b" not in err
    assert main(["suv", str(image(tmp_path / "\x1b[2J"))]) == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err and "?[2J" in out


# ---- paths that are no text


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """A folder whose name is Latin-1."""
    path = Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/M\xfcller"))
    try:
        path.mkdir()
    except OSError:
        pytest.skip("this file system keeps names in UTF-8")
    return path


def run_drmc(*arguments: object) -> subprocess.CompletedProcess:
    """As a process of its own, with its own streams, in a UTF-8 locale."""
    command = [sys.executable, "-m", "drmc", *(os.fsencode(str(a)) for a in arguments)]
    return subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    )


@pytest.mark.parametrize(
    "kind", ["dicom", "low.nii.gz", "low.nrrd", "low.mha", "l\udcfcw.nii.gz", "l\udcfcw.nrrd"]
)
def test_every_input_and_output_in_such_a_folder(latin, kind, models):
    if kind == "dicom":
        scan = latin / "pet"
        array = np.random.default_rng(1).uniform(0, 2e4, (12, 20, 20))
        write_series(scan, array, orientation=(1.0, 0, 0, 0, 1.0, 0), origin=(0.0, 0, 0))
        grid = read_volume(scan).geometry
        mask = np.zeros(grid.shape)
        mask[4:8, 5:12, 5:12] = 1
        write_image(latin / "lesions.nii.gz", mask, grid)
    else:
        scan = image(latin, kind)
        write_image(latin / "lesions.nii.gz", lesion_mask(), GRID)
    model = latin / "tiny.pt"
    model.write_bytes((models / "tiny.pt").read_bytes())
    forms = [{"dicom": ["--format", "nrrd", "--dicom"], "low.nrrd": ["--format", "nrrd"]}.get(kind, [])]
    for form in forms:
        output = latin / "results" / f"out{len(form)}"
        asked = ["--lesions", latin / "lesions.nii.gz", "--model", model, *EXACT, *form]
        done = run_drmc("denoise", scan, "-o", output, *asked, "--reference", scan)
        assert done.returncode == 0, done.stderr
        assert not [path for path in output.iterdir() if path.name.startswith(".")]
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        assert json.dumps(summary, ensure_ascii=False).encode("utf-8")
        (output / "report.html").read_text(encoding="utf-8")
        written = next(output / name for name in summary["outputs"] if name.startswith("denoised.n"))
        done = run_drmc("quantify", written, "--lesions", latin / "lesions.nii.gz")
        assert done.returncode == 0, done.stderr
    for command in (["suv", scan], ["suv", scan, "--json"], ["suv", latin / "none"]):
        done = run_drmc(*command)
        assert done.returncode == (2 if "none" in str(command[1]) else 0), done.stderr
        (done.stdout + done.stderr).decode("utf-8")


def test_a_batch_of_such_names(latin, tmp_path):
    for name in ("a", "b\udce9"):
        image(latin / "cohort" / name)
    done = run_drmc("denoise", latin / "cohort", "-o", latin / "out", *EXACT)
    assert done.returncode == 0, done.stderr
    table = (latin / "out" / "batch.csv").read_text(encoding="utf-8")
    assert table.count("done") == 2 and "b?" in table
    done = run_drmc("denoise", latin / "cohort", "-o", latin / "out", "--resume", *EXACT)
    assert b"2 skipped" in done.stdout, done.stdout + done.stderr


def test_a_detached_header_finds_its_voxels(latin):
    array = suv_image()
    plain = GRID.to_image(array)
    source = latin.parent / "plain"
    source.mkdir()
    for name in ("a.nhdr", "b.mhd"):
        sitk.WriteImage(plain, str(source / name))
    for path in source.iterdir():
        path.rename(latin / path.name)
    for name in ("a.nhdr", "b.mhd"):
        assert np.array_equal(read_volume(latin / name, units="suv").array, array)


def test_a_request_by_a_program(latin):
    scan = image(latin)
    summary = run(DenoiseRequest(scan, latin / "o", device="cpu", precision="fp32"))
    assert summary["input"]["path"].endswith("M?ller/low.nii.gz")
