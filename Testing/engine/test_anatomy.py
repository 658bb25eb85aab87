"""A seed is one patient, on every voxel grid: organs, lesions, uptake, and the random fields behind them."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from drmc.simulation.anatomy import Head, Lesion, Phantom, WholeBody
from drmc.simulation.organs import MU_PER_MM, ORGANS
from drmc.simulation.shapes import Canvas, Capsule, LatticeField, Superellipsoid, rotation, tube

WOMAN, MAN, OTHER_WOMAN = 101, 104, 115
SEEDS = (WOMAN, MAN, OTHER_WOMAN)
GRID, OTHER_GRID = (7.0, 7.0, 7.0), (9.0, 6.0, 6.5)  # mm (z, y, x)
EXTENT_YX = (460.0, 630.0)

patient = cache(WholeBody)


def grid_of(body: WholeBody, spacing) -> tuple[tuple, tuple, tuple]:
    """(shape, spacing, origin), each (z, y, x), around the whole scan range."""
    lower, upper = body.axial_range()
    shape = (
        int((upper - lower) / spacing[0]),
        *(int(e / s) for e, s in zip(EXTENT_YX, spacing[1:], strict=True)),
    )
    origin = (lower, *(-(n - 1) / 2 * s for n, s in zip(shape[1:], spacing[1:], strict=True)))
    return shape, spacing, origin


@cache
def scan(seed: int, spacing=GRID) -> Phantom:
    return patient(seed).rasterize(*grid_of(patient(seed), spacing))


@cache
def close_up(seed: int, number: int, spacing: float = 2.0) -> tuple[Phantom, tuple]:
    """A fine grid around one lesion of a patient, and its origin (z, y, x)."""
    lesion = patient(seed).lesions[number]
    n = int(2 * (1.3 * max(lesion.axes_mm) + 6) / spacing)
    origin = tuple(c - (n - 1) / 2 * spacing for c in reversed(lesion.center_mm))
    return patient(seed).rasterize((n,) * 3, (spacing,) * 3, origin), origin


def lesions_of(seed: int) -> list[tuple[int, Lesion]]:
    return list(enumerate(patient(seed).lesions))


def mask(phantom: Phantom, organ: str) -> torch.Tensor:
    return phantom.organs == ORGANS[organ].label


def resampled(phantom: Phantom, source: tuple, target: tuple) -> torch.Tensor:
    """Organ labels of a phantom at the voxel centers of another grid, nearest neighbor."""
    index = []
    for (n, s, o), (m, t, p) in zip(zip(*source, strict=True), zip(*target, strict=True), strict=True):
        index.append((((torch.arange(m) * t + p - o) / s).round().long()).clamp(0, n - 1))
    return phantom.organs[index[0]][:, index[1]][:, :, index[2]]


def centroid(chosen: torch.Tensor, spacing, origin) -> list[float]:
    """Middle of the chosen voxels, (z, y, x) in mm."""
    index = chosen.nonzero().float().mean(0)
    return [float(i) * s + o for i, s, o in zip(index, spacing, origin, strict=True)]


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


# ---- one patient on every grid


def test_a_seed_is_the_same_patient_on_two_grids():
    body = patient(MAN)
    again = WholeBody(MAN)
    grid, other = grid_of(body, GRID), grid_of(again, OTHER_GRID)
    first, second = scan(MAN), again.rasterize(*other)
    assert first.facts == second.facts
    assert [vars(a) for a in body.lesions] == [vars(b) for b in again.lesions]
    labels = resampled(second, other, grid)
    inside = (first.organs > 0) | (labels > 0)
    assert float((labels == first.organs)[inside].float().mean()) > 0.85
    for organ in ("lung", "liver", "muscle", "fat", "bladder", "spleen", "colon", "white_matter"):
        label = ORGANS[organ].label
        assert dice(labels == label, mask(first, organ)) > 0.8, organ
        volumes = [float(mask(p, organ).sum()) * np.prod(g[1]) for p, g in ((first, grid), (second, other))]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.08), organ
    ml = [np.prod(g[1]) / 1000 for g in (grid, other)]
    assert float(second.activity.sum()) * ml[1] == pytest.approx(
        float(first.activity.sum()) * ml[0], rel=0.01
    )
    assert float(second.mu.sum()) * ml[1] == pytest.approx(float(first.mu.sum()) * ml[0], rel=0.01)


def test_another_seed_is_another_patient():
    assert scan(WOMAN).facts != scan(OTHER_WOMAN).facts
    grids = [grid_of(patient(seed), GRID) for seed in (WOMAN, OTHER_WOMAN)]
    labels = resampled(scan(OTHER_WOMAN), grids[1], grids[0])
    assert dice(labels == ORGANS["liver"].label, mask(scan(WOMAN), "liver")) < 0.93
    assert patient(WOMAN).uptake["liver"] != patient(OTHER_WOMAN).uptake["liver"]
    assert {len(patient(seed).lesions) for seed in SEEDS} != {1}


def test_rasterizing_again_and_a_slab_give_the_same_voxels():
    body = patient(MAN)
    (nz, ny, nx), spacing, origin = grid_of(body, GRID)
    first, z = 60, slice(60, 90)  # abdomen to thorax
    slab = body.rasterize((30, ny, nx), spacing, (origin[0] + first * spacing[0], *origin[1:]))
    whole = scan(MAN)
    assert nz > 90
    assert float((slab.organs == whole.organs[z]).float().mean()) > 0.9999  # but for rounding at the edges
    assert torch.equal(slab.lesions, whole.lesions[z])
    assert float((slab.activity - whole.activity[z]).abs().max()) < 1e-3
    assert float((slab.mu - whole.mu[z]).abs().max()) < 1e-5


def test_a_seed_sequence_can_be_used_again():
    sequence = np.random.SeedSequence([2026, 4])
    assert vars_of(Head(sequence)) == vars_of(Head(np.random.SeedSequence([2026, 4])))
    assert vars_of(Head(sequence)) == vars_of(Head(np.random.SeedSequence([2026, 4])))


def vars_of(head: Head) -> tuple:
    return head.sex, head.height_m, head.weight_kg, tuple(head.brain_axes), tuple(head.uptake.items())


# ---- the whole body


@pytest.mark.parametrize("seed", SEEDS)
def test_every_organ_is_there_but_those_of_the_other_sex(seed):
    present = set(scan(seed).organs.unique().tolist())
    absent = {name for name, organ in ORGANS.items() if organ.label not in present}
    assert absent == (set() if scan(seed).facts["sex"] == "F" else {"breast"})
    assert present <= {0, *(organ.label for organ in ORGANS.values())}


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_suv_of_the_scan_range_is_that_of_a_patient(seed):
    """The share of the injected activity in the scan: what was voided or lies in the legs is missing."""
    share = float(scan(seed).activity.sum()) * math.prod(GRID) / 1e6 / patient(seed).weight_kg
    assert 0.8 < share < 1.1


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_patients_uptake_and_their_tissues_attenuation(seed):
    phantom, uptake = scan(seed), patient(seed).uptake
    healthy = phantom.lesions == 0
    for organ in ("liver", "spleen", "muscle", "fat", "lung", "bladder", "white_matter"):
        # voxels whose neighbors are of the same organ: neither edges nor lesions
        chosen = mask(phantom, organ) & healthy
        for axis in range(3):
            chosen &= chosen.roll(1, axis) & chosen.roll(-1, axis)
        assert chosen.sum() > 5, organ
        assert float(phantom.activity[chosen].mean()) == pytest.approx(uptake[organ], rel=0.1), organ
        assert float(phantom.mu[chosen].median()) == pytest.approx(
            MU_PER_MM[ORGANS[organ].tissue], rel=0.02
        ), organ
    assert float(phantom.activity.min()) >= 0
    assert 0 <= float(phantom.mu.min()) and float(phantom.mu.max()) <= MU_PER_MM["bone"] * 1.0001


@pytest.mark.parametrize("seed", SEEDS)
def test_sizes_and_sides_are_human(seed):
    phantom, (_, spacing, origin) = scan(seed), grid_of(patient(seed), GRID)
    liters = lambda organ: float(mask(phantom, organ).sum()) * math.prod(spacing) / 1e6
    ranges = {
        "liver": (1.0, 2.5),
        "spleen": (0.06, 0.4),
        "lung": (2.0, 7.0),
        "kidney_cortex": (0.12, 0.45),
        "bladder": (0.03, 0.5),
    }
    for organ, (least, most) in ranges.items():
        assert least < liters(organ) < most, organ
    brain = sum(map(liters, ("gray_matter", "white_matter", "deep_gray", "cerebellum", "brainstem")))
    assert 1.1 < brain < 2.0
    center = lambda organ: centroid(mask(phantom, organ), spacing, origin)
    assert center("liver")[2] < -30 < 30 < center("spleen")[2]  # LPS: the patient's right is negative x
    upwards = ("femur_marrow", "bladder", "liver", "myocardium", "thyroid", "cerebellum")
    heights = [center(organ)[0] for organ in upwards]
    assert heights == sorted(heights)
    assert center("sternum")[1] < 0 < center("vertebra")[1]  # posterior is positive y


def test_sexes_and_habitus_are_those_of_a_population(monkeypatch):
    monkeypatch.setattr(WholeBody, "_place_lesions", lambda self, most: [])
    monkeypatch.setattr(WholeBody, "lattice", lambda self, *grid: None)  # drawn from a stream of their own
    bodies = [WholeBody(seed) for seed in range(150)]
    assert 0.35 < np.mean([b.female for b in bodies]) < 0.65
    assert 0.25 < np.mean([b.arms_up for b in bodies]) < 0.55
    assert np.median([b.bmi for b in bodies]) == pytest.approx(24, abs=1.3)
    assert len({round(b.weight_kg, 6) for b in bodies}) == 150


# ---- lesions


@pytest.mark.parametrize("seed", SEEDS)
def test_every_listed_lesion_is_painted_and_nothing_else(seed):
    lesions = patient(seed).lesions
    assert [lesion.label for lesion in lesions] == list(range(1, len(lesions) + 1))
    assert 1 <= len(lesions) <= 8
    assert set(scan(seed).lesions.unique().tolist()) <= {0, *(lesion.label for lesion in lesions)}
    for number, lesion in lesions_of(seed):
        phantom, _ = close_up(seed, number)
        assert bool((phantom.lesions == lesion.label).any()), f"lesion {lesion.label} in {lesion.host}"


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_lie_inside_their_host(seed):
    for number, lesion in lesions_of(seed):
        phantom, _ = close_up(seed, number)
        organs = phantom.organs[phantom.lesions == lesion.label]
        if lesion.host == "nodal":
            inside = ~torch.isin(organs, torch.tensor([0, ORGANS["trachea"].label, ORGANS["air"].label]))
        else:
            inside = organs == ORGANS[lesion.host].label
        assert bool(inside.all()), f"lesion {lesion.label}, {lesion.host}"


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_are_where_and_what_the_facts_say(seed):
    whole = 0
    for number, lesion in lesions_of(seed):
        phantom, origin = close_up(seed, number)
        painted = phantom.lesions == lesion.label
        volume = float(painted.sum()) * 8.0
        nominal = 4 / 3 * math.pi * math.prod(lesion.axes_mm)
        assert volume < 1.35 * nominal
        least = (0.5 if lesion.necrotic else 1.0) * patient(seed).uptake["muscle"]
        assert float(phantom.activity[painted].median()) > least
        if volume < 0.9 * nominal:  # clipped by its host
            continue
        whole += 1
        assert math.dist(reversed(centroid(painted, (2.0,) * 3, origin)), lesion.center_mm) < 1.0
        if not lesion.necrotic and min(lesion.axes_mm) > 5:
            core = phantom.activity[painted].quantile(0.75)
            assert float(core) == pytest.approx(lesion.suv, rel=0.35)
    assert whole > 0


def test_lesion_centers_are_the_same_on_a_coarser_grid():
    for number, lesion in lesions_of(WOMAN):
        middles = []
        for spacing in (2.0, 3.0):
            phantom, origin = close_up(WOMAN, number, spacing)
            middles.append(centroid(phantom.lesions == lesion.label, (spacing,) * 3, origin))
        assert math.dist(*middles) < 2.0, f"lesion {lesion.label} in {lesion.host}"


# ---- the head


def test_the_head_has_gray_matter_around_white_and_no_lesions():
    shape, spacing = (60, 70, 60), (3.0, 3.0, 3.0)
    origin = (-98.0, *(-(n - 1) / 2 * 3.0 for n in shape[1:]))
    head = Head(3).rasterize(shape, spacing, origin)
    brain = ("gray_matter", "white_matter", "deep_gray", "cerebellum", "brainstem", "csf")
    assert {ORGANS[name].label for name in (*brain, "skull", "muscle", "fat")} <= set(
        head.organs.unique().tolist()
    )
    assert not head.lesions.any() and head.facts["lesions"] == []
    gray, white = (float(head.activity[mask(head, f"{side}_matter")].median()) for side in ("gray", "white"))
    assert gray > 1.5 * white
    assert torch.equal(head.activity, Head(3).rasterize(shape, spacing, origin).activity)
    assert not torch.equal(head.activity, Head(4).rasterize(shape, spacing, origin).activity)


# ---- random fields and primitives


@pytest.mark.parametrize(
    ("spacing", "band", "size"),
    [(9.0, None, 220.0), (26.0, None, 600.0), (60.0, None, 900.0), (4.25, 17.0, 130.0)],
)
def test_lattice_fields_have_unit_variance(spacing, band, size):
    generator = torch.Generator().manual_seed(11)
    axis = torch.arange(0, size, 0.61 * spacing)
    fields = [
        LatticeField(generator, (0, 0, 0), (size,) * 3, spacing, band).sample(axis, axis, axis)
        for _ in range(3)
    ]
    values = torch.stack(fields)
    assert float(values.var()) == pytest.approx(1, abs=0.1)
    assert float(values.mean()) == pytest.approx(0, abs=0.1)
    assert not torch.allclose(fields[0], fields[1])


def test_lattice_fields_do_not_depend_on_the_grid():
    make = lambda: LatticeField(torch.Generator().manual_seed(5), (-60, -50, -40), (60, 50, 40), 9.0)
    fine = torch.arange(-30.0, 30.5, 1.0)
    whole = make().sample(fine, fine, fine)
    some = make().sample(fine[7:40:3], fine[5:50:5], fine[::6])
    assert torch.allclose(some, whole[7:40:3, 5:50:5, ::6], atol=1e-5)
    assert float((whole[1:] - whole[:-1]).std()) < 0.25  # smooth at 1 mm for a lattice of 9 mm


def test_a_band_field_varies_at_its_wavelength():
    field = LatticeField(torch.Generator().manual_seed(5), (0, 0, 0), (200,) * 3, 4.25, 17.0)
    axis = torch.arange(0, 200.0, 2.0)
    power = torch.fft.fftn(field.sample(axis, axis, axis)).abs() ** 2
    k = torch.fft.fftfreq(len(axis), d=2.0)
    radius = (k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None] ** 2).sqrt()
    assert 1 / float((power * radius).sum() / power.sum()) == pytest.approx(17.0, rel=0.15)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 2.0, 3.0)])
def test_painted_volumes_are_those_of_geometry(spacing):
    shape = tuple(int(120 / s) for s in spacing)
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True))

    def volume(primitives) -> tuple[float, float]:
        canvas = Canvas(shape, spacing, origin)
        canvas.paint(primitives, 2.0, 0.01, 9)
        assert float(canvas.activity.max()) == pytest.approx(2) and float(canvas.mu.max()) == pytest.approx(
            0.01
        )
        assert set(canvas.label.unique().tolist()) == {0, 9}
        voxel = math.prod(spacing)
        return float(canvas.activity.sum()) / 2 * voxel, float((canvas.label == 9).sum()) * voxel

    turned = Superellipsoid((3, -2, 5), (40, 22, 30), 2, rotation(20, 35, 50))
    capsule = tube([(-20, 0, -15), (20, 10, 15)], 12)
    half = Superellipsoid((0, 0, 0), (30, 30, 30), 2, cuts=[((0, 0, 1), 0.0)])
    shell = Superellipsoid((0, 0, 0), (30, 30, 30), 2, inner=(20, 20, 20))
    length = math.dist((-20, 0, -15), (20, 10, 15))
    ball = 4 / 3 * math.pi
    expected = (
        (turned, ball * 40 * 22 * 30),
        (capsule, math.pi * 12**2 * length + ball * 12**3),
        (half, ball * 30**3 / 2),
        (shell, ball * (30**3 - 20**3)),
    )
    for primitive, exact in expected:
        for painted in volume(primitive):
            assert painted == pytest.approx(exact, rel=0.04)


def test_signed_distances_and_bounds():
    at = lambda primitive, *p: float(primitive.distance(*(torch.tensor(float(v)) for v in p)))
    ball = Superellipsoid((1, 2, 3), (10, 10, 10))
    assert at(ball, 1, 2, 18) == pytest.approx(5, abs=1e-4) and at(ball, 5, 2, 3) == pytest.approx(
        -6, abs=1e-4
    )
    cone = Capsule(np.array([0.0, 0, 0]), np.array([0.0, 0, 20]), 4.0, 4.0)
    assert at(cone, 7, 0, 10) == pytest.approx(3, abs=1e-4) and at(cone, 0, 0, 26) == pytest.approx(
        2, abs=1e-4
    )
    # a turn about z by 90 degrees takes the long axis from x to y
    turned = Superellipsoid((0, 0, 0), (30, 10, 10), 2, rotation(0, 0, 90))
    assert at(turned, 0, 25, 0) < 0 < at(turned, 25, 0, 0)
    lower, upper = turned.bounds()
    assert np.allclose(upper, (10, 30, 10), atol=1e-4) and np.allclose(lower, -upper)
