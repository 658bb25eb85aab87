"""What is denoised."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from .section import Section


class InputSection(Section):
    """The input volume."""

    uiName = "DRMCDenoiseInput"

    def onParametersChanged(self) -> None:
        """The first volume is chosen if none is."""
        if not self.parameters.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None:
                self.parameters.inputVolume = first

    def whyNotApply(self) -> str:
        return "" if self.parameters.inputVolume else _("Choose an input volume")

    def runArguments(self) -> dict[str, Any]:
        return {"inputVolume": self.parameters.inputVolume}
