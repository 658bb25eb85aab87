"""Procedural brain: folded cortex, deep nuclei, ventricles, cerebellum, skull."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from drmc.simulation.drawing import SIDES, Drawing, Uptake
from drmc.simulation.organs import MU_PER_MM, ORGANS
from drmc.simulation.shapes import (
    Box,
    Canvas,
    LatticeField,
    Superellipsoid,
    Vector,
    rotation,
    sample_grid,
    tube,
)

SKULL_MM, CSF_MM = 8.0, 2.0
FOLD_MM = 23.0  # wavelength: a sulcus every half of it
SULCUS_MM = 20.0  # mean depth
CORTEX_MM = 4.3
GAP_MM = 0.35  # half the width of a sulcus
PROJECTION = 0.8  # 1: sulci run straight to the middle of the brain, 0: they do not know it
_STEP_MM = 2.0  # grid that the folds are kept on
_REFERENCE_AXES = (70.0, 88.0, 62.0)
_REGION_CV = 0.10  # regional metabolism


def draw_brain(
    drawing: Drawing, rng: np.random.Generator, fields: torch.Generator, c: Vector, a: Vector
) -> None:
    """Skull and brain around the center `c` with the semi-axes `a` of the cerebrum."""
    scale = np.array(a) / _REFERENCE_AXES
    at = lambda dx, dy, dz: [c[0] + dx * scale[0], c[1] + dy * scale[1], c[2] + dz * scale[2]]
    axes = lambda ax, ay, az: [ax * scale[0], ay * scale[1], az * scale[2]]
    hull = lambda grow: Superellipsoid(c, [v + grow for v in a], 2.2)
    fossa = lambda grow: Superellipsoid(at(0, 46, -44), [v + grow for v in axes(50, 30, 27)], 2.2)
    drawing.add("skull", [hull(SKULL_MM), fossa(SKULL_MM - 1)])
    drawing.add("csf", [hull(CSF_MM), fossa(CSF_MM)])
    low, high = ([p + sign * (q + 40) for p, q in zip(c, a, strict=True)] for sign in (-1, 1))
    drawing.append(Cortex(hull(0), fields, (low, high), float(rng.normal(0, 0.02))))
    for s in SIDES:
        jitter = rng.normal(1, 0.06, 3)
        ventricle = axes(5.5 * jitter[0], 27 * jitter[1], 8 * jitter[2])
        drawing.add("white_matter", Superellipsoid(at(s * 18, -4, 4), axes(17, 34, 17)))
        drawing.add("csf", Superellipsoid(at(s * 10, 0, 9), ventricle, 2, rotation(0, 0, s * 8)))
        drawing.add("deep_gray", Superellipsoid(at(s * 15, -16, 5), axes(5, 13, 9)))  # caudate
        lentiform = Superellipsoid(at(s * 26, -6, -3), axes(7, 16, 11), 2, rotation(0, 0, s * 12))
        drawing.add("deep_gray", lentiform)
        drawing.add("deep_gray", Superellipsoid(at(s * 10, 14, 1), axes(8, 14, 9)))  # thalamus
    drawing.append(Cerebellum(fossa(0), LatticeField(fields, low, high, 30.0)))
    stem = tube([at(0, 20, -16), at(0, 24, -52), at(0, 28, -95)], [13, 12, 8])
    drawing.add("brainstem", stem)


@dataclass
class _Mix:
    """Writes gray and white matter into a box of a canvas."""

    canvas: Canvas
    uptake: Uptake

    def blend(self, box: Box, share: torch.Tensor, organ: str, factor: torch.Tensor | float = 1.0) -> None:
        mu = MU_PER_MM[ORGANS[organ].tissue]
        self.canvas.blend(box, share, self.uptake[organ] * factor, mu, ORGANS[organ].label)


class _InHull:
    """A part of the brain inside a superellipsoid."""

    hull: Superellipsoid

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        return self.hull.bounds()


class Cortex(_InHull):
    """Gray matter along the hull and the walls of the sulci, white matter inside.

    Sulci are the zero set of a band-pass field that is looked up where a line from the middle meets the hull:
    walls that run inwards, as real ones do.
    """

    def __init__(
        self,
        hull: Superellipsoid,
        fields: torch.Generator,
        bounds: tuple[Vector, Vector],
        asymmetry: float,
    ):
        self.hull, self.asymmetry = hull, asymmetry
        lower, upper = bounds
        make = lambda spacing, band=None: LatticeField(fields, lower, upper, spacing, band)
        fold = make(FOLD_MM / 4, FOLD_MM)
        self.depth, self.thickness, self.region = make(26.0), make(20.0), make(30.0)
        self._low = [float(v) for v in lower]
        axes = [torch.arange(low, high, _STEP_MM) for low, high in zip(lower, upper, strict=True)]  # x, y, z
        folds = fold.sample(axes[2], axes[1], axes[0])
        slopes = torch.gradient(folds, spacing=_STEP_MM)
        steepness = (slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2).sqrt()
        self._maps = torch.stack([folds, steepness])

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints gray and white matter."""
        box = canvas.box(*self.bounds())
        if box is None:
            return
        c, a = self.hull.center, self.hull.axes
        x, y, z = torch.broadcast_tensors(*canvas.coordinates(box))
        grid = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        signed = self.hull.distance(x, y, z)
        inside_mm = -signed
        dx, dy, dz = x - c[0], y - c[1], z - c[2]
        rho = ((dx / a[0]) ** 2 + (dy / a[1]) ** 2 + (dz / a[2]) ** 2).sqrt().clamp_(min=0.3)
        out = rho**-PROJECTION
        fold, steep = sample_grid(
            self._maps, self._low, _STEP_MM, c[0] + dx * out, c[1] + dy * out, c[2] + dz * out
        )
        steep = steep.clamp(min=0.4 * 2 * math.pi / FOLD_MM)
        depth = SULCUS_MM * (1 + 0.3 * self.depth.sample(*grid))
        pial = fold.abs() / (steep * out) + (inside_mm - depth).clamp(min=0) * 1.5
        pial = torch.minimum(pial, inside_mm)
        fissure = (dz > 0.1 * a[2]) | (dy.abs() > 0.55 * a[1])  # between the hemispheres
        pial = torch.where(fissure, torch.minimum(pial, dx.abs() - 0.5), pial)
        pial = torch.minimum(pial, self._sylvian(dx, dy, dz))
        thickness = CORTEX_MM * (1 + 0.08 * self.thickness.sample(*grid))
        inside = canvas.share(signed)
        width = canvas.voxel_mm
        brain = (0.5 + (pial - GAP_MM) / width).clamp(0, 1) * inside
        white = (0.5 + (pial - GAP_MM - thickness) / width).clamp(0, 1) * inside
        metabolism = (1 + _REGION_CV * self.region.sample(*grid)) * (1 + self.asymmetry * (dx / 15).tanh())
        mix = _Mix(canvas, uptake)
        mix.blend(box, brain, "gray_matter", metabolism)
        mix.blend(box, white, "white_matter")

    def _sylvian(self, dx: torch.Tensor, dy: torch.Tensor, dz: torch.Tensor) -> torch.Tensor:
        """Distance to the lateral fissure, which rises to the back and ends at the insula."""
        a = self.hull.axes
        surface = dz - a[2] * (-0.12 + 0.30 * dy / a[1])
        beyond = ((dy / a[1] + 0.12).abs() - 0.45).clamp(min=0) * a[1]
        return surface.abs() * 0.95 + (0.56 * a[0] - dx.abs()).clamp(min=0) * 1.2 + beyond


class Cerebellum(_InHull):
    """Gray matter with white matter between its folia."""

    def __init__(self, hull: Superellipsoid, wave: LatticeField):
        self.hull, self.wave = hull, wave

    def paint(self, canvas: Canvas, uptake: Uptake) -> None:
        """Paints the cerebellum."""
        box = canvas.box(*self.bounds())
        if box is None:
            return
        x, y, z = torch.broadcast_tensors(*canvas.coordinates(box))
        signed = self.hull.distance(x, y, z)
        wave = self.wave.sample(canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]])
        folia = ((z - self.hull.center[2]) / 9.0 * 2 * math.pi + 1.5 * wave).sin().abs() * 9 / math.pi
        pial = torch.minimum(-signed, folia + (-signed - 12).clamp(min=0))
        inside = canvas.share(signed)
        white = (0.5 + (pial - 3.4) / canvas.voxel_mm).clamp(0, 1) * inside
        mix = _Mix(canvas, uptake)
        mix.blend(box, inside, "cerebellum")
        mix.blend(box, white, "white_matter")
