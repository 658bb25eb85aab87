"""How often a run opens a DICOM file: twice for what is denoised, once for what only its header is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drmc.pet.reading import read_volume
from support.engine.command_line import EXACT
from support.engine.denoising_cases import suv_image
from support.engine.dicom_segmentations import segmentation
from support.engine.synthetic_dicom import write_series

# Runs commands after each other in one process and prints for each its exit code and which files it opened.
COUNTING = """
import json, os, sys

opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
from drmc.cli.main import main

results = []
for command in json.load(sys.stdin):
    opened.clear()
    code = main(command)
    results.append((code, [os.fspath(one) for one in opened if isinstance(one, (str, os.PathLike))]))
with open(sys.argv[1], "w") as file:
    json.dump(results, file)
"""
STUDY = "1.2.3.4"


def openings(tmp_path: Path, *commands: tuple) -> list[Counter]:
    """How often each file was opened by each command, all of which must succeed."""
    output = tmp_path / "openings.json"
    text = json.dumps([[str(part) for part in command] for command in commands])
    command = [sys.executable, "-c", COUNTING, str(output)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert [code for code, _ in results] == [0] * len(commands), done.stderr
    return [Counter(path for path in opened) for _, opened in results]


def most(counts: Counter, *folders: Path) -> tuple[int, int]:
    """The fewest and the most openings among all files of folders."""
    files = [str(path) for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    found = [counts[path] for path in files]
    return min(found), max(found)


def other_series(folder: Path, modality: str, start: int) -> None:
    """Slices of another kind in the same study."""
    files = write_series(folder, slices=3, names=lambda n: f"{modality}{start + n}", StudyInstanceUID=STUDY)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.Modality, ds.SOPClassUID = modality, pydicom.uid.CTImageStorage
        ds.save_as(file)


def scan_in(folder: Path, **options) -> Path:
    write_series(folder, suv_image() * 4000.0, **options)
    return folder


def test_the_question_for_the_suv_opens_a_file_once(tmp_path):
    series = scan_in(tmp_path / "series")
    enhanced = scan_in(tmp_path / "enhanced", form="enhanced")
    mixed = scan_in(tmp_path / "mixed", StudyInstanceUID=STUDY)
    other_series(mixed, "CT", 0)
    study = tmp_path / "study"
    scan_in(study / "pet", StudyInstanceUID=STUDY)
    other_series(study / "ct", "CT", 0)
    paths = (series, enhanced, mixed, study, next(series.iterdir()))
    asked = openings(tmp_path, *(("suv", path, "--header-only", "--json") for path in paths))
    for path, counts in zip(paths, asked, strict=True):
        assert most(counts, path if path.is_dir() else series) == (1, 1), path
    # With the check whether the SUV can be true, for which the voxels are read.
    for path, counts in zip(paths, openings(tmp_path, *(("suv", path) for path in paths)), strict=True):
        assert most(counts, path if path.is_dir() else series)[1] == 2, path


@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy"])
def test_denoising_opens_a_file_twice(models, tmp_path, form):
    series = scan_in(tmp_path / "series", form=form)
    volume = read_volume(series)
    voxels = tmp_path / "voxels.mha"
    sitk.WriteImage(volume.geometry.to_image(volume.array), str(voxels))
    passed = ("--voxels", voxels, "--label", "PET")
    commands = [("denoise", series, "-o", tmp_path / f"out{n}", *EXACT) for n in range(3)]
    commands[1] += passed
    commands[2] = ("denoise", next(series.iterdir()), "-o", tmp_path / "out2", *EXACT, *passed)
    if form == "classic":
        commands.append(("denoise", series, "-o", tmp_path / "out3", *EXACT, "--dicom"))
    for counts in openings(tmp_path, *commands):
        assert most(counts, series) == (2, 2)
    ways = [json.loads((tmp_path / f"out{n}" / "summary.json").read_text()) for n in range(2)]
    assert ways[0]["fingerprint"] == ways[1]["fingerprint"]


def test_a_study_with_lesions_and_full_dose_too(models, tmp_path):
    study = tmp_path / "study"
    files = write_series(study / "pet", suv_image() * 4000.0, StudyInstanceUID=STUDY)
    other_series(study / "pet", "CT", 0)
    other_series(study / "ct", "CT", 0)
    full = scan_in(tmp_path / "full")
    lesions = tmp_path / "lesions"
    lesions.mkdir()
    masks = np.zeros((1, *suv_image().shape), np.uint8)
    masks[0, 8:12, 8:12, 8:12] = 1
    sources = [pydicom.dcmread(file) for file in files]
    for one in sources:
        for keyword in ("StudyID", "StudyDate", "StudyTime", "PatientSex", "ReferringPhysicianName"):
            setattr(one, keyword, "")
    segmentation(sources, masks).save_as(lesions / "seg")
    beside = ("--lesions", lesions, "--reference", full)
    (counts,) = openings(tmp_path, ("denoise", study, "-o", tmp_path / "out", *beside, *EXACT))
    assert most(counts, full, lesions) == (2, 2) and most(counts, study)[1] == 2


def test_a_batch_opens_each_file_twice(models, tmp_path):
    cohort = tmp_path / "cohort"
    for name in ("a", "b", "c"):
        scan_in(cohort / name)
    (counts,) = openings(tmp_path, ("denoise", cohort, "-o", tmp_path / "out", *EXACT))
    assert most(counts, cohort) == (2, 2)
