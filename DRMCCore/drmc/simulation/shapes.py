"""Primitives of procedural anatomy: signed distances in mm, painted with soft edges on a voxel grid.

World frame in mm, LPS: x to the patient's left, y posterior, z superior. Everything random lives on lattices
fixed in mm, so that a patient is the same on every voxel grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch

from drmc.imaging.geometry import triple

Vector: TypeAlias = Sequence[float] | np.ndarray
"""Three numbers, (x, y, z)."""
Box: TypeAlias = tuple[slice, slice, slice]
"""Part of a voxel grid, (z, y, x)."""
Shape: TypeAlias = tuple[int, int, int]
Triple: TypeAlias = tuple[float, float, float]


class Solid(Protocol):
    """Anything with a signed distance."""

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm at points (tensors that broadcast), negative inside."""


class Primitive(Solid, Protocol):
    """A solid of finite size."""

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""


Primitives: TypeAlias = "Primitive | Sequence[Primitives]"
"""A primitive, or lists of them in lists."""


class Displacement(Protocol):
    """Moves the points that primitives are evaluated at."""

    def sample(self, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
        """Displacements in x, y and z, each (z, y, x), at the grid of axis positions (mm)."""


def rotation(rx: float = 0, ry: float = 0, rz: float = 0) -> np.ndarray:
    """Rotation matrix Rz Ry Rx of angles in degrees."""
    (cx, cy, cz), (sx, sy, sz) = ([f(math.radians(a)) for a in (rx, ry, rz)] for f in (math.cos, math.sin))
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return (about_z @ about_y @ about_x).astype(np.float32)


class Superellipsoid:
    """|x/a|^n + |y/b|^n + |z/c|^n <= 1, with optional rotation, hollow core and half-space cuts.

    `cuts` are (v, t) with v.p <= t in the local frame.
    """

    def __init__(
        self,
        center: Vector,
        axes: Vector,
        n: float = 2.0,
        rotation: np.ndarray | None = None,
        cuts: Sequence[tuple[Vector, float]] = (),
        inner: Vector | None = None,
    ):
        self.center, self.axes, self.n, self.rotation = center, axes, n, rotation
        self.cuts, self.inner = cuts, inner

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        axes = np.array(self.axes, dtype=float)
        extent = axes if self.rotation is None else np.abs(self.rotation) @ axes
        return np.array(self.center) - extent, np.array(self.center) + extent

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
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

    def _shell(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, axes: Vector) -> torch.Tensor:
        u, v, w = (x / axes[0]).abs(), (y / axes[1]).abs(), (z / axes[2]).abs()
        n = self.n
        if n == 2.0:
            rho = (u * u + v * v + w * w).sqrt().clamp(min=1e-3)
            slope = ((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2).sqrt() / rho
        else:
            powers = [_power(p, n - 1) for p in (u, v, w)]
            rho_n = (powers[0] * u + powers[1] * v + powers[2] * w).clamp_(min=1e-12)
            rho = rho_n ** (1 / n)
            gradient = sum((p / a).square_() for p, a in zip(powers, axes, strict=True)).sqrt_()
            slope = gradient * rho / rho_n
        return (rho - 1) / slope.clamp(min=1e-6)


def _power(values: torch.Tensor, exponent: float) -> torch.Tensor:
    """The power values ** exponent, by products where the exponent is a small integer."""
    if exponent == 2:
        return values * values
    return values * values * values if exponent == 3 else values**exponent


class Capsule:
    """Cone with round ends from a to b."""

    def __init__(self, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float):
        self.a, self.b, self.radius_a, self.radius_b = a, b, radius_a, radius_b

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        widest = max(self.radius_a, self.radius_b)
        return np.minimum(self.a, self.b) - widest, np.maximum(self.a, self.b) + widest

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm, negative inside."""
        a, d = [float(v) for v in self.a], [float(v) for v in self.b - self.a]
        length2 = max(sum(v * v for v in d), 1e-6)
        t = (((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / length2).clamp(0, 1)
        r = ((x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2).sqrt()
        return r - (self.radius_a + t * (self.radius_b - self.radius_a))


def tube(points: Sequence[Vector], radius: float | Vector) -> list[Capsule]:
    """Chain of capsules through the points, with one radius or one per point."""
    p = np.asarray(points, np.float32)
    r = np.broadcast_to(np.asarray(radius, np.float32), (len(p),))
    return [Capsule(p[i], p[i + 1], float(r[i]), float(r[i + 1])) for i in range(len(p) - 1)]


class Common:
    """What several primitives have in common; the first one bounds it."""

    def __init__(self, first: Primitive, *others: Solid):
        self.first, self.others = first, others

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        return self.first.bounds()

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm, negative inside all of them."""
        result = self.first.distance(x, y, z)
        for solid in self.others:
            result = torch.maximum(result, solid.distance(x, y, z))
        return result


class Outside:
    """Everything but a primitive: for use in `Common`, it has no bounds."""

    def __init__(self, primitive: Solid):
        self.primitive = primitive

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm, negative outside the primitive."""
        return -self.primitive.distance(x, y, z)


class Slab:
    """Everything within half a thickness of a plane: for use in `Common`, it has no bounds."""

    def __init__(self, point: Vector, normal: Vector, thickness: float):
        length = float(np.linalg.norm(normal))
        self.normal = [float(v) / length for v in normal]
        self.offset = sum(n * float(p) for n, p in zip(self.normal, point, strict=True))
        self.thickness = thickness

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm, negative inside."""
        n = self.normal
        return (n[0] * x + n[1] * y + n[2] * z - self.offset).abs() - self.thickness / 2


class Shell:
    """The skin of a primitive: within half a thickness of its surface."""

    def __init__(self, primitive: Primitive, thickness: float):
        self.primitive, self.thickness = primitive, thickness

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        lower, upper = self.primitive.bounds()
        return lower - self.thickness / 2, upper + self.thickness / 2

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm, negative inside."""
        return self.primitive.distance(x, y, z).abs() - self.thickness / 2


class Union:
    """Several primitives as one body, so that layers can follow its surface."""

    def __init__(self, primitives: Primitives):
        self.primitives = list(flat(primitives))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (x, y, z) in mm."""
        lower, upper = zip(*(p.bounds() for p in self.primitives), strict=True)
        return np.min(lower, axis=0), np.max(upper, axis=0)

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm, negative inside; outside it is the distance to the nearest part."""
        result = self.primitives[0].distance(x, y, z)
        for primitive in self.primitives[1:]:
            result = torch.minimum(result, primitive.distance(x, y, z))
        return result


def volume_ml(primitive: Primitive, step_mm: float = 5.0) -> float:
    """Volume of a primitive in ml, on a grid of its own."""
    lower, upper = primitive.bounds()
    x, y, z = (
        torch.arange(float(low) - step_mm, float(high) + step_mm, step_mm)
        for low, high in zip(lower, upper, strict=True)
    )
    distance = primitive.distance(x.view(1, 1, -1), y.view(1, -1, 1), z.view(-1, 1, 1))
    return float((0.5 - distance / step_mm).clamp_(0, 1).sum()) * step_mm**3 / 1000


class LatticeField:
    """Smooth random field with unit variance, given by cubic B-splines on a lattice fixed in mm.

    `spacing_mm` is the lattice constant: the correlation length is about 1.5 of it. `band_mm` filters the
    lattice noise to a band around that wavelength (cortical folds).
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


def sample_grid(
    maps: torch.Tensor, lower: Vector, step_mm: float, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """Trilinear interpolation of maps at positions; beyond the edge the edge value continues.

    Args:
        maps: (channels, z, y, x).
        lower: (x, y, z) of the middle of the first voxel, mm.
        step_mm: voxel size of the maps.
        x: positions in mm, tensors of one shape (z, y, x).
        y: as x.
        z: as x.

    Returns:
        (channels, z, y, x).
    """
    sizes = reversed(maps.shape[1:])
    position = [
        (v - float(low)) / (step_mm * (n - 1)) * 2 - 1
        for v, low, n in zip((x, y, z), lower, sizes, strict=True)
    ]
    grid = torch.stack(position, -1)[None]
    return torch.nn.functional.grid_sample(maps[None], grid, padding_mode="border", align_corners=True)[0]


class Canvas:
    """Activity (SUV), attenuation (1/mm) and organ label on a voxel grid; the last paint wins.

    Edges are anti-aliased.

    `deformation` (`deformation.Deformation`) displaces the points that every primitive is evaluated at.
    `paint`: without it the canvas is only good for coverage.
    """

    def __init__(
        self,
        shape_zyx: Shape,
        spacing_zyx: Triple,
        origin_zyx: Triple,
        deformation: Displacement | None = None,
        paint: bool = True,
    ):
        self.shape, self.spacing, self.origin = shape_zyx, triple(spacing_zyx), triple(origin_zyx)
        axes = zip(shape_zyx, spacing_zyx, origin_zyx, strict=True)
        self.z, self.y, self.x = (torch.arange(n, dtype=torch.float32) * s + o for n, s, o in axes)
        self.voxel_mm = float(np.prod(spacing_zyx)) ** (1 / 3)
        self._moved = None if deformation is None else deformation.sample(self.z, self.y, self.x)
        self._extremes = None if self._moved is None else _Extremes(self._moved)
        if paint:
            self.activity = torch.zeros(shape_zyx)
            self.mu = torch.zeros(shape_zyx)
            self.label = torch.zeros(shape_zyx, dtype=torch.uint8)

    def box(self, lower: Vector, upper: Vector) -> Box | None:
        """Slices around corners (x, y, z) of the primitives' space, with a margin; None outside the grid."""
        low, high = np.asarray(lower, float), np.asarray(upper, float)
        if self._extremes is None:
            return self._slices(low, high)
        box = self._whole()
        for _ in range(3):  # the smaller the box, the less the displacement varies in it
            least, most = self._extremes.within(box)
            smaller = self._slices(low - most, high - least)
            if smaller is None:
                return None
            box = smaller
        return box

    def _whole(self) -> Box:
        nz, ny, nx = self.shape
        return slice(0, nz), slice(0, ny), slice(0, nx)

    def _slices(self, lower: np.ndarray, upper: np.ndarray) -> Box | None:
        """Slices (z, y, x) around world corners (x, y, z), with a margin; None outside the grid."""
        margin = 2 * max(self.spacing)
        slices = []
        for n, step, first, low, high in zip(
            self.shape, self.spacing, self.origin, lower[::-1], upper[::-1], strict=True
        ):
            start = max(0, math.ceil((float(low) - margin - first) / step))
            stop = min(n, math.ceil((float(high) + margin - first) / step))
            if stop <= start:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def near(self, bounds: np.ndarray) -> np.ndarray:
        """Indices of the bounds (n, 2, 3), corners (x, y, z) in mm, that may reach this canvas."""
        margin = 2 * max(self.spacing)
        lower = np.array(self.origin[::-1])
        upper = lower + (np.array(self.shape[::-1]) - 1) * self.spacing[::-1]
        if self._extremes is not None:
            least, most = self._extremes.within(self._whole())
            lower, upper = lower + least, upper + most
        return np.flatnonzero(
            (bounds[:, 0] <= upper + margin).all(1) & (bounds[:, 1] >= lower - margin).all(1)
        )

    def coordinates(self, box: Box) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(x, y, z) in mm inside the box, displaced."""
        z, y, x = self.z[box[0]].view(-1, 1, 1), self.y[box[1]].view(1, -1, 1), self.x[box[2]].view(1, 1, -1)
        if self._moved is None:
            return x, y, z
        dx, dy, dz = (field[box] for field in self._moved)
        return x + dx, y + dy, z + dz

    def coverage(self, primitive: Primitive, depth_mm: float = 0.0) -> tuple[Box, torch.Tensor] | None:
        """Box and share (0..1) of each of its voxels inside the primitive; None outside the grid."""
        box = self.box(*primitive.bounds())
        if box is None:
            return None
        distance = primitive.distance(*self.coordinates(box))
        return box, self.share(distance.expand([s.stop - s.start for s in box]), depth_mm)

    def share(self, distance: torch.Tensor, depth_mm: float = 0.0) -> torch.Tensor:
        """Share (0..1) of each voxel that lies deeper than `depth_mm`, by the signed distance of its center.

        A plane crosses a voxel of edges d along a path of the width sqrt(sum (n d)^2), n its normal: the ramp
        that has the variance of the exact one, in every direction of an anisotropic voxel.
        """
        edge = self.spacing[1]
        width: float | torch.Tensor = edge
        if any(abs(s - edge) > 1e-6 for s in self.spacing):
            square = torch.full((), edge**2)
            for axis in (0, 2):
                extra = self.spacing[axis] ** 2 - edge**2
                if abs(extra) > 1e-6 and distance.shape[axis] > 1:
                    slope = torch.gradient(distance, spacing=self.spacing[axis], dim=axis)[0]
                    square = square + extra * slope.square_().clamp_(max=1)
            width = square.sqrt_()
        return (0.5 - (distance + depth_mm) / width).clamp_(0, 1)

    def blend(
        self, box: Box, share: torch.Tensor, suv: float | torch.Tensor, mu: float, label: int | None
    ) -> None:
        """Mixes in activity (a number or a tensor of the box) and attenuation; label where over a half."""
        self.activity[box] += share * (suv - self.activity[box])
        self.mu[box] += share * (mu - self.mu[box])
        if label is not None:
            self.label[box].masked_fill_(share > 0.5, label)

    def paint(
        self,
        primitives: Primitives,
        suv: float,
        mu: float,
        label: int | None,
        only: torch.Tensor | None = None,
    ) -> None:
        """Blends in activity and attenuation, and sets the label where primitives cover more than half.

        `only`: bool tensor (256,) of the labels that may be painted over; None for all. `label` None keeps
        the label.
        """
        for primitive in flat(primitives):
            covered = self.coverage(primitive)
            if covered is None:
                continue
            box, share = covered
            if only is not None:
                share = share * only[self.label[box].int()]
            self.blend(box, share, suv, mu, label)


class _Extremes:
    """Least and greatest displacement in blocks of a grid, for tight boxes around displaced primitives."""

    BLOCK = 8  # voxels

    def __init__(self, moved: list[torch.Tensor]):
        pool = lambda volume: torch.nn.functional.max_pool3d(
            volume[None], self.BLOCK, self.BLOCK, ceil_mode=True
        )[0]
        self._most = np.stack([pool(volume).numpy() for volume in moved])
        self._least = np.stack([-pool(-volume).numpy() for volume in moved])

    def within(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest displacement (x, y, z) in a box of voxels."""
        blocks = (slice(None), *(slice(s.start // self.BLOCK, math.ceil(s.stop / self.BLOCK)) for s in box))
        return self._least[blocks].min((1, 2, 3)), self._most[blocks].max((1, 2, 3))


def flat(primitives: Primitives) -> Iterator[Primitive]:
    """The primitives of nested lists, one after the other."""
    if isinstance(primitives, Sequence):
        for p in primitives:
            yield from flat(p)
    else:
        yield primitives
