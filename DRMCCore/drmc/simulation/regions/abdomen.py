"""Liver with its vessels, gallbladder, spleen, stomach, pancreas, kidneys, adrenals and psoas."""

from __future__ import annotations

import numpy as np

from drmc.simulation.drawing import SIDES, Drawing, tree
from drmc.simulation.habitus import Habitus, ellipsoid_axes
from drmc.simulation.regions.envelope import cavity
from drmc.simulation.regions.thorax import DIAPHRAGM_MM, DOME_BASE_MM, domes
from drmc.simulation.shapes import (
    Common,
    Outside,
    Primitive,
    Primitives,
    Superellipsoid,
    Union,
    rotation,
    tube,
    volume_ml,
)

_CAVITY = ["fat", "fluid"]  # organs fill the fat of the cavity, and stop at wall and diaphragm
STOMACH_ML = (150.0, 1200.0)
LIVER_ML = (1250.0, 2000.0)
PTOSIS = 0.03  # share of the kidneys that hang low (assumed)
_LIVER_BED_ML = 55.0  # what cava and gallbladder take of it
SPLEEN_ML = (105.0, 300.0)
GALLBLADDER_ML = (15.0, 120.0)


def draw_abdomen(drawing: Drawing, h: Habitus) -> None:
    """The upper abdomen; the bowel is in `bowel`."""
    for s in SIDES:
        psoas = tube([h.at(s * 32, 20, 300), h.at(s * 44, 20, 210), h.at(s * 62, 4, 120)], [10, 21, 20])
        drawing.add("muscle", psoas, only=_CAVITY)
    right_kidney, _ = _kidneys(drawing, h)
    _liver(drawing, h, right_kidney)
    size = h.volume_ml(185 * h.surface_m2 / 1.75, 0.28, *SPLEEN_ML)
    spleen = ellipsoid_axes(size * (2.5 if "large_spleen" in h.findings else 1.0), (27, 37, 56))
    center = np.array(h.shifted(100, 42, 352 + 0.4 * h.dome_mm, (0, 5, 7)))
    center[0] = 120 * h.sxy - spleen[0]  # it lies against the wall, whatever its size
    if "no_spleen" not in h.findings:
        tilt = rotation(22 + 8 * h.rng.standard_normal(), 0, 0)
        drawing.add("spleen", Superellipsoid(center, spleen, 2.1, tilt), only=["fluid", "fat", "muscle"])
    aside = h.shift((8, 5, 8))
    pancreas = [h.at(*p) + aside for p in ((72, 6, 344), (34, -12, 332), (2, -28, 320), (-36, -24, 298))]
    drawing.add(
        "pancreas", tube(pancreas, np.array([13, 14, 15, 18]) * h.jitter(0.1)), only=[*_CAVITY, "liver"]
    )
    _stomach(drawing, h)
    drawing.pair("adrenal", lambda s: _adrenal(h, s), only=["fat", "muscle", "liver"])


def draw_gallbladder(drawing: Drawing, h: Habitus) -> None:
    """In its bed under the liver; after the bowel, which would take of its volume."""
    axes = ellipsoid_axes(h.volume_ml(56, 0.4, *GALLBLADDER_ML), (16, 16, 30))
    if "no_gallbladder" not in h.findings:
        drawing.add(
            "gallbladder", Superellipsoid(h.shifted(-44, -22, 326, (11, 6, 8)), axes, 2, rotation(28, 0, 0))
        )


def _liver(drawing: Drawing, h: Habitus, kidney: Superellipsoid) -> None:
    """Both lobes inside the domes and the cavity, as large as the body wants it."""
    target = h.volume_ml(1600 * (h.surface_m2 / 1.75) ** 1.2, 0.13, *LIVER_ML)
    target *= 1.45 if "large_liver" in h.findings else 1.0
    spine = tube([h.at(0, 26, 250), h.at(0, 32, 440)], 30 * h.sxy)[0]
    below = cavity(h)  # above its base the domes are the limit: lung lies beside them
    below.cuts = [((0, 0, 1), DOME_BASE_MM * h.sz - below.center[2])]
    space = Union([*domes(h, -DIAPHRAGM_MM).primitives, below])
    long, flat, reach = h.jitter(0.09), h.jitter(0.1), h.jitter(0.12)
    height = 350 + 0.7 * h.dome_mm

    def liver(scale: float) -> Common:
        right = Superellipsoid(
            h.at(-75, -9, height),
            [v * scale for v in (78 * h.sxy, 70 * h.sxy, 92 * h.sz * long)],
            2.6,
            rotation(0, 12, 0),
            cuts=[((0.55, 0.0, -0.835), 52 * h.sz * scale)],
        )
        left = Superellipsoid(
            h.at(12, -40, height + 30),
            [v * scale for v in (86 * h.sxy * reach, 36 * h.sxy * flat, 38 * h.sz)],
            2.2,
            rotation(0, 12, 0),
        )
        return Common(Union([right, left]), space, Outside(kidney), Outside(spine))

    low, high = 0.6, 1.8
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if volume_ml(liver(middle), 6.0) < target + _LIVER_BED_ML else (low, middle)
        )
    drawing.add("liver", liver((low + high) / 2), only=_CAVITY)
    porta = h.at(-30, -10, 335)
    drawing.add("vessel", tube([h.at(-4, -18, 300), porta], [6, 7]), only=["fat"])
    vessels = []
    for way in ((-1, 0.1, 0.15), (-0.8, 0.4, 0.7), (-0.7, -0.5, -0.5), (1, -0.5, 0.6)):
        vessels += tree(h.rng, porta, way, 30 * h.sxy, 5.0, 4)
    for way in ((-0.9, 0.0, -0.5), (-0.5, -0.7, -0.5), (0.8, -0.6, -0.2)):
        vessels += tree(h.rng, h.at(-22, 2, 405), way, 34 * h.sxy, 5.0, 4)
    drawing.add("vessel", vessels, only=["liver"], relabel=False)


def _stomach(drawing: Drawing, h: Habitus) -> None:
    # from empty to a full meal
    full = (h.volume_ml(600, 0.45, *STOMACH_ML) / 430) ** (1 / 3)
    axes = [full * one for one in h.axes(46, 37, 68)]
    wall = Superellipsoid(h.shifted(70, -26, 346 + 0.5 * h.dome_mm, (6, 6, 7)), axes, 2, rotation(0, 28, 0))
    antrum = tube([h.at(40, -40, 310), h.at(-14, -34, 322)], [20, 13])
    stomach: list[Primitive] = [wall, *antrum]
    drawing.add("stomach_wall", stomach, only=_CAVITY)
    lumen = Superellipsoid(wall.center, [max(8, t - 6.0) for t in wall.axes], 2, wall.rotation)
    content: list[Primitive] = [lumen, *tube([h.at(40, -40, 310), h.at(-10, -34, 321)], [14, 7])]
    drawing.add("stomach_content", content, only=["stomach_wall"])
    bubble = [wall.axes[0] * 0.5 * h.jitter(0.2), 9 * h.jitter(0.3), wall.axes[2] * 0.4]
    gas = [wall.center[0] + 6, wall.center[1] - wall.axes[1] + 16, wall.center[2] + 10]
    drawing.add("air", Superellipsoid(gas, bubble), only=["stomach_content"], relabel=False)


def _kidneys(drawing: Drawing, h: Habitus) -> list[Superellipsoid]:
    """Cortex, calyces and pelvis, and in half of the patients a bolus in the ureter; returns the outlines."""
    outlines = []
    for s in SIDES:
        dropped = 35.0 if h.rng.random() < PTOSIS else 0.0
        center = h.shifted(s * 68, 36, 306 + s * 5 - dropped, (4, 4, 9))
        turn, size = rotation(0, s * -12, s * 25), h.jitter(0.05)
        axes = [size * one for one in h.axes(30, 25, 57)]
        fat = Superellipsoid(center, [a + 7 for a in axes], 2, turn)
        outlines.append(Superellipsoid(center, axes, 2, turn))
        if h.findings.on("no_kidney", s):
            continue
        drawing.add("fat", fat, only=["muscle", "fat", "fluid"])
        drawing.add("kidney_cortex", outlines[-1], side=s)
        moved = lambda x, y, center=center, s=s: [center[0] - s * x, center[1] - y, center[2]]
        calyces = Superellipsoid(moved(10, 3), [13 * h.jitter(0.15), 9, 26 * h.jitter(0.15)], 2, turn)
        drawing.add("renal_pelvis", calyces, factor=0.65, side=s)
        basin = Superellipsoid(moved(16, 5), [6, 5, 10 * h.jitter(0.3)], 2, turn)
        drawing.add("renal_pelvis", basin, side=s)
        present, top, length = h.rng.random(), h.rng.uniform(150, 280), h.rng.uniform(15, 60)
        if present < 0.5:
            ureter = tube([h.at(s * 42, 8, top), h.at(s * 40, 4, top - length)], 2.5)
            drawing.add("renal_pelvis", ureter, factor=0.6, side=s, label="ureter")
    return outlines


def _adrenal(h: Habitus, s: int) -> Primitives:
    """Two limbs that meet above the kidney."""
    x, y, z = h.shifted(s * 41, 36, 346, (6, 4, 5))
    ridge, limbs = (
        [x, y, z],
        ([x + s * 8 * h.sxy, y + 14 * h.sxy, z - 17], [x - s * 8 * h.sxy, y + 14 * h.sxy, z - 20]),
    )
    return [tube([ridge, limb], [7.5 * h.jitter(0.1), 6.0]) for limb in limbs]
