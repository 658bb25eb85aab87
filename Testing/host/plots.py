"""Slicer's plot view over a real vtkChartXY that follows the chart node; only the title is painted."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import offered, raw


@offered("slicer.qMRMLPlotView")
class qMRMLPlotView(QtWidgets.QWidget):
    """The plots of the chart node that a view node names."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = self._node = self._chartNode = None
        self._tags: list[tuple] = []
        self._chart = vtk.vtkChartXY()
        self._plots: dict[str, vtk.vtkPlot] = {}  # by the ID of the series node

    def chart(self):
        return self._chart

    def paintEvent(self, event) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect, QtGui.QColor(255, 253, 246))
        title = self._chart.GetTitle() or ""
        painter.drawText(self.rect, QtCore.Qt.AlignmentFlag.AlignCenter, f"{title} (drawn by Slicer only)")
        painter.end()

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        if self._node is not None and self._node.GetScene() is not scene:
            self.setMRMLPlotViewNode(None)
        self._onChartNodeChanged()
        raw(self).mrmlSceneChanged.emit(scene)

    def setMRMLPlotViewNode(self, node) -> None:
        if node is self._node:
            return
        self._node = node
        self._onChartNodeChanged()

    def _onChartNodeChanged(self, *_) -> None:
        """Follows the view node and its present chart node from now on."""
        for one, tag in self._tags:
            one.RemoveObserver(tag)
        self._tags = []
        if self._node is not None:
            for event, slot in (
                (vtk.vtkCommand.ModifiedEvent, self._update),
                (self._node.PlotChartNodeChangedEvent, self._onChartNodeChanged),
            ):
                self._tags.append((self._node, self._node.AddObserver(event, slot)))
        chartNode = self._foundChart()
        if chartNode is not None:
            tag = chartNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self._update)
            self._tags.append((chartNode, tag))
        self._update()

    def _foundChart(self):
        chartID = None if self._node is None else self._node.GetPlotChartNodeID()
        return self._scene.GetNodeByID(chartID) if self._scene is not None and chartID else None

    def _update(self, *_) -> None:
        if self._scene is None or self._node is None:
            return
        chartNode = self._foundChart()
        shown = {} if chartNode is None else _drawable(chartNode)
        for nodeID in [one for one in self._plots if one not in shown]:
            self._chart.RemovePlotInstance(self._plots.pop(nodeID))
        for nodeID, series in shown.items():
            isBar = series.GetPlotType() in (series.PlotTypeBar, series.PlotTypeScatterBar)
            plot = self._plots.get(nodeID)
            if plot is None or plot.IsA("vtkPlotBar") != isBar:
                if plot is not None:
                    self._chart.RemovePlotInstance(plot)
                plot = self._plots[nodeID] = vtk.vtkPlotBar() if isBar else vtk.vtkPlotLine()
                self._chart.AddPlot(plot)
            plot.SetInputData(
                series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName()
            )
            plot.SetColorF(*series.GetColor())
            plot.SetLabel(series.GetName())
        if chartNode is not None:
            self._chart.SetTitle(chartNode.GetTitle() or "")
            self._chart.SetShowLegend(chartNode.GetLegendVisibility())
            self._chart.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chartNode.GetXAxisTitle() or "")
            self._chart.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chartNode.GetYAxisTitle() or "")


def _drawable(chartNode) -> dict:
    """The chart's series nodes by their IDs, without those whose table lacks a column that they need."""
    found = {}
    for number in range(chartNode.GetNumberOfPlotSeriesNodes()):
        series = chartNode.GetNthPlotSeriesNode(number)
        table = None if series is None or series.GetTableNode() is None else series.GetTableNode().GetTable()
        if table is None or table.GetColumnByName(series.GetYColumnName()) is None:
            continue
        if series.IsXColumnRequired() and table.GetColumnByName(series.GetXColumnName()) is None:
            continue
        found[series.GetID()] = series
    return found


@offered("slicer.qMRMLPlotViewControllerWidget")
class qMRMLPlotViewControllerWidget(QtWidgets.QWidget):
    """The bar over a plot view; empty here."""


@offered("slicer.qMRMLPlotWidget")
class qMRMLPlotWidget(QtWidgets.QWidget):
    """A plot view under its bar."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None
        self._bar, self._view = qMRMLPlotViewControllerWidget(), qMRMLPlotView()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._bar)
        layout.addWidget(self._view)

    def plotView(self):
        return self._view

    viewWidget = plotView

    def plotController(self):
        return self._bar

    controllerWidget = plotController

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self._view.setMRMLScene(scene)
            raw(self).mrmlSceneChanged.emit(scene)

    def mrmlPlotViewNode(self):
        return self._view._node

    mrmlAbstractViewNode = mrmlPlotViewNode

    def setMRMLPlotViewNode(self, node) -> None:
        self._view.setMRMLPlotViewNode(node)

    def setMRMLAbstractViewNode(self, node) -> None:
        self._view.setMRMLPlotViewNode(node)


PLOTS = {
    "qMRMLPlotView": qMRMLPlotView,
    "qMRMLPlotViewControllerWidget": qMRMLPlotViewControllerWidget,
    "qMRMLPlotWidget": qMRMLPlotWidget,
}
assert slicer.vtkMRMLPlotViewNode  # the nodes are the real ones
