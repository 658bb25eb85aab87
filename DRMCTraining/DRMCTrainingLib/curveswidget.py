"""Curves over the steps of a training, painted by Qt: light enough to be drawn anew with every record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import qt

COLORS = ("#3b82c4", "#e0812b", "#3c9d5b", "#c0504d", "#8667b3", "#8c6b58", "#cf6fae", "#8a8a2c")
_OF_SEVERAL = "#808080"  # in the legend: curves of one name in several colors
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 24, 34
_WIDTH_OF_LETTER = 7  # about; legends wrap by it
_MOST_POINTS = 250  # a longer curve is shown by the means of as many parts


class Curve(NamedTuple):
    """Points (step, value) under a name; a dashed one is something to compare with."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    dashed: bool = False


class CurvesWidget(qt.QWidget):
    """A diagram of curves with a title and a legend."""

    def __init__(self, title: str, unit: str, empty: str, logarithmic: bool = False):
        super().__init__()
        self._title, self._unit, self._empty, self._logarithmic = title, unit, empty, logarithmic
        self._curves: list[Curve] = []
        self.setMinimumHeight(200)

    def setCurves(self, curves: Sequence[Curve]) -> None:
        """Shows these curves; those without points are left out."""
        self._curves = [curve._replace(points=self._drawn(curve.points)) for curve in curves]
        self._curves = [curve for curve in self._curves if curve.points]
        self.update()

    def curves(self) -> list[Curve]:
        """What is shown, values as they are drawn."""
        return list(self._curves)

    def paintEvent(self, event) -> None:
        """Qt asks for a picture."""
        painter = qt.QPainter(self)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        ink = self.palette.windowText().color()
        faint = qt.QColor(ink.red(), ink.green(), ink.blue(), 45)
        width, height = self.width, self.height
        painter.setPen(ink)
        painter.drawText(_LEFT, 2, width - _LEFT, 18, qt.Qt.AlignLeft, f"{self._title} [{self._unit}]")
        if self._curves:
            legendLines = self._paintLegend(painter, ink, width, height)
            self._paintCurves(painter, ink, faint, width, height - 16 * legendLines)
        else:
            painter.drawText(0, 0, width, height, qt.Qt.AlignCenter, self._empty)
        painter.end()

    def _paintCurves(self, painter, ink, faint, width: int, height: int) -> None:
        bottom, right = height - _BOTTOM, width - _RIGHT
        ends = [step for curve in self._curves for step in (curve.points[0][0], curve.points[-1][0])]
        values = [value for curve in self._curves for _, value in curve.points]
        first, last = min(ends), max(max(ends), min(ends) + 1)
        find = logarithmicTicks if self._logarithmic else ticks
        yTicks, low, high = find(min(values), max(values))
        across = lambda step: _LEFT + (step - first) / (last - first) * (right - _LEFT)
        up = lambda value: bottom - (value - low) / (high - low) * (bottom - _TOP)
        for value in yTicks:
            y = int(up(value))
            painter.setPen(faint)
            painter.drawLine(_LEFT, y, right, y)
            painter.setPen(ink)
            shown = f"{10**value:.2g}" if self._logarithmic else f"{value:g}"
            painter.drawText(0, y - 9, _LEFT - 6, 18, qt.Qt.AlignRight | qt.Qt.AlignVCenter, shown)
        for step in ticks(first, last, 4)[0]:
            if first <= step <= last:
                middle = min(int(across(step)), width - 28)  # the last one stays whole
                painter.drawText(middle - 40, bottom + 2, 80, 16, qt.Qt.AlignHCenter, f"{step:g}")
        painter.drawLine(_LEFT, bottom, right, bottom)
        for curve in self._curves:
            painter.setPen(_pen(curve))
            path = qt.QPainterPath()
            for number, (step, value) in enumerate(curve.points):
                (path.lineTo if number else path.moveTo)(float(across(step)), float(up(value)))
            painter.drawPath(path)
            if len(curve.points) == 1:
                step, value = curve.points[0]
                painter.drawEllipse(int(across(step)) - 2, int(up(value)) - 2, 4, 4)

    def _paintLegend(self, painter, ink, width: int, height: int) -> int:
        rows: list[list[tuple[int, Curve]]] = [[]]
        x = _LEFT
        for curve in {curve.name: curve for curve in self._curves}.values():
            needed = 34 + _WIDTH_OF_LETTER * len(curve.name)
            if x + needed > width and rows[-1]:
                rows.append([])
                x = _LEFT
            rows[-1].append((x, curve))
            x += needed
        for number, row in enumerate(rows):
            y = height - 16 * (len(rows) - number) + 6
            for x, curve in row:
                isOne = sum(other.name == curve.name for other in self._curves) == 1
                painter.setPen(_pen(curve if isOne else curve._replace(color=_OF_SEVERAL)))
                painter.drawLine(x, y, x + 18, y)
                painter.setPen(ink)
                painter.drawText(
                    x + 23, y - 8, width - x, 16, qt.Qt.AlignLeft | qt.Qt.AlignVCenter, curve.name
                )
        return len(rows)

    def _drawn(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Few enough points, logarithms where the axis is logarithmic."""
        if self._logarithmic:
            points = [(x, math.log10(y)) for x, y in points if y > 0]
        share = -(-len(points) // _MOST_POINTS)
        if share < 2:
            return list(points)
        parts = [points[first : first + share] for first in range(0, len(points), share)]
        return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def logarithmicTicks(low: float, high: float) -> tuple[list[float], float, float]:
    """The same for an axis of logarithms to base 10: 1, 2 and 5 times the powers of ten."""
    values = [power + math.log10(factor) for power in range(-12, 12) for factor in (1, 2, 5)]
    first = max(value for value in values if value <= low + 1e-9)
    last = min(value for value in values if value >= high - 1e-9 and value > first)
    return [value for value in values if first <= value <= last], first, last


def ticks(low: float, high: float, about: int = 5) -> tuple[list[float], float, float]:
    """Round values from the one below `low` to the one above `high`, and these two."""
    span = max(high - low, 1e-9 * max(1.0, abs(high)))
    if span < 1e-6:
        low, high, span = low - 0.5, high + 0.5, 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= span / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [float(f"{number * step:.10g}") for number in range(first, last + 1)]
    return values, values[0], values[-1]


def _pen(curve: Curve):
    pen = qt.QPen()
    pen.setColor(qt.QColor(curve.color))
    pen.setWidth(1 if curve.dashed else 2)
    pen.setStyle(qt.Qt.DashLine if curve.dashed else qt.Qt.SolidLine)
    return pen
