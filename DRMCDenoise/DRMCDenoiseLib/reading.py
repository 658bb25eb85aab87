"""Reading: rotating MIP, axial and coronal slices, original above denoised, fused on CT if there is one."""

from __future__ import annotations

import time

import numpy as np
import slicer
from DRMCCoreLib.nodes.jump import crosshairPoint, showCrosshair
from DRMCCoreLib.nodes.suvdisplay import HEAT, INVERTED_GRAY, showWindow
from DRMCCoreLib.nodes.suvunits import suvPerUnit

from DRMCDenoiseLib import readinglayout
from DRMCDenoiseLib.projections import (
    ANGLES,
    ProjectionMaker,
    findBody,
    isProjections,
    projectionsOf,
    removeProjections,
)

INTERVAL_MILLISECONDS = 120  # at least, between two angles
_SHARE_OF_TIME = 3  # the pause after an angle is this many times what the angle took
_CT_WINDOW = 400.0, 40.0  # window and level of soft tissue, HU
_PET_OPACITY = 0.5  # over CT
_HOUNSFIELD = ("[hnsf'U]", "HU")


class Rotation:
    """Turns the projections of both volumes, and computes each angle when it is shown first.

    The pause grows with the time that computing and drawing take, so that a slow computer stays usable.
    """

    def __init__(self, makers: list[ProjectionMaker]):
        import qt  # not where the module is only a library

        self._makers, self._number = makers, 0
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._next)

    def start(self) -> None:
        """Turns from now on."""
        self._timer.start(INTERVAL_MILLISECONDS)

    def stop(self) -> None:
        """The projections stay as they are."""
        self._timer.stop()

    def refresh(self, index: int) -> None:
        """Projects the original (0) or the denoised volume (1) again: its voxels have changed."""
        self._makers[index].refresh(self._number)

    @property
    def isTurning(self) -> bool:
        """Whether another angle follows."""
        return bool(self._timer.active)

    def end(self) -> None:
        """Stops for good."""
        self.stop()
        self._timer.timeout.disconnect(self._next)
        self._makers = []

    def _next(self) -> None:
        start = time.monotonic()
        self._number = (self._number + 1) % ANGLES
        for maker in self._makers:
            maker.make(self._number)
        readinglayout.turnTo(self._number)
        taken = 1000 * (time.monotonic() - start)
        self._timer.start(int(max(INTERVAL_MILLISECONDS, _SHARE_OF_TIME * taken)))


def showReading(inputVolume, outputVolume, *, ctVolume=None, isHeat: bool = False) -> list[ProjectionMaker]:
    """Shows both volumes in the reading layout; returns what makes their projections.

    The windows of the volumes stay. `viewstate.keepViews` and `keepDisplay` are to be called before.
    """
    factor = suvPerUnit(outputVolume)
    body = findBody(inputVolume, factor)
    makers = [ProjectionMaker(node, body) for node in (inputVolume, outputVolume)]
    readinglayout.showLayout(body, startingPoint(inputVolume, body))
    setFusion(inputVolume, outputVolume, ctVolume, isHeat)
    return makers


def setFusion(
    inputVolume, outputVolume, ctVolume=None, isHeat: bool = False, isExchanged: bool = False
) -> None:
    """Puts the volumes into the views, over CT if there is one; exchanged, each side has the other's."""
    volumes = {readinglayout.ORIGINAL: inputVolume, readinglayout.DENOISED: outputVolume}
    if isExchanged:
        volumes = dict(zip(volumes, reversed(list(volumes.values())), strict=True))
    for node, plane, side in readinglayout.sides():
        isMIP = plane == readinglayout.MIP
        shown = projectionsOf(volumes[side]) if isMIP else volumes[side]
        layers = (shown, None) if isMIP or ctVolume is None else (ctVolume, shown)
        with slicer.util.NodeModify(node):
            for layer, set_ in zip(
                layers, (node.SetBackgroundVolumeID, node.SetForegroundVolumeID), strict=True
            ):
                set_(None if layer is None else layer.GetID())
            node.SetForegroundOpacity(_PET_OPACITY)
    readinglayout.setLabels(isExchanged)
    setColors(inputVolume, outputVolume, isHeat, isFused=ctVolume is not None)
    if ctVolume is not None:
        window, level = _CT_WINDOW
        showWindow(ctVolume, level - window / 2, level + window / 2)


def setColors(inputVolume, outputVolume, isHeat: bool, *, isFused: bool) -> None:
    """Inverted gray or PET-Heat; slices over CT are always in PET-Heat, as white would hide the CT."""
    for volume in (inputVolume, outputVolume):
        for node, heat in ((volume, isHeat or isFused), (projectionsOf(volume), isHeat)):
            if node is not None and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetAndObserveColorNodeID(HEAT if heat else INVERTED_GRAY)


def startingPoint(volumeNode, body) -> tuple[float, float, float]:
    """Where the reading begins: at a crosshair that is shown inside the body's box, else inside the body."""
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    place = crosshairPoint()
    if crosshair is not None and crosshair.GetCrosshairMode() != crosshair.NoCrosshair and place is not None:
        local = [0.0, 0.0, 0.0]
        volumeNode.TransformPointFromWorld(place, local)
        bounds = body.bounds()
        if (bounds[:, 0] <= local).all() and (np.array(local) <= bounds[:, 1]).all():
            return place
    showCrosshair(body.inside)
    return body.inside


def endReading() -> None:
    """Removes what the layout needed; views and displays are restored by viewstate."""
    removeProjections()


def findCT(volumeNode):
    """A CT of the scene that overlaps the PET: by its units or its DICOM modality; None without one."""
    bounds = _bounds(volumeNode)
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetClassName() != "vtkMRMLScalarVolumeNode" or node is volumeNode or isProjections(node):
            continue
        if node.GetImageData() is not None and _isCT(node):
            other = _bounds(node)
            if (np.maximum(bounds[:, 0], other[:, 0]) < np.minimum(bounds[:, 1], other[:, 1])).all():
                return node
    return None


def _isCT(volumeNode) -> bool:
    units = volumeNode.GetVoxelValueUnits()
    if units is not None and units.GetCodeValue() in _HOUNSFIELD:
        return True
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    return bool(item) and hierarchy.GetItemAttribute(item, "DICOM.Modality") == "CT"


def _bounds(volumeNode) -> np.ndarray:
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    return np.reshape(bounds, (3, 2))
