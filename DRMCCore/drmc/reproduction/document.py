"""A document of sections with paragraphs, tables and figures, as HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from drmc.pages.colors import series_rgb
from drmc.pages.markup import section
from drmc.pages.markup import table as html_table
from drmc.pages.page import page

STYLE = """
main { max-width: 1250px; } .figures { display: flex; flex-wrap: wrap; gap: 10px 20px; }
.figures figure { margin: 0; flex: 0 1 auto; } .figures svg { width: var(--wide); max-width: 100%; }
.cells table { font-size: 13px; } .cells td, .cells th { padding: 3px 6px; }
.cells { margin-bottom: 14px; } .cells td.text { white-space: normal; }
"""
_SVG_STYLE = (
    "text { font-family: system-ui, sans-serif; } .label { font-size: 12px; } .strong { font-weight: 600; } "
    ".value { font-size: 14px; font-weight: 600; } .small { font-size: 10.5px; } svg { background: #fff; }"
)


@dataclass(frozen=True)
class Table:
    """A table of plain texts; the first `texts` columns are left-aligned."""

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class Figure:
    """Figures side by side: (name of the file, SVG), and the width of one in pixels."""

    parts: Sequence[tuple[str, str]]
    wide: int = 330


@dataclass(frozen=True)
class Section:
    """A heading and what is below it: paragraphs of plain text, tables, figures."""

    title: str
    parts: list[str | Table | Figure] = field(default_factory=list)


def html_of(title: str, introduction: str, sections: Sequence[Section], *, banner: str, footer: str) -> str:
    """The page."""
    body = "".join(
        section(escape(one.title), "".join(map(_html, one.parts))) for one in sections if one.parts
    )
    lead = f'<p class="lead">{escape(introduction)}</p>'
    return page(title, body, introduction=lead, banner=banner, footer=footer, style=STYLE)


def _html(part: str | Table | Figure) -> str:
    if isinstance(part, str):
        return f'<p class="note">{escape(part)}</p>'
    if isinstance(part, Figure):
        figures = "".join(f"<figure>{svg}</figure>" for _, svg in part.parts)
        return f'<div class="figures" style="--wide:{part.wide}px">{figures}</div>'
    side = lambda k: ' class="text"' if k < part.texts else ""
    head = "".join(f"<th{side(k)}>{escape(name)}</th>" for k, name in enumerate(part.head))
    lines = (
        "<tr>" + "".join(f"<td{side(k)}>{escape(cell)}</td>" for k, cell in enumerate(line)) + "</tr>"
        for line in part.lines
    )
    return f'<div class="cells">{html_table(head, lines)}</div>'


def markdown_of(title: str, introduction: str, sections: Sequence[Section], figures: str) -> str:
    """The same as Markdown.

    Args:
        title: the first heading.
        introduction: the first paragraph.
        sections: what follows.
        figures: folder of the figures' files, relative to the page.
    """
    blocks = [f"# {_escaped(title)}", _escaped(introduction)]
    for one in sections:
        if not one.parts:
            continue
        blocks.append(f"## {_escaped(one.title)}")
        for part in one.parts:
            if isinstance(part, str):
                blocks.append(_escaped(part))
            elif isinstance(part, Figure):
                blocks.append(
                    "\n".join(f"![{_escaped(name)}]({figures}/{name}.svg)" for name, _ in part.parts)
                )
            else:
                rule = ["---" if k < part.texts else "---:" for k in range(len(part.head))]
                lines = [part.head, rule, *part.lines]
                blocks.append("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([*<`])", r"\\\1", text)


def _cell(text: str) -> str:
    return text if set(text) <= set("-:") else _escaped(text).replace("|", r"\|")


def standalone(svg: str) -> str:
    """An inline SVG as a file of its own, on white ground."""
    style = f"<style>{_SVG_STYLE}</style>"
    svg = re.sub(r"var\(--series-(\d+)\)", lambda found: _hex(int(found[1])), svg)
    svg = re.sub(r' style="min-width[^"]*"', "", svg)
    start = svg.index(">") + 1
    return (
        svg[: start - 1].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        + ">"
        + style
        + svg[start:]
    )


def _hex(series: int) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in series_rgb(series))
