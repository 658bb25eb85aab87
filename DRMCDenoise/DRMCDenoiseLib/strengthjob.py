"""The numbers of a denoised volume at another strength: by the engine, without the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from drmc.errors import CanceledError, InputError
from DRMCCoreLib.nodes.geometry import imageFromNode
from DRMCCoreLib.panel.reports import showReport
from slicer.i18n import tr as _

from DRMCDenoiseLib import results
from DRMCDenoiseLib.denoisejob import DenoiseJob
from DRMCDenoiseLib.keptresidual import keptOf


class StrengthJob(DenoiseJob):
    """As DenoiseJob, of an output volume whose run has kept the residual; display and routing stay."""

    def __init__(self, outputVolume, **arguments: Any):
        kept = keptOf(outputVolume)
        if kept is None:
            raise InputError(f"'{outputVolume.GetName()}' has no residual of its run: denoise again")
        DenoiseJob.__init__(self, kept.original, outputVolume, **arguments)
        self._kept = kept

    def start(self, *, strength: float, **arguments: Any) -> None:
        """Starts the engine; returns at once. `arguments`: those of the base class on what is measured."""
        DenoiseJob.start(self, **self._kept.arguments, **arguments, strength=strength)

    def _command(
        self, marked: dict[str, Any], reference, suv, headerValues, outputFolder, options: dict[str, Any]
    ) -> list[str]:
        assert self._scratch is not None
        folder = self._scratch / "residual"
        folder.mkdir()
        sitk.WriteImage(imageFromNode(self._kept.residual), str(folder / "residual.nrrd"))
        (folder / "residual.json").write_text(self._kept.run.GetText(), encoding="utf-8")
        options["residual"] = folder
        return DenoiseJob._command(self, marked, reference, suv, headerValues, outputFolder, options)

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        for node in (self.inputVolume, self.outputVolume):
            if not slicer.mrmlScene.IsNodePresent(node):
                raise CanceledError("the volume was removed from the scene meanwhile")
        assert self._output is not None
        array = results.readDenoised(self._output / "denoised.nrrd", self.inputVolume)
        page = (self._output / "report.html").read_text(encoding="utf-8")
        tables = results.readTables(self._output, summary)
        self.summary = summary
        if not np.array_equal(array, slicer.util.arrayFromVolume(self.outputVolume)):
            slicer.util.updateVolumeFromArray(self.outputVolume, array)
        results.describe(self.outputVolume, summary)
        self.report = showReport(
            page, self.report, _("{name} report (DRMC)").format(name=self.inputVolume.GetName())
        )
        self._showTables(tables)
