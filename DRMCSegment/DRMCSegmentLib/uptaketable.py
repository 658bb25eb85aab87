"""Uptake above a threshold: its table for people, and what is marked as physiological, shown or hidden."""

from __future__ import annotations

from typing import Any

from DRMCCoreLib.nodes.tables import tableRows
from DRMCCoreLib.panel.tables import fitHeight, number
from slicer.i18n import tr as _

TEXT_COLUMNS = ("scan", "name", "organ", "mark")
PHYSIOLOGICAL = "physiological"
_MARK = "(physiological, "  # in the names of the engine's segments
_QUANTITIES = {
    "volume_ml": "Volume [ml]",
    "suv_max": "SUVmax",
    "suv_peak": "SUVpeak",
    "suv_mean": "SUVmean",
    "tlg": "TLG",
}


def readUptake(tableNode) -> list[dict[str, Any]]:
    """The rows of the table, numbers None where there is none; empty for no node or another table."""
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or table.GetColumnByName("mark") is None:
        return []
    return tableRows(table, TEXT_COLUMNS)


def isMarked(segmentName: str) -> bool:
    """Whether the engine has marked this part as physiological."""
    return _MARK in segmentName


def setMarkedShown(uptakeNode, isShown: bool) -> None:
    """Shows or hides the marked parts of a segmentation; the others are shown."""
    segmentation, display = uptakeNode.GetSegmentation(), uptakeNode.GetDisplayNode()
    for segmentID in segmentation.GetSegmentIDs() if display is not None else ():
        marked = isMarked(segmentation.GetSegment(segmentID).GetName())
        display.SetSegmentVisibility(segmentID, isShown or not marked)


def totalsText(found: dict[str, Any] | None, countPhysiological: bool) -> str:
    """The burden in words: the total that is counted first, then the other; empty without uptake."""
    if not found:
        return ""
    totals = found["totals"]
    words = {
        "all": _("with what is marked as physiological"),
        "without_physiological": _("without what is marked as physiological"),
    }
    order = ("all", "without_physiological") if countPhysiological else ("without_physiological", "all")
    lines = [
        _("{ml} ml, TLG {tlg} in {count} parts, {words}").format(
            ml=number(totals[key]["volume_ml"]),
            tlg=number(totals[key]["tlg"]),
            count=totals[key]["count"],
            words=words[key],
        )
        for key in order
    ]
    threshold = found["threshold"]
    how = _("SUV {suv} or more").format(suv=number(threshold["suv"]))
    if threshold["reference"]:
        how += _(": {factor:g} x {mean} + 2 x {sd} of the {reference}").format(
            factor=threshold["factor"],
            mean=number(threshold["reference_mean_suv"]),
            sd=number(threshold["reference_sd_suv"]),
            reference=threshold["reference"],
        )
    return "\n".join([*lines, how])


def fillUptakeTable(widget, rows: list[dict[str, Any]]) -> None:
    """Fills a QTableWidget; marked parts are named so."""
    import qt  # not there where the module is a library

    widget.clear()
    widget.setRowCount(len(rows))
    widget.setColumnCount(1 + len(_QUANTITIES))
    widget.setHorizontalHeaderLabels([_("Uptake"), *_QUANTITIES.values()])
    for row, one in enumerate(rows):
        item = qt.QTableWidgetItem(one["name"].removeprefix("candidate "))
        item.setToolTip(_("{name}: click to go to its SUVmax").format(name=one["name"]))
        widget.setItem(row, 0, item)
        for column, name in enumerate(_QUANTITIES, start=1):
            cell = qt.QTableWidgetItem(number(one[name]))
            cell.setTextAlignment(qt.Qt.AlignCenter)
            widget.setItem(row, column, cell)
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
    fitHeight(widget, hasScrollBar=True)
