"""Where held-out pairs are validated: tiles chosen by uptake, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drmc.training.pairs import Pair

LESION_SHARE = 0.5  # of a lesion, for it to count in a tile
_STARTS_PER_TILE = 4  # candidates along an axis, per length of an inner part


def choose_boxes(pair: Pair, tile: int, margin: int, count: int) -> list[tuple[int, int, int]]:
    """Chooses tiles whose inner parts, without `margin` voxels at each face, do not overlap.

    The first is the tile that contains most lesions, each by at least half. Then follow at most `count` in
    descending order of the full-dose uptake of the body in the inner part, none without uptake. The last is
    one of ordinary tissue: of the boxes well filled by the body, the one of median mean uptake. All doses of
    a patient have the same tiles. A tile extends beyond an image that is smaller, and then starts at 0.

    Args:
        pair: the images.
        tile: edge of a tile in voxels.
        margin: voxels at each face that are not measured.
        count: most tiles of high uptake.

    Returns:
        First voxel (z, y, x) of each tile.
    """
    inner = tile - 2 * margin
    shape = pair.full.shape
    starts = [_candidates(n, tile, inner) for n in shape]
    parts = [[inner_part(s, n, tile, margin) for s in found] for found, n in zip(starts, shape, strict=True)]
    uptake = _sums(np.where(pair.body, np.maximum(pair.full, 0), 0), parts)
    voxels = _sums(pair.body, parts)
    free = voxels > 0
    chosen: list[tuple[int, int, int]] = []

    def take(flat: int) -> None:
        place = [found[int(at)] for found, at in zip(starts, np.unravel_index(flat, free.shape), strict=True)]
        first_z, first_y, first_x = place
        chosen.append((first_z, first_y, first_x))
        z, y, x = (np.abs(np.subtract(found, at)) >= inner for found, at in zip(starts, place, strict=True))
        free[...] &= z[:, None, None] | y[None, :, None] | x

    if (lesions := _lesions_in(pair, parts) * free).any():
        # among equals, the one of most uptake
        best = lesions + 0.5 * uptake / max(uptake.max(), 1e-12)
        take(int(np.argmax(np.where(lesions, best, 0))))
    for _ in range(count):
        score = np.where(free, uptake, 0)
        if not score.any():
            break
        take(int(np.argmax(score)))
    if free.any():
        filled = np.flatnonzero(free & (2 * voxels >= voxels[free].max()))
        mean = (uptake.ravel() / np.maximum(voxels.ravel(), 1))[filled]
        middle = filled[np.argsort(mean, kind="stable")[(len(mean) - 1) // 2]]
        take(int(middle))
    return chosen


def _candidates(size: int, tile: int, inner: int) -> list[int]:
    last = max(0, size - tile)
    return [*range(0, last, max(1, inner // _STARTS_PER_TILE)), last]


def inner_part(start: int, size: int, tile: int, margin: int) -> tuple[int, int]:
    """First voxel and end, along an axis of `size` voxels, of what is measured of the tile at `start`.

    An image smaller than a tile is placed in its middle (after `lead` voxels), so that more of it is inside
    the margins.
    """
    before = lead(size, tile)
    return start + max(margin - before, 0), start + min(tile - margin - before, size)


def lead(size: int, tile: int) -> int:
    """Voxels of a tile before the first of an image of `size` voxels that is smaller, else 0."""
    return max(0, tile - size) // 2


def _sums(image: np.ndarray, parts: Sequence[Sequence[tuple[int, int]]]) -> np.ndarray:
    """Sum over every box of one part per axis, axis by axis."""
    for axis, found in enumerate(parts):
        image = np.moveaxis(image, axis, 0)
        image = np.stack([image[first:end].sum(axis=0, dtype=np.float64) for first, end in found])
        image = np.moveaxis(image, 0, axis)
    return image


def _lesions_in(pair: Pair, parts: Sequence[Sequence[tuple[int, int]]]) -> np.ndarray:
    """How many lesions each box contains (see `part_of_lesion`): (boxes along z, y, x)."""
    count = np.zeros([len(found) for found in parts], dtype=int)
    for lesion in pair.lesions:
        mask = np.zeros(pair.full.shape, dtype=bool)
        mask.ravel()[lesion] = True
        count += LESION_SHARE * len(lesion) <= _sums(mask, parts)
    return count


def part_of_lesion(lesion: np.ndarray, shape: Sequence[int], box: Sequence[slice]) -> np.ndarray | None:
    """Flat indices into a box of the lesion's voxels in it; None if less than half of the lesion is inside.

    Args:
        lesion: flat indices into an image.
        shape: shape of the image (z, y, x).
        box: the part of the image.
    """
    zyx = [axis - part.start for axis, part in zip(np.unravel_index(lesion, shape), box, strict=True)]
    sizes = [part.stop - part.start for part in box]
    inside = np.all([(axis >= 0) & (axis < n) for axis, n in zip(zyx, sizes, strict=True)], axis=0)
    if np.count_nonzero(inside) < LESION_SHARE * len(lesion):
        return None
    return np.ravel_multi_index([axis[inside] for axis in zyx], sizes)
