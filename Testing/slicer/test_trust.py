"""Numbers and refusals of the panel are the command line's, and it leaves nothing behind."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.slicer.observers import observers
from support.slicer.processes import cancelAt, drmc, leftOf, waitUntil
from support.slicer.scene import loadVolume, nodeIDs, oblique, phantom, volumeNode

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def panel(panel, model):
    """The open panel over an empty scene, the tiny model chosen."""
    panel._parameterNode.model, panel._parameterNode.device = model, "cpu"
    return panel


def run(panel, slicer) -> str:
    """Clicks Apply, waits for the end and returns what the panel says."""
    assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    return panel.ui.statusLabel.text


@pytest.mark.real_engine
def test_panel_batch_and_command_line_are_bit_identical(panel, qtSlicer, model, tmp_path):
    scan, out = tmp_path / "scan.nrrd", tmp_path / "out"
    sitk.WriteImage(sitk.GetImageFromArray(phantom(seed=3) * np.float32(4000)), str(scan))
    (tmp_path / "scan.json").write_text('{"Units": "Bq/mL", "SUVFactor": 0.00025}')
    options = ("--format", "nrrd", "--model", model, "--device", "cpu")
    assert drmc("denoise", scan, "-o", out / "one", *options, python=sys.executable).returncode == 0
    (tmp_path / "scans").mkdir()
    for file in ("scan.nrrd", "scan.json"):
        (tmp_path / "scans" / file).write_bytes((tmp_path / file).read_bytes())
    assert (
        drmc(
            "denoise", tmp_path / "scans", "-o", out / "all", "--batch", *options, python=sys.executable
        ).returncode
        == 0
    )
    loadVolume(qtSlicer, scan)
    assert run(panel, qtSlicer).startswith("Done in")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "one" / "denoised.nrrd")))
    assert np.array_equal(qtSlicer.util.arrayFromVolume(panel._parameterNode.outputVolume), expected)
    inBatch = next((out / "all").glob("*/denoised.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(inBatch))), expected)


def test_the_panel_refuses_in_the_command_lines_words(panel, qtSlicer, tmp_path):
    scan = tmp_path / "unknown.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(phantom() * np.float32(4000)), str(scan))
    (tmp_path / "unknown.json").write_text('{"Units": "Bq/mL"}')
    said = drmc("denoise", scan, "-o", tmp_path / "out", "--label", "unknown")  # the node's name
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    loadVolume(qtSlicer, scan)
    before = nodeIDs(qtSlicer)
    assert run(panel, qtSlicer) == said.stderr.strip().removeprefix("drmc: ")
    assert nodeIDs(qtSlicer) == before


@pytest.mark.real_engine
@pytest.mark.parametrize("moment", ["at once", "while the engine starts", "between tiles"])
def test_cancel_leaves_nothing_behind_at_any_moment(panel, qtSlicer, moment):
    volumeNode(qtSlicer, phantom((70, 110, 110)), oblique(), units="{SUVbw}g/ml")
    before = nodeIDs(qtSlicer)
    scratch = cancelAt(panel, qtSlicer, moment)
    assert panel.ui.statusLabel.text == "Canceled; the scene is as it was."
    assert nodeIDs(qtSlicer) == before and leftOf(str(scratch)) == [] and not scratch.exists()


def test_twenty_runs_leave_no_node_observer_or_process_behind(panel, qtSlicer):
    volumeNode(qtSlicer, phantom(), oblique(), units="{SUVbw}g/ml")
    for _ in range(2):  # the first makes the output's nodes, the second finds them
        assert run(panel, qtSlicer).startswith("Done in")
    gc.collect()  # what earlier panels watched
    nodes, watched = nodeIDs(qtSlicer), observers(qtSlicer)
    for _ in range(18):
        assert run(panel, qtSlicer).startswith("Done in")
    gc.collect()
    assert nodeIDs(qtSlicer) == nodes
    assert observers(qtSlicer) == watched + len(nodes) + 1  # what the first count itself has added
    assert leftOf(str(qtSlicer.app.temporaryPath)) == []
    assert list(Path(qtSlicer.app.temporaryPath).glob("DRMC-*")) == []
