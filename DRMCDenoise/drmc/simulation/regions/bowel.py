"""Duodenum, small bowel and colon: walls with folds, content and gas."""

from __future__ import annotations

import math

import numpy as np

from drmc.simulation.drawing import Drawing, tree
from drmc.simulation.habitus import Habitus
from drmc.simulation.shapes import tube

_SPACE = ["fat", "small_bowel"]
_FRAME = (
    ((-105, -8, 150), 24),
    ((-106, -4, 262), 22),
    ((-66, -50, 256), 19),
    ((0, -60, 236), 17),
    ((62, -48, 272), 17),
    ((112, 8, 296), 18),
    ((108, 14, 175), 15),
    ((66, 0, 125), 14),
    ((18, 18, 140), 15),
    ((2, 36, 100), 17),
    ((0, 40, 62), 16),
)
_TRANSVERSE = range(2, 5)  # segments that lie in front, where the gas gathers
_HAUSTRA = range(0, 8)
HAUSTRUM_MM = 20.0
LOOPS = 70


def draw_bowel(drawing: Drawing, h: Habitus, avid_content: bool) -> None:
    """All bowel; `avid_content`: the content of the colon takes up as its wall does (metformin)."""
    duodenum = [(-16, -26, 322), (-46, -16, 322), (-56, 0, 296), (-46, 6, 264), (0, 4, 258), (32, -4, 284)]
    drawing.add("duodenum", tube([h.at(*p) for p in duodenum], [13, 13, 12, 12, 11, 11]), only=_SPACE)
    drawing.add("air", tube([h.at(-18, -28, 324), h.at(-40, -20, 323)], 4), only=["duodenum"])
    _small_bowel(drawing, h)
    root = h.at(6, 10, 270)
    for way in ((0.5, -0.7, -0.6), (-0.5, -0.7, -0.7), (0.1, -0.6, -0.9)):
        drawing.add("vessel", tree(h.rng, root, way, 42, 3.5, 4), only=["fat"])
    _colon(drawing, h, avid_content)


def _small_bowel(drawing: Drawing, h: Habitus) -> None:
    """A bounded random walk; the lumen of a loop holds less than its wall."""
    position = np.array([20.0, -20, 260])
    for _ in range(LOOPS):
        move = h.rng.normal(0, 26, 3) * np.array([1.3, 0.7, 1])
        following = np.clip(position + move, [-82, -62, 118], [85, 15, 268])
        ends, uptake = [h.at(*position), h.at(*following)], float(np.exp(h.rng.normal(0, 0.3)))
        drawing.add("small_bowel", tube(ends, 10 * h.sxy), factor=1.1 * uptake, only=_SPACE)
        drawing.add("small_bowel", tube(ends, 5.5 * h.sxy), factor=0.75 * uptake, only=["small_bowel"])
        position = following


def _colon(drawing: Drawing, h: Habitus, avid_content: bool) -> None:
    spread = np.exp(h.rng.normal(0, 0.12, len(_FRAME)))
    nodes = np.array([h.at(*point) for point, _ in _FRAME])
    radii = np.array([radius for _, radius in _FRAME]) * spread
    gas = h.rng.random() < 0.7
    for i in range(len(nodes) - 1):
        length = float(np.linalg.norm(nodes[i + 1] - nodes[i]))
        steps = max(2, round(length / (HAUSTRUM_MM / 2)))
        share = np.linspace(0, 1, steps + 1)
        line = nodes[i] + share[:, None] * (nodes[i + 1] - nodes[i])
        radius = radii[i] + share * (radii[i + 1] - radii[i])
        if i in _HAUSTRA:
            radius = radius * (1 + 0.13 * np.cos(math.pi * np.arange(steps + 1)))
        uptake = float(np.exp(h.rng.normal(0, 0.4)))
        drawing.add("colon", tube(line, radius), factor=uptake, only=[*_SPACE, "muscle", "duodenum"])
        content = 1.0 if avid_content else float(h.rng.uniform(0.45, 0.9))
        drawing.add("colon", tube(line, radius - 4.5), factor=uptake * content, only=["colon"])
        pocket, depth = h.rng.uniform(0.3, 0.6), h.rng.random()
        if gas and (i in _TRANSVERSE or depth < 0.25):
            front = line - np.array([0, 0.3, 0]) * radius[:, None]
            drawing.add("air", tube(front, radius * pocket), only=["colon"])
