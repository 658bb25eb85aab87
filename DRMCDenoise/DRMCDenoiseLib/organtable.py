"""Organs before and after, for people: a row per organ; a cell has a number before, after and its change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drmc.pages.text import percent
from DRMCCoreLib.nodes.tables import tableRows
from DRMCCoreLib.panel.tables import fitHeight, number
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from drmc.denoising.organ_change import OrganChangeRow

REFERENCES_ATTRIBUTE = "DRMC.References"  # of the table: what liver and blood pool show, in words
TEXT_COLUMNS = ("scan", "organ", "stage")
QUANTITIES = {"suv_mean": "SUVmean", "suv_sd": "SD", "suv_max": "SUVmax", "suv_peak": "SUVpeak"}


def readChanges(tableNode) -> list[OrganChangeRow]:
    """The rows of the table, numbers None where there is none; empty for no node or another table."""
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or table.GetColumnByName("organ") is None or table.GetColumnByName("stage") is None:
        return []
    return tableRows(table, TEXT_COLUMNS)


def keptText(rows: list[OrganChangeRow]) -> str:
    """Whether denoising keeps the organs' means, in a sentence; empty where no organ is large enough."""
    from drmc.denoising.organ_change import sentences  # SimpleITK is not needed before

    return "".join(f"{text}." for text in sentences(rows))


def fillChangeTable(widget, rows: list[OrganChangeRow]) -> None:
    """Fills a QTableWidget."""
    import qt  # not there where the module is a library

    organs: dict[str, dict[str, Any]] = {}
    for row in rows:
        organs.setdefault(row["organ"], {})[row["stage"]] = row
    widget.clear()
    widget.setRowCount(len(organs))
    widget.setColumnCount(1 + len(QUANTITIES))
    widget.setHorizontalHeaderLabels([_("Organ"), *QUANTITIES.values()])
    for row, (organ, stages) in enumerate(organs.items()):
        before, after, change = (
            stages.get(stage, {}) for stage in ("original", "denoised", "change_percent")
        )
        item = qt.QTableWidgetItem(f"{organ}\n{number(before.get('volume_ml'))} ml")
        widget.setItem(row, 0, item)
        for column, name in enumerate(QUANTITIES, start=1):
            numbers = f"{number(before.get(name))} \u2192 {number(after.get(name))}"
            cell = qt.QTableWidgetItem(f"{numbers}\n{percent(change.get(name))}")
            cell.setTextAlignment(qt.Qt.AlignCenter)
            widget.setItem(row, column, cell)
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
    fitHeight(widget, hasScrollBar=True)
