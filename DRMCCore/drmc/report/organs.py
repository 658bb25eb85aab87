"""The organs before and after denoising, in the report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from drmc.pages.markup import table
from drmc.pages.text import mapping, number, percent

_SHOWN = {"suv_mean": "SUVmean", "suv_sd": "SD", "suv_max": "SUVmax", "suv_peak": "SUVpeak"}


def organs_html(summary: Mapping[str, Any]) -> str:
    """A row for each organ with original, denoised and change; empty without organs."""
    found = mapping(summary.get("organs"))
    organs: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in found.get("rows") or ():
        organs.setdefault(row["organ"], {})[row["stage"]] = row
    if not organs:
        return ""
    lines = []
    for name, stages in organs.items():
        before, after, change = (
            stages.get(stage, {}) for stage in ("original", "denoised", "change_percent")
        )
        cells = "".join(
            f"<td>{number(before.get(key), 2)} → {number(after.get(key), 2)} "
            f"({percent(change.get(key))})</td>"
            for key in _SHOWN
        )
        volume = number(before.get("volume_ml"), 0)
        lines.append(f'<tr><td class="text">{escape(name)}</td><td>{volume}</td>{cells}</tr>')
    titles = "".join(f"<th>{title}</th>" for title in _SHOWN.values())
    told = "".join(f'<p class="note">{escape(text)}.</p>' for text in found.get("sentences") or ())
    return told + table(f'<th class="text">Organ</th><th>Volume [ml]</th>{titles}', lines)
