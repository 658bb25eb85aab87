"""Figures of a training's page: curves over the steps, and which experts each center uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from drmc.measures.rows import BANKS
from drmc.pages.colors import ACCENT, css_color, ink_on, sequential_color, series_color
from drmc.pages.plot import Plot, Point, log_ticks, ticks
from drmc.pages.text import number
from drmc.training.history import Record, series

SIZE = (344, 236)  # three of them side by side on the page
_MOST_POINTS = 300
_LOW, _GAUSSIAN = "1 4", "6 4"  # dashes of the two references

CSS = """
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); \
gap: 10px 14px; }
.wide svg { max-width: 800px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 0 0 12px; \
align-items: center; }
.key span { display: inline-flex; align-items: center; gap: 6px; } .key svg { width: 26px; height: 8px; }
table.usage { width: auto; font-size: 12.5px; } \
table.usage td { text-align: center; padding: 2px 5px; min-width: 44px;
  border: 1px solid var(--card); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
table.usage th { border: 0; padding: 2px 7px; text-align: center; } \
table.usage th.text { text-align: left; vertical-align: middle; }
table.usage tbody + tbody th, table.usage tbody + tbody td { border-top: 6px solid var(--card); }
table.usage th.block { border-bottom: 1px solid var(--line); }
"""


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        points: (step, value) of each point.
        color: CSS color.
        title: name of the line.
        dash: SVG dash pattern, "" for a solid line.
        smooth: whether the line is smoothed.
    """

    points: Sequence[Point]
    color: str
    title: str = ""
    dash: str = ""
    smooth: bool = False


def color_of(centers: Sequence[str], center: str) -> str:
    """The color of a center on the page."""
    return series_color(list(centers).index(center))


def key_html(centers: Sequence[str], *, references: bool = False) -> str:
    """The legend of the centers' colors; with `references` also of the low dose and the Gaussian filter."""
    entries = [(color_of(centers, center), "", center) for center in centers]
    if references:
        entries += [
            ("currentColor", "", "the network"),
            ("currentColor", _GAUSSIAN, "best Gaussian filter"),
            ("currentColor", _LOW, "low dose"),
        ]
    spans = "".join(
        '<span><svg viewBox="0 0 26 8" aria-hidden="true">'
        '<line x1="0" x2="26" y1="4" y2="4" stroke-width="2.5" '
        f'style="stroke:{color};stroke-dasharray:{dash or "none"}"/></svg>{escape(name)}</span>'
        for color, dash, name in entries
    )
    return f'<div class="key">{spans}</div>'


def figure(
    title: str,
    lines: Sequence[Line],
    y_name: str,
    *,
    log: bool = False,
    bounds: tuple[float | None, float | None] = (None, None),
    size: tuple[int, int] = SIZE,
) -> str:
    """A diagram over the steps as SVG; empty without a point.

    Args:
        title: title of the figure.
        lines: what is drawn.
        y_name: unit of the y axis.
        log: whether the y axis is logarithmic if the values differ by more than a factor of 4.
        bounds: values that the y axis must include.
        size: width and height in pixels.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    drawn = [_smoothed(line.points) if line.smooth else _thinned(line.points) for line in lines]
    values = [y for points in drawn for _, y in points]
    end = max(x for line in lines for x, _ in line.points)
    log = log and min(values) > 0 and max(values) > 4 * min(values)
    low, high = _range(values, bounds, log)
    plot = Plot(title, (0.0, max(1.0, end)), (low, high), log_y=log, size=size)
    plot.axes(
        {value: _short(value) for value in ticks(0.0, max(1.0, end), 4)},
        log_ticks(low, high) if log else ticks(low, high),
        "step",
        y_name,
    )
    for line, points in zip(lines, drawn, strict=True):
        if line.smooth and len(line.points) > len(points) // 2:
            raw = [(x, min(max(y, low), high)) for x, y in _thinned(line.points)]
            plot.line(raw, line.color, width=1, opacity=0.35)
        if len(points) > 1:
            plot.line(points, line.color, dash=line.dash, width=1.5 if line.dash else 2, title=line.title)
        if not line.dash and len(line.points) <= 30:
            for x, y in points:
                plot.dot(x, y, line.color, f"{line.title}, step {x:g}: {number(y, 4)}", 3)
    return plot.svg(title)


def validation_figures(records: Sequence[Record], centers: Sequence[str], first: float = 0.0) -> str:
    """Curves of the validation: PSNR of each center, then each other metric for all centers."""
    end = max((float(r["step"]) for r in records), default=first)

    def reference(key: str, center: str, dash: str, name: str) -> Line:
        points = series(records, key, center)[-1:]
        level = [(first, points[0][1]), (max(end, first + 1), points[0][1])] if points else []
        return Line(level, color_of(centers, center), f"{center}, {name}", dash)

    def lines(key: str, chosen: Sequence[str]) -> list[Line]:
        found = []
        for center in chosen:
            found += [
                reference(f"{key}_low", center, _LOW, "low dose"),
                reference(f"{key}_gaussian", center, _GAUSSIAN, "best Gaussian filter"),
                Line(series(records, key, center), color_of(centers, center), center),
            ]
        return found

    figures = [figure(f"PSNR, {center}", lines("psnr", [center]), "dB") for center in centers]
    for key, title, bounds in (
        ("share", "Share of the attainable gain", (0.0, 1.0)),
        ("nrmse", "NRMSE", (0.0, None)),
        ("b_mean", "Bias of the mean in lesions", (0.0, None)),
        ("b_max", "Bias of the maximum in lesions", (0.0, None)),
    ):
        figures.append(figure(title, lines(key, centers), "", bounds=bounds))
    return _grid(figures)


def organ_figures(records: Sequence[Record], centers: Sequence[str]) -> str:
    """Curves of the validation of organs, each measure for all centers."""
    figures = []
    for key, title in (
        ("dice", "Mean Dice"),
        ("dice_corrected_full", "Dice, corrected, full dose"),
        ("dice_corrected_low", "Dice, corrected, low dose"),
        ("dice_uncorrected_full", "Dice, uncorrected, full dose"),
        ("dice_uncorrected_low", "Dice, uncorrected, low dose"),
        ("false_organs", "False organs"),
        ("side_error", "Side error"),
    ):
        lines = [Line(series(records, key, c), color_of(centers, c), c) for c in centers]
        figures.append(figure(title, lines, "share", bounds=(0.0, None)))
    return _grid(figures)


def loss_figures(records: Sequence[Record], centers: Sequence[str], name: str = "Charbonnier loss") -> str:
    """The loss of each center, smoothed, over a faint line of the logged values."""
    lines = [
        Line(series(records, "loss", center), color_of(centers, center), center, smooth=True)
        for center in centers
    ]
    return _grid([figure(f"{name} per center", lines, "", log=True, size=(700, 250))], wide=True)


def routing_figures(records: Sequence[Record], centers: Sequence[str]) -> str:
    """How many gates are closed, and how evenly each center uses its experts."""
    closed = [
        Line(series(records, "closed_gates"), ACCENT, "closed gates"),
        Line(series(records, "dead_banks"), ACCENT, "banks without an open expert", _GAUSSIAN),
    ]
    entropy = [
        Line(series(records, "entropy", center), color_of(centers, center), center) for center in centers
    ]
    return _grid(
        [
            figure("Gates closed", closed, "share", bounds=(0.0, 1.0)),
            figure("Evenness of use (entropy)", entropy, "", bounds=(0.0, 1.0)),
        ]
    )


def pace_figures(records: Sequence[Record]) -> str:
    """Gradient norm before clipping, learning rate and patches per second."""
    color = ACCENT
    return _grid(
        [
            figure("Gradient norm", [Line(series(records, "gradient_norm"), color)], "", log=True),
            figure("Learning rate", [Line(series(records, "rate"), color)], "", bounds=(0.0, None)),
            figure(
                "Patches per second",
                [Line(series(records, "patches_per_second"), color)],
                "",
                bounds=(0.0, None),
            ),
        ]
    )


def usage_html(usage: Mapping[str, Any]) -> str:
    """A colored table of each expert's share of its bank's gates, per center and layer."""
    layers = max((len(table) for table in usage.values()), default=0)
    blocks = "".join(f'<th class="block" colspan="2">Block {k + 1}</th>' for k in range(layers // 2))
    names = {"ffn": "FFN"}
    banks = "".join(f"<th>{names.get(BANKS[k % 2], BANKS[k % 2])}</th>" for k in range(layers))
    head = f"<thead><tr><th></th><th></th>{blocks}</tr><tr><th></th><th></th>{banks}</tr></thead>"
    bodies = []
    for center, table in usage.items():
        rows = []
        for expert in range(len(table[0]) if table else 0):
            name = f'<th class="text" rowspan="{len(table[0])}">{escape(center)}</th>' if expert == 0 else ""
            cells = "".join(_cell(layer[expert]) for layer in table)
            rows.append(f'<tr>{name}<th class="text">Expert {expert + 1}</th>{cells}</tr>')
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    return f'<div class="scroll"><table class="usage">{head}{"".join(bodies)}</table></div>' if bodies else ""


def _cell(share: float) -> str:
    level = min(1.0, max(0.0, share))
    ground = css_color(sequential_color(level))
    return f'<td style="background:{ground};color:{ink_on(level)}">{100 * level:.0f} %</td>'


def _grid(figures: Sequence[str], *, wide: bool = False) -> str:
    kind = "wide" if wide else "figures"
    return f'<div class="{kind}">{"".join(figures)}</div>' if any(figures) else ""


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most so many points that the page stays small, as means over neighbors."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    return [tuple(part.mean(axis=0)) for part in np.array_split(np.asarray(points), _MOST_POINTS)]


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Means over a window of about a twelfth of the points around each, narrower at the ends."""
    points = _thinned(points)
    half = len(points) // 24
    y = np.array([value for _, value in points])
    return [
        (x, float(y[i - reach : i + reach + 1].mean()))
        for i, (x, _) in enumerate(points)
        for reach in (min(half, i, len(points) - 1 - i),)
    ]


def _range(
    values: Sequence[float], bounds: tuple[float | None, float | None], log: bool
) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return low / 1.1, high * 1.1
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - pad, high + pad
    least, most = bounds
    if least is not None:
        low = least if min(values) >= least else low
    if most is not None:
        high = max(most, high if max(values) > most else most)
    return low, high


def _short(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}"
