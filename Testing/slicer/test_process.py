"""logic.process from node to node: the command line's bits, geometry, units, refusals, cancel."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from support import REPOSITORY
from support.slicer.modules import engineErrors, logicOf
from support.slicer.processes import Puppet, denoisedOf, drmc, leftOf
from support.slicer.scene import (
    loadVolume,
    matrixOf,
    nodeIDs,
    oblique,
    phantom,
    readVolume,
    segmentationNode,
    volumeNode,
)

pytestmark = pytest.mark.usefixtures("model")

BATCH = REPOSITORY / "DRMCDenoise" / "Scripts" / "DRMCBatch.py"


@pytest.fixture(scope="module")
def case(application, model, tmp_path_factory):
    """One scan in Bq/ml with a side-car and two overlapping lesions, denoised by the command line."""
    slicer = application
    folder = tmp_path_factory.mktemp("case")
    factor = 2.5e-4
    array = np.round(phantom() / factor)
    node = volumeNode(slicer, array.astype(np.float32), oblique())
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(folder / "scan.nrrd"))
    assert storage.WriteData(node)
    (folder / "scan.json").write_text(f'{{"Units": "Bq/mL", "SUVFactor": {factor}}}')
    grid = np.indices(array.shape) - (np.array(array.shape)[:, None, None, None] - 1) / 2
    masks = {"Hot": np.linalg.norm(grid, axis=0) < 3.5, "Around it": np.linalg.norm(grid, axis=0) < 6}
    segmentation = segmentationNode(slicer, node, masks)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(folder / "lesions.seg.nrrd"))
    assert storage.WriteData(segmentation)
    slicer.mrmlScene.Clear(0)
    out = folder / "by command line"
    done = drmc(
        "denoise",
        folder / "scan.nrrd",
        "-o",
        out,
        "--lesions",
        folder / "lesions.seg.nrrd",
        "--format",
        "nrrd",
        "--model",
        "tiny",
        python=sys.executable,
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        scan=folder / "scan.nrrd",
        lesions=folder / "lesions.seg.nrrd",
        out=out,
        folder=folder,
        factor=factor,
        masks=masks,
    )


@pytest.mark.real_engine
def test_logic_and_command_line_are_bit_identical(slicer, case, tmp_path):
    node = loadVolume(slicer, case.scan)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(case.lesions))
    assert storage.ReadData(segmentation)
    calls = []

    output = logicOf(slicer).process(
        node,
        lesions=segmentation,
        model="tiny",
        outputFolder=tmp_path / "out",
        progressCallback=lambda *values: calls.append(values),
    )

    expected = denoisedOf(case.out)
    found = slicer.util.arrayFromVolume(output)
    assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert not np.array_equal(found, slicer.util.arrayFromVolume(node))
    for name in ("lesions.csv", "routing.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (case.out / name).read_bytes()
    assert calls and calls[-1][0] == calls[-1][1] > 1
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)

    table = slicer.util.getNode("scan lesions (DRMC)").GetTable()
    with open(case.out / "lesions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["segment"] for row in rows} == {"Hot", "Around it"}
    assert table.GetNumberOfRows() == len(rows) >= 6
    for index, row in enumerate(rows):
        for name, text in row.items():
            value = table.GetValueByName(index, name)
            if name in ("scan", "segment", "stage", "suv_rule", "suv_warnings", "interval_note", "sul_note"):
                assert value.ToString() == text
            else:
                np.testing.assert_equal(value.ToDouble(), float(text or "nan"))


def test_batch_script_and_command_line_are_bit_identical(case, tmp_path):
    arguments = [
        case.scan,
        "-o",
        tmp_path / "out",
        "--lesions",
        case.lesions,
        "--format",
        "nrrd",
        "--model",
        "tiny",
    ]
    done = subprocess.run(
        [sys.executable, *map(str, [BATCH, *arguments])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(denoisedOf(tmp_path / "out"), denoisedOf(case.out))
    assert (tmp_path / "out" / "lesions.csv").read_bytes() == (case.out / "lesions.csv").read_bytes()


def asSlicerScript() -> list[str]:
    """The batch script as `Slicer --python-script` runs it: in __main__ of a process that has slicer.app."""
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'Testing')!r})\n"
        "import host; slicer = host.start()\n"
        f"__file__ = {str(BATCH)!r}\n"
        "exec(compile(open(__file__).read(), __file__, 'exec'))\n"
        "assert not slicer.app.commandOptions().runPythonAndExit\n"
        "sys.exit(slicer.app._exitCode)"
    )
    return ["-c", code, "--"]


def test_batch_script_makes_no_pdf_without_slicer(tmp_path):
    done = subprocess.run(
        [sys.executable, BATCH, "scan.nii.gz", "-o", str(tmp_path / "out"), "--pdf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("--pdf: needs Slicer")
    assert not (tmp_path / "out").exists()


def test_batch_script_hands_on_the_refusal(tmp_path):
    done = subprocess.run(
        [sys.executable, *asSlicerScript(), str(tmp_path / "nothing"), "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    same = drmc("denoise", tmp_path / "nothing", "-o", tmp_path / "out")
    assert done.returncode == same.returncode == 2
    assert done.stderr.splitlines()[-1] == same.stderr.splitlines()[-1] and "nothing" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_node_without_file_has_the_numbers_of_the_file(slicer, case):
    """Exported with the node's own geometry and the stated factor: the same voxels as from the file."""
    node = volumeNode(
        slicer, slicer.util.arrayFromVolume(loadVolume(slicer, case.scan)).copy(), oblique(), units="Bq/ml"
    )
    segmentation = segmentationNode(slicer, node, {"Hot": case.masks["Hot"]})
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turn[:3, 3] = [12.0, -7.0, 3.0]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    node.SetAndObserveTransformNodeID(transform.GetID())
    # The lesions are drawn where the volume lies in the world, not under its transform.
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    segmentation.HardenTransform()
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(6.0 / case.factor, 3.0 / case.factor)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(
        hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient"), "Study"
    )
    hierarchy.CreateItem(study, node)

    output = logicOf(slicer).process(node, model="tiny", suv=case.factor, lesions=segmentation)

    assert np.array_equal(slicer.util.arrayFromVolume(output), denoisedOf(case.out))
    assert np.array_equal(matrixOf(slicer, output), matrixOf(slicer, node))
    assert output.GetName() == "PET denoised (DRMC)"
    assert output.GetParentTransformNode() is transform
    assert output.GetVoxelValueUnits().GetCodeValue() == "Bq/ml"
    assert output.GetDisplayNode().GetWindow() == 6.0 / case.factor
    assert output.GetDisplayNode().GetLevel() == 3.0 / case.factor
    assert output.GetDisplayNode() is not node.GetDisplayNode()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(output)) == study
    assert float(output.GetAttribute("DRMC.SUVFactor")) == case.factor
    assert output.GetAttribute("DRMC.Model") == "tiny"
    with open(case.out / "lesions.csv", newline="") as file:
        expected = [row for row in csv.DictReader(file) if row["segment"] == "Hot"]
    table = slicer.util.getNode("PET lesions (DRMC)").GetTable()
    assert [table.GetValueByName(i, "suv_mean").ToDouble() for i in range(3)] == [
        float(r["suv_mean"]) for r in expected[:3]
    ]
    assert list(Path(slicer.app.temporaryPath).iterdir()) == []


@pytest.mark.parametrize("fault", ["no units", "in Bq/ml without a factor"])
def test_a_refusal_is_the_command_lines_sentence(slicer, tmp_path, fault):
    path = tmp_path / "unknown.nrrd"
    image = sitk.GetImageFromArray(phantom() * np.float32(4000))
    sitk.WriteImage(image, str(path))
    if fault != "no units":
        (tmp_path / "unknown.json").write_text('{"Units": "Bq/mL"}')
    said = drmc("denoise", path, "-o", tmp_path / "out", "--label", "unknown")
    assert said.returncode == 2
    node = loadVolume(slicer, path)
    before = nodeIDs(slicer)
    with pytest.raises(engineErrors().InputError) as refusal:
        logicOf(slicer).process(node)
    assert str(refusal.value) == said.stderr.strip().removeprefix("drmc: ")
    assert nodeIDs(slicer) == before


def test_a_refusal_of_an_exported_node_names_the_node(slicer):
    node = volumeNode(slicer, phantom() * np.float32(4000), name="Un/known")
    with pytest.raises(engineErrors().InputError, match=r"^'Un/known' does not say its units"):
        logicOf(slicer).process(node)


def test_an_edited_node_is_not_its_file(slicer, case, tmp_path):
    """The side-car of the file does not hold once the voxels are others: the node is asked what they are."""
    from DRMCCoreLib.nodes.volumes import engineInput

    node = loadVolume(slicer, case.scan)
    assert readVolume(engineInput(node, tmp_path)).source == case.scan
    slicer.util.arrayFromVolume(node)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(node)
    edited = engineInput(node, tmp_path)
    assert (edited.path, edited.voxels) == (case.scan, tmp_path / "scan.mha")
    assert not edited.voxels.with_suffix(".json").exists()
    with pytest.raises(engineErrors().InputError, match=r"^'scan' does not say its units"):
        readVolume(edited)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s, n: n.SetAndObserveImageData(None), "holds no image"),
        (
            lambda s, n: setTransform(s, n, np.diag([1, 1, 2.0, 1])),
            "'Change', which scales or shears: harden",
        ),
        (
            lambda s, n: n.SetIJKToRASMatrix(s.util.vtkMatrixFromArray(sheared())),
            "axes are not perpendicular",
        ),
        (
            lambda s, n: n.SetVoxelValueUnits(coded(s, "[hnsf'U]", "Hounsfield unit")),
            "is in Hounsfield unit: give a volume in SUVbw or Bq/ml",
        ),
        (lambda s, n: n.SetVoxelValueUnits(coded(s, "{SUVlbm}g/ml")), r"is in \{SUVlbm\}g/ml: "),
    ],
)
def test_a_node_that_cannot_be_denoised(slicer, change, sentence):
    node = volumeNode(slicer, phantom())
    change(slicer, node)
    before = nodeIDs(slicer)
    with pytest.raises(engineErrors().InputError, match=sentence):
        logicOf(slicer).process(node)
    assert nodeIDs(slicer) == before and list(Path(slicer.app.temporaryPath).iterdir()) == []


def test_more_nodes_that_cannot_be_denoised(slicer):
    InputError = engineErrors().InputError
    logic = logicOf(slicer)
    node = volumeNode(slicer, phantom(), units="{SUVbw}g/ml")
    with pytest.raises(InputError, match="no input volume"):
        logic.process(None)
    with pytest.raises(InputError, match="is input and output"):
        logic.process(node, node)
    with pytest.raises(InputError, match="positive number"):
        logic.process(node, suv=-1.0)
    with pytest.raises(InputError, match="not understood"):
        logic.process(node, suv="kBq")
    labels = slicer.util.addVolumeFromArray(
        phantom().astype(np.uint8), nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    with pytest.raises(InputError, match="is a label map"):
        logic.process(labels)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Nothing")
    with pytest.raises(InputError, match="'Nothing' has no segment"):
        logic.process(node, lesions=empty)
    with pytest.raises(InputError, match="holds no lesions"):
        logic.process(node, lesions=node)
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Warp")
    node.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match="non-linear transform 'Warp': harden"):
        logic.process(node)


def coded(slicer, code: str, meaning: str | None = None):
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(code, "UCUM", meaning or code)
    return entry


def sheared() -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 2] = 0.3
    return matrix


def setTransform(slicer, node, matrix: np.ndarray) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Change")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_an_output_node_is_taken_over_and_a_label_map_gives_lesions(slicer, case):
    node = volumeNode(slicer, phantom(seed=3), oblique(), units="{SUVbw}g/ml")
    output = volumeNode(slicer, np.zeros((2, 2, 2), np.float32), name="Mine")
    labels = slicer.util.addVolumeFromArray(
        case.masks["Hot"].astype(np.uint8) * 3,
        ijkToRAS=oblique(),
        name="GTV",
        nodeClassName="vtkMRMLLabelMapVolumeNode",
    )
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Table")
    routing = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Routing")
    slicer.mrmlScene.GetSubjectHierarchyNode()  # made when first asked for
    report = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "Report")
    own = {"lesionTable": table, "routingTable": routing, "report": report}
    before = nodeIDs(slicer)
    assert logicOf(slicer).process(node, output, model="tiny", lesions=labels, **own) is output
    chart = {routing.GetNthNodeReferenceID("DRMC.RoutingChart", number) for number in range(3)}
    series = slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")
    assert len(series) == 3  # two experts, and the standard deviation
    chart |= {node.GetID() for node in series}
    assert nodeIDs(slicer) == before | chart
    assert logicOf(slicer).process(node, output, model="tiny", lesions=labels, **own) is output
    assert output.GetName() == "Mine" and slicer.util.arrayFromVolume(output).shape == phantom().shape
    assert output.GetVoxelValueUnits().GetCodeValue() == "{SUVbw}g/ml"
    assert table.GetTable().GetValueByName(0, "segment").ToString() == "GTV"
    assert nodeIDs(slicer) == before | chart and routing.GetTable().GetNumberOfRows() > 0


@pytest.mark.real_engine
def test_cancel_leaves_no_process_and_no_node(slicer):
    from DRMCDenoiseLib.denoisejob import DenoiseJob

    node = volumeNode(slicer, phantom((70, 110, 110)), units="{SUVbw}g/ml")
    before = nodeIDs(slicer)
    job = DenoiseJob(node)
    cancelled = []
    job.progress.connect(
        lambda *_: (job.cancel(), cancelled.append(time.monotonic())) if not cancelled else None
    )
    job.start(device="cpu", model="tiny")
    scratch = next(Path(slicer.app.temporaryPath).iterdir())
    with pytest.raises(engineErrors().CanceledError):
        job.wait()
    assert time.monotonic() - cancelled[0] < 20.0  # one second of grace, on a machine that may be busy
    assert nodeIDs(slicer) == before and job.outputVolume is None and not job.isRunning()
    assert not scratch.exists() and leftOf(str(scratch)) == []


def test_the_input_is_removed_meanwhile(slicer):
    from DRMCDenoiseLib.denoisejob import DenoiseJob

    node = volumeNode(slicer, phantom(), units="{SUVbw}g/ml")
    puppet = Puppet()
    job = DenoiseJob(node, process=puppet)
    job.start()
    slicer.mrmlScene.RemoveNode(node)
    before = nodeIDs(slicer)
    puppet.outputLine.emit('{"event": "result", "summary": {}}')
    puppet.finished.emit(0)
    assert isinstance(job.error, engineErrors().CanceledError) and "removed" in str(job.error)
    assert nodeIDs(slicer) == before
    assert list(Path(slicer.app.temporaryPath).iterdir()) == []


def test_results_that_are_not_there_are_a_failure(slicer):
    from DRMCDenoiseLib.denoisejob import DenoiseJob

    puppet = Puppet()
    job = DenoiseJob(volumeNode(slicer, phantom(), units="{SUVbw}g/ml"), process=puppet)
    job.start()
    before = nodeIDs(slicer)
    puppet.outputLine.emit('{"event": "result", "summary": {"outputs": []}}')
    puppet.finished.emit(0)
    assert type(job.error) is engineErrors().DRMCError and "cannot be read" in str(job.error)
    assert nodeIDs(slicer) == before


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (1, 1, -1), (-1, 1, -1)])
def test_the_same_voxels_in_another_order(slicer, axes, flips):
    """A file whose axes run otherwise than the node's is turned, not resampled; another grid is not."""
    from DRMCCoreLib.nodes import geometry

    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    node = volumeNode(slicer, array, oblique())
    # The file's voxel (i, j, k) is the node's voxel P (i, j, k) + offset.
    size = np.array(array.shape[::-1])
    permutation = np.zeros((4, 4))
    permutation[3, 3] = 1
    for axis, (other, flip) in enumerate(zip(axes, flips, strict=True)):
        permutation[other, axis] = flip
        if flip < 0:
            permutation[other, 3] = size[other] - 1
    turned = array.transpose(2, 1, 0).transpose(axes)[tuple(slice(None, None, flip) for flip in flips)]
    file = np.ascontiguousarray(turned.transpose(2, 1, 0))
    matrix = oblique() @ permutation
    assert np.array_equal(geometry.onNodeGrid(file, matrix, node), array)
    shifted = matrix.copy()
    shifted[:3, 3] += 2.5
    assert geometry.onNodeGrid(file, shifted, node) is None
    assert geometry.onNodeGrid(file[:-1], matrix, node) is None
    stretched = matrix.copy()
    stretched[:3, 0] *= 1.2
    assert geometry.onNodeGrid(file, stretched, node) is None


def test_a_written_node_is_read_back_with_its_geometry(slicer, tmp_path):
    """What the engine reads is the node's voxels, in LPS, to the last bit of the spacing."""
    from DRMCCoreLib.nodes import geometry

    node = volumeNode(slicer, phantom(), oblique())
    sitk.WriteImage(geometry.imageFromNode(node), str(tmp_path / "node.mha"))
    image = sitk.ReadImage(str(tmp_path / "node.mha"))
    assert image.GetSpacing() == (3.1, 2.7, 4.25)
    matrix = geometry.imageMatrix(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    assert np.abs(matrix - matrixOf(slicer, node)).max() < 1e-9
    point = np.array([3, 7, 5])
    ras = (matrixOf(slicer, node) @ [*point, 1])[:3]
    assert np.allclose(image.TransformIndexToPhysicalPoint(point.tolist()), ras * [-1, -1, 1], atol=1e-9)


def test_a_disk_that_is_full_is_said(slicer, monkeypatch):
    from DRMCCoreLib.nodes import volumes

    def full(*_):
        raise OSError(28, "No space left on device")

    node = volumeNode(slicer, phantom(), units="{SUVbw}g/ml")
    monkeypatch.setattr(volumes.files, "write_json", full)
    with pytest.raises(engineErrors().DRMCError, match=r"cannot be written: .*No space left"):
        logicOf(slicer).process(node)
    assert list(Path(slicer.app.temporaryPath).iterdir()) == []
