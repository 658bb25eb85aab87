"""The experts that the network used: in the body, in each lesion, and compared with the training centers."""

from __future__ import annotations

from typing import Any

import slicer
from drmc.measures.routing_profiles import UNLIKE, is_of_all_scanners
from DRMCCoreLib.panel.section import Section
from slicer.i18n import tr as _

from DRMCDenoiseLib.routingnodes import Routing, axisLabels, layersOf, readRouting, showInChart


class RoutingSection(Section):
    """The heat map of a routing table node and its bar chart, in the panel and in a view of the layout."""

    advancedUiName = "DRMCDenoiseRouting"
    _shown: tuple[Any, ...] | None = (
        None  # node, time of its table and region that are shown: each is drawn once
    )

    def setup(self) -> None:
        """Adds the heat map and the bars."""
        from DRMCCoreLib.panel.chartview import (  # Qt is not there where the module is a library
            ChartView,
            LayoutAxisLabels,
        )

        from DRMCDenoiseLib.routingview import RoutingHeatMap

        self.heatMap = RoutingHeatMap()
        self.heatMap.setToolTip(
            _(
                "Mean gate of each expert over the tiles, and the standard deviation over them. "
                "A gate weighs the output of an expert; 0 closes it. Right: the mean gates at the training "
                "centers."
            )
        )
        self.ui.routingView.layout().addWidget(self.heatMap)
        self.bars = ChartView(self.ui.routingView.layout())
        self._axisLabels = LayoutAxisLabels()
        self.ui.regionComboBox.currentIndexChanged.connect(self.onRegionChosen)
        self.ui.showChartButton.clicked.connect(self.onShowChart)

    def onParametersChanged(self) -> None:
        self._show()

    def onRunChanged(self) -> None:
        if self.parameters is not None:
            self._show()

    def runArguments(self) -> dict[str, Any]:
        return {"routingTable": self.parameters.routingTable}

    def takeResults(self, job, parameters) -> None:
        parameters.routingTable = job.routingTable

    def onRegionChosen(self) -> None:
        """The user has chosen the body or a lesion."""
        index = self.ui.regionComboBox.currentIndex
        if self.parameters is not None and index >= 0:
            self.parameters.routingRegion = self.ui.regionComboBox.itemData(index) or ""

    def onShowChart(self) -> None:
        """Shows the chart in the plot view, in a layout that has one."""
        tableNode = self.parameters.routingTable
        chart = showInChart(tableNode, self._region(readRouting(tableNode)))
        if slicer.app.layoutManager() is not None:
            slicer.modules.plots.logic().ShowChartInLayout(chart)
            self._axisLabels.follow()

    def cleanup(self) -> None:
        self._axisLabels.end()
        Section.cleanup(self)

    def _show(self) -> None:
        node = self.parameters.routingTable
        routing = readRouting(node)
        region = self._region(routing)
        shown = (node and node.GetID(), node and node.GetTable() and node.GetTable().GetMTime(), region)
        if shown == self._shown:
            return
        self._shown = shown
        self._showRegions(routing, region)
        self.heatMap.setRouting(routing, region)
        layers = layersOf(routing.regions[region]) if routing else []
        chart = showInChart(node, region) if routing else None
        hasNumbers = bool(layers) and layers[0][0]["mean_gate"] is not None
        self.bars.showChart(
            chart if hasNumbers else None, axisLabels(layers, isShort=True) if hasNumbers else ()
        )
        self._axisLabels.follow()
        self.ui.noRoutingLabel.setVisible(routing is None)
        for widget in (self.heatMap, self.ui.regionLabel, self.ui.regionComboBox, self.ui.showChartButton):
            widget.setVisible(routing is not None)
        nearest = routing.nearest if routing else {}
        self.ui.routingWarningLabel.setText(f"{UNLIKE}." if nearest.get("unlike") else "")
        self.ui.routingWarningLabel.setVisible(bool(nearest.get("unlike")))
        self.ui.nearestLabel.setText(_nearestText(nearest))
        self.ui.nearestLabel.setVisible(bool(nearest))

    def _region(self, routing: Routing | None) -> str:
        """The chosen region if the routing has it, else the body."""
        chosen = self.parameters.routingRegion
        return chosen if routing and chosen in routing.regions else ""

    def _showRegions(self, routing: Routing | None, region: str) -> None:
        combo = self.ui.regionComboBox
        before = combo.blockSignals(True)
        combo.clear()
        for name in routing.regions if routing else ():
            combo.addItem(_("Lesion {name}").format(name=name) if name else _("Body"), name)
        combo.setCurrentIndex(list(routing.regions).index(region) if routing else -1)
        combo.blockSignals(before)


def _nearestText(nearest: dict[str, Any]) -> str:
    if not nearest:
        return ""
    others = ", ".join(f"{name} {distance:.1f}" for name, distance in sorted(nearest["distances"].items()))
    words = _("Nearest training center: {center}. Distances: {distances}")
    if is_of_all_scanners(nearest):
        words = _("Distance from the scanners of the training: {distances}")
    text = words.format(center=nearest["center"], distances=others)
    if nearest["limit"] is None:
        return f"{text}."
    return text + _("; unlike all beyond {limit:.1f}.").format(limit=nearest["limit"])
