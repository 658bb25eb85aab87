"""The page of an anatomy audit: a picture of the offsets and the tables; no script, no outside resource."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from drmc.pages.colors import ACCENT, series_color
from drmc.pages.markup import section
from drmc.pages.page import page as shell
from drmc.pages.plot import Plot
from drmc.runtime.progress import table_lines
from drmc.simulation.audit import QUANTITIES

_COLORS = (series_color(1), series_color(3), ACCENT)
_WORDS = {"x": "x (left)", "y": "y (backward)", "z": "z (down)", "log_volume": "log volume"}


def text(found: dict[str, Any]) -> str:
    """The audit as lines of text: the distribution of every organ, and what lies beyond the limits."""
    titles = [
        "organ",
        "n",
        "x [mm]",
        "y [mm]",
        "z [mm]",
        "volume [ml]",
        *(f"{one}, worst [sd]" for one in found["anatomies"]),
    ]
    rows = []
    for organ, one in found["organs"].items():
        spread = lambda key, one=one: f"{one['mean'][key]:.0f} ±{one['sd'][key]:.0f}" if one["n"] > 1 else "-"
        worst = [_worst(anatomy["offsets"].get(organ)) for anatomy in found["anatomies"].values()]
        rows.append([organ, str(one["n"]), *(spread(key) for key in ("x", "y", "z", "volume_ml")), *worst])
    ranges = [
        f"{one['organ']} {one['quantity']}: mean {one['mean']:.0f}, range {one['range'][0]:g} to "
        f"{one['range'][1]:g}" + ("" if one["holds"] else ": MISS")
        for one in found["ranges"]
    ]
    verdict = "within" if found["passes"] else "MISS:"
    limits = (
        f"{verdict} the limits: {found['limit_sd']:g} standard deviations for every organ; "
        f"the worst is {found['worst_sd']:.1f}"
    )
    return "\n".join(
        [
            f"{found['patients']} simulated patients, seed {found['seed']}; mean ± standard deviation",
            *table_lines(titles, rows),
            *ranges,
            limits,
        ]
    )


def _worst(offsets: dict[str, float] | None) -> str:
    if not offsets:
        return "-"
    key = max(offsets, key=lambda one: abs(offsets[one]))
    return f"{offsets[key]:+.1f} in {_WORDS[key]}"


def page(found: dict[str, Any]) -> str:
    """The audit as a page of its own (HTML)."""
    title = f"Anatomy of {found['patients']} simulated patients"
    pictures = "".join(_picture(found, quantity) for quantity in QUANTITIES)
    sources = "".join(
        f"<li><b>{escape(name)}</b>: {escape(one['source'])}</li>" for name, one in found["anatomies"].items()
    )
    offsets = (
        f'<p class="note">{escape(found["frame"])}. Shaded: within {found["limit_sd"]:g}. An offset beyond '
        f'the axis stands at its end.</p>{pictures}<ul class="note">{sources}</ul>'
    )
    numbers = (
        f'<div class="scroll"><pre>{escape(text(found))}</pre></div>'
        f'<p class="note">{escape(found["ranges_source"])}</p>'
    )
    cards = (
        section("Reference anatomies, in standard deviations of the simulated ones", offsets),
        section("Numbers", numbers),
    )
    return shell(title, "".join(cards))


def _picture(found: dict[str, Any], quantity: str) -> str:
    """One quantity: organs along x, the offset of each reference anatomy in standard deviations along y."""
    organs = list(found["organs"])
    worst = [
        abs(one["offsets"][o][quantity])
        for one in found["anatomies"].values()
        for o in one["offsets"]
        if quantity in one["offsets"][o]
    ]
    top = min(12.0, max(4.0, math.ceil(max(worst, default=4.0))))
    limit, right = found["limit_sd"], float(len(organs))
    # the legend has a column of its own
    plot = Plot(_WORDS[quantity], (-2.0, right), (-top, top), size=(1240, 260))
    plot.axes(
        {i + 0.5: organ.replace("left", "L").replace("right", "R") for i, organ in enumerate(organs)},
        [-top, -limit, 0.0, limit, top],
        "",
        "standard deviations",
    )
    plot.band([(0.0, -limit), (right, -limit)], [(0.0, limit), (right, limit)], _COLORS[-1])
    for (name, one), color in zip(found["anatomies"].items(), _COLORS, strict=False):
        for i, organ in enumerate(organs):
            offset = one["offsets"].get(organ, {}).get(quantity)
            if offset is not None:
                plot.dot(i + 0.5, max(-top, min(top, offset)), color, f"{name}, {organ}: {offset:+.1f}")
    plot.legend(list(zip(found["anatomies"], _COLORS, strict=False)))
    return plot.svg(f"Offsets in {_WORDS[quantity]}")
