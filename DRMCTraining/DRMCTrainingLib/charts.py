"""The curves of a training as tables and plot charts of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import slicer
from drmc.pages.colors import nice_top, series_rgb
from drmc.training.history import History, gains, series
from DRMCCoreLib.nodes.plots import Color, Series, fillChart, makeTable, removeChart
from slicer.i18n import tr as _

PANEL = "DRMC.TrainingPanel"
"""Attribute of the chart nodes that only the panel shows: they are hidden and not saved."""
_TABLE = "DRMC.TrainingTable"  # reference from a chart node to its table
_STEP = "step"
_GRAY = (0.5, 0.5, 0.5)

Points = Sequence[tuple[float, float]]
Curve = tuple[str, Points, Color, bool]  # name, (step, value) in order of the steps, color, dashed


def showCharts(history: History) -> list:
    """Fills the charts of loss and gain that are saved with the scene; shows the last one in a plot view.

    Returns:
        The chart nodes; a chart without a value is left out.
    """
    found = [chart for chart in (lossChart(history), gainChart(history)) if chart is not None]
    plots = getattr(slicer.modules, "plots", None)
    if found and plots is not None and slicer.app.layoutManager() is not None:
        plots.logic().ShowChartInLayout(found[-1])
    return found


def lossChart(history: History, *, forPanel: bool = False):
    """The chart node of the loss of each center over the steps, filled; None without a value.

    Args:
        history: The records of a run.
        forPanel: Whether the nodes are the panel's own, which are hidden and not saved.
    """
    curves = []
    for number, center in enumerate(history.centers):
        points = [(step, loss) for step, loss in series(history.progress, "loss", center) if loss > 0]
        curves.append((center, points, series_rgb(number), False))
    return _chart(_("DRMC training loss"), _("Loss [network units]"), curves, forPanel, logarithmic=True)


def gainChart(history: History, *, forPanel: bool = False):
    """The chart node of the validation's gain in PSNR over the low dose, filled; None without a value.

    Each center has a line, and a dashed one of its color for the best Gaussian filter. The low dose is the
    line at 0.

    Args:
        history: The records of a run.
        forPanel: Whether the nodes are the panel's own, which are hidden and not saved.
    """
    records, centers = history.validation, history.centers
    curves: list[Curve] = [
        (center, gains(records, "psnr", "psnr_low", center), series_rgb(number), False)
        for number, center in enumerate(centers)
    ]
    steps = [step for _name, points, *_style in curves for step, _gain in points]
    if steps:
        curves.append((_("low dose"), [(step, 0.0) for step in sorted(set(steps))], _GRAY, True))
    for number, center in enumerate(centers):
        points = gains(records, "psnr_gaussian", "psnr_low", center)
        curves.append((_("{center} Gaussian").format(center=center), points, series_rgb(number), True))
    return _chart(_("DRMC validation gain"), _("PSNR over low dose [dB]"), curves, forPanel)


def removePanelCharts() -> None:
    """Removes the charts that only the panel shows, with their series and tables."""
    for chart in slicer.util.getNodesByClass("vtkMRMLPlotChartNode"):
        if chart.GetAttribute(PANEL):
            removeChart(chart)


def _chart(name: str, quantity: str, curves: Sequence[Curve], forPanel: bool, *, logarithmic: bool = False):
    curves = [curve for curve in curves if curve[1]]
    if not curves:
        return None
    chart = _chartNode(f"{name} plot", forPanel)
    table = chart.GetNodeReference(_TABLE)
    if table is None:
        table = _newNode("vtkMRMLTableNode", name, forPanel)
        chart.SetNodeReferenceID(_TABLE, table.GetID())
    table.SetAndObserveTable(_table({title: points for title, points, *_style in curves}))
    with slicer.util.NodeModify(chart):
        chart.SetTitle(name)
        _setValueAxis(
            chart, [value for _title, points, *_style in curves for _step, value in points], logarithmic
        )
        fillChart(
            chart,
            _("Step"),
            quantity,
            [
                Series(
                    *(title, table, _STEP, title, color),
                    dashed=dashed,
                    width=1.5 if dashed else 2.0,
                    marker="Circle" if len(points) == 1 else "None",  # a line needs two points
                )
                for title, points, color, dashed in curves
            ],
        )
    return chart


def _setValueAxis(chart, values: Sequence[float], logarithmic: bool) -> None:
    """Sets the vertical axis: logarithmic if that is wanted and the values differ by a factor of 4.

    The page of a training has the same rule.     A logarithmic axis reaches from a round value below the
    values to one above. With an automatic range, a plot view that was empty before keeps it between 0.1 and
    1.
    """
    smallest = 1e-30
    logarithmic = logarithmic and max(values) > 4.0 * min(values)
    chart.SetYAxisLogScale(logarithmic)
    chart.SetYAxisRangeAuto(not logarithmic)
    if logarithmic:
        chart.SetYAxisRange(1.0 / nice_top(1.0 / min(values), smallest), nice_top(max(values), smallest))


def _chartNode(name: str, forPanel: bool):
    """The scene's chart node of that name, the panel's own or the saved one; a new node if there is none."""
    for chart in slicer.util.getNodesByClass("vtkMRMLPlotChartNode"):
        if chart.GetName() == name and bool(chart.GetAttribute(PANEL)) is forPanel:
            return chart
    return _newNode("vtkMRMLPlotChartNode", name, forPanel)


def _newNode(className: str, name: str, forPanel: bool):
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)  # the scene owns it
    node.SetName(name)
    if forPanel:
        node.SetAttribute(PANEL, "yes")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)


def _table(curves: dict[str, Points]):
    """A column of the steps and one for each curve, NaN where a curve has no value.

    A row is a step. But no line is drawn through a NaN, so where that would break a curve each curve has rows
    of its own. VTK reports an error for a line of one point, unless a point without a value follows it.
    """
    steps = sorted({step for points in curves.values() for step, _value in points})
    rows = {step: row for row, step in enumerate(steps)}
    isUnbroken = all(
        rows[later] == rows[earlier] + 1
        for points in curves.values()
        for (earlier, _value), (later, _next) in pairwise(points)
    )
    if isUnbroken:
        columns = {name: [dict(points).get(step) for step in steps] for name, points in curves.items()}
    else:
        steps = [step for points in curves.values() for step, _value in points]
        columns = {
            name: [value if name == other else None for other in curves for _step, value in curves[other]]
            for name in curves
        }
    if len(steps) == 1:
        steps = steps * 2
        columns = {name: [*values, None] for name, values in columns.items()}
    return makeTable({_STEP: [float(step) for step in steps], **columns})
