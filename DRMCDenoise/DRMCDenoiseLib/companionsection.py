"""What goes with the input: a segmentation of lesions to measure, and a full-dose volume to compare with."""

from __future__ import annotations

from typing import Any

from DRMCCoreLib.panel.section import Section
from slicer.i18n import tr as _


class CompanionSection(Section):
    """The segmentation whose segments are measured, and the full-dose volume; both optional."""

    uiName = "DRMCDenoiseCompanions"

    def setup(self) -> None:
        self.ui.newLesionsButton.clicked.connect(self.onNewLesions)

    def onParametersChanged(self) -> None:
        self.ui.newLesionsButton.setEnabled(self.parameters.inputVolume is not None)

    def whyNotApply(self) -> str:
        reference, volume = self.parameters.referenceVolume, self.parameters.inputVolume
        if reference and volume and reference.GetID() == volume.GetID():
            return _("Choose a full-dose volume other than the input, or none")
        return ""

    def runArguments(self) -> dict[str, Any]:
        return {"lesions": self.parameters.lesions, "reference": self.parameters.referenceVolume}

    def onNewLesions(self) -> None:
        """Opens Segment Editor on a new segmentation of the input volume."""
        from DRMCCoreLib.nodes.segmentations import (  # SimpleITK is not needed before
            newSegmentation,
            openSegmentEditor,
        )

        self.parameters.lesions = node = newSegmentation(self.parameters.inputVolume)
        openSegmentEditor(node, self.parameters.inputVolume)
