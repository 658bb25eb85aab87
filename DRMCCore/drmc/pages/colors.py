"""Values as gray and colors, and the tops of their scales."""

from __future__ import annotations

import math

import numpy as np

_NICE = (1.0, 2.0, 5.0)


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


def nice_top(value: float, smallest: float = 0.1) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `value`."""
    value = max(float(value), smallest)
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (*_NICE, 10.0):
        if factor * power >= value * (1.0 - 1e-9):
            return float(f"{factor * power:.6g}")
    return value
