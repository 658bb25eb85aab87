"""The routing of a run as MRML nodes: a table with every gate, and a bar chart over it.

The table has one row per region, block, bank and expert. `kind` says what a region is: BODY, LESION (its segment's
name) or CENTER (the profile of a training center: means only). Which center is nearest is an attribute of the node.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import slicer
import vtk
from drmc.measures.rows import GATE_NUMBERS, ROUTING_COLUMNS, RoutingRow
from DRMCCoreLib.nodes.names import INPUT_REFERENCE
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from drmc.measures.routing_profiles import NearestCenter
    from drmc.report.summary import Summary

BODY, LESION, CENTER = "body", "lesion", "center"
NEAREST_ATTRIBUTE = "DRMC.RoutingNearest"
_TEXTS, _WHOLE = ("region", "kind", "bank"), ("block", "expert")
COLUMNS = ("region", "kind", *ROUTING_COLUMNS)
_CHART, _SERIES = "DRMC.RoutingChart", "DRMC.RoutingSeries"
_LABELS = "Gate"
_SERIES_COLORS = ((0.23, 0.51, 0.77), (0.55, 0.55, 0.55))


class RegionRow(RoutingRow):
    """A row of the node's table: one of the routing table, with its region."""

    region: str
    kind: str


class Routing(NamedTuple):
    """The content of a routing table node, rows in router order.

    `regions`: the body under "", then the lesions by name; `nearest`: as `routing_nearest` of summary.json without
    its means, {} without profiles.
    """

    regions: dict[str, list[RegionRow]]
    centers: dict[str, list[RegionRow]]
    nearest: NearestCenter | dict[str, Any]


def showRouting(summary: Summary, tableNode, inputNode):
    """Puts the routing of a run into `tableNode` (a new node if None) and its chart; returns the table node.

    None where the summary has no routing.
    """
    if not summary.get("routing"):
        return None
    if tableNode is None:
        tableNode = _newNode("vtkMRMLTableNode", f"{inputNode.GetName()} routing (DRMC)")
    nearest = dict(summary.get("routing_nearest") or {})
    centers = _profileRows(summary["routing"], nearest.pop("means", {}))
    lesions = summary.get("routing_lesions") or {}
    with slicer.util.NodeModify(tableNode):
        tableNode.SetAndObserveTable(_table(summary["routing"], lesions, centers))
        tableNode.SetNodeReferenceID(INPUT_REFERENCE, inputNode.GetID())
        tableNode.SetAttribute(NEAREST_ATTRIBUTE, json.dumps(nearest) if nearest else None)
    showInChart(tableNode, "")
    return tableNode


def readRouting(tableNode) -> Routing | None:
    """What the node holds; None for no node, or one that holds no routing table."""
    table = None if tableNode is None else tableNode.GetTable()
    if table is None or any(table.GetColumnByName(name) is None for name in COLUMNS):
        return None
    columns = {name: table.GetColumnByName(name) for name in COLUMNS}
    regions: dict[str, list[RegionRow]] = {}
    centers: dict[str, list[RegionRow]] = {}
    for index in range(table.GetNumberOfRows()):
        row = {name: columns[name].GetValue(index) for name in COLUMNS}
        row.update({name: None for name in GATE_NUMBERS if math.isnan(row[name])})
        key = "" if row["kind"] == BODY else row["region"]
        (centers if row["kind"] == CENTER else regions).setdefault(key, []).append(row)
    if "" not in regions:
        return None
    return Routing(regions, centers, json.loads(tableNode.GetAttribute(NEAREST_ATTRIBUTE) or "{}"))


def showInChart(tableNode, region: str):
    """Lets the table's chart show a region (a lesion's name, "" the body); returns the chart node.

    Beside the body stands the nearest training center, beside a lesion the body.
    """
    routing = readRouting(tableNode)
    chart = _referenced(tableNode, _CHART, 0, "vtkMRMLPlotChartNode", "chart")
    wide = _wideTable(tableNode, routing)
    shown = [_columnName(routing, region)]
    if region:
        shown.append(_columnName(routing, ""))
    elif routing.nearest.get("center") in routing.centers:
        shown.append(_centerColumn(routing.nearest["center"]))
    with slicer.util.NodeModify(chart):
        chart.RemoveAllPlotSeriesNodeIDs()
        for number, column in enumerate(shown):
            series = _referenced(tableNode, _SERIES, number, "vtkMRMLPlotSeriesNode", f"series {number + 1}")
            series.SetName(column)
            series.SetPlotType(series.PlotTypeBar)
            series.SetAndObserveTableNodeID(wide.GetID())
            series.SetLabelColumnName(_LABELS)
            series.SetYColumnName(column)
            series.SetColor(*_SERIES_COLORS[number])
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetTitle(tableNode.GetName())
        chart.SetXAxisTitle(_("Block, bank and expert"))
        chart.SetYAxisTitle(_("Mean gate"))
        chart.SetLegendVisibility(True)
    return chart


def layerName(row: RoutingRow, isShort: bool = False) -> str:
    """A layer for people: `Block 1 attention`, short `Block 1 att.`."""
    attention = _("att.") if isShort else _("attention")
    bank = _("FFN") if row["bank"] == "ffn" else attention
    return _("Block {number} {bank}").format(number=row["block"], bank=bank)


def _profileRows(body: list[RoutingRow], means: dict[str, list[list[float]]]) -> dict[str, list[RoutingRow]]:
    """The rows of each center's profile, in the order and for the places of the body's."""
    nothing = dict.fromkeys(GATE_NUMBERS)
    found = {}
    for center, mean_LM in means.items():
        flat = [gate for layer in mean_LM for gate in layer]
        found[center] = [{**row, **nothing, "mean_gate": gate} for row, gate in zip(body, flat, strict=True)]
    return found


def _table(
    body: list[RoutingRow], lesions: dict[str, list[RoutingRow]], centers: dict[str, list[RoutingRow]]
) -> vtk.vtkTable:
    parts: Iterable[tuple[str, str, list[RoutingRow]]] = (
        (BODY, BODY, body),
        *((name, LESION, rows) for name, rows in lesions.items()),
        *((name, CENTER, rows) for name, rows in centers.items()),
    )
    table = vtk.vtkTable()
    arrays = {}
    for name in COLUMNS:
        kind = (
            vtk.vtkStringArray
            if name in _TEXTS
            else vtk.vtkIntArray
            if name in _WHOLE
            else vtk.vtkDoubleArray
        )
        arrays[name] = kind()
        arrays[name].SetName(name)
    for region, kind, rows in parts:
        for row in rows:
            for name, array in arrays.items():
                value = {"region": region, "kind": kind, **row}[name]
                array.InsertNextValue(float("nan") if value is None else value)
    for array in arrays.values():
        table.AddColumn(array)
    return table


def _wideTable(tableNode, routing: Routing):
    """The node that the chart's series read: a line per gate, a column per region and per center."""
    wide = _referenced(tableNode, _CHART, 1, "vtkMRMLTableNode", "chart data")
    wide.SetHideFromEditors(True)
    columns = {_columnName(routing, region): rows for region, rows in routing.regions.items()}
    columns |= {_centerColumn(center): rows for center, rows in routing.centers.items()}
    labels = vtk.vtkStringArray()
    labels.SetName(_LABELS)
    for row in routing.regions[""]:
        labels.InsertNextValue(f"{row['block']} {row['bank'][:3]} {row['expert']}")
    table = vtk.vtkTable()
    table.AddColumn(labels)
    for name, rows in columns.items():
        array = vtk.vtkDoubleArray()
        array.SetName(name)
        for row in rows:
            array.InsertNextValue(row["mean_gate"] or 0.0)
        table.AddColumn(array)
    wide.SetAndObserveTable(table)
    return wide


def _columnName(routing: Routing, region: str) -> str:
    return f"Lesion: {region}" if region in routing.regions and region else "Body"


def _centerColumn(center: str) -> str:
    return f"Center: {center}"


def _referenced(tableNode, role: str, number: int, className: str, what: str):
    """The table's own node of that role and number, made where it is not (any more) in the scene."""
    node = tableNode.GetNthNodeReference(role, number)
    if node is None:
        node = _newNode(className, f"{tableNode.GetName()} {what}")
        tableNode.SetNthNodeReferenceID(role, number, node.GetID())
    return node


def _newNode(className: str, name: str):
    node = slicer.mrmlScene.AddNewNodeByClass(className, slicer.mrmlScene.GenerateUniqueName(name))
    return node
