"""The module's own test, for a running Slicer: Reload and Test, or ctest."""

from __future__ import annotations

import importlib.util

import numpy as np
import slicer
from drmc.errors import InputError
from drmc.models import list_models
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class DRMCDenoiseTest(ScriptedLoadableModuleTest):
    """A refusal, a small volume from node to node, and the comparison in the views."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_refusal()
        self.setUp()
        self.test_process()
        self.setUp()
        self.test_comparison()

    def test_refusal(self) -> None:
        """An empty volume is refused in one sentence, and nothing is added to the scene."""
        from DRMCDenoise import DRMCDenoiseLogic

        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
        with self.assertRaisesRegex(InputError, "'Empty' holds no image"):
            DRMCDenoiseLogic().process(volume)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), 1)

    def test_process(self) -> None:
        """A noisy ball comes back on its own grid, in its own units, changed."""
        from DRMCDenoise import DRMCDenoiseLogic

        if importlib.util.find_spec("torch") is None or not list_models():
            self.skipTest("needs PyTorch and an installed model")
        grid = np.indices((40, 48, 44)) - np.array([20, 24, 22])[:, None, None, None]
        array = 2.0 * (np.linalg.norm(grid, axis=0) < 15) + np.random.default_rng(0).normal(
            0, 0.3, grid.shape[1:]
        )
        volume = slicer.util.addVolumeFromArray(array.astype(np.float32), name="Ball")
        volume.SetSpacing(2.0, 2.0, 2.0)
        output = DRMCDenoiseLogic().process(volume, suv="SUV", device="cpu")
        self.assertEqual(output.GetName(), "Ball denoised (DRMC)")
        self.assertEqual(slicer.util.arrayFromVolume(output).shape, array.shape)
        self.assertFalse(np.array_equal(slicer.util.arrayFromVolume(output), array.astype(np.float32)))

    def test_comparison(self) -> None:
        """Every way to compare the sample patient shows both volumes, and leaves the views as they were."""
        from .comparison import MODES, endComparison, showComparison
        from .sampledata import loadSample

        def layers() -> list:
            nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
            return [(one.GetBackgroundVolumeID(), one.GetForegroundVolumeID()) for one in nodes]

        low, full, _lesions = loadSample()
        showComparison(low, full, "sideBySide")  # its views are made once and stay
        endComparison()
        before, manager = layers(), slicer.app.layoutManager()
        layout = None if manager is None else manager.layout
        for mode in MODES:
            showComparison(low, full, mode)
            slicer.app.processEvents()
            self.assertEqual(layers() == before, mode == "off" or not before)
            endComparison()
            self.assertEqual(layers(), before)
            self.assertEqual(None if manager is None else manager.layout, layout)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), 2)
