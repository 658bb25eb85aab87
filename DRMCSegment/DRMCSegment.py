"""DRMC Segment: organs of a PET scan from PET alone, their uptake, and uptake above a threshold."""

import slicer
from drmc.texts import RESEARCH_USE
from DRMCCoreLib.nodes.sampledata import registerSampleData
from DRMCCoreLib.panel.sectionpanel import SectionPanel
from DRMCCoreLib.sections.parametersection import ParameterSection
from DRMCSegmentLib.companionsection import CompanionSection
from DRMCSegmentLib.logic import DRMCSegmentLogic
from DRMCSegmentLib.organsection import OrganSection
from DRMCSegmentLib.parameters import DRMCSegmentParameterNode
from DRMCSegmentLib.runsection import OrganModelSection, ScanSection, SegmentRunSection
from DRMCSegmentLib.selftest import DRMCSegmentTest  # noqa: F401  Slicer looks for it in this file
from DRMCSegmentLib.uptakesection import UptakeSection
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class DRMCSegment(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DRMC Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Nuclear Medicine")]
        self.parent.dependencies = ["DRMCCore"]
        self.parent.contributors = ["DRMC contributors"]
        self.parent.helpText = _(
            "Labels organs in PET alone, at full or low dose, with or without correction for attenuation; "
            "measures them, and lists the uptake above a threshold with what is physiological marked. {use} "
            'See the <a href="https://github.com/DRMC-PET/SlicerDRMC">documentation</a>.'
        ).format(use=RESEARCH_USE)
        self.parent.acknowledgementText = _(
            "Names and colors of organs are those of Slicer's anatomy list; the choice is the project's."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


class DRMCSegmentWidget(SectionPanel):
    """The panel: its sections, the scene's parameter node, and the run under way."""

    Logic = DRMCSegmentLogic
    ParameterNode = DRMCSegmentParameterNode
    Sections = (
        OrganModelSection,
        ScanSection,
        CompanionSection,
        SegmentRunSection,
        OrganSection,
        UptakeSection,
        ParameterSection,
    )
    nodeParameters = ("outputSegmentation", "lesions", "organTable", "uptake", "uptakeTable", "report")
