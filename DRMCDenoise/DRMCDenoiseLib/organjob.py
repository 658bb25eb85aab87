"""Organs before and after: the SUV of a segmentation's segments in the input and in the denoised volume."""

from __future__ import annotations

from typing import Any

import slicer
from drmc.errors import CanceledError

from DRMCDenoiseLib import results
from DRMCDenoiseLib.keptresidual import strengthOf
from DRMCDenoiseLib.strengthjob import StrengthJob


class OrganJob(StrengthJob):
    """`drmc denoise --organs` with the residual that the run has kept: no network, and only a table changes.

    After `finished`: `organTable` and `summary`, or `error`.
    """

    work = "organs before and after"

    def measure(self, organs, organTable=None, **arguments: Any) -> None:
        """Starts the engine; returns at once. Raises InputError for a segmentation that is refused.

        `arguments`: lesions and reference of `DenoiseJob.start`, on which the table depends.
        """
        strength = strengthOf(self.outputVolume)
        self.start(strength=strength, organs=organs, organTable=organTable, **arguments)

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        for node in (self.inputVolume, self.outputVolume):
            if not slicer.mrmlScene.IsNodePresent(node):
                raise CanceledError("the volume was removed from the scene meanwhile")
        assert self._output is not None
        table = results.readTables(self._output, summary).organs
        self.summary = summary
        self.organTable = results.showOrganTable(table, self.organTable, self.inputVolume, summary)
