"""What the engine has written, as MRML nodes: the denoised volume and the tables of lesions and organs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from drmc.denoising.organ_references import sentences
from drmc.errors import DRMCError
from drmc.pet.strength import FULL
from drmc.suv import wording
from DRMCCoreLib.nodes import geometry
from DRMCCoreLib.nodes.names import (
    BODY_CHANGE_ATTRIBUTE,
    COMPARISON_ATTRIBUTE,
    INPUT_REFERENCE,
    INTENDED_USE,
    LOWERED_FOCI_ATTRIBUTE,
    STRENGTH_ATTRIBUTE,
    VIRTUAL_SPOTS_ATTRIBUTE,
)
from DRMCCoreLib.nodes.places import placeBeside
from DRMCCoreLib.nodes.suvunits import SUV_FACTOR_ATTRIBUTE, copyUnits, setSUVUnits
from DRMCCoreLib.nodes.tables import readTable, showTable
from slicer.i18n import tr as _

from DRMCDenoiseLib import organtable
from DRMCDenoiseLib.lesiontable import TEXT_COLUMNS

LESIONS, ORGANS = "lesions.csv", "organs.csv"
_LABEL = re.compile(r" denoised \(DRMC[^)]*\)(_\d+)?$")


def denoisedName(inputName: str, strength: float = FULL) -> str:
    """The name of a new output volume."""
    return f"{inputName} denoised ({_label(strength)})"


def labelStrength(node, strength: float) -> None:
    """Says the strength in the name of a result, where the user has not given it another name."""
    name = _LABEL.sub(lambda match: f" denoised ({_label(strength)}){match[1] or ''}", node.GetName() or "")
    if name != node.GetName():
        node.SetName(name)


def _label(strength: float) -> str:
    return "DRMC" if strength == FULL else _("DRMC, strength {strength:g}").format(strength=strength)


def readDenoised(path: Path, inputNode) -> np.ndarray:
    """The denoised voxels (k, j, i), float32, in the input node's order.

    Raises DRMCError if they are not on its grid.
    """
    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    matrix = geometry.imageMatrix(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    array = geometry.onNodeGrid(sitk.GetArrayFromImage(image), matrix, inputNode)
    if array is None:
        raise DRMCError(f"{path}: the denoised image is not on the grid of '{inputNode.GetName()}'")
    return array


def showDenoised(array: np.ndarray, inputNode, outputNode, summary: dict[str, Any]):
    """Puts the voxels into `outputNode` (a new node if None), with the properties of the input; returns it.

    Same geometry, parent transform, place in the subject hierarchy, units and display as the input.
    """
    isNew = outputNode is None
    node = slicer.vtkMRMLScalarVolumeNode() if isNew else outputNode
    with slicer.util.NodeModify(node):
        fillDenoised(node, array, inputNode, summary)
        if isNew:
            name = denoisedName(inputNode.GetName(), summary["strength"])
            node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
            slicer.mrmlScene.AddNode(node)
    placeLike(inputNode, node)
    return node


def fillDenoised(node, array: np.ndarray, inputNode, summary: dict[str, Any]) -> None:
    """Fills a volume node, in a scene or not, with voxels, geometry, units and provenance."""
    node.CopyOrientation(inputNode)
    slicer.util.updateVolumeFromArray(node, array)
    setUnits(inputNode, node, summary)
    describe(node, summary)
    # Not in `describe`: another strength has no network to measure them, and those of the run stay.
    spots = summary.get("virtual_spots")
    node.SetAttribute(VIRTUAL_SPOTS_ATTRIBUTE, json.dumps(spots) if spots else None)


def describe(node, summary: dict[str, Any]) -> None:
    """Says in a denoised volume how it was made, in its attributes and, with the strength, in its name."""
    for key, value in _attributes(summary).items():
        node.SetAttribute(key, value)
    labelStrength(node, summary["strength"])


def setUnits(inputNode, node, summary: dict[str, Any]) -> None:
    """Sets the units of the input's voxels in a volume node, as Slicer's own modules read them."""
    if _isInSUV(summary):  # also where the node or the user stated it in other words
        setSUVUnits(node)
    else:
        copyUnits(inputNode, node)


def placeLike(inputNode, node) -> None:
    """Puts a volume node of the scene where the input is, and shows it alike."""
    node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
    node.SetNodeReferenceID(INPUT_REFERENCE, inputNode.GetID())
    _copyDisplay(inputNode, node)
    placeBeside(inputNode, node)


@dataclass(frozen=True)
class Tables:
    """The tables of a run; None where it has measured none."""

    lesions: vtk.vtkTable | None
    organs: vtk.vtkTable | None


def readTables(folder: Path, summary: dict[str, Any]) -> Tables:
    """The tables in a run's folder."""
    outputs = summary["outputs"]
    return Tables(
        readLesionTable(folder / LESIONS) if LESIONS in outputs else None,
        readTable(folder / ORGANS, organtable.TEXT_COLUMNS) if ORGANS in outputs else None,
    )


def readLesionTable(path: Path) -> vtk.vtkTable:
    """`lesions.csv` as a table: texts for scan, segment and stage, numbers for the rest (NaN where empty)."""
    return readTable(path, TEXT_COLUMNS)


def joinedTables(tables: list[vtk.vtkTable], names: list[str]) -> vtk.vtkTable:
    """The rows of all tables; in the column `scan` stands the name of the table that each is from."""
    joined = vtk.vtkTable()
    joined.DeepCopy(tables[0])
    for table in tables[1:]:
        for row in range(table.GetNumberOfRows()):
            joined.InsertNextRow(table.GetRow(row))
    rows = [
        name for table, name in zip(tables, names, strict=True) for _row in range(table.GetNumberOfRows())
    ]
    for row, name in enumerate(rows):
        joined.SetValueByName(row, "scan", vtk.vtkVariant(name))
    return joined


def showLesionTable(table: vtk.vtkTable, tableNode, inputNode):
    """Puts the table into `tableNode` (a new node if None) and returns it."""
    if tableNode is None:
        tableNode = slicer.vtkMRMLTableNode()
        tableNode.SetName(slicer.mrmlScene.GenerateUniqueName(f"{inputNode.GetName()} lesions (DRMC)"))
        slicer.mrmlScene.AddNode(tableNode)
    tableNode.SetAndObserveTable(table)
    tableNode.SetNodeReferenceID(INPUT_REFERENCE, inputNode.GetID())
    return tableNode


def showOrganTable(table: vtk.vtkTable, tableNode, inputNode, summary: dict[str, Any]):
    """Puts organs before and after into `tableNode` (a new node if None), with their strength; returns it."""
    name = _("{name} organs before and after (DRMC)").format(name=inputNode.GetName())
    tableNode = showTable(table, tableNode, name, inputNode)
    told = "\n".join(f"{text}." for text in sentences(summary["organs"]["references"]))
    tableNode.SetAttribute(organtable.REFERENCES_ATTRIBUTE, told or None)
    tableNode.SetAttribute(STRENGTH_ATTRIBUTE, repr(float(summary["strength"])))
    return tableNode


def _isInSUV(summary: dict[str, Any]) -> bool:
    """Whether the voxels are SUV by body weight as they are."""
    suv = summary["suv"]
    stored = suv.get("facts", {}).get("stored_suv_type") or "SUVbw"
    same = suv["type"] == stored == "SUVbw" and suv["factor"] == 1
    return same and summary["input"]["units"] in ("SUV", "GML")


def _attributes(summary: dict[str, Any]) -> dict[str, str | None]:
    """What the saved scene keeps of the run: how the volume was made, and what to measure it again takes."""
    suv = summary["suv"]
    # A factor that differs from slice to slice cannot be one number: the volume is then known by its
    # source only.
    factor = {} if suv.get("factor_per_slice") else {SUV_FACTOR_ATTRIBUTE: repr(float(suv["factor"]))}
    return {
        **factor,
        "DRMC.SUVRule": str(suv["rule"]),
        "DRMC.SUVWarnings": wording.cell(suv.get("warnings") or ()) or None,
        "DRMC.Model": str(summary["model"]["name"]),
        "DRMC.ModelSHA256": str(summary["model"]["sha256"]),
        "DRMC.Version": str(summary["versions"]["drmc"]),
        STRENGTH_ATTRIBUTE: repr(float(summary["strength"])),
        INTENDED_USE[0]: INTENDED_USE[1],
        BODY_CHANGE_ATTRIBUTE: json.dumps(summary["body"]) if summary.get("body") else None,
        COMPARISON_ATTRIBUTE: _comparison(summary.get("reference")),
        LOWERED_FOCI_ATTRIBUTE: _lowered(summary.get("lowered_foci")),
    }


def _comparison(reference: dict[str, Any] | None) -> str | None:
    """Bias, PSNR and SSIM of original and denoised against full dose, as JSON; None without full dose."""
    if reference is None:
        return None
    found = {key: reference[key] for key in ("psnr", "ssim")}
    patient = reference.get("lesions", {}).get("patient", {})
    for key in ("B_mean", "B_max"):
        found[key] = {stage: numbers.get(key) for stage, numbers in patient.items()}
    return json.dumps(found)


def _lowered(found: dict[str, Any] | None) -> str | None:
    """The list of lowered foci as JSON; None where none was."""
    return json.dumps(found) if found and found["count"] else None


def _copyDisplay(inputNode, node) -> None:
    node.CreateDefaultDisplayNodes()
    source, target = inputNode.GetDisplayNode(), node.GetDisplayNode()
    if source is None or target is None or not source.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return
    with slicer.util.NodeModify(target):
        target.SetAndObserveColorNodeID(source.GetColorNodeID())
        target.SetInterpolate(source.GetInterpolate())
        # An automatic window would follow each image's own range: the two would not look alike where they
        # are.
        target.SetAutoWindowLevel(False)
        target.SetWindowLevel(source.GetWindow(), source.GetLevel())
