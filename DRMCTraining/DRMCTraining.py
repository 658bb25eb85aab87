"""DRMC Training: starts, follows and stops the training of a DRMC network with torchrun."""

from drmc.texts import RESEARCH_USE
from DRMCTrainingLib.selftest import DRMCTrainingTest  # noqa: F401  Slicer looks for it in this file
from DRMCTrainingLib.traininglogic import DRMCTrainingLogic  # noqa: F401  Slicer looks for it in this file
from DRMCTrainingLib.trainingpanel import TrainingPanel
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class DRMCTraining(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Training")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = ["DRMCCore"]
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _(
            "Trains a DRMC network on one's own centers: checks a configuration, starts torchrun with it, "
            "follows the run, stops it with a checkpoint and resumes from that. {use} "
            'See the <a href="https://github.com/DRMC-PET/SlicerDRMC">documentation</a>.'
        ).format(use=RESEARCH_USE)
        self.parent.acknowledgementText = _(
            "The network is the dynamic routing model for multi-center low-dose PET (DRMC)."
        )


class DRMCTrainingWidget(TrainingPanel):
    """The panel as Slicer looks for it, by its name."""
