"""Simulated datasets: a seed gives the same files, whole or not at all, in the stated geometry and units."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.pet.reading import read_volume
from drmc.runtime.progress import TerminalProgress
from drmc.simulation import benchmark, cohort, command
from drmc.simulation.centers import CENTERS
from drmc.simulation.cohort import ScanOptions, check_centers, patient_seed, write_case, write_cohort
from drmc.simulation.imperfections import Imperfections
from drmc.simulation.organs import ORGANS
from drmc.simulation.patients import PatientSource
from drmc.simulation.scan import simulate_patient

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")

HEAD = replace(
    CENTERS["C5"],
    voxel_mm=(9.0, 8.0, 8.0),
    matrix=30,
    reconstruction_matrix=34,
    views=18,
    subsets=3,
    iterations=2,
    system_psf_mm=(8.0, 8.0, 8.0),
    modelled_psf_mm=(8.0,) * 3,
    post_filter_mm=(6.0,) * 3,
    count_multiplier=0.01,
)
BODY = replace(
    CENTERS["C1"],
    voxel_mm=(11.0, 12.0, 12.0),
    matrix=46,
    reconstruction_matrix=50,
    views=24,
    subsets=4,
    iterations=4,
    system_psf_mm=(10.0, 10.0, 10.0),
    modelled_psf_mm=(8.0,) * 3,
    post_filter_mm=(0.0,) * 3,
    dose_reduction_factors=(12.0, 3.0),
    count_multiplier=0.02,
)
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


# ---- the images of a whole body


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """A whole body on coarse voxels: the scan, and by file name its images and arrays as read back."""
    folder = tmp_path_factory.mktemp("body") / "C1" / "C1-test-0003"
    scan = simulate_patient(BODY, patient_seed(7, "C1", "test", 3))
    write_case(scan, BODY, folder, seed=[7, 0, 2, 3])
    images = {path.name: sitk.ReadImage(str(path)) for path in folder.glob("*.nii.gz")}
    return scan, images, {name: sitk.GetArrayFromImage(image) for name, image in images.items()}


def centroid(image: sitk.Image, chosen: np.ndarray) -> np.ndarray:
    """Physical point (x, y, z) of the middle of the chosen voxels."""
    return np.mean(
        [image.TransformIndexToPhysicalPoint(i[::-1]) for i in np.argwhere(chosen).tolist()], axis=0
    )


def test_geometry_survives_the_file(body):
    scan, images, _ = body
    assert set(images) == {
        "full.nii.gz",
        "low_drf012.nii.gz",
        "low_drf003.nii.gz",
        "truth.nii.gz",
        "organs.nii.gz",
        "lesions.nii.gz",
    }
    for image in images.values():
        assert image.GetSize()[:2] == (46, 46) and image.GetSize()[::-1] == scan.full.shape
        assert image.GetSpacing() == pytest.approx((12.0, 12.0, 11.0))
        assert image.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))
        assert image.GetOrigin()[:2] == pytest.approx((-22.5 * 12, -22.5 * 12))
        assert image.GetOrigin() == pytest.approx(scan.origin_xyz)


def test_the_liver_is_on_the_patients_right_and_the_bladder_below(body):
    _, images, arrays = body
    organ = lambda name: centroid(images["organs.nii.gz"], arrays["organs.nii.gz"] == ORGANS[name].label)
    assert organ("liver")[0] < -30 < 30 < organ("spleen")[0]
    assert organ("bladder")[2] < organ("liver")[2] < organ("white_matter")[2]
    assert organ("sternum")[1] < organ("vertebra")[1]


def test_images_show_the_truth_on_one_suv_scale(body):
    scan, _, arrays = body
    organs, truth = arrays["organs.nii.gz"], scan.phantom.activity.numpy()
    inside = organs > 0
    means = {}
    for name in ("full.nii.gz", "low_drf003.nii.gz", "low_drf012.nii.gz"):
        suv = arrays[name]
        assert np.isfinite(suv).all() and suv.min() >= 0
        means[name] = suv[inside].mean()
        assert np.corrcoef(suv[inside], truth[inside])[0, 1] > 0.6  # 0.9 at full dose, noise below
    # coarse voxels: some of what lies inside is seen outside
    assert means["full.nii.gz"] == pytest.approx(truth[inside].mean(), rel=0.08)
    for name in ("low_drf003.nii.gz", "low_drf012.nii.gz"):
        assert means[name] == pytest.approx(means["full.nii.gz"], rel=0.02)
    liver = organs == ORGANS["liver"].label
    # a handful of coarse voxels at a twelfth of the dose
    assert arrays["low_drf012.nii.gz"][liver].mean() == pytest.approx(
        arrays["full.nii.gz"][liver].mean(), rel=0.1
    )
    assert arrays["full.nii.gz"][liver].mean() == pytest.approx(truth[liver].mean(), rel=0.15)
    # in the image the uptake lies where the truth has it
    places = np.stack(np.meshgrid(*map(np.arange, truth.shape), indexing="ij"))
    middle = lambda suv: (places * suv).sum((1, 2, 3)) / suv.sum() * np.array(scan.spacing_xyz[::-1])
    assert np.linalg.norm(middle(arrays["full.nii.gz"]) - middle(truth)) < 8


def test_noise_grows_as_the_dose_falls(body):
    _, _, arrays = body
    inside = arrays["organs.nii.gz"] > 0
    noise = {f: np.std((arrays[f"low_drf{f:03d}.nii.gz"] - arrays["full.nii.gz"])[inside]) for f in (3, 12)}
    # low = full thinned: the variance added to the full dose is (DRF - 1) times the full dose's own
    assert noise[12] / noise[3] == pytest.approx(math.sqrt(11 / 2), rel=0.25)


def test_lesions_are_where_the_facts_place_them(body):
    scan, images, arrays = body
    lesions = scan.facts["lesions"]
    found = 0
    for lesion in lesions:
        chosen = arrays["lesions.nii.gz"] == lesion["label"]
        if chosen.any():
            found += 1
            distance = np.linalg.norm(centroid(images["lesions.nii.gz"], chosen) - lesion["center_mm"])
            assert distance < 0.5 * lesion["diameter_mm"] + 12
    assert found > 0
    assert set(np.unique(arrays["lesions.nii.gz"]).tolist()) <= {0, *(lesion["label"] for lesion in lesions)}


def test_an_axial_window_lies_in_the_scan_range():
    windows = [simulate_patient(HEAD, patient_seed(7, "C5", "train", i), axial_mm=50.0) for i in (1, 2, 3)]
    for scan in windows:
        assert scan.full.shape == (math.ceil(50 / 9), 30, 30) == scan.low[4.0].shape
        assert tuple(scan.phantom.organs.shape) == scan.full.shape
        assert -98 <= scan.origin_xyz[2] and scan.origin_xyz[2] + 50 <= 82
    assert len({scan.origin_xyz[2] for scan in windows}) == 3


def test_progress_can_cancel_a_patient():
    def cancel(share: float) -> None:
        raise CanceledError

    with pytest.raises(CanceledError):
        simulate_patient(HEAD, patient_seed(7, "C5", "train", 1), progress=cancel)


# ---- a real scan


@pytest.fixture
def real_scan(tmp_path) -> Path:
    """A warm ellipsoid with a liver-like half, as a NIfTI file in SUV."""
    z, y, x = np.ogrid[:30, :30, :40]
    inside = ((z - 14.5) / 14) ** 2 + ((y - 14.5) / 10) ** 2 + ((x - 19.5) / 15) ** 2 < 1
    image = sitk.GetImageFromArray(np.where(inside, 1.0 + (x < 20), 0).astype(np.float32))
    image.SetSpacing((9.0, 9.0, 9.0))
    path = tmp_path / "real" / "scan.nii.gz"
    path.parent.mkdir()
    sitk.WriteImage(image, str(path))
    return path


def test_a_real_scan_is_one_person_in_every_case(real_scan, tmp_path):
    flat = replace(BODY, axial_field_mm=2000.0, acceptance_mm=100.0, bed_step_mm=0.0)
    options = ScanOptions((4.0,), source=PatientSource(scan=real_scan, units="suv"))
    for split in ("train", "test"):
        write_cohort(tmp_path / "data", [flat], 1, seed=3, split=split, options=options)
    cases = read_manifest(tmp_path / "data")
    assert cases[0].patient == cases[1].patient and cases[0].patient.startswith("semi-real-")
    images = [sitk.GetArrayFromImage(sitk.ReadImage(str(c.full))) for c in cases]
    assert not np.array_equal(*images)  # the same person, other events
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(cases[0].truth)))
    assert images[0].mean() == pytest.approx(truth.mean(), rel=0.05)
    sidecar = json.loads((cases[0].full.parent / "pet.json").read_text())
    assert sidecar["Facts"]["semi_real"] is True and str(tmp_path) not in json.dumps(sidecar)


def test_a_real_scan_needs_centers_and_options_that_fit(real_scan, tmp_path):
    out = str(tmp_path / "out")
    for arguments, said in (
        (["--centers", "C5", "--semi-real", str(real_scan)], "C5 scans heads"),
        (["--centers", "C1", "--semi-real", str(real_scan), "--breathing", "9"], "breathed already"),
        (["--centers", "C1", "--semi-real", str(tmp_path / "absent.nii")], "absent.nii"),
        (["--centers", "C1", "--semi-real", str(real_scan)], "does not say its units"),
        (["--centers", "C1", "--units", "suv"], "--units belongs to --semi-real"),
        (["--centers", "C1", "--lesions", str(real_scan)], "--lesions belongs to --semi-real"),
        (["--centers", "C1", "--breathing", "-3"], "breathing_mm -3"),
    ):
        with pytest.raises(InputError) as refusal:
            run(*arguments, "-o", out)
        assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert not Path(out).exists()


def test_breathing_reaches_the_scan_and_its_side_car(tmp_path):
    calm, moved = (
        ScanOptions(axial_mm=60.0),
        ScanOptions(axial_mm=60.0, imperfections=Imperfections(20.0, 10.0, 0.1)),
    )
    scans = [o.scan(BODY, patient_seed(5, "C1", "test", 1), None) for o in (calm, moved)]
    assert np.array_equal(*(s.phantom.activity.numpy() for s in scans))  # the truth does not move
    assert not np.array_equal(scans[0].full, scans[1].full)
    said = scans[1].facts["imperfections"]
    assert said["breathing_mm"] == 20 and 0.5 < said["calibration"] < 1.5 and said["calibration"] != 1


# ---- the command


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(arguments)), TerminalProgress(sys.stderr))


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


def test_the_room_foreseen_is_about_what_a_case_takes(dataset):
    taken = sum(path.stat().st_size for path in case(dataset).iterdir())
    # the truth of coarse voxels compresses less, labels weigh more
    assert cohort._bytes_of(HEAD, ScanOptions()) == pytest.approx(taken, rel=0.6)


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


# ---- stopping

LONG_RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from dataclasses import replace
from drmc.cli import main as cli
from drmc.simulation.centers import CENTERS
from test_cohort import HEAD
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
        cwd=Path(__file__).parent,
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
