"""The module's own tests, for a running Slicer: Reload and Test, ctest, or make test-slicer."""

from __future__ import annotations

import importlib.util
import json
import subprocess

import numpy as np
import slicer
from drmc.errors import InputError
from drmc.models.registry import find_model, list_models
from DRMCCoreLib.nodes.sampledata import SAMPLE_NAME, loadSample, sampleFolder
from DRMCCoreLib.nodes.suvunits import declaredUnits
from DRMCCoreLib.panel.selftesting import SelfTest
from DRMCCoreLib.process.runner import childEnvironment, engineCommand

NODES = (
    *("inputVolume", "outputVolume", "referenceVolume", "lesions"),
    *("lesionTable", "routingTable", "report"),
)
# The shipped numbers are of fp32; a processor with bf16 gives others by up to 0.15 %.
ROUNDED = 5e-3


class DRMCDenoiseTest(SelfTest):
    """A refusal; the sample patient from loading to a reloaded scene; the comparison."""

    def test_refusal(self) -> None:
        """An empty volume is refused in one sentence, and nothing is added to the scene."""
        from DRMCDenoise import DRMCDenoiseLogic

        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
        with self.assertRaisesRegex(InputError, "'Empty' holds no image"):
            DRMCDenoiseLogic().process(volume)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), 1)

    def test_sample_by_click(self) -> None:
        """The button in Sample Data loads two volumes in SUV and the lesions."""
        panel = self.openModule("SampleData")
        (button,) = slicer.util.findChildren(panel.parent, name=f"{SAMPLE_NAME}PushButton")
        button.click()
        self.waitUntil(
            lambda: slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1, "the sample"
        )
        self.checkSample(
            [
                *slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"),
                *slicer.util.getNodesByClass("vtkMRMLSegmentationNode"),
            ]
        )

    def test_sample_patient(self) -> None:
        """Loaded by script, denoised by clicks with the shipped numbers, saved, closed and opened again."""
        self.needsModel()
        low, full, lesions = self.sampleByScript()
        panel = self.openPanel("DRMCDenoise")
        ui = panel.ui
        ui.inputSelector.setCurrentNode(low)
        ui.lesionsSelector.setCurrentNode(lesions)
        ui.referenceSelector.setCurrentNode(full)
        ui.deviceComboBox.setCurrentIndex(ui.deviceComboBox.findText("cpu"))
        self.waitUntil(lambda: ui.applyButton.enabled, "Apply")
        self.say("denoising the sample patient")
        ui.applyButton.click()
        self.waitUntil(lambda: panel.job is None, "the run")
        self.assertRegex(ui.statusLabel.text, r"^Done in \d+ s on cpu")
        self.checkNumbers(panel._parameterNode.lesionTable)
        self.checkAgainstCommandLine(panel._parameterNode.outputVolume)
        self.checkStrength(panel)
        self.checkSideBySide(panel)
        self.checkSavedScene(panel)

    def test_comparison(self) -> None:
        """Every way to compare the sample patient shows both volumes, and leaves the views as they were."""
        from DRMCDenoiseLib.comparison import MODES, endComparison, showComparison

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

    # ---- parts

    def needsModel(self) -> None:
        """Skips the test if there is no PyTorch or no model."""
        if importlib.util.find_spec("torch") is None or not list_models():
            self.skipTest("needs PyTorch and an installed model")

    def sampleByScript(self) -> list:
        """The sample patient, loaded by Sample Data: low dose, full dose, lesions."""
        from SampleData import SampleDataLogic

        nodes = SampleDataLogic().downloadSamples(SAMPLE_NAME)
        self.checkSample(nodes)
        return nodes

    def checkSample(self, nodes: list) -> None:
        """Both volumes are in SUV, and there are lesions."""
        low, full, lesions = nodes
        self.assertEqual([declaredUnits(node) for node in (low, full)], ["{SUVbw}g/ml"] * 2)
        self.assertGreaterEqual(lesions.GetSegmentation().GetNumberOfSegments(), 3)

    def checkNumbers(self, table) -> None:
        """The lesions have the numbers that are shipped with the sample, for the model that is shipped."""
        from DRMCDenoiseLib.lesiontable import readLesions

        shipped = json.loads((sampleFolder() / "DRMC-sample.json").read_text(encoding="utf-8"))["denoised"]
        model = find_model(None)
        self.assertEqual((model.name, model.sha256), (shipped["model"], shipped["sha256"]))
        found = readLesions(table)
        self.assertEqual(list(found), list(shipped["lesions"]))
        for name, stages in shipped["lesions"].items():
            for stage, numbers in stages.items():
                for key, number in numbers.items():
                    where = f"{name}, {stage} {key}"
                    self.assertAlmostEqual(found[name][stage][key], number, delta=ROUNDED * number, msg=where)
        self.say("the lesions have the shipped numbers")

    def checkAgainstCommandLine(self, output) -> None:
        """The panel's voxels are those of `drmc denoise`, bit for bit."""
        import SimpleITK as sitk

        command = engineCommand(
            *("denoise", sampleFolder() / "DRMC-sample-low.nrrd", "-o", self.folder / "out"),
            *("--format", "nrrd", "--device", "cpu"),
        )
        done = subprocess.run(command, env=childEnvironment(), capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(self.folder / "out" / "denoised.nrrd")))
        self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(output), expected))
        self.say("the panel has the voxels of the command line")

    def checkStrength(self, panel) -> None:
        """The slider takes the volume to the original and back, and its numbers follow."""
        parameters, slider = panel._parameterNode, panel.ui.strengthSlider
        low, output = (
            slicer.util.arrayFromVolume(node).copy()
            for node in (parameters.inputVolume, parameters.outputVolume)
        )
        for strength, expected in ((0.0, low), (1.0, output)):
            slider.setValue(strength)
            self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(parameters.outputVolume), expected))
            self.waitUntil(lambda: not panel.ui.strengthLabel.text.endswith("..."), "the numbers")
        self.checkNumbers(parameters.lesionTable)
        self.say("the strength changes voxels and numbers")

    def checkSideBySide(self, panel) -> None:
        """The first click leaves every view at its slice, and the pairs show the same."""
        manager = slicer.app.layoutManager()
        slicer.util.setSliceViewerLayers(background=panel._parameterNode.inputVolume, fit=True)
        slicer.app.processEvents()
        before = {name: self.sliceNode(name).GetSliceOffset() for name in ("Red", "Yellow", "Green")}
        panel.ui.compareSideBySideButton.click()
        composites = lambda: [manager.sliceWidget(name).mrmlSliceCompositeNode() for name in pairs]
        pairs = ("Red", "DRMCRed", "Yellow", "DRMCYellow", "Green", "DRMCGreen")
        self.waitUntil(lambda: all(one.GetLinkedControl() for one in composites()), "linked views", 30.0)
        self.settle()
        for name, offset in before.items():
            upper, lower = self.sliceNode(name), self.sliceNode(f"DRMC{name}")
            self.assertAlmostEqual(upper.GetSliceOffset(), offset, places=3)
            self.assertAlmostEqual(lower.GetSliceOffset(), offset, places=3)
            self.assertAlmostEqual(upper.GetFieldOfView()[0], lower.GetFieldOfView()[0], places=3)
        panel.ui.compareOffButton.click()
        self.say("side by side stays at its slices")

    def sliceNode(self, name: str):
        """The slice node of a view."""
        return slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()

    def checkSavedScene(self, panel) -> None:
        """A scene saved as MRB brings everything back while the module is open."""
        from DRMCDenoiseLib.lesiontable import tableText

        def state() -> tuple:
            parameters = panel._parameterNode
            names = {name: getattr(parameters, name) for name in NODES}
            self.assertNotIn(None, names.values())
            table = parameters.lesionTable.GetTable()
            voxels = slicer.util.arrayFromVolume(parameters.outputVolume).copy()
            return {k: v.GetName() for k, v in names.items()}, table.GetNumberOfRows(), voxels

        before, line = state(), panel.ui.lesionTableWidget.rowCount
        path = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.app.processEvents()
        self.assertIsNone(panel._parameterNode.outputVolume)
        slicer.util.loadScene(path)
        slicer.app.processEvents()
        after = state()
        self.assertEqual(after[:2], before[:2])
        self.assertTrue(np.array_equal(after[2], before[2]))
        self.assertEqual(panel.ui.lesionTableWidget.rowCount, line)
        self.assertTrue(tableText(panel._parameterNode.lesionTable, ","))
        self.assertEqual(panel.ui.parameterSetSelector.currentNode(), panel._parameterNode.parameterNode)
        self.assertTrue(panel.ui.compareOverlayButton.enabled)
        self.say("the saved scene brought everything back")
