"""From activity to prompts: trues, scatter, randoms, beds, and low dose as a subset of full-dose events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from drmc.imaging.smoothing import FWHM_PER_SIGMA
from drmc.simulation.centers import Center, axial_profile
from drmc.simulation.projector import GaussianPSF, TimeOfFlight, cached_projector, to_block
from drmc.simulation.reconstruction import AcquisitionModel

SCATTER_FWHM_BINS_MM = 170.0
SCATTER_FWHM_DEGREES = 60.0
SCATTER_FWHM_SLICES_MM = 90.0
COINCIDENCE_WINDOW_MM = 1350.0  # 4.5 ns
SCATTER_SCALE_ERROR = 0.04  # standard deviation of the scanner's own scatter scaling


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
    """Scatter (views, bins, z): trues smoothed over bins, angle and slices, times the scatter share."""
    bins, nz = trues.shape[1:]
    device = trues.device
    scatter = torch.matmul(
        _smoothing_matrix(bins, SCATTER_FWHM_BINS_MM, center.voxel_mm[2]).to(device), trues
    )
    scatter = _smooth_over_views(scatter, SCATTER_FWHM_DEGREES)
    scatter = scatter @ _smoothing_matrix(nz, SCATTER_FWHM_SLICES_MM, center.voxel_mm[0]).T.to(device)
    share = center.scatter_fraction / (1 - center.scatter_fraction)
    return scatter * (trues.sum() / scatter.sum() * share)


class Acquisition:
    """A patient in a scanner: the true expected counts, and the model of the reconstruction, slab by slab.

    activity (SUV) and mu (1/mm) are (z, y, x) on the center's voxels with its reconstruction matrix;
    `z_start_mm` is the position of their first slice as `axial_profile` takes it (beds and scatter belong to
    the patient, not to a slab). `assumed_mu` is the attenuation map of the reconstruction if it is not `mu`.
    `calibration` multiplies all counts. `counts`: expected trues, scatter and randoms of all slices.
    """

    def __init__(
        self,
        activity: torch.Tensor,
        mu: torch.Tensor,
        center: Center,
        *,
        weight_kg: float,
        z_start_mm: float,
        rng: np.random.Generator,
        assumed_mu: torch.Tensor | None = None,
        calibration: float = 1.0,
        tof: bool = False,
        device: str = "cpu",
    ):
        nz, n, _ = activity.shape
        self.center, self.slices, self.device = center, nz, device
        grid = (n, center.voxel_mm[2], center.views, center.subsets, device)
        projector = cached_projector(*grid)
        self._tof = TimeOfFlight.of(center) if tof else None
        self._projector = cached_projector(*grid, self._tof) if self._tof else projector
        self._psf = (
            GaussianPSF(center.modelled_psf_mm, center.voxel_mm) if any(center.modelled_psf_mm) else None
        )

        columns = lambda volume: to_block(volume[None].to(device)).reshape(n * n, nz)
        blurred = GaussianPSF(center.system_psf_mm, center.voxel_mm)(to_block(activity[None].to(device)))
        self._activity = blurred.reshape(n * n, nz)
        z_mm = z_start_mm + (torch.arange(nz) + 0.5) * center.voxel_mm[0]
        multiplier = center.tof_count_multiplier if tof else center.count_multiplier
        scale = axial_profile(center, z_mm).to(device) * (center.counts_per_suv_mm(weight_kg) * multiplier)
        attenuated = lambda block, s: scale * torch.exp(-projector.forward(block, s))
        self._scale = scale

        block = columns(mu)
        self._true = [attenuated(block, s) * calibration for s in range(center.subsets)]
        if assumed_mu is not None:
            block = columns(assumed_mu)
        same = assumed_mu is None and calibration == 1.0
        self._assumed = self._true if same else [attenuated(block, s) for s in range(center.subsets)]
        del block

        trues = torch.empty(center.views, projector.bins, nz, device=device)
        for s in range(center.subsets):
            part = self._true[s] * projector.forward(self._activity, s)
            trues[s :: center.subsets] = part.view(-1, projector.bins, nz)
        self._scatter = expected_scatter(trues, center)
        # randoms are flat within a slice; of a coincidence window only the TOF bins in use are looked at
        share = center.randoms_fraction / (1 - center.randoms_fraction)
        if self._tof:
            share *= min(1.0, self._tof.bins * self._tof.bin_mm / COINCIDENCE_WINDOW_MM)
        self._randoms = (trues + self._scatter).mean((0, 1)) * share
        self._scatter_scale = 1.0 + SCATTER_SCALE_ERROR * float(rng.normal())
        self._trues = trues.new_empty(0) if self._tof else trues  # with TOF they are projected slab by slab
        self.counts = {
            "trues": float(trues.sum(dtype=torch.float64)),
            "scatter": float(self._scatter.sum(dtype=torch.float64)),
            "randoms": float(self._randoms.sum(dtype=torch.float64)) * center.views * projector.bins,
        }

    def slab(self, z: slice) -> tuple[AcquisitionModel, list[torch.Tensor]]:
        """The reconstruction's model of a range of slices, and its expected prompts, per subset (rows, z)."""
        subsets = self.center.subsets
        prompts, additive = [], []
        for s in range(subsets):
            scatter = self._scatter[s::subsets, :, z].reshape(self._projector.lines, -1)
            randoms = self._randoms[z]
            if self._tof is not None:
                trues, scatter = self._over_tof(self._tof, s, z, scatter)
                randoms = randoms / self._tof.bins
            else:
                trues = self._trues[s::subsets, :, z].reshape(scatter.shape)
            prompts.append(trues + scatter + randoms)
            additive.append(scatter * self._scatter_scale + randoms)
        assumed = [part[:, z].contiguous() for part in self._assumed]
        return AcquisitionModel(self._projector, self._psf, assumed, additive), prompts

    def without_attenuation_correction(self, z: slice) -> AcquisitionModel:
        """The model of a reconstruction without attenuation and scatter: geometry and randoms only.

        Scanners subtract randoms without a correction for attenuation too. Its images have no unit:
        attenuation dims them, most in the middle of the body.
        """
        lines, rows = self._projector.lines, self._projector.rows
        scale, randoms = self._scale[z], self._randoms[z]
        if self._tof:
            randoms = randoms / self._tof.bins
        multiplicative = [scale.expand(lines, -1).contiguous()] * self.center.subsets
        additive = [randoms.expand(rows, -1).contiguous()] * self.center.subsets
        return AcquisitionModel(self._projector, self._psf, multiplicative, additive)

    def _over_tof(
        self, tof: TimeOfFlight, s: int, z: slice, scatter: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Trues and scatter (rows, z) of a subset; along a line scatter is as the view's trues, but wider."""
        bins = self._projector.bins
        trues = self._projector.forward(self._activity[:, z].contiguous(), s)
        trues = trues.view(self._projector.lines, tof.bins, -1) * self._true[s][:, None, z]
        along = trues.view(-1, bins, tof.bins, trues.shape[-1]).sum(1)
        along = torch.matmul(
            _smoothing_matrix(tof.bins, SCATTER_FWHM_BINS_MM, tof.bin_mm).to(trues.device), along
        )
        along = (along + 1e-12) / (along + 1e-12).sum(1, keepdim=True)
        spread = scatter.view(-1, bins, 1, scatter.shape[-1]) * along[:, None]
        rows = self._projector.rows
        return trues.reshape(rows, -1), spread.reshape(rows, -1)


class Events:
    """The events of one scan at full dose and at reduced doses, drawn where a slab of slices asks for them.

    Every block of slices and every dose has a random stream of its own: an event is the same in whichever
    slab it is drawn, and an image at one dose does not depend on which other doses are made.
    """

    BLOCK = 8

    def __init__(
        self,
        acquisition: Acquisition,
        dose_reduction_factors: Sequence[float],
        seed: np.random.SeedSequence,
        *,
        expected: bool = False,
    ):
        """Prepares the events of an acquisition.

        Args:
            acquisition: the patient in the scanner.
            dose_reduction_factors: those of the low doses.
            seed: of all random streams.
            expected: after the drawn prompts come the expected ones of full dose, whose image has no noise.
        """
        self._acquisition, self._factors, self._seed = acquisition, dose_reduction_factors, seed
        self._expected = expected
        self._prompts: dict[int, float] = {}

    @property
    def full_dose_prompts(self) -> float:
        """Prompts at full dose of the slices drawn so far."""
        return sum(self._prompts.values())

    def __call__(self, z: slice) -> tuple[AcquisitionModel, list[torch.Tensor]]:
        """The model of a range of slices and its prompts, per subset (rows, images, z).

        Full dose comes first, then the low dose of each factor, times that factor: the full-dose model makes
        images on the same SUV scale of all of them. Raises ValueError where the range is not one of whole
        blocks.
        """
        if z.start % self.BLOCK or (z.stop % self.BLOCK and z.stop != self._acquisition.slices):
            raise ValueError(f"slices {z.start} to {z.stop} are not whole blocks of {self.BLOCK}")
        model, expected = self._acquisition.slab(z)
        images = 1 + len(self._factors) + self._expected
        prompts = [torch.empty(e.shape[0], images, e.shape[1], device=e.device) for e in expected]
        for first in range(z.start, z.stop, self.BLOCK):
            block = slice(first - z.start, min(first + self.BLOCK, z.stop) - z.start)
            device = expected[0].device
            streams = [
                self._generator(first // self.BLOCK, factor, device) for factor in (1.0, *self._factors)
            ]
            count = 0.0
            for part, mean in zip(prompts, expected, strict=True):
                full = sample_prompts(mean[:, block].contiguous(), streams[0])
                count += float(full.sum(dtype=torch.float64))
                part[:, 0, block] = full
                for image, factor in enumerate(self._factors, 1):
                    part[:, image, block] = thin_prompts(full, factor, streams[image]) * factor
                if self._expected:
                    part[:, -1, block] = mean[:, block]
            self._prompts[first] = count
        return model, prompts

    def without_attenuation_correction(self, z: slice) -> tuple[AcquisitionModel, list[torch.Tensor]]:
        """The same events with the model of a reconstruction without attenuation correction."""
        _corrected, prompts = self(z)
        return self._acquisition.without_attenuation_correction(z), prompts

    def _generator(self, block: int, factor: float, device: torch.device) -> torch.Generator:
        key = (*self._seed.spawn_key, block, round(1000 * factor))
        own = np.random.SeedSequence(self._seed.entropy, spawn_key=key)
        return torch.Generator(device).manual_seed(int(own.generate_state(1)[0]))


def sample_prompts(expected: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Full-dose prompts: one Poisson draw per bin."""
    return torch.poisson(expected, generator=generator)


def thin_prompts(
    prompts: torch.Tensor, dose_reduction_factor: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Keeps each event with probability 1 / dose reduction factor: low is a subset of full.

    Binomial thinning. Raises ValueError for a factor below 1.
    """
    if dose_reduction_factor < 1:
        raise ValueError(f"a dose reduction factor is at least 1, not {dose_reduction_factor}")
    share = torch.full_like(prompts, 1.0 / dose_reduction_factor)
    return torch.binomial(prompts, share, generator=generator)
