"""Procedural patients: whole body with lesions, and head. A seed is one patient, on every voxel grid.

The patient's frame is LPS in mm (x to the left, y posterior, z superior) with z = 0 at the trunk base. All
draws are made when a patient is created; `rasterize` only looks at the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmc.imaging.geometry import triple
from drmc.simulation.brain import draw_brain
from drmc.simulation.brain_maps import MappedBrain, Maps, read_maps
from drmc.simulation.deformation import Deformation, Proportions
from drmc.simulation.drawing import Drawing, Layers
from drmc.simulation.habitus import Habitus
from drmc.simulation.lesion_draws import MAX_SITES, ClinicalLesions, LesionDraws, ManyLesions
from drmc.simulation.lesions import CHECK_MM, Lesion, LesionPlacer, measure, paint_lesions
from drmc.simulation.organs import LEFT, ORGANS, label_table, organ_mask
from drmc.simulation.regions.abdomen import draw_abdomen, draw_gallbladder
from drmc.simulation.regions.bowel import draw_bowel
from drmc.simulation.regions.envelope import SKIN_MM, draw_envelope
from drmc.simulation.regions.head import draw_face, draw_neck, draw_orbits
from drmc.simulation.regions.pelvis import draw_pelvis
from drmc.simulation.regions.skeleton import draw_skeleton
from drmc.simulation.regions.thorax import draw_thorax
from drmc.simulation.regions.vessels import draw_vessels
from drmc.simulation.shapes import Canvas, LatticeField, Shape, Superellipsoid, Triple, Union, Vector, tube
from drmc.simulation.tracers import draw_uptake, find_tracer, widen
from drmc.simulation.variants import draw_variants, paint_variants

__all__ = ["Body", "Head", "Lesion", "Phantom", "WholeBody", "fresh"]

DISPLACEMENT_MM = 8.0
DISPLACEMENT_LATTICE_MM = 72.0  # varies over about 110 mm
SITE_GRID_MM = 5.0  # lesion sites are chosen on this grid, whatever the scanner's voxels are
BODY_LOWER, BODY_UPPER = (-420.0, -330.0, -520.0), (420.0, 330.0, 1150.0)
HEAD_LOWER, HEAD_UPPER = (-150.0,) * 3, (150.0,) * 3
TEXTURE_LATTICE_MM = (9.0, 26.0)  # heterogeneity at about 14 and 40 mm
FINE_LATTICE_MM = 5.3  # at about 8 mm
LUNG_GRADIENT = 0.15
"""The lung of a supine patient is denser behind, by this share from the middle to either side."""
LUNG_MIDDLE_MM = 15.0
LANDMARKS = {
    "thigh": -230.0,
    "kidneys": 385.0,
    "thoracic_inlet": 670.0,
    "neck": 720.0,
    "skull_base": 800.0,
    "vertex": 972.0,
}
"""Heights (mm) of an adult of 1.74 m at which a field may end."""
_SLAB = 32  # slices that are textured at a time


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes in one thread: rounding depends on the number of threads, and a patient must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Phantom:
    """Truth on one voxel grid, arrays (z, y, x): activity SUV, mu 1/mm, organ and lesion labels uint8."""

    activity: torch.Tensor
    mu: torch.Tensor
    organs: torch.Tensor
    lesions: torch.Tensor
    facts: dict[str, Any] = field(default_factory=dict)


def fresh(seed: int | np.random.SeedSequence) -> np.random.SeedSequence:
    """A sequence that spawns from the beginning: spawning changes the original."""
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    return np.random.SeedSequence(seed)


class _Patient:
    """What body and head share: streams of draws, random fields, texture, and painting on a grid."""

    female: bool
    height_m: float
    weight_kg: float

    def __init__(
        self,
        seed: int | np.random.SeedSequence,
        tracer: str,
        lower: Vector,
        upper: Vector,
        wide_uptake: float = 0.0,
    ):
        self.tracer = find_tracer(tracer)
        build, fields, self._lesion_seed, uptake, self._finding_seed, wide = fresh(seed).spawn(6)
        self.rng = np.random.default_rng(build)
        self._lower, self._upper = lower, upper
        self.fields = torch.Generator().manual_seed(int(fields.generate_state(1)[0]))
        rng = np.random.default_rng(uptake)
        self.uptake = draw_uptake(rng, self.tracer)
        self.variants = draw_variants(rng, self.uptake, self.tracer.name)
        rng = np.random.default_rng(wide)
        self.uptake_from = "wide" if rng.random() < wide_uptake else "table"
        if self.uptake_from == "wide":
            widen(rng, self.uptake)
        self.drawing = Drawing()

    def _lattice(self, spacing: float) -> LatticeField:
        return LatticeField(self.fields, self._lower, self._upper, spacing)

    def _draw_fields(
        self,
        displacement_lattice_mm: float,
        displacement_mm: float,
        proportions: Proportions | None = None,
    ) -> None:
        fields = [self._lattice(displacement_lattice_mm) for _ in range(3)]
        self.deformation = Deformation(fields, displacement_mm, proportions)
        self._draw_texture()

    def _draw_texture(self) -> None:
        self._texture = [self._lattice(s) for s in TEXTURE_LATTICE_MM]
        self._fine = self._lattice(FINE_LATTICE_MM)

    def _painted(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Canvas:
        """The anatomy without texture and lesions."""
        canvas = Canvas(shape_zyx, spacing_zyx, origin_zyx, self.deformation)
        self.drawing.paint(canvas, self.uptake)
        return canvas

    def _texture_on(self, z: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Heterogeneity of unit variance on axis positions in mm."""
        texture = self._texture[0].sample(z, y, x)
        return texture.add_(self._texture[1].sample(z, y, x)).mul_(0.7)

    def _texture_at(self, lesion: Lesion) -> float:
        x, y, z = (torch.tensor([v]) for v in lesion.center_mm)
        return float(self._texture_on(z, y, x))

    def _textured(self, canvas: Canvas) -> torch.Tensor:
        """Multiplies the activity by 1 + CV * texture; returns the texture without its fine part."""
        strength, fine = torch.zeros(256), torch.zeros(256)
        for organ in ORGANS.values():
            for value in (organ.label, organ.label + LEFT):
                strength[value], fine[value] = organ.texture, organ.fine
        sagging = label_table("lung").float() * LUNG_GRADIENT
        back = ((canvas.y - LUNG_MIDDLE_MM) / 75.0).clamp(-1, 1).view(1, -1, 1)
        texture = self._texture_on(canvas.z, canvas.y, canvas.x)
        for first in range(0, len(canvas.z), _SLAB):
            part = slice(first, first + _SLAB)
            label = canvas.label[part]
            look_up = lambda table, label=label: table.index_select(0, label.view(-1).int()).view(label.shape)
            factor = look_up(strength).mul_(texture[part]).add_(1)
            factor += look_up(fine).mul_(self._fine.sample(canvas.z[part], canvas.y, canvas.x))
            factor += look_up(sagging).mul_(back)
            canvas.activity[part] *= factor.clamp_(min=0.2)
        return texture

    @property
    def sex(self) -> str:
        """F or M."""
        return "F" if self.female else "M"

    def _facts(self) -> dict[str, Any]:
        return {
            "sex": self.sex,
            "height_m": self.height_m,
            "weight_kg": self.weight_kg,
            "tracer": self.tracer.name,
            "uptake": self.uptake_from,
            "variants": list(self.variants),
        }


def _padded(shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> tuple[Shape, Triple]:
    """Shape and origin with a voxel more at every end: slopes at the border need their neighbors."""
    nz, ny, nx = shape_zyx
    return (nz + 2, ny + 2, nx + 2), triple(o - s for o, s in zip(origin_zyx, spacing_zyx, strict=True))


def _inner(volume: torch.Tensor) -> torch.Tensor:
    return volume[1:-1, 1:-1, 1:-1].contiguous()


class Head(_Patient):
    """Head of one patient (center C5); no lesions.

    `maps`: folder of the ICBM152 gray and white matter maps; None draws a procedural brain. `tracer`: a name
    of `tracers.TRACERS`. Raises InputError for an unknown tracer or a folder without the maps.
    """

    region = "brain"
    diaphragm_mm: float | None = None

    @one_thread()
    def __init__(
        self, seed: int | np.random.SeedSequence, tracer: str = "FDG", maps: Path | str | None = None
    ):
        super().__init__(seed, tracer, HEAD_LOWER, HEAD_UPPER)
        template = read_maps(Path(maps)) if maps is not None else None
        rng = self.rng
        self.weight_kg = float(np.clip(rng.normal(70, 12), 45, 110))
        self.height_m = float(rng.normal(1.66, 0.08))
        self.female = bool(rng.random() < 0.5) and not self.tracer.men_only
        self.brain_axes = [n * (1 + float(np.clip(rng.normal(0, 0.04), -0.1, 0.1))) for n in (68, 86, 62)]
        self.variants = []  # all of the trunk
        self._draw_fields(45.0, 2.0)
        self.brain = "ICBM152" if template else "procedural"
        self._draw(template)

    def _draw(self, template: Maps | None) -> None:
        a, center = self.brain_axes, [0.0, 0.0, 5.0]
        middle = center[2] - 16
        at = lambda x, y, z: [x * a[0] / 68, y * a[1] / 86, z]
        head = Superellipsoid([0, -2, -6], [p + q for p, q in zip(a, (13, 16, 40), strict=True)], 2.3)
        neck = tube([[0, 22, -60], [0, 26, -150]], 62)
        body = Union([head, *neck])
        self.drawing.append(Layers(body, [(0.0, "skin"), (SKIN_MM, "fat"), (SKIN_MM + 3, "muscle")]))
        draw_face(self.drawing, at, middle)
        if template is None:
            draw_brain(self.drawing, self.rng, self.fields, center, a)
        else:
            self.drawing.append(MappedBrain(template, self.rng, self.fields, [0.0, 0.0, -3.0]))
        draw_orbits(self.drawing, at, middle)

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm."""
        return -98.0, 82.0

    @one_thread()
    def rasterize(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Phantom:
        """The head on a voxel grid; origin is the center of the first voxel in mm."""
        shape, origin = _padded(shape_zyx, spacing_zyx, origin_zyx)
        canvas = self._painted(shape, spacing_zyx, origin)
        self._textured(canvas)
        activity, mu, label = (_inner(v) for v in (canvas.activity, canvas.mu, canvas.label))
        facts = {**self._facts(), "brain": self.brain, "lesions": []}
        return Phantom(activity.clamp_(min=0), mu.clamp_(min=0), label, torch.zeros_like(label), facts)


class Body(_Patient):
    """What bodies share, drawn or of a label map: uptake that adds up, lesions, and painting on a grid."""

    region = "wholebody"
    diaphragm_mm: float | None
    weight_kg: float
    lesions: list[Lesion]
    hosts_without: tuple[str, ...] = ()
    """Hosts that lesions cannot have here."""

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm."""
        raise NotImplementedError

    def _station(self, x: float, y: float, z: float) -> list[float]:
        """Where a station of the reference adult, (x, y, z) in mm, lies in this body."""
        raise NotImplementedError

    @one_thread()
    def draw_many_lesions(self, lower: float, upper: float) -> None:
        """Replaces the lesions by tens of them between `lower` and `upper` (mm), see `ManyLesions`."""
        draws = ManyLesions(upper - lower, self.hosts_without)
        self._place_lesions(draws, self._coarse(SITE_GRID_MM, lower, upper), (lower, upper))

    def _place_lesions(
        self, draws: LesionDraws, coarse: Canvas, within: tuple[float, float] | None = None
    ) -> None:
        rng = np.random.default_rng(self._lesion_seed)
        placer = LesionPlacer(rng, coarse, self._look, self._station, self.uptake, draws, within)
        self.lesions = placer.place()
        self.lesion_draws = "many" if isinstance(draws, ManyLesions) else "clinical"
        measure(self.lesions, self._close_up)

    @one_thread()
    def rasterize(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Phantom:
        """The patient on a voxel grid; origin is the center of the first voxel in mm."""
        shape, origin = _padded(shape_zyx, spacing_zyx, origin_zyx)
        canvas = self._painted(shape, spacing_zyx, origin)
        texture = self._textured(canvas)
        labels = paint_lesions(self.lesions, canvas, texture, self._texture_at, self.uptake)
        facts = {
            **self._facts(),
            "diaphragm_mm": self.diaphragm_mm,
            "lesions_drawn": self.lesion_draws,
            "lesions": [lesion.to_dict() for lesion in self.lesions],
        }
        activity, mu, organs = (_inner(v) for v in (canvas.activity, canvas.mu, canvas.label))
        return Phantom(activity.clamp_(min=0), mu.clamp_(min=0), organs, _inner(labels), facts)

    @one_thread()
    def labels(self, spacing: float) -> np.ndarray:
        """The organ labels (z, y, x), uint8, of the whole scan range on a grid of that spacing in mm."""
        return self._whole(spacing).label.numpy()

    def _whole(self, spacing: float) -> Canvas:
        """The anatomy of the scan range on a coarse grid of its own."""
        return self._coarse(spacing, *self.axial_range())

    def _coarse(self, spacing: float, lower: float, upper: float) -> Canvas:
        shape = (int((upper - lower) / spacing), int(400 / spacing), int(640 / spacing))
        origin = (lower, -(shape[1] - 1) / 2 * spacing, -(shape[2] - 1) / 2 * spacing)
        return self._painted(shape, (spacing,) * 3, origin)

    def _normalize(self, coarse: Canvas) -> None:
        """Scales the uptake to a plausible sum(SUV * ml) / weight: the injected less the voided activity."""
        ml = SITE_GRID_MM**3 / 1000
        share = float(coarse.activity.sum()) * ml / 1000 / self.weight_kg
        low, high = self.tracer.share
        scale = min(max(share, low), high) / share
        self.uptake = {organ: suv * scale for organ, suv in self.uptake.items()}

    def _cube(self, center: Vector, half_mm: float) -> tuple[Shape, Triple, Triple]:
        """Shape, spacing and origin (z, y, x) of CHECK_MM voxels around a point (x, y, z)."""
        n = 2 * int(np.ceil(half_mm / CHECK_MM)) + 1
        origin = triple(float(c) - (n - 1) / 2 * CHECK_MM for c in reversed(list(center)))
        return (n,) * 3, (CHECK_MM,) * 3, origin

    def _look(self, center: np.ndarray, half_mm: float) -> Canvas:
        return self._painted(*self._cube(center, half_mm))

    def _close_up(self, lesion: Lesion) -> tuple[torch.Tensor, torch.Tensor]:
        phantom = self.rasterize(*self._cube(lesion.center_mm, lesion.reach_mm() + 3))
        return phantom.activity, phantom.lesions


class WholeBody(Body):
    """Thigh to vertex of one patient: habitus, organ uptake, anatomy and lesions at 1 to `max_lesions` sites.

    `diaphragm_mm` is the height z of the top of the liver. `tracer`: a name of `tracers.TRACERS`, else
    InputError is raised. `wide_uptake`: chance that every organ's uptake is drawn far beyond the tracer's
    table (see `tracers.widen`). `wide_build`: height and body mass index are drawn far beyond the usual (see
    `habitus.Habitus`).
    """

    @one_thread()
    def __init__(
        self,
        seed: int | np.random.SeedSequence,
        max_lesions: int = MAX_SITES,
        tracer: str = "FDG",
        wide_uptake: float = 0.0,
        wide_build: bool = False,
    ):
        super().__init__(seed, tracer, BODY_LOWER, BODY_UPPER, wide_uptake)
        findings = np.random.default_rng(self._finding_seed)
        self.habitus = h = Habitus(self.rng, findings, self.tracer.men_only, wide_build)
        self.female, self.height_m, self.bmi, self.weight_kg = h.female, h.height_m, h.bmi, h.weight_kg
        self.arms_up = h.arms_up
        self._draw_fields(DISPLACEMENT_LATTICE_MM, DISPLACEMENT_MM, Proportions(self.rng, h.sz))
        self._draw()
        coarse = self._whole(SITE_GRID_MM)
        self.diaphragm_mm = _top(coarse)
        self._normalize(coarse)
        self._place_lesions(ClinicalLesions(self.tracer.lesions, max_lesions), coarse)

    def _station(self, x: float, y: float, z: float) -> list[float]:
        return self.deformation.world(self.habitus.at(x, y, z))

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm: mid-thigh to vertex."""
        return LANDMARKS["thigh"] * self.habitus.sz, LANDMARKS["vertex"] * self.habitus.sz

    def landmark(self, name: str) -> float:
        """Height z (mm) of one of LANDMARKS in the middle of the body."""
        return self.deformation.world([0.0, 0.0, LANDMARKS[name] * self.habitus.sz])[2]

    def _facts(self) -> dict[str, Any]:
        return {
            **super()._facts(),
            "arms_up": self.arms_up,
            "findings": self.habitus.findings.names(),
        }

    def _draw(self) -> None:
        """All strokes, from the outside in: the last paint wins."""
        h, drawing = self.habitus, self.drawing
        jitter = [float(np.clip(self.rng.normal(0, 0.03), -0.07, 0.07)) for _ in range(2)]
        middle = 858 * h.sz
        size = [73 * h.sxy**0.3 * (1 + jitter[0]), 93 * h.sxy**0.3 * (1 + jitter[1]), 102 * h.sz**0.5]
        center = [0.0, -8.0, middle + 16]
        brain = [p - q for p, q in zip(size, (10, 13, 44), strict=True)]
        outline = Superellipsoid(
            [0, -10.0, middle - 10], [p + q for p, q in zip(size, (4, 4, 8), strict=True)], 2.3
        )
        face = lambda x, y, z: [x * size[0] / 76, y * size[1] / 97 - 6, z]
        draw_envelope(drawing, h, outline)
        draw_skeleton(drawing, h)
        draw_thorax(drawing, h)
        draw_abdomen(drawing, h)
        draw_vessels(drawing, h)
        draw_bowel(drawing, h, "metformin_bowel" in self.variants)
        draw_gallbladder(drawing, h)
        draw_pelvis(drawing, h)
        draw_neck(drawing, h)
        draw_face(drawing, face, middle)
        draw_brain(drawing, self.rng, self.fields, center, brain)
        draw_orbits(drawing, face, middle)
        self.variants = paint_variants(drawing, h, self.variants)


def _top(canvas: Canvas) -> float:
    """Height in mm of the top of the liver: of its highest slice that holds a few voxels of it."""
    slices = organ_mask(canvas.label, "liver").sum((1, 2))
    return float(canvas.z[int((slices >= 3).nonzero().max())])
