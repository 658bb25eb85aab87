"""The routing painted by Qt: gates of every layer and expert as a heat map, and as bars, beside the centers' profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from drmc.pages.colors import ink_on, nice_top, sequential_color
from slicer.i18n import tr as _

from DRMCDenoiseLib.routingnodes import Routing, layerName

EXPERT_COLORS = ("#3b82c4", "#e0812b", "#3c9d5b", "#8667b3", "#c0504d", "#8a8a2c")
MOST_CENTERS = 6  # whose profiles are painted; the nearest ones
_LABELS, _SHORT_LABELS, _HEADER, _LINE = 108, 80, 38, 23
_WITH_SPREAD = 68  # a cell that is wide enough for the mean and the spread
_MINI, _GAP = 8, 8  # of a center's profile: the width of an expert, the gap before it
_AXIS, _BARS_HEIGHT = 40, 150


class _RoutingWidget(qt.QWidget):
    """Holds what is painted: a region of a routing, and its chosen rows as lists of layers."""

    def __init__(self) -> None:
        super().__init__()
        self._routing: Routing | None = None
        self._region = ""

    def setRouting(self, routing: Routing | None, region: str = "") -> None:
        """Shows a region ("" the body, else a lesion) of a routing, or nothing."""
        self._routing, self._region = routing, region
        self.setMinimumHeight(self._neededHeight() if routing else 0)
        self.update()

    def layers(self) -> list[list[dict[str, Any]]]:
        """The rows that are shown, layer by layer."""
        return _layers(self._routing.regions[self._region]) if self._routing else []

    def centers(self) -> list[str]:
        """The training centers whose profiles are shown, the nearest first."""
        if self._routing is None:
            return []
        distances = self._routing.nearest.get("distances", {})
        found = sorted(self._routing.centers, key=lambda name: (distances.get(name, float("inf")), name))
        return found[:MOST_CENTERS]

    def _neededHeight(self) -> int:
        return 0


class RoutingHeatMap(_RoutingWidget):
    """Layers from top to bottom, experts from left to right, with the numbers; at the right each center's profile."""

    def paintEvent(self, event) -> None:
        """Qt asks for a picture."""
        layers = self.layers()
        if not layers:
            return
        painter = qt.QPainter(self)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        ink = self.palette.windowText().color()
        experts = len(layers[0])
        profiles = {name: _layers(self._routing.centers[name]) for name in self.centers()}
        mini = _MINI * experts
        right = self.width - sum(max(mini, 26) + _GAP for _ in profiles)
        isShort = (right - _LABELS) // experts < _WITH_SPREAD
        start = _SHORT_LABELS if isShort else _LABELS
        cell = max(1, (right - start) // experts)
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
                self._paintCell(painter, start + cell * expert, y, cell, row, top, ink)
        x = start + cell * experts
        for name, part in profiles.items():
            width = max(mini, 26)
            x += _GAP
            self._paintProfile(painter, x, width, name, part, top, ink)
            x += width
        painter.end()

    def _paintCell(self, painter, x: int, y: int, width: int, row: dict[str, Any], top: float, ink) -> None:
        mean = row["mean_gate"]
        if mean is None:
            painter.setPen(ink)
            painter.drawText(x, y, width, _LINE, qt.Qt.AlignCenter, "\u2013")
            return
        level = min(1.0, mean / top)
        painter.fillRect(x + 1, y + 1, width - 2, _LINE - 2, qt.QColor(*sequential_color(level)))
        painter.setPen(qt.QColor(ink_on(level)))
        spread = f" \u00b1{row['sd_gate']:.2f}" if width >= _WITH_SPREAD else ""
        painter.drawText(x, y, width, _LINE, qt.Qt.AlignCenter, f"{mean:.2f}{spread}")

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

    def _neededHeight(self) -> int:
        return _HEADER + _LINE * len(self.layers()) + 4


class RoutingBars(_RoutingWidget):
    """A bar per layer and expert, its whisker the standard deviation over the tiles, a line for the nearest center."""

    def paintEvent(self, event) -> None:
        """Qt asks for a picture."""
        layers = self.layers()
        if not layers or layers[0][0]["mean_gate"] is None:
            return
        painter = qt.QPainter(self)
        ink = self.palette.windowText().color()
        faint = qt.QColor(ink.red(), ink.green(), ink.blue(), 45)
        nearest = self._routing.centers.get(self._routing.nearest.get("center"))
        marks = _layers(nearest) if nearest else []
        ends = [row["mean_gate"] + row["sd_gate"] for layer in layers for row in layer]
        top = nice_top(max([*ends, *(row["mean_gate"] for layer in marks for row in layer)]))
        bottom, height = self.height - 54, self.height - 64
        up = lambda gate: int(bottom - height * gate / top)
        for share in (0.0, 0.5, 1.0):
            painter.setPen(faint)
            painter.drawLine(_AXIS, up(top * share), self.width, up(top * share))
            painter.setPen(ink)
            flags = qt.Qt.AlignRight | qt.Qt.AlignVCenter
            painter.drawText(0, up(top * share) - 9, _AXIS - 6, 18, flags, f"{top * share:g}")
        group = (self.width - _AXIS) / len(layers)
        bar = max(2, int((group - 8) / len(layers[0])))
        for number, layer in enumerate(layers):
            x = int(_AXIS + group * number + 4)
            for expert, row in enumerate(layer):
                left, gate = x + bar * expert, row["mean_gate"]
                color = qt.QColor(EXPERT_COLORS[expert % len(EXPERT_COLORS)])
                painter.fillRect(left, up(gate), bar - 1, bottom - up(gate), color)
                painter.setPen(ink)
                center = left + (bar - 1) // 2
                painter.drawLine(
                    center, up(gate + row["sd_gate"]), center, up(max(0.0, gate - row["sd_gate"]))
                )
                if marks:
                    painter.fillRect(left - 1, up(marks[number][expert]["mean_gate"]) - 1, bar + 1, 3, ink)
            painter.setPen(ink)
            bank = _("FFN") if layer[0]["bank"] == "ffn" else _("att.")
            painter.drawText(x - 4, bottom + 1, int(group), 15, qt.Qt.AlignCenter, bank)
            if layer[0]["bank"] != "ffn":
                text = _("Block {number}").format(number=layer[0]["block"])
                painter.drawText(x - 4, bottom + 15, int(2 * group), 15, qt.Qt.AlignCenter, text)
        self._paintLegend(painter, ink, len(layers[0]), bool(marks))
        painter.end()

    def _paintLegend(self, painter, ink, experts: int, hasMarks: bool) -> None:
        x, y = _AXIS, self.height - 18
        for expert in range(experts):
            painter.fillRect(x, y + 4, 10, 10, qt.QColor(EXPERT_COLORS[expert % len(EXPERT_COLORS)]))
            painter.setPen(ink)
            x = self._paintEntry(painter, x + 14, y, _("Expert {number}").format(number=expert + 1))
        if hasMarks:
            painter.fillRect(x, y + 8, 12, 3, ink)
            painter.setPen(ink)
            center = self._routing.nearest["center"]
            x = self._paintEntry(painter, x + 16, y, _("Center {name}").format(name=center))
        painter.drawLine(x + 4, y + 3, x + 4, y + 15)
        self._paintEntry(painter, x + 12, y, _("SD"))

    def _paintEntry(self, painter, x: int, y: int, text: str) -> int:
        painter.drawText(x, y, self.width - x, 18, qt.Qt.AlignLeft | qt.Qt.AlignVCenter, text)
        return x + 7 * len(text) + 14

    def _neededHeight(self) -> int:
        return _BARS_HEIGHT


def _layers(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    experts = max(row["expert"] for row in rows)
    return [list(rows[first : first + experts]) for first in range(0, len(rows), experts)]
