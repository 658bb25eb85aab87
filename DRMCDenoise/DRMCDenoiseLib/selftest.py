"""The module's own test, for a running Slicer: Reload and Test, or ctest."""

from __future__ import annotations

import importlib.util

import numpy as np
import slicer
from drmc.errors import InputError
from drmc.models import list_models
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class DRMCDenoiseTest(ScriptedLoadableModuleTest):
    """A refusal, and a small volume from node to node."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_refusal()
        self.setUp()
        self.test_process()

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
