"""Projector, resolution model and OSEM: analytic line integrals, and the algebra of maximum likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drmc.errors import CanceledError
from drmc.simulation.projector import (
    GaussianPSF,
    Projector,
    TimeOfFlight,
    from_block,
    gaussian_kernel,
    to_block,
)
from drmc.simulation.reconstruction import (
    AcquisitionModel,
    field_of_view,
    osem,
    reconstruct,
)

MATRIX, VOXEL_MM, VIEWS, SLICES = 40, 6.0, 36, 12
VOXEL_ZYX = (5.0, VOXEL_MM, VOXEL_MM)
# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def off_adjoint(operator, adjoint, shape_in, shape_out) -> float:
    """|<A x, y> - <x, A'y>| over |A x| |y| for zero-mean noise: about 1 / sqrt(size) for a wrong adjoint."""
    x, y = torch.randn(shape_in, generator=seeded(1)), torch.randn(shape_out, generator=seeded(2))
    forward, backward = operator(x).double(), adjoint(y).double()
    left, right = (forward * y).sum(), (x * backward).sum()
    return float((left - right).abs() / forward.norm() / y.norm())


def disk_image(matrix: int, voxel_mm: float, radius: float, center=(0.0, 0.0), fine: int = 8) -> torch.Tensor:
    """Disk (y, x) of value 1 around center (x, y) in mm, averaged over `fine`^2 points per pixel."""
    position = (torch.arange(matrix * fine) - (matrix * fine - 1) / 2) * voxel_mm / fine
    inside = (position[:, None] - center[1]) ** 2 + (position[None] - center[0]) ** 2 <= radius**2
    return inside.float().view(matrix, fine, matrix, fine).mean((1, 3))


def model_of(
    subsets: int, *, psf: bool = True, background: float = 0.5, slices: int = SLICES
) -> AcquisitionModel:
    projector = Projector(MATRIX, VOXEL_MM, VIEWS, subsets)
    sensitivity = torch.rand(projector.rows, slices, generator=seeded(3)) * 0.02 + 0.01
    return AcquisitionModel(
        projector,
        GaussianPSF(8.0, VOXEL_ZYX) if psf else None,
        [sensitivity * (1 + 0.1 * s) for s in range(subsets)],
        [torch.full((projector.rows, slices), background) for _ in range(subsets)],
    )


def phantom_volume(slices: int = SLICES) -> torch.Tensor:
    """(1, z, y, x): a body of SUV 1 with a hot insert whose uptake rises along z."""
    body = disk_image(MATRIX, VOXEL_MM, 95.0, fine=3)
    insert = disk_image(MATRIX, VOXEL_MM, 24.0, (40.0, -20.0), fine=3)
    rise = torch.linspace(1.0, 4.0, slices)[:, None, None]
    return (body + rise * insert)[None]


def noisy_prompts(model: AcquisitionModel, volume: torch.Tensor, seed: int = 4) -> list[torch.Tensor]:
    block, generator = to_block(volume), seeded(seed)
    return [
        torch.poisson(model.forward(block, s) + model.additive[s][:, None], generator=generator)
        for s in range(model.projector.subsets)
    ]


# ---- the system matrix


def test_the_stored_adjoint_is_the_transpose_of_every_subset():
    projector = Projector(12, 5.0, 12, subsets=3)
    pixels, rows = torch.eye(12 * 12), torch.eye(projector.rows)
    for s in range(3):
        forward, adjoint = projector.forward(pixels, s), projector.adjoint(rows, s)
        assert forward.count_nonzero() > 0
        assert torch.equal(forward.T, adjoint)


def test_columns_do_not_depend_on_how_many_are_projected_at_once(monkeypatch):
    projector = Projector(24, 4.0, 12, 2)
    image, sinogram = torch.rand(24 * 24, 37), torch.rand(projector.rows, 37)
    some = projector.forward(image, 1), projector.adjoint(sinogram, 1)
    monkeypatch.setattr(Projector, "COLUMNS", 64)
    assert torch.equal(some[0], projector.forward(image, 1))
    assert torch.equal(some[1], projector.adjoint(sinogram, 1))
    monkeypatch.setattr(Projector, "COLUMNS", 1)
    assert torch.allclose(some[0], projector.forward(image, 1), rtol=1e-5)


def test_the_whole_model_is_adjoint_to_its_back_projection():
    model = model_of(subsets=4)
    block, sinogram = (MATRIX, MATRIX, 2, SLICES), (model.projector.rows, 2, SLICES)
    for s in range(4):
        forward, adjoint = lambda x, s=s: model.forward(x, s), lambda y, s=s: model.adjoint(y, s)
        assert off_adjoint(forward, adjoint, block, sinogram) < 1e-5


def test_the_resolution_model_is_its_own_adjoint():
    psf = GaussianPSF((9.0, 14.0, 11.0), VOXEL_ZYX)
    shape = (45, 39, 2, 13)  # neither a multiple of the row blocks nor cubic
    assert off_adjoint(psf, psf, shape, shape) < 1e-5


@pytest.mark.parametrize("center", [(0.0, 0.0), (35.0, -20.0)])
def test_line_integrals_of_a_disk_are_its_chords(center):
    matrix, voxel, views, radius = 128, 2.0, 60, 60.0
    disk = disk_image(matrix, voxel, radius, center)
    sinogram = Projector(matrix, voxel, views).forward(disk.view(-1, 1), 0).view(views, matrix)
    angle = torch.arange(views)[:, None] * math.pi / views
    r = (torch.arange(matrix) - (matrix - 1) / 2)[None] * voxel
    distance = r - (center[0] * angle.cos() + center[1] * angle.sin())
    chord = 2 * (radius**2 - distance**2).clamp(min=0).sqrt()
    assert float((sinogram - chord).norm() / chord.norm()) < 0.01
    # every view counts the whole activity: sum over bins times bin width is the area
    share = sinogram.sum(1) * voxel / (disk.sum() * voxel**2)
    assert float((share - 1).abs().max()) < 2e-3
    assert float(share.mean() - 1) == pytest.approx(0, abs=1e-3)
    assert float(share.std()) < 1e-3


def test_subsets_hold_the_interleaved_views_of_the_whole():
    x = torch.rand(MATRIX * MATRIX, 3, generator=seeded())
    whole = Projector(MATRIX, VOXEL_MM, 12).forward(x, 0).view(12, MATRIX, 3)
    split = Projector(MATRIX, VOXEL_MM, 12, subsets=4)
    for s in range(4):
        assert torch.equal(split.forward(x, s).view(3, MATRIX, 3), whole[s::4])


def test_activity_outside_the_field_of_view_is_not_seen():
    outside = field_of_view(MATRIX) == 0
    assert outside.any()
    x = outside.float().view(-1, 1)
    assert float(Projector(MATRIX, VOXEL_MM, 12).forward(x, 0).abs().max()) == 0


def test_views_that_cannot_be_dealt_are_refused():
    with pytest.raises(ValueError, match="10 views cannot be dealt to 4 subsets"):
        Projector(16, 4.0, 10, subsets=4)


# ---- time of flight


def test_time_of_flight_rows_are_adjoint_and_sum_to_the_line():
    tof = TimeOfFlight(fwhm_mm=60.0, bins=9, bin_mm=40.0)
    plain, timed = (Projector(MATRIX, VOXEL_MM, 12, 3, tof=t) for t in (None, tof))
    assert timed.rows == 9 * plain.rows == 9 * timed.lines
    x = torch.rand(MATRIX * MATRIX, 4, generator=seeded())
    for s in range(3):
        forward, adjoint = lambda x, s=s: timed.forward(x, s), lambda y, s=s: timed.adjoint(y, s)
        assert off_adjoint(forward, adjoint, (MATRIX * MATRIX, 4), (timed.rows, 4)) < 1e-5
        summed, line = timed.forward(x, s).view(-1, 9, 4).sum(1), plain.forward(x, s)
        assert float((summed - line).norm() / line.norm()) < 0.01


def test_a_point_lies_in_the_time_of_flight_bins_of_its_place():
    """A point at (x, y): at angle t it stands y cos t - x sin t along the line."""
    tof, views = TimeOfFlight(fwhm_mm=30.0, bins=31, bin_mm=10.0), 8
    projector = Projector(MATRIX, VOXEL_MM, views, tof=tof)
    row, column = 28, 11
    x, y = (column - 19.5) * VOXEL_MM, (row - 19.5) * VOXEL_MM
    point = torch.zeros(MATRIX, MATRIX, 1)
    point[row, column] = 1
    along = projector.forward(point.view(-1, 1), 0).view(views, MATRIX, 31).sum(1)
    position = (torch.arange(31) - 15) * 10.0
    for view, profile in enumerate(along):
        t = view * math.pi / views
        mean = float((profile * position).sum() / profile.sum())
        width = float((profile * (position - mean) ** 2).sum() / profile.sum()) ** 0.5 * 2.3548
        assert mean == pytest.approx(y * math.cos(t) - x * math.sin(t), abs=0.5)
        assert width == pytest.approx(math.hypot(30.0, 10 * 2.3548 / 12**0.5), rel=0.05)


# ---- the resolution model


def test_a_point_becomes_a_gaussian_of_the_stated_widths():
    fwhm, voxel = (9.0, 7.0, 5.0), (2.5, 2.0, 1.5)
    point = torch.zeros(41, 41, 1, 41)
    point[20, 20, 0, 20] = 1
    spread = GaussianPSF(fwhm, voxel)(point).double()
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    assert float((spread - spread.flip(0, 1, 3)).abs().max()) < 1e-7
    for axis, full_width, step in zip((3, 0, 1), fwhm, voxel, strict=True):
        profile = spread.sum([a for a in range(4) if a != axis])
        position = (torch.arange(41) - 20) * step
        variance = float((profile * position**2).sum())
        expected = (full_width / 2.3548) ** 2 + step**2 / 12  # a voxel-integrated Gaussian
        assert variance == pytest.approx(expected, rel=0.03)  # the cut at 3 sigma takes up to 2.7 %


def test_bands_equal_a_zero_padded_convolution():
    fwhm, shape = (
        (9.0, 22.0, 11.0),
        (2, 11, 70, 35),
    )  # more rows than one block, a kernel wider than the slices
    volume = torch.randn(shape, generator=seeded())
    kernels = [gaussian_kernel(f, v).float() for f, v in zip(fwhm, VOXEL_ZYX, strict=True)]
    z, y, x = kernels
    kernel = z[:, None, None] * y[:, None] * x
    padding = [len(k) // 2 for k in kernels]
    expected = torch.nn.functional.conv3d(volume[:, None], kernel[None, None], padding=padding)[:, 0]
    result = from_block(GaussianPSF(fwhm, VOXEL_ZYX)(to_block(volume)))
    assert torch.allclose(result, expected, atol=1e-5)


def test_blocks_keep_every_voxel_in_its_place():
    volume = torch.arange(2 * 3 * 4 * 5).float().view(2, 3, 4, 5)
    block = to_block(volume)
    assert block.shape == (4, 5, 2, 3)
    assert block[3, 1, 1, 2] == volume[1, 2, 3, 1]
    assert torch.equal(from_block(block), volume)


# ---- maximum likelihood


def poisson_log_likelihood(prompts: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Sum of y log(e) - e in float64 (constant terms left out)."""
    prompts, expected = prompts.double(), expected.double()
    return (torch.xlogy(prompts, expected) - expected).sum()


def log_likelihood(model: AcquisitionModel, prompts: list[torch.Tensor], images: torch.Tensor) -> float:
    block = to_block(images)
    terms = (
        poisson_log_likelihood(prompts[s], model.forward(block, s) + model.additive[s][:, None])
        for s in range(model.projector.subsets)
    )
    return float(sum(terms))


def test_log_likelihood_is_that_of_poisson_counts():
    prompts, expected = torch.tensor([0.0, 3.0, 7.0]), torch.tensor([0.5, 2.0, 9.0])
    exact = torch.distributions.Poisson(expected.double()).log_prob(prompts.double()) + torch.lgamma(
        prompts.double() + 1
    )
    assert float(poisson_log_likelihood(prompts, expected)) == pytest.approx(float(exact.sum()), rel=1e-12)


def test_mlem_never_lowers_the_likelihood():
    model = model_of(subsets=1)
    prompts = noisy_prompts(model, phantom_volume())
    values = [log_likelihood(model, prompts, osem(model, prompts, k)) for k in range(1, 11)]
    assert min(np.diff(values)) > 0


def test_mlem_without_background_keeps_the_counts():
    model = model_of(subsets=1, background=0.0)
    prompts = noisy_prompts(model, phantom_volume())
    for iterations in (1, 4):
        image = osem(model, prompts, iterations)
        seen = model.forward(to_block(image), 0).sum(dtype=torch.float64)
        counted = prompts[0].sum(dtype=torch.float64)
        assert float(seen / counted) == pytest.approx(1, abs=1e-5)


def test_osem_closes_in_on_noise_free_truth_and_outruns_mlem():
    volume = phantom_volume()
    errors = {}
    for subsets in (1, 6):
        model = model_of(subsets)
        block = to_block(volume)
        exact = [model.forward(block, s) + model.additive[s][:, None] for s in range(subsets)]
        errors[subsets] = [
            float((osem(model, exact, k) - volume).norm() / volume.norm()) for k in (1, 2, 4, 8)
        ]
    assert errors[6] == sorted(errors[6], reverse=True)
    assert errors[6][-1] < 0.15
    assert errors[6][0] < errors[1][2]  # one pass over six subsets gains more than four of MLEM


def test_scaling_counts_and_image_scales_the_reconstruction():
    """What low dose relies on: its counts times the DRF come out on the full dose's SUV scale."""
    model = model_of(subsets=4, background=0.0)
    prompts = noisy_prompts(model, phantom_volume())
    once = osem(model, prompts, 2)
    assert torch.allclose(osem(model, [12 * p for p in prompts], 2), 12 * once, rtol=1e-4)


# ---- slabs


def in_slabs(
    model: AcquisitionModel, prompts: list[torch.Tensor], iterations: int, post_filter=None, **options
):
    """The reconstruction of a whole model and its prompts, cut into slabs."""
    slab_of = lambda z: (model.slab(z), [p[:, :, z].contiguous() for p in prompts])
    return reconstruct(slab_of, prompts[0].shape[-1], iterations, post_filter, **options)


def stacked_prompts(model: AcquisitionModel) -> list[torch.Tensor]:
    volume = phantom_volume(model.additive[0].shape[1])
    sides = [noisy_prompts(model, volume, seed) for seed in (5, 6)]
    return [torch.cat(pair, 1) for pair in zip(*sides, strict=True)]


def test_without_resolution_model_slabs_are_the_whole():
    model = model_of(subsets=4, psf=False)
    prompts = stacked_prompts(model)
    whole = osem(model, prompts, 2)
    slabs = in_slabs(model, prompts, 2, slab=5, halo=0)
    assert slabs.shape == (2, SLICES, MATRIX, MATRIX)
    assert torch.allclose(slabs, whole, rtol=1e-5, atol=1e-6)


def test_slabs_equal_the_whole_away_from_the_cut_planes():
    model = model_of(subsets=4, slices=26)
    prompts = stacked_prompts(model)
    post_filter = GaussianPSF(7.0, VOXEL_ZYX)
    whole = from_block(post_filter(to_block(osem(model, prompts, 2))))

    def difference(slab: int, halo: int) -> torch.Tensor:
        """Largest difference from the whole, per slice."""
        slabs = in_slabs(model, prompts, 2, post_filter, slab=slab, halo=halo)
        return (slabs - whole).abs().amax((0, 2, 3)) / whole.max()

    assert float(difference(26, 8).max()) == 0
    bare = difference(9, 0)  # slabs of 9, 9 and 8 slices
    assert float(bare[[8, 9, 17, 18]].min()) > 0.01
    assert float(bare[[0, 25]].max()) < 5e-4
    assert float(difference(9, 8).max()) < 5e-4  # the halo puts every cut 8 slices away


def test_images_of_one_stack_do_not_see_each_other():
    model = model_of(subsets=2)
    prompts = stacked_prompts(model)
    both = osem(model, prompts, 2)
    second = osem(model, [p[:, 1:].contiguous() for p in prompts], 2)
    assert torch.allclose(both[1:], second, rtol=1e-4, atol=1e-6)


def test_every_update_reports_and_may_cancel():
    model = model_of(subsets=3)
    prompts = noisy_prompts(model, phantom_volume())
    calls: list[float] = []
    in_slabs(model, prompts, 2, slab=7, progress=calls.append)
    assert len(calls) == 2 * 2 * 3  # slabs, iterations, subsets
    assert calls == sorted(calls) and calls[-1] == 1

    def cancel(share: float) -> None:
        calls.append(share)
        raise CanceledError

    calls.clear()
    with pytest.raises(CanceledError):
        in_slabs(model, prompts, 2, slab=7, progress=cancel)
    assert len(calls) == 1
