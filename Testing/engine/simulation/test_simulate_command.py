"""`drmc simulate`: arguments, one's own centers, what a run needs, the benchmark."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import DRMCError, InputError
from drmc.simulation import benchmark, cohort
from drmc.simulation.centers import CENTERS
from drmc.simulation.cohort import ScanOptions, check_centers, write_cohort
from support.engine.simulate_command import run
from support.engine.small_scanners import HEAD

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")


# ---- the command


def test_the_command_simulates_a_dataset(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CENTERS, "C5", HEAD)
    out = tmp_path / "new" / "dataset"
    assert (
        run(
            "--centers",
            "C5",
            "--patients",
            "1",
            "--seed",
            "3",
            "--axial-mm",
            "40",
            "--drf",
            "2,8",
            "-o",
            str(out),
        )
        == 0
    )
    printed = capsys.readouterr()
    assert "C5-train-0001" in printed.err and "(1/1)" in printed.err
    assert printed.out == f"simulated dataset: {out / 'dataset.json'}\n"
    assert list(read_manifest(out)[0].low) == [2.0, 8.0]


def test_a_center_named_twice_is_simulated_once(tmp_path, monkeypatch):
    monkeypatch.setitem(CENTERS, "C5", HEAD)
    assert run("--centers", "C5, C5", "--patients", "1", "--axial-mm", "40", "-o", str(tmp_path)) == 0
    assert [c.case_id for c in read_manifest(tmp_path)] == ["C5-train-0001"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--centers", "C9"], "unknown center 'C9'"),
        (["--centers", " , "], "no center is named"),
        (["--centers", "C5", "--patients", "0"], "at least one patient"),
        (["--centers", "C5", "--drf", "4;6"], "give numbers"),
        (["--centers", "C5", "--drf", "1"], "greater than 1"),
        (["--centers", "C5", "--drf", "4,nan"], "--drf"),
        (["--centers", "C5", "--drf", "inf"], "--drf"),
        (["--centers", "C5", "--axial-mm", "5"], "shorter than 20 mm"),
        (["--centers", "C5", "--axial-mm", "nan"], "--axial-mm"),
        (["--centers", "C5", "--seed", "-1"], "--seed must be at least 0"),
        (["--centers", "C5", "--workers", "0"], "--workers at least 1"),
        (["--centers", "C5", "--json"], "--json belongs to --benchmark"),
        (["--patients", "2"], "--centers or --random-centers are needed"),
        (["--centers", "C5", "--patients", "99999999"], "99999999 patients of all centers: simulate at most"),
        (["--random-centers", "20", "--patients", "9999"], "199980 patients of all centers"),
        (["--audit", "--centers", "C5"], "leave --centers out"),
        (["--audit", "--patients", "99999999"], "100000 at most"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, said, tmp_path, monkeypatch):
    started: list = []
    monkeypatch.setattr(cohort, "_run_task", lambda task, progress: started.append(task) or 0.0)
    out = tmp_path / "dataset"
    with pytest.raises(InputError) as refusal:
        run(*arguments, "-o", str(out))
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert not started and not out.exists()


def test_the_command_line_refuses_with_code_two(tmp_path, capsys):
    assert cli.main(["simulate", "--centers", "C7", "-o", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "C7" in errors and "C1, C2" in errors


# ---- one's own centers, and what a run needs


def test_the_seeds_of_the_six_centers_stay_and_no_other_name_takes_them():
    assert [cohort._seed_key(7, name, "test", 3) for name in CENTERS] == [[7, n, 2, 3] for n in range(6)]
    names = ["Lyon", "lyon", "C7", "C1-night", *(f"center{n}" for n in range(500))]
    keys = [cohort._seed_key(7, name, "train", 1) for name in names]
    assert all(6 <= key[1] < 2**32 + 6 for key in keys) and len({key[1] for key in keys}) == len(names)
    assert keys[0] == [7, zlib.crc32(b"Lyon"), 0, 1]


def test_a_hash_that_is_the_number_of_a_center_of_table_1_is_moved_away(monkeypatch):
    monkeypatch.setattr(cohort.zlib, "crc32", lambda name: 4)
    assert cohort._seed_key(7, "Lyon", "train", 1) == [7, 10, 0, 1]


def test_a_center_of_ones_own_has_its_folder_and_its_patients(tmp_path):
    write_cohort(tmp_path, [replace(HEAD, name="Lyon")], 1, seed=7, options=ScanOptions(axial_mm=40.0))
    entry = read_manifest(tmp_path)[0]
    assert (entry.case_id, entry.center) == ("Lyon-train-0001", "Lyon") and entry.truth.is_file()
    assert json.loads(entry.facts.read_text())["Seed"] == [7, zlib.crc32(b"Lyon"), 0, 1]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "-x", ".hidden", "a b", "é", "CON", "lpt1", "x" * 61, "c1", "C1"]
)
def test_names_that_are_no_safe_folder_or_taken_are_refused(name):
    with pytest.raises(InputError, match="center name"):
        check_centers([replace(HEAD, name=name)])


def test_two_centers_of_one_name_are_refused():
    first, second = replace(HEAD, name="Lyon"), replace(HEAD, name="Lyon", iterations=3)
    assert check_centers([first, first]) == [first]
    for other in (second, replace(HEAD, name="LYON")):
        with pytest.raises(InputError, match="taken by another center"):
            check_centers([first, other])


def test_a_cohort_that_the_disk_has_no_room_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e8))
    with pytest.raises(InputError, match=r"take about .* GB, and 0\.1 GB are free"):
        write_cohort(tmp_path / "new" / "data", [CENTERS["C4"]], 3, seed=7)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_the_parts_of_the_patients(tmp_path):
    told: list[tuple] = []
    write_cohort(tmp_path, [HEAD], 1, seed=7, options=ScanOptions(axial_mm=40.0))
    write_cohort(
        tmp_path,
        [HEAD],
        2,
        seed=7,
        options=ScanOptions(axial_mm=40.0),
        progress=lambda *facts: told.append(facts),
    )
    done = [facts[0] for facts in told]
    assert done[0] == 1 and done[-1] == 2 and done == sorted(done) and {facts[1] for facts in told} == {2}
    assert len([share for share in done if 1 < share < 2]) >= HEAD.subsets * HEAD.iterations - 1
    assert told[0][2] is None and told[-1][2] == 0


def test_what_another_run_left_half_written_is_swept(tmp_path):
    left = tmp_path / "C5" / ".part-C5-train-0001-abc"
    left.mkdir(parents=True)
    write_cohort(tmp_path, [HEAD], 1, seed=7, options=ScanOptions(axial_mm=40.0))
    assert [path.name for path in (tmp_path / "C5").iterdir()] == ["C5-train-0001"]


def test_want_of_memory_is_one_line(tmp_path, monkeypatch):
    def starve(*_, **__):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nError 12"
        )

    monkeypatch.setattr(cohort, "simulate_patient", starve)
    with pytest.raises(DRMCError, match="C5-train-0001: out of memory"):
        write_cohort(tmp_path, [HEAD], 1, seed=7)


# ---- the benchmark


def test_the_benchmark_measures_a_patient_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CENTERS, "C5", HEAD)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["simulate", "--benchmark", "--centers", "C5", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"processor", "physical_cores", "memory_bytes"} <= set(found["hardware"])
    (row,) = found["simulation"]
    assert row["center"] == "C5" and row["device"] == "cpu" and row["whole_patient"] is True
    assert row["slices"] == 20 and row["dose_reduction_factors"] == [4.0] and row["matrix"] == 30
    seconds = row["seconds"]
    assert seconds["prepare"] > 0 < seconds["reconstruct"]
    assert seconds["total"] == pytest.approx(seconds["prepare"] + seconds["reconstruct"])
    assert row["peak_memory_bytes"] > 1e8 and row["gpu_peak_memory_bytes"] is None
    assert list(tmp_path.iterdir()) == []
    # for people, and scaled down
    smaller = {**row, "whole_patient": False, "axial_mm": 30.0}
    monkeypatch.setattr(benchmark, "benchmark", lambda *_, **__: {**found, "simulation": [smaller]})
    assert cli.main(["simulate", "--benchmark", "--device", "cpu", "--axial-mm", "30"]) == 0
    printed = capsys.readouterr().out
    assert "an axial window of 30 mm only" in printed and "full, 1/4" in printed
