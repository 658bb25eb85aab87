"""Face and neck: glands, eyes, air, jaw. The brain is in `brain` and `brain_maps`."""

from __future__ import annotations

from collections.abc import Callable

from drmc.simulation.drawing import SIDES, Drawing
from drmc.simulation.habitus import Habitus
from drmc.simulation.shapes import Superellipsoid, tube

_SOFT = ["muscle", "fat"]


def draw_neck(drawing: Drawing, h: Habitus) -> None:
    """The thyroid with its isthmus."""
    lobes = [Superellipsoid(h.at(s * 20, -12, 712), [9, 9, 22]) for s in SIDES]
    drawing.add("thyroid", [*lobes, tube([h.at(-18, -14, 706), h.at(18, -14, 706)], 4)])


def draw_face(drawing: Drawing, at: Callable[[float, float, float], list[float]], middle: float) -> None:
    """Jaw, glands, tongue and air; `at` scales positions of the reference adult, around height `middle`."""
    pair = lambda organ, x, y, z, axes, **more: drawing.pair(
        organ, lambda s: Superellipsoid(at(s * x, y, middle + z), axes), **more
    )
    jaw = [at(-46, -14, middle - 66), at(-40, -52, middle - 88), at(0, -74, middle - 92)]
    mirrored = [[-x, y, z] for x, y, z in jaw]
    cheek = [tube([at(s * 48, -62, middle - 40), at(s * 14, -84, middle - 56)], 5) for s in SIDES]
    drawing.add("cortical_bone", [tube(jaw, [5, 6, 6]), tube(mirrored, [5, 6, 6]), *cheek], only=_SOFT)
    pair("salivary", 58, 5, -62, [13, 17, 24], only=_SOFT)
    pair("salivary", 30, -25, -94, [11, 14, 11], only=_SOFT)
    pair("tonsil", 18, -20, -72, [7, 9, 12])
    drawing.add("tongue", Superellipsoid(at(0, -46, middle - 82), [20, 28, 14]))
    drawing.add("air", Superellipsoid(at(0, -56, middle - 52), [9, 30, 14], 3))
    drawing.add("air", [Superellipsoid(at(s * 25, -66, middle - 50), [11, 12, 13]) for s in SIDES])
    drawing.add("air", tube([at(0, -14, middle - 62), at(0, -8, middle - 96)], 7))  # pharynx


def draw_orbits(drawing: Drawing, at: Callable[[float, float, float], list[float]], middle: float) -> None:
    """Eyes in their fat, lacrimal glands and pituitary: after the skull, which would cover them."""
    pair = lambda organ, x, y, z, axes: drawing.pair(
        organ, lambda s: Superellipsoid(at(s * x, y, middle + z), axes)
    )
    drawing.add("fat", [Superellipsoid(at(s * 32, -74, middle - 30), [17, 24, 16]) for s in SIDES])
    pair("eye", 32, -84, -30, [12, 12, 12])
    pair("lacrimal", 43, -80, -18, [5, 6, 4])
    drawing.add("pituitary", Superellipsoid(at(0, -16, middle - 36), [6, 4.5, 4]))
