"""Figures of a calibration: inline SVG, no script, no outside resource."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from drmc.simulation.calibration_rows import Row
from drmc.simulation.public_noise import NoiseStatistics

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 44
_REAL, _SIMULATED, _THIRD = "#0f5c66", "#c65f14", "#7a4fa3"


class _Plot:
    """Axes in data units; `log` per axis."""

    def __init__(self, title: str, x: tuple[float, float], y: tuple[float, float], *, log_x: bool = False):
        self._x, self._y, self._log = x, y, log_x
        self.parts = [_text(_WIDTH / 2, 18, title, "label strong")]

    def at(self, x: float, y: float) -> tuple[float, float]:
        scale = math.log if self._log else float
        low, high = (scale(v) for v in self._x)
        across = (scale(x) - low) / (high - low)
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self, x_ticks: Mapping[float, str], y_ticks: Sequence[float], x_name: str, y_name: str) -> None:
        left, bottom = _LEFT, _HEIGHT - _BOTTOM
        self.parts.append(
            f'<path d="M{left} {_TOP}V{bottom}H{_WIDTH - _RIGHT}" fill="none" stroke="currentColor"/>'
        )
        for value, label in x_ticks.items():
            x, _ = self.at(value, self._y[0])
            self.parts.append(_text(x, bottom + 16, label))
        for value in y_ticks:
            _, y = self.at(self._x[0], value)
            self.parts.append(
                f'<line x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
                'stroke-opacity="0.15"/>'
            )
            self.parts.append(_text(left - 6, y + 4, f"{value:g}", anchor="end"))
        self.parts.append(_text((left + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_name))
        self.parts.append(
            f'<text class="label" transform="translate(14 {(_TOP + bottom) / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle" fill="currentColor">{escape(y_name)}</text>'
        )

    def line(self, points: Sequence[tuple[float, float]], color: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')

    def band(
        self, low: Sequence[tuple[float, float]], high: Sequence[tuple[float, float]], color: str
    ) -> None:
        around = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in [*low, *reversed(high)]))
        self.parts.append(f'<polygon points="{around}" fill="{color}" fill-opacity="0.18"/>')

    def dot(self, x: float, y: float, color: str, title: str) -> None:
        across, up = self.at(x, y)
        self.parts.append(
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4.5" fill="{color}" fill-opacity="0.85">'
            f"<title>{escape(title)}</title></circle>"
        )

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        for i, (name, color) in enumerate(entries):
            y = _TOP + 14 + 17 * i
            self.parts.append(f'<circle cx="{_LEFT + 16}" cy="{y - 4}" r="4.5" fill="{color}"/>')
            self.parts.append(_text(_LEFT + 27, y, name, anchor="start"))

    def svg(self, label: str) -> str:
        return (
            f'<svg class="heatmap" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
            + "".join(self.parts)
            + "</svg>"
        )


def _text(x: float, y: float, text: str, style: str = "label", anchor: str = "middle") -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'fill="currentColor">{escape(text)}</text>'
    )


def law_svg(
    title: str, simulated: Mapping[str, Sequence[float]], real: Mapping[float, NoiseStatistics]
) -> str:
    """Noise metric over full dose against the dose reduction factor: real median and 5 to 95 %, simulated patients."""
    factors = sorted({*(float(f) for f in simulated), *real})
    top = max([v for values in simulated.values() for v in values] + [r.p95 for r in real.values()])
    plot = _Plot(title, (0.8 * min(factors), 1.25 * max(factors)), (1.0, math.ceil(top + 0.2)), log_x=True)
    ticks = list(range(1, math.ceil(top + 0.2) + 1))
    plot.axes({f: f"{f:g}" for f in factors}, ticks, "dose reduction factor", "noise metric over full dose")
    known = [(f, real[f]) for f in factors if f in real]
    if known:
        plot.band([(f, r.p05) for f, r in known], [(f, r.p95) for f, r in known], _REAL)
        plot.line([(f, r.median) for f, r in known], _REAL)
    for factor, values in simulated.items():
        for value in values:
            plot.dot(float(factor), value, _SIMULATED, f"DRF {factor}: {value:.2f}")
    plot.legend([("real: median, 5 to 95 %", _REAL)] * bool(known) + [("simulated patients", _SIMULATED)])
    return plot.svg(f"Noise at reduced dose, {title}")


def liver_svg(rows: Sequence[Row]) -> str:
    """Liver variation per center with its accepted range."""
    top = max([row.value or 0 for row in rows] + [row.upper or 0 for row in rows])
    top = math.ceil(100 * top * 1.15) / 100
    plot = _Plot("Liver variation at full dose", (0.0, float(len(rows))), (0.0, top))
    ticks = np.arange(0, top + 1e-9, 0.05 if top > 0.12 else 0.02).round(3).tolist()
    plot.axes(
        {i + 0.5: row.subject for i, row in enumerate(rows)}, ticks, "center", "standard deviation over mean"
    )
    for i, row in enumerate(rows):
        if row.lower is not None and row.upper is not None:
            plot.band(
                [(i + 0.3, row.lower), (i + 0.7, row.lower)],
                [(i + 0.3, row.upper), (i + 0.7, row.upper)],
                _REAL,
            )
        if row.value is not None:
            plot.dot(i + 0.5, row.value, _SIMULATED, f"{row.subject}: {row.value:.3f}")
    return plot.svg("Liver variation per center with its accepted range")


def correlation_svg(scans: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lag-1 autocorrelation along x, y and z: the real scan with its spread over positions, and the simulated ones."""
    colors = dict(zip(scans, (_REAL, _SIMULATED, _THIRD), strict=False))
    plot = _Plot("Correlation of neighboring voxels in the liver", (0.0, 3.0), (0.0, 1.0))
    plot.axes({0.5: "x", 1.5: "y", 2.5: "z"}, [0, 0.2, 0.4, 0.6, 0.8, 1], "axis", "lag-1 autocorrelation")
    for place, axis in enumerate("xyz"):
        for name, found in scans.items():
            for one in found:
                middle, sd = one["mean"][axis][0], one["sd"][axis][0]
                if name == "real":
                    low, high = middle - sd, middle + sd
                    edges = (place + 0.2, place + 0.8)
                    plot.band([(x, low) for x in edges], [(x, high) for x in edges], colors[name])
                shift = 0.1 * (list(scans).index(name) - 1)
                plot.dot(place + 0.5 + shift, middle, colors[name], f"{name}, {axis}: {middle:.2f}")
    plot.legend(
        [(f"{name}, ± SD over positions" if name == "real" else name, c) for name, c in colors.items()]
    )
    return plot.svg("Lag-1 autocorrelation of the real and the simulated scans")
