"""How a PET volume is shown: a window and its colors."""

from __future__ import annotations

import slicer

INVERTED_GRAY, GRAY = "vtkMRMLColorTableNodeInvertedGrey", "vtkMRMLColorTableNodeGrey"
HEAT = "vtkMRMLPETProceduralColorNodePET-Heat"


def showWindow(volumeNode, low: float, high: float, colorNodeID: str | None = None) -> None:
    """Shows the values from `low` to `high` (in the volume's units), with a color node if given."""
    volumeNode.CreateDefaultDisplayNodes()
    node = volumeNode.GetScalarVolumeDisplayNode()
    with slicer.util.NodeModify(node):
        node.SetAutoWindowLevel(False)
        node.SetWindowLevel(high - low, (high + low) / 2)
        if colorNodeID is not None:
            node.SetAndObserveColorNodeID(colorNodeID)
