"""Tiles over a volume: where they lie, how they are cut, and how their results are blended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from drmc.imaging.body import HOT_SUV, tile_region
from drmc.imaging.resampling import grid_positions

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry
    from drmc.segments.segment import Segment


HALO = 2
"""Voxels at each face of a tile of 64 that are not used: there the network sees its zero padding."""

OVERLAP = 4
"""Least overlap, in voxels, of the used parts of neighboring tiles of 64."""


@dataclass(frozen=True)
class TileLayout:
    """Where the used part of each tile (all of it but its halo) lies on the network's grid.

    starts_zyx: (T, 3) first voxel, may be negative; edge: voxels; grid: the grid, geometry: the scan's own.
    """

    starts_zyx: np.ndarray
    edge: int
    grid: Geometry
    geometry: Geometry

    def voxels_of(self, segment: Segment) -> np.ndarray:
        """How many of a segment's voxels lie in each tile's used part, float64 (T,).

        The segment is on the scan's own grid, and its voxels are counted there by the place of their centers:
        no lesion is too small to be counted. Overlapping tiles count a voxel each.
        """
        ranges = []
        positions = grid_positions(self.geometry, self.grid)
        for axis, (part, position) in enumerate(zip(segment.box, positions, strict=True)):
            position = position[None, part]
            first = self.starts_zyx[:, axis, None] - 0.5
            ranges.append((position >= first) & (position < first + self.edge))
        return np.array(
            [np.count_nonzero(segment.inside[np.ix_(*inside)]) for inside in zip(*ranges, strict=True)],
            dtype=np.float64,
        )


class Blend:
    """Sum of windowed tiles, without their halos, over the sum of their windows; 0 where there is no tile."""

    def __init__(self, shape: tuple[int, ...], tile: int):
        self._halo = halo_width(tile)
        self._inner = tile - 2 * self._halo
        ramp = np.sin(np.pi * (np.arange(self._inner) + 0.5) / self._inner) ** 2
        self._window = (ramp[:, None, None] * ramp[:, None] * ramp).astype(np.float32)
        self._sum = np.zeros(shape, np.float32)
        self._weight = np.zeros(shape, np.float32)

    def add(self, start: np.ndarray, residual: np.ndarray) -> None:
        """Adds a whole tile that begins at `start`."""
        first = np.asarray(start) + self._halo
        region = tile_region(first.tolist(), self._inner, self._sum.shape)
        inside = tuple(slice(part.start - f, part.stop - f) for part, f in zip(region, first, strict=True))
        window = self._window[inside]
        used = tuple(slice(part.start + self._halo, part.stop + self._halo) for part in inside)
        self._sum[region] += window * residual[used]
        self._weight[region] += window

    def result(self) -> np.ndarray:
        """The blended residual, (z, y, x)."""
        np.divide(self._sum, self._weight, out=self._sum, where=self._weight > 0)
        return self._sum


def halo_width(tile: int) -> int:
    """Voxels at each face of a tile that are not used; fewer in small tiles."""
    return min(HALO, tile // 16)


def overlap_width(tile: int) -> int:
    """Least overlap [voxels] of the used parts of neighboring tiles; less in small tiles."""
    return min(OVERLAP, tile // 8)


def tile_at(image: np.ndarray, start: np.ndarray, tile: int) -> np.ndarray:
    """The tile beginning at `start`; beyond the image it is mirrored at its faces, as often as need be."""
    region = tile_region(start.tolist(), tile, image.shape)
    if all(part.stop - part.start == tile for part in region):
        return image[region]
    indices = []
    for first, size in zip(start, image.shape, strict=True):
        index = np.arange(first, first + tile) % (2 * size)
        indices.append(np.where(index < size, index, 2 * size - 1 - index))
    return image[np.ix_(*indices)]


def add_hot_voxels(body: np.ndarray, grid: Geometry, suv_zyx: np.ndarray, geometry: Geometry) -> None:
    """Adds to the mask on the grid the neighbors of every voxel of the scan above HOT_SUV.

    Resampling lowers the peak of uptake of a single voxel; on the scan's own grid it is still seen.
    """
    neighbors = [
        (np.floor(position).astype(int), np.ceil(position).astype(int))
        for position in grid_positions(geometry, grid)
    ]
    for z, slice_yx in enumerate(suv_zyx):
        rows, columns = np.nonzero(slice_yx > HOT_SUV)
        for index_z in neighbors[0]:
            for index_y in neighbors[1]:
                for index_x in neighbors[2]:
                    body[index_z[z], index_y[rows], index_x[columns]] = True


def physical_points(indices_zyx: np.ndarray, grid: Geometry) -> np.ndarray:
    """LPS points [mm] (T, 3) of continuous indices (T, 3) in (z, y, x) order."""
    scaled = indices_zyx[:, ::-1] * np.asarray(grid.spacing)
    return np.asarray(grid.origin) + scaled @ np.reshape(grid.direction, (3, 3)).T
