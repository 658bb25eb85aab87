"""logic.process on a node loaded from DICOM: from its files, the same series as the command line's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from support.slicer.modules import engineErrors, logicOf
from support.slicer.processes import denoisedOf, drmc
from support.slicer.scene import (
    Database,
    loadSeries,
    matrixOf,
    phantom,
    readVolume,
)

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def dicom(slicer, tmp_path, monkeypatch):
    """A series with a slope for each slice, loaded with ITK as Slicer does, and its database."""
    from support.engine.synthetic_dicom import write_series

    files = write_series(tmp_path / "series", phantom(shape=(8, 20, 22)) * 5000.0)
    node = loadSeries(slicer, files)
    monkeypatch.setattr(slicer, "dicomDatabase", Database(files), raising=False)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(slicer.dicomDatabase.files))
    return SimpleNamespace(node=node, files=files)


def test_a_dicom_node_is_denoised_from_its_files(slicer, dicom, tmp_path):
    output = logicOf(slicer).process(dicom.node, model="tiny", outputFolder=tmp_path / "out")
    done = drmc(
        "denoise", tmp_path / "series", "-o", tmp_path / "same", "--format", "nrrd", "--model", "tiny"
    )
    assert done.returncode == 0, done.stderr
    expected = sitk.ReadImage(str(tmp_path / "same" / "denoised.nrrd"))
    assert np.array_equal(denoisedOf(tmp_path / "out"), sitk.GetArrayFromImage(expected))
    assert np.array_equal(matrixOf(slicer, output), matrixOf(slicer, dicom.node))
    # Whatever the order of the node's slices: the same value at the same place.
    index = (7, 11, 2)
    ras = (
        np.linalg.inv(matrixOf(slicer, output))
        @ np.diag([-1, -1, 1, 1])
        @ [*expected.TransformIndexToPhysicalPoint(index), 1]
    )
    i, j, k = np.round(ras[:3]).astype(int)
    assert slicer.util.arrayFromVolume(output)[k, j, i] == expected[index]


def test_a_script_in_slicer_gets_the_series_of_the_command_line(slicer, dicom, tmp_path):
    logicOf(slicer).process(dicom.node, model="tiny", outputFolder=tmp_path / "out", writeDICOM=True)
    done = drmc(
        "denoise", tmp_path / "series", "-o", tmp_path / "same", "--format", "dicom", "--model", "tiny"
    )
    assert done.returncode == 0, done.stderr
    here, there = (
        [pydicom.dcmread(path) for path in sorted((tmp_path / name / "denoised").iterdir())]
        for name in ("out", "same")
    )
    assert len(here) == len(there) == len(dicom.files)
    for one, other in zip(here, there, strict=True):
        assert one.PixelData == other.PixelData and one.RescaleSlope == other.RescaleSlope
        assert one.ImagePositionPatient == other.ImagePositionPatient
        assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert (tmp_path / "out" / "denoised.nrrd").is_file()
    with pytest.raises(engineErrors().InputError, match="outputFolder"):
        logicOf(slicer).process(dicom.node, model="tiny", writeDICOM=True)


def test_what_the_engine_gets_of_a_dicom_node(slicer, dicom, tmp_path):
    from DRMCCoreLib.nodes.volumes import engineInput

    assert readVolume(engineInput(dicom.node, tmp_path)).source == tmp_path / "series"
    (tmp_path / "series" / "another.dcm").write_bytes(b"of another series")
    (tmp_path / "work").mkdir()
    staged = engineInput(dicom.node, tmp_path / "work")
    folder = readVolume(staged).source
    assert folder == staged.path == tmp_path / "work" / "DICOM PET"
    assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted(
        path.read_bytes() for path in dicom.files
    )
    array = slicer.util.arrayFromVolume(dicom.node)
    array[2, 3, 4] += 0.1 * array.max()
    slicer.util.arrayFromVolumeModified(dicom.node)
    (tmp_path / "again").mkdir()
    again = engineInput(dicom.node, tmp_path / "again")
    with pytest.raises(engineErrors().InputError) as refusal:
        readVolume(again)
    assert str(refusal.value).startswith("'DICOM PET' no longer holds what its DICOM files hold")
    with pytest.raises(engineErrors().InputError, match="'DICOM PET' no longer holds"):
        logicOf(slicer).process(dicom.node, model="tiny")
    assert engineInput(dicom.node, tmp_path / "again", suv=2e-4).path.suffix == ".mha"
