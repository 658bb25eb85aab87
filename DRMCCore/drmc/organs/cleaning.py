"""Labels of organs put in order: stray parts, wrong sides, traces of organs, and holes.

Arrays (z, y, x) on the grid of the organs. Every step is counted, so that a report can say what was changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from drmc.organs.grid import ORGAN_MM
from drmc.organs.table import MIDDLE, RIGHT, OrganClass, classes, opposite

VOXEL_ML = ORGAN_MM**3 / 1000
PART_SHARE = 0.1
"""A part of a single organ that is smaller than this share of the largest one goes."""
PART_ML = 2.0
"""A part smaller than this of an organ that may have several goes."""
SIDE_SHARE = 0.95
"""A part of which more than this share lies on the other side of the body's middle changes its side."""
TRACE = 0.1
"""An organ of less than this share of its smallest plausible volume goes."""
_AT_EDGE = 0.1
"""The same where the scan's end may cut it."""


@dataclass
class Changes:
    """Volumes that were changed [ml], by name of the organ."""

    parts: dict[str, float] = field(default_factory=dict)
    sides: dict[str, float] = field(default_factory=dict)
    traces: dict[str, float] = field(default_factory=dict)
    holes: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """JSON-able, to a tenth of a milliliter."""
        return {step: {k: round(v, 1) for k, v in found.items()} for step, found in vars(self).items()}


def cleaned(labels_zyx: np.ndarray, middle: float) -> tuple[np.ndarray, Changes]:
    """Labels without stray parts, with sides by the middle of the body, without traces and holes.

    Args:
        labels_zyx: classes, uint8.
        middle: x of the body's middle [voxels].

    Returns:
        The new labels, and what was changed.
    """
    labels, changes = labels_zyx.copy(), Changes()
    for one in classes():
        _mend_sides(labels, one, middle, changes)
    for one in classes():
        _drop_parts(labels, one, changes)
    for one in classes():
        mask = labels == one.index
        volume = float(mask.sum()) * VOXEL_ML
        share = _AT_EDGE * TRACE if mask[[0, -1]].any() else TRACE
        if 0 < volume < share * one.plausible_ml[0]:
            labels[mask] = 0
            changes.traces[one.name] = volume
    for one in classes():
        if one.solid:
            _fill(labels, one, changes)
    return labels, changes


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    if not mask.any():
        return None
    ends = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return tuple(slice(int(n[0]), int(n[-1]) + 1) for n in ends)


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the face-connected parts, and their sizes; the background is 0."""
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    return parts, np.bincount(parts.ravel())


def _mend_sides(labels: np.ndarray, one: OrganClass, middle: float, changes: Changes) -> None:
    other = opposite(one)
    box = _box(labels == one.index)
    if one.side == MIDDLE or other is None or box is None:
        return
    parts, sizes = _parts(labels[box] == one.index)
    x = np.arange(box[2].start, box[2].stop)
    beyond = x > middle if one.side == RIGHT else x < middle
    crossed = np.bincount(parts[:, :, beyond].ravel(), minlength=len(sizes))
    wrong = np.flatnonzero(crossed > SIDE_SHARE * sizes)
    wrong = wrong[wrong > 0]
    if wrong.size:
        labels[box][np.isin(parts, wrong)] = other.index
        changes.sides[one.name] = float(sizes[wrong].sum()) * VOXEL_ML


def _drop_parts(labels: np.ndarray, one: OrganClass, changes: Changes) -> None:
    box = _box(labels == one.index)
    if box is None:
        return
    parts, sizes = _parts(labels[box] == one.index)
    least = PART_ML / VOXEL_ML if one.parts else PART_SHARE * sizes[1:].max()
    small = np.flatnonzero((sizes < least) & (sizes < sizes[1:].max()))
    small = small[small > 0]
    if small.size:
        labels[box][np.isin(parts, small)] = 0
        changes.parts[one.name] = float(sizes[small].sum()) * VOXEL_ML


def _fill(labels: np.ndarray, one: OrganClass, changes: Changes) -> None:
    """Gives an organ the background that it encloses."""
    box = _box(labels == one.index)
    if box is None:
        return
    mask = labels[box] == one.index
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(image))[1:-1, 1:-1, 1:-1].astype(bool)
    holes = filled & (labels[box] == 0)
    if holes.any():
        labels[box][holes] = one.index
        changes.holes[one.name] = float(holes.sum()) * VOXEL_ML
