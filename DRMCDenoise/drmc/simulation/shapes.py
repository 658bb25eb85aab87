"""Primitives of procedural anatomy: signed distances in mm, painted with soft edges on a voxel grid.

World frame in mm, LPS: x to the patient's left, y posterior, z superior. Everything random lives on lattices fixed in
mm, so that a patient is the same on every voxel grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

Vector = Sequence[float]


def rotation(rx: float = 0, ry: float = 0, rz: float = 0) -> np.ndarray:
    """Rotation matrix Rz Ry Rx of angles in degrees."""
    (cx, cy, cz), (sx, sy, sz) = ([f(math.radians(a)) for a in (rx, ry, rz)] for f in (math.cos, math.sin))
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return (about_z @ about_y @ about_x).astype(np.float32)


class Superellipsoid:
    """|x/a|^n + |y/b|^n + |z/c|^n <= 1, with optional rotation, hollow core and half-space cuts v.p <= t (local frame)."""

    def __init__(self, center: Vector, axes: Vector, n: float = 2.0, rotation=None, cuts=(), inner=None):
        self.center, self.axes, self.n, self.rotation = center, axes, n, rotation
        self.cuts, self.inner = cuts, inner

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        axes = np.array(self.axes, dtype=float)
        extent = axes if self.rotation is None else np.abs(self.rotation) @ axes
        return np.array(self.center) - extent, np.array(self.center) + extent

    def distance(self, x, y, z) -> torch.Tensor:
        """Approximate signed distance in mm, negative inside."""
        x, y, z = x - self.center[0], y - self.center[1], z - self.center[2]
        if self.rotation is not None:
            r = self.rotation.T
            x, y, z = (float(r[i, 0]) * x + float(r[i, 1]) * y + float(r[i, 2]) * z for i in range(3))
        result = self._shell(x, y, z, self.axes)
        if self.inner is not None:
            result = torch.maximum(result, -self._shell(x, y, z, self.inner))
        for direction, offset in self.cuts:
            result = torch.maximum(result, direction[0] * x + direction[1] * y + direction[2] * z - offset)
        return result

    def _shell(self, x, y, z, axes) -> torch.Tensor:
        u, v, w = (x / axes[0]).abs(), (y / axes[1]).abs(), (z / axes[2]).abs()
        n = self.n
        if n == 2.0:
            rho = (u * u + v * v + w * w).sqrt().clamp(min=1e-3)
            slope = ((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2).sqrt() / rho
        else:
            rho = (u**n + v**n + w**n).clamp(min=1e-12) ** (1 / n)
            gradient = [(p ** (n - 1) / a) ** 2 for p, a in zip((u, v, w), axes, strict=True)]
            slope = rho ** (1 - n) * sum(gradient).sqrt()
        return (rho - 1) / slope.clamp(min=1e-6)


class Capsule:
    """Cone with round ends from a to b."""

    def __init__(self, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float):
        self.a, self.b, self.radius_a, self.radius_b = a, b, radius_a, radius_b

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        widest = max(self.radius_a, self.radius_b)
        return np.minimum(self.a, self.b) - widest, np.maximum(self.a, self.b) + widest

    def distance(self, x, y, z) -> torch.Tensor:
        """Signed distance in mm, negative inside."""
        a, d = [float(v) for v in self.a], [float(v) for v in self.b - self.a]
        length2 = max(sum(v * v for v in d), 1e-6)
        t = (((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / length2).clamp(0, 1)
        r = ((x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2).sqrt()
        return r - (self.radius_a + t * (self.radius_b - self.radius_a))


def tube(points: Sequence[Vector], radius: float | Sequence[float]) -> list[Capsule]:
    """Chain of capsules through the points, with one radius or one per point."""
    p = np.asarray(points, np.float32)
    r = np.broadcast_to(np.asarray(radius, np.float32), (len(p),))
    return [Capsule(p[i], p[i + 1], float(r[i]), float(r[i + 1])) for i in range(len(p) - 1)]


class LatticeField:
    """Smooth random field with unit variance, given by cubic B-splines on a lattice fixed in mm.

    `spacing_mm` is the lattice constant: the correlation length is about 1.5 of it. `band_mm` filters the lattice noise
    to a band around that wavelength (cortical folds).
    """

    def __init__(
        self,
        generator: torch.Generator,
        lower: Vector,
        upper: Vector,
        spacing_mm: float,
        band_mm: float | None = None,
    ):
        self.spacing = spacing_mm
        self.lower = [float(v) - 2 * spacing_mm for v in lower]  # (x, y, z)
        nodes = [math.ceil((u - v) / spacing_mm) + 5 for v, u in zip(lower, upper, strict=True)]
        noise = torch.randn(nodes[2], nodes[1], nodes[0], generator=generator)
        if band_mm is not None:
            k = [torch.fft.fftfreq(m, d=spacing_mm) for m in noise.shape]
            radius = (k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + k[2][None, None] ** 2).sqrt()
            band = torch.exp(-(((radius * band_mm - 1) / 0.35) ** 2) / 2)
            for axis, frequency in enumerate(k):  # undo what the spline attenuates at the nodes
                response = (4 + 2 * torch.cos(2 * math.pi * spacing_mm * frequency)) / 6
                band = band / response.view([-1 if other == axis else 1 for other in range(3)])
            self.noise, self.gain = torch.fft.ifftn(torch.fft.fftn(noise) * band).real, 1.0
            self.gain = 1 / self._spread()
        else:
            # variance of a sum of squared cubic B-spline weights, averaged over positions: 151/315 per axis
            self.noise, self.gain = noise, (151 / 315) ** -1.5

    def _spread(self) -> float:
        """Standard deviation over the inner lattice, at and between its nodes."""
        low, n = self.lower, self.noise.shape
        inside = [torch.arange(2.0, n[2 - a] - 3.0, 0.25) * self.spacing + low[a] for a in range(3)]
        return float(self.sample(inside[2], inside[1], inside[0]).std())

    def _weights(self, positions: torch.Tensor, axis_xyz: int, nodes: int) -> torch.Tensor:
        t = (positions - self.lower[axis_xyz]) / self.spacing
        distance = (t[:, None] - torch.arange(nodes)[None]).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance).clamp(min=0) ** 3 / 6
        return torch.where(distance < 1, near, far)

    def sample(self, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The field at the grid of axis positions (mm): tensor (z, y, x)."""
        nz, ny, nx = self.noise.shape
        field = self.noise @ self._weights(x, 0, nx).T
        field = torch.matmul(self._weights(y, 1, ny), field)
        field = self._weights(z, 2, nz) @ field.reshape(nz, -1)
        return field.view(len(z), len(y), len(x)) * self.gain


class Canvas:
    """Activity (SUV), attenuation (1/mm) and organ label on a voxel grid; the last paint wins, edges are anti-aliased.

    `displacement`: three fields (x, y, z) and their amplitude in mm; every primitive is evaluated in displaced space.
    """

    def __init__(
        self,
        shape_zyx: tuple[int, int, int],
        spacing_zyx: tuple[float, float, float],
        origin_zyx: tuple[float, float, float],
        displacement: Sequence[LatticeField] | None = None,
        amplitude_mm: float = 0.0,
    ):
        self.shape, self.spacing = shape_zyx, spacing_zyx
        axes = zip(shape_zyx, spacing_zyx, origin_zyx, strict=True)
        self.z, self.y, self.x = (torch.arange(n, dtype=torch.float32) * s + o for n, s, o in axes)
        self.voxel_mm = float(np.prod(spacing_zyx)) ** (1 / 3)
        self.reach_mm, self._moved = 0.0, None
        if displacement is not None:
            self.reach_mm = 2.5 * amplitude_mm
            self._moved = [
                (field.sample(self.z, self.y, self.x) * amplitude_mm).clamp_(-self.reach_mm, self.reach_mm)
                for field in displacement
            ]
        self.activity = torch.zeros(shape_zyx)
        self.mu = torch.zeros(shape_zyx)
        self.label = torch.zeros(shape_zyx, dtype=torch.uint8)

    def box(self, lower: Vector, upper: Vector) -> tuple[slice, slice, slice] | None:
        """Slices (z, y, x) around world corners (x, y, z), with a margin; None outside the grid."""
        margin = self.reach_mm + 2 * max(self.spacing)
        slices = []
        for axis, low, high in zip(
            (self.z, self.y, self.x), reversed(list(lower)), reversed(list(upper)), strict=True
        ):
            start = int(torch.searchsorted(axis, float(low) - margin))
            stop = int(torch.searchsorted(axis, float(high) + margin))
            if stop <= start:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def coordinates(self, box: tuple[slice, slice, slice]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(x, y, z) in mm inside the box, displaced."""
        z, y, x = self.z[box[0]].view(-1, 1, 1), self.y[box[1]].view(1, -1, 1), self.x[box[2]].view(1, 1, -1)
        if self._moved is None:
            return x, y, z
        dx, dy, dz = (field[box] for field in self._moved)
        return x + dx, y + dy, z + dz

    def coverage(self, primitive) -> tuple[tuple[slice, slice, slice], torch.Tensor] | None:
        """Box and share (0..1) of each of its voxels inside the primitive; None outside the grid."""
        box = self.box(*primitive.bounds())
        if box is None:
            return None
        return box, (0.5 - primitive.distance(*self.coordinates(box)) / self.voxel_mm).clamp_(0, 1)

    def paint(self, primitives, suv: float, mu: float, label: int) -> None:
        """Blends activity and attenuation inside the primitives and sets the label where they cover more than half."""
        for primitive in _flat(primitives):
            covered = self.coverage(primitive)
            if covered is None:
                continue
            box, share = covered
            self.activity[box] += share * (suv - self.activity[box])
            self.mu[box] += share * (mu - self.mu[box])
            self.label[box][share > 0.5] = label


def _flat(primitives) -> Iterator:
    if isinstance(primitives, (list, tuple)):
        for p in primitives:
            yield from _flat(p)
    else:
        yield primitives
