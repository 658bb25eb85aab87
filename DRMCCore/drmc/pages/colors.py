"""The colors of all pages: color scales for values, and the colors of lines and dots in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_NICE = (1.0, 2.0, 5.0)

OUTLINE = (225, 120, 0)
"""RGB of outlines on gray pictures."""

ACCENT = "var(--accent)"
"""CSS color of the main line or group of dots in a figure, from the style sheet."""

NEUTRAL = "#9aa7ac"
"""CSS color of the baseline in a figure, readable on light and dark pages."""

# Colors of the series of a figure, in this order, on light and on dark pages.
_SERIES = ("#0b6aa8", "#c2550a", "#0a8060", "#a3458a", "#8a6d00", "#5b55b8", "#b3303c", "#4d6670")
_SERIES_DARK = ("#5db4f0", "#f59a55", "#45c9a0", "#e08cc6", "#d8bb3f", "#a7a2f5", "#f2868f", "#9fb6bf")
SERIES_COUNT = len(_SERIES)


def series_color(index: int) -> str:
    """CSS color of the series with that index; the colors repeat after `SERIES_COUNT`."""
    return f"var(--series-{index % SERIES_COUNT})"


def series_rgb(index: int) -> tuple[float, float, float]:
    """The same color on a light ground as RGB, each 0 to 1, for charts that are not pages."""
    color = _SERIES[index % SERIES_COUNT]
    red, green, blue = (int(color[first : first + 2], 16) / 255.0 for first in (1, 3, 5))
    return red, green, blue


def series_css() -> str:
    """The part of the style sheet with the variables of `series_color`."""
    light, dark = (
        " ".join(f"--series-{index}: {color};" for index, color in enumerate(colors))
        for colors in (_SERIES, _SERIES_DARK)
    )
    return f"\n:root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def css_color(rgb: Sequence[int]) -> str:
    """An RGB color in CSS, each component 0 to 255."""
    red, green, blue = rgb
    return f"rgb({red},{green},{blue})"


def inverted_gray(values: np.ndarray, top: float) -> np.ndarray:
    """uint8 gray: white at 0 and below, black at `top` and above."""
    level = np.clip(np.nan_to_num(values) / top, 0.0, 1.0)
    return np.round(255.0 * (1.0 - level)).astype(np.uint8)


# Anchors of the diverging scale: dark blue, blue, white, red, dark red; equally light on both sides of 0.
_DIVERGING = np.array(
    [[13, 54, 118], [58, 126, 200], [250, 250, 250], [214, 92, 76], [126, 18, 36]], dtype=np.float64
)


def diverging_color(values: np.ndarray, top: float) -> np.ndarray:
    """uint8 RGB (..., 3): blue below 0, white at 0, red above, saturated at -top and top."""
    level = np.clip(np.nan_to_num(values) / top, -1.0, 1.0) * 2.0 + 2.0
    channels = [np.interp(level, np.arange(5), _DIVERGING[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


# Sequential scale, light to dark, for light and dark pages, because every cell has its own background.
_SEQUENTIAL = ((240, 246, 244), (166, 214, 201), (70, 157, 147), (16, 98, 105), (6, 48, 62))


def sequential_color(level: float) -> tuple[int, int, int]:
    """RGB of a level from 0 (light) to 1 (dark)."""
    position = level * (len(_SEQUENTIAL) - 1)
    index = min(int(position), len(_SEQUENTIAL) - 2)
    share = position - index
    low, high = _SEQUENTIAL[index], _SEQUENTIAL[index + 1]
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def ink_on(level: float) -> str:
    """The color of text on `sequential_color(level)`."""
    return "#10242b" if level < 0.58 else "#ffffff"


def nice_top(value: float, smallest: float = 0.1) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `value`."""
    value = max(float(value), smallest)
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (*_NICE, 10.0):
        if factor * power >= value * (1.0 - 1e-9):
            return float(f"{factor * power:.6g}")
    return value
