"""The report's section on the routing: of the body, of each lesion, and the nearest training center."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from drmc.measures.routing_profiles import LIMIT_FACTOR, UNLIKE, is_of_all_scanners
from drmc.measures.rows import RoutingRow
from drmc.pages.heatmap import routing_svg
from drmc.pages.markup import table
from drmc.pages.text import mapping, number, plain
from drmc.report.summary import Summary

MOST_LESIONS = 20
"""Lesions whose routing is drawn; routing_lesions.csv has all of them."""


def routing_html(rows: Sequence[RoutingRow], summary: Summary) -> str:
    """The section, from rows of `routing_table` and the routing in summary.json."""
    if not rows:
        return '<p class="note">There is no routing to show for this run.</p>'
    fractions = [value for row in rows if (value := row["closed_fraction"]) is not None]
    if not fractions:
        return '<p class="note">No tile contained any body, so no expert was used.</p>' + _heatmap(rows)
    closed = float(np.mean(fractions))
    tiles = mapping(summary.get("tiles")).get("count")
    over = f"over {escape(plain(tiles))} tiles" if tiles else "over the tiles of this scan"
    return (
        '<p class="note">In every layer the network weighs its experts by gates that depend on the image, '
        f"tile by tile; a gate of exactly 0 closes the expert. Below, {over}: the mean gate (color, large "
        f"number) and in how many tiles the expert was closed. {100 * closed:.0f} % of all gates were "
        "closed.</p>"
        + _heatmap(rows)
        + _nearest(mapping(summary.get("routing_nearest")))
        + _lesions(mapping(summary.get("routing_lesions")))
    )


def _nearest(nearest: Mapping[str, Any]) -> str:
    if not nearest:
        return ""
    limit = nearest.get("limit")
    center = escape(plain(nearest["center"]))
    lines = [
        f'<tr><td class="text">{escape(plain(name))}{" (nearest)" if name == nearest["center"] else ""}</td>'
        f"<td>{number(distance, 2)}</td></tr>"
        for name, distance in sorted(nearest["distances"].items(), key=lambda item: item[1])
    ]
    text = (
        f'<p class="note">The model was trained on many scanners ({center}), which count as one center.</p>'
        if is_of_all_scanners(nearest)
        else '<p class="note">Of the training centers, the routing of this scan is nearest to that of '
        f"<b>{center}</b>.</p>"
    )
    if nearest.get("unlike"):
        text += f'<div class="box warning"><p>{UNLIKE}.</p></div>'
    bound = (
        ""
        if limit is None
        else f" The limit is {number(limit, 2)}, {LIMIT_FACTOR:g} times the largest distance of a patient of "
        "a training center from the other patients there; beyond it a scan is unlike all of them."
    )
    return (
        f"<h3>Nearest training center</h3>{text}"
        + table('<th class="text">Center</th><th>Distance</th>', lines)
        + '<p class="note">Distance: root mean square over all gates of the difference to the center’s mean '
        f"gate, in standard deviations between patients of one center.{bound}</p>"
    )


def _lesions(tables: Mapping[str, Sequence[RoutingRow]]) -> str:
    if not tables:
        return ""
    note = (
        "The same over the tiles that contain a lesion, each weighted by the number of its voxels in the "
        "lesion."
    )
    parts = [f'<p class="note">{note}</p>']
    for segment, rows in list(tables.items())[:MOST_LESIONS]:
        nothing = all(row["mean_gate"] is None for row in rows)
        shown = '<p class="note">It lies in no tile.</p>' if nothing else _heatmap(rows)
        parts.append(f"<h3>{escape(segment)}</h3>{shown}")
    if len(tables) > MOST_LESIONS:
        parts.append(f'<p class="note">{len(tables) - MOST_LESIONS} more: routing_lesions.csv.</p>')
    return f"<details><summary>Routing in each lesion</summary>{''.join(parts)}</details>"


def _heatmap(rows: Sequence[RoutingRow]) -> str:
    return f'<div class="scroll">{routing_svg(rows)}</div>'
