"""A batch of a folder from the panel: the bits of the command line, Cancel, and the words at its end."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.slicer.modules import sectionOf
from support.slicer.processes import denoisedOf, drmc, leftOf, waitUntil
from support.slicer.scene import phantom

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Two scans, and one that is refused."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    for name, seed in (("p1", 0), ("p2", 1), ("unknown", 2)):
        sitk.WriteImage(sitk.GetImageFromArray(phantom(seed=seed)), str(folder / f"{name}.nii.gz"))
        if name != "unknown":
            (folder / f"{name}.json").write_text('{"Units": "SUV"}')
    return folder


def started(panel, cohort: Path, output: Path, **choices):
    parameters = panel._parameterNode
    parameters.model, parameters.device = "tiny", "cpu"
    for name, value in choices.items():
        setattr(parameters, name, value)
    panel.ui.batchInputPathLineEdit.setCurrentPath(str(cohort))
    panel.ui.batchOutputPathLineEdit.setCurrentPath(str(output))
    panel.ui.batchButton.click()
    return sectionOf(panel, "BatchSection")


def ended(panel, slicer, section) -> str:
    waitUntil(slicer, lambda: section._job is None)
    return panel.ui.batchLabel.text


def test_it_has_the_bits_of_the_command_line_and_says_how_all_ended(
    panel, qtSlicer, cohort, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert not panel.ui.batchButton.enabled and not panel.ui.cohortButton.enabled
    section = started(panel, cohort, out, strength=0.5)
    assert panel.ui.batchButton.text == "Cancel batch" and panel.job is None
    assert ended(panel, qtSlicer, section) == "2 done, 1 refused, 0 failed."
    options = ("--batch", "--format", "nrrd", "--model", "tiny", "--device", "cpu", "--strength", "0.5")
    done = drmc("denoise", cohort, "-o", tmp_path / "same", *options, python=sys.executable)
    assert done.returncode == 2, done.stderr
    for name in ("p1", "p2"):
        assert np.array_equal(denoisedOf(out / name), denoisedOf(tmp_path / "same" / name))
    rows = list(csv.DictReader((out / "batch.csv").open(encoding="utf-8")))
    assert [row["outcome"] for row in rows] == ["done", "done", "refused"]
    opened = []
    monkeypatch.setattr("DRMCDenoiseLib.batchsection.openInDesktop", opened.append)
    panel.ui.cohortButton.click()
    assert opened == [out / "cohort.html"] and opened[0].is_file()
    # Once more: what is complete is left.
    assert ended(panel, qtSlicer, started(panel, cohort, out)) == (
        "0 done, 1 refused, 0 failed, 2 complete already."
    )


def test_lesions_of_the_scans_names_are_measured(panel, qtSlicer, cohort, tmp_path):
    lesions = np.zeros(phantom().shape, np.uint8)
    lesions[4:7, 5:8, 5:8] = 1
    (tmp_path / "lesions").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(lesions), str(tmp_path / "lesions" / "p1.nii.gz"))
    out = tmp_path / "out"
    section = started(panel, cohort, out, batchLesions=str(tmp_path / "lesions"))
    assert panel.ui.batchLesionsPathLineEdit.currentPath == str(tmp_path / "lesions")
    assert ended(panel, qtSlicer, section) == "2 done, 1 refused, 0 failed."
    rows = list(csv.DictReader((out / "lesions.csv").open(encoding="utf-8")))
    assert {(row["scan"], row["segment"]) for row in rows} == {("p1", "p1")}


def test_a_cancel_keeps_what_is_done_and_leaves_no_process(panel, qtSlicer, cohort, tmp_path):
    out = tmp_path / "out"
    section = started(panel, cohort, out)
    waitUntil(qtSlicer, lambda: section._outcomes["done"] == 1)
    panel.ui.batchButton.click()
    assert not panel.ui.batchButton.enabled
    text = ended(panel, qtSlicer, section)
    assert (text.startswith("Canceled: ") and "1 done" in text) or text.startswith("2 done")
    assert leftOf(str(out)) == [] and (out / "p1" / "summary.json").is_file()
    assert panel.ui.batchButton.text == "Start batch" and panel.ui.batchButton.enabled


def test_a_batch_outlives_the_scene(panel, qtSlicer, cohort, tmp_path):
    section = started(panel, cohort, tmp_path / "out")
    qtSlicer.mrmlScene.Clear(0)
    assert ended(panel, qtSlicer, section) == "2 done, 1 refused, 0 failed."


def test_a_folder_without_scans_is_refused_in_the_words_of_the_panel(panel, qtSlicer, tmp_path):
    (tmp_path / "empty").mkdir()
    text = ended(panel, qtSlicer, started(panel, tmp_path / "empty", tmp_path / "out"))
    assert str(tmp_path / "empty") in text and "--" not in text
    assert not panel.ui.cohortButton.enabled and not (tmp_path / "out").exists()
