"""Lesions: hosts, sites, shapes and uptake, drawn in mm and painted inside their host."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from drmc.imaging.geometry import triple
from drmc.simulation.drawing import Uptake
from drmc.simulation.lesion_draws import BACKGROUND, HOSTS, LesionDraws
from drmc.simulation.organs import MU_PER_MM, label_table, organ_mask
from drmc.simulation.shapes import Canvas, Capsule, Superellipsoid, Union, rotation

INSIDE_SHARE = 0.85  # of a lesion's volume that must lie in its host before it is clipped to it
CENTER_DEPTH_MM = 3.0  # of a lesion's center in its host, so that every grid shows at least a voxel of it
HETEROGENEITY = 0.15
TRIES = 12
CHECK_MM = 1.5  # grid on which a site is checked and the facts are measured
KINDS = {"ellipsoid": 0.42, "lobulated": 0.28, "spiculated": 0.12, "necrotic": 0.18}
NECROTIC_FROM_MM, LOBULATED_FROM_MM, SPICULATED_FROM_MM = 22.0, 9.0, 12.0
SPICULATED_HOSTS = ("lung", "soft_tissue")
NECROSIS = 0.55  # of the axes
CLUSTERED = {"nodal": 0.35, "liver": 0.30, "lung": 0.20, "vertebra": 0.10}
CLUSTER_SIZE = (2, 5)
MOST_LESIONS = 255  # that a label map of bytes can distinguish

_BONY_HOSTS = ("vertebra", "pelvis_marrow", "rib", "femur_marrow", "sternum")
_STATIONS = (
    (-16, 4, 560),
    (30, 8, 575),
    (-2, 8, 530),
    (14, -16, 260),
    (-34, 0, 290),
    (26, -8, 240),
    (135, 20, 610),
    (-135, 20, 610),
    (72, -58, 35),
    (-72, -58, 35),
    (46, 12, 745),
    (-46, 12, 745),
    (58, 8, 110),
    (-58, 8, 110),
)
"""Mediastinum, hilum, retroperitoneum, axilla, groin, neck, iliac: (x, y, z) of the reference adult."""


@dataclass
class Lesion:
    """One lesion as painted.

    `site` is shared by the members of a cluster. `diameter_mm` is that of the ball of the same volume before
    it is clipped to its host, `center_mm` (x, y, z) its middle in the patient frame, `suv` what it was
    painted with; `suv_mean`, `suv_max` (no noise, no blur, 1.5 mm voxels) and `volume_ml` are measured where
    it is labeled. `lobes` and `spikes` are its parts: (center, axes, angles) of ellipsoids and (end, radius)
    of cones from the center.
    """

    label: int
    site: int
    host: str
    kind: str
    diameter_mm: float
    suv: float
    center_mm: tuple[float, float, float]
    lobes: list[tuple[list[float], list[float], list[float]]]
    spikes: list[tuple[list[float], float]]
    necrotic: bool
    volume_ml: float = 0.0
    inside_share: float = 0.0
    suv_mean: float = 0.0
    suv_max: float = 0.0

    def body(self) -> Union:
        """Its shape."""
        lobes = [Superellipsoid(center, axes, 2.0, rotation(*angles)) for center, axes, angles in self.lobes]
        start = np.array(self.center_mm, np.float32)
        base = max(1.2, 0.12 * self.diameter_mm)
        cones = [Capsule(start, np.array(end, np.float32), base, radius) for end, radius in self.spikes]
        return Union([*lobes, *cones])

    def core(self) -> Union:
        """Its necrotic core."""
        return Union(
            [
                Superellipsoid(center, [NECROSIS * a for a in axes], 2.0, rotation(*angles))
                for center, axes, angles in self.lobes
            ]
        )

    def reach_mm(self) -> float:
        """Largest distance of its surface from its center, an upper bound."""
        lower, upper = self.body().bounds()
        return float(np.max([np.array(self.center_mm) - lower, upper - np.array(self.center_mm)]))

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return asdict(self)


Station = Callable[[float, float, float], list[float]]
"""Where a station of the reference adult, (x, y, z) in mm, lies in a patient."""

Look = Callable[[np.ndarray, float], Canvas]
"""Anatomy in a small cube: (center x y z, half width in mm) -> canvas of CHECK_MM voxels."""


def paint_lesions(
    lesions: list[Lesion],
    canvas: Canvas,
    texture: torch.Tensor,
    texture_at: Callable[[Lesion], float],
    uptake: Uptake,
) -> torch.Tensor:
    """Paints the lesions on the anatomy of `canvas`, clipped to their hosts; returns the label map (uint8).

    `texture` on the canvas and, by `texture_at`, in a lesion's middle: it varies around the lesion's own
    uptake.
    """
    straight = _undeformed(canvas)
    labels = torch.zeros(canvas.shape, dtype=torch.uint8)
    for lesion in lesions:
        covered = straight.coverage(lesion.body())
        if covered is None:
            continue
        box, share = covered
        share = share * label_table(*HOSTS[lesion.host])[canvas.label[box].int()]
        share = share * (labels[box] == 0)  # lesions do not overlap
        suv = torch.full_like(share, lesion.suv)
        if lesion.necrotic:
            background = uptake[BACKGROUND.get(lesion.host, lesion.host)]
            x, y, z = straight.coordinates(box)
            core = straight.share(lesion.core().distance(x, y, z))
            suv = suv - core * (lesion.suv - 0.8 * background)
        suv = suv * (1 + HETEROGENEITY * (texture[box] - texture_at(lesion))).clamp_(min=0.5)
        canvas.activity[box] += share * (suv - canvas.activity[box])
        if lesion.host not in _BONY_HOSTS:
            canvas.mu[box] += share * (MU_PER_MM["soft"] - canvas.mu[box])
        labels[box].masked_fill_(share > 0.5, lesion.label)
    return labels


def _undeformed(canvas: Canvas) -> Canvas:
    """The voxel grid of a canvas, for coverage in the world's own space."""
    origin_zyx = triple(float(axis[0]) for axis in (canvas.z, canvas.y, canvas.x))
    return Canvas(canvas.shape, canvas.spacing, origin_zyx, paint=False)


class LesionPlacer:
    """Draws the lesions of one patient: sites on a coarse map of the body, checked in a close-up of each.

    `within`: lower and upper end (mm) of the range that holds every lesion whole; None: the coarse map's.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        coarse: Canvas,
        look: Look,
        at: Station,
        uptake: Uptake,
        draws: LesionDraws,
        within: tuple[float, float] | None = None,
    ):
        self.rng, self.coarse, self.look, self.at = rng, coarse, look, at
        self.uptake, self.draws, self.within = uptake, draws, within
        self.lesions: list[Lesion] = []
        self._depths: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def place(self) -> list[Lesion]:
        """The lesions of all sites, one or a cluster each; at least one lesion if a site is drawn."""
        hosts = self.draws.hosts(self._volume)
        names, weights = list(hosts), np.array(list(hosts.values()))
        sites = self.draws.sites(self.rng)
        for site in range(1, sites + 1):
            host = str(self.rng.choice(names, p=weights / weights.sum()))
            self._site(site, host)
        for host in sorted(names, key=lambda name: hosts[name], reverse=True) if sites else ():
            if self.lesions or self._site(1, host):  # at least one, wherever it fits
                break
        return self.lesions

    def _volume(self, host: str) -> float:
        """Volume of a host on the coarse map, ml."""
        return len(self._deep(host)[0]) * math.prod(self.coarse.spacing) / 1000

    def _site(self, site: int, host: str) -> bool:
        """One lesion, or a cluster around it; False where none fitted."""
        first = self._lesion(site, host, None)
        if first is None:
            return False
        if self.rng.random() < CLUSTERED.get(host, 0.0):
            for _ in range(int(self.rng.integers(CLUSTER_SIZE[0], CLUSTER_SIZE[1] + 1)) - 1):
                self._lesion(site, host, first)
        return True

    def _lesion(self, site: int, host: str, near: Lesion | None) -> Lesion | None:
        """Draws shape and uptake, looks for a place; it shrinks until it fits."""
        rng = self.rng
        if len(self.lesions) == MOST_LESIONS:
            return None
        suv = self.draws.suv(rng, host, self.uptake)
        diameter = self.draws.diameter_mm(rng)
        smallest = self.draws.smallest_mm
        if near is not None:
            diameter = float(np.clip(near.diameter_mm * rng.uniform(0.5, 0.9), smallest, 20))
            suv = near.suv * float(np.clip(rng.normal(1, 0.2), 0.6, 1.4))
            suv = self.draws.limited(suv, host, self.uptake)
        wanted = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        for attempt in range(TRIES):
            center = self._center(host, diameter, near)
            if center is None:
                return None
            kind = _possible(wanted, diameter, host)
            lesion = self._shaped(site, host, kind, diameter, suv, center)
            if self._fits(lesion):
                self.lesions.append(lesion)
                return lesion
            if attempt % 3 == 2:
                diameter = max(smallest, 0.75 * diameter)
        return None

    def _shaped(
        self, site: int, host: str, kind: str, diameter: float, suv: float, center: np.ndarray
    ) -> Lesion:
        rng, radius = self.rng, diameter / 2
        angles = lambda: [float(v) for v in rng.uniform(0, 180, 3)]
        vector = lambda v: [float(q) for q in v]
        stretch = np.exp(np.clip(rng.normal(0, 0.18, 3), -0.35, 0.35))
        stretch /= np.prod(stretch) ** (1 / 3)
        lobes, spikes = [(vector(center), vector(radius * stretch), angles())], []
        if kind == "lobulated":
            count = int(rng.integers(2, 5))
            # The union has about the volume of the ball.
            size = radius * {2: 0.86, 3: 0.80, 4: 0.76}[count]
            ways = _directions(rng, count)
            ways -= ways.mean(0)
            lobes = [
                (
                    vector(center + 0.62 * size * way),
                    vector(size * np.exp(np.clip(rng.normal(0, 0.15, 3), -0.3, 0.3))),
                    angles(),
                )
                for way in ways
            ]
        elif kind == "spiculated":
            lobes = [(vector(center), vector(0.88 * radius * stretch), angles())]
            for way in _directions(rng, int(rng.integers(6, 11))):
                spikes.append((vector(center + way * radius * rng.uniform(1.25, 1.6)), 0.6))
        at = triple(center)
        return Lesion(
            len(self.lesions) + 1, site, host, kind, diameter, suv, at, lobes, spikes, kind == "necrotic"
        )

    def _fits(self, lesion: Lesion) -> bool:
        """Whether it lies in its host and apart from the others; measures its volume and diameter."""
        center, reach = np.array(lesion.center_mm), lesion.reach_mm()
        if self.within and not self.within[0] <= center[2] - reach < center[2] + reach <= self.within[1]:
            return False
        for other in self.lesions:
            if np.linalg.norm(center - other.center_mm) < reach + other.reach_mm() + 2.0:
                return False
        canvas = self.look(center, reach + 3)
        covered = _undeformed(canvas).coverage(lesion.body())
        if covered is None:
            raise ValueError("a lesion lies outside the cube around it")
        box, share = covered
        host = organ_mask(canvas.label, *HOSTS[lesion.host])
        volume = float(share.sum())
        lesion.inside_share = float((share * host[box]).sum()) / volume
        lesion.diameter_mm = float((volume * CHECK_MM**3 * 6 / math.pi) ** (1 / 3))
        middle = [
            int(torch.argmin((axis - float(c)).abs()))
            for axis, c in zip((canvas.z, canvas.y, canvas.x), center[::-1], strict=True)
        ]
        near = math.ceil(CENTER_DEPTH_MM / CHECK_MM)
        around = host[tuple(slice(max(0, m - near), m + near + 1) for m in middle)]
        deep = _within(around.shape, near) if lesion.host != "rib" else _within(around.shape, near - 1)
        return lesion.inside_share >= INSIDE_SHARE and bool(around[deep].all())

    def _center(self, host: str, diameter: float, near: Lesion | None) -> np.ndarray | None:
        """A candidate: near its cluster, at a nodal station, or anywhere deep enough in its host."""
        rng = self.rng
        if near is not None:
            # Chains of nodes run along the vessels.
            along = np.array([0.5, 0.5, 1.0]) if host == "nodal" else np.ones(3)
            way = rng.normal(size=3) * along
            way /= np.linalg.norm(way)
            return np.array(near.center_mm) + way * (
                near.diameter_mm * 0.7 + diameter * 0.8 + rng.uniform(2, 14)
            )
        if host == "nodal":
            station = _STATIONS[int(rng.integers(len(_STATIONS)))]
            return np.array(self.at(*station)) + rng.normal(0, 8, 3)
        index, depth = self._deep(host)
        if len(index) == 0:
            return None
        wanted = min(0.42 * diameter, float(np.quantile(depth, 0.85)))
        index = index[depth >= wanted]
        z, y, x = index[int(rng.integers(len(index)))]
        middle = np.array([float(self.coarse.x[x]), float(self.coarse.y[y]), float(self.coarse.z[z])])
        return middle + rng.uniform(-0.5, 0.5, 3) * self.coarse.spacing[::-1]

    def _deep(self, host: str) -> tuple[np.ndarray, np.ndarray]:
        """Voxels (z, y, x) of the host on the coarse map and their depth in mm."""
        if host not in self._depths:
            organs = ("muscle",) if host == "soft_tissue" else HOSTS[host]
            mask = organ_mask(self.coarse.label, *organs).numpy()
            index = np.argwhere(mask)
            if len(index) == 0:
                self._depths[host] = index, np.zeros(0)
            else:
                low = np.maximum(index.min(0) - 1, 0)
                cut = np.pad(mask[tuple(slice(a, b + 2) for a, b in zip(low, index.max(0), strict=True))], 1)
                image = sitk.GetImageFromArray(cut.astype(np.uint8))
                image.SetSpacing([float(v) for v in self.coarse.spacing[::-1]])
                depth = sitk.GetArrayFromImage(
                    sitk.SignedMaurerDistanceMap(
                        image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
                    )
                )
                self._depths[host] = index, depth[tuple((index - low + 1).T)]
        return self._depths[host]


def measure(lesions: list[Lesion], look: Callable[[Lesion], tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Fills in the measured facts.

    Args:
        lesions: those to measure.
        look: activity (SUV) and lesion labels around a lesion, on voxels of CHECK_MM.
    """
    for lesion in lesions:
        activity, labels = look(lesion)
        chosen = activity[labels == lesion.label]
        lesion.volume_ml = chosen.numel() * CHECK_MM**3 / 1000
        lesion.suv_mean, lesion.suv_max = float(chosen.mean()), float(chosen.max())


def _possible(kind: str, diameter: float, host: str) -> str:
    """The wanted kind, or an ellipsoid where it is too small for that or grows otherwise in its host."""
    least = {"necrotic": NECROTIC_FROM_MM, "lobulated": LOBULATED_FROM_MM, "spiculated": SPICULATED_FROM_MM}
    if diameter < least.get(kind, 0.0) or (kind == "spiculated" and host not in SPICULATED_HOSTS):
        return "ellipsoid"
    return kind


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors that keep apart."""
    ways = rng.normal(size=(count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    for _ in range(20):
        away = ways[:, None] - ways[None]
        distance = np.linalg.norm(away, axis=-1, keepdims=True) + 1e-3
        ways = ways + 0.1 * (away / distance**3).sum(1)
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    return ways


def _within(shape: tuple[int, ...], radius: float) -> torch.Tensor:
    """Bool ball in the middle of a small box."""
    axes = [torch.arange(n) - (n - 1) / 2 for n in shape]
    return axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None] ** 2 <= radius**2
