"""The organ table for people: a row per organ; with lesions a cell has the number without them below."""

from __future__ import annotations

import math
from typing import Any

from DRMCCoreLib.panel.tables import fitHeight, number
from slicer.i18n import tr as _

TEXT_COLUMNS = ("scan", "organ", "code", "side", "stage", "flags")
WHOLE, WITHOUT_LESIONS = "whole", "without_lesions"
SUV_QUANTITIES = {
    "volume_ml": "Volume [ml]",
    "suv_mean": "SUVmean",
    "suv_max": "SUVmax",
    "suv_peak": "SUVpeak",
    "total_uptake_ml": "Total uptake",
}
QUANTITIES = {
    "volume_ml": "Volume [ml]",
    "relative_mean": "Mean / body’s",
    "body_share": "Share of the body",
}
FLAGGED = "\u25b2"

Stages = dict[str, dict[str, Any]]


def readOrgans(tableNode) -> dict[str, Stages]:
    """Organ -> stage (whole, without_lesions) -> numbers (None where there is none) and `flags`.

    Empty for no node, or one that holds no organ table.
    """
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or table.GetColumnByName("organ") is None or table.GetColumnByName("stage") is None:
        return {}
    names = [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]
    organs: dict[str, Stages] = {}
    for row in range(table.GetNumberOfRows()):
        organ, stage = (table.GetValueByName(row, name).ToString() for name in ("organ", "stage"))
        found = organs.setdefault(organ, {}).setdefault(stage, {})
        found["flags"] = table.GetValueByName(row, "flags").ToString()
        for name in names:
            if name not in TEXT_COLUMNS:
                value = table.GetValueByName(row, name).ToDouble()
                found[name] = None if math.isnan(value) else value
    return organs


def quantitiesOf(organs: dict[str, Stages]) -> dict[str, str]:
    """The columns that are shown: SUV where there is one, else what needs no unit."""
    hasSUV = any(stages[WHOLE]["suv_mean"] is not None for stages in organs.values() if WHOLE in stages)
    return SUV_QUANTITIES if hasSUV else QUANTITIES


def fillOrganTable(widget, organs: dict[str, Stages]) -> None:
    """Fills a QTableWidget."""
    import qt  # not there where the module is a library

    quantities = quantitiesOf(organs)
    widget.clear()
    widget.setRowCount(len(organs))
    widget.setColumnCount(1 + len(quantities))
    widget.setHorizontalHeaderLabels([_("Organ"), *quantities.values()])
    for row, (organ, stages) in enumerate(organs.items()):
        whole = stages.get(WHOLE, {})
        flags = whole.get("flags", "")
        item = qt.QTableWidgetItem(f"{organ} {FLAGGED}" if flags else organ)
        tip = _("{organ}: click to go there").format(organ=organ)
        item.setToolTip(f"{tip}\n{flags}" if flags else tip)
        widget.setItem(row, 0, item)
        for column, name in enumerate(quantities, start=1):
            text = number(whole.get(name))
            if WITHOUT_LESIONS in stages and name != "suv_peak":
                text += "\n" + number(stages[WITHOUT_LESIONS].get(name))
            cell = qt.QTableWidgetItem(text)
            cell.setTextAlignment(qt.Qt.AlignCenter)
            cell.setToolTip(_cellTip(stages, name, quantities[name]))
            widget.setItem(row, column, cell)
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
    fitHeight(widget, hasScrollBar=True)


def _cellTip(stages: Stages, name: str, title: str) -> str:
    lines = [f"{title}: {number(stages.get(WHOLE, {}).get(name))}"]
    if WITHOUT_LESIONS in stages:
        without = number(stages[WITHOUT_LESIONS].get(name))
        lesions = number(stages[WHOLE].get("lesion_ml"))
        lines.append(
            _("without its lesions ({lesions} ml): {without}").format(lesions=lesions, without=without)
        )
    if name == "total_uptake_ml":
        lines.append(_("SUVmean times volume [SUV ml]"))
    return "\n".join(lines)
