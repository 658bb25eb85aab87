"""One named mask on a scan's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drmc.errors import InputError, NothingMarkedError
from drmc.imaging.masks import bounding_box


class Segment:
    """One named mask (z, y, x), stored cropped to its bounding box so that many segments fit in memory.

    `box` is the bounding box as three slices into the full array, `inside` the bool mask in that box, `shape`
    the full shape.

    Raises:
        InputError: the mask does not have three axes.
        NothingMarkedError: the mask is empty.
    """

    __slots__ = ("box", "inside", "name", "shape")

    def __init__(self, name: str, mask: np.ndarray):
        mask = np.asarray(mask)
        if mask.ndim != 3:
            raise InputError(f"segment '{name}': a mask has the axes (z, y, x), this one has {mask.ndim}")
        mask = mask != 0
        box = bounding_box(mask)
        if box is None:
            raise NothingMarkedError(f"segment '{name}' is empty: it contains no voxel of the scan")
        self.name = name
        self.shape = mask.shape
        self.box = box
        self.inside = mask[self.box].copy()

    @property
    def mask(self) -> np.ndarray:
        """The mask on the full grid, bool (z, y, x)."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.box] = self.inside
        return mask

    @property
    def voxels(self) -> int:
        """Number of voxels in the segment."""
        return int(np.count_nonzero(self.inside))

    def __repr__(self) -> str:
        return f"Segment({self.name!r}, {self.voxels} voxels of {self.shape})"


class OverlapError(ValueError):
    """Two segments, `first` and `second` by name, have voxels in common where they must not."""

    def __init__(self, first: str, second: str):
        super().__init__(f"segment {second} overlaps another, {first}")
        self.first, self.second = first, second


def painted(segments: Sequence[Segment], values: Sequence[int]) -> np.ndarray:
    """One label image of segments that do not overlap, uint16 (z, y, x), 0 outside of them.

    Args:
        segments: at least one, on one grid.
        values: the label of each, from 1 up, all different.

    Raises:
        OverlapError: two segments overlap.
    """
    labels = np.zeros(segments[0].shape, np.uint16)
    for segment, value in zip(segments, values, strict=True):
        box = labels[segment.box]
        if (others := box[segment.inside]).any():
            first = segments[list(values).index(int(others.max()))]
            raise OverlapError(first.name, segment.name)
        box[segment.inside] = value
    return labels
