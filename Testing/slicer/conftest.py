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
import pytest
from support import REPOSITORY, preloaded


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
    for name in ("DRMCCore", "DRMCDenoise", "DRMCSegment", "DRMCTraining"):
        host.loadModule(REPOSITORY / name / f"{name}.py")
    return slicer


@pytest.fixture(autouse=True)
def preloadedEngine(request, monkeypatch):
    """The modules' child processes fork from one that has the engine loaded, except under `real_engine`."""
    runner = sys.modules.get("DRMCCoreLib.process.runner")
    if runner is None or request.node.get_closest_marker("real_engine") is not None:
        yield
        return
    monkeypatch.setattr(runner, "pythonExecutable", preloaded.executable)
    yield
    deadline = time.monotonic() + 60
    while preloaded.running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert preloaded.running() == [], "the test has left processes behind"


@pytest.fixture
def slicer(application):
    """The module `slicer` with an empty scene."""
    application.mrmlScene.Clear(0)
    yield application
    application.mrmlScene.Clear(0)


@pytest.fixture
def qtSlicer(slicer, monkeypatch):
    """`slicer` with empty settings and Qt; an exception in a slot, which Qt only prints, fails the test."""
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


@pytest.fixture(scope="module")
def organModel(tmp_path_factory):
    """A tiny model of organs with random weights, the only one that is installed; its name."""
    pytest.importorskip("torch")
    from support.slicer.organs import MODEL, writeOrganModel

    folder = tmp_path_factory.mktemp("models")
    writeOrganModel(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRMC_MODELS", str(folder))
        yield MODEL


@pytest.fixture
def puppets(monkeypatch):
    """The processes of every job from now on, in the order of their start; they do what the test says."""
    import DRMCCoreLib.process.runner
    from support.slicer.processes import Puppet

    made = []

    def make():
        made.append(Puppet())
        return made[-1]

    monkeypatch.setattr(DRMCCoreLib.process.runner, "createProcess", make)
    return made


@pytest.fixture
def panel(qtSlicer, model):
    """The open panel of DRMC Denoise over an empty scene; closed, it leaves no temporary file."""
    widget = host.openWidget(sys.modules["DRMCDenoise"], "DRMCDenoise")
    yield widget
    host.closeWidget(widget)
    assert list(Path(qtSlicer.app.temporaryPath).glob("DRMC-*")) == []
