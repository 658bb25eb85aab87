"""DRMCTraining: the torchrun command, following it, stopping it."""

from __future__ import annotations

import json
import sys

import host
import pytest
from conftest import Puppet, waitUntil


def logicOf():
    return sys.modules["DRMCTraining"].DRMCTrainingLogic()


def test_the_command_is_torchrun(slicer, tmp_path):
    configuration = tmp_path / "my training.json"
    command = logicOf().command(configuration, 4)
    assert command[0] == sys.executable
    assert command[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"),
        *("-m", "drmc.training", str(configuration), "--progress", "json"),
    ]
    with pytest.raises(ValueError, match="at least 1"):
        logicOf().command(configuration, 0)
    with pytest.raises(ValueError, match="no such training configuration"):
        logicOf().start(configuration)


def test_torchrun_hands_on_the_refusal(slicer, tmp_path):
    """The real torchrun with the real training program: an unknown key is refused before any work."""
    pytest.importorskip("torch")
    configuration = tmp_path / "training.json"
    configuration.write_text(json.dumps({"dataset": "d", "output": "o", "no_such_key": 1}))
    job = logicOf().start(configuration)
    assert job.wait(seconds=120)
    assert job.exitCode != 0 and "no_such_key" in job.log


def test_the_panel_follows_and_stops(qtSlicer, tmp_path, monkeypatch):
    import DRMCDenoiseLib.runner

    puppet = Puppet()
    monkeypatch.setattr(DRMCDenoiseLib.runner, "createProcess", lambda: puppet)
    widget = host.openWidget(sys.modules["DRMCTraining"], "DRMCTraining")
    ui = widget.ui
    assert not ui.startButton.enabled and ui.startButton.toolTip == "Choose a training configuration"
    configuration = tmp_path / "training.json"
    configuration.write_text("{}")
    ui.configurationPathEdit.setCurrentPath(str(configuration))
    ui.processesSpinBox.setValue(2)
    waitUntil(qtSlicer, lambda: ui.startButton.enabled)
    ui.startButton.click()
    assert puppet.started[0][4:8] == ["--nproc-per-node=2", "-m", "drmc.training", str(configuration)]
    assert puppet.started[1]["PYTHON_EXEC"] == sys.executable
    assert not ui.startButton.enabled and ui.stopButton.enabled
    puppet.outputLine.emit(json.dumps({"event": "progress", "step": 50, "steps": 200, "loss": {"C1": 0.1}}))
    assert ui.statusLabel.text == "Step 50 of 200" and ui.progressBar.value == 50
    ui.stopButton.click()
    assert not puppet.inputIsOpen
    puppet.finished.emit(1)
    assert ui.statusLabel.text.startswith("Stopped") and ui.startButton.enabled
    host.closeWidget(widget)
