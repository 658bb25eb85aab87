"""The base of the modules' self tests: opens panels, waits, removes its folder, prints the tests that ran."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

PATIENCE = 600.0  # seconds that a run may take on a machine that is busy


class SelfTest(ScriptedLoadableModuleTest):
    """Runs in a Slicer with a main window (`slicer.selfTests`, Reload and Test, ctest, make test-slicer).

    Each method `test_...` begins with an empty scene. Names of those that ran are printed, so that nothing
    passes unseen.
    """

    def runTest(self, **_ignored) -> None:
        """Runs every test; Slicer calls this with a delay that is not needed."""
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            print(f"DRMC self test {type(self).__name__}.{name}: started", flush=True)
            self.setUp()
            try:
                getattr(self, name)()
            finally:
                self.tearDown()
            print(f"DRMC self test {type(self).__name__}.{name}: passed", flush=True)

    def setUp(self) -> None:
        """Empties the scene and makes a folder for the test's files."""
        slicer.mrmlScene.Clear()
        self.folder = Path(tempfile.mkdtemp(prefix="DRMC-", dir=slicer.app.temporaryPath))

    def tearDown(self) -> None:
        """Removes the folder and empties the scene."""
        shutil.rmtree(self.folder, ignore_errors=True)
        slicer.mrmlScene.Clear()

    def openModule(self, name: str):
        """The panel of a module, opened as a click on the module's name does."""
        if slicer.util.mainWindow() is None:
            self.skipTest("a panel needs Slicer's main window")
        slicer.util.selectModule(name)
        slicer.app.processEvents()
        return slicer.util.getModuleWidget(name)

    def openPanel(self, name: str):
        """The panel of a DRMC module; fails if its set-up did not finish."""
        panel = self.openModule(name)
        self.assertTrue(panel.isSetUp, f"the panel of {name} did not open: see the error above")
        return panel

    def waitUntil(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Lets Slicer work until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"timed out waiting for {what}")
            slicer.app.processEvents()
            time.sleep(0.01)

    def settle(self) -> None:
        """Lets layouts and views come to rest."""
        for _ in range(30):
            slicer.app.processEvents()
            time.sleep(0.01)

    def say(self, text: str) -> None:
        """Logs the progress of a long test."""
        logging.info(f"DRMC self test: {text}")
