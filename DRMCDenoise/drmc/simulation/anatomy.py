"""Procedural patients: whole body with lesions, and head. A seed is one patient, on every voxel grid.

Organ sizes follow the published mathematical phantoms (MIRD-5, Cristy-Eckerman): sizes in mm for an adult of 1.74 m,
scaled by height and habitus. z = 0 at the trunk base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from drmc.simulation.organs import MU_PER_MM, ORGANS, draw_uptake
from drmc.simulation.shapes import Canvas, LatticeField, Superellipsoid, rotation, tube

DISPLACEMENT_MM = 3.5
DISPLACEMENT_LATTICE_MM = 60.0
SITE_GRID_MM = 4.0  # lesion sites are chosen on this grid, whatever the scanner's voxels are
BODY_LOWER, BODY_UPPER = (-420.0, -330.0, -520.0), (420.0, 330.0, 1150.0)
LESION_HOSTS = {
    "nodal": 0.25,
    "liver": 0.22,
    "lung": 0.22,
    "vertebra": 0.18,
    "pelvis_marrow": 0.08,
    "rib": 0.05,
}
SIDES = (-1, 1)
PLAUSIBLE_SHARE = (0.87, 1.03)  # of the injected activity, in the scan range


@dataclass
class Lesion:
    """One lesion as painted: label, host organ, nominal diameter, SUV and center (x, y, z) in mm of the patient frame."""

    label: int
    host: str
    diameter_mm: float
    suv: float
    center_mm: tuple[float, float, float]
    axes_mm: tuple[float, float, float]
    angles: tuple[float, float, float]
    necrotic: bool


@dataclass
class Phantom:
    """Truth on one voxel grid, arrays (z, y, x): activity SUV, mu 1/mm, organ and lesion labels uint8."""

    activity: torch.Tensor
    mu: torch.Tensor
    organs: torch.Tensor
    lesions: torch.Tensor
    facts: dict = field(default_factory=dict)


def fresh(seed: int | np.random.SeedSequence) -> np.random.SeedSequence:
    """A sequence that spawns from the beginning: spawning changes the one that was given."""
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    return np.random.SeedSequence(seed)


class _Painter:
    """Patient-wide draws and scaling that the regions share."""

    def __init__(self, seed: int | np.random.SeedSequence):
        self.shape_seed, field_seed, self.lesion_seed = fresh(seed).spawn(3)
        self.rng = np.random.default_rng(self.shape_seed)
        self.fields = torch.Generator().manual_seed(int(field_seed.generate_state(1)[0]))

    def suv(self, organ: str) -> tuple[float, float, int]:
        """(SUV, mu, label) of an organ of this patient, as Canvas.paint takes them."""
        return self.uptake[organ], MU_PER_MM[ORGANS[organ].tissue], ORGANS[organ].label

    def jitter(self, sd: float = 0.06) -> float:
        """Factor around 1."""
        return float(1 + self.rng.normal(0, sd))

    def lattice(
        self, spacing: float, lower=BODY_LOWER, upper=BODY_UPPER, band: float | None = None
    ) -> LatticeField:
        return LatticeField(self.fields, lower, upper, spacing, band)

    def texture_fields(self) -> tuple[LatticeField, LatticeField]:
        """Fine (about 14 mm) and coarse (about 40 mm) heterogeneity of the uptake."""
        return self.lattice(9.0), self.lattice(26.0)

    @staticmethod
    def apply_texture(canvas: Canvas, fields: tuple[LatticeField, LatticeField]) -> torch.Tensor:
        """Multiplies the activity by 1 + CV * texture; returns the texture."""
        strength = torch.zeros(256)
        for organ in ORGANS.values():
            strength[organ.label] = organ.texture
        texture = sum(f.sample(canvas.z, canvas.y, canvas.x) for f in fields).mul_(0.7)
        canvas.activity *= (1 + strength[canvas.label.long()] * texture).clamp_(min=0.2)
        return texture

    def paint_brain(
        self, canvas: Canvas, c, a, fields: dict[str, LatticeField], skull_mm: float = 8.0
    ) -> None:
        """Folded cortex: sulci are the zero set of a band-pass field; gray matter lies within 3 mm of hull or sulcus."""
        suv = self.suv
        if skull_mm:
            canvas.paint(Superellipsoid(c, [t + skull_mm for t in a], 2.2), *suv("skull"))
        canvas.paint(Superellipsoid(c, [t + 2 for t in a], 2.2), *suv("csf"))
        hull = Superellipsoid(c, a, 2.2)
        box = canvas.box(*hull.bounds())
        if box is None:
            return
        self._cortex(canvas, box, hull, c, a, fields)
        scale = np.array(a) / np.array([70, 88, 62])
        at = lambda dx, dy, dz: [c[0] + dx * scale[0], c[1] + dy * scale[1], c[2] + dz * scale[2]]
        axes = lambda ax, ay, az: [ax * scale[0], ay * scale[1], az * scale[2]]
        for s in SIDES:
            canvas.paint(
                Superellipsoid(at(s * 11, -2, 8), axes(4.5, 27, 7), 2, rotation(0, 0, s * 8)), *suv("csf")
            )
            canvas.paint(Superellipsoid(at(s * 14, -14, 4), axes(5.5, 15, 9)), *suv("deep_gray"))
            canvas.paint(
                Superellipsoid(at(s * 25, -6, -4), axes(6.5, 16, 11), 2, rotation(0, 0, s * 12)),
                *suv("deep_gray"),
            )
            canvas.paint(Superellipsoid(at(s * 11, 14, 0), axes(8, 13, 9)), *suv("deep_gray"))
        self._cerebellum(canvas, at(0, 48, -46), axes(50, 30, 27), fields)
        canvas.paint(tube([at(0, 22, -20), at(0, 28, -60), at(0, 30, -95)], [13, 11, 8]), *suv("brainstem"))

    def brain_fields(self, c, a) -> dict[str, LatticeField]:
        """Random fields of the brain, on lattices around its hull."""
        low, high = (
            [p - q - 40 for p, q in zip(c, a, strict=True)],
            [p + q + 40 for p, q in zip(c, a, strict=True)],
        )
        make = lambda spacing, band=None: self.lattice(spacing, low, high, band)
        return {"fold": make(4.25, 17.0), "depth": make(26.0), "thickness": make(20.0), "region": make(30.0)}

    def _cortex(self, canvas, box, hull, c, a, fields) -> None:
        x, y, z = torch.broadcast_tensors(*canvas.coordinates(box))
        axes = canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]]
        sample = lambda name: fields[name].sample(*axes)
        voxel = canvas.voxel_mm
        signed = hull.distance(x, y, z)
        inside_mm = -signed
        depth = 17.0 * (1 + 0.25 * sample("depth"))
        fold = sample("fold")
        if min(fold.shape) < 2:
            return
        gradient = torch.gradient(fold, spacing=[float(s) for s in canvas.spacing])
        steep = sum(g**2 for g in gradient).sqrt().clamp(min=0.35 * 2 * math.pi / 17.0)
        to_sulcus = fold.abs() / steep + (inside_mm - depth).clamp(min=0) * 1.5
        pial = torch.minimum(inside_mm, to_sulcus)
        fissure = (z > c[2] + 0.1 * a[2]) | ((y - c[1]).abs() > 0.55 * a[1])
        pial = torch.where(fissure, torch.minimum(pial, (x - c[0]).abs() - 0.7), pial)
        thickness, gap = 3.1 * (1 + 0.08 * sample("thickness")), 0.45
        inside = (0.5 - signed / voxel).clamp(0, 1)
        brain = (0.5 + (pial - gap) / voxel).clamp(0, 1) * inside
        white = (0.5 + (pial - gap - thickness) / voxel).clamp(0, 1) * inside
        gray_suv, mu, gray_label = self.suv("gray_matter")
        white_suv, _, white_label = self.suv("white_matter")
        activity, attenuation, label = canvas.activity[box], canvas.mu[box], canvas.label[box]
        activity += brain * (gray_suv * (1 + 0.10 * sample("region")) - activity)
        attenuation += brain * (mu - attenuation)
        label[(brain > 0.5) & (inside > 0.5)] = gray_label
        activity += white * (white_suv - activity)
        label[white > 0.5] = white_label

    def _cerebellum(self, canvas, c, a, fields) -> None:
        hull = Superellipsoid(c, a, 2.2)
        box = canvas.box(*hull.bounds())
        if box is None:
            return
        x, y, z = torch.broadcast_tensors(*canvas.coordinates(box))
        signed = hull.distance(x, y, z)
        wave = fields["region"].sample(canvas.z[box[0]], canvas.y[box[1]], canvas.x[box[2]])
        folia = ((z - c[2]) / 9.0 * 2 * math.pi + 1.5 * wave).sin().abs() * 9 / math.pi
        pial = torch.minimum(-signed, folia + (-signed - 12).clamp(min=0))
        inside = (0.5 - signed / canvas.voxel_mm).clamp(0, 1)
        white = (0.5 + (pial - 3.2) / canvas.voxel_mm).clamp(0, 1) * inside
        suv, mu, label_value = self.suv("cerebellum")
        white_suv, _, white_label = self.suv("white_matter")
        activity, attenuation, label = canvas.activity[box], canvas.mu[box], canvas.label[box]
        activity += inside * (suv - activity)
        attenuation += inside * (mu - attenuation)
        label[inside > 0.5] = label_value
        activity += white * (white_suv - activity)
        label[white > 0.5] = white_label


class Head(_Painter):
    """Head of one patient (center C5): skull, folded cortex, deep gray matter, cerebellum; no lesions."""

    region = "brain"

    def __init__(self, seed: int | np.random.SeedSequence):
        super().__init__(seed)
        rng = self.rng
        self.uptake = draw_uptake(rng)
        self.weight_kg = float(np.clip(rng.normal(70, 12), 45, 110))
        self.height_m = float(rng.normal(1.66, 0.08))
        self.sex = "F" if rng.random() < 0.5 else "M"
        self.brain_axes = [n * (1 + rng.normal(0, 0.04)) for n in (68, 86, 62)]
        self.center = [0.0, 0.0, 5.0]
        self._displacement = [self.lattice(45.0, (-150, -150, -150), (150, 150, 150)) for _ in range(3)]
        self._fields = self.brain_fields(self.center, self.brain_axes)
        self._texture = tuple(self.lattice(s, (-150, -150, -150), (150, 150, 150)) for s in (9.0, 26.0))

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm."""
        return -98.0, 82.0

    def rasterize(self, shape_zyx, spacing_zyx, origin_zyx) -> Phantom:
        """The head on a voxel grid; origin is the center of the first voxel in mm."""
        canvas = Canvas(shape_zyx, spacing_zyx, origin_zyx, self._displacement, 2.0)
        a = self.brain_axes
        for organ, grow in (("fat", (14, 15, 38)), ("muscle", (11, 12, 36))):
            axes = [p + q for p, q in zip(a, grow, strict=True)]
            canvas.paint(Superellipsoid([0, 0, -8], axes, 2.3), *self.suv(organ))
        self.paint_brain(canvas, self.center, a, self._fields)
        self.apply_texture(canvas, self._texture)
        facts = {"sex": self.sex, "height_m": self.height_m, "weight_kg": self.weight_kg, "lesions": []}
        return Phantom(canvas.activity, canvas.mu, canvas.label, torch.zeros_like(canvas.label), facts)


class WholeBody(_Painter):
    """Thigh to vertex of one patient: habitus, organ uptake, anatomy and lesions."""

    region = "wholebody"

    def __init__(self, seed: int | np.random.SeedSequence, max_lesions: int = 8):
        super().__init__(seed)
        rng = self.rng
        self.female = bool(rng.random() < 0.5)
        self.height_m = float(rng.normal(1.60 if self.female else 1.72, 0.06))
        self.bmi = float(np.clip(rng.lognormal(math.log(24), 0.16), 17, 38))
        self.weight_kg = self.bmi * self.height_m**2
        self.arms_up = bool(rng.random() < 0.4)
        self.sz = self.height_m / 1.74
        self.sxy = (0.94 if self.female else 1.0) * self.sz**0.5 * (1 + 0.012 * (min(self.bmi, 28) - 23))
        # subcutaneous fat, anterior and lateral
        self.fat_mm = float(np.clip(4 + 1.9 * (self.bmi - 17) * (1.25 if self.female else 1.0), 4, 60))
        self.uptake = draw_uptake(rng)
        self._paint_state = rng.bit_generator.state
        self._displacement = [self.lattice(DISPLACEMENT_LATTICE_MM) for _ in range(3)]
        self.head_center = self.at(0, -4, 858)
        head_jitter = np.random.default_rng(self.shape_seed.spawn(1)[0]).normal(0, 0.03, 2)
        self.head_axes = [
            76 * self.sxy**0.3 * (1 + head_jitter[0]),
            97 * self.sxy**0.3 * (1 + head_jitter[1]),
            105 * self.sz**0.5,
        ]
        self.brain_center = [0, -2, self.head_center[2] + 16]
        self.brain_axes = [p - q for p, q in zip(self.head_axes, (5, 7, 38), strict=True)]
        self._brain_fields = self.brain_fields(self.brain_center, self.brain_axes)
        self._texture = self.texture_fields()
        self.lesions = self._place_lesions(max_lesions)

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm: mid-thigh to vertex."""
        return -230.0 * self.sz, 960.0 * self.sz

    def rasterize(self, shape_zyx, spacing_zyx, origin_zyx) -> Phantom:
        """The patient on a voxel grid; origin is the center of the first voxel in mm."""
        canvas = self._paint(shape_zyx, spacing_zyx, origin_zyx)
        texture = self.apply_texture(canvas, self._texture)
        labels = self._paint_lesions(canvas, texture, spacing_zyx, origin_zyx)
        facts = {
            "sex": "F" if self.female else "M",
            "height_m": self.height_m,
            "weight_kg": self.weight_kg,
            "arms_up": self.arms_up,
            "lesions": [vars(lesion) for lesion in self.lesions],
        }
        return Phantom(canvas.activity.clamp_(min=0), canvas.mu.clamp_(min=0), canvas.label, labels, facts)

    # ------------------------------------------------------------------------------------------------ anatomy
    def at(self, x: float, y: float, z: float) -> list[float]:
        """Position of the reference adult scaled to this patient."""
        return [x * self.sxy, y * self.sxy, z * self.sz]

    def axes(self, a: float, b: float, c: float) -> list[float]:
        """Semi-axes scaled to this patient, jittered."""
        return [
            a * self.sxy * self.jitter(),
            b * self.sxy * self.jitter(),
            c * self.sz * self.jitter(0.04),
        ]

    def _paint(self, shape_zyx, spacing_zyx, origin_zyx) -> Canvas:
        # the same stream of draws for every grid: a patient is its seed
        self.rng = np.random.default_rng(0)
        self.rng.bit_generator.state = self._paint_state
        canvas = Canvas(shape_zyx, spacing_zyx, origin_zyx, self._displacement, DISPLACEMENT_MM)
        self._envelope(canvas)
        self._skeleton(canvas)
        self._thorax(canvas)
        self._upper_abdomen(canvas)
        self._bowel(canvas)
        self._pelvis(canvas)
        self._head(canvas)
        return canvas

    def _envelope(self, canvas: Canvas) -> None:
        at, sxy, sz, suv = self.at, self.sxy, self.sz, self.suv
        wide, deep = 165 * sxy, 98 * sxy
        trunk = lambda e: [Superellipsoid([0, 0, 350 * sz], [wide + e, deep + e * 0.85, 385 * sz + e], 3.2)]
        legs = lambda e: [
            tube(
                [at(s * 95, 0, 30), at(s * 90, 5, -130), at(s * 80, 8, -460)],
                [92 * sxy + e, 80 * sxy + e, 55 * sxy + e],
            )
            for s in SIDES
        ]
        neck = lambda e: [tube([at(0, 20, 690), at(0, 12, 800)], [58 * sxy + e, 56 * sxy + e])]
        hc, ha = self.head_center, self.head_axes
        head = lambda e: [
            Superellipsoid([hc[0], hc[1], hc[2] - 10], [ha[0] + 8 + e, ha[1] + 8 + e, ha[2] + 12 + e], 2.3)
        ]
        shoulders = lambda e: [
            tube(
                [at(-165, 10, 655), at(0, 15, 690), at(165, 10, 655)],
                [52 * sxy + e, 60 * sxy + e, 52 * sxy + e],
            )
        ]
        e = self.fat_mm
        outer = trunk(e) + legs(0.45 * e) + self._arms(0.25 * e) + shoulders(0.3 * e) + neck(4) + head(2)
        canvas.paint(outer, *suv("fat"))
        if self.bmi > 26:
            belly = Superellipsoid([0, -deep - 0.2 * e, 210 * sz], [wide * 0.85, e * 1.1 + 25, 190 * sz], 2.5)
            canvas.paint(belly, *suv("fat"))
        if self.female:
            size = [60 * self.jitter(0.1), 50 * self.jitter(0.2), 60 * self.jitter(0.1)]
            canvas.paint(
                [Superellipsoid(at(s * 85, -100 - 0.5 * e, 540), size) for s in SIDES], *suv("breast")
            )
        inner = trunk(0) + legs(0) + self._arms(0) + shoulders(0) + neck(0) + head(-4)
        canvas.paint(inner, *suv("muscle"))
        visceral = Superellipsoid([0, -12, 215 * sz], [wide - 24, deep - 30, 170 * sz], 3.0)
        canvas.paint(visceral, *suv("fat"))

    def _arm_points(self, side: int) -> list[list[float]]:
        up, down = (
            [(170, 10, 640), (200, 10, 800), (110, 20, 980)],
            [(185, 10, 655), (225, 20, 400), (215, -10, 150)],
        )
        return [self.at(side * x, y, z) for x, y, z in (up if self.arms_up else down)]

    def _arms(self, e: float) -> list:
        radii = [r * self.sxy + e for r in (46, 40, 33 if self.arms_up else 30)]
        return [tube(self._arm_points(s), radii) for s in SIDES]

    def _skeleton(self, canvas: Canvas) -> None:
        at, sxy, sz, suv = self.at, self.sxy, self.sz, self.suv
        zs = np.linspace(95, 740, 25)
        posterior = lambda z: (
            (62 - 14 * math.sin((z - 100) / 640 * math.pi * 2)) * sxy * (1 - 0.55 * max(0, (z - 640) / 200))
        )
        cord = [[0, posterior(z) + 24 * sxy * (1 - 0.4 * (z > 600)), z * sz] for z in zs]
        canvas.paint(tube(cord, 7), *suv("spinal_cord"))
        for i in range(24):
            z, r = (zs[i] + zs[i + 1]) / 2, (25 - 13 * (i / 23)) * sxy
            body = Superellipsoid([0, posterior(z), z * sz], [r, r * 0.8, (zs[1] - zs[0]) * 0.43 * sz], 4)
            canvas.paint(body, *suv("vertebra"))
            root = posterior(z) + r * 1.2
            process = [[0, root + 6, z * sz], [0, root + 26 * sxy, (z - 12) * sz]]
            canvas.paint(tube(process, 5), *suv("cortical_bone"))
        for i in range(11):  # ribs: elliptical arcs that slope down anteriorly
            z = 395 + i * 26
            lateral = (148 - 5.2 * abs(i - 3) - (i > 6) * (i - 6) * 9) * sxy
            deep = (88 - 3 * abs(i - 3)) * sxy
            arc = np.linspace(0.42 * math.pi, -0.34 * math.pi, 13)
            for s in SIDES:
                points = [
                    [
                        s * lateral * math.cos(t),
                        deep * math.sin(t) + 3,
                        (z - 22 * (1 - math.sin(t))) * sz + 15,
                    ]
                    for t in arc
                ]
                canvas.paint(tube(points, 4.6), *suv("rib"))
        canvas.paint(Superellipsoid(at(0, -84, 560), self.axes(15, 6, 85), 3), *suv("sternum"))
        for s in SIDES:
            canvas.paint(tube([at(s * 10, -66, 672), at(s * 150, -10, 690)], 6), *suv("rib"))  # clavicle
            scapula = Superellipsoid(
                at(s * 105, 66, 590), [42 * sxy, 5, 68 * sz], 2.5, rotation(0, 0, -s * 22)
            )
            canvas.paint(scapula, *suv("rib"))
            canvas.paint(tube(self._arm_points(s), 11), *suv("cortical_bone"))
            ilium = Superellipsoid(
                at(s * 72, 35, 140), [14 * sxy, 52 * sxy, 62 * sz], 2.6, rotation(0, 0, s * 32)
            )
            canvas.paint(ilium, *suv("pelvis_marrow"))
            canvas.paint(tube([at(s * 50, -28, 70), at(s * 85, 10, 90)], [12, 18]), *suv("pelvis_marrow"))
            femur = lambda neck_x, neck_z, s=s: [
                at(s * 92, 8, 62),
                at(s * neck_x, 6, neck_z),
                at(s * 88, 6, -130),
                at(s * 78, 8, -450),
            ]
            canvas.paint(tube(femur(105, 30), [22, 17, 15, 15]), *suv("cortical_bone"))
            canvas.paint(tube(femur(103, 32), [18, 12, 8, 8]), *suv("femur_marrow"))
        canvas.paint(
            Superellipsoid(at(0, 62, 120), [46 * sxy, 17 * sxy, 52 * sz], 2.6), *suv("pelvis_marrow")
        )  # sacrum

    def _thorax(self, canvas: Canvas) -> None:
        at, jitter, sxy, sz, suv = self.at, self.jitter, self.sxy, self.sz, self.suv
        for s in SIDES:
            axes = [(54 if s > 0 else 58) * sxy * jitter(0.04), 78 * sxy * jitter(0.04), 250 * sz]
            # the base is cut by a slanted plane: lower at the back and the side
            cut = ((0.10 * -s, -0.30, -0.95), 0.0)
            canvas.paint(Superellipsoid(at(s * 82, 2, 430), axes, 2.3, cuts=[cut]), *suv("lung"))
        canvas.paint(tube([at(0, 18, 760), at(0, 22, 640), at(0, 22, 575)], 9), *suv("trachea"))
        for s in SIDES:
            canvas.paint(tube([at(0, 22, 575), at(s * 42, 20, 530)], 6), *suv("trachea"))
        canvas.paint(
            tube([at(4, 34, 740), at(4, 38, 560), at(8, 30, 430), at(25, 5, 415)], 7), *suv("esophagus")
        )
        turn, heart = rotation(25 * jitter(), -38 * jitter(0.15), 0), at(28, -32, 490)
        canvas.paint(Superellipsoid(heart, [56 * sxy, 48 * sxy, 64 * sxy], 2, turn), *suv("blood_pool"))
        ventricle = Superellipsoid(
            [heart[0] + 16 * sxy, heart[1] - 2, heart[2] - 14],
            [36 * sxy * jitter(), 36 * sxy, 48 * sxy],
            2,
            turn,
            inner=[26 * sxy, 26 * sxy, 39 * sxy],
            cuts=[((0, 0, 1), 22 * sxy)],
        )
        canvas.paint(ventricle, *suv("myocardium"))
        aorta = [
            (12, -20, 530),
            (2, -28, 590),
            (8, 5, 618),
            (20, 40, 595),
            (16, 42, 450),
            (10, 40, 330),
            (4, 34, 200),
        ]
        canvas.paint(tube([at(*p) for p in aorta], [15, 15, 13.5, 12, 11.5, 10, 9]), *suv("aorta"))
        cava = [
            tube([at(-28, -10, 640), at(-28, -5, 520)], 10),
            tube([at(-24, 20, 440), at(-22, 32, 200)], [12, 10]),
        ]
        canvas.paint(cava, *suv("blood_pool"))

    def _upper_abdomen(self, canvas: Canvas) -> None:
        at, jitter, sxy, sz, suv, rng = self.at, self.jitter, self.sxy, self.sz, self.suv, self.rng
        big = jitter(0.10) * 0.96
        liver = Superellipsoid(
            at(-72, -6, 355),
            [80 * sxy * big, 70 * sxy, 80 * sz * jitter()],
            2.6,
            rotation(0, 12, 0),
            cuts=[((0.55, 0.0, -0.835), 48 * sz)],
        )
        canvas.paint(liver, *suv("liver"))
        left_lobe = Superellipsoid(
            at(15, -42, 382), [88 * sxy * big, 36 * sxy, 40 * sz], 2.2, rotation(0, 14, 0)
        )
        canvas.paint(left_lobe, *suv("liver"))
        gallbladder = [16 * jitter(0.2), 16, 30 * jitter(0.2)]
        canvas.paint(
            Superellipsoid(at(-48, -58, 305), gallbladder, 2, rotation(25, 0, 0)), *suv("gallbladder")
        )
        spleen = [27 * sxy * jitter(0.15), 37 * sxy * jitter(0.12), 56 * sz * jitter(0.12)]
        canvas.paint(Superellipsoid(at(108, 36, 372), spleen, 2.1, rotation(25, 0, 0)), *suv("spleen"))
        wall = Superellipsoid(at(70, -30, 365), self.axes(42, 34, 66), 2, rotation(0, 28, 0))
        canvas.paint(wall, *suv("stomach_wall"))
        lumen = Superellipsoid(wall.center, [max(8, t - 6.5) for t in wall.axes], 2, wall.rotation)
        canvas.paint(lumen, *suv("stomach_content"))
        pancreas = [at(95, 10, 362), at(40, 0, 340), at(0, 2, 325), at(-35, 0, 305)]
        canvas.paint(tube(pancreas, [9, 10, 12, 14]), *suv("pancreas"))
        pelvis_suv, mu, label = suv("renal_pelvis")
        for s in SIDES:
            c, turn = at(s * 62, 48, 318 + s * 8), rotation(0, s * -12, s * 25)
            canvas.paint(Superellipsoid(c, self.axes(29, 24, 55), 2, turn), *suv("kidney_cortex"))
            calyces = Superellipsoid(
                [c[0] - s * 10, c[1] - 3, c[2]], [13 * jitter(0.15), 9, 26 * jitter(0.15)], 2, turn
            )
            canvas.paint(calyces, pelvis_suv * 0.5 + 1.2, mu, label)
            canvas.paint(
                Superellipsoid([c[0] - s * 16, c[1] - 5, c[2]], [6, 5, 10 * jitter(0.3)], 2, turn),
                *suv("renal_pelvis"),
            )
            canvas.paint(Superellipsoid(at(s * 36, 38, 385), [14, 5, 16]), *suv("adrenal"))
            if rng.random() < 0.5:  # urine bolus in the ureter
                z = rng.uniform(150, 280)
                bolus = tube([at(s * 42, 34, z), at(s * 40, 30, z - rng.uniform(15, 60))], 2.5)
                canvas.paint(bolus, pelvis_suv * 0.6, mu, label)

    def _bowel(self, canvas: Canvas) -> None:
        at, suv, rng = self.at, self.suv, self.rng
        frame = [
            (-105, -8, 160),
            (-108, -5, 285),
            (-60, -48, 292),
            (0, -58, 268),
            (60, -46, 305),
            (118, 15, 318),
        ]
        frame += [(112, 15, 170), (60, -5, 120), (15, 15, 140), (2, 32, 100), (0, 38, 60)]
        radius = np.array([24, 22, 19, 17, 17, 18, 15, 14, 15, 18, 16]) * np.exp(rng.normal(0, 0.12, 11))
        colon_suv, mu, label = suv("colon")
        for i in range(len(frame) - 1):
            segment = tube([at(*frame[i]), at(*frame[i + 1])], radius[i : i + 2])
            canvas.paint(segment, colon_suv * float(np.exp(rng.normal(0, 0.4))), mu, label)
        small_suv, mu, label = suv("small_bowel")
        position = np.array([20.0, -20, 265])
        for _ in range(70):  # loops: bounded random walk
            move = rng.normal(0, 26, 3) * np.array([1.3, 0.7, 1])
            following = np.clip(position + move, [-85, -62, 120], [85, 15, 275])
            loop = tube([at(*position), at(*following)], 10 * self.sxy)
            canvas.paint(loop, small_suv * float(np.exp(rng.normal(0, 0.3))), mu, label)
            position = following

    def _pelvis(self, canvas: Canvas) -> None:
        at, jitter, suv = self.at, self.jitter, self.suv
        bladder = [32 * jitter(0.2), 30 * jitter(0.2), 26 * jitter(0.25)]
        canvas.paint(Superellipsoid(at(0, -28, 72), bladder), *suv("bladder"))
        if self.female:
            canvas.paint(Superellipsoid(at(0, 2, 78), [26, 22, 34]), *suv("prostate_uterus"))
            canvas.paint([Superellipsoid(at(s * 42, 0, 98), [14, 9, 12]) for s in SIDES], *suv("gonad"))
        else:
            canvas.paint(Superellipsoid(at(0, 2, 38), [22, 18, 16]), *suv("prostate_uterus"))
            canvas.paint([Superellipsoid(at(s * 18, -70, -45), [15, 14, 22]) for s in SIDES], *suv("gonad"))

    def _head(self, canvas: Canvas) -> None:
        at, suv, hz = self.at, self.suv, self.head_center[2]
        pair = lambda x, y, z, axes: [Superellipsoid([s * x, y, z], axes) for s in SIDES]
        canvas.paint([Superellipsoid(at(s * 22, -18, 712), [10, 10, 24]) for s in SIDES], *suv("thyroid"))
        canvas.paint(
            pair(58, 5, hz - 62, [13, 17, 24]) + pair(30, -25, hz - 92, [11, 14, 11]), *suv("salivary")
        )
        canvas.paint(pair(18, -20, hz - 72, [7, 9, 12]), *suv("tonsil"))
        canvas.paint(Superellipsoid([0, -50, hz - 78], [20, 30, 16]), *suv("tongue"))
        canvas.paint(Superellipsoid([0, -48, hz - 45], [14, 34, 18], 3), *suv("air"))
        canvas.paint(pair(32, -82, hz - 30, [12, 12, 12]), *suv("eye"))
        self.paint_brain(canvas, self.brain_center, self.brain_axes, self._brain_fields)

    # ------------------------------------------------------------------------------------------------ lesions
    def _place_lesions(self, max_lesions: int) -> list[Lesion]:
        """Draws hosts, sites, sizes and uptake on the site grid, so that they do not depend on the scanner's voxels."""
        rng = np.random.default_rng(self.lesion_seed)
        lower, upper = self.axial_range()
        spacing = (SITE_GRID_MM,) * 3
        shape = (int((upper - lower) / SITE_GRID_MM), 100, 160)
        origin = (lower, -(shape[1] - 1) / 2 * SITE_GRID_MM, -(shape[2] - 1) / 2 * SITE_GRID_MM)
        canvas = self._paint(shape, spacing, origin)
        # what a patient takes up is what was injected, less what was voided: sum(SUV * ml) / weight in a plausible range
        share = float(canvas.activity.sum()) * SITE_GRID_MM**3 / 1e6 / self.weight_kg
        scale = min(max(share, PLAUSIBLE_SHARE[0]), PLAUSIBLE_SHARE[1]) / share
        self.uptake = {organ: suv * scale for organ, suv in self.uptake.items()}
        names, weights = list(LESION_HOSTS), np.array(list(LESION_HOSTS.values()))
        lesions: list[Lesion] = []
        for _ in range(int(rng.integers(1, max_lesions + 1))):
            host = str(rng.choice(names, p=weights / weights.sum()))
            center = self._site(host, canvas, rng)
            diameter = float(np.clip(rng.lognormal(math.log(15), 0.5), 6, 60))
            background = self.uptake["muscle" if host == "nodal" else host]
            suv = float(np.clip(background * rng.lognormal(math.log(3.2), 0.45), 1.5 * background + 0.5, 25))
            axes = diameter / 2 * np.exp(rng.normal(0, 0.18, 3))
            angles = rng.uniform(0, 180, 3)
            necrotic = bool(diameter > 25 and rng.random() < 0.4)
            apart = all(
                np.linalg.norm(np.subtract(center, other.center_mm)) > (diameter + other.diameter_mm) * 0.6
                for other in lesions
            )
            if apart:
                vectors = [tuple(float(v) for v in w) for w in (center, axes, angles)]
                lesions.append(Lesion(len(lesions) + 1, host, diameter, suv, *vectors, necrotic))
        return lesions

    def _site(self, host: str, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
        if host == "nodal":  # mediastinum, retroperitoneum, axilla, groin, neck
            stations = [
                (-15, 15, 560),
                (30, 20, 575),
                (12, 30, 260),
                (-20, 30, 290),
                (150, 10, 600),
                (-150, 10, 600),
            ]
            stations += [(75, -40, 40), (-75, -40, 40), (50, 10, 745), (-50, 10, 745)]
            return np.array(self.at(*stations[rng.integers(len(stations))])) + rng.normal(0, 9, 3)
        voxels = (canvas.label == ORGANS[host].label).nonzero()
        i = voxels[int(rng.integers(len(voxels)))]
        return np.array([float(canvas.x[i[2]]), float(canvas.y[i[1]]), float(canvas.z[i[0]])])

    def _paint_lesions(self, canvas: Canvas, texture, spacing_zyx, origin_zyx) -> torch.Tensor:
        """Paints the lesions at their recorded centers (undisplaced), clipped to their host organ; returns the labels."""
        straight = Canvas(canvas.shape, spacing_zyx, origin_zyx)
        labels = straight.label
        for lesion in self.lesions:
            turn = rotation(*lesion.angles)
            covered = straight.coverage(Superellipsoid(lesion.center_mm, lesion.axes_mm, 2.0, turn))
            if covered is None:
                continue
            box, share = covered
            organs = canvas.label[box]
            if lesion.host == "nodal":
                share = share * ~torch.isin(
                    organs, torch.tensor([0, ORGANS["trachea"].label, ORGANS["air"].label])
                )
            else:
                share = share * (organs == ORGANS[lesion.host].label)
            uptake = torch.full_like(share, lesion.suv)
            if lesion.necrotic:
                core = Superellipsoid(lesion.center_mm, [0.55 * a for a in lesion.axes_mm], 2.0, turn)
                depth = (0.5 - core.distance(*straight.coordinates(box)) / straight.voxel_mm).clamp_(0, 1)
                background = self.uptake["muscle" if lesion.host == "nodal" else lesion.host]
                uptake = uptake - depth * (lesion.suv - 0.8 * background)
            uptake = uptake * (1 + 0.15 * texture[box])
            canvas.activity[box] += share * (uptake - canvas.activity[box])
            if lesion.host in ("nodal", "liver", "lung"):
                canvas.mu[box] += share * (MU_PER_MM["soft"] - canvas.mu[box])
            labels[box][share > 0.5] = lesion.label
        return labels
