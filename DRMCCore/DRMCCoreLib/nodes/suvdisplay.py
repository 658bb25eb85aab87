"""How a PET volume is shown: a window in SUV from 0, and its colors."""

from __future__ import annotations

import re

import slicer

INVERTED_GRAY, GRAY = "vtkMRMLColorTableNodeInvertedGrey", "vtkMRMLColorTableNodeGrey"
DEFAULT_WINDOW = 7.0  # SUV at the upper end: of FDG, and of tracers that are not known
WINDOWS = (5.0, 7.0, 10.0, 15.0)  # that are at hand
HEAT = "vtkMRMLPETProceduralColorNodePET-Heat"
_WINDOW_OF_TRACER = (  # pattern of the name, SUV at the upper end
    (r"dota|tate\b|toc\b|noc\b", 15.0),
    (r"psma|dcfpyl|fapi", 10.0),
    (r"flt\b|fluorothymidine|choline|fluciclovine", 10.0),
    (r"fet\b|fluoroethyl|dopa|florbeta|flutemeta|amyloid|water|ammonia", 5.0),
)


def windowOfTracer(tracer: str | None) -> float:
    """SUV at the upper end of the window that is usual for a tracer, by its name in a header."""
    for pattern, top in _WINDOW_OF_TRACER:
        if re.search(pattern, tracer or "", re.IGNORECASE):
            return top
    return DEFAULT_WINDOW


def showWindow(volumeNode, low: float, high: float, colorNodeID: str | None = None) -> None:
    """Shows the values from `low` to `high` (in the volume's units), with a color node if given."""
    volumeNode.CreateDefaultDisplayNodes()
    node = volumeNode.GetScalarVolumeDisplayNode()
    with slicer.util.NodeModify(node):
        node.SetAutoWindowLevel(False)
        node.SetWindowLevel(high - low, (high + low) / 2)
        if colorNodeID is not None:
            node.SetAndObserveColorNodeID(colorNodeID)
