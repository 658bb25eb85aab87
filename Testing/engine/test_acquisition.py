"""Counts: that noise is Poisson, low dose a subset of full dose, and every stated fraction is realized."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drmc.simulation.acquisition import expected_prompts, expected_scatter, sample_prompts, thin_prompts
from drmc.simulation.centers import CENTERS, Center, axial_profile, find_center
from drmc.simulation.projector import GaussianPSF, Projector
from drmc.simulation.reconstruction import AcquisitionModel, reconstruct

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")

TINY = replace(
    CENTERS["C1"],
    voxel_mm=(6.0, 8.0, 8.0),
    matrix=40,
    reconstruction_matrix=40,
    system_psf_mm=(8.0, 8.0, 8.0),
    modelled_psf_mm=8.0,
    views=40,
    subsets=4,
    post_filter_mm=8.0,
)
SLICES = 20


def scanner_error(deviations: float = 0.0) -> SimpleNamespace:
    """A generator whose scanner misjudges its scatter by so many standard deviations of 4 %."""
    return SimpleNamespace(normal=lambda: deviations)


def radius_mm(center: Center, at=(0.0, 0.0)) -> torch.Tensor:
    """Distance (y, x) from `at` (x, y) in mm."""
    n = center.reconstruction_matrix
    position = (torch.arange(n) - (n - 1) / 2) * center.voxel_mm[2]
    return ((position[:, None] - at[1]) ** 2 + (position[None] - at[0]) ** 2).sqrt()


def cylinder(center: Center = TINY, *, insert_suv: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Water of SUV 1, radius 112 mm, with an insert of radius 36 mm; activity and mu (z, y, x)."""
    body = (radius_mm(center) < 112).float()
    insert = (radius_mm(center, (44.0, 28.0)) < 36).float()
    activity = body + (insert_suv - 1) * insert
    return (volume[None].repeat(SLICES, 1, 1) for volume in (activity, body * 0.0096))


def scan(activity, mu, center: Center = TINY, rng=None, z_start_mm: float = 0.0):
    return expected_prompts(
        activity, mu, center, weight_kg=70.0, z_start_mm=z_start_mm, rng=rng or scanner_error()
    )


def sinogram(parts: list[torch.Tensor], center: Center = TINY) -> torch.Tensor:
    """Per subset (rows, z) -> (views, bins, z)."""
    whole = torch.empty(center.views, center.reconstruction_matrix, parts[0].shape[-1])
    for s, part in enumerate(parts):
        whole[s :: center.subsets] = part.view(-1, *whole.shape[1:])
    return whole


# ---- noise


def within(values: torch.Tensor, expected: float, errors: float = 4.5) -> bool:
    """Whether the mean of independent values lies within so many standard errors of the expected one."""
    values = values.double()
    return abs(float(values.mean()) - expected) < errors * float(values.std()) / math.sqrt(values.numel())


@pytest.mark.parametrize("expected", [0.4, 30.0])
@pytest.mark.parametrize("factor", [3.0, 12.0])
def test_thinning_leaves_poisson_counts_that_are_a_subset_of_the_full_dose(expected, factor):
    generator = torch.Generator().manual_seed(int(factor))
    full = sample_prompts(torch.full((300_000,), expected), generator)
    low = thin_prompts(full, factor, generator)
    assert bool((low <= full).all() and (low >= 0).all() and (low == low.round()).all())
    rest = full - low
    for counts, mean in ((full, expected), (low, expected / factor), (rest, expected * (1 - 1 / factor))):
        assert within(counts, mean)
        assert within((counts.double() - mean) ** 2, mean)  # variance = mean
    deviation = (full.double() - expected) * (low.double() - expected / factor)
    assert within(deviation, expected / factor)  # covariance with the full dose = variance of the low dose
    independent = (rest.double() - expected * (1 - 1 / factor)) * (low.double() - expected / factor)
    assert within(independent, 0.0)


def test_thinning_by_one_keeps_every_event_and_less_is_refused():
    full = sample_prompts(torch.full((1000,), 5.0), torch.Generator().manual_seed(1))
    assert torch.equal(thin_prompts(full, 1.0), full)
    with pytest.raises(ValueError, match="at least 1"):
        thin_prompts(full, 0.5)


def test_draws_follow_from_the_generator():
    expected = torch.full((1000,), 5.0)

    def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        full = sample_prompts(expected, generator)
        return full, thin_prompts(full, 4.0, generator)

    assert all(torch.equal(a, b) for a, b in zip(draw(1), draw(1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(draw(1), draw(2), strict=True))


@pytest.fixture(scope="module")
def doses():
    """A cylinder with an insert of SUV 4: noise-free, and at dose reduction factors 1, 2, 4, 8, 16."""
    center = replace(TINY, count_multiplier=1.5, modelled_psf_mm=6.0)
    activity, mu = cylinder(center, insert_suv=4.0)
    expected = scan(activity, mu, center)
    generator = torch.Generator().manual_seed(3)
    full = [sample_prompts(p, generator) for p in expected.prompts]
    factors = (1.0, 2.0, 4.0, 8.0, 16.0)
    sides = [
        [expected.prompts[s], *(thin_prompts(full[s], f, generator) * f for f in factors)] for s in range(4)
    ]
    stacked = [torch.stack(side, 1) for side in sides]
    post_filter = GaussianPSF(center.post_filter_mm, center.voxel_mm)
    images = reconstruct(expected.model, stacked, 8, post_filter)
    return SimpleNamespace(truth=activity, exact=images[0], images=images[1:], factors=factors)


def test_variation_follows_the_square_root_of_the_dose_reduction_factor(doses):
    region = (radius_mm(TINY) < 90) & (radius_mm(TINY, (44.0, 28.0)) > 56)
    noise = (doses.images - doses.exact)[:, 3:-3][:, :, region]
    variation = noise.std((1, 2)) / doses.exact[3:-3][:, region].mean()
    slope = np.polyfit(np.log(doses.factors), np.log(variation.numpy()), 1)[0]
    assert 0.01 < float(variation[0]) < 0.15  # the linear range that the slope is a statement about
    assert slope == pytest.approx(0.5, abs=0.05)


def test_organ_means_are_unbiased_at_every_dose(doses):
    regions = {
        "insert": radius_mm(TINY, (44.0, 28.0)) < 20,
        "background": radius_mm(TINY, (-40.0, -20.0)) < 50,
    }
    for name, region in regions.items():
        mean = lambda images, region=region: images[..., 3:-3, :, :][..., region].mean((-2, -1))
        exact, truth = float(mean(doses.exact)), float(mean(doses.truth))
        assert exact == pytest.approx(truth, rel=0.03), name
        assert mean(doses.images).tolist() == pytest.approx([exact] * 5, rel=0.03), name


# ---- corrections


def test_a_cylinder_reconstructs_to_its_suv_and_too_much_scatter_lowers_its_center():
    center = replace(TINY, post_filter_mm=0.0)
    activity, mu = cylinder(center)
    middle = radius_mm(center) < 40
    means = {}
    for name, deviations in (("exact", 0.0), ("too much", 2.5)):
        expected = scan(activity, mu, center, scanner_error(deviations))
        image = reconstruct(expected.model, [p[:, None] for p in expected.prompts], 6)[0]
        means[name] = float(image[3:-3][:, middle].mean())
    assert means["exact"] == pytest.approx(1.0, abs=0.02)
    assert means["too much"] < means["exact"] - 0.02


def test_attenuation_of_the_central_ray_is_that_of_water():
    activity, mu = cylinder()
    model = scan(activity, mu, replace(TINY, bed_step_mm=0.0)).model
    center = sinogram(model.multiplicative)[:, 19:21, 10] / sinogram(model.multiplicative)[:, :1, 10]
    assert float(center.mean()) == pytest.approx(math.exp(-0.0096 * 2 * 112), rel=0.03)


def test_scatter_and_randoms_fractions_are_realized():
    center = replace(TINY, scatter_fraction=0.31, randoms_fraction=0.27)
    activity, mu = cylinder(insert_suv=3.0)
    expected = scan(activity, mu, center)
    trues, scatter, randoms = (expected.counts[k] for k in ("trues", "scatter", "randoms"))
    assert scatter / (trues + scatter) == pytest.approx(0.31, rel=1e-4)
    assert randoms / (trues + scatter + randoms) == pytest.approx(0.27, rel=1e-4)
    prompts = sum(float(p.sum(dtype=torch.float64)) for p in expected.prompts)
    assert prompts == pytest.approx(trues + scatter + randoms, rel=1e-4)
    additive = sum(float(a.sum(dtype=torch.float64)) for a in expected.model.additive)
    assert additive == pytest.approx(scatter + randoms, rel=1e-4)


def test_trues_are_decays_times_sensitivity_and_time():
    center = replace(
        TINY,
        bed_step_mm=0.0,
        count_multiplier=1.0,
        injected_mbq=200.0,
        seconds=90.0,
        sensitivity=0.05,
        uptake_minutes=109.77,
    )
    activity, mu = cylinder(center, insert_suv=3.0)
    trues = scan(activity, 0 * mu, center).counts["trues"]
    bq_per_ml = 100e6 / 70_000  # one half-life after injection, 70 kg
    decays = float(activity.sum()) * bq_per_ml * (6 * 8 * 8 / 1000) * 90
    # the resolution model loses some activity beyond the end slices
    assert trues == pytest.approx(decays * 0.05, rel=0.05)
    inner = replace(center, system_psf_mm=(0.0, 8.0, 8.0))
    assert scan(activity, 0 * mu, inner).counts["trues"] == pytest.approx(decays * 0.05, rel=2e-3)
    assert scan(2 * activity, 0 * mu, replace(inner, count_multiplier=0.5)).counts["trues"] == pytest.approx(
        decays * 0.05, rel=2e-3
    )


def test_counts_per_suv_of_the_first_center_are_those_of_the_reference():
    assert CENTERS["C1"].counts_per_suv_mm(70.0) == pytest.approx(0.478, abs=0.001)


def test_scanners_misjudge_their_scatter_independently():
    center = replace(TINY, reconstruction_matrix=12, matrix=12, voxel_mm=(6.0, 24.0, 24.0), views=8)
    body = (radius_mm(center) < 112).float()[None].repeat(2, 1, 1)
    shared = scan(body, 0 * body, center)
    randoms = shared.counts["randoms"]

    def believed(seed: int) -> float:
        additive = scan(body, 0 * body, center, np.random.default_rng(seed)).model.additive
        return (sum(float(a.sum()) for a in additive) - randoms) / shared.counts["scatter"]

    errors = np.array([believed(seed) for seed in range(120)]) - 1
    assert believed(0) == believed(0)
    assert len(np.unique(errors.round(6))) == 120
    assert abs(errors.mean()) < 4 * 0.04 / math.sqrt(120)
    assert errors.std() == pytest.approx(0.04, rel=0.3)


def test_scatter_turns_with_the_activity():
    """Past 180 degrees a view goes on with mirrored bins: a turned patient scatters the turned pattern."""
    views, n = 24, 32
    center = replace(TINY, views=views, subsets=1, reconstruction_matrix=n)
    projector = Projector(n, 8.0, views)
    position = (torch.arange(n) - (n - 1) / 2) * 8.0
    blob = ((position[:, None] - 40) ** 2 + (position[None] + 70) ** 2 < 30**2).float()

    def scatter(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        trues = projector.forward(image.contiguous().view(-1, 1), 0).view(views, n, 1).repeat(1, 1, 4)
        return trues, expected_scatter(trues, center)

    for before, half in zip(scatter(blob), scatter(blob.flip(0, 1)), strict=True):
        assert torch.allclose(half, before.flip(1), rtol=1e-4, atol=1e-4 * float(before.max()))
    for before, quarter in zip(scatter(blob), scatter(torch.rot90(blob, -1)), strict=True):
        turned = torch.cat([before[views // 2 :].flip(1), before[: views // 2]])
        assert torch.allclose(quarter, turned, rtol=1e-4, atol=1e-4 * float(before.max()))
    trues, smooth = scatter(blob)
    assert float(smooth.max() / smooth.mean()) < 0.5 * float(trues.max() / trues.mean())


# ---- beds


def test_the_axial_profile_is_periodic_with_mean_one_and_falls_between_beds():
    center = CENTERS["C1"]
    step = center.bed_step_mm
    z = (torch.arange(1350, dtype=torch.float64) + 0.5) * step / 1350
    profile = axial_profile(center, z)
    assert float(profile.mean()) == pytest.approx(1, abs=1e-3)
    for shift in (-2 * step, step, 7 * step):
        assert torch.allclose(axial_profile(center, z + shift), profile, atol=1e-6)
    # beds of 218 mm every 135 mm: two triangles overlap midway, one peaks alone at a bed's center
    middle, between = axial_profile(center, torch.tensor([0.0, step / 2], dtype=torch.float64)).tolist()
    assert between / middle == pytest.approx(2 * (1 - 67.5 / 109), rel=1e-3)
    assert float(profile.min()) > 0.5
    single = axial_profile(CENTERS["C3"], z)
    assert torch.equal(single, torch.ones_like(z))


def test_a_slab_gets_the_beds_of_the_patient_not_its_own():
    activity, mu = cylinder()
    whole, first = scan(activity, mu, z_start_mm=-40.0), 7
    slab = scan(activity[first:], mu[first:], z_start_mm=-40.0 + first * TINY.voxel_mm[0])
    for mine, theirs in zip(slab.model.multiplicative, whole.model.multiplicative, strict=True):
        assert torch.allclose(mine, theirs[:, first:], rtol=1e-4)
    elsewhere = scan(activity[first:], mu[first:], z_start_mm=-40.0)
    assert not torch.allclose(
        elsewhere.model.multiplicative[0], whole.model.multiplicative[0][:, first:], rtol=0.02
    )


def test_nature_and_reconstruction_agree_but_for_resolution():
    """Prompts are the model's projection of the truth plus its background, if it knows everything."""
    activity, mu = cylinder(insert_suv=4.0)
    expected = scan(activity, mu)
    model = expected.model
    assert isinstance(model, AcquisitionModel)
    block = activity.permute(1, 2, 0)[:, :, None].contiguous()
    for s in range(TINY.subsets):
        believed = model.forward(block, s)[:, 0] + model.additive[s]
        assert float((believed - expected.prompts[s]).norm() / expected.prompts[s].norm()) < 1e-4
    blind = scan(activity, mu, replace(TINY, modelled_psf_mm=0.0)).model
    assert blind.psf is None


# ---- the table of centers


def test_the_table_is_the_papers():
    """Voxels (z, y, x), matrix and dose reduction factors of Table 1."""
    table = {
        "C1": ((1.87, 3.15, 3.15), 192, (12,)),
        "C2": ((1.75, 3.12, 3.12), 192, (4,)),
        "C3": ((2.89, 1.67, 1.67), 256, (10,)),
        "C4": ((1.65, 1.65, 1.65), 256, (10,)),
        "C5": ((1.87, 1.18, 1.18), 256, (4,)),
        "C6": ((1.87, 3.15, 3.15), 192, (12, 3, 4, 6)),
    }
    assert {name: (c.voxel_mm, c.matrix, c.dose_reduction_factors) for name, c in CENTERS.items()} == table
    for center in CENTERS.values():
        assert center.views % center.subsets == 0
        assert center.reconstruction_matrix >= center.matrix
        assert (center.reconstruction_matrix - center.matrix) % 2 == 0
        assert find_center(center.name) is center
    held = [CENTERS[c] for c in ("C1", "C2", "C3", "C4", "C6")]
    assert min(c.reconstruction_matrix * c.voxel_mm[2] for c in held) > 520  # arms at the side
