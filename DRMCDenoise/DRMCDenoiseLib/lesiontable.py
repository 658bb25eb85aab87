"""The lesion table for people: a row per segment; a cell has a quantity before, after and its change."""

from __future__ import annotations

import math
from typing import Any

from drmc.measures.rows import INTERVAL_OF, SUL_OF, LesionNumber, Quantity, Stage
from drmc.pages.text import percent
from drmc.suv import wording
from DRMCCoreLib.panel.tables import fitHeight, number
from slicer.i18n import tr as _

QUANTITIES: dict[Quantity, str] = {
    "suv_max": "SUVmax",
    "suv_peak": "SUVpeak",
    "suv_mean": "SUVmean",
    "mtv41_ml": "MTV41 [ml]",
    "tlg41": "TLG41",
}
# The others are numbers.
TEXT_COLUMNS = ("scan", "segment", "stage", "suv_rule", "suv_warnings", "interval_note", "sul_note")
BEYOND = "\u25b2"
_WIDEST_NAME = 112  # pixels
_BEYOND_GROUND, _BEYOND_INK = "#fff4dc", "#6b4700"  # both, so that it reads alike on a light and a dark theme

Stages = dict[Stage, dict[LesionNumber, float | None]]


def readLesions(tableNode) -> dict[str, Stages]:
    """Segment -> stage (original, denoised, reference, change_percent) -> numbers, None where there is none.

    Empty for no node, or one that holds no lesion table.
    """
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or table.GetColumnByName("segment") is None or table.GetColumnByName("stage") is None:
        return {}
    lesions: dict[str, Stages] = {}
    numbers = [
        name
        for name in (table.GetColumnName(index) for index in range(table.GetNumberOfColumns()))
        if name not in (*TEXT_COLUMNS, "suv_factor")
    ]
    for row in range(table.GetNumberOfRows()):
        segment, stage = (table.GetValueByName(row, name).ToString() for name in ("segment", "stage"))
        found = lesions.setdefault(segment, {}).setdefault(stage, {})
        for name in numbers:
            value = table.GetValueByName(row, name).ToDouble()
            found[name] = None if math.isnan(value) else value
    return lesions


def suvLines(tableNode) -> list[str]:
    """Rule and factor of the table's SUV in one line, then its warnings; empty if the table has none.

    Those of the full dose follow where they are others.
    """
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or table.GetColumnByName("suv_rule") is None:
        return []
    lines: list[str] = []
    full = _("full dose: ")
    for row in range(table.GetNumberOfRows()):
        rule, factor, warnings, stage = (
            table.GetValueByName(row, name) for name in ("suv_rule", "suv_factor", "suv_warnings", "stage")
        )
        whose = full if stage.ToString() == "reference" else ""
        lines.append(
            whose
            + _("SUV factor {factor:.6g}, rule {rule}").format(factor=factor.ToDouble(), rule=rule.ToString())
        )
        lines += [
            whose + _("Warning: {text}").format(text=text)
            for text in warnings.ToString().split(wording.SEPARATOR)
            if text
        ]
    lines = list(dict.fromkeys(lines))
    return [line for line in lines if line.removeprefix(full) not in lines or not line.startswith(full)]


def intervalNotes(tableNode) -> dict[str, str]:
    """Segment -> why no interval of full dose is stated for it; empty for a model without intervals."""
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or table.GetColumnByName("interval_note") is None:
        return {}
    rows = range(table.GetNumberOfRows())
    cell = lambda row, name: table.GetValueByName(row, name).ToString()
    return {cell(row, "segment"): note for row in rows if (note := cell(row, "interval_note"))}


def fillLesionTable(widget, lesions: dict[str, Stages], notes: dict[str, str] | None = None) -> None:
    """Fills a QTableWidget; a change beyond that of noise alone is colored and marked.

    `notes`: as of `intervalNotes`.
    """
    import qt  # not there where the module is a library
    from drmc.measures.bias import repeatability_flags

    changes = [
        {"segment": segment, "stage": "change_percent", **stages["change_percent"]}
        for segment, stages in lesions.items()
        if "change_percent" in stages
    ]
    flags = {(flag["segment"], flag["quantity"]): flag for flag in repeatability_flags(changes)}
    widget.clear()
    widget.setRowCount(len(lesions))
    widget.setColumnCount(1 + len(QUANTITIES))
    widget.setHorizontalHeaderLabels([_("Lesion"), *QUANTITIES.values()])
    for row, (segment, stages) in enumerate(lesions.items()):
        widget.setItem(row, 0, _nameCell(segment, stages))
        for column, (quantity, label) in enumerate(QUANTITIES.items(), start=1):
            flag = flags.get((segment, quantity), {})
            isBeyond = flag.get("exceeds", False)
            item = qt.QTableWidgetItem(_cellText(stages, quantity, isBeyond))
            item.setTextAlignment(qt.Qt.AlignCenter)
            note = (notes or {}).get(segment, "")
            tip = [_cellTip(stages, quantity, label, flag), _intervalTip(stages, quantity, note)]
            item.setToolTip("\n".join(text for text in tip if text))
            if isBeyond:
                item.setBackground(qt.QBrush(qt.QColor(_BEYOND_GROUND)))
                item.setForeground(qt.QBrush(qt.QColor(_BEYOND_INK)))
            widget.setItem(row, column, item)
    widget.resizeColumnsToContents()
    widget.setColumnWidth(0, min(widget.columnWidth(0), _WIDEST_NAME))
    widget.resizeRowsToContents()
    fitHeight(widget, hasScrollBar=True)


def _nameCell(segment: str, stages: Stages):
    import qt

    volume = next(iter(stages.values())).get("volume_ml")
    item = qt.QTableWidgetItem(f"{segment}\n{number(volume)} ml")
    item.setToolTip(_("{segment}: click to go to its SUVmax").format(segment=segment))
    return item


def _cellText(stages: Stages, quantity: str, isBeyond: bool) -> str:
    from drmc.measures import mtv

    before, after, change = (
        stages.get(stage, {}).get(quantity) for stage in ("original", "denoised", "change_percent")
    )
    isRelative = quantity in mtv.RELATIVE and bool(change)
    mark = f" {BEYOND}" if isBeyond else f" {mtv.MARK}" if isRelative else ""
    interval = _interval(stages, quantity)
    lean = [stages.get(stage, {}).get(SUL_OF.get(quantity)) for stage in ("original", "denoised")]
    sul = (
        ""
        if None in lean
        else "\n" + _("SUL {before} \u2192 {after}").format(before=number(lean[0]), after=number(lean[1]))
    )
    third = "" if interval is None else "\n" + _("90 %: {low} to {high}").format(**interval)
    return f"{number(before)} \u2192 {number(after)}\n{percent(change)}{mark}{sul}{third}"


def _interval(stages: Stages, quantity: str) -> dict[str, str] | None:
    """Both bounds of what full dose would have shown; None where no interval is stated."""
    bounds = [stages.get("denoised", {}).get(name) for name in INTERVAL_OF.get(quantity, ())]
    if not bounds or None in bounds:
        return None
    return dict(zip(("low", "high"), map(number, bounds), strict=True))


def _intervalTip(stages: Stages, quantity: str, note: str) -> str:
    if quantity not in INTERVAL_OF:
        return ""
    interval = _interval(stages, quantity)
    if interval is not None:
        return _(
            "{value}, 90 % interval {low} to {high}: what full dose would have shown, calibrated for this "
            "model."
        ).format(value=number(stages["denoised"].get(quantity)), **interval)
    return _("No interval of full dose is stated: {note}.").format(note=note) if note else ""


def _cellTip(stages: Stages, quantity: str, label: str, flag: dict[str, Any]) -> str:
    from drmc.measures import mtv
    from drmc.measures.bias import REPEATABILITY_SD_PERCENT

    values: list[tuple[str, Any]] = [(_("original"), "original"), (_("denoised"), "denoised")]
    values += [(_("full dose"), "reference")] if "reference" in stages else []
    values_text = ", ".join(f"{name} {number(stages.get(stage, {}).get(quantity))}" for name, stage in values)
    if quantity in mtv.RELATIVE:
        return f"{label}: {values_text}\n" + _(
            "The 41 % threshold follows SUVmax: when less noise makes SUVmax lower, the volume grows by "
            "definition. The saved table has the volumes at SUV 2.5 and 4.0, and at 41 % of the original's "
            "SUVmax."
        )
    if not flag:
        return f"{label}: {values_text}\n" + _("No repeatability is stated for it: it is never marked.")
    verdict = _("Beyond") if flag["exceeds"] else _("Within")
    return f"{label}: {values_text}\n" + _(
        "{verdict} what noise alone makes between two images of one scan, \u00b1{limit:.1f} %: 2.77 times "
        "the within-patient standard deviation of {sd:g} % (Lodge et al. 2012). Scans of different days "
        "differ by more."
    ).format(
        verdict=verdict,
        limit=flag["coefficient_percent"],
        sd=REPEATABILITY_SD_PERCENT[quantity],
    )
