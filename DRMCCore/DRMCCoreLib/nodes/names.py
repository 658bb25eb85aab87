"""Names of node references and attributes, and of nodes as files. Loads nothing of the engine."""

from __future__ import annotations

import re

INPUT_REFERENCE = "DRMC.Input"  # of every result: the volume that was denoised
COMPARISON_ATTRIBUTE = (
    "DRMC.FullDoseComparison"  # of a denoised volume: JSON of how near to full dose it came
)
STRENGTH_ATTRIBUTE = "DRMC.Strength"  # of a denoised volume: the share of the residual that was added
LOWERED_FOCI_ATTRIBUTE = (
    "DRMC.LoweredFoci"  # of a denoised volume: JSON of the foci that were lowered by more than noise explains
)
BODY_CHANGE_ATTRIBUTE = "DRMC.BodyChange"  # of a denoised volume: JSON of mean and noise in the body
VIRTUAL_SPOTS_ATTRIBUTE = "DRMC.VirtualSpots"  # of a denoised volume: JSON of what is kept of virtual spots
INTENDED_USE = (
    "DRMC.IntendedUse",
    "Research use only",
)  # attribute and value on every volume that DRMC makes


_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # of Windows, whatever the ending


def fileName(name: str) -> str:
    """A node's name as a file name on any system."""
    found = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(". ")[:100].strip(". ") or "volume"
    return f"_{found}" if _DEVICE.match(found) else found
