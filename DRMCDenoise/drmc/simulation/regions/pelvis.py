"""Bladder and the organs of reproduction."""

from __future__ import annotations

from drmc.simulation.drawing import Drawing
from drmc.simulation.habitus import Habitus, ellipsoid_axes
from drmc.simulation.shapes import Superellipsoid


def draw_pelvis(drawing: Drawing, h: Habitus) -> None:
    """The bladder lies on the pelvic floor, whatever it holds."""
    axes = ellipsoid_axes(h.volume_ml(140, 0.5, 40, 420), (32, 30, 26))
    floor = 46 * h.sz
    drawing.add("fat", Superellipsoid(h.at(0, -10, 80), h.scaled(58, 48, 55), 2.5), only=["muscle"])
    x, y, _ = h.at(0, -28, 0)
    if h.female:
        uterus = [26 * h.jitter(0.12), 22 * h.jitter(0.12), 34 * h.jitter(0.12)]
        drawing.add("prostate_uterus", Superellipsoid(h.at(0, 6, 84), uterus))
    else:
        size = [22 * h.jitter(0.15), 18 * h.jitter(0.15), 16 * h.jitter(0.15)]
        drawing.add("prostate_uterus", Superellipsoid(h.at(0, 2, 36), size))
    drawing.add("bladder", Superellipsoid([x, y, floor + axes[2]], axes))
    if h.female:
        drawing.pair("gonad", lambda s: Superellipsoid(h.at(s * 42, 4, 98), [14, 9, 12]))
    else:
        drawing.add("skin", Superellipsoid(h.at(0, -72, -45), [40, 22, 30]), only=["background"])
        drawing.pair("gonad", lambda s: Superellipsoid(h.at(s * 18, -70, -45), [15, 14, 22]))
