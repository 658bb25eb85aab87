"""DRMCTraining: network and strategy by name in the panel, in scripts and in the batch script."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import host
import pytest
from support import REPOSITORY

SCRIPT = REPOSITORY / "DRMCTraining" / "Scripts" / "DRMCTrain.py"


@pytest.fixture
def panel(qtSlicer, puppets):
    """The open panel over an empty scene."""
    widget = host.openWidget(sys.modules["DRMCTraining"], "DRMCTraining")
    yield widget
    for puppet in puppets:
        puppet.finished.emit(0)
    host.closeWidget(widget)


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A manifest of two centers; nobody reads the images."""
    folder = tmp_path / "data"
    folder.mkdir()
    cases = [
        {"id": f"{center}-{split}", "center": center, "split": split, "full": "f", "low": {"4": "l"}}
        for center in ("A", "B")
        for split in ("train", "validation")
    ]
    (folder / "dataset.json").write_text(json.dumps({"cases": cases}))
    return folder


def choose(combo, text: str) -> None:
    assert combo.findText(text) >= 0, text
    combo.setCurrentIndex(combo.findText(text))


def test_the_panel_offers_every_name_with_its_sentence(panel):
    import qt
    from drmc.training.choices import NETWORKS, PRESETS, STRATEGIES

    ui = panel.ui
    for combo, sentences, first in (
        (ui.presetComboBox, PRESETS, []),
        (ui.networkComboBox, NETWORKS, ["as in the preset"]),
        (ui.strategyComboBox, STRATEGIES, ["as in the preset"]),
    ):
        items = [combo.itemText(index) for index in range(combo.count)]
        assert items == [*first, *sentences] and combo.currentIndex == 0
        tips = [combo.itemData(index, qt.Qt.ToolTipRole) for index in range(combo.count)]
        assert tips[len(first) :] == list(sentences.values()) and all(tips)


def test_one_label_says_when_to_choose_what_is_chosen(panel, qtSlicer):
    from drmc.training.choices import NETWORKS, PRESETS, STRATEGIES

    ui = panel.ui
    assert ui.choicesLabel.text == f"<b>default</b>: {PRESETS['default']}"
    choose(ui.networkComboBox, "udrmc")
    choose(ui.strategyComboBox, "fedavg")
    lines = ui.choicesLabel.text.split("<br>")
    assert lines[1:] == [f"<b>udrmc</b>: {NETWORKS['udrmc']}", f"<b>fedavg</b>: {STRATEGIES['fedavg']}"]
    qtSlicer.mrmlScene.Clear(0)
    assert ui.networkComboBox.currentText == ui.strategyComboBox.currentText == "as in the preset"
    assert ui.choicesLabel.text.count("<b>") == 1
    assert panel._parameterNode.network == "as in the preset"


def test_a_second_choice_is_a_second_run(panel, puppets, dataset):
    ui = panel.ui
    ui.datasetPathEdit.setCurrentPath(str(dataset))
    choose(ui.presetComboBox, "tiny")
    ui.newButton.click()
    first = Path(ui.configurationPathEdit.currentPath)
    puppets[-1].finished.emit(0)
    choose(ui.networkComboBox, "udrmc")
    choose(ui.strategyComboBox, "ftl")
    ui.newButton.click()
    second = Path(ui.configurationPathEdit.currentPath)
    assert [path.parent.name for path in (first, second)] == ["data-tiny", "data-tiny-udrmc-ftl"]
    plain, chosen = (json.loads(path.read_text()) for path in (first, second))
    assert chosen == {**plain, "network": "udrmc", "strategy": "ftl"}
    assert shlex.quote(str(second)) in ui.commandTextEdit.toPlainText()


def test_a_contradiction_is_one_line_and_chooses_nothing(panel, dataset):
    ui = panel.ui
    ui.datasetPathEdit.setCurrentPath(str(dataset))
    choose(ui.presetComboBox, "unet3d")
    choose(ui.networkComboBox, "softmax")
    ui.newButton.click()
    assert ui.statusLabel.text == (
        "unet3d, softmax: network = 'softmax': needs a network with experts, not unet3d"
    )
    assert ui.configurationPathEdit.currentPath == "" and not list(dataset.parent.glob("data-*"))


def test_a_script_names_them_too(slicer, dataset, puppets):
    logic = sys.modules["DRMCTraining"].DRMCTrainingLogic()
    run = logic.start(dataset, preset="tiny", network="resunet", strategy="mixed")
    assert run.launch.config == dataset.parent / "data-tiny-resunet-mixed" / "training.json"
    run.end(seconds=0)
    path = logic.newConfiguration(dataset, "tiny", network="as in the preset", strategy=None)
    assert path == dataset.parent / "data-tiny" / "training.json"


def test_the_batch_script_names_them_too(slicer, dataset):
    command = [sys.executable, str(SCRIPT), str(dataset), "--check", "--preset", "tiny"]
    done = subprocess.run([*command, "--network", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(dataset.parent.glob("data-*"))
    assert done.stderr.startswith("drmc: network 'nonsense': must be one of drmc, ")
    done = subprocess.run(
        [*command, "--network", "top2", "--strategy", "mixed"], capture_output=True, text=True, check=False
    )
    kept = json.loads((dataset.parent / "data-tiny-top2-mixed" / "training.json").read_text())
    assert (kept["network"], kept["strategy"]) == ("top2", "mixed")
    assert done.returncode == 2 and "A-train" in done.stderr + done.stdout  # its images are not there
