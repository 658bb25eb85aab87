"""Organs for scripts, other modules and the panel."""

from collections.abc import Callable
from typing import Any

import slicer
from drmc.errors import InputError
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode, vtkMRMLTextNode
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DRMCSegmentLib.parameters import PRESET_PARAMETERS, DRMCSegmentParameterNode


class DRMCSegmentLogic(ScriptedLoadableModuleLogic):
    """Organs for scripts, other modules and the panel; needs no GUI."""

    @staticmethod
    def presetDefaults() -> dict[str, Any]:
        """The parameters that a preset keeps, with what a new parameter set has."""
        fresh = DRMCSegmentParameterNode(slicer.vtkMRMLScriptedModuleNode())
        return {name: getattr(fresh, name) for name in PRESET_PARAMETERS}

    def getParameterNode(self) -> DRMCSegmentParameterNode:
        """The scene's own parameter set, which a loaded scene replaces; users may add others beside it."""
        return DRMCSegmentParameterNode(super().getParameterNode())

    def process(
        self,
        inputVolume: vtkMRMLScalarVolumeNode,
        outputSegmentation: vtkMRMLSegmentationNode | None = None,
        *,
        model: str | None = None,
        segmentation: Any = None,
        lesions: Any = None,
        organTable: vtkMRMLTableNode | None = None,
        uptake: vtkMRMLSegmentationNode | None = None,
        uptakeTable: vtkMRMLTableNode | None = None,
        report: vtkMRMLTextNode | None = None,
        threshold: str | float | None = None,
        organs: str | None = None,
        uncorrected: bool = False,
        suv: str | float | None = None,
        acceptRule: str | None = None,
        headerValues: dict[str, str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        outputFolder: Any = None,
        writeDICOM: bool = False,
        waitForCompletion: bool = True,
        progressCallback: Callable[[int, int, float | None], Any] | None = None,
    ) -> Any:
        """Labels the organs of a PET volume in a child process and returns their segmentation.

        :param outputSegmentation: the node that gets the organs; a new one if None
        :param model: name of an installed model of organs or path of a weight file; the default one if None
        :param segmentation: node or file with organs by their names, which are measured in place of a
            model's; a segmentation node stays as it is, and is what is returned
        :param lesions: segmentation node, label map node or file; organs are measured without them, too
        :param organTable: the node that gets volumes and uptake; a new one if None
        :param uptake: the segmentation that gets the parts above the threshold; a new one if None
        :param uptakeTable: the node that gets their numbers; a new one if None
        :param report: text node that gets report.html; a new one if None
        :param threshold: percist, blood-pool or an SUV; None: no uptake is listed
        :param organs: names with commas of those that are wanted; all if None
        :param uncorrected: the volume is not corrected for attenuation, so that it has no SUV
        :param suv: what the voxels are if the node does not say: "SUV" (body weight) or the SUV of one unit
        :param acceptRule: the reference-time rule to take where a DICOM header is ambiguous
        :param headerValues: values by DICOM keyword for the SUV, in place of the header's (drmc.suv.manual)
        :param device: auto, cpu, cuda or mps
        :param precision: auto, fp32 or bf16
        :param outputFolder: folder that keeps the segmentations, tables, report.html and summary.json
        :param writeDICOM: write the organs as a DICOM segmentation into outputFolder/segmentation, too
        :param waitForCompletion: if False, returns the running `SegmentJob` at once
        :param progressCallback: called with slabs done, slabs in all, and seconds left (None while unknown)

        Raises InputError (refused), CanceledError or DRMCError; the scene is then as it was.
        """
        job = _newJob(inputVolume, outputSegmentation, progressCallback)
        options = {"model": model, "accept_rule": acceptRule, "device": device, "precision": precision}
        job.start(
            segmentation=segmentation,
            lesions=lesions,
            organTable=organTable,
            uptake=uptake,
            uptakeTable=uptakeTable,
            report=report,
            suv=suv,
            headerValues=headerValues,
            outputFolder=outputFolder,
            writeDICOM=writeDICOM,
            threshold=threshold,
            organs=organs,
            uncorrected=uncorrected,
            **options,
        )
        return _resultOf(job) if waitForCompletion else job


def _newJob(inputVolume, outputSegmentation, progressCallback):
    if not inputVolume:
        raise InputError("no input volume: choose a PET volume")
    from DRMCSegmentLib.segmentjob import SegmentJob  # SimpleITK is not needed before

    job = SegmentJob(inputVolume, outputSegmentation)
    if progressCallback is not None:
        job.progress.connect(progressCallback)
    return job


def _resultOf(job) -> vtkMRMLSegmentationNode:
    """The organs, once the job has ended."""
    job.wait(idle=slicer.app.processEvents)
    return job.outputSegmentation
