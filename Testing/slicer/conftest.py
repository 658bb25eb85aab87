"""Ring 2: the modules on slicer-core's real MRML scene, and their panels in the Qt stand-in of Testing/host.

Where Qt cannot be loaded, the tests that need no panel run without it and the others say what to install;
with DRMC_TEST_STRICT=1 they fail instead of being skipped.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import host
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def _without(reason: str):
    if os.environ.get("DRMC_TEST_STRICT") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def application():
    """The stand-in, with Qt where that can be loaded, and both modules registered."""
    reason = host.missingCore()
    if reason is not None:
        _without(reason)
    slicer = host.start()
    for name in ("DRMCCore", "DRMCDenoise", "DRMCTraining"):
        host.loadModule(REPOSITORY / name / f"{name}.py")
    return slicer


@pytest.fixture
def slicer(application):
    """The module `slicer` with an empty scene."""
    application.mrmlScene.Clear(0)
    yield application
    application.mrmlScene.Clear(0)


@pytest.fixture
def qtSlicer(slicer, monkeypatch):
    """`slicer` with empty settings, for tests that need Qt; exceptions in slots fail them."""
    reason = host.missingQt()
    if reason is not None:
        _without(reason)
    import qt

    qt.QSettings().clear()
    caught = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: caught.append(error))
    yield slicer
    assert not caught, f"exceptions in slots: {caught}"


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny model with random weights beside the shipped ones; its name."""
    torch = pytest.importorskip("torch")
    from drmc.models.weights import save_model
    from drmc.networks.drmc import DRMC, NetworkConfig

    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DRMC(NetworkConfig(channels=16, blocks=1, experts=2, heads=4, hidden=8))
    save_model(folder / "tiny.pt", network, 16, {"title": "Tiny"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRMC_MODELS", str(folder))
        yield "tiny"


def phantom(shape=(12, 24, 22), seed: int = 0) -> np.ndarray:
    """A noisy ellipsoid of SUV 2 with a hot sphere, float32 (z, y, x)."""
    middle = (np.array(shape) - 1) / 2
    grid = (np.indices(shape) - middle[:, None, None, None]) / (middle[:, None, None, None] + 0.5)
    array = 2.0 * (np.hypot(grid[1], grid[2]) < 0.8) + 6.0 * (np.linalg.norm(grid, axis=0) < 0.35)
    return (array + np.random.default_rng(seed).normal(0, 0.3, shape)).astype(np.float32)


def oblique() -> np.ndarray:
    """IJK to RAS, 4 x 4: anisotropic voxels, turned about two axes."""
    a, b = 0.3, -0.2
    aboutZ = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    aboutX = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = aboutZ @ aboutX * np.array([3.1, 2.7, 4.25])
    matrix[:3, 3] = [-41.5, 17.25, 803.125]
    return matrix


def processesOf(text: str) -> list[int]:
    """Ids of the running processes whose command line has `text` (on Linux; elsewhere none)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if state not in "ZX" and text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def waitUntil(slicer, condition, seconds: float = 300.0) -> None:
    """Lets Qt work until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        slicer.app.processEvents()
        time.sleep(0.01)


@pytest.fixture
def panel(qtSlicer, model):
    """The open panel of DRMC Denoise over an empty scene; closed, it leaves no temporary file."""
    widget = host.openWidget(sys.modules["DRMCDenoise"], "DRMCDenoise")
    yield widget
    host.closeWidget(widget)
    assert list(Path(qtSlicer.app.temporaryPath).glob("DRMC-*")) == []


def sectionOf(panel, name: str):
    """The section of the panel of DRMC Denoise whose class has that name."""
    return next(section for section in panel.sections if type(section).__name__ == name)


class Puppet:
    """A process that the test controls."""

    def __init__(self):
        from DRMCCoreLib.process.signals import Signal

        self.outputLine, self.errorLine, self.tick, self.finished = Signal(), Signal(), Signal(), Signal()
        self.started = None
        self.inputIsOpen = True

    def start(self, command, environment):
        self.started = (command, environment)

    def processId(self):
        return 0

    def closeInput(self):
        self.inputIsOpen = False

    def pump(self, seconds):
        self.tick.emit()
