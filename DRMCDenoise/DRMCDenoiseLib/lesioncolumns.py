"""The columns of the lesion table that are shown, so that they can be read in a panel of the usual width."""

from __future__ import annotations

from DRMCDenoiseLib.lesiontable import QUANTITIES

VOLUMES = ("mtv41_ml", "tlg41")
_PADDING = 10  # pixels, of a cell


def chooseColumns(widget, hasVolumes: bool) -> None:
    """Shows the SUVs of each lesion, or its volumes; the columns share the width of the table."""
    for column, quantity in enumerate(QUANTITIES, start=1):
        widget.setColumnHidden(column, (quantity in VOLUMES) != hasVolumes)
    columns = [column for column in range(widget.columnCount) if not widget.isColumnHidden(column)]
    widths = [_textWidth(widget, column) + _PADDING for column in columns]
    left = max(0, widget.viewport().width - sum(widths))
    for column, width in zip(columns, widths, strict=True):
        widget.setColumnWidth(column, width + left // len(columns))


def _textWidth(widget, column: int) -> int:
    """The width of the widest line of text in a column, its header included, in pixels."""
    items = [widget.item(row, column) for row in range(widget.rowCount)]
    texts = [item.text() for item in (widget.horizontalHeaderItem(column), *items) if item is not None]
    metrics = widget.fontMetrics()
    return max((metrics.horizontalAdvance(line) for text in texts for line in text.split("\n")), default=0)
