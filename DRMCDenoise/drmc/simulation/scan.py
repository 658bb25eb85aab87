"""One simulated examination: a patient scanned at a center, at full dose and at reduced doses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from drmc.simulation.acquisition import expected_prompts, sample_prompts, thin_prompts
from drmc.simulation.anatomy import Head, Phantom, WholeBody, fresh
from drmc.simulation.centers import Center
from drmc.simulation.projector import GaussianPSF
from drmc.simulation.reconstruction import reconstruct

END_SLICES = 8  # simulated beyond each end and dropped: the resolution model and filters lose activity there


@dataclass
class Scan:
    """One simulated examination, arrays (z, y, x): SUV of full dose and per dose reduction factor, and the truth."""

    full: np.ndarray
    low: dict[float, np.ndarray]
    phantom: Phantom
    spacing_xyz: tuple[float, float, float]
    origin_xyz: tuple[float, float, float]
    facts: dict


class Patient(Protocol):
    """What a scan needs of a patient, procedural or taken from a real scan."""

    weight_kg: float

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm."""

    def rasterize(self, shape_zyx, spacing_zyx, origin_zyx) -> Phantom:
        """The patient on a voxel grid; origin is the center of the first voxel in mm."""


def simulate_patient(
    center: Center,
    seed: np.random.SeedSequence,
    *,
    patient: Patient | None = None,
    dose_reduction_factors: Sequence[float] | None = None,
    axial_mm: float | None = None,
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Scan:
    """Scans one patient at one center.

    `patient` is the procedural one of the seed if it is not given. `axial_mm` limits the scan to a random axial window
    of that length (training material at a fraction of the time); None scans the patient's whole range. `progress` is
    called with the share done (0..1) after every OSEM update; it may raise to cancel.
    """
    anatomy_seed, physics_seed, noise_seed = fresh(seed).spawn(3)
    if patient is None:
        patient = (WholeBody if center.region == "wholebody" else Head)(anatomy_seed)
    physics = np.random.default_rng(physics_seed)
    lower, upper = patient.axial_range()
    table_start = lower
    if axial_mm is not None and axial_mm < upper - lower:
        lower = float(physics.uniform(lower, upper - axial_mm))
        upper = lower + axial_mm
    dz, dy, dx = center.voxel_mm
    n, nz = center.reconstruction_matrix, math.ceil((upper - lower) / dz) + 2 * END_SLICES
    origin = (lower - END_SLICES * dz, -(n - 1) / 2 * dy, -(n - 1) / 2 * dx)
    phantom = patient.rasterize((nz, n, n), center.voxel_mm, origin)

    expected = expected_prompts(
        phantom.activity,
        phantom.mu,
        center,
        weight_kg=patient.weight_kg,
        z_start_mm=origin[0] - table_start,
        rng=physics,
        device=device,
    )
    generator = torch.Generator(device).manual_seed(int(noise_seed.generate_state(1)[0]))
    factors = [float(f) for f in (dose_reduction_factors or center.dose_reduction_factors)]
    full = [sample_prompts(p, generator) for p in expected.prompts]
    doses = [full, *([thin_prompts(p, f, generator) for p in full] for f in factors)]
    # scaled low-dose prompts with the full-dose model: the result is on the same SUV scale
    stacked = [
        torch.stack([dose[s] * scale for dose, scale in zip(doses, [1.0, *factors], strict=True)], 1)
        for s in range(center.subsets)
    ]
    prompts_full = sum(float(p.sum(dtype=torch.float64)) for p in full)
    del full, doses, expected.prompts
    post_filter = GaussianPSF(center.post_filter_mm, center.voxel_mm) if center.post_filter_mm else None
    images = reconstruct(expected.model, stacked, center.iterations, post_filter, progress=progress)

    z = slice(END_SLICES, nz - END_SLICES)
    first = (n - center.matrix) // 2
    inner = slice(first, first + center.matrix)
    cut = lambda volume: volume[z, inner, inner].contiguous()
    phantom = Phantom(
        *(cut(v) for v in (phantom.activity, phantom.mu, phantom.organs, phantom.lesions)),
        facts=phantom.facts,
    )
    facts = {
        "weight_kg": patient.weight_kg,
        "count_multiplier": center.count_multiplier,
        "expected_counts": expected.counts,
        "simulated_prompts": prompts_full,
        "physical_prompts": prompts_full / center.count_multiplier,
        **phantom.facts,
    }
    return Scan(
        full=cut(images[0]).numpy(),
        low={f: cut(images[i + 1]).numpy() for i, f in enumerate(factors)},
        phantom=phantom,
        spacing_xyz=(dx, dy, dz),
        origin_xyz=(origin[2] + first * dx, origin[1] + first * dy, origin[0] + END_SLICES * dz),
        facts=facts,
    )
