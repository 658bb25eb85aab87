"""The curves of a training as tables and plots of the scene, where they are saved with it."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk
from drmc.training.history import History, gains, series
from slicer.i18n import tr as _

Columns = dict[str, Sequence[tuple[float, float]]]


def showCharts(history: History) -> list:
    """Fills (or makes) a table and a plot chart of the loss and of the gain; returns the charts, shown where views are."""
    centers = history.centers
    loss = {center: series(history.progress, "loss", center) for center in centers}
    gain = {center: gains(history.validation, "psnr", "psnr_low", center) for center in centers}
    for center in centers:
        name = _("{center} Gaussian").format(center=center)
        gain[name] = gains(history.validation, "psnr_gaussian", "psnr_low", center)
    charts = [
        _chart(_("DRMC training loss"), _("loss"), loss, logarithmic=True),
        _chart(_("DRMC validation gain"), _("PSNR over low dose [dB]"), gain, logarithmic=False),
    ]
    found = [chart for chart in charts if chart is not None]
    plots = getattr(slicer.modules, "plots", None)
    if found and plots is not None and slicer.app.layoutManager() is not None:
        plots.logic().ShowChartInLayout(found[-1])
    return found


def _chart(name: str, quantity: str, columns: Columns, *, logarithmic: bool):
    columns = {title: points for title, points in columns.items() if points}
    if not columns:
        return None
    table = _node("vtkMRMLTableNode", name)
    table.SetAndObserveTable(_table(columns))
    chart = _node("vtkMRMLPlotChartNode", f"{name} plot")
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.SetTitle(name)
    chart.SetXAxisTitle(_("step"))
    chart.SetYAxisTitle(quantity)
    chart.SetYAxisLogScale(logarithmic)
    for title in columns:
        one = _node("vtkMRMLPlotSeriesNode", f"{name} {title}")
        one.SetAndObserveTableNodeID(table.GetID())
        one.SetXColumnName("step")
        one.SetYColumnName(title)
        one.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        one.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        one.SetUniqueColor()
        chart.AddAndObservePlotSeriesNodeID(one.GetID())
    return chart


def _node(className: str, name: str):
    """The scene's node of that class and name; a new one if there is none."""
    node = slicer.mrmlScene.GetFirstNode(name, className)
    return slicer.mrmlScene.AddNewNodeByClass(className, name) if node is None else node


def _table(columns: Columns) -> vtk.vtkTable:
    """One row for each step; NaN where a column has no value there."""
    steps = sorted({step for points in columns.values() for step, _value in points})
    table = vtk.vtkTable()
    for name, points in {"step": [(step, step) for step in steps], **columns}.items():
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        values = dict(points)
        for step in steps:
            column.InsertNextValue(values.get(step, float("nan")))
        table.AddColumn(column)
    return table
