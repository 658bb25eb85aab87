"""What the engine has written, as MRML nodes: organs, uptake above a threshold, and their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import slicer
import vtk
from drmc.errors import DRMCError
from DRMCCoreLib.nodes.names import INPUT_REFERENCE, INTENDED_USE
from DRMCCoreLib.nodes.places import placeBeside
from DRMCCoreLib.nodes.suvunits import SUV_FACTOR_ATTRIBUTE
from DRMCCoreLib.nodes.tables import readTable
from slicer.i18n import tr as _

from DRMCSegmentLib.organtable import TEXT_COLUMNS
from DRMCSegmentLib.uptaketable import TEXT_COLUMNS as UPTAKE_TEXT_COLUMNS
from DRMCSegmentLib.uptaketable import setMarkedShown

ORGANS, ORGAN_TABLE = "organs.seg.nrrd", "organs.csv"
UPTAKE, UPTAKE_TABLE = "uptake.seg.nrrd", "uptake.csv"
REFERENCES_ATTRIBUTE = "DRMC.References"  # of organs: JSON of PERCIST's reference regions
UPTAKE_ATTRIBUTE = "DRMC.Uptake"  # of organs: JSON of threshold and totals
LESIONS_ATTRIBUTE = "DRMC.LesionMarks"  # of organs: JSON of what the lesions that were given lie in
WARNINGS_ATTRIBUTE = "DRMC.Warnings"  # of organs: JSON of the scan's warnings
_FILL = 0.25  # opacity, so that the uptake below is seen


def readSegments(path: Path):
    """The segmentation of a file as a node outside the scene. Raises DRMCError if it cannot be read."""
    node = slicer.vtkMRMLSegmentationNode()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise DRMCError(f"{path}: the segmentation cannot be read")
    return node


def readOrganTable(path: Path) -> vtk.vtkTable:
    """organs.csv as a table."""
    return readTable(path, TEXT_COLUMNS)


def readUptakeTable(path: Path) -> vtk.vtkTable:
    """uptake.csv as a table."""
    return readTable(path, UPTAKE_TEXT_COLUMNS)


def showOrgans(found, inputNode, node, summary: dict[str, Any]):
    """Puts the organs into a segmentation (a new node if None) that lies where the input is; returns it."""
    node = _filled(found, inputNode, node, _("{name} organs (DRMC)").format(name=inputNode.GetName()))
    return describe(node, inputNode, summary)


def describe(node, inputNode, summary: dict[str, Any]):
    """Says in a segmentation of organs what was measured, and by which model they were made; returns it."""
    node.SetNodeReferenceID(INPUT_REFERENCE, inputNode.GetID())
    model = summary["model"]
    attributes = {
        "DRMC.Model": None if model is None else str(model["name"]),
        "DRMC.ModelSHA256": None if model is None else str(model["sha256"]),
        "DRMC.Version": str(summary["versions"]["drmc"]),
        INTENDED_USE[0]: INTENDED_USE[1],
        SUV_FACTOR_ATTRIBUTE: _factor(summary["suv"]),
        REFERENCES_ATTRIBUTE: json.dumps(summary["references"]),
        UPTAKE_ATTRIBUTE: json.dumps(summary["uptake"]) if summary["uptake"] else None,
        LESIONS_ATTRIBUTE: json.dumps(summary["lesions"]) if summary["lesions"] else None,
        WARNINGS_ATTRIBUTE: json.dumps(summary["warnings"]) if summary["warnings"] else None,
    }
    for key, value in attributes.items():
        if model is not None or not key.startswith("DRMC.Model"):  # measured again, they stay a model's
            node.SetAttribute(key, value)
    return node


def _factor(suv: dict[str, Any] | None) -> str | None:
    """The SUV of one unit; None where it is unknown, or differs from slice to slice."""
    return None if suv is None or suv.get("factor_per_slice") else repr(float(suv["factor"]))


def showUptake(found, inputNode, node, summary: dict[str, Any]):
    """Puts the parts above the threshold into a segmentation; what is marked is hidden. None without any."""
    if found is None:
        if node is not None:
            node.GetSegmentation().RemoveAllSegments()
        return node
    name = _("{name} uptake (DRMC)").format(name=inputNode.GetName())
    node = _filled(found, inputNode, node, name)
    node.SetAttribute(*INTENDED_USE)
    setMarkedShown(node, False)
    return node


def keptJSON(node, attribute: str, default: Any) -> Any:
    """What an attribute of a node holds as JSON, or the default without node or attribute."""
    text = None if node is None else node.GetAttribute(attribute)
    return json.loads(text) if text else default


def _filled(found, inputNode, node, name: str):
    """A segmentation node (a new one of that name if None) with the segments of another, for the input."""
    if node is None:
        node = slicer.vtkMRMLSegmentationNode()
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        slicer.mrmlScene.AddNode(node)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetOpacity2DFill(_FILL)
        node.GetDisplayNode().SetVisibility3D(False)
    source, target = found.GetSegmentation(), node.GetSegmentation()
    with slicer.util.NodeModify(node):
        target.RemoveAllSegments()
        for segmentID in source.GetSegmentIDs():
            target.CopySegmentFromSegmentation(source, segmentID)
        node.SetReferenceImageGeometryParameterFromVolumeNode(inputNode)
        node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
        node.SetNodeReferenceID(INPUT_REFERENCE, inputNode.GetID())
    placeBeside(inputNode, node)
    return node
