"""The report as PDF, by Qt's printer; needs no main window.

A QTextDocument knows a part of HTML 4 only: no grid, no definition list beside a value, no SVG, no variable.
`printable` writes the page in that part; its texts, numbers, tables and pictures stay.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

_STYLE = """
body { color: #17262c; }
h1 { font-size: 16pt; } h2 { font-size: 12pt; color: #0f5c66; } h3 { font-size: 10pt; }
p, li { font-size: 8.5pt; } td, th { font-size: 8pt; padding: 2px 6px; }
th { color: #5a6b72; text-align: right; } td { text-align: right; }
th.text, td.text, th.lesion, td.fact, th.fact { text-align: left; }
th.fact { color: #5a6b72; font-weight: normal; }
td.picture { text-align: center; }
td.beyond { background-color: #fff4dc; color: #6b4700; }
p.note, p.stamp, footer { color: #5a6b72; }
"""
_INK = "#17262c"
_PAGE_PIXELS = 630  # width of the text of an A4 page, in the units of HTML
_PICTURE = re.compile(
    r'<figure class="panel"><figcaption>(.*?)</figcaption><div class="frame" '
    r'style="max-width:(\d+)px;aspect-ratio:([\d.]+)">(<img .*?)>.*?</figure>',
    re.DOTALL,
)
# Classes of the heat map's texts in the page's style sheet; SVG needs them as attributes.
_FONTS = {
    "label": 'font-size="12"',
    "label strong": 'font-size="12" font-weight="600"',
    "value": 'font-size="14" font-weight="600"',
    "small": 'font-size="10.5"',
}


def writePDF(html: str, path: Path) -> None:
    """Writes a report as A4 pages; raises OSError where the file cannot be written."""
    import qt  # not where the module is only a library

    scratch = path.with_name(f".{path.name}.part")
    scratch.touch()  # the printer does not say why it fails
    try:
        printer = qt.QPrinter(qt.QPrinter.HighResolution)
        printer.setOutputFormat(qt.QPrinter.PdfFormat)
        printer.setOutputFileName(str(scratch))
        printer.setPageSize(qt.QPrinter.A4)
        printer.setDocName(path.stem)
        document = qt.QTextDocument()
        document.setDefaultFont(qt.QFont("Arial", 9))
        document.setHtml(printable(html, _pictureOf))
        document.print(printer)
        if not scratch.stat().st_size:
            raise OSError(0, "the printer has written nothing", str(path))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def printable(html: str, pictureOf: Callable[[str], bytes]) -> str:
    """The page in the part of HTML that a QTextDocument shows.

    Args:
        html: A report of the engine.
        pictureOf: Makes a PNG of an SVG.
    """
    html = re.sub(r"<style>.*?</style>", lambda _found: f"<style>{_STYLE}</style>", html, flags=re.DOTALL)
    html = re.sub(
        r'<div class="research">(.*?)</div>', r'<p align="center"><b>\1</b></p>', html, flags=re.DOTALL
    )
    html = re.sub(r'<div class="trio">(.*?</figure>)</div>', _row, html, flags=re.DOTALL)
    html = re.sub(
        r'<div class="bars">(<div class="bar">.*?</div>)(<div class="bar">.*?</div>)</div>',
        lambda found: f'<p class="note" align="center">{_scale(found[1])}; {_scale(found[2])}</p>',
        html,
        flags=re.DOTALL,
    )
    html = re.sub(r"<dl>(.*?)</dl>", _facts, html, flags=re.DOTALL)
    html = re.sub(r"<svg.*?</svg>", lambda found: _drawn(found[0], pictureOf), html, flags=re.DOTALL)
    return re.sub(r"<summary>(.*?)</summary>", r"<h3>\1</h3>", html, flags=re.DOTALL)


def _row(found: re.Match[str]) -> str:
    """Pictures that stand beside each other, as a table."""
    pictures = _PICTURE.findall(found[1])
    most = _PAGE_PIXELS // max(len(pictures), 1) - 14
    cells = []
    for caption, width, aspect, image in pictures:
        shown = min(int(width), most)
        size = f'width="{shown}" height="{round(shown / float(aspect))}"'
        cells.append(f'<td class="picture">{caption}<br>{image} {size}></td>')
    return f'<table width="100%"><tr>{"".join(cells)}</tr></table>'


def _scale(bar: str) -> str:
    """A color bar in words: its two ends and what they are of."""
    low, high, name = re.findall(r"<span(?: class=\"name\")?>(.*?)</span>", bar)
    return f"{low} to {high} {name}"


def _facts(found: re.Match[str]) -> str:
    """Names and values, two pairs a line."""
    pairs = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", found[1], re.DOTALL)
    cells = [f'<th class="fact">{name}</th><td class="fact">{value}</td>' for name, value in pairs]
    lines = ("".join(cells[first : first + 2]) for first in range(0, len(cells), 2))
    return f'<table width="100%">{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def _drawn(svg: str, pictureOf: Callable[[str], bytes]) -> str:
    """An SVG as a picture of the page's width."""
    stated = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = map(float, stated.groups()) if stated is not None else (2.0, 1.0)
    for name, font in _FONTS.items():
        svg = svg.replace(f'class="{name}"', f'font-family="Arial" {font}')
    svg = svg.replace("currentColor", _INK).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    data = base64.b64encode(pictureOf(svg)).decode("ascii")
    shown = _PAGE_PIXELS - 10
    size = f'width="{shown}" height="{round(shown * height / width)}"'
    return f'<img src="data:image/png;base64,{data}" {size}>'


def _pictureOf(svg: str) -> bytes:
    """A PNG of an SVG, three times as fine as a screen."""
    import qt

    renderer = qt.QSvgRenderer(qt.QByteArray(svg.encode("utf-8")))
    size = renderer.defaultSize()
    image = qt.QImage(3 * size.width(), 3 * size.height(), qt.QImage.Format_RGB32)
    image.fill(qt.QColor("white"))
    painter = qt.QPainter(image)
    renderer.render(painter)
    painter.end()
    data = qt.QByteArray()
    buffer = qt.QBuffer(data)
    buffer.open(qt.QIODevice.WriteOnly)
    image.save(buffer, "PNG")
    buffer.close()
    return bytes(data.data())
