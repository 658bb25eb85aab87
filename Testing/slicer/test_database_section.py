"""Into Slicer's DICOM database: series, segmentation and report of a denoised DICOM scan, or none."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from support.slicer.modules import sectionOf
from support.slicer.processes import drmc, waitUntil
from support.slicer.scene import Database, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model")
SUV = "{SUVbw}g/ml"
SHAPE = (8, 20, 22)


@pytest.fixture
def scan(panel, qtSlicer, tmp_path, monkeypatch):
    """A DICOM series with a lesion in the panel, and a database that takes files as Slicer's does."""
    import vtk
    from support.engine.denoised_series import VALID
    from support.engine.synthetic_dicom import write_series

    header = {**VALID, "NumberOfSlices": SHAPE[0]}
    files = write_series(tmp_path / "series", phantom(shape=SHAPE) * 5000.0, **header)
    names = vtk.vtkStringArray()
    for path in files:
        names.InsertNextValue(str(path))
    node = qtSlicer.modules.volumes.logic().AddArchetypeScalarVolume(str(files[0]), "DICOM PET", 0, names)
    database = Database(files)
    monkeypatch.setattr(qtSlicer, "dicomDatabase", database, raising=False)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(database.files))
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 8:12, 9:13] = True
    lesions = segmentationNode(qtSlicer, node, {"Node, left": mask})
    found = SimpleNamespace(node=node, lesions=lesions, database=database, kept=tmp_path / "kept", left_out=0)

    def importDicom(folder, copyFiles=False):
        assert copyFiles, "the folder is temporary"
        assert all(path.suffix == ".dcm" for path in Path(folder).rglob("*") if path.is_file())
        shutil.copytree(folder, found.kept)
        paths = sorted(found.kept.rglob("*.dcm"))
        for path in paths[: len(paths) - found.left_out]:
            database.add(path)
        return True

    library = SimpleNamespace(DICOMUtils=SimpleNamespace(importDicom=importDicom))
    monkeypatch.setitem(sys.modules, "DICOMLib", library)
    return found


def applied(panel, slicer, scan, **parameters):
    found = panel._parameterNode
    found.model, found.device, found.inputVolume, found.lesions = "tiny", "cpu", scan.node, scan.lesions
    for name, value in parameters.items():
        setattr(found, name, value)
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.statusLabel.text
    return found


def added(panel, slicer) -> str:
    """What the panel says after a click and the end of the work."""
    panel.ui.databaseButton.click()
    section = sectionOf(panel, "DatabaseSection")
    waitUntil(slicer, lambda: section._job is None)
    return panel.ui.databaseLabel.text


def test_series_segmentation_and_report_are_those_of_the_command_line(panel, qtSlicer, scan, tmp_path):
    assert not panel.ui.databaseButton.enabled
    parameters = applied(panel, qtSlicer, scan, strength=0.5)
    before = qtSlicer.util.arrayFromVolume(parameters.outputVolume).copy()
    assert added(panel, qtSlicer) == "Added to the DICOM database: 3 series at strength 0.5 (low)."
    assert np.array_equal(qtSlicer.util.arrayFromVolume(parameters.outputVolume), before)
    done = drmc(
        *("denoise", tmp_path / "series", "-o", tmp_path / "same", "--format", "dicom", "--model", "tiny"),
        *("--strength", "0.5", "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    here, there = (
        [pydicom.dcmread(path) for path in sorted((folder / "denoised").iterdir())]
        for folder in (scan.kept, tmp_path / "same")
    )
    for one, other in zip(here, there, strict=True):
        assert one.PixelData == other.PixelData and one.RescaleSlope == other.RescaleSlope
    seg = pydicom.dcmread(scan.kept / "segmentation" / "segmentation.dcm")
    document = scan.kept / "measurements" / "measurements.dcm"
    report = pydicom.dcmread(document)
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["Node, left"] and seg.NumberOfFrames == 3
    assert report.Modality == "SR" and b"strength 0.5 (low)" in document.read_bytes()
    assert {one.StudyInstanceUID for one in (here[0], seg, report)} == {source.StudyInstanceUID}
    assert len(scan.database.series) == 4


def test_without_lesions_it_is_the_series_alone(panel, qtSlicer, scan):
    applied(panel, qtSlicer, scan).lesions = None
    assert added(panel, qtSlicer).startswith("Added to the DICOM database: 1 series")
    assert [path.name for path in scan.kept.iterdir()] == ["denoised"]


def test_what_a_header_lacked_is_in_the_series(panel, qtSlicer, scan):
    applied(panel, qtSlicer, scan, headerValues="PatientWeight=50")
    added(panel, qtSlicer)
    assert float(pydicom.dcmread(next((scan.kept / "denoised").iterdir())).PatientWeight) == 50


def test_a_cancel_leaves_the_database_as_it_was(panel, qtSlicer, scan, monkeypatch):
    applied(panel, qtSlicer, scan)
    panel.ui.databaseButton.click()
    assert panel.ui.databaseButton.text == "Cancel adding"
    assert added(panel, qtSlicer) == "Canceled; the DICOM database is as it was."
    assert len(scan.database.series) == 1 and not scan.kept.exists()
    assert panel.ui.databaseButton.text == "Add to DICOM database" and panel.ui.databaseButton.enabled


def test_a_database_that_takes_a_part_is_left_without_any(panel, qtSlicer, scan):
    applied(panel, qtSlicer, scan)
    scan.left_out = 1
    assert added(panel, qtSlicer).startswith("Not added: the DICOM database did not take all files")
    assert len(scan.database.series) == 1


def test_what_cannot_be_added_is_said_in_a_line(panel, qtSlicer, scan):
    output = applied(panel, qtSlicer, scan).outputVolume
    scan.database.isOpen = False
    assert added(panel, qtSlicer).startswith("No DICOM database is open")
    scan.database.isOpen = True
    scan.node.RemoveAttribute("DICOM.instanceUIDs")
    assert "no DICOM series of the database" in added(panel, qtSlicer)
    output.RemoveNodeReferenceIDs("DRMC.KeptResidual")
    assert "has no residual of its run" in added(panel, qtSlicer)
    panel._parameterNode.outputVolume = volumeNode(qtSlicer, phantom(), name="Other", units=SUV)
    assert panel.ui.databaseLabel.text == ""


def test_closing_the_scene_ends_it(panel, qtSlicer, scan):
    applied(panel, qtSlicer, scan)
    panel.ui.databaseButton.click()
    qtSlicer.mrmlScene.Clear(0)
    assert sectionOf(panel, "DatabaseSection")._job is None
    assert len(scan.database.series) == 1
