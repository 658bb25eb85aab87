"""Tables in a panel: their height, numbers for people, and the raw numbers as text or in a file."""

from __future__ import annotations

import math

import slicer
from drmc.files import csv_text, write_text
from slicer.i18n import tr as _

_MOST_ROWS, _HEADER = 6, 28  # rows that are shown at once; pixels
SCROLL_BAR = 18  # pixels


def tableText(tableNode, separator: str) -> str:
    """The node's raw numbers as lines of text, with a header; empty where there is no number."""
    table = tableNode.GetTable()
    columns = range(table.GetNumberOfColumns())

    def cell(value) -> str:
        if value.IsString():
            return value.ToString()
        return "" if math.isnan(value.ToDouble()) else repr(value.ToDouble())

    rows = range(table.GetNumberOfRows())
    lines = ([cell(table.GetValue(row, column)) for column in columns] for row in rows)
    return csv_text([table.GetColumnName(column) for column in columns], lines, separator)


def fitHeight(widget, *, hasScrollBar: bool) -> None:
    """Makes the table as high as its rows, up to six of them."""
    heights = [widget.rowHeight(row) for row in range(min(widget.rowCount, _MOST_ROWS))]
    height = sum(heights) + _HEADER + SCROLL_BAR * hasScrollBar
    if height != widget.minimumHeight:
        widget.setFixedHeight(height)


def number(value: float | None) -> str:
    """A number of the table for people: three to four digits, a dash where there is none."""
    if value is None:
        return "\u2013"
    digits = 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f}".replace("-", "\u2212")


def copyTable(tableNode) -> str:
    """Puts the raw numbers on the clipboard, for a spreadsheet; returns what to say."""
    slicer.app.clipboard().setText(tableText(tableNode, "\t"))
    return _("The table is on the clipboard.")


def saveTable(tableNode, parent) -> str:
    """Writes the raw numbers to a CSV file that the user chooses; returns what to say, "" without one."""
    path = chooseCSV(parent, f"{tableNode.GetName()}.csv")
    if not path:
        return ""
    try:
        write_text(path, tableText(tableNode, ","))
    except OSError as error:
        return _("{path} cannot be written: {reason}").format(path=path, reason=error.strerror)
    return _("Saved: {path}").format(path=path)


def chooseCSV(parent, name: str) -> str:
    """Asks the user for a file; empty where nobody is there to ask."""
    import qt

    if slicer.app.testingEnabled() or slicer.util.mainWindow() is None:
        return ""
    return qt.QFileDialog.getSaveFileName(parent, _("Save the table"), name, _("CSV (*.csv)"))
