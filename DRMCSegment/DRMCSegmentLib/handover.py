"""What a run hands to the drawing of lesions: its threshold, and the parts above it as lesions."""

from __future__ import annotations

from drmc.errors import InputError
from DRMCCoreLib.nodes.segmentations import newSegmentation
from DRMCCoreLib.nodes.suvunits import suvPerUnit
from slicer.i18n import tr as _

from DRMCSegmentLib.results import SUV_FACTOR_ATTRIBUTE, UPTAKE_ATTRIBUTE, keptJSON
from DRMCSegmentLib.uptaketable import isMarked


def drawingThreshold(organsNode, volumeNode) -> float:
    """The threshold of the run that made the organs, in the volume's own unit.

    Raises InputError where the run had none, or the volume's factor is not one number.
    """
    found = keptJSON(organsNode, UPTAKE_ATTRIBUTE, None)
    if not found:
        raise InputError(_("there is no threshold: choose one and Apply"))
    kept = organsNode.GetAttribute(SUV_FACTOR_ATTRIBUTE)
    factor = float(kept) if kept else suvPerUnit(volumeNode)
    if not factor:
        raise InputError(
            _("the SUV of one unit of '{name}' differs from slice to slice: draw by hand").format(
                name=volumeNode.GetName()
            )
        )
    return found["threshold"]["suv"] / factor


def lesionsOfUptake(uptakeNode, volumeNode, withPhysiological: bool):
    """A new segmentation with the parts above the threshold, those that are marked only if asked for."""
    node = newSegmentation(volumeNode)
    source, target = uptakeNode.GetSegmentation(), node.GetSegmentation()
    for segmentID in source.GetSegmentIDs():
        if withPhysiological or not isMarked(source.GetSegment(segmentID).GetName()):
            target.CopySegmentFromSegmentation(source, segmentID)
    return node
