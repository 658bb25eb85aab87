"""Processes: the command line, what runs, and a process that does what the test says."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from support import preloaded


def processesOf(text: str) -> list[int]:
    """Ids of the running processes whose command line holds `text` (Linux; elsewhere none)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if state not in "ZX" and text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def leftOf(text: str, seconds: float = 5.0) -> list[int]:
    """The same of those that run on for some seconds: what was ended needs a moment on a busy machine."""
    deadline = time.monotonic() + seconds
    while (found := processesOf(text)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def waitUntil(slicer, condition, seconds: float = 300.0) -> None:
    """Lets Qt work until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        slicer.app.processEvents()
        time.sleep(0.01)


def cancelAt(panel, slicer, moment: str) -> Path:
    """Starts what the panel's Apply starts, cancels it at a moment and waits; its folder of temporary files.

    `moment` is "at once", "while the engine starts", or another word for while it computes.
    """
    panel.ui.applyButton.click()
    scratch = next(Path(slicer.app.temporaryPath).glob("DRMC-*"))
    if moment == "while the engine starts":
        waitUntil(slicer, lambda: processesOf(str(scratch)) or not sys.platform.startswith("linux"))
    elif moment != "at once":
        waitUntil(slicer, lambda: panel.ui.progressBar.value > 0)
    panel.ui.applyButton.click()
    waitUntil(slicer, lambda: panel.job is None)
    return scratch


class Puppet:
    """A process that does what the test says."""

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


def drmc(*arguments, python: str | None = None) -> subprocess.CompletedProcess:
    """Runs the command line, by `python` or by one that has the engine loaded already."""
    return subprocess.run(
        [python or preloaded.executable(), "-m", "drmc", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def denoisedOf(folder: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "denoised.nrrd")))
