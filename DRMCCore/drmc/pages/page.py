"""The shell of every page: one HTML file that needs nothing outside itself and no script."""

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
    """A whole page as text.

    `title` is that of the window and, where no `heading` is given, of the page; `banner` is a line across its
    top. These and `footer` are plain text and are escaped here. `introduction`, below the heading, and `body` are
    HTML; `style` is CSS beside the common style sheet.
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
