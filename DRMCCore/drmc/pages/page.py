"""The shell of every page: one self-contained HTML file without a script."""

from __future__ import annotations

from html import escape

from drmc.pages.style import CSS


def page(
    title: str,
    body: str,
    *,
    heading: str = "",
    introduction: str = "",
    banner: str = "",
    footer: str = "",
    style: str = "",
) -> str:
    """A whole page as HTML.

    Args:
        title: title of the window, plain text; escaped here like `heading`, `banner` and `footer`.
        body: HTML.
        heading: heading of the page, plain text; default: the title.
        introduction: HTML below the heading.
        banner: a line across the top, plain text.
        footer: plain text.
        style: CSS in addition to the common style sheet.
    """
    top = f'<div class="research">{escape(banner)}</div>' if banner else ""
    end = f"<footer>{escape(footer)}</footer>" if footer else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{style}</style></head>\n<body>{top}<main>"
        f'<header class="page"><h1>{escape(heading or title)}</h1>{introduction}</header>\n'
        f"{body}{end}</main></body></html>\n"
    )
