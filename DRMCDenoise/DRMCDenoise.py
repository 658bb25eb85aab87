"""DRMC Denoise: low-dose PET of any center denoised, with what that did to the lesions' SUV. Research use only."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Annotated, Any

import slicer
import vtk
from drmc.errors import CancelledError, DRMCError, InputError
from drmc.models import user_folder
from DRMCDenoiseLib.modelchooser import chosenModel, fillModels, showModel
from DRMCDenoiseLib.selftest import DRMCDenoiseTest  # noqa: F401  Slicer looks for it in this file
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class DRMCDenoise(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Denoise")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = []
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _(
            "Denoises low-dose PET of any center with one network and shows what that did to SUVmean, SUVmax and SUVpeak "
            'of lesions. Research use only. See the <a href="https://github.com/DRMC-PET/SlicerDRMC">documentation</a>.'
        )
        self.parent.acknowledgementText = _(
            "The network is the dynamic routing model for multi-center low-dose PET (DRMC)."
        )


@parameterNodeWrapper
class DRMCDenoiseParameterNode:
    """What the panel shows, kept in the scene. `model` is the name of an installed model, empty for the default one."""

    inputVolume: vtkMRMLScalarVolumeNode
    lesions: vtkMRMLSegmentationNode
    outputVolume: vtkMRMLScalarVolumeNode
    lesionTable: vtkMRMLTableNode
    model: str = ""
    device: Annotated[str, Choice(["auto", "cpu", "cuda", "mps"])] = "auto"


class DRMCDenoiseWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._job = None  # the DenoiseJob under way
        self._hasModels = False

    def setup(self) -> None:
        """Builds the panel when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DRMCDenoise.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = DRMCDenoiseLogic()
        self._hasModels = fillModels(self.ui.modelComboBox)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.modelComboBox.currentIndexChanged.connect(self.onModelChosen)
        self.ui.applyButton.clicked.connect(self.onApplyButton)
        self.ui.cancelButton.clicked.connect(self.onCancelButton)
        self._showProgress(0, 0, None)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Ends a run that is under way, when the application closes or the module is reloaded."""
        if self._job is not None:
            self._job.end()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self._hasModels = fillModels(self.ui.modelComboBox)
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens another module; a run goes on."""
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Reloads the library and the engine too: Slicer itself executes only this file again."""
        for name in [name for name in sys.modules if name.partition(".")[0] in ("DRMCDenoiseLib", "drmc")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """A run whose nodes go away is ended."""
        if self._job is not None:
            self._job.end()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Shows the scene's parameter node; the first volume is chosen if none is."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def setParameterNode(self, parameterNode: DRMCDenoiseParameterNode | None) -> None:
        """Connects the panel to a parameter node, or to none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersChanged)
            self._onParametersChanged()

    def onModelChosen(self) -> None:
        """The user has chosen a model."""
        if self._parameterNode:
            self._parameterNode.model = chosenModel(self.ui.modelComboBox)

    def onApplyButton(self) -> None:
        """Starts a run."""
        parameters = self._parameterNode
        self.ui.logTextEdit.clear()
        try:
            job = self.logic.process(
                parameters.inputVolume,
                parameters.outputVolume,
                model=parameters.model or None,
                lesions=parameters.lesions,
                lesionTable=parameters.lesionTable,
                device=parameters.device,
                waitForCompletion=False,
            )
        except DRMCError as error:
            self.ui.statusLabel.setText(str(error))
            return
        self._job = job
        job.progress.connect(self._showProgress)
        job.message.connect(self.ui.logTextEdit.appendPlainText)
        job.finished.connect(self._onFinished)
        self._showProgress(0, 0, None)
        self.ui.statusLabel.setText(_("Reading the scan and loading the model..."))
        self._checkCanApply()
        if not job.isRunning():  # the engine could not be started at all
            self._onFinished(job)

    def onCancelButton(self) -> None:
        """Asks the run to stop."""
        if self._job is not None:
            self._job.progress.disconnect(self._showProgress)
            self.ui.statusLabel.setText(_("Canceling..."))
            self._job.cancel()

    def _onFinished(self, job) -> None:
        self._job = None
        self._showProgress(0, 0, None)
        if job.error is None:
            seconds, device = job.summary["seconds"]["total"], job.summary["device"]
            self.ui.statusLabel.setText(_("Done in {s:.0f} s on {device}.").format(s=seconds, device=device))
            parameters = self.logic.getParameterNode()
            parameters.outputVolume = job.outputVolume
            parameters.lesionTable = job.lesionTable or parameters.lesionTable
        elif isinstance(job.error, CancelledError):
            self.ui.statusLabel.setText(_("Canceled; the scene is as it was."))
        else:
            self.ui.statusLabel.setText(str(job.error))
            if not isinstance(job.error, InputError):
                self.ui.logTextEdit.appendPlainText(job.log)
        self._checkCanApply()

    def _onParametersChanged(self, caller=None, event=None) -> None:
        showModel(self.ui.modelComboBox, self._parameterNode.model)
        self.ui.lesionTableView.setMRMLTableNode(self._parameterNode.lesionTable)
        self._checkCanApply()

    def _checkCanApply(self) -> None:
        reason = self._whyNotApply()
        self.ui.applyButton.setEnabled(not reason)
        self.ui.applyButton.setToolTip(reason or _("Denoise the input volume"))
        self.ui.cancelButton.setEnabled(self._job is not None)

    def _whyNotApply(self) -> str:
        parameters = self._parameterNode
        if self._job is not None:
            return _("A volume is being denoised")
        if not parameters or not parameters.inputVolume:
            return _("Choose an input volume")
        if parameters.outputVolume and parameters.outputVolume.GetID() == parameters.inputVolume.GetID():
            return _("Choose an output volume other than the input")
        if importlib.util.find_spec("torch") is None:
            return _(
                "PyTorch is missing: install the extension PyTorch, then PyTorch in its module PyTorch Utils"
            )
        if not self._hasModels:
            return _("No model is installed: put a weight file with its card into {folder}").format(
                folder=user_folder()
            )
        return ""

    def _showProgress(self, done: int, total: int, secondsLeft: float | None) -> None:
        running = self._job is not None
        self.ui.progressBar.setRange(0, total if running else 1)
        self.ui.progressBar.setValue(done)
        if running and total:
            left = "" if secondsLeft is None else _(", {seconds:.0f} s left").format(seconds=secondsLeft)
            self.ui.statusLabel.setText(_("Tile {done} of {total}").format(done=done, total=total) + left)


class DRMCDenoiseLogic(ScriptedLoadableModuleLogic):
    """Denoising for scripts, other modules and the panel; needs no GUI."""

    def getParameterNode(self) -> DRMCDenoiseParameterNode:
        """The scene's parameter node."""
        return DRMCDenoiseParameterNode(super().getParameterNode())

    def process(
        self,
        inputVolume: vtkMRMLScalarVolumeNode,
        outputVolume: vtkMRMLScalarVolumeNode | None = None,
        *,
        model: str | None = None,
        lesions: Any = None,
        lesionTable: vtkMRMLTableNode | None = None,
        reference: vtkMRMLScalarVolumeNode | None = None,
        suv: str | float | None = None,
        acceptRule: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        outputFolder: Any = None,
        writeDICOM: bool = False,
        waitForCompletion: bool = True,
        progressCallback: Callable[[int, int, float | None], Any] | None = None,
    ) -> Any:
        """Denoises a PET volume in a child process and returns the denoised volume.

        :param outputVolume: the node that gets the result; a new one if None
        :param model: name of an installed model or path of a weight file; the default model if None
        :param lesions: segmentation node, label map node or file; `lesionTable` (a new node if None) gets their numbers
        :param reference: full-dose volume on the same grid, to compare with
        :param suv: what the voxels are if the node cannot tell: "SUV" (body weight), or the SUV of one unit
        :param acceptRule: the reference-time rule to take where a DICOM header is ambiguous
        :param device: auto, cpu, cuda or mps
        :param precision: auto, fp32 or bf16
        :param outputFolder: folder that keeps report.html, lesions.csv, routing.csv, summary.json and the image
        :param writeDICOM: write the result into outputFolder/denoised as a DICOM series too; the input must be one
        :param waitForCompletion: if False, returns the running `DenoiseJob` at once
        :param progressCallback: called with tiles done, tiles in all, and seconds left (None while unknown)

        Raises InputError (refused, with the sentence of the command line), CancelledError or DRMCError; the scene is
        then as it was.
        """
        from DRMCDenoiseLib.denoisejob import DenoiseJob  # SimpleITK is not needed before

        if not inputVolume:
            raise InputError("no input volume: choose a PET volume")
        if outputVolume is inputVolume:
            raise InputError(f"'{inputVolume.GetName()}' is input and output: choose another output volume")
        job = DenoiseJob(inputVolume, outputVolume)
        if progressCallback is not None:
            job.progress.connect(progressCallback)
        job.start(
            lesions=lesions,
            lesionTable=lesionTable,
            reference=reference,
            suv=suv,
            outputFolder=outputFolder,
            model=model,
            accept_rule=acceptRule,
            device=device,
            precision=precision,
            dicom=writeDICOM,
        )
        if not waitForCompletion:
            return job
        job.wait(idle=slicer.app.processEvents)
        return job.outputVolume
