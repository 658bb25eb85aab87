"""Where tiles lie over a body: as few as cover it, with a least overlap between neighbors.

Axis legend: arrays (z, y, x); T tiles; lengths in voxels of the network's grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import permutations

import numpy as np

from drmc.imaging.body import grow, tile_region

_OVERLAP_WEIGHT = 1e-3


def place_tiles(mask_zyx: np.ndarray, tile: int, overlap: int, margin: int = 0) -> np.ndarray:
    """Places few cubic tiles so that every voxel of the mask lies in one, and neighbors overlap.

    The mask is cut along one axis into slabs as thick as a tile, each slab along the next axis into bars,
    each bar along the last into tiles. Where slabs and bars begin is chosen by dynamic programming so that
    the tiles are fewest, and among equals so that the overlaps are even. Of the six orders of the axes the
    best is taken.

    Args:
        mask_zyx: bool (z, y, x).
        tile: edge of a tile.
        overlap: least overlap of neighbors in a row, at most half a tile.
        margin: width of surrounding air that the tiles should take in where there is room.

    Returns:
        int array (T, 3), first voxel (z, y, x) of each tile in ascending order; every tile holds some of the
        mask. Along an axis shorter than a tile the only start is negative or zero, and the image lies in the
        middle.
    """
    return _placed(np.packbits(mask_zyx).tobytes(), mask_zyx.shape, tile, overlap, margin).copy()


@lru_cache(maxsize=4)  # of the same scan for several networks, or with and without virtual spots
def _placed(packed: bytes, shape: tuple[int, ...], tile: int, overlap: int, margin: int) -> np.ndarray:
    """`place_tiles` of a mask packed into bits."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=math.prod(shape))
    mask_zyx = bits.reshape(shape).astype(bool)
    # Pairs of voxels are as good as voxels, and eight times fewer.
    pair = 2 if tile % 2 == 0 and tile >= 32 else 1
    wanted = _pairs(grow(mask_zyx, (margin,) * 3)) if pair == 2 else grow(mask_zyx, (margin,) * 3)
    found: list[tuple[int, ...]] | None = None
    for order in permutations(range(3)):
        # A transposed view: slicing always goes along the first axis that is left.
        starts = _place(wanted.transpose(order), tile // pair, -(-overlap // pair))
        inside = {
            tuple(_within(pair * start[order.index(axis)], tile, mask_zyx.shape[axis]) for axis in range(3))
            for start in starts
        }
        tiles = sorted(start for start in inside if mask_zyx[tile_region(start, tile, mask_zyx.shape)].any())
        if found is None or len(tiles) < len(found):
            found = tiles
    return np.array(found, dtype=int).reshape(-1, 3)


def _pairs(mask: np.ndarray) -> np.ndarray:
    """Whether any voxel of each block of 2 x 2 x 2 is in the mask."""
    for axis in range(mask.ndim):
        mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], 2), axis=axis)
    return mask


def _within(start: int, tile: int, size: int) -> int:
    """The start of a tile moved into the image; where that is too short, the image lies in its middle."""
    return -((tile - size) // 2) if size <= tile else min(max(start, 0), size - tile)


def _place(mask: np.ndarray, tile: int, overlap: int) -> list[tuple[int, ...]]:
    """Starts of tiles over an n-dimensional mask; at its ends they may reach beyond the image."""
    if mask.ndim == 1:
        return [(start,) for start in _place_along(mask.tobytes(), tile, overlap)]
    occupied = np.flatnonzero(mask.any(axis=tuple(range(1, mask.ndim))))
    if not len(occupied):
        return []
    size = len(mask)
    counts = np.concatenate((np.zeros_like(mask[:1], np.int32), np.cumsum(mask, axis=0, dtype=np.int32)))
    slabs: dict[int, list[tuple[int, ...]]] = {}

    def slab(start: int) -> list[tuple[int, ...]]:
        """The tiles of the slab that begins at `start`."""
        if start not in slabs:
            first, end = max(start, 0), min(start + tile, size)
            slabs[start] = _place(counts[end] > counts[first], tile, overlap) if end > first else []
        return slabs[start]

    starts = _cheapest(occupied, tile, overlap, lambda start: len(slab(start)))
    return [(start, *rest) for start in starts for rest in slab(start)]


def _cheapest(occupied: np.ndarray, tile: int, overlap: int, cost: Callable[[int], int]) -> list[int]:
    """Starts of the slabs that cover the occupied planes (indices, ascending) with the least sum of costs.

    Between slabs that meet at an occupied plane there is at least the overlap, and at most half a tile.
    """
    step, half = max(1, tile // 12), tile // 2
    starts = np.arange(occupied[0] - half // step * step, occupied[-1] + 1, step)
    best, follower = np.zeros(len(starts)), np.full(len(starts), -1)

    def following(index: int, end: int) -> tuple[int, np.ndarray]:
        """The first candidate for the slab after that of `index`, which ends at `end`.

        And the costs from it and from each later candidate on.
        """
        uncovered = occupied[np.searchsorted(occupied, end)]
        meet = uncovered == end
        latest = end - overlap if meet else uncovered
        first, last = np.searchsorted(starts, (latest - half, latest + 1))
        first = max(first, index + 1)  # an overlap of half a tile reaches back to the slab itself
        totals = best[first:last]
        if meet:
            totals = totals + _OVERLAP_WEIGHT * overlap / np.maximum(end - starts[first:last], 1)
        return first, totals

    for index in range(len(starts) - 1, -1, -1):
        end = starts[index] + tile
        if end <= occupied[-1]:
            first, totals = following(index, end)
            follower[index] = first + np.argmin(totals)
            best[index] = totals.min()
        best[index] += cost(int(starts[index]))
    first, last = np.searchsorted(starts, (occupied[0] - half, occupied[0] + 1))
    index = first + int(np.argmin(best[first:last]))
    chosen = [int(starts[index])]
    while follower[index] >= 0:
        index = follower[index]
        chosen.append(int(starts[index]))
    return chosen


@lru_cache(maxsize=1 << 14)
def _place_along(occupied: bytes, tile: int, overlap: int) -> tuple[int, ...]:
    """Starts of the fewest intervals of length `tile` over an axis' occupied stretches, evenly spread.

    occupied: a bool array's bytes, since most rows of a body are asked for again and again.
    """
    inside = np.frombuffer(occupied, np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside, [0]))))

    def count(first: int, end: int) -> int:
        return max(1, math.ceil((end - first - overlap) / (tile - overlap)))

    stretches: list[tuple[int, int]] = []
    for first, end in edges.reshape(-1, 2).tolist():
        if stretches and count(stretches[-1][0], end) <= count(*stretches[-1]) + count(first, end):
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((first, end))
    starts: list[int] = []
    for first, end in stretches:
        number = count(first, end)
        if number == 1:
            starts.append((first + end - tile) // 2)
        else:
            starts += [first + round(i * (end - first - tile) / (number - 1)) for i in range(number)]
    return tuple(starts)
