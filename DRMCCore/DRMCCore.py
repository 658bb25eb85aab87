"""DRMC Core: the engine `drmc` and the library `DRMCCoreLib`, which the modules share. Hidden, no panel."""

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class DRMCCore(ScriptedLoadableModule):
    """The module as Slicer knows it; the other modules of DRMC depend on it and none on each other."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Core")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = []
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _("The engine and the library that the modules of DRMC share.")
        self.parent.acknowledgementText = _(
            "The network is the dynamic routing model for multi-center low-dose PET (DRMC)."
        )
        self.parent.hidden = True
