"""From activity to prompts: trues, scatter, randoms, the beds, and low dose as a subset of the full-dose events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from drmc.simulation.centers import Center, axial_profile
from drmc.simulation.projector import FWHM_PER_SIGMA, GaussianPSF, cached_projector, to_block
from drmc.simulation.reconstruction import AcquisitionModel

SCATTER_FWHM_BINS_MM = 170.0
SCATTER_FWHM_DEGREES = 60.0
SCATTER_FWHM_SLICES_MM = 90.0
SCATTER_SCALE_ERROR = 0.04  # standard deviation of the scanner's own scatter scaling


@dataclass
class ExpectedPrompts:
    """What nature draws from (`prompts`, per subset (rows, z)) and what the reconstruction believes (`model`)."""

    prompts: list[torch.Tensor]
    model: AcquisitionModel
    counts: dict[str, float]  # expected trues, scatter, randoms of the simulated slices


def _smoothing_matrix(length: int, fwhm: float, step: float) -> torch.Tensor:
    distance = (torch.arange(length)[:, None] - torch.arange(length)[None]).abs().float() * step
    weight = torch.exp(-0.5 * (distance / (fwhm / FWHM_PER_SIGMA)) ** 2)
    return weight / weight.sum(1, keepdim=True)


def _smooth_over_views(sinogram: torch.Tensor, fwhm: float) -> torch.Tensor:
    """Smooths (views, bins, z) over the angle; past 180 degrees a view continues with its bins mirrored."""
    views = sinogram.shape[0]
    step = 180.0 / views
    around = torch.cat([sinogram, sinogram.flip(1)])  # 360 degrees
    i = torch.arange(2 * views)
    distance = (i[:views, None] - i[None]).abs()
    distance = torch.minimum(distance, 2 * views - distance).float() * step
    weight = torch.exp(-0.5 * (distance / (fwhm / FWHM_PER_SIGMA)) ** 2).to(sinogram.device)
    weight = weight / weight.sum(1, keepdim=True)
    return (weight @ around.view(2 * views, -1)).view_as(sinogram)


def expected_scatter(trues: torch.Tensor, center: Center) -> torch.Tensor:
    """Scatter (views, bins, z): the trues smoothed over bins, angle and slices, scaled to the scatter fraction."""
    bins, nz = trues.shape[1:]
    device = trues.device
    scatter = torch.matmul(
        _smoothing_matrix(bins, SCATTER_FWHM_BINS_MM, center.voxel_mm[2]).to(device), trues
    )
    scatter = _smooth_over_views(scatter, SCATTER_FWHM_DEGREES)
    scatter = scatter @ _smoothing_matrix(nz, SCATTER_FWHM_SLICES_MM, center.voxel_mm[0]).T.to(device)
    share = center.scatter_fraction / (1 - center.scatter_fraction)
    return scatter * (trues.sum() / scatter.sum() * share)


def expected_prompts(
    activity: torch.Tensor,
    mu: torch.Tensor,
    center: Center,
    *,
    weight_kg: float,
    z_start_mm: float,
    rng: np.random.Generator,
    device: str = "cpu",
) -> ExpectedPrompts:
    """Expected prompts of a scan.

    activity (SUV) and mu (1/mm) are (z, y, x) on the center's voxels with its reconstruction matrix; `z_start_mm` is the
    position of their first slice relative to the first bed (the bed pattern belongs to the patient, not to the slab).
    """
    nz, n, _ = activity.shape
    projector = cached_projector(n, center.voxel_mm[2], center.views, center.subsets, device)
    subsets, bins = center.subsets, projector.bins
    blurred = GaussianPSF(center.system_psf_mm, center.voxel_mm)(to_block(activity[None].to(device)))
    blurred = blurred.reshape(n * n, nz)
    mu_columns = to_block(mu[None].to(device)).reshape(n * n, nz)
    z_mm = z_start_mm + (torch.arange(nz, device=device) + 0.5) * center.voxel_mm[0]
    scale = (
        center.counts_per_suv_mm(weight_kg)
        * center.count_multiplier
        * axial_profile(center, z_mm.cpu()).to(device)
    )

    multiplicative = [scale * torch.exp(-projector.forward(mu_columns, s)) for s in range(subsets)]
    trues = torch.empty(center.views, bins, nz, device=device)
    for s in range(subsets):
        trues[s::subsets] = (multiplicative[s] * projector.forward(blurred, s)).view(-1, bins, nz)
    scatter = expected_scatter(trues, center)
    # randoms are flat within a slice
    randoms = (trues + scatter).mean((0, 1)) * (center.randoms_fraction / (1 - center.randoms_fraction))
    believed = 1.0 + SCATTER_SCALE_ERROR * float(rng.normal())

    part = lambda sinogram, s: sinogram[s::subsets].reshape(-1, nz)
    additive = [part(scatter, s) * believed + randoms for s in range(subsets)]
    prompts = [part(trues, s) + part(scatter, s) + randoms for s in range(subsets)]
    psf = GaussianPSF(center.modelled_psf_mm, center.voxel_mm) if center.modelled_psf_mm else None
    counts = {
        "trues": float(trues.sum(dtype=torch.float64)),
        "scatter": float(scatter.sum(dtype=torch.float64)),
        "randoms": float(randoms.sum(dtype=torch.float64)) * center.views * bins,
    }
    return ExpectedPrompts(prompts, AcquisitionModel(projector, psf, multiplicative, additive), counts)


def sample_prompts(expected: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Full-dose prompts: one Poisson draw per bin."""
    return torch.poisson(expected, generator=generator)


def thin_prompts(
    prompts: torch.Tensor, dose_reduction_factor: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Keeps each event with probability 1 / dose reduction factor: binomial thinning, low is a subset of full."""
    if dose_reduction_factor < 1:
        raise ValueError(f"a dose reduction factor is at least 1, not {dose_reduction_factor}")
    share = torch.full_like(prompts, 1.0 / dose_reduction_factor)
    return torch.binomial(prompts, share, generator=generator)
