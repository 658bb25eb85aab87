"""Aorta, cava and the larger branches of both."""

from __future__ import annotations

from drmc.simulation.drawing import SIDES, Drawing
from drmc.simulation.habitus import Habitus
from drmc.simulation.shapes import tube

_AORTA = (
    ((14, -12, 500), 14),
    ((6, -24, 545), 15),
    ((2, -28, 590), 15),
    ((8, -4, 618), 13.5),
    ((26, 22, 595), 12),
    ((22, 14, 450), 11.5),
    ((8, -10, 330), 10),
    ((4, -16, 200), 9),
)
_SOFT = ["fat", "muscle", "lung"]


def draw_vessels(drawing: Drawing, h: Habitus) -> None:
    """The trunk's vessels; those inside lung and liver belong to these organs."""
    line = lambda radius, *points: tube([h.at(*p) for p in points], radius)
    drawing.add("aorta", line([r for _, r in _AORTA], *(p for p, _ in _AORTA)))
    superior = line(10, (-28, -10, 650), (-26, -8, 520), (-18, -14, 490))
    inferior = line([10, 12, 12, 10], (-14, -10, 465), (-22, 2, 430), (-24, -4, 380), (-20, -12, 200))
    drawing.add("blood_pool", [superior, inferior])
    branches = []
    for s in SIDES:
        top = (8 if s > 0 else -2, 0, 622)
        carotid = [top, (s * 22, 2, 690), (s * 30, -2, 740), (s * 34, 2, 800)]
        jugular = [(s * 28, -16, 660), (s * 38, -4, 700), (s * 40, 2, 800)]
        sheath = line(9, *((1.1 * x, y, z) for x, y, z in carotid[1:]))
        drawing.add("fat", sheath, only=["muscle"])
        branches += line(3.4, *carotid) + line(5.0, *jugular)
        subclavian = [(s * 20, 0, 645), (s * 60, -8, 684), (s * 120, 2, 655), (s * 165, 6, 610)]
        branches += line([5, 4.5, 4, 3], *subclavian)
        branches += line([6, 5, 4.5, 4], (-24, -14, 640), *((x, y - 14, z - 4) for x, y, z in subclavian[1:]))
        iliac = [(4, -16, 200), (s * 28, 8, 160), (s * 60, -14, 85), (s * 74, -46, 40), (s * 78, -25, -120)]
        vein = [(-20, -12, 200), *((x - s * 11, y + 5, z) for x, y, z in iliac[1:])]
        drawing.add("fat", line(12, *iliac[2:4]), only=["muscle"])
        branches += line([7, 6, 5.5, 5, 4], *iliac) + line([8, 7, 7, 6, 5], *vein)
        branches += line(3.0, (6, -8, 325), (s * 46, 26, 318 + s * 6))  # renal
    drawing.add("vessel", branches, only=_SOFT)
