"""Polygons to pixels: which pixel centers lie inside planar contours.

The rule is even-odd: of nested contours every second one is a hole, and a keyhole (one contour that runs to
the hole and back along the same line) is equivalent to a separate hole. Contours that overlap without being
nested are not holes: they are joined (`fill_joined`). A center on a contour counts as inside, so that
mirroring or transposing the grid changes nothing and a contour drawn through the centers of the outermost
pixels keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FINE = 96  # samples across the smaller of two contours, to find out whether they are nested
NESTED = 0.02  # of its area: a contour that reaches out of another by less was drawn inside of it
ON_CONTOUR = 1e-6  # pixels: a center this near to a contour lies on it; files hold rounded decimals


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centers lie inside `polygons`.

    Args:
        polygons: each (points, 2), column and row of its corners in pixels, where pixel centers are whole
            numbers; the last corner is joined to the first.
        shape: rows and columns of the result.

    Returns:
        bool array (rows, columns).
    """
    low, high = _edges(polygons)
    return _inside(low, high, *shape) | _on_contour(low, high, *shape)


def fill_joined(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Like `fill`, but joins contours that overlap without being nested.

    Without such contours the result is that of `fill`. Otherwise each contour loses the contours inside of
    it, these lose the ones inside of them, and the remainders of the outermost contours are joined. A contour
    that is drawn twice counts once.
    """
    inside = _nesting(polygons)
    if inside is None:
        return fill(polygons, shape)
    areas = [_area(polygon) for polygon in polygons]
    remaining: dict[int, np.ndarray] = {}
    result = np.zeros(shape, dtype=bool)
    for index in np.argsort(areas, kind="stable"):
        mask = _inside(*_edges([polygons[index]]), *shape)
        for hole in np.flatnonzero(inside[:, index]):
            # Only its direct holes: these have already lost what is nested in them.
            if not (inside[hole] & inside[:, index]).any():
                mask &= ~remaining[int(hole)]
        remaining[int(index)] = mask
        if not inside[index].any():
            result |= mask
    return result | _on_contour(*_edges(polygons), *shape)


def _nesting(polygons: Sequence[np.ndarray]) -> np.ndarray | None:
    """Which contour lies in which, bool [inner, outer]; None if no two overlap without being nested."""
    count = len(polygons)
    inside = np.zeros((count, count), dtype=bool)
    overlap = False
    low = np.array([polygon.min(axis=0) for polygon in polygons])
    high = np.array([polygon.max(axis=0) for polygon in polygons])
    areas = np.array([_area(polygon) for polygon in polygons])
    for one in range(count):
        near = ((low[one] < high) & (low < high[one])).all(axis=1)
        for other in np.flatnonzero(near).tolist():
            if areas[one] > areas[other] or (areas[one] == areas[other] and one >= other):
                continue  # each pair once, the smaller one first
            extent = np.maximum(high[one] - low[one], 1e-9)
            sampled = [(polygons[i] - low[one]) / extent * FINE - 0.5 for i in (one, other)]
            small, large = (_inside(*_edges([polygon]), FINE, FINE) for polygon in sampled)
            shared, whole = np.count_nonzero(small & large), np.count_nonzero(small)
            if not shared:
                continue
            if whole - shared <= NESTED * whole and areas[one] < (1 - NESTED) * areas[other]:
                inside[one, other] = True
            else:
                overlap = True
    return inside if overlap else None


def _area(polygon: np.ndarray) -> float:
    """Area that a contour encloses (shoelace formula); loops of the opposite orientation are subtracted."""
    x, y = (polygon - polygon[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _edges(polygons: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower end (edges, 2) of all edges."""
    starts = np.concatenate(polygons).astype(float)
    ends = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons]).astype(float)
    # Every edge downwards: both passes along a keyhole then cross a row at exactly the same column.
    turned = (starts[:, 1] > ends[:, 1]) | ((starts[:, 1] == ends[:, 1]) & (starts[:, 0] > ends[:, 0]))
    return np.where(turned[:, None], ends, starts), np.where(turned[:, None], starts, ends)


def _inside(low: np.ndarray, high: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Pixels with an odd number of crossings to their left; an edge includes its upper end only."""
    first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(int)
    last = np.clip(np.ceil(high[:, 1]), 0, rows).astype(int)
    edge, row = _ranges(first, last)
    column = np.clip(np.ceil(_crossing(low[edge], high[edge], row)), 0, columns).astype(int)
    crossings = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    return np.cumsum(crossings.reshape(rows, columns + 1), axis=1)[:, :columns] % 2 == 1


def _on_contour(low: np.ndarray, high: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Pixels whose centers lie on an edge: steep edges are sampled by row, shallow ones by column."""
    width, height = np.abs(high - low).T
    steep = height >= width
    mask = _on_steep_edges(low[steep], high[steep], rows, columns)
    low, high = low[~steep, ::-1], high[~steep, ::-1]
    turned = (low[:, 1] > high[:, 1])[:, None]
    low, high = np.where(turned, high, low), np.where(turned, low, high)
    return mask | _on_steep_edges(low, high, columns, rows).T


def _on_steep_edges(low: np.ndarray, high: np.ndarray, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((rows, columns), dtype=bool)
    first = np.clip(np.ceil(low[:, 1] - ON_CONTOUR), 0, rows).astype(int)
    last = np.clip(np.floor(high[:, 1] + ON_CONTOUR) + 1, 0, rows).astype(int)
    edge, row = _ranges(first, last)
    crossing = _crossing(low[edge], high[edge], row)
    column = np.round(crossing)
    hit = (np.abs(crossing - column) <= ON_CONTOUR) & (column >= 0) & (column < columns)
    mask[row[hit], column[hit].astype(int)] = True
    return mask


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers first[i] to last[i] - 1 for every i: the i of each number, and the numbers."""
    count = np.maximum(last - first, 0)
    index = np.repeat(np.arange(len(count)), count)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count) + first[index]


def _crossing(low: np.ndarray, high: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The column where each edge crosses a row; beyond an end (by less than ON_CONTOUR) that of the end."""
    height = high[:, 1] - low[:, 1]
    part = np.clip((row - low[:, 1]) / np.where(height > 0, height, 1.0), 0.0, 1.0)
    return low[:, 0] + part * (high[:, 0] - low[:, 0])
