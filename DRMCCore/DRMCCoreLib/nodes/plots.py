"""Charts of the scene: the tables and series nodes behind a plot chart node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import slicer
import vtk

Color = tuple[float, float, float]
_AXIS_LABELS = "DRMC.AxisLabels"  # of a chart: JSON of places and texts on its horizontal axis
_TITLE_POINTS, _AXIS_TITLE_POINTS, _LABEL_POINTS = 13, 12, 10  # font sizes that fit a module panel


class Series(NamedTuple):
    """One series of a chart: two columns of a table node, and how they are drawn.

    `color` is RGB from 0 to 1, `labels` the column with a text for each row, shown under the mouse. A series
    without `line` needs a `marker` (Circle, Cross, Diamond, Plus or Square).
    """

    name: str
    tableNode: slicer.vtkMRMLTableNode
    x: str
    y: str
    color: Color
    bars: bool = False
    line: bool = True
    dashed: bool = False
    width: float = 2.0
    marker: str = "None"
    labels: str = ""


def makeTable(columns: dict[str, Sequence[str | float | None]]) -> vtk.vtkTable:
    """A table of these columns: texts, whole numbers, or else floats, NaN where a value is None."""
    table = vtk.vtkTable()
    for name, values in columns.items():
        if values and all(isinstance(value, str) for value in values):
            array = vtk.vtkStringArray()
        elif values and all(isinstance(value, int) for value in values):
            array = vtk.vtkIntArray()
        else:
            array = vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(float("nan") if value is None else value)
        table.AddColumn(array)
    return table


def fillChart(chart, xTitle: str, yTitle: str, series: Sequence[Series]) -> None:
    """Makes a chart node show exactly these series, in fonts that fit a module panel.

    Series nodes are the chart's own: they are made and removed here, and are as hidden and as saved as the
    chart.
    """
    with slicer.util.NodeModify(chart):
        for one, node in zip(series, _seriesNodes(chart, series), strict=True):
            _describe(node, one)
        chart.SetXAxisTitle(xTitle)
        chart.SetYAxisTitle(yTitle)
        chart.SetLegendVisibility(True)
        chart.SetTitleFontSize(_TITLE_POINTS)
        chart.SetAxisTitleFontSize(_AXIS_TITLE_POINTS)
        chart.SetAxisLabelFontSize(_LABEL_POINTS)
        chart.SetLegendFontSize(_LABEL_POINTS)


def setAxisLabels(chart, labels: Sequence[tuple[float, str]]) -> None:
    """Keeps texts for places of the horizontal axis in a chart node, which has no member for them."""
    chart.SetAttribute(_AXIS_LABELS, json.dumps(labels) if labels else None)


def axisLabelsOf(chart) -> list[tuple[float, str]]:
    """What `setAxisLabels` has kept; empty for no chart."""
    text = None if chart is None else chart.GetAttribute(_AXIS_LABELS)
    return [(place, label) for place, label in json.loads(text)] if text else []


def removeChart(chart) -> None:
    """Removes a chart node with its series and the tables that these read."""
    nodes = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    nodes = [node for node in nodes if node is not None]
    for node in {one.GetTableNode() for one in nodes} | {*nodes, chart}:
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def _seriesNodes(chart, series: Sequence[Series]) -> list:
    """The chart's series nodes, one for each of `series`; new ones from the first of another type on.

    A plot view appends the plot of a series whose type has changed, so that its bars would stand in another
    order.
    """
    nodes = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    kept = 0
    for node, one in zip(nodes, series, strict=False):
        if node is None or node.GetPlotType() != _plotType(one):
            break
        kept += 1
    for number in reversed(range(kept, len(nodes))):
        chart.RemoveNthPlotSeriesNodeID(number)
        if nodes[number] is not None:
            slicer.mrmlScene.RemoveNode(nodes[number])
    del nodes[kept:]
    for one in series[kept:]:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", one.name)
        node.SetSaveWithScene(chart.GetSaveWithScene())
        node.SetHideFromEditors(chart.GetHideFromEditors())
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
        nodes.append(node)
    return nodes


def _plotType(series: Series) -> int:
    kinds = slicer.vtkMRMLPlotSeriesNode
    return kinds.PlotTypeScatterBar if series.bars else kinds.PlotTypeScatter


def _describe(node, series: Series) -> None:
    with slicer.util.NodeModify(node):
        node.SetName(series.name)
        node.SetPlotType(_plotType(series))
        node.SetAndObserveTableNodeID(series.tableNode.GetID())
        node.SetXColumnName(series.x)
        node.SetYColumnName(series.y)
        node.SetLabelColumnName(series.labels)
        node.SetColor(*series.color)
        node.SetLineWidth(series.width)
        style = "None" if not series.line else "Dash" if series.dashed else "Solid"
        node.SetLineStyle(getattr(node, f"LineStyle{style}"))
        node.SetMarkerStyle(getattr(node, f"MarkerStyle{series.marker}"))
