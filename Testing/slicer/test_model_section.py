"""The model part of the panel: cards, adding a model, the device and why, and installing what is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import host
import pytest
from support import REPOSITORY
from support.slicer.modules import sectionOf
from support.slicer.processes import waitUntil
from support.slicer.scene import phantom, volumeNode


@pytest.fixture
def library(qtSlicer):
    """Modules of the library by name."""
    return lambda name: sys.modules[f"DRMCCoreLib.{name}"]


@pytest.fixture
def answers(qtSlicer, monkeypatch):
    """What the engine is asked for, instead of asking it: lists of arguments and who wants the answer."""
    asked = []

    def ask(answer, *arguments):
        asked.append((list(map(str, arguments)), answer))
        return SimpleNamespace(end=lambda: None)

    import DRMCCoreLib.sections.modelsection

    monkeypatch.setattr(DRMCCoreLib.sections.modelsection, "ask", ask)
    return asked


@pytest.fixture
def panel(answers, panel, qtSlicer):
    """The open panel with a scan in the scene; the engine's answers on devices come from the test."""
    volumeNode(qtSlicer, phantom(), units="{SUVbw}g/ml")
    return panel


CPU = {
    "name": "cpu",
    "kind": "cpu",
    "title": "Some processor",
    "cores": 2,
    "free_bytes": 20.21e9,
    "total_bytes": 24e9,
    "bf16": False,
}
GPU = {
    "name": "cuda:0",
    "kind": "cuda",
    "title": "NVIDIA RTX A5000",
    "cores": None,
    "free_bytes": 22.04e9,
    "total_bytes": 25e9,
    "bf16": True,
}
WITH_GPU = {
    "devices": [GPU, CPU],
    "auto": "cuda:0",
    "why": "a CUDA graphics card is the fastest",
    "torch": "2",
}
WITHOUT = {
    "devices": [CPU],
    "auto": "cpu",
    "why": "this PyTorch is built for the processor alone",
    "torch": "2",
}


def answer(qtSlicer, answers, found, message=""):
    """Waits until the engine is asked for devices, and answers."""
    waitUntil(qtSlicer, lambda: any(arguments == ["devices"] for arguments, _ in answers), 60)
    next(one for arguments, one in reversed(answers) if arguments == ["devices"])(found, message)


def shown(panel, name: str) -> bool:
    return getattr(panel.ui, name).isVisibleTo(panel.ui.modelCollapsibleButton)


# ---- cards


def test_the_card_of_the_default_model_is_one_line_and_whole_under_the_mouse(panel):
    from drmc.models.registry import find_model

    text, card = panel.ui.cardLabel.toolTip, find_model().card
    count = sum(card["training"]["patients"].values())
    centers = ", ".join(card["training"]["patients"])
    assert panel.ui.cardLabel.text == f"Trained on {count} simulated patients of {centers}."
    assert f"<b>{card['title']}</b>" in text
    patients = ", ".join(f"{count} × {center}" for center, count in card["training"]["patients"].items())
    assert f"Trained on simulated patients: {patients}." in text
    assert f"{card['parameters']:,} parameters" in text and "license Apache-2.0" in text
    assert card["intended_use"] in text and f"SHA-256 {card['sha256'][:12]}…" in text
    assert card["sha256"] not in text and card["sha256"] in panel.ui.cardTextEdit.toPlainText()
    assert panel.ui.cardCollapsibleButton.collapsed
    assert json.dumps(card["training_data"], ensure_ascii=False) in panel.ui.cardTextEdit.toPlainText()


def test_a_model_that_was_begun_from_another_says_what_both_were_trained_on():
    from drmc.models.card import ModelEntry
    from DRMCCoreLib.words.modeltexts import cardText

    began = {"name": "first", "training": {"simulated": True, "patients": {"C1": 20}}}
    training = {"simulated": False, "patients": {"H": 3}, "initial_weights": began}
    text = cardText(ModelEntry("ours", Path("ours.pt"), {"training": training}, "0" * 64))
    assert "Trained on real patients: 3 × H." in text
    assert "Begun from first. Trained on simulated patients: 20 × C1." in text


def test_the_card_follows_the_choice(panel):
    combo = panel.ui.modelComboBox
    combo.setCurrentIndex(combo.findText("Tiny"))
    assert "<b>Tiny</b>" in panel.ui.cardLabel.toolTip and "no card" not in panel.ui.cardLabel.toolTip
    assert panel.ui.cardLabel.text == "Trained on patients of unknown origin."
    panel._parameterNode.model = "elsewhere"
    assert not shown(panel, "cardLabel") and not shown(panel, "cardCollapsibleButton")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "tiny.pt has no card"),
        ("{", "tiny.json: the model&#x27;s card cannot be read"),
        ('{"sha256": "0"}', "tiny.pt is damaged"),
    ],
)
def test_a_model_without_a_sound_card_says_so(panel, monkeypatch, tmp_path, model, card, said):
    from drmc.models.registry import find_model

    shutil.copy(find_model(model).path, tmp_path / "tiny.pt")
    if card is not None:
        (tmp_path / "tiny.json").write_text(card)
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path))
    panel.exit()
    panel.enter()
    panel._parameterNode.model = "tiny"
    assert said in panel.ui.cardLabel.text


# ---- adding and opening


def test_a_model_is_added_from_a_file_by_the_engine(qtSlicer, model, library, tmp_path, monkeypatch):
    from drmc.models import registry
    from drmc.models.registry import user_folder

    folder = tmp_path / "mine"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder.mkdir()
    for ending in (".pt", ".json"):
        shutil.copy(registry.find_model(model).path.with_suffix(ending), folder / f"other{ending}")
    panel = host.openWidget(sys.modules["DRMCDenoise"], "DRMCDenoise")
    try:
        monkeypatch.setattr(
            library("sections.modelsection"), "chooseWeightFile", lambda: str(folder / "other.pt")
        )
        panel.ui.addModelButton.click()
        assert panel.ui.addModelLabel.text == "Checking other.pt..." and not panel.ui.addModelButton.enabled
        waitUntil(qtSlicer, lambda: panel.ui.addModelButton.enabled, 120)
        assert not panel.ui.addModelLabel.text and panel._parameterNode.model == "other"
        assert (user_folder() / "other.pt").is_file() and panel.ui.modelComboBox.currentText == "Tiny"

        (folder / "broken.pt").write_bytes(b"not weights")
        monkeypatch.setattr(
            library("sections.modelsection"), "chooseWeightFile", lambda: str(folder / "broken.pt")
        )
        panel.ui.addModelButton.click()
        waitUntil(qtSlicer, lambda: panel.ui.addModelButton.enabled, 120)
        assert "broken.pt: is not a weight file" in panel.ui.addModelLabel.text
        assert panel._parameterNode.model == "other" and not (user_folder() / "broken.pt").exists()
    finally:
        host.closeWidget(panel)


def test_no_file_chosen_adds_nothing(panel, library, monkeypatch, answers):
    monkeypatch.setattr(library("sections.modelsection"), "chooseWeightFile", lambda: "")
    panel.ui.addModelButton.click()
    assert panel.ui.addModelButton.enabled and not shown(panel, "addModelLabel")
    assert not any(arguments[0] == "models" for arguments, _ in answers)


def test_the_users_folder_is_made_and_opened(panel, library, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(library("sections.modelsection"), "user_folder", lambda: tmp_path / "a" / "models")
    monkeypatch.setattr(library("sections.modelsection"), "openInDesktop", opened.append)
    panel.ui.openFolderButton.click()
    assert opened == [tmp_path / "a" / "models"] and opened[0].is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(library("sections.modelsection"), "user_folder", lambda: tmp_path / "file" / "models")
    panel.ui.openFolderButton.click()
    assert len(opened) == 1 and "Not a directory" in panel.ui.addModelLabel.text


# ---- the device


def test_the_device_says_what_is_used_and_why(panel, qtSlicer, answers):
    assert panel.ui.deviceInfoLabel.text == "Looking for graphics cards..."
    answer(qtSlicer, answers, WITH_GPU)
    assert (
        panel.ui.deviceInfoLabel.text
        == "NVIDIA RTX A5000, 22.0 GB free (a CUDA graphics card is the fastest)"
    )
    panel.ui.deviceComboBox.setCurrentIndex(panel.ui.deviceComboBox.findText("cpu"))
    expected = "CPU, 2 cores, 20.2 GB free (as chosen; auto takes NVIDIA RTX A5000)"
    assert panel.ui.deviceInfoLabel.text == expected and panel.ui.applyButton.enabled
    panel.exit()
    panel.enter()
    assert panel.ui.deviceInfoLabel.text == expected
    assert [arguments for arguments, _ in answers] == [["devices"]]  # once


def test_a_device_that_is_not_here_keeps_from_applying(panel, qtSlicer, answers):
    answer(qtSlicer, answers, WITHOUT)
    assert panel.ui.deviceInfoLabel.text == "CPU, 2 cores, 20.2 GB free (" + WITHOUT["why"] + ")"
    panel.ui.deviceComboBox.setCurrentIndex(panel.ui.deviceComboBox.findText("cuda"))
    said = "PyTorch finds no CUDA graphics card here: choose auto or cpu"
    assert panel.ui.deviceInfoLabel.text == panel.ui.applyButton.toolTip == said
    assert not panel.ui.applyButton.enabled
    panel.ui.deviceComboBox.setCurrentIndex(0)
    assert panel.ui.applyButton.enabled


def test_devices_that_cannot_be_asked_for_do_not_keep_from_applying(panel, qtSlicer, answers):
    answer(qtSlicer, answers, None, "what went wrong")
    assert panel.ui.deviceInfoLabel.text == "what went wrong" and panel.ui.applyButton.enabled


def test_the_time_of_the_last_run_on_this_device_is_told(panel, qtSlicer, answers, library):
    answer(qtSlicer, answers, WITHOUT)
    assert "last run" not in panel.ui.deviceInfoLabel.text
    from drmc.models.registry import find_model

    summary = {
        "model": {"sha256": find_model().sha256},
        "device": "cpu",
        "tiles": {"count": 28},
        "seconds": {"denoise": 95.2},
    }
    sectionOf(panel, "ModelSection").takeResults(SimpleNamespace(summary=summary), panel._parameterNode)
    sectionOf(panel, "ModelSection").onRunChanged()
    assert panel.ui.deviceInfoLabel.text.endswith("; the last run took 1 min 35 s for 28 tiles")
    panel._parameterNode.model = "tiny"
    assert "last run" not in panel.ui.deviceInfoLabel.text  # another network, another speed


def test_the_engine_itself_is_asked(qtSlicer, model):
    panel = host.openWidget(sys.modules["DRMCDenoise"], "DRMCDenoise")
    try:
        waitUntil(qtSlicer, lambda: sectionOf(panel, "ModelSection")._devices is not None, 120)
        assert panel.ui.deviceInfoLabel.text
    finally:
        host.closeWidget(panel)


# ---- installing


class Packages:
    """Slicer's packaging and the extension PyTorch: what is installed, what was requested."""

    def __init__(self, installed: set[str]):
        self.installed, self.calls = installed, []
        self.accept, self.fails = True, None

    def pip_check(self, requirement) -> bool:
        return str(requirement).split(">")[0] in self.installed

    def pip_ensure(self, requirements, requester=None, **_):
        self.calls.append(("pip_ensure", requirements, requester))
        if not self.accept:
            raise RuntimeError("User declined package installation")
        self.installed |= {one.split(">")[0] for one in requirements}

    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
        self.calls.append(("installTorch", askConfirmation, torchVersionRequirement))
        if self.fails is not None:
            raise self.fails
        if not self.accept:
            return None
        self.installed.add("torch")
        return ModuleType("torch")


@pytest.fixture
def packages(qtSlicer, monkeypatch):
    """A Slicer with a window, slicer.packaging and the extension PyTorch, without torch and pydicom."""
    fake = Packages({"SimpleITK", "numpy"})
    packaging, utilities = ModuleType("slicer.packaging"), ModuleType("PyTorchUtils")
    packaging.pip_check, packaging.pip_ensure = fake.pip_check, fake.pip_ensure
    utilities.PyTorchUtilsLogic = lambda: fake
    utilities.__spec__ = SimpleNamespace(name="PyTorchUtils")
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", utilities)
    import DRMCCoreLib.panel.installation

    monkeypatch.setattr(DRMCCoreLib.panel.installation, "_isInteractive", lambda: True)
    return fake


def test_missing_pytorch_is_installed_by_one_button(packages, panel, qtSlicer, answers):
    assert shown(panel, "installLabel") and shown(panel, "installButton")
    assert panel.ui.installButton.text == "Install PyTorch, pydicom"
    assert not panel.ui.applyButton.enabled and "PyTorch, pydicom is missing" in panel.ui.applyButton.toolTip
    packages.installed.add("pydicom")
    panel.exit()
    panel.enter()
    assert panel.ui.installButton.text == "Install PyTorch" and answers == []
    panel.ui.installButton.click()
    assert packages.calls == [("installTorch", True, ">=2.4,!=2.9.*")]
    assert not shown(panel, "installLabel") and not shown(panel, "installButton")
    assert panel.ui.applyButton.enabled
    answer(qtSlicer, answers, WITHOUT)  # it looks for devices again
    assert panel.ui.deviceInfoLabel.text.startswith("CPU, 2 cores")


def test_the_other_packages_come_through_slicers_packaging(packages, panel):
    panel.ui.installButton.click()
    assert packages.calls == [
        ("installTorch", True, ">=2.4,!=2.9.*"),
        ("pip_ensure", ["pydicom>=3"], "DRMC"),
    ]
    assert panel.ui.applyButton.enabled


def test_a_user_who_declines_is_asked_no_more_and_nothing_changes(packages, panel):
    packages.accept = False
    panel.ui.installButton.click()
    assert [call[0] for call in packages.calls] == ["installTorch"]
    assert shown(panel, "installButton") and not panel.ui.applyButton.enabled
    packages.installed.add("torch")
    panel.ui.installButton.click()
    assert shown(panel, "installButton") and panel.ui.installButton.text == "Install pydicom"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (subprocess.CalledProcessError(3, "pip"), "has failed (exit code 3)"),
        (OSError("no network"), "has failed: no network"),
    ],
)
def test_an_installation_that_fails_says_so(packages, panel, error, said):
    packages.fails = error
    panel.ui.installButton.click()
    assert said in panel.ui.installLabel.text
    assert shown(panel, "installButton") and not panel.ui.applyButton.enabled


def test_without_the_extension_it_is_said_what_to_do_and_offline_too(packages, panel, monkeypatch):
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    panel.exit()
    panel.enter()
    text = panel.ui.installLabel.text
    assert "Extensions Manager" in text and "--no-index --find-links FOLDER torch" in text
    assert not shown(panel, "installButton") and panel.ui.applyButton.toolTip == text


def test_slicers_own_packages_are_never_installed(packages, panel, monkeypatch, library):
    packages.installed |= {"torch", "pydicom"}
    real = library("panel.installation").importlib.util.find_spec
    monkeypatch.setattr(
        library("panel.installation").importlib.util,
        "find_spec",
        lambda n, *a: None if n == "SimpleITK" else real(n, *a),
    )
    panel.exit()
    panel.enter()
    assert "SimpleITK>=2.3: Slicer's own" in panel.ui.installLabel.text
    assert not shown(panel, "installButton") and packages.calls == []


def test_without_a_window_nothing_is_installed(packages, library, monkeypatch):
    installation = library("panel.installation")
    monkeypatch.setattr(installation, "_isInteractive", lambda: False)
    requirements = str(Path(REPOSITORY / "DRMCCore" / "Resources" / "requirements.txt"))
    missing = installation.whatIsMissing(requirements)
    assert not missing.canInstall
    assert missing.sentence == (
        'PyTorch, pydicom is missing. Run: PythonSlicer -m pip install "torch>=2.4,!=2.9.*" "pydicom>=3"'
    )
    from drmc.errors import InputError

    with pytest.raises(InputError, match="PythonSlicer -m pip install"):
        installation.install(requirements)
    assert packages.calls == []
