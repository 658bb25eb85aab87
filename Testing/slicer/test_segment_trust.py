"""DRMC Segment leaves nothing behind after runs and cancels, and its DICOM segmentation is valid."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path

import host
import pytest
from support.engine.denoised_series import VALID
from support.engine.dicom_checker import complaints
from support.engine.labeled_torso import GEOMETRY, labeled_torso
from support.engine.synthetic_dicom import write_series
from support.slicer.observers import observers
from support.slicer.organs import MODEL, loadTorso
from support.slicer.processes import cancelAt, drmc, leftOf, waitUntil
from support.slicer.scene import SUV, Database, loadSeries, nodeIDs, oblique, phantom, volumeNode

KEPT = "kept"


@pytest.fixture
def panel(qtSlicer, organModel):
    """The open panel over an empty scene, the tiny model chosen; closed, it leaves no temporary file."""
    widget = host.openWidget(sys.modules["DRMCSegment"], "DRMCSegment")
    widget._parameterNode.model, widget._parameterNode.device = organModel, "cpu"
    yield widget
    host.closeWidget(widget)
    assert list(Path(qtSlicer.app.temporaryPath).glob("DRMC-*")) == []


def run(panel, slicer) -> str:
    """Clicks Apply, waits for the end and returns what the panel says."""
    assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    return panel.ui.statusLabel.text


def test_twenty_runs_leave_no_node_observer_process_or_memory_behind(panel, qtSlicer):
    image = phantom()
    panel._parameterNode.inputVolume = volumeNode(qtSlicer, image, oblique(), units=SUV)
    panel._parameterNode.thresholdMethod = "SUV"
    for _ in range(2):  # the first makes the nodes, the second finds them
        assert run(panel, qtSlicer).startswith("Done in")
    gc.collect()
    nodes, watched = nodeIDs(qtSlicer), observers(qtSlicer)
    tracemalloc.start()
    try:
        run(panel, qtSlicer)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(17):
            assert run(panel, qtSlicer).startswith("Done in")
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert nodeIDs(qtSlicer) == nodes
    assert observers(qtSlicer) == watched + len(nodes) + 1  # what the first count itself has added
    assert leftOf(str(qtSlicer.app.temporaryPath)) == []
    assert list(Path(qtSlicer.app.temporaryPath).glob("DRMC-*")) == []
    assert grown < 17 * image.nbytes  # no run keeps one of its images


@pytest.mark.real_engine
@pytest.mark.parametrize("moment", ["at once", "while the engine starts", "between slabs"])
def test_cancel_ends_the_process_and_leaves_nothing_half_written(panel, qtSlicer, tmp_path, moment):
    volume, _paths, _organs = loadTorso(qtSlicer, tmp_path / "in")
    parameters, kept = panel._parameterNode, tmp_path / KEPT
    parameters.inputVolume, parameters.outputSegmentation = volume, None
    parameters.outputFolder = str(kept)
    before = nodeIDs(qtSlicer)
    scratch = cancelAt(panel, qtSlicer, moment)
    assert panel.ui.statusLabel.text == "Canceled; the scene is as it was."
    assert nodeIDs(qtSlicer) == before and leftOf(str(scratch)) == [] and not scratch.exists()
    assert not kept.exists() and [one.name for one in tmp_path.iterdir()] == ["in"]  # nor a hidden folder


def test_the_dicom_segmentation_of_the_panel_is_the_command_lines_and_valid(
    panel, qtSlicer, tmp_path, monkeypatch
):
    pydicom = pytest.importorskip("pydicom")
    suv = labeled_torso()[0]
    folder = tmp_path / "series"
    header = {**VALID, "NumberOfSlices": len(suv)}
    files = write_series(
        folder, 5000.0 * suv, spacing=GEOMETRY.spacing[:2], positions=6.0, origin=GEOMETRY.origin, **header
    )
    monkeypatch.setattr(qtSlicer, "dicomDatabase", Database(files), raising=False)
    volume = loadSeries(qtSlicer, files)
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(qtSlicer.dicomDatabase.files))
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.outputSegmentation = volume, None
    parameters.thresholdMethod = "none"
    parameters.outputFolder, parameters.writeDICOM = str(tmp_path / KEPT), True
    qtSlicer.app.processEvents()
    assert run(panel, qtSlicer).startswith("Done in"), panel.ui.statusLabel.text
    path = tmp_path / KEPT / "segmentation" / "segmentation.dcm"
    options = ("--model", MODEL, "--device", "cpu", "--dicom-seg")
    done = drmc("segment", folder, "-o", tmp_path / "cli", *options)
    assert done.returncode == 0, done.stderr
    ours, other = (
        pydicom.dcmread(one) for one in (path, tmp_path / "cli" / "segmentation" / "segmentation.dcm")
    )
    assert ours.PixelData == other.PixelData and ours.NumberOfFrames == other.NumberOfFrames
    assert [one.SegmentLabel for one in ours.SegmentSequence] == [
        one.SegmentLabel for one in other.SegmentSequence
    ]
    assert complaints(path, "Segmentation", "Error", "Warning") == []
