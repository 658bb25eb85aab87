"""The heat map of the routing: the gates of all layers and experts, and the profiles of the centers."""

from __future__ import annotations

from typing import Any

import qt
from drmc.pages.colors import ink_on, nice_top, sequential_color
from slicer.i18n import tr as _

from DRMCDenoiseLib.routingnodes import Routing, layerName, layersOf

MOST_CENTERS = 6  # only the profiles of the nearest ones are painted
_HEADER, _LINE, _PADDING = 38, 23, 6  # pixels
_MINI, _GAP = 8, 8  # pixels: the width of an expert in a center's profile, and the gap before the profile


class RoutingHeatMap(qt.QWidget):
    """Layers from top to bottom, experts from left to right; at the right the profiles of the centers.

    It is painted because MRML has no counterpart: a plot chart node has lines and bars only, and a table view
    cannot color its cells by their values. The bars beside it are a plot chart node.
    """

    def __init__(self) -> None:
        super().__init__()
        self._routing: Routing | None = None
        self._region = ""

    def setRouting(self, routing: Routing | None, region: str = "") -> None:
        """Shows a region ("" the body, else a lesion) of a routing, or nothing."""
        self._routing, self._region = routing, region
        self.setMinimumHeight(_HEADER + _LINE * len(self.layers()) + 4 if routing else 0)
        self.update()

    def layers(self) -> list[list[dict[str, Any]]]:
        """The rows that are shown, layer by layer."""
        return layersOf(self._routing.regions[self._region]) if self._routing else []

    def centers(self) -> list[str]:
        """The training centers whose profiles are shown, the nearest first."""
        if self._routing is None:
            return []
        distances = self._routing.nearest.get("distances", {})
        found = sorted(self._routing.centers, key=lambda name: (distances.get(name, float("inf")), name))
        return found[:MOST_CENTERS]

    def paintEvent(self, event) -> None:
        """Paints the heat map."""
        layers = self.layers()
        if not layers:
            return
        painter = qt.QPainter(self)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        ink = self.palette.windowText().color()
        experts = len(layers[0])
        profiles = {name: layersOf(self._routing.centers[name]) for name in self.centers()}
        mini = _MINI * experts
        right = self.width - sum(max(mini, 26) + _GAP for _name in profiles)
        spreadWidth = (
            _textWidth(self, _cellText({"mean_gate": 0.0, "sd_gate": 0.0}, withSpread=True)) + _PADDING
        )
        for isShort in (False, True):
            start = max(_textWidth(self, layerName(layer[0], isShort)) for layer in layers) + _PADDING
            cell = max(1, (right - start) // experts)
            if cell >= spreadWidth:
                break
        shown = [row["mean_gate"] for part in (layers, *profiles.values()) for layer in part for row in layer]
        top = nice_top(max([gate for gate in shown if gate is not None], default=1.0))
        middle = qt.Qt.AlignCenter
        painter.setPen(ink)
        for expert in range(experts):
            text = _("Expert {number}").format(number=expert + 1)
            painter.drawText(start + cell * expert, 18, cell, 18, middle, text)
        for number, layer in enumerate(layers):
            y = _HEADER + _LINE * number
            painter.setPen(ink)
            flags = qt.Qt.AlignLeft | qt.Qt.AlignVCenter
            painter.drawText(0, y, start - 4, _LINE, flags, layerName(layer[0], isShort))
            for expert, row in enumerate(layer):
                text = _cellText(row, withSpread=cell >= spreadWidth)
                self._paintCell(painter, (start + cell * expert, y, cell), row["mean_gate"], text, top, ink)
        x = start + cell * experts
        for name, part in profiles.items():
            width = max(mini, 26)
            x += _GAP
            self._paintProfile(painter, x, width, name, part, top, ink)
            x += width
        painter.end()

    def _paintCell(
        self, painter, place: tuple[int, int, int], mean: float | None, text: str, top: float, ink
    ) -> None:
        x, y, width = place
        if mean is None:
            painter.setPen(ink)
        else:
            level = min(1.0, mean / top)
            painter.fillRect(x + 1, y + 1, width - 2, _LINE - 2, qt.QColor(*sequential_color(level)))
            painter.setPen(qt.QColor(ink_on(level)))
        painter.drawText(x, y, width, _LINE, qt.Qt.AlignCenter, text)

    def _paintProfile(self, painter, x: int, width: int, name: str, layers, top: float, ink) -> None:
        isNearest = name == self._routing.nearest.get("center")
        painter.setPen(ink)
        if isNearest:
            painter.drawText(x - 2 * _GAP, 0, width + 4 * _GAP, 18, qt.Qt.AlignCenter, _("nearest"))
        painter.drawText(x - _GAP // 2, 18, width + _GAP, 18, qt.Qt.AlignCenter, name[:6])
        cell = width / max(1, len(layers[0]))
        for number, layer in enumerate(layers):
            for expert, row in enumerate(layer):
                left, end = int(x + cell * expert), int(x + cell * (expert + 1))
                color = qt.QColor(*sequential_color(min(1.0, row["mean_gate"] / top)))
                painter.fillRect(left, _HEADER + _LINE * number + 1, end - left, _LINE - 2, color)
        if isNearest:
            painter.setPen(ink)
            painter.drawRect(x - 2, _HEADER - 1, width + 3, _LINE * len(layers) + 1)


def _cellText(row: dict[str, Any], withSpread: bool) -> str:
    if row["mean_gate"] is None:
        return "\u2013"
    spread = f" \u00b1{row['sd_gate']:.2f}" if withSpread else ""
    return f"{row['mean_gate']:.2f}{spread}"


def _textWidth(widget, text: str) -> int:
    """The width of a text in the widget's font, in pixels."""
    return widget.fontMetrics().horizontalAdvance(text)
