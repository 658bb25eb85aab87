"""The views of the reading layout: rotating MIP, axial and coronal slices, original above denoised.

Three columns fit on a screen of 1,440 pixels; four would not, as a view cannot be narrower than its bar.
"""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from DRMCDenoiseLib import comparelayout, viewstate
from DRMCDenoiseLib.projections import FIRST_MM, STEP_DEGREES

LAYOUT = 6302
MIP, AXIAL, CORONAL = "MIP", "Axial", "Coronal"
ORIGINAL, DENOISED = "Original", "Denoised"
_COLORS = {MIP: "#8C8C8C", AXIAL: "#F34A33", CORONAL: "#6EB04B"}
_VIEW_GROUP = LAYOUT  # of the projections: their third axis is no place, so no view of slices may follow them
_MARGIN = 1.05  # of the body in a view


def viewName(plane: str, side: str) -> str:
    """The name of a view: what Slicer calls its layout name."""
    return f"DRMC{plane}{side}"


def viewNames() -> list[str]:
    """The names of all views of the layout."""
    return [viewName(plane, side) for plane in (MIP, AXIAL, CORONAL) for side in (ORIGINAL, DENOISED)]


def showLayout(body, point) -> None:
    """Arranges the views, each pair at one place with one field of view around the body; links each pair.

    `body`: projections.Body; `point`: where the slices are (world, RAS). Without main window there is nothing
    to arrange.
    """
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    describeTo(viewstate.layoutNode())
    manager.setLayout(LAYOUT)
    _hideAngles(manager)
    _setLinked(False)
    _arrange(body, point)
    comparelayout.Rest(LAYOUT, viewNames(), lambda: (_arrange(body, point), _setLinked(True))).wait()


def describeTo(layoutNode) -> None:
    """Says once to Slicer what this layout is."""
    viewstate.describeLayout(layoutNode, LAYOUT, _description())


def sides() -> list[tuple]:
    """The slice composite nodes of the layout, each with its plane and its side; those that exist."""
    nodes = {node.GetLayoutName(): node for node in viewstate.compositeNodes()}
    return [
        (nodes[viewName(plane, side)], plane, side)
        for plane in (MIP, AXIAL, CORONAL)
        for side in (ORIGINAL, DENOISED)
        if viewName(plane, side) in nodes
    ]


def turnTo(number: int) -> None:
    """Shows the projections of an angle in both views."""
    for side in (ORIGINAL, DENOISED):
        node = comparelayout.sliceNode(viewName(MIP, side))
        if node is not None:
            node.SetSliceOffset(FIRST_MM - STEP_DEGREES * number)


def setLabels(isExchanged: bool) -> None:
    """Says in each view whose image it shows."""
    names = {ORIGINAL: _("O"), DENOISED: _("D")}  # a label has room for two letters
    for plane in (MIP, AXIAL, CORONAL):
        for side, other in ((ORIGINAL, DENOISED), (DENOISED, ORIGINAL)):
            node = comparelayout.sliceNode(viewName(plane, side))
            if node is not None:
                node.SetLayoutLabel(names[other if isExchanged else side])


def _arrange(body, point) -> None:
    # Projections lie in the scan's own frame, slices in the world, where a registration may have put it.
    (own, ownExtent), (middle, extent) = map(_middleAndExtent, (body.bounds(), body.worldBounds))
    turned = float((ownExtent[0] ** 2 + ownExtent[1] ** 2) ** 0.5)
    for plane, center, width, height in (
        (MIP, (own[0], None, own[2]), turned, ownExtent[2]),
        (AXIAL, (middle[0], middle[1], point[2]), extent[0], extent[1]),
        (CORONAL, (middle[0], point[1], middle[2]), extent[0], extent[2]),
    ):
        nodes = [comparelayout.sliceNode(viewName(plane, side)) for side in (ORIGINAL, DENOISED)]
        nodes = [node for node in nodes if node is not None]
        shapes = [node.GetDimensions() for node in nodes]
        for node in nodes:  # the wider of the two needs, so that both views have one scale
            widest = max(max(width, height * columns / max(rows, 1)) for columns, rows, _one in shapes)
            _place(node, plane, center, widest * _MARGIN)


def _middleAndExtent(bounds):
    return bounds.mean(axis=1), bounds[:, 1] - bounds[:, 0]


def _place(node, plane: str, center, width: float) -> None:
    columns, rows, _slices = node.GetDimensions()
    with slicer.util.NodeModify(node):
        if plane == MIP:
            node.SetViewGroup(_VIEW_GROUP)
            isOther = node.GetSliceOffset() > FIRST_MM  # where the view was made
            center = center[0], FIRST_MM if isOther else node.GetSliceOffset(), center[2]
        node.SetOrientation(CORONAL if plane == MIP else plane)
        for axis in range(3):
            node.GetSliceToRAS().SetElement(axis, 3, float(center[axis]))
        node.SetXYZOrigin(0.0, 0.0, 0.0)
        depth = node.GetFieldOfView()[2]
        node.SetFieldOfView(width, width * rows / max(columns, 1), depth)
        node.UpdateMatrices()


def _hideAngles(manager) -> None:
    """Projections have no slider: it would call their angle a place in mm, and the views would be wider."""
    for side in (ORIGINAL, DENOISED):
        widget = manager.sliceWidget(viewName(MIP, side))
        if widget is not None:
            widget.sliceController().sliceOffsetSlider().setVisible(False)


def _setLinked(isLinked: bool) -> None:
    for node, _plane, _side in sides():
        with slicer.util.NodeModify(node):
            viewstate.setLinked(node, isLinked)


def _description() -> str:
    def view(plane: str, side: str) -> str:
        orientation = CORONAL if plane == MIP else plane
        named = {"orientation": orientation, "viewlabel": side[0], "viewcolor": _COLORS[plane]}
        if plane == MIP:
            named["viewgroup"] = str(_VIEW_GROUP)
        properties = "".join(
            f'<property name="{name}" action="default">{value}</property>' for name, value in named.items()
        )
        return (
            f'<item><view class="vtkMRMLSliceNode" singletontag="{viewName(plane, side)}">{properties}</view>'
            "</item>"
        )

    def row(side: str) -> str:
        views = "".join(view(plane, side) for plane in (MIP, AXIAL, CORONAL))
        return f'<item><layout type="horizontal">{views}</layout></item>'

    return f'<layout type="vertical" split="true">{row(ORIGINAL)}{row(DENOISED)}</layout>'
