"""Pieces of HTML."""

from __future__ import annotations

from collections.abc import Iterable


def section(heading: str, content: str) -> str:
    """A card with a heading; "" without content. Both are HTML."""
    return f"<section><h2>{heading}</h2>{content}</section>" if content else ""


def facts_list(entries: Iterable[tuple[str, str]]) -> str:
    """Labels with their values side by side; both are HTML."""
    items = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in entries)
    return f"<dl>{items}</dl>"


def table(head: str, lines: Iterable[str]) -> str:
    """A table that scrolls sideways in a narrow window.

    Args:
        head: HTML of the header's cells.
        lines: HTML of whole rows.
    """
    rows = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
