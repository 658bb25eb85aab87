"""Simulated datasets: a seed gives the same files, whole or not at all, and a run is resumed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.files import write_json
from drmc.pet.reading import read_volume
from drmc.simulation import cohort
from drmc.simulation.centers import CENTERS
from drmc.simulation.cohort import ScanOptions, patient_seed, write_case, write_cohort
from drmc.simulation.scan import simulate_patient
from support import REPOSITORY
from support.engine.small_scanners import HEAD

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")

FILES = {"full.nii.gz", "low_drf004.nii.gz", "truth.nii.gz", "lesions.nii.gz", "organs.nii.gz", "pet.json"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two heads; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("cohort") / "heads"
    write_cohort(folder, [HEAD], 2, seed=7)
    return folder


def case(dataset: Path, name: str = "C5-train-0001") -> Path:
    return dataset / name.split("-")[0] / name


def content(folder: Path) -> dict[str, object]:
    """Every file below a folder: arrays of images, text of the others."""
    return {
        str(path.relative_to(folder)): sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        if path.suffix == ".gz"
        else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same(a: dict[str, object], b: dict[str, object]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


# ---- seeds


def test_the_same_seed_gives_the_same_dataset_file_by_file(dataset, tmp_path):
    write_cohort(tmp_path, [HEAD], 2, seed=7)
    assert set(content(dataset)) == {
        "dataset.json",
        *(f"C5/C5-train-000{i}/{n}" for i in (1, 2) for n in FILES),
    }
    assert same(content(dataset), content(tmp_path))


def test_another_seed_index_split_or_center_is_another_patient(dataset, tmp_path):
    write_cohort(tmp_path, [HEAD], 1, seed=8)
    images = [content(case(dataset)), content(case(dataset, "C5-train-0002")), content(case(tmp_path))]
    for name in ("full.nii.gz", "low_drf004.nii.gz", "organs.nii.gz"):
        assert not any(np.array_equal(images[0][name], other[name]) for other in images[1:])
    keys = {
        tuple(patient_seed(seed, center, split, index).generate_state(4))
        for seed in (1, 2)
        for center in CENTERS
        for split in cohort.SPLITS
        for index in (1, 2, 3)
    }
    assert len(keys) == 2 * 6 * 3 * 3


def test_a_seed_sequence_gives_the_same_scan_again():
    seed = patient_seed(7, "C5", "train", 1)
    first, again = (simulate_patient(HEAD, seed) for _ in range(2))
    assert np.array_equal(first.full, again.full)


def test_processes_of_their_own_give_the_same_patients(dataset, tmp_path):
    write_cohort(tmp_path, [HEAD], 2, seed=7, workers=2, threads=1)
    assert same(content(dataset), content(tmp_path))


# ---- resuming


def test_cases_that_are_there_are_kept_and_new_ones_added(tmp_path):
    write_cohort(tmp_path, [HEAD], 1, seed=7)
    times = {path: path.stat().st_mtime_ns for path in case(tmp_path).iterdir()}
    reports: list[tuple] = []
    write_cohort(tmp_path, [HEAD], 2, seed=7, report=lambda *facts: reports.append(facts))
    assert {path: path.stat().st_mtime_ns for path in case(tmp_path).iterdir()} == times
    assert [report[:3] for report in reports] == [(2, 2, "C5-train-0002")]
    write_cohort(tmp_path, [HEAD], 1, seed=7, split="validation")
    entries = read_manifest(tmp_path)
    assert [(e.case_id, e.split) for e in entries] == [
        ("C5-train-0001", "train"),
        ("C5-train-0002", "train"),
        ("C5-validation-0001", "validation"),
    ]
    train, validation = (content(entries[number].full.parent) for number in (0, 2))
    assert not np.array_equal(train["full.nii.gz"], validation["full.nii.gz"])


def test_a_dataset_of_another_study_is_refused_untouched(dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    with pytest.raises(InputError, match="made with seed 7, not 8"):
        write_cohort(dataset, [HEAD], 3, seed=8)
    with pytest.raises(InputError, match="dose reduction"):
        write_cohort(dataset, [HEAD], 2, seed=7, options=ScanOptions((2.0,)))
    with pytest.raises(InputError, match="made with axial_mm None, not 40"):
        write_cohort(dataset, [HEAD], 2, seed=7, options=ScanOptions(axial_mm=40.0))
    with pytest.raises(InputError, match="made with iterations 2, not 3"):
        write_cohort(dataset, [replace(HEAD, iterations=3)], 3, seed=7)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_a_dataset_of_others_keeps_its_manifest(tmp_path):
    """Its manifest would be written again from the simulated cases alone."""
    write_json(tmp_path / "dataset.json", {"schema": 1, "cases": [{"id": "A/P1"}]})
    with pytest.raises(InputError, match=r"dataset\.json: is no simulated dataset"):
        write_cohort(tmp_path, [HEAD], 1, seed=7)
    (tmp_path / "dataset.json").unlink()
    sidecar = tmp_path / "A" / "P1" / "pet.json"
    sidecar.parent.mkdir(parents=True)
    write_json(sidecar, {"Units": "SUV"})
    with pytest.raises(InputError, match=r"pet\.json: is of no simulated patient"):
        write_cohort(tmp_path, [HEAD], 1, seed=7)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["A", "P1", "pet.json"]


# ---- what is written


def test_the_manifest_names_every_case_by_relative_paths(dataset):
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert (manifest["schema"], manifest["simulated"], manifest["units"]) == (1, True, "SUV")
    assert manifest["centers"] == {"C5": json.loads(json.dumps(HEAD.to_dict()))}
    folder = "C5/C5-train-0002"
    assert manifest["cases"][1] == {
        "id": "C5-train-0002",
        "center": "C5",
        "split": "train",
        "full": f"{folder}/full.nii.gz",
        "low": {"4": f"{folder}/low_drf004.nii.gz"},
        "lesions": f"{folder}/lesions.nii.gz",
        "organs": f"{folder}/organs.nii.gz",
        "truth": f"{folder}/truth.nii.gz",
        "facts": f"{folder}/pet.json",
    }
    assert [entry["id"] for entry in manifest["cases"]] == ["C5-train-0001", "C5-train-0002"]
    cases = read_manifest(dataset)
    assert [c.low.keys() for c in cases] == [{4.0}] * 2


def test_the_sidecar_says_that_and_how_it_was_simulated(dataset):
    facts = json.loads((case(dataset) / "pet.json").read_text())
    assert (
        facts["Simulated"] is True
        and facts["Units"] == "SUV"
        and "simulated" in facts["ManufacturersModelName"]
    )
    assert facts["DoseReductionFactors"] == [4.0] and facts["Seed"] == [7, 4, 0, 1]
    assert (
        facts["InjectedRadioactivity"] == HEAD.injected(facts["BodyWeight"])
        and facts["BodyWeight"] == facts["Facts"]["weight_kg"]
    )
    counts = facts["Facts"]
    expected = sum(counts["expected_counts"].values())
    assert abs(counts["simulated_prompts"] - expected) < 5 * math.sqrt(expected)
    assert counts["physical_prompts"] == pytest.approx(counts["simulated_prompts"] / HEAD.count_multiplier)
    share = counts["expected_counts"]["scatter"] / (expected - counts["expected_counts"]["randoms"])
    assert share == pytest.approx(HEAD.scatter_fraction, rel=1e-3)
    for name in ("full.nii.gz", "low_drf004.nii.gz"):
        volume = read_volume(case(dataset) / name)
        assert volume.units == "SUV" and volume.suv.factor == 1 and volume.array.dtype == np.float32
    assert sitk.ReadImage(str(case(dataset) / "organs.nii.gz")).GetPixelID() == sitk.sitkUInt8


def test_a_failing_write_leaves_no_folder(tmp_path, monkeypatch):
    scan = simulate_patient(HEAD, patient_seed(7, "C5", "train", 1))
    written: list[str] = []
    write_image = sitk.WriteImage

    def full_disk(image, path, **options):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        write_image(image, path, **options)

    monkeypatch.setattr(cohort.sitk, "WriteImage", full_disk)
    folder = tmp_path / "C5" / "C5-train-0001"
    with pytest.raises(OSError, match="No space left"):
        write_case(scan, HEAD, folder, seed=[7, 4, 0, 1])
    assert len(written) == 3 and list(folder.parent.iterdir()) == []
    monkeypatch.undo()
    write_case(scan, HEAD, folder, seed=[7, 4, 0, 1])
    assert {path.name for path in folder.iterdir()} == FILES and list(folder.parent.iterdir()) == [folder]


def test_what_a_killed_run_left_is_no_case(dataset, tmp_path):
    write_cohort(tmp_path, [HEAD], 1, seed=7)
    remains = tmp_path / "C5" / ".part-killed"
    remains.mkdir()
    (remains / "pet.json").write_text((case(dataset) / "pet.json").read_text())
    cohort.write_manifest(tmp_path)
    assert [c.case_id for c in read_manifest(tmp_path)] == ["C5-train-0001"]


# ---- one's own centers, and what a run needs


def test_the_room_foreseen_is_about_what_a_case_takes(dataset):
    taken = sum(path.stat().st_size for path in case(dataset).iterdir())
    # the truth of coarse voxels compresses less, labels weigh more
    assert cohort._bytes_of(HEAD, ScanOptions()) == pytest.approx(taken, rel=0.6)


# ---- stopping


LONG_RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from dataclasses import replace
from drmc.cli import main as cli
from drmc.simulation.centers import CENTERS
from support.engine.small_scanners import HEAD
CENTERS["C5"] = replace(HEAD, iterations=20000)
arguments = ["simulate", "--centers", "C5", "--patients", "3", "--workers", "2", "--progress", "json"]
sys.exit(cli.main([*arguments, "--device", "cpu", "-o", sys.argv[1]]))
"""


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT to all", "a worker is killed", "the parent is killed"])
def test_a_stop_leaves_no_process_and_nothing_half_written(tmp_path, how):
    out = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", LONG_RUN, str(out)],
        cwd=REPOSITORY / "Testing",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while json.loads(process.stdout.readline()).get("done", 0) == 0:  # until a worker is in its OSEM
            pass
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        children = [int(child) for child in children]
        workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        assert len(workers) == 2
        (out / "C5").mkdir(exist_ok=True)
        (out / "C5" / ".part-C5-train-0001-x").mkdir()  # as if killed in the middle of writing
        if how == "SIGTERM":
            process.terminate()
        elif how == "SIGINT to all":  # as Ctrl-C in a terminal
            os.killpg(process.pid, signal.SIGINT)
        elif how == "a worker is killed":
            os.kill(workers[1], signal.SIGKILL)
        else:
            process.kill()
        printed, errors = process.communicate(timeout=300)
    for _ in range(100):
        if not any(alive(child) for child in children):
            break
        time.sleep(0.1)
    assert not any(alive(child) for child in children)
    if how == "the parent is killed":
        return
    last = json.loads(printed.splitlines()[-1])
    if how == "a worker is killed":
        assert process.returncode == 1 and errors.count("\n") == 1
        assert "ended a worker process (SIGKILL)" in errors and "--workers" in errors
    else:
        assert (process.returncode, errors) == (130, "drmc: canceled\n")
    assert last["event"] == "error" and last["exit_code"] == process.returncode
    assert [path for path in out.rglob("*") if path.is_file() or path.name.startswith(".")] == []
