"""The columns of the lesion table that are shown, so that they can be read in a panel of the usual width."""

from __future__ import annotations

import qt
from DRMCCoreLib.panel.tables import fitHeight

from DRMCDenoiseLib.lesiontable import QUANTITIES

VOLUMES = ("mtv41_ml", "tlg41")
_PADDING = 10  # pixels, of a cell


class SpreadColumns(qt.QObject):
    """Lets the columns of a table share its width whenever that changes."""

    def __init__(self, widget):
        qt.QObject.__init__(self)
        self._widget = widget
        widget.viewport().installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        """Called by Qt before the table's viewport gets an event."""
        if event.type() == qt.QEvent.Resize:
            spreadColumns(self._widget)
        return False


def chooseColumns(widget, hasVolumes: bool) -> None:
    """Shows the SUVs of each lesion, or its volumes; the columns share the width of the table."""
    for column, quantity in enumerate(QUANTITIES, start=1):
        widget.setColumnHidden(column, (quantity in VOLUMES) != hasVolumes)
    spreadColumns(widget)


def spreadColumns(widget) -> None:
    """Gives each column that is shown the width of its text, and an equal share of what is left."""
    columns = [column for column in range(widget.columnCount) if not widget.isColumnHidden(column)]
    widths = [_textWidth(widget, column) + _PADDING for column in columns]
    if not columns:
        return
    left = max(0, widget.viewport().width - sum(widths))
    fitHeight(widget, hasScrollBar=not left)
    for column, width in zip(columns, widths, strict=True):
        widget.setColumnWidth(column, width + left // len(columns))


def _textWidth(widget, column: int) -> int:
    """The width of the widest line of text in a column, its header included, in pixels."""
    items = [widget.item(row, column) for row in range(widget.rowCount)]
    texts = [item.text() for item in (widget.horizontalHeaderItem(column), *items) if item is not None]
    metrics = widget.fontMetrics()
    return max((metrics.horizontalAdvance(line) for text in texts for line in text.split("\n")), default=0)
