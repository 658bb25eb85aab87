"""A square table of numbers around 0 as a picture: red below 0, blue above, gray where a row is unclear."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from drmc.pages.colors import css_color, diverging_color
from drmc.pages.text import is_number, number

_CELL, _LEFT, _TOP = 76, 66, 62
_GRAY = "#8d979b"


def matrix_svg(
    title: str,
    names: Sequence[str],
    cells: Sequence[Sequence[tuple[float | None, str]]],
    *,
    unclear: Sequence[bool],
    row_name: str,
    column_name: str,
) -> str:
    """Inline SVG of a matrix.

    Args:
        title: title of the figure.
        names: names of rows and columns alike.
        cells: of each row its cells: the value, whose color is saturated at -1 and 1, and a small text below.
        unclear: whether a row is drawn in gray, but for its diagonal.
        row_name: name of the rows together.
        column_name: name of the columns together.
    """
    size = _LEFT + _CELL * len(names) + 8, _TOP + _CELL * len(names) + 8
    parts = [
        f'<svg class="heatmap" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(title)}">',
        _text(size[0] / 2, 16, title, "label strong"),
        _text(_LEFT + _CELL * len(names) / 2, 35, column_name, "label"),
        (
            f'<text class="label" transform="translate(14 {_TOP + _CELL * len(names) / 2:g}) rotate(-90)" '
            f'text-anchor="middle" fill="currentColor">{escape(row_name)}</text>'
        ),
    ]
    for index, name in enumerate(names):
        parts.append(_text(_LEFT + _CELL * (index + 0.5), _TOP - 8, name, "label"))
        parts.append(_text(_LEFT - 8, _TOP + _CELL * (index + 0.5) + 4, name, "label", "end"))
        for column, (value, small) in enumerate(cells[index]):
            gray = unclear[index] and column != index
            parts.append(_cell(_LEFT + _CELL * column, _TOP + _CELL * index, value, small, gray=gray))
    return "".join(parts) + "</svg>"


def _cell(x: float, y: float, value: float | None, small: str, *, gray: bool) -> str:
    box = f'x="{x + 1:g}" y="{y + 1:g}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3"'
    if not is_number(value):
        return (
            f'<rect {box} fill="none" stroke="currentColor" stroke-opacity="0.35" stroke-dasharray="3 3"/>'
            + _text(x + _CELL / 2, y + _CELL / 2 + 4, "–", "label")
        )
    color = _GRAY if gray else css_color(diverging_color(np.array(-value), 1.0).tolist())
    ink = "#ffffff" if gray or abs(value) > 0.4 else "#10242b"
    middle, shift = x + _CELL / 2, 0 if small else 6
    return (
        f'<g><rect {box} fill="{color}"/>'
        f'<text class="value" x="{middle:g}" y="{y + 35 + shift:g}" text-anchor="middle" fill="{ink}">'
        f"{escape(number(value, 2, fixed=True))}</text>"
        + (
            f'<text class="small" x="{middle:g}" y="{y + 53:g}" text-anchor="middle" fill="{ink}">'
            f"{escape(small)}</text>"
            if small
            else ""
        )
        + "</g>"
    )


def _text(x: float, y: float, text: str, style: str, anchor: str = "middle") -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text class="{style}" {place} fill="currentColor">{escape(text)}</text>'
