"""The arrangement of slice views for side by side: the usual three above, three of our own below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk

from DRMCDenoiseLib import viewstate

LAYOUT = 6301  # Slicer's own layouts are below 100, each extension takes a number that nobody else has
PAUSE_MILLISECONDS, PATIENCE = 20, 25  # views keep their sizes after one to three pauses
_AFTERWARDS = 15  # pauses in which views may get other sizes by their being arranged
# View above -> view below it, its orientation, label and color (Slicer's own colors of these views).
VIEWS = {
    "Red": ("DRMCRed", "Axial", "R", "#F34A33"),
    "Yellow": ("DRMCYellow", "Sagittal", "Y", "#EDD54C"),
    "Green": ("DRMCGreen", "Coronal", "G", "#6EB04B"),
}


def showLayout() -> None:
    """Arranges the views side by side, the lower ones at the place of the upper ones, all linked.

    Without main window there is nothing to arrange: the views of the scene are linked at once.

    Views that a layout makes get their size, and reset their offset, only when they are shown first, and
    would tell it to all that are linked with them. So nothing is linked before they have come to rest, and
    all are put in place again then.
    """
    manager = slicer.app.layoutManager()
    if manager is None:
        _setLinked(True)
        return
    describeTo(viewstate.layoutNode())
    _setLinked(False)
    places = {upper: Place(sliceNode(upper)) for upper in VIEWS if sliceNode(upper) is not None}
    manager.setLayout(LAYOUT)
    _arrange(places)
    Rest(LAYOUT, _names(), lambda: (_arrange(places), _setLinked(True))).wait()


def describeTo(layoutNode) -> None:
    """Says once to Slicer what this layout is."""
    viewstate.describeLayout(layoutNode, LAYOUT, _description())


class Place:
    """Where a slice view is: its plane, and the width in mm of what it shows."""

    def __init__(self, sliceNode):
        self.plane = vtk.vtkMatrix4x4()
        self.plane.DeepCopy(sliceNode.GetSliceToRAS())
        self.width = sliceNode.GetFieldOfView()[0]

    def apply(self, sliceNode) -> None:
        """Moves a slice view to this place."""
        columns, rows, _slices = sliceNode.GetDimensions()
        with slicer.util.NodeModify(sliceNode):
            sliceNode.GetSliceToRAS().DeepCopy(self.plane)
            depth = sliceNode.GetFieldOfView()[2]
            sliceNode.SetFieldOfView(self.width, self.width * rows / max(columns, 1), depth)
            sliceNode.UpdateMatrices()


class Rest:
    """Waits until the views of a layout keep their sizes, then calls `arrange` if it still is shown.

    The bar of a view is wider where its offset has more digits: if the sizes change by the arranging, it is
    done once more.
    """

    _waiting = None  # the one that waits; an earlier one gives up

    def __init__(self, layout: int, names: list[str], arrange: Callable[[], Any]):
        self._layout, self._names, self._doArrange = layout, names, arrange
        self._sizes, self._patience = None, PATIENCE
        self._isArranged = self._isWatching = False

    def wait(self) -> None:
        """Starts to wait; returns at once."""
        import qt  # not where the module is only a library

        Rest._waiting = self
        self._timer = qt.QTimer()
        self._timer.setInterval(PAUSE_MILLISECONDS)
        self._timer.timeout.connect(self._onPause)
        self._timer.start()

    def _onPause(self) -> None:
        layout = viewstate.layoutNode()
        if Rest._waiting is not self or layout is None or layout.GetViewArrangement() != self._layout:
            self._timer.stop()
            return
        sizes = [sliceNode(name).GetDimensions() for name in self._names]
        self._patience -= 1
        if sizes != self._sizes and self._patience:
            self._sizes, self._isArranged = sizes, False
            return
        if not self._isArranged:
            self._isArranged = True
            self._doArrange()
        if not self._isWatching:
            self._isWatching, self._patience = True, _AFTERWARDS
        elif not self._patience:
            self._timer.stop()
            Rest._waiting = None


def _names() -> list[str]:
    return [name for upper, (lower, *_rest) in VIEWS.items() for name in (upper, lower)]


def _arrange(places: dict[str, Place]) -> None:
    for upper, place in places.items():
        for name in (upper, VIEWS[upper][0]):
            node = sliceNode(name)
            if node is not None:
                place.apply(node)


def _setLinked(isLinked: bool) -> None:
    for node in viewstate.compositeNodes():
        with slicer.util.NodeModify(node):
            viewstate.setLinked(node, isLinked)


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
        named = {"orientation": orientation, "viewlabel": label, "viewcolor": color}
        properties = "".join(
            f'<property name="{k}" action="default">{v}</property>' for k, v in named.items()
        )
        return f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">{properties}</view></item>'

    above = "".join(view(tag, *rest) for tag, (_lower, *rest) in VIEWS.items())
    below = "".join(view(tag, orient, f"{label}d", color) for tag, orient, label, color in VIEWS.values())
    rows = "".join(f'<item><layout type="horizontal">{row}</layout></item>' for row in (above, below))
    return f'<layout type="vertical" split="true">{rows}</layout>'


def sliceNode(name: str):
    """The slice node of a view by its layout name, or None."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return next((node for node in nodes if node.GetLayoutName() == name), None)
