"""The module's own tests, for a running Slicer: Reload and Test, ctest, or make test-slicer."""

from __future__ import annotations

import importlib.util
import json
import subprocess

import numpy as np
import slicer
import vtk
from drmc.errors import InputError
from drmc.measures.routing_profiles import CARD_KEY as PROFILES
from drmc.models.registry import find_model, list_models
from DRMCCoreLib.nodes.names import INPUT_REFERENCE
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
        verdict = r"^Noise in the body down \d+ %, SUVpeak of \d+ lesions changed by .+ %"
        end = ", scan (un)?like " if PROFILES in find_model(None).card else r"\.$"
        self.assertRegex(panel.ui.verdictLabel.text, verdict + end)
        self.checkApplyIsVisible(panel)
        self.checkAgainstCommandLine(panel._parameterNode.outputVolume)
        self.checkPDF(panel._parameterNode.report)
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
        for mode in ("sideBySide", "reading"):  # their views are made once and stay
            showComparison(low, full, mode)
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

    def test_reading(self) -> None:
        """The reading layout: views, a scene saved, closed and loaded, a second volume, a reload."""
        from DRMCDenoiseLib.readinglayout import LAYOUT

        low, full, _lesions = loadSample()
        full.SetNodeReferenceID(INPUT_REFERENCE, low.GetID())
        ct = self.addCT(low)
        panel = self.openPanel("DRMCDenoise")
        manager = slicer.app.layoutManager()
        before = manager.layout
        panel._parameterNode.inputVolume, panel._parameterNode.outputVolume = low, full
        panel.ui.compareReadingButton.click()
        self.waitForReading(LAYOUT)
        self.assertIs(panel._parameterNode.ctVolume, ct)
        self.checkReadingViews(low, full, ct)
        self.say("the reading layout shows both volumes over the CT")
        name = full.GetName()
        full.SetName(f"{name}, at another strength")  # which changes the choice of the views' selectors
        self.settle()
        self.checkReadingViews(low, full, ct)
        full.SetName(name)
        self.settle()
        self.checkReadingViews(low, full, ct)
        panel.ui.window10Button.click()
        self.assertEqual([node.GetDisplayNode().GetWindowLevelMax() for node in (low, full)], [10.0] * 2)
        section = next(one for one in panel.sections if type(one).__name__ == "CompareSection")
        section.onExchange()
        self.assertEqual(self.composite("DRMCAxialOriginal").GetForegroundVolumeID(), full.GetID())
        section.onExchange()
        self.assertEqual(self.composite("DRMCAxialOriginal").GetForegroundVolumeID(), low.GetID())

        path = str(self.folder / "reading.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        self.settle()
        self.assertEqual(manager.layout, before)
        slicer.util.loadScene(path)
        self.waitForReading(LAYOUT)
        low, full, ct = (
            getattr(panel._parameterNode, name) for name in ("inputVolume", "outputVolume", "ctVolume")
        )
        self.checkReadingViews(low, full, ct)
        self.assertEqual(len(self.projectionNodes()), 2)
        self.say("a saved scene brings the reading layout back")

        second = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, full, "Second")
        second.SetNodeReferenceID(INPUT_REFERENCE, low.GetID())
        panel._parameterNode.outputVolume = second
        self.waitForReading(LAYOUT)
        self.checkReadingViews(low, second, ct)
        self.assertEqual(len(self.projectionNodes()), 2)

        panel = self.reloaded(panel)
        self.waitForReading(LAYOUT)
        panel.ui.compareOffButton.click()
        self.assertEqual(manager.layout, before)
        self.assertEqual(self.projectionNodes(), [])
        self.say("a second volume and a reload leave one reading layout, which ends")

    def test_candidates(self) -> None:
        """What is hot in the sample patient becomes a segmentation by a click; the user's own stays."""
        _low, full, lesions = loadSample()
        panel = self.openPanel("DRMCDenoise")
        ui, parameters = panel.ui, panel._parameterNode
        parameters.inputVolume, parameters.lesions, parameters.candidateSUV = full, lesions, 6.0
        ui.candidatesButton.click()
        self.waitUntil(lambda: "SUV" in ui.lesionMessageLabel.text, "the candidates")
        self.assertRegex(ui.lesionMessageLabel.text, r"^[1-9]\d* candidates? in '.+' with SUV 6.00 or more\.")
        self.assertIsNot(parameters.lesions, lesions)
        found = parameters.lesions.GetSegmentation()
        name = found.GetSegment(found.GetSegmentIDs()[0]).GetName()
        self.assertEqual(name, "candidate 1 (may be physiological)")
        self.assertGreaterEqual(lesions.GetSegmentation().GetNumberOfSegments(), 3)

    def test_dicom_database(self) -> None:
        """A DICOM series is denoised; a click adds series, segmentation and report to a database, or none."""
        from DICOMLib import DICOMUtils

        from DRMCDenoiseLib.selftestseries import writeSeries

        self.needsModel()
        _low, full, _lesions = loadSample()
        suv = slicer.util.arrayFromVolume(full)
        middle = len(suv) // 2
        series = writeSeries(self.folder / "series", suv[middle - 10 : middle + 10], full.GetSpacing())
        slicer.mrmlScene.Clear()
        folder = str(self.folder / "database")
        with DICOMUtils.TemporaryDICOMDatabase(folder) as database:
            DICOMUtils.importDicom(str(self.folder / "series"), database)
            (nodeID,) = DICOMUtils.loadSeriesByUID([series])
            panel = self.openPanel("DRMCDenoise")
            self.checkDatabase(panel, database, slicer.mrmlScene.GetNodeByID(nodeID))

    def test_batch(self) -> None:
        """A folder of two small scans is denoised from the section Batch, and has a cohort page."""
        import SimpleITK as sitk

        self.needsModel()
        _low, full, _lesions = loadSample()
        scans, results = self.folder / "scans", self.folder / "results"
        scans.mkdir()
        suv = slicer.util.arrayFromVolume(full)
        middle = len(suv) // 2
        for name, array in (("a", suv[middle - 8 : middle]), ("b", suv[middle : middle + 8])):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(full.GetSpacing())
            sitk.WriteImage(image, str(scans / f"{name}.nrrd"))
            (scans / f"{name}.json").write_text('{"Units": "SUV"}', encoding="utf-8")
        panel = self.openPanel("DRMCDenoise")
        ui = panel.ui
        ui.deviceComboBox.setCurrentIndex(ui.deviceComboBox.findText("cpu"))
        panel.openAdvanced(ui.batchCollapsibleButton)
        ui.batchInputPathLineEdit.setCurrentPath(str(scans))
        ui.batchOutputPathLineEdit.setCurrentPath(str(results))
        self.assertFalse(ui.cohortButton.enabled)
        ui.batchButton.click()
        self.assertTrue(ui.progressBar.isHidden())
        self.waitUntil(lambda: ui.batchButton.text == "Start batch", "the batch")
        self.assertEqual(ui.batchLabel.text, "2 done, 0 refused, 0 failed.")
        self.assertTrue(ui.cohortButton.enabled)
        for name in ("cohort.html", "batch.csv", "a/denoised.nrrd", "b/summary.json"):
            self.assertTrue((results / name).is_file(), name)
        panel.ui.advancedCollapsibleButton.collapsed = True

    # ---- parts

    def checkDatabase(self, panel, database, volume) -> None:
        """Denoises a volume of the database, adds the results to it, and cancels a second time."""
        from DRMCCoreLib.nodes.segmentations import newSegmentation

        from DRMCDenoiseLib.hotspot import addHotSpot

        ui, parameters = panel.ui, panel._parameterNode
        parameters.inputVolume = volume
        array = slicer.util.arrayFromVolume(volume)
        hottest = np.unravel_index(int(array.argmax()), array.shape)
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        point = matrix.MultiplyPoint([*(float(index) for index in hottest[::-1]), 1.0])[:3]
        parameters.lesions = newSegmentation(volume)
        addHotSpot(volume, parameters.lesions, point, suvPerUnit=None, suv=None)
        ui.deviceComboBox.setCurrentIndex(ui.deviceComboBox.findText("cpu"))
        self.waitUntil(lambda: ui.applyButton.enabled, "Apply")
        ui.applyButton.click()
        self.waitUntil(lambda: panel.job is None, "the run")
        self.assertRegex(ui.statusLabel.text, r"^Done in \d+ s on cpu")
        (patient,) = database.patients()
        (study,) = database.studiesForPatient(patient)
        ui.databaseButton.click()
        ui.databaseButton.click()
        self.waitUntil(lambda: ui.databaseButton.text == "Add to DICOM database", "the end of the cancel")
        self.assertIn("as it was", ui.databaseLabel.text)
        self.assertEqual(len(database.seriesForStudy(study)), 1)
        ui.databaseButton.click()
        self.waitUntil(lambda: ui.databaseButton.text == "Add to DICOM database", "the DICOM files")
        self.assertRegex(ui.databaseLabel.text, r"^Added to the DICOM database: 3 series at strength 1")
        found = {}
        for one in database.seriesForStudy(study):
            files = database.filesForSeries(one)
            found.setdefault(database.fileValue(files[0], "0008,0060"), []).append(len(files))
        self.assertEqual(
            {key: sorted(value) for key, value in found.items()}, {"PT": [20, 20], "SEG": [1], "SR": [1]}
        )
        self.say("series, segmentation and report are in the DICOM database")

    def reloaded(self, panel):
        """The panel after a click on Reload."""
        panel.onReload()
        slicer.app.processEvents()
        panel = slicer.util.getModuleWidget("DRMCDenoise")
        self.assertTrue(panel.isSetUp, "the panel did not open again after the reload")
        return panel

    def addCT(self, volume):
        """A CT on the grid of a volume."""
        array = np.full(slicer.util.arrayFromVolume(volume).shape, 40, np.int16)
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        node = slicer.util.addVolumeFromArray(array, slicer.util.arrayFromVTKMatrix(matrix), "CT")
        units = slicer.vtkCodedEntry()
        units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
        node.SetVoxelValueUnits(units)
        return node

    def waitForReading(self, layout: int) -> None:
        """Waits until the views of the reading layout are arranged and linked."""
        manager = slicer.app.layoutManager()
        self.waitUntil(lambda: manager.layout == layout, "the reading layout", 60.0)
        self.waitUntil(
            lambda: self.composite("DRMCAxialDenoised").GetLinkedControl(), "the views of the layout", 60.0
        )
        self.settle()

    def checkReadingViews(self, original, denoised, ct) -> None:
        """Each pair has one place and one field of view inside the scan, and its own volumes."""
        bounds = [0.0] * 6
        original.GetRASBounds(bounds)
        for plane, axis in (("Axial", 2), ("Coronal", 1), ("MIP", None)):
            upper, lower = (self.sliceNode(f"DRMC{plane}{side}") for side in ("Original", "Denoised"))
            self.assertEqual(upper.GetSliceOffset(), lower.GetSliceOffset())
            self.assertAlmostEqual(upper.GetFieldOfView()[0], lower.GetFieldOfView()[0], places=3)
            if axis is not None:
                self.assertTrue(bounds[2 * axis] < upper.GetSliceOffset() < bounds[2 * axis + 1])
        for side, volume in (("Original", original), ("Denoised", denoised)):
            for plane in ("Axial", "Coronal"):
                composite = self.composite(f"DRMC{plane}{side}")
                self.assertEqual(composite.GetBackgroundVolumeID(), ct.GetID())
                self.assertEqual(composite.GetForegroundVolumeID(), volume.GetID())
            shown = self.composite(f"DRMCMIP{side}").GetBackgroundVolumeID()
            self.assertIn(shown, [node.GetID() for node in self.projectionNodes()])
        self.assertEqual(ct.GetDisplayNode().GetWindow(), 400.0)

    def projectionNodes(self) -> list:
        """The volumes of the scene that hold projections."""
        from DRMCDenoiseLib.projections import isProjections

        return [
            node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isProjections(node)
        ]

    def composite(self, name: str):
        """The slice composite node of a view."""
        return slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()

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

    def checkApplyIsVisible(self, panel) -> None:
        """Apply can be seen without scrolling in a window of 1,000 pixels with Data Probe open."""
        import qt

        window = slicer.util.mainWindow()
        (area,) = slicer.util.findChildren(window, name="ScrollArea")
        window.resize(1440, 1000)
        self.settle()
        button = panel.ui.applyButton
        bottom = button.mapTo(area.widget(), qt.QPoint(0, button.height)).y()
        self.assertLess(bottom, area.viewport().height)
        self.assertTrue(panel.ui.advancedCollapsibleButton.collapsed)

    def checkPDF(self, report) -> None:
        """The report is printed on a few pages, with its pictures."""
        from DRMCCoreLib.panel import reports

        path = self.folder / "report.pdf"
        reports.savePDF(report, path)
        data = path.read_bytes()
        self.assertTrue(data.startswith(b"%PDF-"))
        self.assertGreater(data.count(b"/Subtype /Image"), 9)
        self.assertTrue(2 < data.count(b"/Type /Page\n") < 12, data.count(b"/Type /Page\n"))
        self.assertEqual([one.name for one in self.folder.glob(".*.part")], [])

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
        low, output = panel._parameterNode.inputVolume, panel._parameterNode.outputVolume
        output.SetName(f"{output.GetName()}, renamed")
        self.settle()
        for name in pairs:
            shown = manager.sliceWidget(name).mrmlSliceCompositeNode().GetBackgroundVolumeID()
            self.assertEqual(shown, (output if name.startswith("DRMC") else low).GetID(), name)
        panel.ui.compareOffButton.click()
        self.say("side by side stays at its slices, and with its volumes")

    def sliceNode(self, name: str):
        """The slice node of a view."""
        return slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()

    def checkSavedScene(self, panel) -> None:
        """A scene saved as MRB brings everything back while the module is open."""
        from DRMCCoreLib.panel.tables import tableText

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
