"""Physiological variants of FDG uptake: bowel, brown fat, muscle, thyroid, thymus, marrow."""

from __future__ import annotations

import numpy as np

from drmc.simulation.drawing import SIDES, Drawing, Uptake
from drmc.simulation.habitus import Habitus
from drmc.simulation.regions.envelope import MUSCLE_GROUPS, muscle_group
from drmc.simulation.regions.skeleton import spine_y
from drmc.simulation.shapes import Primitive, Superellipsoid, tube

VARIANTS = {
    "metformin_bowel": 0.20,
    "brown_fat": 0.05,
    "muscle_all": 0.04,
    "muscle_group": 0.06,
    "thyroid": 0.06,
    "thymus": 0.08,
    "marrow": 0.05,
    "avid_myocardium": 0.0,  # follows from the uptake that was drawn
    "hot_bladder": 0.0,
}
"""Share of the patients with each variant (assumed)."""

MARROW = ("vertebra", "pelvis_marrow", "sternum", "femur_marrow")
AVID_MYOCARDIUM, HOT_BLADDER = 7.0, 25.0


def draw_variants(rng: np.random.Generator, uptake: Uptake, tracer: str) -> list[str]:
    """Names of the variants of one patient; changes `uptake`. Other tracers only have hot bladders."""
    names = []
    for name, share in VARIANTS.items():
        chance, strength = rng.random(), rng.random()
        if tracer != "FDG" or chance >= share:
            continue
        names.append(name)
        if name == "metformin_bowel":
            uptake["colon"] = 3 + 4 * strength
            uptake["small_bowel"] *= 1 + strength
        elif name == "muscle_all":
            uptake["muscle"] *= 1.6 + strength
        elif name == "thyroid":
            uptake["thyroid"] *= 2.5 + 3 * strength
        elif name == "thymus":
            uptake["thymus"] = 1.8 + 1.8 * strength
        elif name == "marrow":
            for organ in MARROW:
                uptake[organ] *= 1.6 + strength
            uptake["spleen"] *= 1.2 + 0.4 * strength
    if tracer == "FDG" and uptake["myocardium"] > AVID_MYOCARDIUM:
        names.append("avid_myocardium")
    if uptake["bladder"] > HOT_BLADDER:
        names.append("hot_bladder")
    return names


def paint_variants(drawing: Drawing, h: Habitus, names: list[str]) -> list[str]:
    """Adds the strokes of the variants; returns the names, with the muscle group that is meant."""
    group = MUSCLE_GROUPS[int(h.rng.integers(len(MUSCLE_GROUPS)))]
    factor = float(h.rng.uniform(1.8, 3.6))
    if "muscle_group" in names:
        drawing.add("muscle", muscle_group(h, group), factor=factor, only=["muscle"])
    if "brown_fat" in names:
        patches: list[Primitive] = []
        for s in SIDES:
            patches += [
                Superellipsoid(h.at(s * 62, 8, 694), h.axes(30, 11, 9)),
                *tube([h.at(s * 40, 14, 705), h.at(s * 44, 14, 760)], [9, 5]),
            ]
            for z in np.arange(500, 655, 22.0):
                patches.append(Superellipsoid([s * 27 * h.sxy, spine_y(h, z) + 4, z * h.sz], [6, 6, 7]))
        drawing.add("brown_fat", patches, only=["fat", "muscle"])
    return [f"muscle_group:{group}" if name == "muscle_group" else name for name in names]
