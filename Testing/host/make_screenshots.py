"""Pictures of the panel in its states and of the slice views: `make screenshots`. No test; look at them.

The real panel is opened in the stand-in, driven by clicks and the parameter node on the shipped sample
patient, and denoises it with the default model. Writes Resources/Screenshots, or another folder: `--output
FOLDER [--dark]`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "DRMCCore")]

import numpy as np  # noqa: E402

import host  # noqa: E402

WIDTH = 480  # pixels of the panel
LARGEST = 300_000  # bytes of a picture
MM_PER_PIXEL = 1.8
CELLS = {"Red": (310, 172), "Green": (310, 92), "Yellow": (310, 92)}  # pixels of each view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "Resources" / "Screenshots")
    parser.add_argument("--dark", action="store_true", help="a dark theme, to see whether all can be read")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(XDG_DATA_HOME=folder, DRMC_MODELS="")  # the shipped models only
        slicer = host.start(withQt=True)
        if options.dark:
            useDarkColors()
        python, _module = host.loadModule(REPOSITORY / "DRMCDenoise" / "DRMCDenoise.py")
        Screenshots(slicer, python, options.output).take()


class Screenshots:
    """One open panel after the other, each brought into a state and photographed."""

    def __init__(self, slicer, python, folder: Path):
        from host import rendering, views

        self.slicer, self.python, self.folder = slicer, python, folder
        self.rendering, self.views = rendering, views

    def take(self) -> None:
        self.views.openViews()
        self.takeMissingPyTorch()
        self.takeRefused()
        panel = self.opened()
        self.save("empty", self.panelImage(panel))
        lesions = self.loadPatient(panel)[2]
        self.save("ready", self.panelImage(panel))
        panel.ui.applyButton.click()
        self.wait(lambda: panel.job is None or panel.ui.progressBar.value >= 3)
        self.save("running", self.panelImage(panel))
        self.wait(lambda: panel.job is None)
        self.save("done", self.panelImage(panel))
        self.takeViews(panel, lesions)
        host.closeWidget(panel)

    def takeMissingPyTorch(self) -> None:
        """The panel in a Slicer without PyTorch, with a volume to denoise."""
        from DRMCCoreLib.nodes.sampledata import loadSample
        from DRMCCoreLib.panel import installation

        find, isInteractive = importlib.util.find_spec, installation._isInteractive
        found = {"torch": None, "PyTorchUtils": True}  # the extension is there, PyTorch itself is not
        importlib.util.find_spec = lambda name, *rest: found[name] if name in found else find(name, *rest)
        installation._isInteractive = lambda: True
        try:
            loadSample()
            panel = self.opened()
            self.save("missing-pytorch", self.panelImage(panel))
            host.closeWidget(panel)
        finally:
            importlib.util.find_spec, installation._isInteractive = find, isInteractive
        self.slicer.mrmlScene.Clear(0)

    def takeRefused(self) -> None:
        """A CT by mistake."""
        slicer, panel = self.slicer, self.opened()
        node = slicer.util.addVolumeFromArray(np.zeros((20, 30, 30), np.float32), name="CT chest")
        units = slicer.vtkCodedEntry()
        units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
        node.SetVoxelValueUnits(units)
        slicer.app.processEvents()
        panel._parameterNode.inputVolume = node
        self.wait(lambda: not panel.ui.applyButton.enabled)
        self.save("refused", self.panelImage(panel))
        host.closeWidget(panel)
        slicer.mrmlScene.Clear(0)

    def loadPatient(self, panel) -> list:
        """The sample patient, chosen in whatever the panel has for it."""
        from DRMCCoreLib.nodes.sampledata import loadSample

        low, full, lesions = nodes = loadSample()
        self.slicer.app.processEvents()
        for name, value in (
            ("inputVolume", low),
            ("lesions", lesions),
            ("referenceVolume", full),
            ("device", "cpu"),
        ):
            if hasattr(type(panel._parameterNode), name):
                setattr(panel._parameterNode, name, value)
        return nodes

    def takeViews(self, panel, lesions) -> None:
        """The views of every way to compare, through the largest lesion."""
        point = lesions.GetSegmentCenterRAS(lesions.GetSegmentation().GetSegmentIDs()[0])
        bounds = np.zeros(6)
        panel._parameterNode.inputVolume.GetRASBounds(bounds)
        middle = bounds.reshape(3, 2).mean(axis=1)
        across = {"Red": 2, "Green": 1, "Yellow": 0}  # the axis that a view looks along

        def column(title: str, prefix: str = ""):
            pictures = []
            for name, size in CELLS.items():
                place = [point[axis] if axis == across[name] else middle[axis] for axis in range(3)]
                shown = {"lesions": lesions, "place": place, "mmPerPixel": MM_PER_PIXEL}
                pictures.append([self.rendering.picture(prefix + name, size, title=title, **shown)])
            return self.rendering.grid(pictures)

        panel.ui.compareOverlayButton.click()
        columns = {"overlay": column("Overlay")}
        panel.ui.compareResidualButton.click()
        columns["residual"] = column("Denoised \u2212 original")
        panel.ui.compareSideBySideButton.click()
        columns["original"], columns["denoised"] = column("Original"), column("Denoised", "DRMC")
        self.save("overlay", columns["overlay"])
        self.save("residual", columns["residual"])
        self.save("side-by-side", self.rendering.grid([[columns["original"], columns["denoised"]]]))

    def opened(self):
        """The panel, open."""
        panel = host.openWidget(self.python, "DRMCDenoise")
        self.slicer.app.processEvents()
        return panel

    def panelImage(self, panel):
        """The panel as wide as in Slicer and as high as it needs to be."""
        from host.pythonqt import raw

        labels = [one for name, one in vars(panel.ui).items() if name.endswith("Label")]
        self.wait(lambda: not any(one.text.startswith("Looking") for one in labels))
        parent = raw(panel.parent)
        for _ in range(3):  # texts wrap at the new width, and the layouts around them hear of it
            self.slicer.app.processEvents()
            layout = parent.layout()
            height = layout.totalHeightForWidth(WIDTH) if layout.hasHeightForWidth() else 0
            parent.resize(WIDTH, max(height, parent.sizeHint().height()))
            self.slicer.app.processEvents()
        return parent.grab().toImage()

    def wait(self, condition) -> None:
        while not condition():
            self.slicer.app.processEvents()
            time.sleep(0.02)

    def save(self, name: str, image) -> None:
        """Writes a picture with as many colors as keep it small."""
        path = self.folder / f"{name}.png"
        for colors in (256, 128, 64):
            if not self.rendering.withPalette(image, colors).save(str(path), "PNG", 0):
                raise OSError(f"{path} cannot be written")
            size = path.stat().st_size
            if size <= LARGEST:
                break
        else:
            raise SystemExit(f"{path} is larger than {LARGEST / 1000:.0f} kB: show less")
        said = f"{image.width()} x {image.height()}, {colors} colors at most, {size / 1000:.0f} kB"
        print(f"{path.name}: {said}", flush=True)


def useDarkColors() -> None:
    """The dark theme that Slicer offers, in short."""
    from PySide6 import QtGui, QtWidgets

    palette = QtGui.QPalette(QtGui.QColor(53, 53, 53), QtGui.QColor(53, 53, 53))
    for role, color in (("Base", (35, 35, 35)), ("Text", (255, 255, 255)), ("ButtonText", (255, 255, 255))):
        palette.setColor(getattr(QtGui.QPalette.ColorRole, role), QtGui.QColor(*color))
    palette.setColor(QtGui.QPalette.ColorRole.WindowText, QtGui.QColor(255, 255, 255))
    for role in ("Text", "ButtonText", "WindowText"):
        grey = QtGui.QColor(127, 127, 127)
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, getattr(QtGui.QPalette.ColorRole, role), grey)
    QtWidgets.QApplication.setStyle("Fusion")
    QtWidgets.QApplication.setPalette(palette)


if __name__ == "__main__":
    main()
