"""The place of a result in the scene."""

from __future__ import annotations

import slicer


def placeBeside(inputNode, node) -> None:
    """Puts a node where the input is in the subject hierarchy, such as into its study."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(inputNode) if hierarchy is not None else 0
    if item:
        hierarchy.CreateItem(hierarchy.GetItemParent(item), node)
