"""A run that writes DICOM: the series whole or not at all, and what is refused before any work."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drmc.denoising import inputs, outputs, resume
from drmc.denoising.batch import run_batch
from drmc.denoising.pipeline import run
from drmc.denoising.request import DenoiseRequest, LoadedModel
from drmc.errors import CanceledError, InputError
from drmc.pet import dicom_writing
from drmc.pet.dicom_writing import plan_series
from drmc.pet.reading import read_volume
from support.engine.denoised_series import (
    source,
)
from support.engine.denoising_cases import tree
from support.engine.synthetic_dicom import SECRETS, rewrite


def dicom_request(scan: Path, output: Path, **changes: object) -> DenoiseRequest:
    """Denoise to DICOM with the tiny model of the fixture."""
    start = DenoiseRequest(scan, output, model="tiny", device="cpu", precision="fp32", format="dicom")
    return replace(start, **changes)


def test_image_files_are_refused_before_any_work(models, case, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "read_volume", None)
    with pytest.raises(InputError, match=r"no DICOM header.*--format nifti") as caught:
        run(dicom_request(case["low"], tmp_path / "out"))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_other_kinds_of_dicom_are_refused(tmp_path):
    volume = source(tmp_path / "source")
    for file in volume.dicom_files:
        rewrite(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.130")
    with pytest.raises(InputError, match=r"classic PET.*SOPClassUID \(0008,0016\).*--format nifti") as caught:
        plan_series(volume)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_run_writes_the_series_and_takes_it_away_again(models, tmp_path):
    source(tmp_path / "scan")
    output = tmp_path / "out"
    summary = run(dicom_request(tmp_path / "scan", output))
    names = {"denoised", "routing.csv", "report.html", "summary.json"}
    assert set(summary["outputs"]) == names == set(os.listdir(output))
    assert read_volume(output / "denoised").suv.factor == summary["suv"]["factor"]
    entry = LoadedModel(dicom_request(tmp_path / "scan", output)).entry
    assert resume.why_again(dicom_request(tmp_path / "scan", output), entry) is None
    (output / "denoised" / "IM0005.dcm").unlink()
    assert "gone" in resume.why_again(dicom_request(tmp_path / "scan", output), entry)
    run(dicom_request(tmp_path / "scan", output))  # replaces it
    assert len(os.listdir(output / "denoised")) == 5
    # Its own result is never written over, whole or in part.
    for scan in (output / "denoised", output / "denoised" / "IM0001.dcm"):
        with pytest.raises(InputError, match="written over the input"):
            run(dicom_request(scan, output))
    run(dicom_request(output / "denoised", output, format="nrrd"))
    assert len(os.listdir(output / "denoised")) == 5
    # Another form takes away what this one left.
    run(dicom_request(tmp_path / "scan", tmp_path / "b"))
    run(dicom_request(tmp_path / "scan", tmp_path / "b", format="nifti"))
    assert not (tmp_path / "b" / "denoised").exists()
    # Both at once hold the same voxels, within the integers' step.
    both = dicom_request(tmp_path / "scan", tmp_path / "both", format="nrrd", dicom=True)
    assert set(run(both)["outputs"]) == names | {"denoised.nrrd", "denoised.json"}
    series, image = (read_volume(tmp_path / "both" / name) for name in ("denoised", "denoised.nrrd"))
    assert series.geometry.matches(image.geometry) and series.suv.factor == image.suv.factor
    step = np.abs(image.array).max(axis=(1, 2), keepdims=True) / 32767
    assert (np.abs(series.array - image.array) <= 0.51 * step).all()
    assert resume.why_again(replace(both, dicom=False), entry) is not None


def test_a_folder_of_somebody_else_s_is_not_replaced(models, tmp_path):
    source(tmp_path / "scan")
    (tmp_path / "out" / "denoised").mkdir(parents=True)
    (tmp_path / "out" / "denoised" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        run(dicom_request(tmp_path / "scan", tmp_path / "out"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "earlier results"])
@pytest.mark.parametrize("moment", ["slice", "move", "cancel"])
def test_an_interrupted_write_leaves_nothing(models, tmp_path, monkeypatch, existing, moment):
    source(tmp_path / "scan")
    output = tmp_path / "out"
    if existing:
        run(dicom_request(tmp_path / "scan", output))
    before = tree(tmp_path)
    written_slices: list[Path] = []
    save, move = dicom_writing._save, os.replace

    def save_some(ds, path):
        written_slices.append(path)
        if moment == "slice" and len(written_slices) == 3:
            raise OSError(28, "No space left on device")
        save(ds, path)

    def move_some(start, end):
        if moment == "move" and Path(end) == output / "report.html" and "aside" not in str(start):
            raise OSError(28, "No space left on device")
        move(start, end)

    monkeypatch.setattr(dicom_writing, "_save", save_some)
    monkeypatch.setattr(outputs.os, "replace", move_some)
    expected = CanceledError if moment == "cancel" else OSError
    with pytest.raises(expected):
        run(
            dicom_request(tmp_path / "scan", output),
            cancel=lambda: moment == "cancel" and len(written_slices) == 2,
        )
    assert len(written_slices) in (2, 3, 5)
    assert tree(tmp_path) == before and output.exists() == existing


def test_a_batch_refuses_what_is_no_dicom_and_does_the_rest(models, case, tmp_path):
    cohort = tmp_path / "cohort"
    source(cohort / "a")
    shutil.copy(case["low"], cohort / "b.nii.gz")

    class Silent:
        scan = progress = outcome = staticmethod(lambda *_: None)

    result = run_batch(dicom_request(cohort, tmp_path / "out"), Silent())
    assert [row["outcome"] for row in result["scans"]] == ["done", "refused"] and result["exit_code"] == 2
    assert len(os.listdir(tmp_path / "out" / "a" / "denoised")) == 5
