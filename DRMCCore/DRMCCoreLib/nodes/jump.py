"""Goes to a place: slices through it, and the crosshair on it."""

from __future__ import annotations

from collections.abc import Sequence

import slicer


def worldPoint(pointLPS: Sequence[float], volumeNode) -> tuple[float, float, float]:
    """World coordinates (RAS, mm) of a point in the scan's own frame (LPS, mm).

    The engine's tables have points in the scan's frame. A transform that `volumeNode` is under is applied.
    """
    x, y, z = pointLPS
    point = [0.0, 0.0, 0.0]
    volumeNode.TransformPointToWorld((-x, -y, z), point)
    return tuple(point)


def jumpTo(pointRAS: Sequence[float]) -> None:
    """Centers every slice view on a world point (RAS, mm) and shows the crosshair there.

    Views of a group of their own show no place of the scan.
    """
    for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if sliceNode.GetViewGroup() == 0:
            sliceNode.JumpSliceByCentering(*pointRAS)
    showCrosshair(pointRAS)


def showCrosshair(pointRAS: Sequence[float]) -> None:
    """Puts the crosshair on a world point (RAS, mm), and shows it."""
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS(*pointRAS)
        if crosshair.GetCrosshairMode() == crosshair.NoCrosshair:
            crosshair.SetCrosshairMode(crosshair.ShowBasic)


def crosshairPoint() -> tuple[float, float, float] | None:
    """Where the crosshair is (world, mm)."""
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    return None if crosshair is None else tuple(crosshair.GetCrosshairRAS())
