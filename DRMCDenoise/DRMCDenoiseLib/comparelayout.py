"""The arrangement of slice views for side by side: the usual three above, three of our own below."""

from __future__ import annotations

import slicer

from . import viewstate

LAYOUT = 6301  # Slicer's own layouts are below 100, each extension takes a number that nobody else has
# View above -> view below it, its orientation, label and color (Slicer's own colors of these views).
VIEWS = {
    "Red": ("DRMCRed", "Axial", "R", "#F34A33"),
    "Yellow": ("DRMCYellow", "Sagittal", "Y", "#EDD54C"),
    "Green": ("DRMCGreen", "Coronal", "G", "#6EB04B"),
}


def showLayout() -> None:
    """Arranges the views side by side, the lower ones at the place of the upper ones; nothing without main window."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    layout = viewstate.layoutNode()
    if not layout.IsLayoutDescription(LAYOUT):
        layout.AddLayoutDescription(LAYOUT, _description())
    manager.setLayout(LAYOUT)
    for upper, (lower, *_rest) in VIEWS.items():
        _placeAs(_sliceNode(upper), _sliceNode(lower))


def sides() -> list[tuple]:
    """The scene's slice composite nodes, each with whether it is one of the lower row.

    Where the views of our own do not exist (without main window) every second view counts as such.
    """
    nodes = viewstate.compositeNodes()
    ours = {lower for lower, *_rest in VIEWS.values()}
    if any(node.GetLayoutName() in ours for node in nodes):
        return [(node, node.GetLayoutName() in ours) for node in nodes]
    return [(node, index % 2 == 1) for index, node in enumerate(nodes)]


def _description() -> str:
    def view(tag: str, orientation: str, label: str, color: str) -> str:
        said = {"orientation": orientation, "viewlabel": label, "viewcolor": color}
        properties = "".join(f'<property name="{k}" action="default">{v}</property>' for k, v in said.items())
        return f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">{properties}</view></item>'

    above = "".join(view(tag, *rest) for tag, (_lower, *rest) in VIEWS.items())
    below = "".join(view(tag, orient, f"{label}d", color) for tag, orient, label, color in VIEWS.values())
    rows = "".join(f'<item><layout type="horizontal">{row}</layout></item>' for row in (above, below))
    return f'<layout type="vertical" split="true">{rows}</layout>'


def _sliceNode(name: str):
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return next((node for node in nodes if node.GetLayoutName() == name), None)


def _placeAs(one, other) -> None:
    """Moves a slice view to the place, the direction and the magnification of another."""
    if one is None or other is None:
        return
    width, _height, depth = one.GetFieldOfView()
    columns, rows, _slices = other.GetDimensions()
    with slicer.util.NodeModify(other):
        other.GetSliceToRAS().DeepCopy(one.GetSliceToRAS())
        other.SetFieldOfView(width, width * rows / max(columns, 1), depth)
        other.UpdateMatrices()
