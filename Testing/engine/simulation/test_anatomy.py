"""A seed is one patient on every voxel grid: its organs, their sizes, sides and uptake, and its variants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drmc.errors import InputError
from drmc.simulation.anatomy import Head, WholeBody
from drmc.simulation.drawing import Drawing
from drmc.simulation.habitus import Habitus
from drmc.simulation.organs import (
    LEFT,
    MU_PER_MM,
    ORGANS,
    label_table,
    organ_label,
    organ_labels,
    organ_mask,
)
from drmc.simulation.shapes import Canvas
from drmc.simulation.tracers import BLOOD, TRACERS, draw_uptake, find_tracer
from drmc.simulation.variants import VARIANTS, draw_variants, paint_variants
from support.engine.synthetic_patients import (
    GRID,
    MAN,
    OTHER_WOMAN,
    SEEDS,
    WOMAN,
    centroid,
    cube,
    dice,
    grid_of,
    organ_name,
    patient,
    resampled,
    scan,
)

OTHER_GRID = (9.0, 6.0, 6.5)
TINY = ("pituitary", "lacrimal", "adrenal", "thymus", "brown_fat")  # may fall between voxels of 7 mm


NOT_IN_ALL = {"ureter", "fluid", "metal", "gallbladder", "spleen"}  # a bolus, and findings


def mask(phantom, organ: str) -> torch.Tensor:
    return organ_mask(phantom.organs, organ)


# ---- one patient on every grid


def test_a_seed_is_the_same_patient_on_two_grids():
    body = patient(MAN)
    again = WholeBody(np.random.SeedSequence(MAN))
    grid, other = grid_of(body, GRID), grid_of(again, OTHER_GRID)
    first, second = scan(MAN), again.rasterize(*other)
    assert first.facts == second.facts
    assert body.lesions == again.lesions and body.diaphragm_mm == again.diaphragm_mm
    labels = resampled(second, other, grid)
    inside = (first.organs > 0) | (labels > 0)
    assert float((labels == first.organs)[inside].float().mean()) > 0.8
    for organ in ("lung", "liver", "muscle", "fat", "bladder", "spleen", "colon", "white_matter"):
        assert dice(organ_mask(labels, organ), mask(first, organ)) > 0.75, organ
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
    assert dice(organ_mask(labels, "liver"), mask(scan(WOMAN), "liver")) < 0.93
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


# ---- labels and sides


def test_labels_are_unique_and_named():
    labels = organ_labels(*ORGANS)
    assert len(labels) == len(set(labels)) and 0 < min(labels) and max(labels) < 256
    assert organ_label("lung", 1) == 103 and organ_label("lung", -1) == 3 == organ_label("lung")
    assert organ_label("liver", 1) == organ_label("liver") == 7
    volume = torch.tensor([0, 3, 103, 7, 2], dtype=torch.uint8)
    assert organ_mask(volume, "lung").tolist() == [False, True, True, False, False]
    assert organ_mask(volume, "lung", "liver").tolist() == [False, True, True, True, False]
    assert label_table("background", "lung")[volume.int()].tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_left_one_of_a_pair_lies_on_the_patients_left(seed):
    phantom, (_, spacing, origin) = scan(seed), grid_of(patient(seed), GRID)
    pairs = [name for name, organ in ORGANS.items() if organ.paired and name not in TINY]
    found = 0
    for name in pairs:
        if name == "breast" and not patient(seed).female:
            continue
        left = phantom.organs == ORGANS[name].label + LEFT
        right = phantom.organs == ORGANS[name].label
        assert left.any() and right.any(), name
        # LPS: the patient's right is negative x; the middle of the body may bend to either side
        assert centroid(left, spacing, origin)[2] > centroid(right, spacing, origin)[2] + 9, name
        found += 1
    assert found >= 10


# ---- the whole body


@pytest.mark.parametrize("seed", SEEDS)
def test_every_organ_is_there_but_those_of_the_other_sex(seed):
    names = {organ_name(label).removesuffix("_left") for label in scan(seed).organs.unique().tolist()}
    expected = ORGANS.keys() - set(TINY) - NOT_IN_ALL - (set() if patient(seed).female else {"breast"})
    assert expected <= names
    assert ("brown_fat" in names) == ("brown_fat" in patient(seed).variants)


def test_small_organs_are_there_on_a_scanners_grid():
    body = patient(MAN)
    hz, size = 858 * body.habitus.sz, body.habitus
    places = {"pituitary": (0, -16, hz - 36), "lacrimal": (43, -80, hz - 18), "adrenal": size.at(34, 38, 378)}
    for organ, center in {**places, "thymus": size.at(9, -60, 585)}.items():
        phantom = body.rasterize(*cube(center, 30.0, 2.0))
        ml = float(mask(phantom, organ).sum()) * 8 / 1000
        assert {"pituitary": 0.2, "lacrimal": 0.2, "adrenal": 1.0, "thymus": 2.0}[organ] < ml < 25, organ


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_suv_of_the_scan_range_is_that_of_a_patient(seed):
    """The share of the injected activity in the scan: what was voided or lies in the legs is missing."""
    share = float(scan(seed).activity.sum()) * math.prod(GRID) / 1e6 / patient(seed).weight_kg
    assert 0.85 < share < 1.05


@pytest.mark.parametrize("seed", SEEDS)
def test_the_spine_stays_below_the_skin(seed):
    body, step = patient(seed), 3.0
    shape = (int(600 * body.habitus.sz / step), 60, 31)
    near = body.rasterize(shape, (step,) * 3, (120.0 * body.habitus.sz, -10.0, -15 * step))
    bone = organ_mask(near.organs, "vertebra", "cortical_bone", "spinal_cord")
    outside = (near.organs == 0).float()[None, None]
    by_air = torch.nn.functional.max_pool3d(outside, 3, 1, 1)[0, 0] > 0
    assert int(bone.sum()) > 3000
    assert int((bone & by_air).sum()) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_patients_uptake_and_their_tissues_attenuation(seed):
    phantom, uptake = scan(seed), patient(seed).uptake
    healthy = phantom.lesions == 0
    for organ in ("liver", "spleen", "muscle", "fat", "lung", "bladder", "white_matter"):
        if organ == "muscle" and any(name.startswith("muscle_group") for name in patient(seed).variants):
            continue
        # voxels whose neighbors are of the same organ: neither edges nor lesions
        chosen = mask(phantom, organ) & healthy
        for axis in range(3):
            chosen &= chosen.roll(1, axis) & chosen.roll(-1, axis)
        assert chosen.sum() > 5, organ
        within = 0.2 if organ == "lung" else 0.12  # its vessels and coarse texture
        assert float(phantom.activity[chosen].median()) == pytest.approx(uptake[organ], rel=within), organ
        assert float(phantom.mu[chosen].median()) == pytest.approx(
            MU_PER_MM[ORGANS[organ].tissue], rel=0.02
        ), organ
    assert float(phantom.activity.min()) >= 0
    densest = "metal" if "hip_prosthesis" in patient(seed).habitus.findings else "bone"
    assert 0 <= float(phantom.mu.min()) and float(phantom.mu.max()) <= MU_PER_MM[densest] * 1.0001


@pytest.mark.parametrize("seed", SEEDS)
def test_sizes_and_sides_are_human(seed):
    phantom, (_, spacing, origin) = scan(seed), grid_of(patient(seed), GRID)
    liters = lambda organ: float(mask(phantom, organ).sum()) * math.prod(spacing) / 1e6
    ranges = {
        "liver": (1.1, 2.1),
        "spleen": (0.09, 0.33),
        "lung": (1.2, 5.0),
        "kidney_cortex": (0.12, 0.45),
        "bladder": (0.02, 0.7),
        "pancreas": (0.03, 0.2),
        "skin": (1.0, 5.0),
    }
    for organ, (least, most) in ranges.items():
        assert least < liters(organ) < most, organ
    heart = liters("heart") + liters("myocardium")
    assert 0.3 < heart < 1.3
    brain = sum(map(liters, ("gray_matter", "white_matter", "deep_gray", "cerebellum", "brainstem")))
    assert 0.8 < brain < 1.6
    center = lambda organ: centroid(mask(phantom, organ), spacing, origin)
    assert center("liver")[2] < -20 < 20 < center("spleen")[2]
    assert center("heart")[2] > 0 and center("myocardium")[2] > center("heart")[2]  # the apex points left
    upwards = ("femur_marrow", "bladder", "liver", "myocardium", "thyroid", "cerebellum")
    heights = [center(organ)[0] for organ in upwards]
    assert heights == sorted(heights)
    assert center("sternum")[1] < 0 < center("vertebra")[1]  # posterior is positive y


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gallbladder_is_not_painted_over(seed):
    phantom, (_, spacing, origin) = scan(seed), grid_of(patient(seed), GRID)
    middle = centroid(mask(phantom, "gallbladder"), spacing, origin)
    fine = patient(seed).rasterize(*cube(reversed(middle), 50.0, 3.0))
    assert 10 < float(mask(fine, "gallbladder").sum()) * 27 / 1000 < 130


@pytest.mark.parametrize("seed", SEEDS)
def test_the_diaphragm_is_a_dome(seed):
    body, phantom = patient(seed), scan(seed)
    (nz, _, _), spacing, origin = grid_of(body, GRID)
    height = origin[0] + torch.arange(nz) * spacing[0]
    of = lambda organ: height[mask(phantom, organ).any(2).any(1)]
    assert float(of("liver").max()) == pytest.approx(body.diaphragm_mm, abs=9)
    # lung lies in the recess beside the dome as well as above it
    assert (
        float(of("lung").min()) < body.diaphragm_mm - 40 < body.diaphragm_mm + 100 < float(of("lung").max())
    )


def test_vessels_make_lung_and_liver_uneven():
    body = patient(MAN)
    for organ, center in (("lung", (80, 10, 540)), ("liver", (-60, 0, 355))):
        shape, spacing, origin = cube(body.deformation.world(body.habitus.at(*center)), 45.0, 2.0)
        canvas = Canvas(shape, spacing, origin, body.deformation)
        body.drawing.paint(canvas, body.uptake)  # without texture
        values = canvas.activity[organ_mask(canvas.label, organ)]
        blood = (values - body.uptake["blood_pool"]).abs() < 0.02
        plain = (values - body.uptake[organ]).abs() < 0.02
        assert 0.003 < float(blood.float().mean()) < 0.25, organ
        assert float(plain.float().mean()) > 0.5, organ


def test_sexes_and_habitus_are_those_of_a_population():
    bodies = [Habitus(*np.random.default_rng(seed).spawn(2)) for seed in range(300)]
    assert 0.4 < np.mean([b.female for b in bodies]) < 0.6
    assert 0.3 < np.mean([b.arms_up for b in bodies]) < 0.5
    assert np.median([b.bmi for b in bodies]) == pytest.approx(24, abs=1.0)
    assert len({round(b.weight_kg, 6) for b in bodies}) == 300
    assert not any(Habitus(*np.random.default_rng(s).spawn(2), men_only=True).female for s in range(20))


# ---- tracers and variants


def test_an_unknown_tracer_is_refused_with_the_known_names():
    for make in (lambda: WholeBody(1, tracer="F18"), lambda: Head(1, tracer="F18")):
        with pytest.raises(
            InputError, match="unknown tracer 'F18': choose from FDG, PSMA-11, DOTATATE, FAPI"
        ):
            make()


@pytest.mark.parametrize("name", TRACERS)
def test_a_tracer_has_an_uptake_for_every_organ(name):
    tracer = find_tracer(name)
    draws = [draw_uptake(np.random.default_rng(seed), tracer) for seed in range(200)]
    assert all(draw.keys() == ORGANS.keys() for draw in draws)
    for organ in ORGANS:
        values = np.array([draw[organ] for draw in draws])
        low, high = tracer.uptake[organ].limits
        assert values.min() >= max(0, low) and values.max() <= high
        assert np.median(values) == pytest.approx(tracer.uptake[organ].suv, rel=0.2, abs=1e-9), organ
    assert all(draw[organ] == draw["blood_pool"] for draw in draws for organ in BLOOD)
    assert {uptake.source for uptake in tracer.uptake.values()} == {"read", "assumed"}
    assert sum(tracer.lesions.hosts.values()) == pytest.approx(1)


def test_tracers_show_what_they_are_known_for():
    hottest = lambda name: max(TRACERS[name].uptake, key=lambda organ: TRACERS[name].uptake[organ].suv)
    assert hottest("PSMA-11") == "kidney_cortex"
    suv = lambda name, organ: TRACERS[name].uptake[organ].suv
    assert suv("DOTATATE", "spleen") > suv("DOTATATE", "kidney_cortex") > suv("DOTATATE", "liver")
    assert all(
        suv(name, "gray_matter") < 0.05 * suv("FDG", "gray_matter") for name in TRACERS if name != "FDG"
    )


def test_a_tracer_shows_in_the_body():
    body = WholeBody(MAN, max_lesions=0, tracer="PSMA-11")
    assert body.lesions == [] and not body.female
    phantom = body.rasterize(*cube(body.habitus.at(-62, 46, 310), 40.0, 4.0))
    kidney = phantom.activity[mask(phantom, "kidney_cortex")].median()
    assert float(kidney) == pytest.approx(body.uptake["kidney_cortex"], rel=0.2)
    assert phantom.facts["tracer"] == "PSMA-11" and phantom.facts["lesions"] == []
    assert float(kidney) > 4 * float(phantom.activity[mask(phantom, "liver")].median())


def test_variants_are_drawn_at_their_rates_and_change_the_uptake():
    plain = {organ: uptake.suv for organ, uptake in TRACERS["FDG"].uptake.items()}
    counts = dict.fromkeys(VARIANTS, 0)
    for seed in range(2000):
        uptake = dict(plain)
        names = draw_variants(np.random.default_rng(seed), uptake, "FDG")
        for name in names:
            counts[name] += 1
        changed = {organ for organ in plain if uptake[organ] != plain[organ]}
        assert ("colon" in changed) == ("metformin_bowel" in names)
        assert ("muscle" in changed) == ("muscle_all" in names)
        assert ("thyroid" in changed) == ("thyroid" in names)
        assert ("vertebra" in changed) == ("marrow" in names)
        other = dict(plain)
        assert draw_variants(np.random.default_rng(seed), other, "FAPI") == [] and other == plain
    for name, share in VARIANTS.items():
        assert counts[name] / 2000 == pytest.approx(share, abs=0.025), name
    hot = {**plain, "bladder": 40.0, "myocardium": 9.0}
    assert {"hot_bladder", "avid_myocardium"} <= set(draw_variants(np.random.default_rng(0), hot, "FDG"))


def test_brown_fat_and_a_muscle_group_are_painted_in_their_tissue():
    build = Habitus(*np.random.default_rng(3).spawn(2))
    canvas = Canvas((70, 40, 60), (6.0, 6.0, 6.0), (420.0, -117.0, -177.0))
    canvas.label.fill_(ORGANS["muscle"].label)
    canvas.label[:, :, :10] = ORGANS["lung"].label
    drawing = Drawing()
    names = paint_variants(drawing, build, ["brown_fat", "muscle_group"])
    assert names[0] == "brown_fat" and names[1].startswith("muscle_group:")
    uptake = {organ: table.suv for organ, table in TRACERS["FDG"].uptake.items()}
    drawing.paint(canvas, uptake)
    brown = organ_mask(canvas.label, "brown_fat")
    assert 10 < float(brown.sum()) * 0.216 < 200
    assert float(canvas.activity[brown].median()) > 0.5 * uptake["brown_fat"]
    assert float(canvas.activity[:, :, :10].max()) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_facts_say_who_the_patient_is(seed):
    body, facts = patient(seed), scan(seed).facts
    assert facts["sex"] == ("F" if body.female else "M") and facts["tracer"] == "FDG"
    assert facts["variants"] == body.variants and facts["diaphragm_mm"] == body.diaphragm_mm
    assert [lesion["label"] for lesion in facts["lesions"]] == [lesion.label for lesion in body.lesions]
