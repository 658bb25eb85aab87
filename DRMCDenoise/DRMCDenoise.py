"""DRMC Denoise: denoises low-dose PET of any center and shows the change of the lesions' SUV."""

import slicer
from drmc.texts import RESEARCH_USE
from DRMCCoreLib.nodes.petreader import DRMCDenoiseFileReader  # noqa: F401  Slicer looks for it in this file
from DRMCCoreLib.nodes.sampledata import registerSampleData
from DRMCCoreLib.panel.sectionpanel import SectionPanel
from DRMCCoreLib.sections.inputsection import InputSection
from DRMCCoreLib.sections.modelsection import ModelSection
from DRMCCoreLib.sections.parametersection import ParameterSection
from DRMCCoreLib.sections.runsection import RunSection
from DRMCDenoiseLib.batchsection import BatchSection
from DRMCDenoiseLib.companionsection import CompanionSection
from DRMCDenoiseLib.comparesection import CompareSection
from DRMCDenoiseLib.databasesection import DatabaseSection
from DRMCDenoiseLib.layouts import registerLayouts
from DRMCDenoiseLib.lesionsection import LesionSection
from DRMCDenoiseLib.logic import DRMCDenoiseLogic
from DRMCDenoiseLib.organsection import OrganSection
from DRMCDenoiseLib.parameters import DRMCDenoiseParameterNode
from DRMCDenoiseLib.routingsection import RoutingSection
from DRMCDenoiseLib.selftest import DRMCDenoiseTest  # noqa: F401  Slicer looks for it in this file
from DRMCDenoiseLib.strengthsection import StrengthSection
from DRMCDenoiseLib.verdict import verdict
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class DRMCDenoise(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Denoise")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = ["DRMCCore"]
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _(
            "Denoises low-dose PET of any center with one network and shows the change of SUVmean, SUVmax "
            "and SUVpeak of lesions. {use} See the "
            '<a href="https://github.com/DRMC-PET/SlicerDRMC">documentation</a>.'
        ).format(use=RESEARCH_USE)
        self.parent.acknowledgementText = _(
            "The network is the dynamic routing model for multi-center low-dose PET (DRMC)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerLayouts)


class DRMCDenoiseWidget(SectionPanel):
    """The panel: its sections, the scene's parameter node, and the run under way."""

    Logic = DRMCDenoiseLogic
    ParameterNode = DRMCDenoiseParameterNode
    Sections = (
        ModelSection,
        InputSection,
        CompanionSection,
        StrengthSection,
        RunSection,
        DatabaseSection,
        CompareSection,
        LesionSection,
        OrganSection,
        RoutingSection,
        BatchSection,
        ParameterSection,
    )
    nodeParameters = (
        *("outputVolume", "referenceVolume", "lesions", "lesionTable", "report", "routingTable"),
        *("ctVolume", "organs", "organTable"),
    )

    def verdict(self) -> str:
        """Noise, lesions and nearest training center in one sentence; empty before a run."""
        return verdict(self._parameterNode) if self._parameterNode is not None else ""
