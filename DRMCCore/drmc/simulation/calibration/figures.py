"""Figures of a calibration: inline SVG, no script, no outside resource."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drmc.pages.colors import ACCENT, series_color
from drmc.pages.plot import Plot
from drmc.simulation.calibration.public_noise import NoiseStatistics
from drmc.simulation.calibration.rows import Row

_REAL, _SIMULATED, _THIRD = ACCENT, series_color(1), series_color(3)


def law_svg(
    title: str, simulated: Mapping[str, Sequence[float]], real: Mapping[float, NoiseStatistics]
) -> str:
    """Noise metric over that of full dose, by dose reduction factor: real (5 to 95 %) and simulated."""
    factors = sorted({*(float(f) for f in simulated), *real})
    top = max([v for values in simulated.values() for v in values] + [r.p95 for r in real.values()])
    plot = Plot(title, (0.8 * min(factors), 1.25 * max(factors)), (1.0, math.ceil(top + 0.2)), log_x=True)
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
    plot = Plot("Liver variation at full dose", (0.0, float(len(rows))), (0.0, top))
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
    """Lag-1 autocorrelation along x, y and z: the real scan (SD over positions) and the simulated ones."""
    colors = dict(zip(scans, (_REAL, _SIMULATED, _THIRD), strict=False))
    plot = Plot("Correlation of neighboring voxels in the liver", (0.0, 3.0), (0.0, 1.0))
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
