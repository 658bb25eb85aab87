"""Lesions are painted where and what the facts say, inside their hosts, on every center's grid."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from drmc.simulation.anatomy import WholeBody
from drmc.simulation.centers import CENTERS
from drmc.simulation.lesion_draws import HOSTS, ClinicalLesions, ManyLesions
from drmc.simulation.lesions import CLUSTERED, KINDS, Lesion, LesionPlacer
from drmc.simulation.organs import ORGANS, organ_mask
from drmc.simulation.shapes import Canvas
from drmc.simulation.tracers import TRACERS
from support.engine.synthetic_patients import SEEDS, WOMAN, centroid, close_up, patient, scan

GRIDS = sorted({center.voxel_mm for center in CENTERS.values() if center.region == "wholebody"})


def lesions_of(seed: int) -> list[tuple[int, Lesion]]:
    return list(enumerate(patient(seed).lesions))


def share_of(lesion: Lesion, grid: tuple) -> torch.Tensor:
    """The lesion's own shape on a grid, not clipped to its host."""
    canvas = Canvas(*grid)
    box, share = canvas.coverage(lesion.body())
    whole = torch.zeros(grid[0])
    whole[box] = share
    return whole


# ---- in the patients


@pytest.mark.parametrize("seed", SEEDS)
def test_every_listed_lesion_is_painted_and_nothing_else(seed):
    lesions = patient(seed).lesions
    assert [lesion.label for lesion in lesions] == list(range(1, len(lesions) + 1))
    assert 1 <= len({lesion.site for lesion in lesions}) <= 8
    assert set(scan(seed).lesions.unique().tolist()) <= {0, *(lesion.label for lesion in lesions)}
    assert scan(seed).facts["lesions"] == [lesion.to_dict() for lesion in lesions]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spacing", GRIDS)
def test_every_lesion_has_a_voxel_on_every_centers_grid(seed, spacing):
    for number, lesion in lesions_of(seed):
        phantom, _ = close_up(seed, number, spacing)
        assert bool((phantom.lesions == lesion.label).any()), f"lesion {lesion.label} in {lesion.host}"


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_lie_inside_their_host(seed):
    for number, lesion in lesions_of(seed):
        phantom, grid = close_up(seed, number)
        host = organ_mask(phantom.organs, *HOSTS[lesion.host])
        assert bool(host[phantom.lesions == lesion.label].all()), lesion
        share = share_of(lesion, grid)  # at least 80 % of the shape as it was drawn, too
        assert float((share * host).sum() / share.sum()) > 0.8, lesion


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_are_what_the_facts_say(seed):
    for number, lesion in lesions_of(seed):
        phantom, (_, spacing, origin) = close_up(seed, number)
        painted = phantom.lesions == lesion.label
        milliliters = float(painted.sum()) * 8 / 1000
        ball = math.pi / 6 * lesion.diameter_mm**3 / 1000
        assert ClinicalLesions.smallest_mm - 0.5 < lesion.diameter_mm < 1.15 * 60.0
        assert 0.75 * ball < lesion.volume_ml < 1.15 * ball
        if milliliters > 0.3:
            assert milliliters == pytest.approx(lesion.volume_ml, rel=0.2)
            assert (
                math.dist(reversed(centroid(painted, spacing, origin)), lesion.center_mm)
                < 0.2 * lesion.diameter_mm
            )
            assert float(phantom.activity[painted].mean()) == pytest.approx(lesion.suv_mean, rel=0.1)
        if not lesion.necrotic:
            assert lesion.suv_mean == pytest.approx(lesion.suv, rel=0.25)
            assert lesion.suv_max == pytest.approx(lesion.suv, rel=0.6)
        background = patient(seed).uptake[
            "muscle" if lesion.host in ("nodal", "soft_tissue") else lesion.host
        ]
        assert 1.45 * background < lesion.suv <= max(25.0, 1.5 * background + 0.5) * 1.001


def test_lesion_centers_are_the_same_on_a_coarser_grid():
    for number, lesion in lesions_of(WOMAN):
        middles = []
        for spacing in (2.0, 3.0):
            phantom, (_, steps, origin) = close_up(WOMAN, number, spacing)
            middles.append(centroid(phantom.lesions == lesion.label, steps, origin))
        assert math.dist(*middles) < 2.0, f"lesion {lesion.label} in {lesion.host}"


# ---- as a population, in a body that is one large block of the host


@cache
def population() -> list[list[Lesion]]:
    """Lesions of 60 patients whose body is half lung, half fat."""

    def block(shape, spacing, origin) -> Canvas:
        canvas = Canvas(shape, spacing, origin)
        canvas.label.fill_(ORGANS["fat"].label)
        canvas.label[:, :, canvas.x < 0] = ORGANS["lung"].label
        return canvas

    def look(center, half_mm) -> Canvas:
        n = 2 * math.ceil(half_mm / 1.5) + 1
        return block(
            (n,) * 3, (1.5,) * 3, tuple(float(c) - (n - 1) / 2 * 1.5 for c in reversed(list(center)))
        )

    whole = block((40, 40, 80), (10.0,) * 3, (0.0, -195.0, -395.0))
    uptake = {organ: table.suv for organ, table in TRACERS["FDG"].uptake.items()}
    draws = ClinicalLesions(TRACERS["FDG"].lesions, 8)
    at = lambda x, y, z: [abs(x) + 80.0, y, 0.5 * z]
    return [
        LesionPlacer(np.random.default_rng(seed), whole, look, at, uptake, draws).place()
        for seed in range(60)
    ]


def test_all_kinds_and_clusters_are_found():
    lesions = [lesion for patient_lesions in population() for lesion in patient_lesions]
    assert {lesion.kind for lesion in lesions} == KINDS.keys()
    assert min(lesion.diameter_mm for lesion in lesions) > 5.5
    assert 30 < max(lesion.diameter_mm for lesion in lesions) < 70
    for lesion in lesions:
        assert lesion.necrotic == (lesion.kind == "necrotic")
        assert len(lesion.lobes) in {"lobulated": (2, 3, 4)}.get(lesion.kind, (1,))
        assert bool(lesion.spikes) == (lesion.kind == "spiculated")
        assert lesion.host in ("lung", "nodal", "soft_tissue")
        assert lesion.kind != "spiculated" or lesion.host != "nodal"
    sizes = [
        (site[0].host, len(site))
        for patient_lesions in population()
        for number in {lesion.site for lesion in patient_lesions}
        for site in [[lesion for lesion in patient_lesions if lesion.site == number]]
    ]
    clusters = [size for _, size in sizes if size > 1]
    assert clusters and max(clusters) <= 5
    assert all(host in CLUSTERED for host, size in sizes if size > 1)
    assert max(len({lesion.site for lesion in one}) for one in population()) <= 8
    assert min(len(one) for one in population()) >= 1


def test_lesions_keep_apart():
    for lesions in population():
        for i, one in enumerate(lesions):
            for other in lesions[:i]:
                assert math.dist(one.center_mm, other.center_mm) >= one.reach_mm() + other.reach_mm()


def test_a_lesion_has_about_the_volume_of_its_diameter_whatever_its_kind():
    for lesion in (lesion for lesions in population()[:20] for lesion in lesions):
        n = 2 * math.ceil((lesion.reach_mm() + 2) / 1.0) + 1
        grid = (n,) * 3, (1.0,) * 3, tuple(float(c) - (n - 1) / 2 for c in reversed(lesion.center_mm))
        volume = float(share_of(lesion, grid).sum())
        assert (6 * volume / math.pi) ** (1 / 3) == pytest.approx(lesion.diameter_mm, rel=0.05)


def test_no_sites_no_lesions():
    draws = ClinicalLesions(TRACERS["FDG"].lesions, 0)
    assert LesionPlacer(np.random.default_rng(0), None, None, None, {}, draws).place() == []


# ---- many of every kind


@cache
def crowded() -> tuple[WholeBody, tuple[float, float]]:
    body = WholeBody(WOMAN, max_lesions=0)
    window = body.diaphragm_mm - 110, body.diaphragm_mm + 40
    body.draw_many_lesions(*window)
    return body, window


def test_many_lesions_fill_a_window_and_nothing_beyond_it():
    body, (lower, upper) = crowded()
    assert 10 <= len(body.lesions) <= 255
    for lesion in body.lesions:
        assert lower <= lesion.center_mm[2] - lesion.reach_mm()
        assert lesion.center_mm[2] + lesion.reach_mm() <= upper
    assert len({lesion.host for lesion in body.lesions}) >= 4
    assert [lesion.label for lesion in body.lesions] == list(range(1, len(body.lesions) + 1))


def test_many_lesions_do_not_change_the_body_and_follow_from_the_seed():
    body, (lower, upper) = crowded()
    again = WholeBody(WOMAN, max_lesions=0)
    grid = (20, 40, 50), (6.0,) * 3, (lower + 20, -120.0, -150.0)
    bare = again.rasterize(*grid)
    again.draw_many_lesions(lower, upper)
    assert [lesion.to_dict() for lesion in again.lesions] == [lesion.to_dict() for lesion in body.lesions]
    full = body.rasterize(*grid)
    assert torch.equal(full.organs, bare.organs)
    outside = full.activity == bare.activity
    assert bool((full.lesions > 0).any()) and bool(outside[full.lesions == 0].float().mean() > 0.9)
    assert (full.facts["lesions_drawn"], bare.facts["lesions_drawn"]) == ("many", "clinical")


def test_many_lesions_have_every_size_and_contrast_in_every_host():
    rng, draws = np.random.default_rng(5), ManyLesions(150.0)
    uptake = {organ: table.suv for organ, table in TRACERS["FDG"].uptake.items()}
    sizes = np.array([draws.diameter_mm(rng) for _ in range(4000)])
    assert sizes.min() == 4 and sizes.max() == 40 and 9.5 < np.median(sizes) < 12.5
    contrasts = np.array([draws.suv(rng, "liver", uptake) for _ in range(4000)]) / uptake["liver"]
    assert 1.3 <= contrasts.min() < 1.35 and 28 < contrasts.max() <= 30.001
    assert 0.2 < np.mean(contrasts < 2.0) < 0.3  # log-uniform: ln(1 / 0.3) / ln(29 / 0.3)
    assert draws.hosts(lambda name: 0.0 if name == "brain" else 8.0) == pytest.approx(
        {name: 2.0 for name in HOSTS if name != "brain"}
    )
    assert 12 <= min(draws.sites(rng) for _ in range(500)) and max(draws.sites(rng) for _ in range(500)) <= 36
