"""Lesion candidates as segments: `drmc candidates` in a child process, its segments into a segmentation node.

A candidate is uptake above a threshold, not a finding: the user keeps or deletes each.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from drmc.errors import InputError
from drmc.measures.mtv import LIVER
from DRMCCoreLib.nodes.geometry import betweenFrames
from DRMCCoreLib.nodes.names import INPUT_REFERENCE
from DRMCCoreLib.nodes.segmentations import lesionFile, newSegmentation
from DRMCCoreLib.nodes.volumes import engineInput
from DRMCCoreLib.process.query import ask
from slicer.i18n import tr as _

_MARK = "DRMC.Candidates"  # attribute of a segmentation that a search has made
_PREFIX = "candidate "  # of the engine's names


class CandidateSearch:
    """One search under way; the scene changes at its end, and only if all went well."""

    def __init__(self, onDone: Callable[[dict[str, Any] | None, str], Any]):
        """`onDone`: called with what `drmc candidates --json` prints, or None and the reason."""
        self.liverNode: Any = None  # whose liver gives PERCIST's threshold
        self._onDone = onDone
        self._folder: Path | None = None
        self._job: Any = None

    def start(
        self,
        volumeNode,
        *,
        suv: float | None = None,
        liver=None,
        pointRAS=None,
        voxels: str | float | None = None,
        acceptRule: str | None = None,
        headerValues: dict[str, str] | None = None,
    ) -> None:
        """Starts to look for candidates; returns at once.

        Args:
            volumeNode: Where to look.
            suv: A fixed threshold; None: PERCIST's.
            liver: PERCIST: a segmentation with a segment called liver.
            pointRAS: PERCIST without such a segmentation: the center of a sphere in the liver (world, RAS).
            voxels: What the voxels are where the node does not say, as for `DRMCDenoiseLogic.process`.
            acceptRule: As for `DRMCDenoiseLogic.process`.
            headerValues: As for `DRMCDenoiseLogic.process`.

        Raises:
            InputError: The volume or the liver is refused.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="DRMC-", dir=slicer.app.temporaryPath))
        try:
            scan = engineInput(volumeNode, _made(self._folder / "input"), voxels)
            options = scan.options()
            if suv is not None:
                options += ["--threshold", repr(float(suv))]
            elif liver is not None:
                self.liverNode = liver
                organs = lesionFile(liver, volumeNode, _made(self._folder / "organs"))
                options += ["--organs", str(organs.path)]
            else:
                options += ["--liver-sphere", *map(repr, _positionLPS(volumeNode, pointRAS))]
            if acceptRule:
                options += ["--accept-suv", acceptRule]
            options += [
                part for item in (headerValues or {}).items() for part in ("--header", "=".join(item))
            ]
        except BaseException:
            self._removeFolder()
            raise
        self._job = ask(
            self._onAnswer, "candidates", scan.path, "-o", self._folder / "found.seg.nrrd", *options
        )

    def end(self) -> None:
        """Ends the search at once, without an answer."""
        job, self._job = self._job, None
        if job is not None:
            job.end()
        self._removeFolder()

    def takeInto(self, segmentationNode, volumeNode):
        """Puts what was found into a segmentation, for `onDone` to call; returns it.

        A segmentation of an earlier search in the same scan is filled again, without the candidates of that
        search; any other stays as it is, and a new one is made.
        """
        assert self._folder is not None
        path = self._folder / "found.seg.nrrd"
        found = slicer.vtkMRMLSegmentationNode()
        if path.is_file():
            storage = slicer.vtkMRMLSegmentationStorageNode()
            storage.SetFileName(str(path))
            if not storage.ReadData(found):
                raise InputError(_("the candidates cannot be read"))
        node, scan = segmentationNode, volumeNode.GetNodeReference(INPUT_REFERENCE) or volumeNode
        isAgain = node is not None and node.GetAttribute(_MARK)
        if not isAgain or node.GetNodeReferenceID(INPUT_REFERENCE) != scan.GetID():
            node = newSegmentation(volumeNode)
            node.SetName(
                slicer.mrmlScene.GenerateUniqueName(
                    _("Candidates in {volume}").format(volume=volumeNode.GetName())
                )
            )
            node.SetAttribute(_MARK, "yes")
            node.SetNodeReferenceID(INPUT_REFERENCE, scan.GetID())
        segmentation = node.GetSegmentation()
        for segmentID in list(segmentation.GetSegmentIDs()):
            if segmentation.GetSegment(segmentID).GetName().startswith(_PREFIX):
                segmentation.RemoveSegment(segmentID)
        if path.is_file():
            transform = betweenFrames(volumeNode, node, volumeNode)
            if transform is not None:  # the scan was moved since the first search
                found.ApplyTransform(transform)
            for segmentID in found.GetSegmentation().GetSegmentIDs():
                segmentation.CopySegmentFromSegmentation(found.GetSegmentation(), segmentID)
        return node

    def _onAnswer(self, found: dict[str, Any] | None, message: str) -> None:
        self._job = None
        try:
            self._onDone(found, message)
        finally:
            self._removeFolder()

    def _removeFolder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def findLiver(*first):
    """A segmentation with a segment called liver: one of `first`, in their order, else any of the scene."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    for node in [*(one for one in first if one is not None), *nodes]:
        segmentation = node.GetSegmentation()
        names = [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]
        if any(name.strip().casefold() == LIVER for name in names):
            return node
    return None


def foundText(found: dict[str, Any], volumeName: str, liverNode=None) -> str:
    """What was found and by which threshold, in words, with the segmentation whose liver was taken."""
    threshold = found["threshold"]
    how = _("SUV {suv:.2f} or more").format(suv=threshold["suv"])
    if threshold["method"] == "percist":
        liver = threshold["liver"]
        if liverNode is not None:
            liver = _("{segment} in '{segmentation}'").format(segment=liver, segmentation=liverNode.GetName())
        how += _(" (PERCIST: 1.5 x {mean:.2f} + 2 x {sd:.2f} of {liver})").format(
            mean=threshold["liver_mean_suv"], sd=threshold["liver_sd_suv"], liver=liver
        )
    count = len(found["candidates"])
    words = (
        _("{count} candidates in '{name}' with {how}.")
        if count != 1
        else _("1 candidate in '{name}' with {how}.")
    )
    text = words.format(count=count, name=volumeName, how=how)
    if count:
        text += " " + _("Delete what is no lesion, then Apply measures the rest.")
    return text


def _positionLPS(volumeNode, pointRAS) -> tuple[float, float, float]:
    local = [0.0, 0.0, 0.0]
    volumeNode.TransformPointFromWorld(pointRAS, local)
    r, a, s = local
    return -r, -a, s


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
