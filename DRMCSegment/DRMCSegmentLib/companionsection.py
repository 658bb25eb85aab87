"""What goes with the scan: lesions, and whether it is corrected for attenuation."""

from __future__ import annotations

from typing import Any

from DRMCCoreLib.panel.section import Section
from slicer.i18n import tr as _


class CompanionSection(Section):
    """The lesions, which organs are measured without, too, and whether the scan is not corrected."""

    uiName = "DRMCSegmentCompanions"

    def setup(self) -> None:
        self.ui.newLesionsButton.clicked.connect(self.onNewLesions)

    def onParametersChanged(self) -> None:
        self.ui.newLesionsButton.setEnabled(self.parameters.inputVolume is not None)

    def whyNotApply(self) -> str:
        lesions, organs = self.parameters.lesions, self.parameters.outputSegmentation
        if lesions is not None and lesions is organs:
            return _("Choose lesions other than the segmentation of organs, or none")
        return ""

    def runArguments(self) -> dict[str, Any]:
        return {name: getattr(self.parameters, name) for name in ("lesions", "uncorrected")}

    def onNewLesions(self) -> None:
        """Opens Segment Editor on a new segmentation of the input volume."""
        from DRMCCoreLib.nodes.segmentations import (  # SimpleITK is not needed before
            newSegmentation,
            openSegmentEditor,
        )

        self.parameters.lesions = node = newSegmentation(self.parameters.inputVolume)
        openSegmentEditor(node, self.parameters.inputVolume)
