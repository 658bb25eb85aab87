"""Pictures of a volume for the report: anatomical views, gray and diverging color, PNG as text.

A view is a 2-D array with the head (or, axial, the front) up and the patient's right on the reader's left
(radiological), whatever the order and direction of the scan's axes; oblique grids are shown along their
nearest anatomical axes.
"""

from __future__ import annotations

import base64
import itertools
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

_NICE = (1.0, 2.0, 5.0)
_MARGIN_MM = 12.0


def anatomical_order(direction: Sequence[float]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """How to turn a (z, y, x) array so that it runs head to feet, front to back, right to left of the
    patient.

    `direction` is the LPS direction matrix (9,) of SimpleITK (columns: the x, y, z axes of the image).
    Returns the array axes in that order and which of them to reverse.
    """
    matrix = np.reshape(np.asarray(direction, dtype=float), (3, 3))
    best = max(
        itertools.permutations(range(3)), key=lambda p: sum(abs(matrix[row, p[row]]) for row in range(3))
    )
    # best[row] is the image axis (x=0) nearest to L, P, S; the array has these axes the other way round.
    axes = tuple(2 - best[row] for row in (2, 1, 0))
    toward_feet = matrix[2, best[2]] > 0
    toward_front = matrix[1, best[1]] < 0
    toward_right = matrix[0, best[0]] < 0
    return axes, (bool(toward_feet), bool(toward_front), bool(toward_right))


def to_anatomical(array_zyx: np.ndarray, direction: Sequence[float]) -> np.ndarray:
    """The array as a view with the axes (head to feet, front to back, right to left)."""
    axes, reverse = anatomical_order(direction)
    turned = np.transpose(array_zyx, axes)
    return turned[tuple(slice(None, None, -1) if back else slice(None) for back in reverse)]


def anatomical_spacing(
    spacing_zyx: Sequence[float], direction: Sequence[float]
) -> tuple[float, float, float]:
    """Spacing [mm] along (head to feet, front to back, right to left)."""
    axes, _ = anatomical_order(direction)
    return tuple(float(spacing_zyx[axis]) for axis in axes)


def strongest(array: np.ndarray, axis: int) -> np.ndarray:
    """Along each ray the value of the largest magnitude, with its sign."""
    high, low = array.max(axis=axis), array.min(axis=axis)
    return np.where(high >= -low, high, low)


def uptake_center(array: np.ndarray) -> tuple[int, ...]:
    """Index of the center of the uptake, hot spots counted as SUV 2; the middle where there is none."""
    weight = np.clip(np.nan_to_num(array), 0.0, 2.0)
    if not weight.any():
        return tuple(n // 2 for n in array.shape)
    place = []
    for axis in range(array.ndim):
        other = tuple(o for o in range(array.ndim) if o != axis)
        profile = weight.sum(axis=other, dtype=np.float64)
        place.append(round(float((profile * np.arange(profile.size)).sum() / profile.sum())))
    return tuple(place)


def extent(body: np.ndarray, axis: int, spacing: float) -> slice:
    """Where a body lies along an axis of its mask, with a margin of 12 mm; the whole axis where there is none.

    `spacing` is that of the axis [mm].
    """
    occupied = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
    if not occupied.size:
        return slice(None)
    margin = math.ceil(_MARGIN_MM / spacing)
    return slice(max(0, int(occupied[0]) - margin), int(occupied[-1]) + 1 + margin)


def resized(picture: np.ndarray, spacing: tuple[float, float], step: float) -> np.ndarray:
    """A picture (rows, columns) with pixels of `spacing` mm, interpolated to square ones of `step` mm; float32."""
    for axis, size in enumerate(spacing):
        count = picture.shape[axis]
        pixels = max(1, round(count * size / step))
        place = np.clip((np.arange(pixels) + 0.5) * count / pixels - 0.5, 0, count - 1)
        below = np.minimum(place.astype(int), max(count - 2, 0))
        weight = (place - below).reshape([-1 if a == axis else 1 for a in range(2)])
        above = np.minimum(below + 1, count - 1)
        picture = picture.take(below, axis) * (1 - weight) + picture.take(above, axis) * weight
    return picture.astype(np.float32)


def inverted_gray(values: np.ndarray, top: float) -> np.ndarray:
    """uint8 gray: white at 0 and below, black at `top` and above."""
    level = np.clip(np.nan_to_num(values) / top, 0.0, 1.0)
    return np.round(255.0 * (1.0 - level)).astype(np.uint8)


# Anchors of the diverging scale: dark blue, blue, white, red, dark red; as light at either side of 0.
_DIVERGING = np.array(
    [[13, 54, 118], [58, 126, 200], [250, 250, 250], [214, 92, 76], [126, 18, 36]], dtype=np.float64
)


def diverging_color(values: np.ndarray, top: float) -> np.ndarray:
    """uint8 RGB (..., 3): blue below 0, white at 0, red above, saturated at -top and top."""
    level = np.clip(np.nan_to_num(values) / top, -1.0, 1.0) * 2.0 + 2.0
    channels = [np.interp(level, np.arange(5), _DIVERGING[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a 2-D mask that touch its outside, bool."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def nice_top(value: float, smallest: float = 0.1) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `value`."""
    value = max(float(value), smallest)
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (*_NICE, 10.0):
        if factor * power >= value * (1.0 - 1e-9):
            return float(f"{factor * power:.6g}")
    return value


def png(pixels: np.ndarray) -> bytes:
    """PNG file of uint8 pixels, (rows, columns) gray or (rows, columns, 3) RGB."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    rows, columns = pixels.shape[:2]
    lines = np.zeros((rows, 1 + pixels[0].size), dtype=np.uint8)  # each line starts with its filter, 0: none
    lines[:, 1:] = pixels.reshape(rows, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def data_uri(pixels: np.ndarray) -> str:
    """The pixels as a PNG inside a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")
