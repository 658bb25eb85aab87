"""DRMC Denoise: low-dose PET of any center denoised, with what that did to the lesions' SUV. Research use only."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any

import slicer
from drmc.errors import InputError
from DRMCCoreLib.nodes.petreader import DRMCDenoiseFileReader  # noqa: F401  Slicer looks for it in this file
from DRMCCoreLib.nodes.sampledata import registerSampleData
from DRMCCoreLib.nodes.suvdisplay import DEFAULT_WINDOW
from DRMCCoreLib.panel.panel import Panel
from DRMCCoreLib.sections.inputsection import InputSection
from DRMCCoreLib.sections.modelsection import ModelSection
from DRMCCoreLib.sections.parametersection import ParameterSection
from DRMCCoreLib.sections.runsection import RunSection
from DRMCDenoiseLib.comparesection import CompareSection
from DRMCDenoiseLib.comparison import MODES, OFF
from DRMCDenoiseLib.lesionsection import LesionSection
from DRMCDenoiseLib.routingsection import RoutingSection
from DRMCDenoiseLib.selftest import DRMCDenoiseTest  # noqa: F401  Slicer looks for it in this file
from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLScriptedModuleNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTextNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleLogic


class DRMCDenoise(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Denoise")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = ["DRMCCore"]
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _(
            "Denoises low-dose PET of any center with one network and shows what that did to SUVmean, SUVmax and SUVpeak "
            'of lesions. Research use only. See the <a href="https://github.com/DRMC-PET/SlicerDRMC">documentation</a>.'
        )
        self.parent.acknowledgementText = _(
            "The network is the dynamic routing model for multi-center low-dose PET (DRMC)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


@parameterNodeWrapper
class DRMCDenoiseParameterNode:
    """What the panel shows, kept in the scene.

    `model`: name of an installed model, empty for the default one. `outputFolder` empty: no files are kept. `voxels`: "" as the volume says, "SUV", or "factor":
    `suvFactor` is then the SUV of one unit. `acceptRule`: reference-time rule, empty for automatic. `headerValues`:
    header values by hand, one KEYWORD=VALUE a line. `allFrames`: of a sequence, not the one shown alone.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    lesions: vtkMRMLSegmentationNode
    outputVolume: vtkMRMLScalarVolumeNode
    referenceVolume: vtkMRMLScalarVolumeNode
    lesionTable: vtkMRMLTableNode
    report: vtkMRMLTextNode
    outputFolder: str = ""
    writeDICOM: bool = False
    routingTable: vtkMRMLTableNode
    routingRegion: str = ""  # a lesion's name, empty for the body
    voxels: str = ""
    suvFactor: str = ""
    acceptRule: str = ""
    headerValues: str = ""
    allFrames: bool = True
    model: str = ""
    device: Annotated[str, Choice(["auto", "cpu", "cuda", "mps"])] = "auto"
    compareMode: Annotated[str, Choice(MODES)] = OFF
    fade: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    windowSUV: Annotated[float, WithinRange(0.1, 1000.0)] = DEFAULT_WINDOW


# in the order in which they are shown
SECTIONS = (
    ParameterSection,
    InputSection,
    ModelSection,
    RunSection,
    CompareSection,
    LesionSection,
    RoutingSection,
)
# what a preset keeps: the settings that are the same for every scan
PRESET_PARAMETERS = ("model", "device", "outputFolder", "writeDICOM", "fade", "windowSUV")


class DRMCDenoiseWidget(Panel):
    """The panel: its sections, the scene's parameter node, and the run under way."""

    nodeParameters = ("outputVolume", "referenceVolume", "lesions", "lesionTable", "report", "routingTable")

    def __init__(self, parent=None) -> None:
        Panel.__init__(self, parent)
        self.logic = None
        self.job = None  # the DenoiseJob under way
        self.sections = []
        self._shownNode = None  # the MRML node behind the one that was shown last
        self._runParameterNode = None  # the one whose parameters the run under way has

    def setup(self) -> None:
        """Builds the panel when the module is opened for the first time."""
        Panel.setup(self)
        self.logic = DRMCDenoiseLogic()
        self.sections = [Section(self) for Section in SECTIONS]
        self.ui = SimpleNamespace(**{k: v for section in self.sections for k, v in vars(section.ui).items()})
        self.layout.addStretch(1)
        self.observeScene()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Ends a run that is under way, when the application closes or the module is reloaded."""
        if self.job is not None:
            self.job.end()
        for section in self.sections:
            section.cleanup()
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        for section in self.sections:
            section.enter()
        Panel.enter(self)

    def onReload(self) -> None:
        """Reloads the library and the engine too: Slicer itself executes only this file again.

        But for the engine's errors: DRMC Training catches them by the classes that it has imported.
        """
        own = [name for name in sys.modules if name.partition(".")[0] in ("DRMCDenoiseLib", "drmc")]
        for name in own:
            if name != "drmc.errors":
                del sys.modules[name]
        Panel.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """A run whose nodes go away is ended."""
        if self.job is not None:
            self.job.end()
        Panel.onSceneStartClose(self, caller, event)

    def initializeParameterNode(self) -> None:
        """Shows the parameter node that was shown last, or the scene's own."""
        own = (
            self.logic.getParameterNode().parameterNode
        )  # gets back its attribute, which closing a scene takes
        self.showParameterNode(self._shownNode if slicer.mrmlScene.IsNodePresent(self._shownNode) else own)

    def showParameterNode(self, node: vtkMRMLScriptedModuleNode | None) -> None:
        """Shows another of the scene's parameter sets; the scene's own if None."""
        parameterNode = DRMCDenoiseParameterNode(node) if node else self.logic.getParameterNode()
        self._shownNode = parameterNode.parameterNode
        self.setParameterNode(parameterNode)

    def setParameterNode(self, parameterNode: DRMCDenoiseParameterNode | None) -> None:
        """Connects the sections to a parameter node, or to none."""
        self._parameterNode = parameterNode
        for section in self.sections:
            section.setParameters(parameterNode)
        for section in self.sections if parameterNode else ():
            section.onParametersChanged()

    def onReadinessChanged(self) -> None:
        """For a section to call when something other than a parameter has changed on which `whyNotApply` rests."""
        for section in self.sections if self._parameterNode is not None else ():
            section.onParametersChanged()

    def whyNotApply(self) -> str:
        """Why a run cannot start, in a sentence; empty if it can."""
        if self._parameterNode is None:
            return _("The scene is being closed")
        return next((reason for section in self.sections if (reason := section.whyNotApply())), "")

    def startRun(self):
        """Starts a run with what the sections say and returns its `DenoiseJob`; raises DRMCError if it is refused."""
        arguments = {key: value for section in self.sections for key, value in section.runArguments().items()}
        self.job = job = self.logic.process(**arguments, waitForCompletion=False)
        self._runParameterNode = self._parameterNode
        job.finished.connect(self._onFinished)
        self._onRunChanged()
        if not job.isRunning():  # the engine could not be started at all
            self._onFinished(job)
        return job

    def _onFinished(self, job) -> None:
        self.job = None
        try:
            for section in self.sections if job.error is None else ():
                section.takeResults(job, self._runParameterNode)  # which may not be shown any more
        finally:
            self._onRunChanged()

    def _onRunChanged(self) -> None:
        for section in self.sections:
            section.onRunChanged()


class DRMCDenoiseLogic(ScriptedLoadableModuleLogic):
    """Denoising for scripts, other modules and the panel; needs no GUI."""

    @staticmethod
    def presetDefaults() -> dict[str, Any]:
        """The parameters that a preset keeps, with what a new parameter set has."""
        fresh = DRMCDenoiseParameterNode(slicer.vtkMRMLScriptedModuleNode())
        return {name: getattr(fresh, name) for name in PRESET_PARAMETERS}

    def getParameterNode(self) -> DRMCDenoiseParameterNode:
        """The scene's own parameter set, which a loaded scene replaces; users may add others beside it."""
        return DRMCDenoiseParameterNode(super().getParameterNode())

    def process(
        self,
        inputVolume: vtkMRMLScalarVolumeNode,
        outputVolume: vtkMRMLScalarVolumeNode | None = None,
        *,
        model: str | None = None,
        lesions: Any = None,
        lesionTable: vtkMRMLTableNode | None = None,
        report: vtkMRMLTextNode | None = None,
        routingTable: vtkMRMLTableNode | None = None,
        reference: vtkMRMLScalarVolumeNode | None = None,
        suv: str | float | None = None,
        acceptRule: str | None = None,
        headerValues: dict[str, str] | None = None,
        allFrames: bool = False,
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
        :param report: text node that gets report.html; a new one if None
        :param routingTable: the node that gets the gates of every expert; a new one if None
        :param reference: full-dose volume on the same grid, to compare with
        :param suv: what the voxels are if the node cannot tell: "SUV" (body weight), or the SUV of one unit
        :param acceptRule: the reference-time rule to take where a DICOM header is ambiguous
        :param headerValues: DICOM values by keyword that take the place of the header's for the SUV (drmc.suv.manual)
        :param allFrames: denoise all frames of the sequence that the input shows a frame of, into a new sequence
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
        from DRMCDenoiseLib.sequencejob import SequenceJob

        if not inputVolume:
            raise InputError("no input volume: choose a PET volume")
        if outputVolume is inputVolume:
            raise InputError(f"'{inputVolume.GetName()}' is input and output: choose another output volume")
        job = (SequenceJob if allFrames else DenoiseJob)(inputVolume, outputVolume)
        if progressCallback is not None:
            job.progress.connect(progressCallback)
        job.start(
            lesions=lesions,
            lesionTable=lesionTable,
            report=report,
            routingTable=routingTable,
            reference=reference,
            suv=suv,
            headerValues=headerValues,
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
