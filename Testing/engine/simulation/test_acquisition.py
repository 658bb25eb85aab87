"""Counts: that noise is Poisson, low dose a subset of full dose, and every stated fraction is realized."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drmc.errors import InputError
from drmc.simulation.acquisition import Acquisition, Events, expected_scatter, sample_prompts, thin_prompts
from drmc.simulation.centers import CENTERS, Center, axial_profile, find_center
from drmc.simulation.imperfections import Imperfections, breathing_phases, descend
from drmc.simulation.projector import GaussianPSF, Projector
from drmc.simulation.reconstruction import AcquisitionModel, reconstruct
from support.engine.small_scanners import SLICES, TIMED, TINY, radius_mm, scanner_error

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")


def cylinder(center: Center = TINY, *, insert_suv: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Water of SUV 1, radius 112 mm, with an insert of radius 36 mm; activity and mu (z, y, x)."""
    body = (radius_mm(center) < 112).float()
    insert = (radius_mm(center, (44.0, 28.0)) < 36).float()
    activity = body + (insert_suv - 1) * insert
    return (volume[None].repeat(SLICES, 1, 1) for volume in (activity, body * 0.0096))


def acquire(activity, mu, center: Center = TINY, rng=None, z_start_mm: float = 0.0, **options) -> Acquisition:
    rng = rng or scanner_error()
    return Acquisition(activity, mu, center, weight_kg=70.0, z_start_mm=z_start_mm, rng=rng, **options)


def scan(
    activity, mu, center: Center = TINY, rng=None, z_start_mm: float = 0.0, **options
) -> SimpleNamespace:
    """Model, expected prompts and counts of all slices."""
    acquisition = acquire(activity, mu, center, rng, z_start_mm, **options)
    model, prompts = acquisition.slab(slice(0, acquisition.slices))
    return SimpleNamespace(model=model, prompts=prompts, counts=acquisition.counts)


def image_of(
    expected: SimpleNamespace, prompts: list[torch.Tensor], iterations: int, post_filter=None
) -> torch.Tensor:
    """OSEM of prompts, per subset (rows, images, z), in one slab."""
    return reconstruct(lambda z: (expected.model, prompts), SLICES, iterations, post_filter, slab=SLICES)


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
    center = replace(TINY, count_multiplier=1.5, modelled_psf_mm=(6.0,) * 3)
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
    images = image_of(expected, stacked, 8, post_filter)
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


def test_noise_is_skewed_as_of_expectation_maximization_and_grows_with_activity(doses):
    """Log-normal behavior: Barrett 1994, Phys Med Biol 39:833."""
    region = (radius_mm(TINY) < 60) & (radius_mm(TINY, (44.0, 28.0)) > 56)
    insert = radius_mm(TINY, (44.0, 28.0)) < 20
    relative = (doses.images / doses.exact)[-1, 3:-3]  # lowest dose over noise-free
    skewness = lambda v: float(((v - v.mean()) ** 3).mean() / v.std() ** 3)
    voxels = relative[:, region].flatten()
    assert skewness(voxels) > 0.1
    assert abs(skewness(voxels.log())) < 0.4
    noise = (doses.images - doses.exact)[:, 3:-3]
    for dose in noise:
        hot, warm = float(dose[:, insert].std()), float(dose[:, region].std())
        assert 4**0.3 < hot / warm < 4  # the insert is four times as active


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("tof", [False, True])
def test_processor_and_cuda_expect_the_same_prompts_and_reconstruct_the_same_image(tof):
    activity, mu = cylinder(TIMED, insert_suv=4.0)
    here, there = (scan(activity, mu, TIMED, z_start_mm=400.0, tof=tof, device=d) for d in ("cpu", "cuda"))
    for a, b in zip(here.prompts, there.prompts, strict=True):
        assert float((a - b.cpu()).norm() / a.norm()) < 1e-4
    images = [image_of(e, [p[:, None] for p in e.prompts], 3) for e in (here, there)]
    assert float((images[0] - images[1]).norm() / images[0].norm()) < 1e-4


# ---- corrections


def test_a_cylinder_reconstructs_to_its_suv_and_too_much_scatter_lowers_its_center():
    center = replace(TINY, post_filter_mm=(0.0,) * 3)
    activity, mu = cylinder(center)
    middle = radius_mm(center) < 40
    means = {}
    for name, deviations in (("exact", 0.0), ("too much", 2.5)):
        expected = scan(activity, mu, center, scanner_error(deviations))
        image = image_of(expected, [p[:, None] for p in expected.prompts], 6)[0]
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
        axial_field_mm=5000.0,  # flat around its middle
        acceptance_mm=200.0,
        count_multiplier=1.0,
        injected_mbq=200.0,
        dosed_weight_kg=70.0,
        seconds=90.0,
        sensitivity=0.05,
        uptake_minutes=109.77,
    )
    activity, mu = cylinder(center, insert_suv=3.0)
    trues_of = lambda activity, center: scan(activity, 0 * mu, center, z_start_mm=2500.0).counts["trues"]
    trues = trues_of(activity, center)
    bq_per_ml = 100e6 / 70_000  # one half-life after injection, 70 kg
    decays = float(activity.sum()) * bq_per_ml * (6 * 8 * 8 / 1000) * 90
    # the resolution model loses some activity beyond the end slices
    assert trues == pytest.approx(decays * 0.05, rel=0.05)
    inner = replace(center, system_psf_mm=(0.0, 8.0, 8.0))
    assert trues_of(activity, inner) == pytest.approx(decays * 0.05, rel=2e-3)
    assert trues_of(2 * activity, replace(inner, count_multiplier=0.5)) == pytest.approx(
        decays * 0.05, rel=2e-3
    )


def test_counts_per_suv_of_the_first_center_are_those_of_the_reference():
    same_for_all = replace(CENTERS["C1"], dosed_weight_kg=0.0)
    assert same_for_all.counts_per_suv_mm(70.0) == pytest.approx(0.478, abs=0.001)


@pytest.mark.parametrize("weight_kg", [45.0, 75.0, 120.0])
def test_by_weight_every_patient_has_the_becquerels_per_milliliter_of_one_suv(weight_kg):
    center = CENTERS["C1"]
    same_for_all = replace(center, dosed_weight_kg=0.0)
    assert center.injected(weight_kg) == pytest.approx(293 * weight_kg / 75)
    assert center.counts_per_suv_mm(weight_kg) == pytest.approx(same_for_all.counts_per_suv_mm(75.0))
    assert same_for_all.injected(weight_kg) == 293


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


def test_a_long_field_is_flat_inside_and_falls_to_its_ends():
    quadra = CENTERS["C4"]  # 1060 mm, lines up to 280 mm long along the axis
    at = lambda *z: axial_profile(quadra, torch.tensor(z, dtype=torch.float64)).tolist()
    assert at(140, 300, 530, 920) == pytest.approx([1] * 4, rel=1e-3)
    assert at(70, 990, 35) == pytest.approx([0.5, 0.5, 0.25], rel=1e-3)
    assert max(at(-300, -1, 1061, 2000)) < 0.03  # beyond the field
    brain = CENTERS["C5"]  # one bed of 218 mm that accepts every line: a triangle of mean 1
    z = (torch.arange(500, dtype=torch.float64) + 0.5) * 218 / 500
    assert float(axial_profile(brain, z).mean()) == pytest.approx(1, abs=1e-3)
    assert float(axial_profile(brain, torch.tensor([109.0], dtype=torch.float64))) == pytest.approx(
        2, rel=0.01
    )


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
    blind = scan(activity, mu, replace(TINY, modelled_psf_mm=(0.0,) * 3)).model
    assert blind.psf is None


# ---- events


def test_an_event_is_the_same_in_whichever_slab_it_is_asked_for():
    center = replace(TINY, bed_step_mm=0.0, axial_field_mm=1000.0, acceptance_mm=100.0)
    activity, mu = cylinder(center)
    acquisition = acquire(activity, mu, center, z_start_mm=400.0)
    draw = lambda z, seed=3: Events(acquisition, (4.0, 12.0), np.random.SeedSequence(seed))(z)[1]
    whole, tail, other = draw(slice(0, SLICES)), draw(slice(8, SLICES)), draw(slice(0, SLICES), 4)
    for s in range(center.subsets):
        assert whole[s].shape == (10 * 40, 3, SLICES)
        assert torch.equal(whole[s][:, :, 8:], tail[s])
        assert not torch.equal(whole[s], other[s])
        full, quarter, twelfth = whole[s].unbind(1)
        assert bool((quarter / 4 <= full).all() and (twelfth / 12 <= full).all())
    events = Events(acquisition, (4.0,), np.random.SeedSequence(3))
    for z in (slice(0, 16), slice(8, SLICES)):  # slabs overlap, their prompts count once
        part = events(z)[1]
        assert torch.equal(part[0], whole[0][:, :2, z])  # whatever other doses are made
    assert events.full_dose_prompts == sum(float(w[:, 0].sum(dtype=torch.float64)) for w in whole)
    with pytest.raises(ValueError, match="whole blocks"):
        events(slice(3, 16))


def test_blocks_of_slices_draw_independent_noise():
    center = replace(TINY, bed_step_mm=0.0, axial_field_mm=1000.0, acceptance_mm=100.0)
    activity, mu = cylinder(center)
    acquisition = acquire(activity, mu, center, z_start_mm=400.0)
    prompts = torch.cat(Events(acquisition, (), np.random.SeedSequence(3))(slice(0, 16))[1])[:, 0]
    mean = torch.cat(acquisition.slab(slice(0, 16))[1])
    noise = (prompts - mean) / mean.sqrt()
    first, second = noise[:, :8], noise[:, 8:]
    assert abs(float((first * second).mean())) < 4.5 / math.sqrt(first.numel())
    assert float(noise.var()) == pytest.approx(1, rel=0.05)


# ---- time of flight


def test_time_of_flight_only_sorts_the_same_trues_and_scatter():
    activity, mu = cylinder(TIMED, insert_suv=4.0)
    plain, timed = (scan(activity, mu, TIMED, z_start_mm=400.0, tof=tof) for tof in (False, True))
    assert timed.model.projector.tof_bins == 7
    assert (
        timed.counts["trues"] == plain.counts["trues"] and timed.counts["scatter"] == plain.counts["scatter"]
    )
    # randoms: of a window of 1350 mm the bins look at 350 mm
    assert timed.counts["randoms"] == pytest.approx(plain.counts["randoms"] * 350 / 1350)
    for a, b in zip(plain.prompts, timed.prompts, strict=True):
        summed = b.view(len(a), 7, -1).sum(1) + plain.counts["randoms"] * (1 - 350 / 1350) / (
            40 * 40 * SLICES
        )
        assert float((summed - a).norm() / a.norm()) < 0.01


def test_time_of_flight_recovers_in_half_the_iterations_with_less_noise():
    activity, mu = cylinder(TIMED, insert_suv=4.0)
    insert, background = radius_mm(TIMED, (44.0, 28.0)) < 20, radius_mm(TIMED, (-40.0, -20.0)) < 50
    recovered, variation = {}, {}
    for tof, iterations in ((False, 6), (True, 3)):
        acquisition = acquire(activity, mu, TIMED, z_start_mm=400.0, tof=tof)
        image = reconstruct(Events(acquisition, (), np.random.SeedSequence(1)), SLICES, iterations)[0, 4:-4]
        assert float(image[:, background].mean()) == pytest.approx(1, abs=0.03)
        recovered[tof] = float(image[:, insert].mean())
        variation[tof] = float(image[:, background].std() / image[:, background].mean())
    assert recovered[True] == pytest.approx(recovered[False], rel=0.02)
    assert variation[True] < 0.85 * variation[False]


# ---- what the reconstruction does not know


def test_a_wrong_calibration_scales_the_image_and_not_the_model():
    activity, mu = cylinder()
    right, wrong = (scan(activity, mu, calibration=c) for c in (1.0, 1.07))
    for a, b in zip(right.model.multiplicative, wrong.model.multiplicative, strict=True):
        assert torch.equal(a, b)
    trues = lambda e: e.counts["trues"]
    assert trues(wrong) == pytest.approx(1.07 * trues(right), rel=1e-5)


def test_a_wrong_attenuation_map_reaches_the_reconstruction_only():
    activity, mu = cylinder()
    right, wrong = scan(activity, mu), scan(activity, mu, assumed_mu=0.8 * mu)
    for a, b in zip(right.prompts, wrong.prompts, strict=True):
        assert torch.allclose(a, b)
    assert all(
        (b >= a).all() for a, b in zip(right.model.multiplicative, wrong.model.multiplicative, strict=True)
    )
    middle = radius_mm(TINY) < 40
    means = [
        float(image_of(e, [p[:, None] for p in e.prompts], 6)[0][3:-3][:, middle].mean())
        for e in (right, wrong)
    ]
    assert means[1] < 0.8 * means[0]  # too little attenuation is corrected too little


def test_slices_descend_with_the_diaphragm_and_stay_away_from_it():
    z = torch.arange(0.0, 600.0, 3.0)
    slope = z[:, None, None].repeat(1, 2, 2)
    lower = descend(slope, z, 300.0, [12.0])
    moved = (lower - slope)[:, 0, 0]
    assert float(moved[100]) == pytest.approx(12, abs=1e-3)  # what stood 12 mm higher is here now
    assert abs(float(moved[0])) < 0.5 and float(moved[60]) == pytest.approx(
        12 * math.exp(-((120 / 110) ** 2) / 2), abs=0.01
    )
    assert torch.equal(descend(slope, z, 300.0, [0.0]), slope)
    both = descend(slope, z, 300.0, [0.0, 12.0])
    assert torch.allclose(both, (slope + lower) / 2, atol=1e-3)
    phases = breathing_phases(15.0)
    assert 0 <= min(phases) and 15 * 0.85 < max(phases) <= 15
    assert np.median(phases) < 15 / 4  # most of a breath is spent near end expiration


def test_impossible_imperfections_are_refused():
    for wrong in ({"breathing_mm": -1}, {"attenuation_mismatch_mm": 90}, {"calibration_sd": math.nan}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Imperfections(**wrong)


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
