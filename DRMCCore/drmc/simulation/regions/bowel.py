"""Duodenum, small bowel and colon: walls with folds, content and gas."""

from __future__ import annotations

import math

import numpy as np

from drmc.simulation.drawing import Drawing, tree
from drmc.simulation.habitus import Habitus
from drmc.simulation.shapes import tube

_SPACE = ["fat", "fluid", "small_bowel"]
_FRAME = (
    ((-96, -16, 138), 24),
    ((-98, -10, 250), 22),
    ((-60, -54, 248), 19),
    ((6, -64, 232), 17),
    ((70, -52, 266), 17),
    ((116, 4, 294), 18),
    ((114, 6, 165), 15),
    ((70, -10, 118), 14),
    ((20, -2, 132), 15),
    ((4, 22, 98), 17),
    ((0, 28, 62), 16),
)
_TRANSVERSE = range(2, 5)  # segments that lie in front, where the gas gathers
_HAUSTRA = range(0, 8)
HAUSTRUM_MM = 20.0
LOOPS = 115
REDUNDANT = 0.2  # share of the patients with a long sigmoid (assumed)
TRANSVERSE_MM = 22.0  # standard deviation of the height of the transverse colon


def draw_bowel(drawing: Drawing, h: Habitus, avid_content: bool) -> None:
    """All bowel; `avid_content`: the content of the colon takes up as its wall does (metformin)."""
    duodenum = [
        (-16, -36, 320),
        (-46, -26, 316),
        (-56, -8, 292),
        (-46, -10, 262),
        (0, -32, 256),
        (34, -26, 280),
    ]
    drawing.add("duodenum", tube([h.at(*p) for p in duodenum], [13, 13, 12, 12, 11, 11]), only=_SPACE)
    drawing.add("air", tube([h.at(-18, -38, 321), h.at(-40, -30, 319)], 4), only=["duodenum"], relabel=False)
    _small_bowel(drawing, h)
    root = h.at(6, -18, 270)
    for way in ((0.5, -0.7, -0.6), (-0.5, -0.7, -0.7), (0.1, -0.6, -0.9)):
        drawing.add("vessel", tree(h.rng, root, way, 42, 3.5, 4), only=["fat"])
    _colon(drawing, h, avid_content)


def _small_bowel(drawing: Drawing, h: Habitus) -> None:
    """A bounded random walk; the lumen of a loop holds less than its wall."""
    position = np.array([20.0, -20, 290])
    for _ in range(LOOPS):
        move = h.rng.normal(0, 26, 3) * np.array([1.3, 0.7, 1])
        following = np.clip(position + move, [-84, -54, 140], [94, 22, 306])
        ends, uptake = [h.at(*position), h.at(*following)], float(np.exp(h.rng.normal(0, 0.3)))
        drawing.add("small_bowel", tube(ends, 13 * h.sxy), factor=1.1 * uptake, only=_SPACE)
        drawing.add("small_bowel", tube(ends, 8.5 * h.sxy), factor=0.75 * uptake, only=["small_bowel"])
        position = following


def _colon(drawing: Drawing, h: Habitus, avid_content: bool) -> None:
    spread = np.exp(h.rng.normal(0, 0.12, len(_FRAME)))
    nodes = np.array([h.shifted(*point, (5, 4, 7)) for point, _ in _FRAME]) + h.shift((5, 3, 11))
    nodes[_TRANSVERSE.start + 1, 2] += TRANSVERSE_MM * np.clip(h.rng.standard_normal(), -2, 2) - 28
    loop = np.array(h.shifted(30, -20, 215, (25, 8, 20)))
    if h.rng.random() < REDUNDANT:  # the sigmoid rises between its ends
        nodes[8] = loop
    radii = np.array([radius for _, radius in _FRAME]) * spread * 0.94
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
            drawing.add("air", tube(front, radius * pocket), only=["colon"], relabel=False)
