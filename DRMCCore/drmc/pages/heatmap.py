"""The routing table as a picture: layers from left to right, experts from top to bottom, with the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from drmc.pages.colors import css_color, ink_on, nice_top, sequential_color

_CELL_WIDTH, _CELL_HEIGHT = 72, 46
_LEFT, _TOP = 84, 52


def routing_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Inline SVG of `drmc.measures.routing.routing_table` rows; no script, no external resource.

    A cell's color and large number are the mean gate, the small one the fraction of tiles in which the expert
    is closed.
    """
    layers = list(dict.fromkeys((row["block"], row["bank"]) for row in rows))
    experts = list(dict.fromkeys(row["expert"] for row in rows))
    cells = {(row["block"], row["bank"], row["expert"]): row for row in rows}
    means = [row["mean_gate"] for row in rows if row["mean_gate"] is not None]
    top = nice_top(max(means, default=1.0))
    width = _LEFT + _CELL_WIDTH * len(layers) + 12
    bottom = _TOP + _CELL_HEIGHT * len(experts)
    style = f"min-width:{round(width * 0.72)}px;max-width:{round(width * 1.15)}px"
    label = "Mean gate of each expert in each layer"
    size = f'viewBox="0 0 {width} {bottom + 58}" style="{style}"'
    parts = [f'<svg class="heatmap" {size} role="img" aria-label="{label}">']
    for column, (block, bank) in enumerate(layers):
        x = _LEFT + _CELL_WIDTH * column
        if column == 0 or layers[column - 1][0] != block:
            span = sum(1 for other, _ in layers if other == block)
            center = x + _CELL_WIDTH * span / 2
            parts.append(_text(center, 18, f"Block {block}", "label strong"))
            parts.append(
                f'<line x1="{x + 5}" x2="{x + _CELL_WIDTH * span - 5}" y1="25" y2="25" stroke="currentColor" '
                'stroke-opacity="0.35"/>'
            )
        parts.append(_text(x + _CELL_WIDTH / 2, 42, "FFN" if bank == "ffn" else str(bank), "label"))
    for line, expert in enumerate(experts):
        y = _TOP + _CELL_HEIGHT * line
        parts.append(_text(_LEFT - 12, y + _CELL_HEIGHT / 2 + 4, f"Expert {expert}", "label strong", "end"))
        for column, (block, bank) in enumerate(layers):
            row = cells.get((block, bank, expert))
            if row is not None:
                parts.append(_cell(_LEFT + _CELL_WIDTH * column, y, row, top))
    parts.append(_scale_bar(_LEFT, bottom + 18, top))
    parts.append("</svg>")
    return "".join(parts)


def _cell(x: float, y: float, row: Mapping[str, Any], top: float) -> str:
    mean = row["mean_gate"]
    if mean is None:
        return (
            f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}" rx="3" '
            'fill="none" stroke="currentColor" stroke-opacity="0.35" stroke-dasharray="3 3"/>'
            + _text(x + _CELL_WIDTH / 2, y + _CELL_HEIGHT / 2 + 4, "–", "label")
        )
    level = min(1.0, max(0.0, mean / top))
    ink = ink_on(level)
    title = (
        f"Block {row['block']} {row['bank']}, expert {row['expert']}: mean gate {mean:.4f}, SD "
        f"{row['sd_gate']:.4f}, closed in {100 * row['closed_fraction']:.1f} % and largest in "
        f"{100 * row['top1_fraction']:.1f} % of the tiles"
    )
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}" rx="3" '
        f'fill="{css_color(sequential_color(level))}"/>'
        f'<text class="value" x="{x + _CELL_WIDTH / 2:g}" y="{y + 21:g}" text-anchor="middle" '
        f'fill="{ink}">{mean:.3f}</text>'
        f'<text class="small" x="{x + _CELL_WIDTH / 2:g}" y="{y + 36:g}" text-anchor="middle" fill="{ink}">'
        f"{100 * row['closed_fraction']:.0f} % closed</text></g>"
    )


def _scale_bar(x: float, y: float, top: float) -> str:
    steps, width = 40, 220
    boxes = []
    for step in range(steps):
        color = css_color(sequential_color((step + 0.5) / steps))
        boxes.append(
            f'<rect x="{x + width * step / steps:g}" y="{y}" width="{width / steps + 0.5:g}" height="10" '
            f'fill="{color}"/>'
        )
    ticks = [
        _text(x + width * share, y + 25, f"{top * share:g}", "label", anchor)
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    ]
    return (
        "".join(boxes)
        + "".join(ticks)
        + _text(x + width + 14, y + 10, "mean gate over the tiles", "label", "start")
    )


def _text(x: float, y: float, text: str, style: str, anchor: str = "middle") -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text class="{style}" {place} fill="currentColor">{escape(text)}</text>'
