"""Skin, subcutaneous fat, muscles with the fat planes between them, and the visceral cavity."""

from __future__ import annotations

import math

from drmc.simulation.drawing import SIDES, Drawing, Layers
from drmc.simulation.habitus import Habitus
from drmc.simulation.shapes import (
    Capsule,
    Common,
    Primitive,
    Primitives,
    Shell,
    Slab,
    Superellipsoid,
    Union,
    tube,
)

SKIN_MM = 2.0
PLANE_MM = 2.4  # fat between neighboring muscles
WALL_MM = 11.0  # depth of the plane between the outer and inner muscles of the trunk
BREAST_SKIN_MM = 5.0
TRUNK_MM = (370.0, 348.0)  # middle and half height of the trunk of an adult of 1.74 m


def draw_envelope(drawing: Drawing, h: Habitus, head: Superellipsoid) -> None:
    """Body from the skin to the inner side of the muscles; `head` is the outline of its soft tissue."""
    e = h.fat_mm
    wide, deep = 165 * h.sxy, 98 * h.sxy
    outer: list[Primitive] = [
        *_trunk(h, e, 0.85 * e),
        *_legs(h, 0.45 * e),
        *_arms(h, 0.25 * e),
        *_shoulders(h, 0.3 * e),
        *_neck(h, 4),
        _grown(head, 6),
    ]
    if h.bmi > 26:  # belly
        outer.append(
            Superellipsoid([0, -deep - 0.2 * e, 262 * h.sz], [wide * 0.85, e * 1.1 + 25, 175 * h.sz], 2.5)
        )
    breast = [60 * h.jitter(0.1), 50 * h.jitter(0.2), 60 * h.jitter(0.1)]
    breasts = {s: Superellipsoid(h.at(s * 85, -100 - 0.5 * e, 540), breast) for s in SIDES}
    breasts = {s: one for s, one in breasts.items() if not h.findings.on("no_breast", s)}
    if h.female:
        outer += breasts.values()
    drawing.append(Layers(Union(outer), [(0.0, "skin"), (SKIN_MM, "fat")]))
    for s, one in breasts.items():
        if h.female:
            drawing.add("breast", _grown(one, -BREAST_SKIN_MM), side=s)
    limbs: list[Primitive] = [*_legs(h, 0), *_arms(h, 0), *_shoulders(h, 0), *_neck(h, 0), head]
    drawing.append(Layers(Union(limbs), [(0.0, "muscle")]))
    wall = [(0.0, "muscle"), (WALL_MM, "fat"), (WALL_MM + 1.8, "muscle")]
    drawing.append(Layers(Union(_trunk(h, 0, 0)), wall))
    _muscle_planes(drawing, h)
    drawing.add("fat", cavity(h))
    if "ascites" in h.findings:
        space = cavity(h)
        mesentery = [0.78 * space.axes[0], 0.72 * space.axes[1], 0.85 * space.axes[2]]
        drawing.add("csf", space, only=["fat"], label="fluid")
        drawing.add(
            "fat",
            Superellipsoid([0, space.center[1] - 6, space.center[2] + 18], mesentery, 2.4),
            only=["fluid"],
        )


def cavity(h: Habitus) -> Superellipsoid:
    """The fat that the organs of the abdomen lie in, below the diaphragm."""
    return Superellipsoid([0, -12, 257 * h.sz], [165 * h.sxy - 22, 98 * h.sxy - 30, 185 * h.sz], 3.0)


def arm_points(h: Habitus, side: int) -> list[list[float]]:
    """Shoulder, elbow and hand (or wrist)."""
    up, down = (
        [(170, 10, 640), (200, 10, 800), (110, 20, 980)],
        [(185, 10, 655), (225, 20, 400), (215, -10, 150)],
    )
    return [h.at(side * x, y, z) for x, y, z in (up if h.arms_up else down)]


def thigh(h: Habitus, side: int, grow: float = 0.0) -> list[Capsule]:
    """Upper leg from the hip down."""
    points = [h.at(side * 95, 0, 30), h.at(side * 90, 5, -130), h.at(side * 80, 8, -460)]
    return tube(points, [r * h.sxy + grow for r in (92, 80, 55)])


def back_y(h: Habitus, z: float) -> float:
    """The y (mm) of the back's muscles in the middle plane, at a height (mm) of an adult of 1.74 m."""
    trunk = max(0.0, 1 - abs((z - TRUNK_MM[0]) / TRUNK_MM[1]) ** 3) ** (1 / 3) * 103 + 5
    return max(trunk, 72.0) * h.sxy  # the neck's


def _trunk(h: Habitus, wide: float, deep: float) -> list[Superellipsoid]:
    axes = [165 * h.sxy + wide, 103 * h.sxy + deep, TRUNK_MM[1] * h.sz + wide]
    return [Superellipsoid([0, 5 * h.sxy, TRUNK_MM[0] * h.sz], axes, 3)]


def _legs(h: Habitus, grow: float) -> list[Capsule]:
    return [capsule for s in SIDES for capsule in thigh(h, s, grow)]


def _arms(h: Habitus, grow: float) -> list[Capsule]:
    radii = [r * h.sxy + grow for r in (46, 40, 33 if h.arms_up else 30)]
    return [capsule for s in SIDES for capsule in tube(arm_points(h, s), radii)]


def _shoulders(h: Habitus, grow: float) -> list[Capsule]:
    points = [h.at(-165, 10, 655), h.at(0, 15, 690), h.at(165, 10, 655)]
    return tube(points, [r * h.sxy + grow for r in (52, 60, 52)])


def _neck(h: Habitus, grow: float) -> list[Capsule]:
    return tube([h.at(0, 20, 690), h.at(0, 12, 800)], [58 * h.sxy + grow, 56 * h.sxy + grow])


def _grown(body: Superellipsoid, mm: float) -> Superellipsoid:
    return Superellipsoid(body.center, [a + mm for a in body.axes], body.n, body.rotation)


def _muscle_planes(drawing: Drawing, h: Habitus) -> None:
    """Thin sheets of fat between the muscles of back, buttock, thigh and arm."""
    turn = lambda degrees: [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0]
    sheets: list[Primitive] = []
    for s in SIDES:
        spine = Superellipsoid(h.at(s * 36, 72, 330), h.scaled(30, 24, 255), 2.6)
        sheets.append(Shell(spine, PLANE_MM))
        buttock = Superellipsoid(h.at(s * 82, 60, 60), h.scaled(74, 50, 100), 2.4)
        for depth in (-16, 12):
            point = h.at(s * 85, 62 + depth, 75)
            sheets.append(Common(buttock, Slab(point, [0.35 * s, 0.85, 0.4], PLANE_MM)))
        femur = h.at(s * 85, 7, -200)
        for part in thigh(h, s, -6):
            sheets += [Common(part, Slab(femur, turn(angle), PLANE_MM)) for angle in (20, 80, 140)]
        points = arm_points(h, s)
        for a, b, radius in zip(points[:-1], points[1:], (40, 34), strict=True):
            sheets.append(Common(tube([a, b], radius * h.sxy)[0], Slab(a, [0.1, 1.0, 0.0], PLANE_MM)))
    drawing.add("fat", sheets, only=["muscle"])


def muscle_group(h: Habitus, name: str) -> Primitives:
    """Where a muscle group lies, for patients who used it: to be painted over muscle only."""
    if name == "paraspinal":
        return [Superellipsoid(h.at(s * 36, 72, 330), h.scaled(30, 25, 255), 2.6) for s in SIDES]
    if name == "neck":
        return [tube([h.at(s * 38, 8, 690), h.at(s * 42, 10, 790)], 16) for s in SIDES]
    if name == "shoulder":
        return [tube([h.at(s * 60, 40, 680), h.at(s * 160, 15, 650)], 38 * h.sxy) for s in SIDES]
    if name == "gluteal":
        return [Superellipsoid(h.at(s * 82, 66, 60), h.scaled(72, 42, 95), 2.4) for s in SIDES]
    return [thigh(h, s, -6) for s in SIDES]


MUSCLE_GROUPS = ("paraspinal", "neck", "shoulder", "gluteal", "thigh")
