"""Denoising for scripts, other modules and the panel."""

from collections.abc import Callable
from typing import Any

import slicer
from drmc.errors import InputError
from drmc.pet.strength import FULL, parse_strength
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode, vtkMRMLTextNode
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DRMCDenoiseLib.parameters import PRESET_PARAMETERS, DRMCDenoiseParameterNode


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
        organs: Any = None,
        organTable: vtkMRMLTableNode | None = None,
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
        strength: str | float = FULL,
        keepResidual: bool = False,
        virtualSpots: bool = False,
        waitForCompletion: bool = True,
        progressCallback: Callable[[int, int, float | None], Any] | None = None,
    ) -> Any:
        """Denoises a PET volume in a child process and returns the denoised volume.

        :param outputVolume: the node that gets the result; a new one if None
        :param model: name of an installed model or path of a weight file; the default model if None
        :param lesions: segmentation node, label map node or file; their numbers go into `lesionTable`
        :param lesionTable: a new node if None
        :param organs: the same for organs: `organTable`, and PERCIST's liver if no lesion is called so
        :param organTable: a new node if None
        :param report: text node that gets report.html; a new one if None
        :param routingTable: the node that gets the gates of every expert; a new one if None
        :param reference: full-dose volume on the same grid, to compare with
        :param suv: what the voxels are if the node does not say: "SUV" (body weight) or the SUV of one unit
        :param acceptRule: the reference-time rule to take where a DICOM header is ambiguous
        :param headerValues: values by DICOM keyword for the SUV, in place of the header's (drmc.suv.manual)
        :param allFrames: denoise all frames of the input's sequence, into a new sequence
        :param device: auto, cpu, cuda or mps
        :param precision: auto, fp32 or bf16
        :param outputFolder: folder that keeps report.html, lesions.csv, routing.csv, summary.json, the image
        :param writeDICOM: write a DICOM series into outputFolder/denoised, too; the input must be one
        :param strength: share of the residual that is added, 0 to 1, or low (0.5), standard (0.75), high (1)
        :param keepResidual: keep the residual in the scene, for `changeStrength`; not of all frames
        :param virtualSpots: measure what is kept of virtual spots, with a second run of the network
        :param waitForCompletion: if False, returns the running `DenoiseJob` at once
        :param progressCallback: called with tiles done, tiles in all, and seconds left (None while unknown)

        Raises InputError (refused), CanceledError or DRMCError; the scene is then as it was.
        """
        _checkVolumes(inputVolume, outputVolume)
        job = _newJob(inputVolume, outputVolume, allFrames, progressCallback)
        options = {"model": model, "accept_rule": acceptRule, "device": device, "precision": precision}
        options |= {"dicom": writeDICOM, "spots": virtualSpots, "strength": parse_strength(strength)}
        nodes = {"lesions": lesions, "lesionTable": lesionTable, "organs": organs, "organTable": organTable}
        nodes |= {"report": report, "routingTable": routingTable, "reference": reference}
        job.start(
            **nodes,
            suv=suv,
            headerValues=headerValues,
            outputFolder=outputFolder,
            keepResidual=keepResidual,
            **options,
        )
        return _resultOf(job, waitForCompletion)

    def changeStrength(
        self,
        outputVolume: vtkMRMLScalarVolumeNode,
        strength: str | float,
        *,
        lesions: Any = None,
        lesionTable: vtkMRMLTableNode | None = None,
        organs: Any = None,
        organTable: vtkMRMLTableNode | None = None,
        report: vtkMRMLTextNode | None = None,
        reference: vtkMRMLScalarVolumeNode | None = None,
        waitForCompletion: bool = True,
    ) -> Any:
        """Makes a denoised volume at another strength, without the network; returns it.

        The voxels follow at once; tables, comparison and report are made in a child process, with the
        bits of a run at this strength.

        :param outputVolume: the result of `process(keepResidual=True)`; the scan must still be in the scene
        :param strength: as for `process`; the other parameters, too
        :param waitForCompletion: if False, returns the running `StrengthJob` at once

        Raises InputError (refused), CanceledError or DRMCError.
        """
        from DRMCDenoiseLib.keptresidual import showStrength
        from DRMCDenoiseLib.strengthjob import StrengthJob

        strength = parse_strength(strength)
        job = StrengthJob(outputVolume)
        showStrength(outputVolume, strength)
        job.start(
            strength=strength,
            lesions=lesions,
            lesionTable=lesionTable,
            organs=organs,
            organTable=organTable,
            report=report,
            reference=reference,
        )
        return _resultOf(job, waitForCompletion)

    def measureOrgans(
        self,
        outputVolume: vtkMRMLScalarVolumeNode,
        organs: Any,
        *,
        organTable: vtkMRMLTableNode | None = None,
        lesions: Any = None,
        reference: vtkMRMLScalarVolumeNode | None = None,
        waitForCompletion: bool = True,
    ) -> Any:
        """Measures organs in the scan and in its denoised volume as it is, without the network.

        :param outputVolume: the result of `process(keepResidual=True)`; the scan must still be in the scene
        :param organs: segmentation node, label map node or file
        :param organTable: the node that gets the numbers; a new one if None
        :param lesions: as for `process`: the regions in liver and aorta keep away from them
        :param reference: as for `process`: measured, too
        :param waitForCompletion: if False, returns the running `OrganJob` at once

        Returns the table. Raises InputError (refused), CanceledError or DRMCError.
        """
        from DRMCDenoiseLib.organjob import OrganJob  # SimpleITK is not needed before

        job = OrganJob(outputVolume)
        job.measure(organs, organTable, lesions=lesions, reference=reference)
        if not waitForCompletion:
            return job
        job.wait(idle=slicer.app.processEvents)
        return job.organTable


def _newJob(inputVolume, outputVolume, allFrames: bool, progressCallback: Callable | None):
    from DRMCDenoiseLib.denoisejob import DenoiseJob  # SimpleITK is not needed before
    from DRMCDenoiseLib.sequencejob import SequenceJob

    job = (SequenceJob if allFrames else DenoiseJob)(inputVolume, outputVolume)
    if progressCallback is not None:
        job.progress.connect(progressCallback)
    return job


def _resultOf(job, waitForCompletion: bool) -> Any:
    """The output volume once the job has ended, or the running job."""
    if not waitForCompletion:
        return job
    job.wait(idle=slicer.app.processEvents)
    return job.outputVolume


def _checkVolumes(inputVolume: vtkMRMLScalarVolumeNode | None, outputVolume: Any) -> None:
    if not inputVolume:
        raise InputError("no input volume: choose a PET volume")
    if outputVolume is inputVolume:
        raise InputError(f"'{inputVolume.GetName()}' is input and output: choose another output volume")
