"""What is labeled, with what, and the run: sections of all panels, as this module needs them."""

from __future__ import annotations

from drmc.models.card import ORGANS
from DRMCCoreLib.sections.inputsection import InputSection
from DRMCCoreLib.sections.modelsection import ModelSection
from DRMCCoreLib.sections.runsection import RunSection
from slicer.i18n import tr as _


class OrganModelSection(ModelSection):
    """The model of organs and the device."""

    task = ORGANS

    def noModel(self) -> str:
        """What is said where no model of organs is installed, with a place for the folder."""
        return _("No model of organs is installed: put a weight file with its card into {folder}")

    def takeResults(self, job, parameters) -> None:
        """The time of a run is not kept: it is short."""


class ScanSection(InputSection):
    """The volume; one whose SUV is not known is labeled and measured relative to the body."""

    isSUVNeeded = False
    offersFrames = False


class SegmentRunSection(RunSection):
    """The segmentation that gets the organs, Apply and Cancel, progress, notices, files and report."""

    outputName = "outputSegmentation"
    uiName = "DRMCSegmentRun"
    advancedUiName = "DRMCSegmentFiles"
    resources = None

    def whyNotApply(self) -> str:
        parameters = self.parameters
        if parameters.writeDICOM and not parameters.outputFolder:
            return _("Choose the folder that is to keep the DICOM segmentation, or write none")
        return ""

    def whatItDoes(self) -> str:
        """What Apply does, for its tool tip."""
        return _("Label the organs of the input volume and measure them")
