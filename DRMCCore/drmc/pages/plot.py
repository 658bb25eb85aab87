"""Plots as inline SVG: axes, lines, bands and dots, without scripts or external resources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 44

Point = tuple[float, float]


class Plot:
    """Axes in data units, `size` (width, height) in pixels; either axis may be logarithmic.

    Colors are CSS values such as "var(--accent)".
    """

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        log_x: bool = False,
        log_y: bool = False,
        size: tuple[int, int] = (460, 300),
    ):
        self._x, self._y = x, y
        self._scales = math.log if log_x else float, math.log if log_y else float
        self._width, self._height = size
        self.parts = [_text(self._width / 2, 18, title, "label strong")]

    def at(self, x: float, y: float) -> Point:
        """The position of a point in the picture [pixels]."""
        across, up = (
            (scale(value) - scale(low)) / (scale(high) - scale(low))
            for scale, value, (low, high) in zip(self._scales, (x, y), (self._x, self._y), strict=True)
        )
        return (
            _LEFT + across * (self._width - _LEFT - _RIGHT),
            self._height - _BOTTOM - up * (self._height - _TOP - _BOTTOM),
        )

    def axes(self, x_ticks: Mapping[float, str], y_ticks: Sequence[float], x_name: str, y_name: str) -> None:
        """Draws the axes with ticks, those of y with a faint grid line."""
        left, bottom, right = _LEFT, self._height - _BOTTOM, self._width - _RIGHT
        self.parts.append(f'<path d="M{left} {_TOP}V{bottom}H{right}" fill="none" stroke="currentColor"/>')
        for value, label in x_ticks.items():
            x, _ = self.at(value, self._y[0])
            self.parts.append(_text(x, bottom + 16, label))
        for value in y_ticks:
            _, y = self.at(self._x[0], value)
            self.parts.append(
                f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
                'stroke-opacity="0.15"/>'
            )
            self.parts.append(_text(left - 6, y + 4, f"{value:g}", anchor="end"))
        self.parts.append(_text((left + right) / 2, self._height - 8, x_name))
        self.parts.append(
            f'<text class="label" transform="translate(14 {(_TOP + bottom) / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle" fill="currentColor">{escape(y_name)}</text>'
        )

    def line(
        self,
        points: Sequence[Point],
        color: str,
        *,
        width: float = 2,
        dash: str = "",
        opacity: float = 1,
        title: str = "",
    ) -> None:
        """Draws a line through the points; `dash` as in SVG, `title` is the tooltip."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        style = f"stroke:{color}" + (f";stroke-dasharray:{dash}" if dash else "")
        style += f";stroke-opacity:{opacity:g}" if opacity < 1 else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke-width="{width:g}" stroke-linejoin="round" '
            f'style="{style}">{_title(title)}</polyline>'
        )

    def band(self, low: Sequence[Point], high: Sequence[Point], color: str) -> None:
        """Fills the area between two lines."""
        around = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in [*low, *reversed(high)]))
        self.parts.append(f'<polygon points="{around}" style="fill:{color}" fill-opacity="0.18"/>')

    def box(self, left: float, low: float, right: float, high: float, color: str, title: str) -> None:
        """Draws a filled rectangle between two corners in data units; `title` is the tooltip."""
        (x0, y1), (x1, y0) = self.at(left, low), self.at(right, high)
        self.parts.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
            f'style="fill:{color}">{_title(title)}</rect>'
        )

    def dot(self, x: float, y: float, color: str, title: str, radius: float = 4.5) -> None:
        """Draws a dot; `title` is the tooltip."""
        across, up = self.at(x, y)
        self.parts.append(
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="{radius:g}" style="fill:{color}" '
            f'fill-opacity="0.85">{_title(title)}</circle>'
        )

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Draws a legend of (name, color) entries."""
        for i, (name, color) in enumerate(entries):
            y = _TOP + 14 + 17 * i
            self.parts.append(f'<circle cx="{_LEFT + 16}" cy="{y - 4}" r="4.5" style="fill:{color}"/>')
            self.parts.append(_text(_LEFT + 27, y, name, anchor="start"))

    def svg(self, label: str) -> str:
        """The SVG element; `label` is for screen readers."""
        return (
            f'<svg class="heatmap" viewBox="0 0 {self._width} {self._height}" role="img" '
            f'aria-label="{escape(label)}">' + "".join(self.parts) + "</svg>"
        )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values from `low` to `high`."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((1.0, 2.0, 2.5, 5.0, 10.0), key=lambda factor: abs(math.log(factor * power / raw)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from `low` to `high`, only the powers over more than two decades."""
    factors = (1,) if high / low > 100 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{factor * 10.0**power:.6g}") for power in powers for factor in factors]
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _text(x: float, y: float, text: str, style: str = "label", anchor: str = "middle") -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'fill="currentColor">{escape(text)}</text>'
    )
