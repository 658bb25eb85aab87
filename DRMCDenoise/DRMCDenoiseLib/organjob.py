"""Organs before and after: the SUV of a segmentation's segments in the input and in the denoised volume."""

from __future__ import annotations

from typing import Any

import slicer
from drmc.errors import CanceledError
from DRMCCoreLib.nodes.names import STRENGTH_ATTRIBUTE
from DRMCCoreLib.nodes.segmentations import lesionFile
from DRMCCoreLib.nodes.tables import readTable, showTable
from DRMCCoreLib.process.enginejob import made
from slicer.i18n import tr as _

from DRMCDenoiseLib.keptresidual import strengthOf
from DRMCDenoiseLib.organtable import REFERENCES_ATTRIBUTE, TEXT_COLUMNS
from DRMCDenoiseLib.strengthjob import StrengthJob


class OrganJob(StrengthJob):
    """`drmc denoise --organs` with the residual that the run has kept: no network, and only a table changes.

    After `finished`: `organTable` and `summary`, or `error`.
    """

    work = "organs before and after"

    def __init__(self, outputVolume, organs, organTable=None, **arguments: Any):
        StrengthJob.__init__(self, outputVolume, **arguments)
        self.organTable = organTable
        self._organs = organs
        self._strength = strengthOf(outputVolume)

    def measure(self) -> None:
        """Starts the engine; returns at once. Raises InputError for a segmentation that is refused."""
        self.start(strength=self._strength)

    def _command(
        self, lesions, reference, suv, headerValues, outputFolder, options: dict[str, Any]
    ) -> list[str]:
        assert self._scratch is not None
        marked = lesionFile(self._organs, self._placeNode, made(self._scratch / "organs"))
        options["organs"] = marked.path
        command = StrengthJob._command(self, lesions, reference, suv, headerValues, outputFolder, options)
        return [*command, *marked.options("organs")]

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        from drmc.denoising.organ_references import sentences  # SimpleITK is not needed before

        for node in (self.inputVolume, self.outputVolume):
            if not slicer.mrmlScene.IsNodePresent(node):
                raise CanceledError("the volume was removed from the scene meanwhile")
        assert self._output is not None
        table = readTable(self._output / "organs.csv", TEXT_COLUMNS)
        self.summary = summary
        name = _("{name} organs before and after (DRMC)").format(name=self.inputVolume.GetName())
        self.organTable = showTable(table, self.organTable, name, self.inputVolume)
        told = "\n".join(f"{text}." for text in sentences(summary["organs"]["references"]))
        self.organTable.SetAttribute(REFERENCES_ATTRIBUTE, told or None)
        self.organTable.SetAttribute(STRENGTH_ATTRIBUTE, repr(float(self._strength)))
