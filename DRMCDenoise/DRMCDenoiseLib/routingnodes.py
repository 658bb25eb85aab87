"""The routing of a run as MRML nodes: a table with every gate, and a bar chart of one region.

The table has one row per region, block, bank and expert. `kind` says what a region is: BODY, LESION (its
segment's name) or CENTER (the profile of a training center: means only). The nearest center is an attribute
of the node.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import slicer
import vtk
from drmc.measures.rows import GATE_NUMBERS, ROUTING_COLUMNS, RoutingRow
from drmc.pages.colors import nice_top, series_rgb
from DRMCCoreLib.nodes.names import INPUT_REFERENCE
from DRMCCoreLib.nodes.plots import Series, fillChart, makeTable, setAxisLabels
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from drmc.measures.routing_profiles import NearestCenter
    from drmc.report.summary import Summary

BODY, LESION, CENTER = "body", "lesion", "center"
NEAREST_ATTRIBUTE = "DRMC.RoutingNearest"
COLUMNS = ("region", "kind", *ROUTING_COLUMNS)
_CHART = "DRMC.RoutingChart"  # from the table to its chart, then to the two tables with the chart's numbers
_REGION = "DRMC.RoutingRegion"  # of the chart
_BAR_SHARE = 0.8  # of the distance between two groups, which vtkChartXY gives to the bars of a group
_LAYER, _NAME, _PLACE, _SPREAD = "Layer", "Name", "Place", "SD"  # columns of these
_INK = (0.0, 0.0, 0.0)
_MARKERS = ("Diamond", "Cross")


class RegionRow(RoutingRow):
    """A row of the node's table: one of the routing table, with its region."""

    region: str
    kind: str


class Routing(NamedTuple):
    """The content of a routing table node.

    `regions`: the rows of the body under "", then those of the lesions by name, in router order. `centers`:
    the same for the profile of each center. `nearest`: as `routing_nearest` of summary.json without its
    means, {} without profiles.
    """

    regions: dict[str, list[RegionRow]]
    centers: dict[str, list[RegionRow]]
    nearest: NearestCenter | dict[str, Any]


def showRouting(summary: Summary, tableNode, inputNode):
    """Puts the routing of a run into `tableNode` (a new node if None) and its chart; returns the table node.

    The chart goes on to show its region. None if the summary has no routing.
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
    chart = tableNode.GetNodeReference(_CHART)
    region = "" if chart is None else chart.GetAttribute(_REGION)
    showInChart(tableNode, region if region in lesions else "")
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
    return Routing(regions, centers, readNearest(tableNode))


def readNearest(tableNode) -> dict[str, Any]:
    """The nearest training center of a run, as `Routing.nearest`; {} where it is not known."""
    text = None if tableNode is None else tableNode.GetAttribute(NEAREST_ATTRIBUTE)
    return json.loads(text) if text else {}


def showInChart(tableNode, region: str):
    """Makes the table's chart show a region (a lesion's name, "" the body); returns the chart node.

    A group of bars is a layer, a bar an expert, a line over it the standard deviation over the tiles. Markers
    show the mean gates of the nearest training center, and beside a lesion those of the body.
    """
    routing = readRouting(tableNode)
    layers = layersOf(routing.regions[region])
    marks = _marks(routing, region)
    chart = _referenced(tableNode, _CHART, 0, "vtkMRMLPlotChartNode", "chart")
    bars = _referenced(tableNode, _CHART, 1, "vtkMRMLTableNode", "chart data")
    points = _referenced(tableNode, _CHART, 2, "vtkMRMLTableNode", "chart spread")
    experts = [_("Expert {number}").format(number=number + 1) for number in range(len(layers[0]))]
    for node, table in ((bars, _barTable(layers, experts)), (points, _pointTable(layers, marks))):
        node.SetHideFromEditors(True)
        node.SetAndObserveTable(table)
    series = [
        Series(name, bars, _LAYER, name, series_rgb(number), bars=True, width=1.0, labels=_NAME)
        for number, name in enumerate(experts)
    ]
    series.append(Series(_SPREAD, points, _PLACE, _SPREAD, _INK, width=1.0))
    series += [
        Series(name, points, _PLACE, name, _INK, line=False, marker=marker)
        for name, marker in zip(marks, _MARKERS, strict=False)
    ]
    ends = [
        row["mean_gate"] + row["sd_gate"] for layer in layers for row in layer if row["mean_gate"] is not None
    ]
    ends += [gate for gates in marks.values() for gate in gates if gate is not None]
    with slicer.util.NodeModify(chart):
        fillChart(chart, _("Layer: expert, bank and block"), _("Mean gate"), series)
        setAxisLabels(chart, axisLabels(layers))
        chart.SetAttribute(_REGION, region)
        chart.SetTitle(_regionName(region))
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(0.4, len(layers) + 0.6)
        chart.SetYAxisRangeAuto(False)
        chart.SetYAxisRange(0.0, nice_top(max(ends, default=0.0)))
    return chart


def layersOf(rows: Sequence[RoutingRow]) -> list[list[RoutingRow]]:
    """The rows of a region, layer by layer in router order; in a layer one row per expert."""
    experts = max(row["expert"] for row in rows)
    return [list(rows[first : first + experts]) for first in range(0, len(rows), experts)]


def layerName(row: RoutingRow, isShort: bool = False) -> str:
    """The name of a row's layer: `Block 1 attention`, short `Block 1 att.`."""
    return _("Block {number} {bank}").format(number=row["block"], bank=_bankName(row, isShort))


def axisLabels(layers: Sequence[Sequence[RoutingRow]], isShort: bool = False) -> list[tuple[float, str]]:
    """Places and texts of the chart's horizontal axis: experts, under them bank and block of the layer."""
    width = _BAR_SHARE / len(layers[0])
    labels = []
    for number, layer in enumerate(layers, start=1):
        middle = (len(layer) - 1) / 2
        for expert, row in enumerate(layer):
            labels.append((number + (expert - middle) * width, str(row["expert"])))
        bank = _bankName(layer[0], isShort)
        block = str(layer[0]["block"]) if isShort else _("Block {number}").format(number=layer[0]["block"])
        labels.append((float(number), f"\n{bank}\n{block}"))
    return labels


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
    parts = [
        (BODY, BODY, body),
        *((name, LESION, rows) for name, rows in lesions.items()),
        *((name, CENTER, rows) for name, rows in centers.items()),
    ]
    rows = [{**row, "region": region, "kind": kind} for region, kind, part in parts for row in part]
    return makeTable(
        {name: [_float(row[name]) if name in GATE_NUMBERS else row[name] for row in rows] for name in COLUMNS}
    )


def _bankName(row: RoutingRow, isShort: bool) -> str:
    attention = _("att.") if isShort else _("attention")
    return _("FFN") if row["bank"] == "ffn" else attention


def _marks(routing: Routing, region: str) -> dict[str, list[float | None]]:
    """The mean gates that stand beside a region, in router order, under the names of their series."""
    nearest = routing.nearest.get("center")
    shown = {_regionName(""): routing.regions[""]} if region else {}
    if nearest in routing.centers:
        shown[_("Center {name}").format(name=nearest)] = routing.centers[nearest]
    return {name: [row["mean_gate"] for row in rows] for name, rows in shown.items()}


def _barTable(layers: list[list[RoutingRow]], experts: list[str]) -> vtk.vtkTable:
    """A row per layer: number from 1, name, and the mean gate of each expert, 0 if unknown."""
    gates = {
        name: [float(layer[expert]["mean_gate"] or 0.0) for layer in layers]
        for expert, name in enumerate(experts)
    }
    names = [layerName(layer[0]) for layer in layers]
    return makeTable({_LAYER: list(range(1, len(layers) + 1)), _NAME: names, **gates})


def _pointTable(layers: list[list[RoutingRow]], marks: dict[str, list[float | None]]) -> vtk.vtkTable:
    """Three rows per bar, at its middle: the lower and the upper end of its line, and a gap."""
    width = _BAR_SHARE / len(layers[0])
    places: list[float | None] = []
    ends: list[float | None] = []
    for number, layer in enumerate(layers, start=1):
        for expert, row in enumerate(layer):
            place = number + (expert - (len(layer) - 1) / 2) * width
            places += [place, place, None]
            mean, spread = row["mean_gate"], row["sd_gate"]
            ends += [None] * 3 if mean is None else [max(0.0, mean - spread), mean + spread, None]
    columns = {name: [one for gate in gates for one in (gate, None, None)] for name, gates in marks.items()}
    return makeTable({_PLACE: places, _SPREAD: ends, **columns})


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _regionName(region: str) -> str:
    return _("Lesion {name}").format(name=region) if region else _("Body")


def _referenced(tableNode, role: str, number: int, className: str, what: str):
    """The table's own node of that role and number; a new one if it is not in the scene."""
    node = tableNode.GetNthNodeReference(role, number)
    if node is None:
        node = _newNode(className, f"{tableNode.GetName()} {what}")
        tableNode.SetNthNodeReferenceID(role, number, node.GetID())
    return node


def _newNode(className: str, name: str):
    return slicer.mrmlScene.AddNewNodeByClass(className, slicer.mrmlScene.GenerateUniqueName(name))
