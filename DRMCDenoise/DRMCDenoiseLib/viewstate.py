"""Earlier state of slice views and displays, stored in their nodes: a saved scene has it too."""

from __future__ import annotations

import slicer

PREFIX = "DRMC.Before."
_COMPOSITE_NUMBERS = ("ForegroundOpacity", "LinkedControl", "HotLinkedControl")
_COMPOSITE_VOLUMES = ("BackgroundVolumeID", "ForegroundVolumeID")
_DISPLAY_NUMBERS = ("Window", "Level", "AutoWindowLevel")
_SEGMENTATION_NUMBERS = ("Visibility2DFill",)


def compositeNodes() -> list:
    """The scene's slice composite nodes: what each slice view shows."""
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def layoutNode():
    """The node that says how the views are arranged, or None without main window."""
    manager = slicer.app.layoutManager()
    return None if manager is None else manager.layoutLogic().GetLayoutNode()


def describeLayout(layoutNode, layout: int, description: str) -> None:
    """Says once to Slicer what the layout of this number is, as XML."""
    if not layoutNode.IsLayoutDescription(layout):
        layoutNode.AddLayoutDescription(layout, description)


def setLinked(node, isLinked: bool) -> None:
    """Whether a slice view follows the others, also while the mouse is held down."""
    node.SetLinkedControl(isLinked)
    node.SetHotLinkedControl(isLinked)


def keepViews() -> None:
    """Stores the content of all slice views and their arrangement until `restoreViews`."""
    for node in compositeNodes():
        for name in _COMPOSITE_VOLUMES:
            node.SetNodeReferenceID(PREFIX + name, getattr(node, f"Get{name}")())
        _keepNumbers(node, _COMPOSITE_NUMBERS)
    if (layout := layoutNode()) is not None:
        _keepNumbers(layout, ("ViewArrangement",))


def restoreViews() -> None:
    """Restores the views after `keepViews`; a view that did not exist then is emptied and unlinked."""
    nodes = compositeNodes()
    if not any(_isKept(node) for node in nodes):
        return
    if (layout := layoutNode()) is not None:
        _restoreNumbers(layout, ("ViewArrangement",))
    for node in nodes:
        with slicer.util.NodeModify(node):
            if not _isKept(node):
                setLinked(node, False)
            for name in _COMPOSITE_VOLUMES:
                before = node.GetNodeReference(PREFIX + name)
                getattr(node, f"Set{name}")(None if before is None else before.GetID())
                node.SetNodeReferenceID(PREFIX + name, None)
            _restoreNumbers(node, _COMPOSITE_NUMBERS)


def keepDisplay(volumeNode) -> None:
    """Stores window and colors of a volume until `restoreDisplays`, unless they are stored already."""
    volumeNode.CreateDefaultDisplayNodes()
    node = volumeNode.GetScalarVolumeDisplayNode()
    if not _isKept(node):
        node.SetNodeReferenceID(PREFIX + "Color", node.GetColorNodeID())
        _keepNumbers(node, _DISPLAY_NUMBERS)


def restoreDisplays() -> None:
    """Restores the windows and colors of all volumes."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeDisplayNode"):
        if _isKept(node):
            with slicer.util.NodeModify(node):
                color = node.GetNodeReference(PREFIX + "Color")
                node.SetAndObserveColorNodeID(None if color is None else color.GetID())
                node.SetNodeReferenceID(PREFIX + "Color", None)
                _restoreNumbers(node, _DISPLAY_NUMBERS)


def outlineSegmentations() -> None:
    """Shows all segmentations as outlines, which leave the uptake visible, until `restoreSegmentations`."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"):
        if not _isKept(node):
            _keepNumbers(node, _SEGMENTATION_NUMBERS)
        node.SetVisibility2DFill(False)


def restoreSegmentations() -> None:
    """Shows all segmentations as they were before `outlineSegmentations`."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"):
        _restoreNumbers(node, _SEGMENTATION_NUMBERS)


def _isKept(node) -> bool:
    return any(name.startswith(PREFIX) for name in node.GetAttributeNames())


def _keepNumbers(node, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(node, f"Get{name}")()
        node.SetAttribute(PREFIX + name, repr(int(value) if isinstance(value, bool) else value))


def _restoreNumbers(node, names: tuple[str, ...]) -> None:
    for name in names:
        text = node.GetAttribute(PREFIX + name)
        if text is not None:
            current = getattr(node, f"Get{name}")()
            getattr(node, f"Set{name}")(type(current)(float(text)))
            node.SetAttribute(PREFIX + name, None)
