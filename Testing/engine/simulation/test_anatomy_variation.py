"""How patients differ: proportions and displacement are the same on every grid, findings have their rates.

Labels are those of the organs.
"""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from drmc.errors import InputError
from drmc.simulation.anatomy import Head, WholeBody
from drmc.simulation.fields import FIELDS, MIXED, in_field
from drmc.simulation.findings import RATES, Findings
from drmc.simulation.organs import LEFT, MU_PER_MM, ORGANS, organ_label, organ_mask
from drmc.simulation.shapes import Canvas, Superellipsoid
from support.engine.synthetic_patients import GRID, MAN, SEEDS, WOMAN, centroid, cube, grid_of, patient, scan


class _Chosen(Findings):
    """Findings that are asked for instead of drawn."""

    def __init__(self, **sides: int):
        self._sides = sides


@cache
def with_findings(**sides: int) -> tuple[WholeBody, torch.Tensor, torch.Tensor]:
    """A woman with the findings: the body, its labels and its attenuation."""
    from drmc.simulation import habitus

    drawn = habitus.Findings
    habitus.Findings = lambda *_: _Chosen(**sides)
    try:
        body = WholeBody(WOMAN, max_lesions=0)
    finally:
        habitus.Findings = drawn
    phantom = body.rasterize(*grid_of(body, GRID))
    return body, phantom.organs, phantom.mu


def liters(labels: torch.Tensor, organ: str) -> float:
    return float(organ_mask(labels, organ).sum()) * math.prod(GRID) / 1e6


# ---- proportions and displacement


@pytest.mark.parametrize("seed", SEEDS)
def test_the_map_along_the_body_never_folds(seed):
    body = patient(seed)
    z = torch.arange(-300.0, 1050.0, 2.0)
    low = body.deformation.proportions.at(z)[0]
    assert float((z + low).diff().min()) > 0.8 * 2.0 * 0.75
    x = torch.arange(-240.0, 240.0, 4.0)
    moved = body.deformation.sample(torch.arange(0.0, 900.0, 4.0), torch.tensor([0.0]), x)
    assert float((moved[0][:, 0] + x).diff(dim=1).min()) > 0
    assert float((moved[2][:, 0] + torch.arange(0.0, 900.0, 4.0)[:, None]).diff(dim=0).min()) > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_point_of_the_drawing_is_found_in_the_world(seed):
    deformation = patient(seed).deformation
    for point in ((0.0, 0.0, 100.0), (90.0, -40.0, 420.0), (-120.0, 60.0, 640.0)):
        world = deformation.world(point)
        x, y, z = (torch.tensor([v]) for v in world)
        moved = [float(v) for v in deformation.sample(z, y, x)]
        assert [w + m for w, m in zip(world, moved, strict=True)] == pytest.approx(point, abs=0.01)
        assert math.dist(world, point) > 1.0


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (9.0, 3.0, 6.0)])
def test_boxes_around_displaced_primitives_leave_nothing_out(spacing):
    deformation = patient(MAN).deformation
    canvas = Canvas(*grid_of(patient(MAN), spacing), deformation, paint=False)
    x, y, z = canvas.coordinates(tuple(slice(0, n) for n in canvas.shape))
    rng = np.random.default_rng(2)
    for _ in range(25):
        center = [float(rng.uniform(-low, low)) for low in (150, 80)] + [float(rng.uniform(0, 900))]
        ball = Superellipsoid(center, [float(v) for v in rng.uniform(5, 60, 3)])
        everywhere = canvas.share(ball.distance(x, y, z))
        box, share = canvas.coverage(ball)
        found = torch.zeros_like(everywhere)
        found[box] = share
        # the slope at a box's border is one-sided, but nothing of the primitive may lie beyond it
        assert torch.equal(found > 0, everywhere > 0)
        near = canvas.near(np.array([ball.bounds()]))
        assert near.tolist() == [0]


@pytest.mark.parametrize("make", [Head, partial(WholeBody, max_lesions=2)])
@pytest.mark.parametrize("seed", [4, 5])  # 4: its uptake is scaled to what was injected
def test_the_number_of_threads_does_not_change_a_voxel(make, seed):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            body = make(seed)
            _, high = body.axial_range()
            found.append(body.rasterize((50, 80, 120), (4.0,) * 3, (high - 220, -160.0, -240.0)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, three = found
    assert all(
        torch.equal(getattr(one, k), getattr(three, k)) for k in ("activity", "mu", "organs", "lesions")
    )


def test_patients_have_proportions_of_their_own():
    bodies = [patient(seed) for seed in SEEDS]
    z = torch.tensor([200.0, 400.0, 600.0])
    rows = [torch.stack(body.deformation.proportions.at(z)) for body in bodies]
    assert all(float((a - b).abs().max()) > 1.0 for a, b in pairwise(rows))


# ---- labels


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sacrum_is_no_hip_and_lies_between_them(seed):
    organs, (_, spacing, origin) = scan(seed).organs, grid_of(patient(seed), GRID)
    middle = lambda label: centroid(organs == label, spacing, origin)
    right, left = (middle(organ_label("pelvis_marrow", side)) for side in (-1, 1))
    sacrum = middle(organ_label("sacrum"))
    assert right[2] + 30 < sacrum[2] < left[2] - 30
    assert abs((right[2] + left[2]) / 2 - sacrum[2]) < 15


def test_gas_belongs_to_its_bowel_and_holds_nothing():
    found = 0
    for phantom in map(scan, SEEDS):
        gut = organ_mask(phantom.organs, "colon", "stomach_wall", "stomach_content", "duodenum")
        gas = gut & (phantom.mu < 0.3 * MU_PER_MM["soft"])
        found += int(gas.sum())
        if gas.any():
            assert float(phantom.activity[gas].mean()) < 0.5 * float(phantom.activity[gut & ~gas].mean())
        below_the_neck = organ_mask(phantom.organs, "air")[: int(0.6 * phantom.organs.shape[0])]
        assert not bool(below_the_neck.any())
    assert found > 20


def test_a_ureter_is_no_kidney():
    seen = 0
    for seed in SEEDS:
        organs = scan(seed).organs
        for side in (-1, 1):
            labels = [organ_label(name, side) for name in ("kidney_cortex", "renal_pelvis")]
            z = (torch.isin(organs, torch.tensor(labels, dtype=torch.uint8))).any(2).any(1).nonzero()
            assert float(z.max() - z.min()) * GRID[0] < 170
        seen += int((organs == organ_label("ureter")).any())
    body = next(
        b for b in map(patient, SEEDS) if any(getattr(s, "label", "") == "ureter" for s in b.drawing.strokes)
    )
    stroke = next(s for s in body.drawing.strokes if getattr(s, "label", "") == "ureter")
    middle = body.deformation.world(np.mean(stroke.bounds(), axis=0))
    assert int(organ_mask(body.rasterize(*cube(middle, 24.0, 2.0)).organs, "ureter").sum()) > 20


# ---- findings


def test_findings_come_at_their_rates():
    drawn = [Findings(np.random.default_rng(seed), seed % 2 == 0) for seed in range(6000)]
    for name, rate in RATES.items():
        of_whom = drawn[::2] if name in ("no_uterus", "no_breast") else drawn
        share = np.mean([name in one for one in of_whom])
        assert share == pytest.approx(rate, abs=4 * math.sqrt(rate / len(of_whom))), name
    assert not any("no_uterus" in one for one in drawn[1::2])
    names = {name for one in drawn for name in one.names()}
    assert {"no_gallbladder", "no_kidney:left", "no_kidney:right", "hip_prosthesis:left"} <= names


def test_absent_organs_are_absent():
    _, organs, _ = with_findings(no_gallbladder=0, no_spleen=0, no_kidney=1, no_uterus=0, no_breast=-1)
    held = set(organs.unique().tolist())
    for name in ("gallbladder", "spleen", "prostate_uterus"):
        assert ORGANS[name].label not in held, name
    kidney, breast = ORGANS["kidney_cortex"].label, ORGANS["breast"].label
    assert kidney in held and kidney + LEFT not in held and ORGANS["renal_pelvis"].label + LEFT not in held
    assert breast not in held and breast + LEFT in held


def test_fluid_metal_and_large_organs_are_there():
    _, plain, _ = with_findings()
    body, organs, mu = with_findings(
        ascites=0, pleural_effusion=1, hip_prosthesis=-1, large_liver=0, large_spleen=0
    )
    assert liters(plain, "fluid") == liters(plain, "metal") == 0
    assert liters(organs, "fluid") > 0.5
    left, right = ORGANS["lung"].label + LEFT, ORGANS["lung"].label
    lost = lambda label: float((organs == label).sum()) / float((plain == label).sum())
    assert lost(left) < 0.95 * lost(right)
    metal = organ_mask(organs, "metal")
    spacing, origin = grid_of(body, GRID)[1:]
    assert 0.02 < liters(organs, "metal") < 0.3 and centroid(metal, spacing, origin)[2] < -50
    assert float(mu[metal].median()) == pytest.approx(MU_PER_MM["metal"], rel=0.1)
    for organ in ("liver", "spleen"):
        assert liters(organs, organ) > 1.15 * liters(plain, organ), organ


def test_the_facts_name_the_findings():
    body, _, _ = with_findings(no_kidney=1, ascites=0)
    assert body.rasterize((2, 2, 2), (4.0,) * 3, (0.0,) * 3).facts["findings"] == [
        "no_kidney:left",
        "ascites",
    ]


# ---- fields and wide uptake


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "whole"])
def test_a_field_ends_where_its_name_says(name):
    body = patient(MAN)
    window = in_field(body, name, np.random.default_rng(1))
    low, high = window.axial_range()
    assert window.whole_range() == body.axial_range()
    organs = window.rasterize(*grid_of(window, GRID)).organs
    has = lambda organ: bool(organ_mask(organs, organ).any())
    expected = {
        "skull_base_to_thigh": {"bladder": True, "heart": True, "thyroid": True, "gray_matter": False},
        "head_and_neck": {"gray_matter": True, "thyroid": True, "liver": False, "bladder": False},
        "thorax": {"heart": True, "liver": True, "bladder": False, "gray_matter": False},
    }[name]
    assert {organ: has(organ) for organ in expected} == expected and high - low > 150
    assert window.rasterize((2, 2, 2), (4.0,) * 3, (0.0,) * 3).facts["field"] == name


def test_fields_are_mixed_at_their_shares_and_unknown_ones_are_refused():
    body = patient(WOMAN)
    found = [in_field(body, "mixed", np.random.default_rng(seed)) for seed in range(400)]
    assert sum(one is body for one in found) / 400 == pytest.approx(MIXED["whole"], abs=0.08)
    assert len({one.axial_range() for one in found}) > 250
    with pytest.raises(InputError, match="skull_base_to_thigh"):
        in_field(body, "leg", np.random.default_rng(0))


def test_wide_uptake_breaks_the_ranks_of_a_tracer_and_nothing_else():
    plain, wide = WholeBody(MAN, max_lesions=0), WholeBody(MAN, max_lesions=0, wide_uptake=1.0)
    assert (plain.uptake_from, wide.uptake_from) == ("table", "wide")
    assert np.array_equal(plain.labels(9.0), wide.labels(9.0))  # the same body
    shifts = [math.log(wide.uptake[o] / plain.uptake[o]) for o in ORGANS if plain.uptake[o] > 0]
    assert 0.3 < np.std(shifts) < 0.8
    for followers, leader in ((("aorta", "heart", "vessel"), "blood_pool"), (("sacrum",), "pelvis_marrow")):
        assert all(wide.uptake[one] == wide.uptake[leader] for one in followers)
    order = lambda body: sorted(
        ("liver", "spleen", "muscle", "pancreas", "vertebra", "colon"), key=body.uptake.get
    )
    assert order(plain) != order(wide)
