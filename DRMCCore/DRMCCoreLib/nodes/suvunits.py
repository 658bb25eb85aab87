"""What a volume node says its voxels are: SUV, or activity with a known SUV factor, or neither."""

from __future__ import annotations

import re

import slicer

SUV_CODE = ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")
SUV_QUANTITY = ("126400", "DCM", "Standardized Uptake Value")
SUV_FACTOR_ATTRIBUTE = "DRMC.SUVFactor"


def declaredUnits(volumeNode) -> str | None:
    """The code of the node's voxel units, e.g. `{SUVbw}g/ml` or `Bq/ml`; None if the node does not say."""
    units = volumeNode.GetVoxelValueUnits()
    return None if units is None else units.GetCodeValue() or None


def isSUV(units: str | None) -> bool:
    """Whether this code of units is that of SUV by body weight, in any spelling met."""
    return units is not None and bool(re.fullmatch(r"\{?SUV(bw)?\}?(g/ml)?|g/ml", units, re.IGNORECASE))


def suvPerUnit(volumeNode) -> float | None:
    """SUV of one unit of the node, as a run has left it there or by its units; None where unknown."""
    factor = volumeNode.GetAttribute(SUV_FACTOR_ATTRIBUTE)
    if factor:
        return float(factor)
    return 1.0 if isSUV(declaredUnits(volumeNode)) else None


def setSUVUnits(volumeNode) -> None:
    """Says in the node that its voxels are SUVbw, as Segment Statistics and the data probe read it."""
    for code, setCode in (
        (SUV_QUANTITY, volumeNode.SetVoxelValueQuantity),
        (SUV_CODE, volumeNode.SetVoxelValueUnits),
    ):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*code)
        setCode(entry)


def copyUnits(source, volumeNode) -> None:
    """Says in the node that its voxels are in the units of another, also where that one does not say."""
    volumeNode.SetVoxelValueQuantity(source.GetVoxelValueQuantity())
    volumeNode.SetVoxelValueUnits(source.GetVoxelValueUnits())
