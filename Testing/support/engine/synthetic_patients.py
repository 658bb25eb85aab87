"""Simulated patients that several test files look at, made once per run, and what they look with."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from drmc.simulation.anatomy import Lesion, Phantom, WholeBody
from drmc.simulation.organs import ORGANS, organ_label

WOMAN, MAN, OTHER_WOMAN = 101, 104, 115
SEEDS = (WOMAN, MAN, OTHER_WOMAN)
GRID = (7.0, 7.0, 7.0)  # mm (z, y, x)
EXTENT_YX = (460.0, 630.0)

patient = cache(WholeBody)


def organ_name(label: int) -> str:
    """`lung` and `lung_left`, and `background` for 0; KeyError where a label value is no organ's."""
    right = {organ_label(name): name for name in ORGANS}
    left = {organ_label(name, 1): f"{name}_left" for name, organ in ORGANS.items() if organ.paired}
    return ({0: "background"} | right | left)[label]


def grid_of(body: WholeBody, spacing) -> tuple[tuple, tuple, tuple]:
    """(shape, spacing, origin), each (z, y, x), around the whole scan range."""
    lower, upper = body.axial_range()
    shape = (
        int((upper - lower) / spacing[0]),
        *(int(e / s) for e, s in zip(EXTENT_YX, spacing[1:], strict=True)),
    )
    origin = (lower, *(-(n - 1) / 2 * s for n, s in zip(shape[1:], spacing[1:], strict=True)))
    return shape, spacing, origin


def cube(center_xyz, half_mm: float, spacing) -> tuple[tuple, tuple, tuple]:
    """(shape, spacing, origin), each (z, y, x), around a point; a number is an isotropic spacing."""
    spacing = (spacing,) * 3 if isinstance(spacing, float) else spacing
    shape = tuple(2 * int(np.ceil(half_mm / s)) + 1 for s in spacing)
    center = reversed([float(c) for c in center_xyz])
    origin = tuple(c - (n - 1) / 2 * s for c, n, s in zip(center, shape, spacing, strict=True))
    return shape, spacing, origin


@cache
def scan(seed: int, spacing=GRID) -> Phantom:
    """A patient on a coarse grid."""
    return patient(seed).rasterize(*grid_of(patient(seed), spacing))


@cache
def close_up(seed: int, number: int, spacing=2.0) -> tuple[Phantom, tuple]:
    """A fine grid around one lesion of a patient, and that grid."""
    lesion: Lesion = patient(seed).lesions[number]
    grid = cube(lesion.center_mm, lesion.reach_mm() + 4, spacing)
    return patient(seed).rasterize(*grid), grid


def centroid(chosen: torch.Tensor, spacing, origin) -> list[float]:
    """Middle of the chosen voxels, (z, y, x) in mm."""
    index = chosen.nonzero().float().mean(0)
    return [float(i) * s + o for i, s, o in zip(index, spacing, origin, strict=True)]


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    """Overlap of two masks, 1 if they are the same."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def resampled(phantom: Phantom, source: tuple, target: tuple) -> torch.Tensor:
    """Organ labels of a phantom at the voxel centers of another grid, nearest neighbor."""
    index = []
    for (n, s, o), (m, t, p) in zip(zip(*source, strict=True), zip(*target, strict=True), strict=True):
        index.append((((torch.arange(m) * t + p - o) / s).round().long()).clamp(0, n - 1))
    return phantom.organs[index[0]][:, index[1]][:, :, index[2]]
