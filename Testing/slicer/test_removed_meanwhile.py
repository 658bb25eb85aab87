"""Nodes for the results of a run that the user removes while the engine is at work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.slicer.processes import Puppet
from support.slicer.scene import oblique, phantom, volumeNode

pytestmark = pytest.mark.real_engine  # nothing of it runs here


def denoiseSummary() -> dict:
    """What a run without lesions says, as far as the scene needs it."""
    summary = {"suv": {"factor": 1.0, "rule": "stated", "type": "SUVbw", "warnings": []}}
    summary |= {"model": {"name": "tiny", "sha256": "0"}, "versions": {"drmc": "0"}, "outputs": []}
    return summary | {"input": {"units": "SUV"}, "strength": 1.0, "routing": None}


def test_the_result_goes_into_new_nodes(slicer):
    """What was computed for minutes must not vanish with a node that was to hold it."""
    from DRMCCoreLib.nodes.geometry import imageFromNode
    from DRMCDenoiseLib.denoisejob import DenoiseJob

    node = volumeNode(slicer, phantom(), oblique(), units="{SUVbw}g/ml")
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")
    report = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "Report")
    puppet = Puppet()
    job = DenoiseJob(node, output, process=puppet)
    job.start(report=report)
    command = puppet.started[0]
    folder = Path(command[command.index("-o") + 1])
    folder.mkdir()
    sitk.WriteImage(imageFromNode(node) * 0.5, str(folder / "denoised.nrrd"))
    (folder / "report.html").write_text("<html></html>", encoding="utf-8")
    for one in (output, report):
        slicer.mrmlScene.RemoveNode(one)
    puppet.outputLine.emit(json.dumps({"event": "result", "summary": denoiseSummary()}))
    puppet.finished.emit(0)
    assert job.error is None
    for one in (job.outputVolume, job.report):
        assert slicer.mrmlScene.IsNodePresent(one)
    assert job.outputVolume.GetNodeReference("DRMC.Input") is node
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(job.outputVolume), phantom() * np.float32(0.5))
