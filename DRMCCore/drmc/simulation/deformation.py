"""Proportion and posture of one person: a smooth map from the world into the drawing's space.

Along z the segments of the body are longer or shorter; each height has a width, a depth and a place of the
middle of its own; over that lies a smooth random displacement. Labels, uptake and attenuation go along, and
every voxel grid sees the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from drmc.simulation.shapes import LatticeField

# Vertex, base of the skull, thoracic inlet, dome, iliac crest, floor of the pelvis: heights (mm) of an adult
# of 1.74 m.
LANDMARKS_MM = (960.0, 800.0, 670.0, 500.0, 265.0, 105.0)
LENGTH_SD = (0.03, 0.08, 0.08, 0.08, 0.08)  # of the segments between them
# At the landmarks:
WIDTH_SD = (0.02, 0.02, 0.05, 0.06, 0.06, 0.05)
DEPTH_SD = (0.02, 0.02, 0.05, 0.06, 0.07, 0.05)
# Of the middle to the side (scoliosis) and to the back (kyphosis).
BEND_SD_MM = (6.0, 6.0, 6.0, 8.0, 8.0, 5.0)
LOOSENESS = (0.25, 0.3, 0.9, 1.0, 1.0, 1.0)  # share of the random displacement: heads are much alike
_LIMIT_SD = 2.2
_BLEND_MM = 25.0  # standard deviation of the smoothing between landmarks
_STEP_MM = 5.0


class Proportions:
    """Lengths, widths, depths and bends of one trunk; `scale` is the height over 1.74 m."""

    def __init__(self, rng: np.random.Generator, scale: float):
        draw = lambda sd: np.clip(rng.standard_normal(len(sd)), -_LIMIT_SD, _LIMIT_SD) * np.array(sd)
        marks = scale * np.array(LANDMARKS_MM)
        longer = np.concatenate([[0.0], np.cumsum(draw(LENGTH_SD) * -np.diff(marks))])
        heights = np.arange(marks[-1] - 800, marks[0] + 400, _STEP_MM)
        own = marks - longer  # where this person has them, from the vertex down
        at = lambda values: np.interp(heights, own[::-1], np.asarray(values)[::-1])
        self._heights = torch.from_numpy(heights).float()
        rows = [at(longer), at(1 / (1 + draw(WIDTH_SD))), at(1 / (1 + draw(DEPTH_SD)))]
        rows += [at(draw(BEND_SD_MM)) for _ in range(2)]
        rows.append(at(LOOSENESS))
        reach = np.arange(-4 * _BLEND_MM, 4 * _BLEND_MM + 1, _STEP_MM)
        kernel = np.exp(-((reach / _BLEND_MM) ** 2) / 2)
        smooth = lambda row: np.convolve(
            np.pad(row, len(reach) // 2, mode="edge"), kernel / kernel.sum(), "valid"
        )
        self._rows = torch.from_numpy(np.stack([smooth(row) for row in rows])).float()

    def at(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The six rows of a body at heights z (mm).

        How much too low they lie (mm), 1 / width, 1 / depth, middle in x and y (mm), and the share of the
        random displacement.
        """
        position = ((z - self._heights[0]) / _STEP_MM).clamp(0, len(self._heights) - 1.001)
        first = position.long()
        return tuple(torch.lerp(self._rows[:, first], self._rows[:, first + 1], position - first))


class Deformation:
    """A displacement (mm) at every point of the world: where it lies in the drawing's space, minus the point.

    `fields`: three random fields (x, y, z) of unit variance, `amplitude_mm` their standard deviation.
    """

    def __init__(
        self, fields: list[LatticeField], amplitude_mm: float, proportions: Proportions | None = None
    ):
        self.fields, self.amplitude_mm, self.proportions = fields, amplitude_mm, proportions

    def sample(self, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
        """Displacements in x, y and z, each (z, y, x), at the grid of axis positions (mm)."""
        limit = 2.5 * self.amplitude_mm
        moved = [(field.sample(z, y, x) * self.amplitude_mm).clamp_(-limit, limit) for field in self.fields]
        if self.proportions is not None:
            low, wide, deep, aside, back, loose = (row.view(-1, 1, 1) for row in self.proportions.at(z))
            for volume in moved:
                volume *= loose
            moved[0] += (x.view(1, 1, -1) - aside) * wide - x.view(1, 1, -1)
            moved[1] += (y.view(1, -1, 1) - back) * deep - y.view(1, -1, 1)
            moved[2] += low
        return moved

    def world(self, point: Sequence[float]) -> list[float]:
        """Where a point (x, y, z) of the drawing lies in the world (mm)."""
        found = torch.tensor([float(v) for v in point])
        aim = found.clone()
        for _ in range(12):  # the displacement changes slowly: every round leaves a fifth of the error
            x, y, z = (found[axis : axis + 1] for axis in range(3))
            found = aim - torch.cat([moved.view(1) for moved in self.sample(z, y, x)])
        return found.tolist()
