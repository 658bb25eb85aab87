"""Mediastinum, lungs with bronchi and vessels, diaphragm and heart."""

from __future__ import annotations

import numpy as np

from drmc.simulation.drawing import SIDES, Drawing, tree
from drmc.simulation.habitus import Habitus
from drmc.simulation.shapes import Superellipsoid, Union, tube

DIAPHRAGM_MM = 3.0
DOME_BASE_MM = 368.0  # of an adult of 1.74 m: below it the wall of the abdomen takes over
_HILUM = (40, 10, 535)
_LUNG_MM = (462.0, 208.0)  # height where the lungs are widest, and from there to the apex


def domes(h: Habitus, grow: float = 0.0) -> Union:
    """The two domes of the diaphragm and its middle under the heart; `grow` in mm."""
    rise = h.dome_mm
    parts = (((-68, 8), (70, 82, 138)), ((68, 8), (68, 82, 122)), ((0, -4), (60, 66, 112)))
    return Union(
        [
            Superellipsoid(
                [center[0] * h.sxy, center[1] * h.sxy, DOME_BASE_MM * h.sz],
                [a * h.sxy + grow, b * h.sxy + grow, c * h.sz + rise + grow],
                2.3,
                cuts=[((0, 0, -1), 0.0)],
            )
            for center, (a, b, c) in parts
        ]
    )


def draw_thorax(drawing: Drawing, h: Habitus) -> None:
    """From the mediastinal fat to the heart; the great vessels are in `vessels`."""
    drawing.add("fat", Superellipsoid(h.at(0, -14, 560), h.scaled(40, 64, 112), 3), only=["muscle"])
    lungs = {s: _lung(h, s) for s in SIDES}
    drawing.pair("lung", lambda s: lungs[s], only=["muscle", "fat"])
    for s, lung in lungs.items():
        depth = h.rng.uniform(20, 50)
        if h.findings.on("pleural_effusion", s):  # behind and below
            level = ((0.0, -0.8, 0.6), -depth * h.sxy)
            fluid = Superellipsoid(lung.center, lung.axes, lung.n, cuts=[*lung.cuts, level])
            drawing.add("csf", fluid, only=["lung"], label="fluid")
    drawing.add("muscle", domes(h).primitives, only=["lung", "fat", "fluid"])
    drawing.add("fat", domes(h, -DIAPHRAGM_MM).primitives, only=["lung", "fat", "muscle"])
    _lung_vessels(drawing, h)
    drawing.add(
        "esophagus",
        tube([h.at(4, 8, 740), h.at(4, 12, 560), h.at(12, 10, 440), h.at(25, -4, 390)], 7),
        only=["muscle", "fat", "lung"],
    )
    _airways(drawing, h)
    drawing.add(
        "thymus",
        [Superellipsoid(h.at(s * 9, -60, 585), [9 * h.jitter(0.1), 6, 26 * h.jitter(0.1)]) for s in SIDES],
    )
    _heart(drawing, h)


def _lung(h: Habitus, s: int) -> Superellipsoid:
    axes = [
        (59 if s > 0 else 60) * h.sxy * h.jitter(0.04),
        84 * h.sxy * h.jitter(0.04),
        _LUNG_MM[1] * h.sz,
    ]
    # the recess between ribs and diaphragm reaches lower at the back and the side
    cut = ((0.10 * -s, -0.20, -0.97), 2.0 * h.sz)
    return Superellipsoid(
        [s * 72 * h.sxy, 13 * h.sxy + h.shift((0, 4, 0))[1], _LUNG_MM[0] * h.sz], axes, 2.3, cuts=[cut]
    )


def _lung_vessels(drawing: Drawing, h: Habitus) -> None:
    """Arteries and veins fork from the hilum to the periphery; they count as lung in the label map."""
    ways = (
        (0.35, -0.15, 1.0),
        (0.6, 0.5, 0.6),
        (0.8, -0.6, 0.1),
        (0.8, 0.4, -0.1),
        (0.5, -0.4, -0.8),
        (0.4, 0.5, -0.9),
    )
    for s in SIDES:
        for x, y, z in ways:
            branches = tree(h.rng, h.at(s * _HILUM[0], *_HILUM[1:]), (s * x, y, z), 34 * h.sz, 4.2, 5)
            drawing.add("vessel", branches, only=["lung"], relabel=False)


def _airways(drawing: Drawing, h: Habitus) -> None:
    drawing.add("trachea", tube([h.at(0, -2, 760), h.at(0, -2, 640), h.at(0, 2, 575)], 9))
    for s in SIDES:
        hilum = h.at(s * 42, 10, 535)
        drawing.add("trachea", tube([h.at(0, 2, 575), hilum], [7, 6]))
        for way in ((s * 0.6, 0, 0.8), (s * 0.7, -0.5, -0.4), (s * 0.5, 0.4, -0.9)):
            drawing.add(
                "trachea", tree(h.rng, hilum, way, 24 * h.sz, 4.0, 3, thinner=0.66), only=["lung", "fat"]
            )


def _heart(drawing: Drawing, h: Habitus) -> None:
    """Left ventricle as a thick shell, right ventricle with a thin wall, atria, pericardial fat."""
    tilt = np.clip(h.rng.normal(0, 0.14, 3), -0.3, 0.3)
    axis = np.array([0.62, -0.52, -0.58]) + tilt  # from the base to the apex: left, anterior, inferior
    axis /= np.linalg.norm(axis)
    right = np.array([-0.72, -0.66, -0.1])
    right -= axis * (right @ axis)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(axis, right), axis], 1).astype(
        np.float32
    )  # local x, y, z in its columns
    center = np.array(h.shifted(42, -12, 474 + 0.5 * h.dome_mm, (5, 4, 4)))
    scale = 1.24 * h.jitter(0.06) * h.sxy
    place = lambda along, aside, back=0.0: (
        center + scale / 1.1 * (axis * along + right * aside - turn[:, 1] * back)
    )
    size = lambda a, b, c: [scale * v for v in (a, b, c)]
    body = lambda at, axes, **more: Superellipsoid(at, axes, 2, turn, **more)
    wall = 10.0 * h.jitter(0.1)
    drawing.add("fat", body(place(-8, 8), size(70, 56, 70)), only=["lung"])
    drawing.add("heart", [body(place(-50, 24), size(30, 31, 29)), body(place(-54, -12), size(31, 31, 27))])
    drawing.add("myocardium", body(place(-4, 28), size(30, 38, 48)), factor=0.45)
    drawing.add("heart", body(place(-6, 28), size(26.5, 34.5, 45)))
    outer = size(37 * h.jitter(0.04), 37, 50)
    drawing.add("myocardium", body(place(0, 0), outer, cuts=[((0, 0, -1), 30 * h.sxy)]))
    inner = [outer[0] - wall, outer[1] - wall, outer[2] - 0.9 * wall]
    drawing.add("heart", body(place(0, 0), inner))
    trunk = tube([place(-38, 30), h.at(16, -26, 545), h.at(4, 2, 556)], [13, 13, 11])
    drawing.add("vessel", [trunk, *(tube([h.at(4, 2, 556), h.at(s * 40, 12, 538)], [10, 7]) for s in SIDES)])
