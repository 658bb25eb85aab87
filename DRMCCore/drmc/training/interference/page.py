"""The figures of an interference table, as in figure 1b of the paper, and their page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from drmc.pages.markup import facts_list, section, table
from drmc.pages.matrix import matrix_svg
from drmc.pages.page import page
from drmc.pages.text import number, plain
from drmc.texts import RESEARCH_USE

NOTE = (
    "Row: the center whose loss it is; column: the center that is optimized. 1: a step for that center "
    "lowers the loss as much as one for the row's own center; 0: it changes nothing; below 0 (red): it does "
    "harm. Large: ratio of means over the batches; in brackets its 95 % interval over the row's batches "
    "(bootstrap; those of the column are not drawn anew). Gray: a step for the row's own center does not "
    "clearly lower its loss (within 2 standard errors of 0), so that the ratio says nothing. Blocks count "
    "from 1."
)
RATIOS_NOTE = (
    "Mean of ratios: equation 5 of the paper, the mean of each batch's own ratio, which is wild where its "
    "denominator is near 0. Cosine: mean of the products of both normalized gradients. Not lowered: share of "
    "the row's batches whose loss a step for their own center does not lower."
)
STYLE = ".matrices { display: flex; flex-wrap: wrap; gap: 8px 20px; } .matrices svg { max-width: 330px; }"


def figure_svg(record: Mapping[str, Any], centers: list[str], title: str = "") -> str:
    """The heat map of one group; `record` is an element of `groups` of `Interference.to_dict`."""
    cells = []
    for i in range(len(centers)):
        line = []
        for j in range(len(centers)):
            low, high = record["low"][i][j], record["high"][i][j]
            small = (
                ""
                if i == j or low is None
                else f"[{number(low, 2, fixed=True)}, {number(high, 2, fixed=True)}]"
            )
            line.append((record["ratio_of_means"][i][j], small))
        cells.append(line)
    return matrix_svg(
        title or record["group"],
        centers,
        cells,
        unclear=record["unclear"],
        row_name="loss of",
        column_name="optimized",
    )


def figures_html(found: Mapping[str, Any], groups: list[str] | None = None) -> str:
    """The heat maps of all groups, or of those that are named."""
    shown = [record for record in found["groups"] if groups is None or record["group"] in groups]
    figures = "".join(figure_svg(record, found["centers"]) for record in shown)
    return f'<div class="matrices">{figures}</div><p class="note">{NOTE}</p>'


def page_html(found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The whole page of an interference table and facts about it."""
    entries = [(escape(key), escape(plain(value))) for key, value in facts.items()]
    cards = [
        section("What was measured", facts_list(entries)),
        section("Interference", figures_html(found)),
        section("Other estimates", _numbers(found)),
    ]
    return page(
        "Interference between centers",
        "".join(cards),
        banner=RESEARCH_USE,
        footer=RESEARCH_USE,
        style=STYLE,
    )


def _numbers(found: Mapping[str, Any]) -> str:
    lines = []
    for record in found["groups"]:
        for i, center in enumerate(found["centers"]):
            cells = [
                f'<td class="text">{escape(text)}</td>' for text in (record["group"] if not i else "", center)
            ]
            for key, digits in (("mean_of_ratios", 2), ("mean_cosine", 3)):
                cells += [f"<td>{number(value, digits)}</td>" for value in record[key][i]]
            cells.append(f"<td>{number(100 * record['share_not_positive'][i], 0, fixed=True)} %</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
    head = '<th class="text">Parameters</th><th class="text">Loss of</th>'
    for name in ("ratio", "cosine"):
        head += "".join(f"<th>{name}, {escape(center)}</th>" for center in found["centers"])
    return table(head + "<th>Not lowered</th>", lines) + f'<p class="note">{RATIOS_NOTE}</p>'
