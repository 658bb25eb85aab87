"""Bladder and the organs of reproduction."""

from __future__ import annotations

from drmc.simulation.drawing import Drawing
from drmc.simulation.habitus import Habitus, ellipsoid_axes
from drmc.simulation.shapes import Superellipsoid

BLADDER_ML = (30.0, 600.0)


def draw_pelvis(drawing: Drawing, h: Habitus) -> None:
    """The bladder lies on the pelvic floor, whatever it holds."""
    axes = ellipsoid_axes(h.volume_ml(200, 0.6, *BLADDER_ML), (32, 30, 26))
    floor = 90 * h.sz
    drawing.add("fat", Superellipsoid(h.at(0, -10, 80), h.scaled(58, 48, 55), 2.5), only=["muscle"])
    x, y, _ = h.shifted(0, -22, 0, (4, 3, 0))
    if h.female:
        uterus = [26 * h.jitter(0.12), 22 * h.jitter(0.12), 34 * h.jitter(0.12)]
        if "no_uterus" not in h.findings:
            drawing.add("prostate_uterus", Superellipsoid(h.shifted(0, 8, 84, (6, 3, 4)), uterus))
    else:
        size = [22 * h.jitter(0.15), 18 * h.jitter(0.15), 16 * h.jitter(0.15)]
        drawing.add("prostate_uterus", Superellipsoid(h.at(0, 2, 36), size))
    drawing.add("bladder", Superellipsoid([x, y, floor + axes[2]], axes))
    if h.female:
        drawing.pair("gonad", lambda s: Superellipsoid(h.at(s * 42, 4, 98), [14, 9, 12]))
    else:
        drawing.add("skin", Superellipsoid(h.at(0, -64, -24), [40, 24, 32]), only=["background"])
        drawing.pair("gonad", lambda s: Superellipsoid(h.at(s * 18, -64, -26), [15, 14, 22]))
