"""Slicer's own plot view inside a module's panel."""

from __future__ import annotations

from collections.abc import Sequence

import qt
import slicer
import vtk

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
        legend = view.chart().GetLegend()
        legend.SetInline(False)  # beside the bars, not over them
        legend.SetHorizontalAlignment(legend.RIGHT)
        legend.SetVerticalAlignment(legend.TOP)
        for widget in (self._label, self.widget):
            layout.addWidget(widget)
        self.showChart(None)

    def showChart(self, chartNode, tickLabels: Sequence[str] = ()) -> None:
        """Shows what a chart node holds now, or the text if it is None.

        Args:
            chartNode: A vtkMRMLPlotChartNode of the scene, or None.
            tickLabels: Texts for 1, 2, 3, ... on the horizontal axis; the numbers themselves if empty.
        """
        # A view node outside the scene does not report that it has another chart: it is set again.
        self.widget.setMRMLPlotViewNode(None)
        self._viewNode.SetPlotChartNodeID(None if chartNode is None else chartNode.GetID())
        self.widget.setMRMLPlotViewNode(self._viewNode)
        self._showTickLabels(tickLabels)
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

    def _showTickLabels(self, tickLabels: Sequence[str]) -> None:
        chart = self.widget.plotView().chart()
        places, texts = vtk.vtkDoubleArray(), vtk.vtkStringArray()
        for place, text in enumerate(tickLabels, start=1):
            places.InsertNextValue(place)
            texts.InsertNextValue(text)
        bottom = chart.GetAxis(vtk.vtkAxis.BOTTOM)
        bottom.SetCustomTickPositions(*(places, texts) if tickLabels else (None, None))
