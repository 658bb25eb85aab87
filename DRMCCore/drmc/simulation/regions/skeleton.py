"""Spine with discs, ribs, sternum, shoulder girdle, arms, pelvis and femora."""

from __future__ import annotations

import math

import numpy as np

from drmc.simulation.drawing import SIDES, Drawing
from drmc.simulation.habitus import Habitus
from drmc.simulation.regions.envelope import arm_points, back_y
from drmc.simulation.shapes import Primitives, Superellipsoid, rotation, tube

VERTEBRAE = 24
PROCESS_DEPTH_MM = 10.0  # of the tips of the spinous processes below the muscles of the back
_SACRUM_MM = 235.0  # height of its top in an adult of 1.74 m
_HEIGHTS = _SACRUM_MM + np.cumsum(
    [0, *[36.0] * 5, *np.linspace(26, 19, 12), *[17.3] * 7]
)  # ends of the vertebrae
_CORD_MM = 400.0  # it ends at the first lumbar vertebra
_CURVE_MM = np.array(
    [(180, 42), (235, 27), (300, 15), (415, 20), (540, 34), (685, 24), (750, 16), (810, 18)], dtype=float
)
"""Height and y of the middle of the vertebral bodies: lordosis and kyphosis."""


def draw_skeleton(drawing: Drawing, h: Habitus) -> None:
    """All bones but the skull."""
    _spine(drawing, h)
    _ribs(drawing, h)
    drawing.add("sternum", Superellipsoid(h.at(0, -84, 560), h.axes(15, 6, 78), 3))
    drawing.pair("rib", lambda s: tube([h.at(s * 10, -66, 672), h.at(s * 150, -10, 690)], 6))  # clavicle
    drawing.pair("rib", lambda s: _scapula(h, s))
    drawing.add("cortical_bone", [tube(arm_points(h, s), 11) for s in SIDES])
    drawing.pair("pelvis_marrow", lambda s: _hip(h, s))
    sacrum = Superellipsoid(h.at(0, 46, 131), h.scaled(46, 17, 54), 2.6, rotation(14, 0, 0))
    drawing.add("pelvis_marrow", sacrum, label="sacrum")
    femur = lambda s, neck_x, neck_z: [
        h.at(s * 92, 8, 72),
        h.at(s * neck_x, 6, neck_z),
        h.at(s * 88, 6, -130),
        h.at(s * 78, 8, -450),
    ]
    drawing.add("cortical_bone", [tube(femur(s, 105, 30), [22, 17, 15, 15]) for s in SIDES])
    drawing.pair("femur_marrow", lambda s: tube(femur(s, 103, 32), [18, 12, 8, 8]))
    for s in SIDES:
        if h.findings.on("hip_prosthesis", s):
            drawing.add("metal", tube(femur(s, 103, 32)[:3], [22, 9, 6]))


def spine_y(h: Habitus, z: float) -> float:
    """The y (mm) of the middle of the vertebral bodies, at a height (mm) of an adult of 1.74 m."""
    return float(np.interp(z, *_CURVE_MM.T)) * h.sxy


def _spine(drawing: Drawing, h: Habitus) -> None:
    zs = _HEIGHTS
    radii = [(25 - 13 * (i / 23)) * h.sxy for i in range(VERTEBRAE)]
    behind = [0.8 * radius + 7 for radius in (*radii, radii[-1])]  # the canal follows the bodies
    cord = [[0, spine_y(h, z) + offset, z * h.sz] for z, offset in zip(zs, behind, strict=True)]
    drawing.add("fat", tube(cord, 7))
    drawing.add("spinal_cord", tube([point for point in cord if point[2] >= _CORD_MM * h.sz], 7))
    bodies, discs, processes = [], [], []
    for i in range(VERTEBRAE):
        z, radius = (zs[i] + zs[i + 1]) / 2, radii[i]
        y, step = spine_y(h, z), (zs[i + 1] - zs[i]) * h.sz
        discs.append(
            Superellipsoid([0, spine_y(h, zs[i]), zs[i] * h.sz], [radius, radius * 0.8, 0.2 * step], 3)
        )
        bodies.append(Superellipsoid([0, y, z * h.sz], [radius, radius * 0.8, 0.41 * step], 4))
        root = y + radius * 1.2
        skin = min(back_y(h, z), back_y(h, z - 12)) - PROCESS_DEPTH_MM
        start, end = min(root + 6, skin - 4), min(root + 26 * h.sxy, skin)
        processes.append(tube([[0, start, z * h.sz], [0, end, (z - 12) * h.sz]], 5))
        tips = [[s * (radius + 14 * h.sxy), root + 4, (z + 3) * h.sz] for s in SIDES]
        processes += [
            tube([[s * 0.5 * radius, root, z * h.sz], tip], 4) for s, tip in zip(SIDES, tips, strict=True)
        ]
    drawing.add("disc", discs)
    drawing.add("vertebra", bodies)
    drawing.add("cortical_bone", processes, label="vertebra_process")


def _ribs(drawing: Drawing, h: Habitus) -> None:
    """Eleven elliptical arcs that slope down anteriorly."""
    arc = np.linspace(0.42 * math.pi, -0.34 * math.pi, 13)
    for i in range(11):
        z = 440 + i * 23
        lateral = (148 - 5.2 * abs(i - 3) - (i > 6) * (i - 6) * 9) * h.sxy
        deep = (88 - 3 * abs(i - 3)) * h.sxy
        for s in SIDES:
            points = [
                [
                    s * lateral * math.cos(t),
                    deep * math.sin(t) + 3,
                    (z - 30 * (1 - math.sin(t))) * h.sz + 8,
                ]
                for t in arc
            ]
            drawing.add("rib", tube(points, 4.6), side=s)


def _scapula(h: Habitus, s: int) -> Superellipsoid:
    return Superellipsoid(h.at(s * 105, 66, 590), [42 * h.sxy, 5, 68 * h.sz], 2.5, rotation(0, 0, -s * 22))


def _hip(h: Habitus, s: int) -> Primitives:
    ilium = Superellipsoid(h.at(s * 72, 26, 145), h.scaled(14, 52, 66), 2.6, rotation(0, 0, s * 32))
    pubis = tube([h.at(s * 8, -42, 52), h.at(s * 50, -28, 70), h.at(s * 85, 10, 90)], [9, 12, 18])
    ischium = tube([h.at(s * 82, 22, 80), h.at(s * 60, 44, 18)], [17, 13])
    return [ilium, pubis, ischium]
