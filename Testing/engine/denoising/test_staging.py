"""What runs leave behind: leftovers of killed runs, two runs into one folder, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from drmc import files, locks
from drmc.cli.main import main
from drmc.denoising import pipeline, staging
from drmc.denoising.batch import run_batch
from drmc.denoising.request import DenoiseRequest
from drmc.errors import DiskFullError, DRMCError, InputError
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.report.page import write_report
from support.engine.denoising_cases import GRID, suv_image, tree, write_case
from support.engine.small_training import make_dataset, tiny_config

resource = pytest.importorskip("resource", reason="limits and signals as POSIX has them")
EXACT = ("--device", "cpu", "--precision", "fp32")
pytestmark = pytest.mark.usefixtures("models")


def request(scan: Path, output: Path, **options: object) -> DenoiseRequest:
    return DenoiseRequest(scan, output, device="cpu", precision="fp32", **options)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


# A run that stops for ever where the first of these is called, in a process of its own.
STOP = """
import importlib, sys, time
module = importlib.import_module("drmc.{module}")
def stop(*arguments, **options):
    print("here", flush=True)
    time.sleep(600)
module.{name} = stop
from drmc.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def stopped(module: str, name: str, *arguments: object) -> subprocess.Popen:
    """A process of `drmc` that waits where `name` of a module is called first."""
    command = [sys.executable, "-c", STOP.format(module=module, name=name), *map(str, arguments), *EXACT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


# ---------------------------------------------------------------------------------------- killed runs


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "earlier results"])
@pytest.mark.parametrize(
    ("module", "name"),
    [("denoising.pipeline", name) for name in ("read_inputs", "write_report", "move_into_place")],
)
def test_the_next_run_sweeps_what_a_killed_one_left(tmp_path, module, name, existing):
    case, output = write_case(tmp_path / "case"), tmp_path / "deep" / "out"
    if existing:
        pipeline.run(request(case["low"], output))
        (output / ".part-notes").mkdir()
        (output / ".out.part-mine").write_text("not a folder")
    before = tree(output) if existing else {}
    kill(stopped(module, name, "denoise", case["low"], "-o", output))
    assert [
        name for name in hidden(tmp_path / "deep") if name.startswith(".out.part-") and "mine" not in name
    ]
    if existing:
        assert {name: (output / name).read_bytes() for name in before} == before
    pipeline.run(request(case["low"], output))
    assert sorted(hidden(tmp_path / "deep")) == ([".out.part-mine", ".part-notes"] if existing else [])


def test_a_leftover_of_an_older_version_goes_too(tmp_path):
    case, output = write_case(tmp_path / "case"), tmp_path / "out"
    (output / ".out.part-abcd" / "denoised").mkdir(parents=True)
    (tmp_path / ".out.part-efgh").mkdir()
    (tmp_path / ".other.part-ijkl").mkdir()
    pipeline.run(request(case["low"], output))
    assert hidden(tmp_path) == [".other.part-ijkl"]


def test_half_written_files_go_and_those_of_a_living_process_stay(tmp_path):
    (tmp_path / ".part-abcd-batch.csv").write_text("half")
    (tmp_path / ".part-folder").mkdir()
    with files.atomic_path(tmp_path / "mine.txt") as part:
        part.write_text("half")
        staging.sweep_files(tmp_path)
        assert sorted(hidden(tmp_path)) == sorted([part.name, ".part-folder"])
    assert (tmp_path / "mine.txt").read_text() == "half"


def test_a_batch_sweeps_its_own_folder(tmp_path):
    write_case(tmp_path / "cohort" / "a")
    (tmp_path / "cohort" / "a" / "full.nii.gz").unlink()
    (tmp_path / "cohort" / "a" / "lesions.nii.gz").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".part-abcd-batch.csv").write_text("half")

    class Nobody:
        def __getattr__(self, name):
            return lambda *_: None

    run_batch(request(tmp_path / "cohort", tmp_path / "out"), Nobody())
    assert hidden(tmp_path / "out") == []


def test_a_part_that_a_sweep_took_is_made_again(tmp_path, monkeypatch):
    """Between its making and its lock a file looks like a leftover."""
    real = locks.try_lock
    taken = []

    def sweep_first(handle: int) -> bool | None:
        if not taken:
            taken.extend(tmp_path.glob(".part-*"))
            taken[0].unlink()
        return real(handle)

    monkeypatch.setattr(locks, "try_lock", sweep_first)
    files.write_text(tmp_path / "a.txt", "whole")
    assert taken and (tmp_path / "a.txt").read_text() == "whole" and hidden(tmp_path) == []


# ---------------------------------------------------------------------------------------- two runs


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "earlier results"])
def test_the_second_run_into_a_folder_says_that_there_is_a_first(tmp_path, existing):
    case, output = write_case(tmp_path / "case"), tmp_path / "out"
    if existing:
        pipeline.run(request(case["low"], output))
    first = stopped("denoising.pipeline", "write_report", "denoise", case["low"], "-o", output)
    try:
        before = tree(tmp_path)
        (tmp_path / "alias").symlink_to(output)
        for place in (output, tmp_path / "case" / ".." / "out", *([tmp_path / "alias"] if existing else [])):
            with pytest.raises(InputError) as caught:
                pipeline.run(request(case["low"], place))
            line = str(caught.value)
            assert f"another run is writing there (process {first.pid} on " in line
            assert "wait for it, or choose another output folder" in line
        (tmp_path / "alias").unlink()
        assert tree(tmp_path) == before
        pipeline.run(request(case["low"], tmp_path / "out2"))
    finally:
        kill(first)
    pipeline.run(request(case["low"], output))
    assert hidden(tmp_path) == []


def test_of_runs_that_start_together_one_is_done(tmp_path):
    case, output = write_case(tmp_path / "case"), tmp_path / "out"
    command = [sys.executable, "-m", "drmc", "denoise", str(case["low"]), "-o", str(output), *EXACT]
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(3)]
    told = [run.communicate()[1].decode() for run in runs]
    codes = [run.returncode for run in runs]
    assert 0 in codes and set(codes) <= {0, 2}
    assert all("another run" in text for text, code in zip(told, codes, strict=True) if code == 2)
    assert hidden(tmp_path) == [] and read_volume(output / "denoised.nii.gz").units == "SUV"


def test_of_two_claims_the_older_one_stays(tmp_path):
    with staging.Claim(tmp_path / "out") as first:
        first.take()
        time.sleep(0.02)
        with pytest.raises(InputError, match="another run"), staging.Claim(tmp_path / "out") as second:
            second.take()
        assert first.staging.is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "models"]


def test_a_claim_that_a_sweep_took_is_made_again(tmp_path, monkeypatch):
    real = staging.Claim._own
    swept = []

    def sweep_first(self, path):
        if not swept:
            swept.append(path)
            path.parent.rmdir()
        return real(self, path)

    monkeypatch.setattr(staging.Claim, "_own", sweep_first)
    with staging.Claim(tmp_path / "out") as claim:
        assert claim.take().is_dir() and swept


# ---------------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("limit", [300, 3000, 12_000])
@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "out.nrrd", "out.mha"])
def test_an_image_that_does_not_fit_is_never_half_written(tmp_path, name, limit):
    """A limit of a file's size is to its writer what a full disk is."""
    grid = Geometry((20, 30, 40))
    array = np.random.default_rng(1).normal(size=grid.shape)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises((DRMCError, OSError)) as caught:
            write_image(tmp_path / name, array, grid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / name).exists() and hidden(tmp_path) == []


@pytest.mark.parametrize("limit", [2000, 20_000, 35_000])
def test_a_full_disk_is_one_line_with_path_and_advice(tmp_path, limit):
    case, output = write_case(tmp_path / "case"), tmp_path / "out"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
    code = f"{limited} import sys; from drmc.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "denoise", str(case["low"]), "-o", str(output), *EXACT]
    done = subprocess.run(command, capture_output=True, text=True)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and line.startswith(f"drmc: {output}: "), done.stderr
    assert "make room" in line and "another folder with -o" in line
    assert "Traceback" not in done.stderr and not output.exists() and hidden(tmp_path) == []


def test_a_full_disk_in_a_batch_fails_the_scan_with_path_and_advice(tmp_path, monkeypatch):
    cohort = tmp_path / "cohort"
    for name in ("a", "b"):
        (cohort / name).mkdir(parents=True)
        write_image(cohort / name / "pet.nii.gz", suv_image(), GRID)
        (cohort / name / "pet.json").write_text(json.dumps({"Units": "SUV"}))
    real = write_report

    def full(path, **options):
        if ".a.part-" in str(path):
            raise OSError(28, "No space left on device")
        real(path, **options)

    monkeypatch.setattr(pipeline, "write_report", full)

    class Nobody:
        def __getattr__(self, name):
            return lambda *_: None

    result = run_batch(request(cohort, tmp_path / "out"), Nobody())
    first, second = result["scans"]
    assert first["outcome"] == "failed" and second["outcome"] == "done"
    assert str(tmp_path / "out" / "a") in first["message"] and "make room" in first["message"]


def test_other_errors_of_the_system_pass():
    with pytest.raises(PermissionError), files.disk_full_as_error("out"):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(DiskFullError, match=r"^out: No space left on device: make room"):
        with files.disk_full_as_error("out"):
            raise OSError(28, "No space left on device")


def test_a_second_training_and_a_second_evaluation_say_that_there_is_a_first(tmp_path, models, capsys):
    """Both write into their folder all the time; two of them would undo each other's work."""
    dataset = make_dataset(tmp_path / "data")
    output = tmp_path / "run"
    evaluation = {"dataset": str(dataset), "output": str(output), "model": str(models / "tiny.pt")}
    for command, values in (("train", tiny_config(dataset, output).to_dict()), ("evaluate", evaluation)):
        path = tmp_path / f"{command}.json"
        path.write_text(json.dumps(values))
        with staging.Claim(output) as first:
            first.take()
            assert main([command, str(path)]) == 2
            assert os.listdir(tmp_path).count(first.staging.name) == 1
        assert "another run is writing there" in capsys.readouterr().err


def test_a_relative_output_is_not_taken_for_that_of_another_run(tmp_path, monkeypatch):
    """On Python 3.12 and later tempfile.mkdtemp returns an absolute path whatever the folder was."""
    monkeypatch.chdir(tmp_path)
    make = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **options: os.path.abspath(make(**options)))
    for _ in range(2):  # the folder is made by the first and is there for the second
        with staging.Claim(Path("out")) as claim:
            assert claim.take().parent.samefile(tmp_path)
