"""The command line: its exit codes, its one line on standard error, its JSON, and how it stops."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import drmc
import numpy as np
import pytest
from drmc.cli.main import main
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.runtime.progress import JsonProgress, TerminalProgress, duration
from support.engine.command_line import EXACT, refused
from support.engine.denoising_cases import (
    GRID,
    INTERVAL_COLUMNS,
    LEAN_COLUMNS,
    LESION_COLUMNS,
    THRESHOLD_COLUMNS,
    lesion_mask,
    suv_image,
    tree,
    write_case,
)
from support.engine.synthetic_dicom import SECRETS, rewrite, write_series

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


# ---- what it says


def test_help_names_every_command_and_an_example(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("denoise", "suv", "quantify", "models", "examples:", "exit codes", "Research use only"):
        assert word in text
    assert main(["denoise", "--help"]) == 0
    assert "--lesions" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"drmc {drmc.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["denoise"],
        ["denoise", "scan"],
        ["denoise", "scan", "-o", "out", "--frobnicate"],
        ["denoise", "scan", "-o", "out", "--format", "analyze"],
        ["denoise", "scan", "-o", "out", "--device", "abacus"],
        ["denoise", "scan", "-o", "out", "--mod", "tiny"],
        ["suv", "a", "b"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(capfd, tmp_path, arguments):
    assert "--help" in refused(capfd, tmp_path, *arguments)


def test_commands_without_a_room_are_absent(capsys):
    main(["--help"])
    listed = capsys.readouterr().out
    rooms = {
        "simulate": "simulation",
        "validate": "datasets/validation",
        "train": "training",
        "evaluate": "evaluation",
        "benchmark": "benchmark",
    }
    for name, room in rooms.items():
        exists = Path(drmc.__file__).parent / room / "command.py"
        assert (f"\n    {name}" in listed) == exists.is_file()


def test_denoise_prints_the_lesions_before_and_after(capsys, case, tmp_path):
    output = tmp_path / "out"
    code = main(["denoise", str(case["low"]), "-o", str(output), "--lesions", str(case["lesions"]), *EXACT])
    out, err = capsys.readouterr()
    assert code == 0
    rows = {row["stage"]: row for row in _rows(output / "lesions.csv")}
    before, after = (float(rows[stage]["suv_max"]) for stage in ("original", "denoised"))
    assert f"{before:.3f} -> {after:.3f} ({100 * (after / before - 1):+.1f} %)" in out
    assert str(output / "report.html") in out and "Research use only" in out
    lines = err.splitlines()
    assert 5 <= len(lines) <= 11 and lines[-1].startswith("100 %")  # no terminal: a line every 10 %


def test_quantify_gives_the_rows_of_the_table(capsys, case, tmp_path):
    arguments = [
        "quantify",
        str(case["low"]),
        "--lesions",
        str(case["lesions"]),
        "--reference",
        str(case["full"]),
    ]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["stage"] for row in found["segments"]] == ["original", "reference"]
    assert list(found["segments"][0]) == [
        *LESION_COLUMNS,
        *THRESHOLD_COLUMNS,
        *INTERVAL_COLUMNS,
        *LEAN_COLUMNS,
    ]
    original, reference = (row["suv_max"] for row in found["segments"])
    assert found["bias"]["patient"]["original"]["B_max"] == pytest.approx(
        abs(original - reference) / reference
    )
    low = suv_image()[lesion_mask()]
    assert original == low.max()
    assert found["segments"][0]["suv_mean"] == pytest.approx(low.mean(dtype=float), rel=1e-12)
    assert main(arguments) == 0
    assert f"{original:.3f}" in capsys.readouterr().out

    # The same numbers as in the table of a denoise run.
    main(
        ["denoise", str(case["low"]), "-o", str(tmp_path / "out"), "--lesions", str(case["lesions"]), *EXACT]
    )
    row = _rows(tmp_path / "out" / "lesions.csv")[0]
    assert {key: float(row[key]) for key in LESION_COLUMNS[3:]} == {
        key: found["segments"][0][key] for key in LESION_COLUMNS[3:]
    }


def test_models_says_what_is_installed(capsys, models):
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    mine = next(model for model in found["models"] if model["name"] == "tiny")
    assert mine["default"] and mine["training"] == {"data": "none", "steps": 0}
    assert mine["path"] == str(models / "tiny.pt") and len(mine["sha256"]) == 64
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "tiny: a tiny network  (default)" in out and mine["sha256"] in out and "data none" in out


def test_suv_shows_the_decision(capsys, tmp_path):
    low = write_case(tmp_path / "case", factor=0.00025)["low"]
    assert main(["suv", str(low), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["factor"] == 0.00025 and found["rule"] == "sidecar" and found["type"] == "SUVbw"
    assert main(["suv", str(low)]) == 0
    assert "0.00025" in capsys.readouterr().out


# ---- progress


def test_json_progress_is_json_lines_and_nothing_else(capsys, case, tmp_path):
    output = tmp_path / "out"
    code = main(["denoise", str(case["low"]), "-o", str(output), "--progress", "json", *EXACT])
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and err == ""
    tiles = [event for event in events if event["event"] == "progress"]
    assert [event["done"] for event in tiles] == list(range(1, tiles[0]["total"] + 1))
    assert set(tiles[0]) == {"event", "done", "total", "seconds_left"}
    assert events[-1]["event"] == "result" and events[-1]["output"] == str(output)
    assert events[-1]["summary"] == json.loads((output / "summary.json").read_text())


def test_json_progress_tells_a_refusal_too(capsys, tmp_path):
    code = main(["denoise", str(tmp_path / "none"), "-o", str(tmp_path / "out"), "--progress", "json"])
    out, err = capsys.readouterr()
    event = json.loads(out)
    assert code == event["exit_code"] == 2 and event["event"] == "error"
    assert err == f"drmc: {event['message']}\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_kept_up_to_date():
    stream = _Terminal()
    bar = TerminalProgress(stream)
    bar.progress(1, 4, 125.0, "tile")
    bar.progress(2, 4, 61.0, "tile")
    assert "\n" not in stream.getvalue()
    assert "50 %, 2 of 4 tiles, 1 min 01 s left" in stream.getvalue().split("\r")[-1]
    bar.notice("mind")
    assert stream.getvalue().endswith("\r\x1b[Knote: mind\n")


def test_parts_of_what_is_counted_move_the_bar():
    for_people, for_programs = io.StringIO(), io.StringIO()
    for reporter in (TerminalProgress(for_people), JsonProgress(for_programs)):
        for done in (0.26, 1.0, 1.5, 2):
            reporter.progress(done, 2, None, "patient")
    assert [line.strip() for line in for_people.getvalue().splitlines()] == [
        "13 %, 0 of 2 patients",
        "50 %, 1 of 2 patients",
        "75 %, 1 of 2 patients",
        "100 %, 2 of 2 patients",
    ]
    events = [json.loads(line) for line in for_programs.getvalue().splitlines()]
    assert [(event["done"], type(event["done"])) for event in events] == [
        (0.26, float),
        (1, int),
        (1.5, float),
        (2, int),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


# ---- bad input: one line, exit code 2, nothing written


def test_what_is_not_there_is_refused(capfd, tmp_path, case):
    out = tmp_path / "out"
    assert "none" in refused(capfd, tmp_path, "denoise", tmp_path / "none", "-o", out)
    for option in ("--lesions", "--reference", "--model"):
        line = refused(capfd, tmp_path, "denoise", case["low"], "-o", out, option, tmp_path / "none.nii.gz")
        assert "none.nii.gz" in line
    refused(capfd, tmp_path, "suv", tmp_path / "none")
    refused(capfd, tmp_path, "quantify", case["low"], "--lesions", tmp_path / "none.nii.gz")


def test_an_empty_folder_is_refused(capfd, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty" in refused(capfd, tmp_path, "denoise", empty, "-o", tmp_path / "out")
    assert "no PET scan" in refused(capfd, tmp_path, "denoise", empty, "-o", tmp_path / "out", "--batch")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_voxels_that_are_no_numbers_are_refused(capfd, tmp_path, value, ending):
    image = suv_image()
    image[9, 9, 9] = value
    path = tmp_path / f"pet{ending}"
    write_image(path, image, GRID)
    assert "pet" in refused(capfd, tmp_path, "denoise", path, "-o", tmp_path / "out")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("keep", [0.0, 0.3])
def test_a_truncated_file_is_refused(capfd, tmp_path, ending, keep):
    path = tmp_path / f"pet{ending}"
    write_image(path, suv_image(), GRID)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    assert path.name in refused(capfd, tmp_path, "denoise", path, "-o", tmp_path / "out")


def test_an_image_in_unknown_units_is_refused(capfd, tmp_path):
    path = tmp_path / "pet.nii.gz"
    write_image(path, suv_image() * 5000, GRID)
    assert "--units" in refused(capfd, tmp_path, "denoise", path, "-o", tmp_path / "out")
    assert "SUV" in refused(capfd, tmp_path, "denoise", path, "-o", tmp_path / "out", "--units", "bqml")


def test_a_segmentation_that_cannot_be_resampled_is_refused(capfd, tmp_path, case):
    elsewhere = tmp_path / "elsewhere.nii.gz"
    write_image(elsewhere, lesion_mask(), Geometry(GRID.shape, GRID.spacing, (5000.0, 0.0, 0.0)))
    line = refused(capfd, tmp_path, "denoise", case["low"], "-o", tmp_path / "out", "--lesions", elsewhere)
    assert "overlap" in line
    refused(capfd, tmp_path, "quantify", case["low"], "--lesions", elsewhere)


def test_a_weight_file_with_another_checksum_is_refused(capfd, tmp_path, case, models):
    content = bytearray((models / "tiny.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (models / "tiny.pt").write_bytes(content)
    for model in ((), ("--model", "tiny"), ("--model", models / "tiny.pt")):
        assert "SHA-256" in refused(capfd, tmp_path, "denoise", case["low"], "-o", tmp_path / "out", *model)


def test_a_file_that_is_no_model_is_refused(capfd, tmp_path, case):
    (tmp_path / "model.pt").write_bytes(b"not weights")
    refused(capfd, tmp_path, "denoise", case["low"], "-o", tmp_path / "out", "--model", tmp_path / "model.pt")


def test_an_output_folder_that_cannot_be_written_is_refused(capfd, tmp_path, case):
    file = tmp_path / "file"
    file.write_text("a regular file")
    for output in (file, file / "out", file / "deep" / "out"):
        assert "file" in refused(capfd, tmp_path, "denoise", case["low"], "-o", output)
    scans = write_case(tmp_path / "scans" / "a")["low"].parent.parent
    refused(capfd, tmp_path, "denoise", scans, "-o", file / "out", "--batch")
    refused(capfd, tmp_path, "denoise", scans, "-o", scans / "out", "--batch")
    if os.name == "posix" and os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o555)
        refused(capfd, tmp_path, "denoise", case["low"], "-o", locked / "out")


# ---- DICOM


def _cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _two_series(folder: Path) -> None:
    write_series(folder)
    write_series(folder, names="second{:03d}.dcm".format)


def _frames(folder: Path, series_type: str) -> None:
    for frame, start in enumerate(("110000", "110500")):
        write_series(
            folder,
            names=f"frame{frame}-{{:03d}}.dcm".format,
            **dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"), "1.2.3.4"),
            AcquisitionTime=start,
            FrameReferenceTime=150_000.0 + 300_000 * frame,
            SeriesType=[series_type, "IMAGE"],
        )


BAD_SERIES = {
    "CT": (lambda folder: write_series(folder, Modality="CT", SOPClassUID=CT_CLASS), "CT"),
    "not attenuation-corrected": (
        lambda folder: write_series(folder, CorrectedImage=["NORM", "DECY", "SCAT"]),
        "ATTN",
    ),
    "dynamic": (lambda folder: _frames(folder, "DYNAMIC"), "dynamic"),
    "dynamic, but not said": (lambda folder: _frames(folder, "STATIC"), "dynamic"),
    "two series": (_two_series, "--series"),
    "truncated file": (lambda folder: _cut_in_half(write_series(folder)[2]), "truncated"),
    "empty file": (lambda folder: write_series(folder)[2].write_bytes(b""), "IM0002.dcm"),
    "no weight": (lambda folder: write_series(folder, PatientWeight=None), "(0010,1030)"),
    "no dose": (lambda folder: write_series(folder, RadionuclideTotalDose=None), "(0018,1074)"),
    "infinite values": (lambda folder: rewrite(write_series(folder)[2], RescaleSlope=1e300), "infinite"),
}


@pytest.mark.parametrize("name", BAD_SERIES)
def test_a_series_without_a_sure_suv_is_refused(capfd, tmp_path, name):
    write, said = BAD_SERIES[name]
    folder = tmp_path / "series"
    write(folder)
    line = refused(capfd, tmp_path, "denoise", folder, "-o", tmp_path / "out")
    assert said.lower() in line.lower()
    assert not any(secret in line for secret in SECRETS)
    assert refused(capfd, tmp_path, "suv", folder) == line


def test_a_dicom_series_comes_out_on_its_grid_in_its_units(capsys, tmp_path):
    array = suv_image() * 20_000.0
    write_series(tmp_path / "patient" / "study" / "series", array)
    write_series(tmp_path / "patient" / "study" / "ct", Modality="CT", SOPClassUID=CT_CLASS)
    assert main(["denoise", str(tmp_path / "patient"), "-o", str(tmp_path / "out"), *EXACT]) == 0
    out, err = capsys.readouterr()
    scan = read_volume(tmp_path / "patient" / "study" / "series")
    denoised = read_volume(tmp_path / "out" / "denoised.nii.gz")
    assert denoised.units == scan.units == "BQML" and denoised.suv.factor == scan.suv.factor
    assert denoised.geometry.matches(scan.geometry, 1e-3)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["suv"]["rule"] == "ST" and summary["scan"] == "patient"
    written = "".join(
        path.read_text() for path in (tmp_path / "out").iterdir() if not path.name.endswith(".gz")
    )
    assert not any(secret in written + out + err for secret in SECRETS)

    assert main(["suv", str(tmp_path / "patient"), "--json"]) == 0
    decision = json.loads(capsys.readouterr().out)
    assert decision["factor"] == summary["suv"]["factor"]
    assert {"rule", "time", "difference_percent", "plausible"} <= set(decision["candidates"][0])
    assert main(["suv", str(tmp_path / "patient")]) == 0
    out = capsys.readouterr().out
    assert all(candidate["rule"] in out for candidate in decision["candidates"])


def test_one_series_of_several_is_chosen_by_its_uid(capsys, tmp_path):
    write_series(tmp_path / "both", suv_image() * 20_000.0, SeriesInstanceUID="1.2.3.4")
    write_series(tmp_path / "both", names="other{:03d}.dcm".format)
    output = tmp_path / "out"
    assert main(["denoise", str(tmp_path / "both"), "-o", str(output), "--series", "1.2.3.4", *EXACT]) == 0
    assert read_volume(output / "denoised.nii.gz").geometry.shape == GRID.shape
    assert main(["suv", str(tmp_path / "both"), "--series", "1.2.3.4"]) == 0


# ---- failure and cancel


def test_an_unforeseen_fault_names_itself_in_one_line(capfd, case, tmp_path, monkeypatch):
    from drmc.denoising import pipeline

    def fault(*_, **__):
        raise ZeroDivisionError("a fault\nof two lines")

    monkeypatch.setattr(pipeline, "denoise_volume", fault)
    arguments = ["denoise", str(case["low"]), "-o", str(tmp_path / "out"), *EXACT]
    assert main(arguments) == 1
    err = capfd.readouterr().err
    assert err == "drmc: ZeroDivisionError: a fault of two lines (DRMC_DEBUG=1 shows where)\n"
    monkeypatch.setenv("DRMC_DEBUG", "1")
    assert main(arguments) == 1
    assert "Traceback" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_interrupt_outside_the_tiles_is_a_cancel(capfd, monkeypatch):
    from drmc.models import registry

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "list_models", interrupt)
    assert main(["models"]) == 130
    assert capfd.readouterr().err == "drmc: canceled\n"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of input"])
def test_cancel_ends_the_process_and_leaves_nothing(tmp_path, how):
    if os.name != "posix" and how != "end of input":
        pytest.skip("signals of POSIX")
    grid = Geometry((96, 96, 96), (2.0, 2.0, 2.0))
    write_image(tmp_path / "pet.nii", suv_image(grid), grid)
    before = tree(tmp_path)
    command = [sys.executable, "-m", "drmc", "denoise", "pet.nii", "-o", "out", "--units", "suv", *EXACT]
    command += ["--progress", "json", "--cancel-on-eof"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = json.loads(process.stdout.readline())
        assert first["event"] == "progress" and first["done"] < first["total"] / 2
        if how == "end of input":
            process.stdin.close()
            process.stdin = None
        else:
            process.send_signal(getattr(signal, how))
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "drmc: canceled\n"
    assert json.loads(out.splitlines()[-1]) == {"event": "error", "message": "canceled", "exit_code": 130}
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_is_no_fault():
    process = subprocess.run(
        f'"{sys.executable}" -m drmc models --json | head -c 1',
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == ""


# ---- batch


def test_a_folder_of_scans_is_a_batch(capsys, tmp_path):
    scans = tmp_path / "scans"
    for name in ("a", "b"):
        write_image(_made(scans) / f"{name}.nrrd", suv_image(), GRID, metadata={"units": "SUV"})
    assert main(["denoise", str(scans), "-o", str(tmp_path / "out"), *EXACT]) == 0
    out, err = capsys.readouterr()
    assert "2 scans: 2 done" in out and "[2/2] b: 100 %" in err
    assert main(["denoise", str(scans), "-o", str(tmp_path / "out"), "--resume", *EXACT]) == 0
    assert "2 scans: 2 skipped" in capsys.readouterr().out
    (scans / "c.nrrd").write_bytes(b"")
    assert (
        main(["denoise", str(scans), "-o", str(tmp_path / "out"), "--resume", "--progress", "json", *EXACT])
        == 2
    )
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["outcome"] for event in events if event["event"] == "outcome"] == [
        "skipped",
        "skipped",
        "refused",
    ]
    assert events[-1]["event"] == "result" and events[-1]["exit_code"] == 2


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
