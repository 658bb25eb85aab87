"""The module's own tests, for a running Slicer: Reload and Test, ctest, or make test-slicer."""

from __future__ import annotations

import numpy as np
import slicer
from drmc.errors import InputError
from drmc.models.card import ORGANS
from drmc.models.registry import list_models
from DRMCCoreLib.nodes.sampledata import loadSample
from DRMCCoreLib.panel.selftesting import SelfTest

NODES = ("inputVolume", "outputSegmentation", "organTable", "uptake", "uptakeTable", "report")


class DRMCSegmentTest(SelfTest):
    """Refusals; organs of a segmentation measured by a click, and a scene that is saved and opened again."""

    def test_refusal(self) -> None:
        """An empty volume, and a run without a model, are refused in one sentence; nothing is added."""
        from DRMCSegment import DRMCSegmentLogic

        logic = DRMCSegmentLogic()
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
        with self.assertRaisesRegex(InputError, "'Empty' holds no image"):
            logic.process(volume)
        if not any(entry.task == ORGANS for entry in list_models()):
            low, _full, _lesions = loadSample()
            with self.assertRaisesRegex(InputError, "no model of organs is installed"):
                logic.process(low)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode"), 0)

    def test_organs_of_a_segmentation(self) -> None:
        """A segment called liver is measured by a click; the results come back with a saved scene."""
        from DRMCCoreLib.nodes.segmentations import newSegmentation

        _low, full, _lesions = loadSample()
        array = slicer.util.arrayFromVolume(full)
        mask = np.zeros(array.shape, np.uint8)
        mask[tuple(slice(n // 3, 2 * n // 3) for n in array.shape)] = 1
        node = newSegmentation(full, "Organs")
        segmentID = node.GetSegmentation().AddEmptySegment("", "liver")
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentID, full)

        panel = self.openPanel("DRMCSegment")
        parameters, ui = panel._parameterNode, panel.ui
        parameters.inputVolume, parameters.outputSegmentation = full, node
        parameters.thresholdMethod, parameters.thresholdSUV = "SUV", 6.0
        self.waitUntil(lambda: ui.measureButton.enabled, "the button Measure again")
        ui.measureButton.click()
        self.waitUntil(lambda: panel.job is None, "the measurement")
        self.assertRegex(ui.statusLabel.text, r"^Done in \d+ s\.")
        table = parameters.organTable.GetTable()
        self.assertEqual(table.GetValueByName(0, "organ").ToString(), "liver")
        inside = array[mask > 0].astype(np.float64)
        self.assertAlmostEqual(table.GetValueByName(0, "suv_mean").ToDouble(), inside.mean(), places=5)
        self.assertEqual(ui.organTableWidget.rowCount, 1)
        self.assertGreater(ui.uptakeTableWidget.rowCount, 0)
        self.assertIn("without what is marked as physiological", ui.totalsLabel.text)
        self.say(ui.totalsLabel.text)
        section = next(one for one in panel.sections if type(one).__name__ == "OrganSection")
        section.onRowChosen(0, 0)
        ui.show3DButton.click()
        self.assertTrue(node.GetDisplayNode().GetVisibility3D())

        names = {name: getattr(parameters, name).GetName() for name in NODES}
        totals = ui.totalsLabel.text
        path = str(self.folder / "organs.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        self.settle()
        slicer.util.loadScene(path)
        self.settle()
        parameters = panel._parameterNode
        self.assertEqual({name: getattr(parameters, name).GetName() for name in NODES}, names)
        self.assertEqual(panel.ui.totalsLabel.text, totals)
        self.say("a saved scene brings organs, uptake and tables back")
