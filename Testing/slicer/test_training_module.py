"""DRMCTraining: the checks, torchrun, following it, stopping it with a checkpoint, and the panel."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import host
import pytest
from support import REPOSITORY
from support.slicer.processes import leftOf, processesOf, waitUntil

SCRIPT = REPOSITORY / "DRMCTraining" / "Scripts" / "DRMCTrain.py"
CHECKS = (("ok", "configuration: tiny"), ("warning", "device: CPU only, 2 cores"), ("ok", "disk: 3 GB free"))
PATIENCE = 600  # seconds; only a hang is that slow


def logicOf():
    return sys.modules["DRMCTraining"].DRMCTrainingLogic()


def engineErrors():
    from drmc import errors

    return errors


@pytest.fixture
def configuration(tmp_path) -> Path:
    """A file that is there; what is in it the puppets say."""
    path = tmp_path / "my training.json"
    path.write_text("{}")
    return path


@pytest.fixture
def panel(qtSlicer):
    """The open panel over an empty scene."""
    widget = host.openWidget(sys.modules["DRMCTraining"], "DRMCTraining")
    yield widget
    host.closeWidget(widget)


def say(puppet, **event) -> None:
    puppet.outputLine.emit(json.dumps(event))


def passChecks(puppet, output: Path, step: int = 0, steps: int = 200) -> None:
    """What `drmc train --check --progress json` says where nothing is wrong."""
    for level, text in CHECKS:
        say(puppet, event="check", level=level, text=text)
    say(puppet, event="result", command="torchrun", output=str(output), step=step, steps=steps)
    puppet.finished.emit(0)


def refuse(puppet, text: str) -> None:
    say(puppet, event="check", level="refused", text=text)
    say(puppet, event="result", command="torchrun", output="", step=0, steps=0)
    say(puppet, event="error", message=text, exit_code=2)
    puppet.finished.emit(2)


def progress(step: int, steps: int = 200, **more) -> dict:
    loss = {"C1": 0.02 * 0.99**step, "C2": 0.03 * 0.99**step}
    return {
        **{"event": "progress", "step": step, "steps": steps, "seconds": 2.0 * step, "rate": 1e-3},
        **{"gradient_norm": 0.5, "closed_gates": 0.25, "loss": loss, **more},
    }


def validation(step: int, **more) -> dict:
    low = {"C1": 30.0, "C2": 28.0}
    psnr = {"C1": 30.0 + step / 100, "C2": 28.0 + step / 50}
    return {"event": "validation", "step": step, "psnr": psnr, "psnr_low": low, **more}


# ---- the logic, without a panel


def test_the_command_is_torchrun_and_its_line_says_the_same(slicer, configuration):
    logic = logicOf()
    command = logic.command(configuration, 4)
    assert command[0] == sys.executable
    assert command[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "--max-restarts=3"),
        *("-m", "drmc.training", str(configuration), "--progress", "json"),
    ]
    words = shlex.split(logic.commandLine(configuration, 4))
    assert words[-len(command) + 2 :] == command[:-2]
    settings = dict(word.split("=", 1) for word in words[: -len(command) + 2])
    assert settings["PYTHONPATH"].split(os.pathsep)[0] == str(REPOSITORY / "DRMCCore")
    assert settings["PYTHON_EXEC"] == sys.executable
    with pytest.raises(engineErrors().InputError, match="at least 1"):
        logic.command(configuration, 0)
    with pytest.raises(engineErrors().InputError, match="no such training configuration"):
        logic.start(configuration.parent / "none.json")


def test_a_dataset_gets_a_configuration_beside_it(slicer, tmp_path, puppets):
    dataset = tmp_path / "my data"
    dataset.mkdir()
    cases = [
        {"id": f"{center}-{split}", "center": center, "split": split, "full": "f", "low": {"4": "l"}}
        for center, splits in (
            ("B", ("train", "validation")),
            ("A", ("validation", "train")),
            ("X", ("test",)),
        )
        for split in splits
    ]
    (dataset / "dataset.json").write_text(json.dumps({"cases": cases}))
    logic = logicOf()
    path = logic.newConfiguration(dataset, "tiny")
    assert path == tmp_path / "my data-tiny" / "training.json"
    assert json.loads(path.read_text()) == {
        "preset": "tiny",
        "dataset": "../my data",
        "output": ".",
        "centers": ["A", "B"],
    }
    path.write_text("edited")
    assert logic.newConfiguration(dataset, "tiny").read_text() == "edited"
    run = logic.start(dataset, preset="tiny")
    assert run.launch.config == path and str(path) in puppets[0].started[0]
    run.end(seconds=0)
    with pytest.raises(engineErrors().InputError, match="must be one of default, paper, tiny"):
        logic.newConfiguration(dataset, "best")
    (dataset / "dataset.json").write_text(json.dumps({"cases": cases[:1]}))
    with pytest.raises(engineErrors().InputError, match="no center has patients for both"):
        logic.newConfiguration(dataset, "paper")
    assert not (tmp_path / "my data-paper").exists()


def test_checks_come_first_and_a_refusal_trains_nothing(slicer, configuration, puppets):
    run = logicOf().start(configuration, 2)
    checking = puppets[0].started[0]
    assert checking[1:4] == ["-m", "drmc", "train"] and "--check" in checking
    assert checking[checking.index("--processes") + 1] == "2"
    refuse(puppets[0], "center C9 has no patient")
    assert len(puppets) == 1 and not run.isRunning()
    assert (run.exitCode, run.message) == (2, "center C9 has no patient")
    assert run.checks == [("refused", "center C9 has no patient")]


def test_what_the_training_refuses_is_not_tried_again(slicer, configuration, puppets, tmp_path):
    run = logicOf().start(configuration)
    passChecks(puppets[0], tmp_path)
    assert puppets[1].started[1]["PYTHON_EXEC"] == sys.executable
    say(puppets[1], event="error", message="the images differ", exit_code=2)
    assert not puppets[1].inputIsOpen, "torchrun goes on to restart it"
    puppets[1].finished.emit(1)
    assert (run.exitCode, run.message) == (2, "the images differ")


def test_stop_is_asked_for_in_the_output_folder(slicer, configuration, puppets, tmp_path):
    """Signals reach neither processes of Windows nor other machines."""
    from drmc.training.launch import STOP_FILE

    run = logicOf().start(configuration)
    passChecks(puppets[0], tmp_path)
    say(puppets[1], **progress(50))
    run.stop()
    assert (tmp_path / STOP_FILE).is_file() and puppets[1].inputIsOpen and run.isRunning()
    say(puppets[1], **progress(51))
    puppets[1].finished.emit(0)
    assert run.stopped and run.exitCode == 0
    assert logicOf().outcome(run) == "Stopped and saved at step 51; Start goes on from there."


def test_a_second_stop_does_not_wait(slicer, configuration, puppets, tmp_path):
    run = logicOf().start(configuration)
    passChecks(puppets[0], tmp_path)
    run.stop()
    run.stop()
    assert not puppets[1].inputIsOpen
    puppets[1].finished.emit(1)
    assert run.exitCode == 130 and logicOf().outcome(run).startswith("Ended")


def test_a_killed_worker_is_restarted_and_the_history_goes_on(slicer, configuration, puppets, tmp_path):
    run = logicOf().start(configuration)
    passChecks(puppets[0], tmp_path)
    for record in (progress(50), validation(50), progress(100), validation(100)):
        say(puppets[1], **record)
    say(puppets[1], event="error", message="another process of this training ended", exit_code=1)
    say(puppets[1], event="resumed", step=50, steps=200)
    assert [one["step"] for one in run.history.progress] == [50]
    say(puppets[1], **progress(200))
    puppets[1].finished.emit(0)
    assert run.exitCode == 0 and not run.stopped and logicOf().outcome(run) == "Done: 200 steps."


def test_an_older_log_is_read_and_what_is_missing_is_tolerated(slicer, tmp_path):
    from drmc.training.history import History, gains, series
    from DRMCTrainingLib.texts import checksText, figuresText, validationText

    lines = [json.dumps(one) for one in (progress(50, loss={"C1": None, "C2": 0.1}), validation(50))]
    (tmp_path / "training.jsonl").write_text("\n".join([*lines, '{"event": "prog', "7", '{"step": "x"}']))
    history = History.read(tmp_path / "training.jsonl")
    assert series(history.progress, "loss", "C1") == [] and series(history.progress, "loss", "C2") == [
        (50, 0.1)
    ]
    assert gains(history.validation, "psnr", "psnr_low", "C2") == [(50, pytest.approx(1.0))]
    assert history.seconds_left() == pytest.approx(300.0)
    assert "Gaussian" not in validationText(history) and "+0.50" in validationText(history)
    assert figuresText(history).startswith("dead gates 25 %")
    history.add(validation(100, psnr_gaussian={"C1": 30.7}, nrmse={"C1": 0.123}, entropy={"C1": 0.9}))
    said = validationText(history)
    assert "30.70" in said and "12.30" in said and "–" in said  # C2 has no Gaussian yet
    assert "C1 0.90" in figuresText(history)
    assert "&lt;b&gt;" in checksText([("ok", "a <b> in a path")])


def test_the_time_left_follows_the_pace_of_the_last_records(slicer):
    from drmc.training.history import History

    history = History()
    for step, seconds in ((50, 1000.0), (100, 1010.0), (150, 1020.0)):
        history.add(progress(step, steps=1150) | {"seconds": seconds})
    assert history.seconds_left() == pytest.approx(200.0)


def seriesOf(chart) -> dict:
    """The series nodes of a chart node by their names, in order."""
    nodes = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    return {node.GetName(): node for node in nodes}


def pointsOf(series) -> list[tuple[float, float]]:
    """The points of a series that are drawn: without the rows where it has no value."""
    table = series.GetTableNode().GetTable()
    columns = [table.GetColumnByName(name) for name in (series.GetXColumnName(), series.GetYColumnName())]
    rows = [tuple(column.GetValue(row) for column in columns) for row in range(table.GetNumberOfRows())]
    return [(step, value) for step, value in rows if not math.isnan(value)]


def test_the_curves_become_plots_of_the_scene(slicer):
    from drmc.training.history import History

    history = History()
    for step in (50, 100):
        history.add(progress(step))
        history.add(validation(step, psnr_gaussian={"C1": 30.7, "C2": 29.0}))
    loss, _gain = logicOf().showCharts(history)
    assert not loss.GetYAxisLogScale()  # 0.007 to 0.018
    history.add(progress(400))
    loss, gain = logicOf().showCharts(history)
    assert list(seriesOf(loss)) == ["C1", "C2"] and loss.GetYAxisLogScale()
    assert (loss.GetXAxisTitle(), loss.GetYAxisTitle()) == ("Step", "Loss [network units]")
    assert list(seriesOf(gain)) == ["C1", "C2", "low dose", "C1 Gaussian", "C2 Gaussian"]
    assert gain.GetYAxisTitle() == "PSNR over low dose [dB]"
    losses = [loss for node in seriesOf(loss).values() for _step, loss in pointsOf(node)]
    low, high = (loss.GetYAxisRange()[number] for number in (0, 1))
    assert 0 < low <= min(losses) < max(losses) <= high <= 2.5 * max(losses) and low >= min(losses) / 2.5
    curves = seriesOf(gain)
    table = curves["C2"].GetTableNode().GetTable()
    assert curves["C2"].GetXColumnName() == "step" and curves["C2"].GetYColumnName() == "C2"
    column = table.GetColumnByName("C2")
    assert [column.GetValue(row) for row in range(2)] == [pytest.approx(1.0), pytest.approx(2.0)]
    assert pointsOf(curves["low dose"]) == [(50, 0.0), (100, 0.0)]
    assert curves["C1"].GetColor() == curves["C1 Gaussian"].GetColor() != curves["C2"].GetColor()
    assert curves["C1 Gaussian"].GetLineStyle() == curves["C1"].LineStyleDash != curves["C1"].GetLineStyle()
    before = slicer.mrmlScene.GetNumberOfNodes()
    history.add(progress(450))
    logicOf().showCharts(history)
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert loss.GetNthPlotSeriesNode(0).GetTableNode().GetTable().GetNumberOfRows() == 4


def test_a_center_that_is_not_in_every_record_has_an_unbroken_line(slicer):
    """No line is drawn through a missing value; and one point needs a marker."""
    from drmc.training.history import History

    history = History()
    for step in range(10, 80, 10):
        loss = {"C1": 1.0 / step, "C2": 2.0 / step if step % 20 else None, "C3": 0.5 if step == 30 else None}
        history.add(progress(step, loss=loss))
    (chart,) = logicOf().showCharts(history)
    curves = seriesOf(chart)
    assert pointsOf(curves["C2"]) == [(step, 2.0 / step) for step in (10, 30, 50, 70)]
    assert pointsOf(curves["C1"]) == [(step, 1.0 / step) for step in range(10, 80, 10)]
    for name, count in (("C1", 7), ("C2", 4), ("C3", 1)):
        column = curves[name].GetTableNode().GetTable().GetColumnByName(name)
        there = [not math.isnan(column.GetValue(row)) for row in range(column.GetNumberOfTuples())]
        first = there.index(True)
        assert sum(there) == count and all(there[first : first + count])
    assert curves["C3"].GetMarkerStyle() != curves["C1"].GetMarkerStyle() == curves["C1"].MarkerStyleNone


# ---- the panel


def test_a_chosen_configuration_is_checked_at_once(panel, puppets, configuration, tmp_path):
    ui = panel.ui
    assert not ui.startButton.enabled and ui.startButton.toolTip == "Choose a training configuration"
    assert not ui.copyButton.enabled and not ui.checkButton.enabled and not ui.reportButton.enabled
    ui.configurationPathEdit.setCurrentPath(str(configuration))
    assert len(puppets) == 1 and "--check" in puppets[0].started[0]
    assert shlex.quote(str(configuration)) in ui.commandTextEdit.toPlainText()
    passChecks(puppets[0], tmp_path, step=120)
    assert all(text in ui.checksLabel.text for _, text in CHECKS)
    assert ui.statusLabel.text == "Start goes on from step 120 of 200." and ui.startButton.enabled
    assert len(puppets) == 1
    ui.processesSpinBox.setValue(3)
    assert "--nproc-per-node=3" in ui.commandTextEdit.toPlainText()
    assert puppets[1].started[0][puppets[1].started[0].index("--processes") + 1] == "3"
    passChecks(puppets[1], tmp_path)
    assert ui.statusLabel.text == "Ready to start." and len(puppets) == 2


def test_nothing_is_chosen_in_a_new_scene(panel, qtSlicer, monkeypatch, tmp_path):
    """Without a choice there is no ".", and a dataset in the current folder is not taken."""
    (tmp_path / "dataset.json").write_text('{"cases": []}')
    monkeypatch.chdir(tmp_path)
    for clear in (False, True):
        if clear:
            panel.ui.configurationPathEdit.setCurrentPath(str(tmp_path / "some.json"))
            assert panel._parameterNode.configuration == str(tmp_path / "some.json")
            qtSlicer.mrmlScene.Clear(0)
        else:
            panel.initializeParameterNode()
        assert panel.ui.configurationPathEdit.currentPath == panel.ui.datasetPathEdit.currentPath == ""
        assert not panel.ui.newButton.enabled and not panel.ui.startButton.enabled


def test_a_loaded_scene_brings_the_configuration_back(panel, qtSlicer, tmp_path):
    panel.ui.configurationPathEdit.setCurrentPath("chosen.json")
    panel.ui.processesSpinBox.setValue(3)
    scene = qtSlicer.mrmlScene
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    panel.ui.configurationPathEdit.setCurrentPath("other.json")
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Connect()
    assert panel.ui.configurationPathEdit.currentPath == panel._parameterNode.configuration == "chosen.json"
    assert panel.ui.processesSpinBox.value == panel._parameterNode.processes == 3


def test_the_panel_follows_and_stops(panel, puppets, configuration, tmp_path):
    ui = panel.ui
    ui.configurationPathEdit.setCurrentPath(str(configuration))
    passChecks(puppets[0], tmp_path)
    ui.startButton.click()
    assert not ui.startButton.enabled and ui.stopButton.enabled and not ui.processesSpinBox.enabled
    passChecks(puppets[1], tmp_path)
    assert puppets[2].started[0][1:3] == ["-m", "torch.distributed.run"]
    for record in ({"event": "started", "step": 0, "steps": 200}, progress(50), validation(50)):
        say(puppets[2], **record)
    assert ui.statusLabel.text == "Step 50 of 200, 5 min left" and ui.progressBar.value == 50
    assert drawn(panel._view.lossView) == ["C1", "C2"]
    assert drawn(panel._view.gainView) == ["C1", "C2", "low dose"]
    assert "C2" in ui.validationLabel.text and "+1.00" in ui.validationLabel.text
    assert "dead gates 25 %" in ui.figuresLabel.text and ui.chartsButton.enabled
    ui.stopButton.click()
    assert ui.statusLabel.text.startswith("Stopping after this step")
    puppets[2].finished.emit(0)
    assert ui.statusLabel.text == "Stopped and saved at step 50; Start goes on from there."
    assert ui.startButton.enabled and not ui.stopButton.enabled and ui.folderButton.enabled


def drawn(view) -> list[str]:
    """The names in the legend of a chart view of the panel."""
    chart = view.widget.plotView().chart()
    return [chart.GetPlot(number).GetLabel() for number in range(chart.GetNumberOfPlots())]


def test_the_curves_of_the_panel_are_its_own(qtSlicer, puppets, configuration, tmp_path):
    """They are hidden and not saved, come back after the scene is closed, and go away with the panel."""
    scene = qtSlicer.mrmlScene
    widget = host.openWidget(sys.modules["DRMCTraining"], "DRMCTraining")
    assert not widget._view.lossView.widget.visible and drawn(widget._view.lossView) == []
    widget.ui.configurationPathEdit.setCurrentPath(str(configuration))
    widget.ui.startButton.click()
    passChecks(puppets[0], tmp_path)
    for record in (progress(50), validation(50), progress(100)):
        say(puppets[1], **record)
    assert widget._view.lossView.widget.visible and drawn(widget._view.lossView) == ["C1", "C2"]

    def plotNodes() -> list:
        return [
            node
            for kind in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode")
            for node in qtSlicer.util.getNodesByClass(kind)
        ]

    assert len(plotNodes()) == 2 + 5 + 2
    assert not any(node.GetSaveWithScene() for node in plotNodes())
    assert all(node.GetHideFromEditors() for node in plotNodes())
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotViewNode") == 0
    scene.Clear(0)
    assert drawn(widget._view.lossView) == ["C1", "C2"]
    own = plotNodes()
    widget.ui.chartsButton.click()
    saved = [node for node in plotNodes() if node not in own]
    assert len(saved) == 2 + 5 + 2 and all(node.GetSaveWithScene() for node in saved)
    say(puppets[1], **progress(150))
    assert saved[0].GetNthPlotSeriesNode(0).GetTableNode().GetTable().GetNumberOfRows() == 2
    puppets[1].finished.emit(0)
    host.closeWidget(widget)
    assert plotNodes() == saved


def test_start_during_the_checks_trains_after_them(panel, puppets, configuration, tmp_path):
    panel.ui.configurationPathEdit.setCurrentPath(str(configuration))
    panel.ui.startButton.click()
    assert len(puppets) == 1 and not panel.ui.startButton.enabled
    passChecks(puppets[0], tmp_path)
    assert puppets[1].started[0][1:3] == ["-m", "torch.distributed.run"]
    puppets[1].errorLine.emit("Traceback: where it was")
    say(puppets[1], event="error", message="no room on the disk", exit_code=1)
    puppets[1].finished.emit(1)
    assert panel.ui.statusLabel.text == "no room on the disk" and panel.ui.startButton.enabled
    assert "Traceback" in panel.ui.logTextEdit.toPlainText()


def test_a_refusal_is_shown_with_the_sentence_of_the_command_line(panel, puppets, configuration):
    panel.ui.configurationPathEdit.setCurrentPath(str(configuration))
    refuse(puppets[0], "training.json: unknown key 'stesp'")
    assert panel.ui.statusLabel.text == "training.json: unknown key 'stesp'"
    assert "✖" in panel.ui.checksLabel.text and len(puppets) == 1


def test_the_command_is_copied(panel, qtSlicer, puppets, configuration):
    panel.ui.configurationPathEdit.setCurrentPath(str(configuration))
    panel.ui.copyButton.click()
    assert qtSlicer.app.clipboard().text() == logicOf().commandLine(configuration)
    puppets[0].finished.emit(0)


def test_a_configuration_for_a_dataset_is_written_and_chosen(panel, puppets, tmp_path):
    ui, dataset = panel.ui, tmp_path / "data"
    dataset.mkdir()
    case = {"center": "A", "full": "f", "low": {"4": "l"}}
    cases = [{**case, "id": split, "split": split} for split in ("train", "validation")]
    ui.datasetPathEdit.setCurrentPath(str(dataset))
    assert not ui.newButton.enabled
    (dataset / "dataset.json").write_text(json.dumps({"cases": cases}))
    ui.presetComboBox.setCurrentIndex(2)
    assert ui.newButton.enabled
    ui.newButton.click()
    assert ui.configurationPathEdit.currentPath == str(tmp_path / "data-tiny" / "training.json")
    assert len(puppets) == 1
    puppets[0].finished.emit(0)
    (dataset / "dataset.json").write_text("{")
    ui.newButton.click()
    assert "is not JSON" in ui.statusLabel.text


def test_closing_the_scene_lets_the_training_go_on(panel, qtSlicer, puppets, configuration, tmp_path):
    panel.ui.configurationPathEdit.setCurrentPath(str(configuration))
    panel.ui.startButton.click()
    passChecks(puppets[0], tmp_path)
    qtSlicer.mrmlScene.Clear(0)
    say(puppets[1], **progress(50))
    assert panel.ui.statusLabel.text.startswith("Step 50 of 200") and panel.ui.stopButton.enabled
    assert panel.ui.configurationPathEdit.currentPath == str(configuration)
    puppets[1].finished.emit(0)
    assert len(puppets) == 2 and panel.ui.startButton.enabled


def test_the_report_is_opened_when_there_is_one(panel, puppets, configuration, tmp_path, monkeypatch):
    import qt

    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(Path(url.toLocalFile())))
    panel.ui.configurationPathEdit.setCurrentPath(str(configuration))
    passChecks(puppets[0], tmp_path)
    assert not panel.ui.reportButton.enabled
    (tmp_path / "training.html").write_text("")
    panel.ui.checkButton.click()
    passChecks(puppets[1], tmp_path)
    panel.ui.reportButton.click()
    panel.ui.folderButton.click()
    assert opened == [tmp_path / "training.html", tmp_path]


# ---- real processes


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A configuration that trains in seconds, of a dataset of balls; its output is beside it."""
    pytest.importorskip("torch")
    from drmc.files import write_json
    from support.engine.small_training import make_dataset, tiny_config

    folder = tmp_path_factory.mktemp("training")
    (folder / "data").mkdir()
    config = tiny_config(
        make_dataset(folder / "data"), folder / "run", steps=100_000, checkpoint_every=100_000
    )
    write_json(folder / "training.json", config.to_dict())
    return folder / "training.json"


def savedStep(output: Path) -> int:
    import torch

    return torch.load(output / "checkpoint.pt", weights_only=True)["step"]


def test_a_run_is_followed_stopped_resumed_and_ended(qtSlicer, small):
    """A stop that saves, then a close of Slicer; both end torchrun's whole process tree."""
    output = small.parent / "run"
    events = []
    run = logicOf().start(small, eventCallback=events.append)
    waitUntil(qtSlicer, lambda: run.history.progress or not run.isRunning(), PATIENCE)
    assert run.isRunning(), run.message
    run.stop()
    waitUntil(qtSlicer, lambda: not run.isRunning(), PATIENCE)
    assert run.exitCode == 0 and run.stopped, run.message
    step = savedStep(output)
    assert run.history.step == step > 0 and leftOf(str(small)) == []
    assert [event["event"] for event in events].index("started") > 0

    widget = host.openWidget(sys.modules["DRMCTraining"], "DRMCTraining")
    widget.ui.configurationPathEdit.setCurrentPath(str(small))
    widget.ui.startButton.click()
    waitUntil(qtSlicer, lambda: widget._history.step > step or widget._run is None, PATIENCE)
    again = widget._run
    assert again is not None, widget.ui.statusLabel.text
    assert again.step == step and f"goes on from step {step}" in widget.ui.checksLabel.text
    host.closeWidget(widget)
    assert not again.isRunning() and savedStep(output) > step
    assert leftOf(str(small)) == []


def test_the_script_trains_over_night_and_says_how_it_ended(slicer, small, tmp_path):
    """SIGTERM saves and exits with 0; a bad configuration exits with 2 and the command line's sentence."""
    environment = {**os.environ, "PYTHONPATH": ""}
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"dataset": "d", "output": "o", "no_such_key": 1}))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(bad)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE,
    )
    assert done.returncode == 2, done.stderr
    assert "unknown key 'no_such_key'" in done.stdout + done.stderr

    values = json.loads(small.read_text())
    mine = tmp_path / "training.json"
    mine.write_text(json.dumps({**values, "output": str(tmp_path / "run")}))
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--", str(mine), "--processes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    for line in process.stdout:
        if '"progress"' in line:
            process.send_signal(signal.SIGTERM)
            break
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest
    assert savedStep(tmp_path / "run") >= 50
    deadline = time.monotonic() + 30
    while processesOf(str(mine)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftOf(str(mine)) == []
