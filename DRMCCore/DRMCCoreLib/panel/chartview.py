"""Slicer's own plot view inside a module's panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
import slicer
import vtk

from DRMCCoreLib.nodes.plots import axisLabelsOf
from DRMCCoreLib.panel.observing import Observing

_HEIGHT, _LEGEND_LINE = 210, 17  # pixels: without a legend, and of a series in the legend


class ChartView:
    """Shows a chart node of the scene in a `qMRMLPlotWidget`, or a text while there is none.

    The view node is not in the scene. Slicer's layout manager makes a hidden widget for every plot view node
    that it finds in the scene, and propagates the active chart to it; a scene that is saved or closed takes
    the node along.

    The mouse goes through to the panel, which could not be scrolled over the view otherwise, and the bar with
    the controls is hidden: the same chart in a view of the layout can be zoomed and exported.
    """

    def __init__(self, layout, emptyText: str = ""):
        self._viewNode = slicer.vtkMRMLPlotViewNode()
        self._label = qt.QLabel(emptyText)
        self._label.setWordWrap(True)
        self._label.setAlignment(qt.Qt.AlignCenter)
        self.widget = slicer.qMRMLPlotWidget()
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.widget.plotController().hide()
        view = self.widget.plotView()
        view.setAttribute(qt.Qt.WA_TransparentForMouseEvents)
        _placeLegend(self.widget, isBeside=True)
        for widget in (self._label, self.widget):
            layout.addWidget(widget)
        self.showChart(None)

    def showChart(self, chartNode, tickLabels: Sequence[tuple[float, str]] = ()) -> None:
        """Shows what a chart node holds now, or the text if it is None.

        Args:
            chartNode: A vtkMRMLPlotChartNode of the scene, or None.
            tickLabels: Places and texts on the horizontal axis; numbers if empty.
        """
        # A view node outside the scene does not report that it has another chart: it is set again.
        self.widget.setMRMLPlotViewNode(None)
        self._viewNode.SetPlotChartNodeID(None if chartNode is None else chartNode.GetID())
        self.widget.setMRMLPlotViewNode(self._viewNode)
        showAxisLabels(self.widget, tickLabels)
        # An automatic axis ends at round numbers only if the view has a size when its range is computed.
        self.widget.plotView().chart().RecalculateBounds()
        self._label.setVisible(chartNode is None and bool(self._label.text))
        self.widget.setVisible(chartNode is not None)  # a plot view without plots is black
        if chartNode is not None:
            self.widget.setMinimumHeight(_HEIGHT + _LEGEND_LINE * chartNode.GetNumberOfPlotSeriesNodes())

    def chartNode(self):
        """The chart node that is shown, or None."""
        chartID = self._viewNode.GetPlotChartNodeID()
        return slicer.mrmlScene.GetNodeByID(chartID) if chartID else None


class LayoutAxisLabels(Observing):
    """Shows the labels that chart nodes keep (nodes.plots.setAxisLabels) in the plot views of the layout.

    Slicer's plot view puts numbers on every axis; it leaves labels alone that were set at its chart.
    """

    def __init__(self):
        Observing.__init__(self)
        self._labeled: dict[str, Any] = {}  # ID of a view node -> the labels that its view shows

    def follow(self) -> None:
        """Labels the views that there are now, and follows the charts that they show."""
        manager = slicer.app.layoutManager()
        for number in range(0 if manager is None else manager.plotViewCount):
            node = manager.plotWidget(number).mrmlPlotViewNode()
            if node is not None and not self.hasObserver(
                node, vtk.vtkCommand.ModifiedEvent, self._onModified
            ):
                self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self._label()

    def end(self) -> None:
        """Follows no view any more."""
        self.removeObservers()

    def _onModified(self, caller, event) -> None:
        self._label()

    def _label(self) -> None:
        manager = slicer.app.layoutManager()
        for number in range(0 if manager is None else manager.plotViewCount):
            widget = manager.plotWidget(number)
            node = widget.mrmlPlotViewNode()
            labels = axisLabelsOf(None if node is None else node.GetPlotChartNode())
            if node is not None and labels != self._labeled.get(node.GetID(), []):
                self._labeled[node.GetID()] = labels
                showAxisLabels(widget, labels)
                _placeLegend(widget, isBeside=bool(labels))


def showAxisLabels(plotWidget, labels: Sequence[tuple[float, str]]) -> None:
    """Puts texts at places of the horizontal axis of a qMRMLPlotWidget; numbers if there are none."""
    places, texts = vtk.vtkDoubleArray(), vtk.vtkStringArray()
    for place, text in labels:
        places.InsertNextValue(place)
        texts.InsertNextValue(text)
    chart = plotWidget.plotView().chart()
    chart.GetAxis(vtk.vtkAxis.BOTTOM).SetCustomTickPositions(*(places, texts) if labels else (None, None))
    if chart.GetScene() is not None:
        chart.GetScene().SetDirty(True)  # a view draws nothing again without


def _placeLegend(plotWidget, isBeside: bool) -> None:
    """Puts the legend beside the bars, or over the plot as Slicer does."""
    legend = plotWidget.plotView().chart().GetLegend()
    legend.SetInline(not isBeside)
    legend.SetHorizontalAlignment(legend.RIGHT)
    legend.SetVerticalAlignment(legend.TOP)
