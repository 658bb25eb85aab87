"""Takes the pictures of docs/panel.md in a running Slicer: make screenshots SLICER=/path/to/Slicer; look.

Slicer --no-splash --disable-settings --additional-module-paths DRMCCore DRMCDenoise DRMCSegment DRMCTraining
    --python-script pictures_in_slicer.py -- FOLDER
"""

import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import qt
import slicer

SIZE = 1600, 1000  # pixels of the main window
LARGEST = 300_000  # bytes of a picture


class Pictures:
    """The sample patient, denoised by a click, in the main window."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.window = slicer.util.mainWindow()
        self.window.resize(*SIZE)
        (self.area,) = slicer.util.findChildren(self.window, name="ScrollArea")  # of the module panel

    def take(self) -> None:
        from DRMCCoreLib.nodes.sampledata import loadSample
        from DRMCDenoiseLib import readinglayout

        self.open("DRMCDenoise")
        low, full, lesions = loadSample()
        slicer.util.setSliceViewerLayers(background=low, fit=True)
        panel = slicer.util.getModuleWidget("DRMCDenoise")
        ui = panel.ui
        ui.inputSelector.setCurrentNode(low)
        ui.lesionsSelector.setCurrentNode(lesions)
        ui.referenceSelector.setCurrentNode(full)
        self.wait(lambda: ui.applyButton.enabled)
        ui.applyButton.click()
        self.wait(lambda: panel.job is None)
        ui.lesionTableWidget.cellClicked(0, 0)
        ui.compareReadingButton.click()
        self.rest(5.0)
        ui.rotateCheckBox.setChecked(False)
        readinglayout.turnTo(0)  # from the front
        self.rest(1.0)
        self.save("DRMCDenoise", self.window)
        self.save("DRMCDenoise-panel", panel.parent)
        ui.compareOffButton.click()
        ui.showChartButton.click()
        self.save("routing-chart", self.window)
        self.takeBatch(panel)

    def takeBatch(self, panel) -> None:
        """The section Batch after a batch of both volumes of the sample patient."""
        from DRMCCoreLib.nodes.sampledata import sampleFolder

        ui = panel.ui
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)  # the picture shows no path of this machine
            scans, results = Path("scans"), Path("results")
            scans.mkdir()
            for dose in ("low", "full"):
                shutil.copy(sampleFolder() / f"DRMC-sample-{dose}.nrrd", scans / f"{dose}.nrrd")
                (scans / f"{dose}.json").write_text('{"Units": "SUV"}', encoding="utf-8")
            panel.openAdvanced(ui.batchCollapsibleButton)
            ui.batchInputPathLineEdit.setCurrentPath(str(scans))
            ui.batchOutputPathLineEdit.setCurrentPath(str(results))
            ui.batchButton.click()
            self.wait(lambda: ui.batchButton.text == "Start batch")
            self.save("batch", ui.batchCollapsibleButton)
            os.chdir(self.folder)

    def open(self, name: str) -> None:
        slicer.util.selectModule(name)
        self.rest()

    def rest(self, seconds: float = 2.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.01)

    def wait(self, condition) -> None:
        while not condition():
            self.rest(0.1)

    def scrollTo(self, widget) -> None:
        self.rest()
        content = self.area.widget()
        self.area.verticalScrollBar().setValue(widget.mapTo(content, qt.QPoint(0, 0)).y())

    def save(self, name: str, widget) -> None:
        self.rest()
        path = self.folder / f"{name}.png"
        image = widget.grab().toImage()
        if not image.save(str(path), "PNG", 0) or path.stat().st_size > LARGEST:
            raise OSError(f"{path} cannot be written, or is larger than {LARGEST} bytes")
        print(
            f"{path.name}: {image.width()} x {image.height()}, {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )


def main() -> int:
    try:
        Pictures(Path(sys.argv[-1])).take()
    except Exception:
        traceback.print_exc()
        return 1
    return 0


slicer.util.exit(main())
