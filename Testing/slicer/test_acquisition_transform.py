"""Series with uneven slice steps as Slicer loads them: on an even grid, under a grid transform."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from support.slicer.modules import logicOf
from support.slicer.processes import denoisedOf, drmc
from support.slicer.scene import Database, matrixOf, phantom, segmentationNode

pytestmark = pytest.mark.usefixtures("model")


def load(slicer, files: list[Path], monkeypatch, name="PET"):
    """Loads the files and enters them in the database, as Slicer does; (volume, grid transform)."""
    import vtk

    files = sorted(files, key=lambda path: float(header(path).ImagePositionPatient[2]))
    names = vtk.vtkStringArray()
    for path in files:
        names.InsertNextValue(str(path))
    node = slicer.modules.volumes.logic().AddArchetypeScalarVolume(str(files[0]), name, 0, names)
    monkeypatch.setattr(slicer, "dicomDatabase", Database(files), raising=False)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(slicer.dicomDatabase.files))
    # One displacement vector for each corner of each slice, from the even grid to where the header says it
    # is.
    columns, rows, slices = node.GetImageData().GetDimensions()
    matrix = matrixOf(slicer, node)
    displacement = np.zeros((slices, 2, 2, 3))
    for k, path in enumerate(files):
        displacement[k, :, :, 2] = float(header(path).ImagePositionPatient[2]) - (matrix @ [0, 0, k, 1])[2]
    image = vtk.vtkImageData()
    image.SetOrigin(*node.GetOrigin())
    image.SetDimensions(2, 2, slices)
    x, y, z = node.GetSpacing()
    image.SetSpacing(x * columns, y * rows, z)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    direction = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(direction)
    grid = slicer.vtkOrientedGridTransform()
    grid.SetGridDirectionMatrix(direction)
    grid.SetDisplacementGridData(image)
    transform = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLGridTransformNode", f"{name} acquisition transform"
    )
    transform.SetAndObserveTransformToParent(grid)
    slicer.util.arrayFromGridTransform(transform)[:] = displacement
    slicer.util.arrayFromGridTransformModified(transform)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node, transform


def header(path: Path):
    return pydicom.dcmread(path, stop_before_pixels=True)


@pytest.fixture
def uneven(slicer, tmp_path, monkeypatch):
    """A series whose slices are up to 0.2 steps away from an even grid."""
    from support.engine.synthetic_dicom import write_series

    array = phantom(shape=(10, 20, 22)) * 5000.0
    files = write_series(tmp_path / "series", array, positions=lambda i: 3.0 * i + 0.12 * (i % 2))
    node, transform = load(slicer, files, monkeypatch)
    point = [0.0, 0.0, 0.0]
    node.TransformPointToWorld((matrixOf(slicer, node) @ [0, 0, 1, 1])[:3], point)
    assert point[2] == pytest.approx(float(header(sorted(files)[1]).ImagePositionPatient[2]))
    return SimpleNamespace(node=node, transform=transform, files=files, array=array)


@pytest.mark.parametrize("under", ["nothing", "the acquisition transform"])
def test_it_is_denoised_from_the_node_that_was_loaded(slicer, uneven, tmp_path, under):
    """No transform is changed, the result is under the same one, all numbers are the command line's."""
    node = uneven.node
    mask = slicer.util.arrayFromVolume(node) > 2.5e4
    segmentation = segmentationNode(slicer, node, {"Hot": mask})
    if under != "nothing":
        segmentation.SetAndObserveTransformNodeID(uneven.transform.GetID())
    else:
        segmentation.SetAndObserveTransformNodeID(None)
    lesions = sitk.GetImageFromArray(mask.astype(np.uint8))
    lesions.CopyInformation(sitk.ReadImage([str(path) for path in sorted(uneven.files)]))
    sitk.WriteImage(lesions, str(tmp_path / "lesions.nrrd"))

    output = logicOf(slicer).process(node, model="tiny", lesions=segmentation, outputFolder=tmp_path / "out")

    done = drmc(
        *("denoise", tmp_path / "series", "-o", tmp_path / "same", "--format", "nrrd", "--model", "tiny"),
        *("--lesions", tmp_path / "lesions.nrrd"),
    )
    assert done.returncode == 0, done.stderr
    assert node.GetParentTransformNode() is output.GetParentTransformNode() is uneven.transform
    assert np.array_equal(matrixOf(slicer, output), matrixOf(slicer, node))
    assert np.array_equal(denoisedOf(tmp_path / "out"), denoisedOf(tmp_path / "same"))
    assert rows(tmp_path / "out") == rows(tmp_path / "same")


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "lesions.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["stage"] for row in found} >= {"original", "denoised"}
    return [{key: row[key] for key in row if key not in ("scan", "segment")} for row in found]


def test_a_registration_of_such_a_volume_is_no_hindrance(slicer, uneven):
    from DRMCCoreLib.nodes import geometry

    registration = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    registration.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    uneven.transform.SetAndObserveTransformNodeID(registration.GetID())
    geometry.checkTransform(uneven.node)
    assert geometry.frameTransform(uneven.node, uneven.node) is registration
    registration.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1, 1, 1.5, 1])))
    with pytest.raises(ValueError, match="'Registration', which scales or shears"):
        geometry.checkTransform(uneven.node)


def test_a_warp_is_refused_with_a_mend_that_can_be_followed(slicer, uneven, tmp_path):
    from DRMCCoreLib.nodes import geometry

    slicer.util.arrayFromGridTransform(uneven.transform)[3] += 1.6  # more than half of 3 mm
    slicer.util.arrayFromGridTransformModified(uneven.transform)
    with pytest.raises(
        ValueError, match=r"non-linear transform 'PET acquisition transform': harden .* saying what"
    ):
        geometry.checkTransform(uneven.node)
    volumes = slicer.modules.volumes.logic()
    copy = volumes.CloneVolume(slicer.mrmlScene, uneven.node, "Hardened")
    copy.SetAndObserveTransformNodeID(uneven.transform.GetID())
    copy.HardenTransform()
    assert logicOf(slicer).process(copy, model="tiny", suv=2e-4) is not None


@pytest.fixture
def leastModel(tmp_path, monkeypatch) -> str:
    """A model of few channels and large tiles, for a whole body."""
    from drmc.models.weights import save_model
    from support.engine.denoising_cases import tiny_network

    (tmp_path / "models").mkdir()
    save_model(tmp_path / "models" / "least.pt", tiny_network(), 64, {"title": "Least"})
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path / "models"))
    return "least"


def test_the_real_series_has_its_published_numbers(slicer, data_folder, monkeypatch, tmp_path, leastModel):
    """GE Discovery ST, 267 slices at steps of 3.19 to 3.29 mm; the tumor as in the data's README."""
    folder = data_folder / "ge_wb_sts001"
    node, transform = load(slicer, sorted((folder / "image").glob("*.dcm")), monkeypatch, name="GE")
    mask = slicer.util.loadVolume(str(folder / "GTV_Mass_fullgrid.nii.gz"))
    labels = slicer.util.addVolumeFromArray(
        slicer.util.arrayFromVolume(mask).astype(np.uint8),
        ijkToRAS=matrixOf(slicer, mask),
        nodeClassName="vtkMRMLLabelMapVolumeNode",
    )
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "GTV")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)

    output = logicOf(slicer).process(
        node, model=leastModel, lesions=segmentation, outputFolder=tmp_path / "out"
    )

    assert output.GetParentTransformNode() is node.GetParentTransformNode() is transform
    assert output.GetImageData().GetDimensions() == (128, 128, 267)
    with open(tmp_path / "out" / "lesions.csv", newline="") as file:
        original = next(row for row in csv.DictReader(file) if row["stage"] == "original")
    found = [float(original[key]) for key in ("volume_ml", "suv_max", "suv_peak", "suv_mean")]
    assert found == pytest.approx([366.08, 7.9107, 6.078, 2.5552], abs=2e-2)
