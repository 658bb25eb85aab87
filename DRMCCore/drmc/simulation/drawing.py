"""A patient as a list of strokes: what is painted, with which organ, in which order; on no voxel grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from drmc.simulation.organs import MU_PER_MM, ORGANS, label_table, organ_label
from drmc.simulation.shapes import Canvas, Capsule, Primitive, Primitives, Union, Vector, flat

SIDES = (-1, 1)  # the patient's right and left

Uptake = dict[str, float]


@dataclass
class Stroke:
    """Primitives painted with one organ."""

    organ: str
    primitives: list[Primitive]
    factor: float = 1.0
    """Of the organ's uptake."""
    side: int = 0
    only: torch.Tensor | None = None
    """Labels that may be painted over, bool (256,); None: all."""
    relabel: bool = True
    """False: the label map stays as it is."""
    label: str = ""
    """Organ that the label map shows, if not `organ`."""

    def __post_init__(self) -> None:
        self._bounds = np.array([primitive.bounds() for primitive in self.primitives])  # (n, 2, 3)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        return self._bounds[:, 0].min(0), self._bounds[:, 1].max(0)

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints the primitives one after the other."""
        label = organ_label(self.label or self.organ, self.side) if self.relabel else None
        mu = MU_PER_MM[ORGANS[self.organ].tissue]
        near = [self.primitives[index] for index in canvas.near(self._bounds)]
        canvas.paint(near, uptake[self.organ] * self.factor, mu, label, self.only)


@dataclass
class Layers:
    """Organs that follow the surface of a body from the outside in: (depth in mm, organ)."""

    body: Union
    layers: Sequence[tuple[float, str]]
    only: torch.Tensor | None = None

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        return self.body.bounds()

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints all layers with one evaluation of the distance."""
        box = canvas.box(*self.bounds())
        if box is None:
            return
        distance = torch.full([s.stop - s.start for s in box], 1e3)
        for part in self.body.primitives:
            part_box = canvas.box(*part.bounds())
            if part_box is None:
                continue
            inner = tuple(
                slice(p.start - b.start, p.stop - b.start) for p, b in zip(part_box, box, strict=True)
            )
            nearer = part.distance(*canvas.coordinates(part_box))
            distance[inner] = torch.minimum(distance[inner], nearer)
        allowed = None if self.only is None else self.only[canvas.label[box].int()]
        for depth, organ in self.layers:
            share = canvas.share(distance, depth)
            if allowed is not None:
                share = share * allowed
            canvas.blend(box, share, uptake[organ], MU_PER_MM[ORGANS[organ].tissue], organ_label(organ))


class Paintable(Protocol):
    """Anything that a drawing holds."""

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints it on a canvas, with the patient's uptake (SUV) by organ."""


class Drawing:
    """The strokes of a patient in the order of painting."""

    def __init__(self) -> None:
        self.strokes: list[Paintable] = []
        self._bounds: np.ndarray | None = None

    def add(
        self,
        organ: str,
        primitives: Primitives,
        *,
        factor: float = 1.0,
        side: int = 0,
        only: Iterable[str] = (),
        relabel: bool = True,
        label: str = "",
    ) -> None:
        """One more stroke; `only` names the organs that it may cover."""
        table = label_table(*only) if only else None
        self.append(Stroke(organ, list(flat(primitives)), factor, side, table, relabel, label))

    def pair(
        self,
        organ: str,
        make: Callable[[int], Primitives],
        *,
        factor: float = 1.0,
        only: Iterable[str] = (),
        label: str = "",
    ) -> None:
        """Two strokes: `make(side)` of the right (-1) and of the left (+1)."""
        for side in SIDES:
            self.add(organ, make(side), factor=factor, side=side, only=only, label=label)

    def append(self, stroke: Paintable) -> None:
        """One more stroke of any kind."""
        self.strokes.append(stroke)
        self._bounds = None

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints all strokes that reach the canvas."""
        if self._bounds is None:
            self._bounds = np.array([stroke.bounds() for stroke in self.strokes])  # (strokes, 2, 3)
        for index in canvas.near(self._bounds):
            self.strokes[index].paint(canvas, uptake)


def tree(
    rng: np.random.Generator,
    root: Vector,
    direction: Vector,
    length: float,
    radius: float,
    generations: int,
    *,
    spread: float = 0.55,
    shorter: float = 0.80,
    thinner: float = 0.74,
) -> list[Capsule]:
    """Capsules of a tree of vessels that forks in two; `spread`: sine of the angle between fork and stem."""
    start, way = np.array(root, float), np.array(direction, float)
    way /= np.linalg.norm(way)
    end = start + way * length * rng.uniform(0.8, 1.2)
    branches = [Capsule(start.astype(np.float32), end.astype(np.float32), radius, radius * thinner)]
    if generations > 1:
        aside = np.cross(way, rng.normal(size=3))
        aside /= np.linalg.norm(aside)
        for sign in SIDES:
            fork = way + sign * spread * rng.uniform(0.6, 1.3) * aside
            branches += tree(
                rng, end, fork, length * shorter, radius * thinner, generations - 1,
                spread=spread, shorter=shorter, thinner=thinner,
            )  # fmt: skip
    return branches
