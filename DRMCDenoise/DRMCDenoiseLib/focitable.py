"""The foci that denoising lowered by more than noise explains, for people: a row per focus."""

from __future__ import annotations

import json
from typing import Any

from drmc.pages.text import percent
from DRMCCoreLib.nodes.names import LOWERED_FOCI_ATTRIBUTE
from DRMCCoreLib.panel.tables import number
from slicer.i18n import tr as _

_MOST_ROWS, _HEADER_AND_SCROLL_BAR = 6, 46  # rows shown at once; pixels


def loweredFoci(volumeNode) -> dict[str, Any]:
    """The list of lowered foci that a denoised volume keeps (drmc.measures.rows.LoweredFoci); {} without."""
    text = None if volumeNode is None else volumeNode.GetAttribute(LOWERED_FOCI_ATTRIBUTE)
    return json.loads(text) if text else {}


def fociText(found: dict[str, Any]) -> str:
    """How many foci were lowered by more than noise explains; "" if none was."""
    count, listed = found.get("count", 0), len(found.get("foci", ()))
    if not count:
        return ""
    text = (
        _("1 focus was lowered by more than noise explains. Click it to go there.")
        if count == 1
        else _("{count} foci were lowered by more than noise explains. Click one to go there.").format(
            count=count
        )
    )
    if count > listed:
        text += " " + _("The first {listed} are listed.").format(listed=listed)
    return text


def fillFociTable(widget, found: dict[str, Any]) -> None:
    """Fills a QTableWidget with a row per focus."""
    import qt  # not there where the module is a library

    foci = found.get("foci", [])
    widget.clear()
    widget.setRowCount(len(foci))
    titles = [_("No."), _("Slice"), _("Original"), _("Denoised"), _("Change"), _("Beyond noise"), _("Lesion")]
    widget.setColumnCount(len(titles))
    widget.setHorizontalHeaderLabels(titles)
    for row, focus in enumerate(foci):
        cells = [
            str(focus["rank"]),
            str(focus["slice"]),
            number(focus["suv_before"]),
            number(focus["suv_after"]),
            percent(focus["change_percent"]),
            _("{sigmas} SD").format(sigmas=f"{focus['sigmas']:.1f}"),
            focus["segment"] or number(None),
        ]
        place = ", ".join(f"{focus[f'{axis}_mm']:.1f}" for axis in "xyz")
        for column, text in enumerate(cells):
            item = qt.QTableWidgetItem(text)
            if column < len(cells) - 1:
                item.setTextAlignment(qt.Qt.AlignCenter)
            item.setToolTip(
                _("Mean SUV over 1 ml before and after, at {place} mm (LPS): click to go there").format(
                    place=place
                )
            )
            widget.setItem(row, column, item)
    widget.resizeColumnsToContents()
    widget.resizeRowsToContents()
    heights = [widget.rowHeight(row) for row in range(min(len(foci), _MOST_ROWS))]
    widget.setFixedHeight(sum(heights) + _HEADER_AND_SCROLL_BAR)
