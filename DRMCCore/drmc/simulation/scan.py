"""One simulated examination: a patient scanned at a center, at full dose and at reduced doses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from drmc.errors import InputError
from drmc.simulation.acquisition import Acquisition, Events
from drmc.simulation.anatomy import Head, Phantom, WholeBody, fresh
from drmc.simulation.centers import Center
from drmc.simulation.imperfections import Imperfections, breathing_phases, descend
from drmc.simulation.projector import GaussianPSF
from drmc.simulation.reconstruction import reconstruct
from drmc.simulation.shapes import Shape, Triple

END_SLICES = 8  # simulated beyond each end and dropped: the resolution model and filters lose activity there
HEAD_MARGIN_MM = 100.0  # from the vertex to the end of a long axial field
LEAST_MARGIN_MM = 20.0
PERFECT = Imperfections()


@dataclass
class Scan:
    """One simulated examination, arrays (z, y, x): SUV of full dose and of each low dose, and the truth.

    `uncorrected`: images of the same events without correction for attenuation, of no unit, by dose reduction
    factor (1 for the full dose); empty where they are not wanted. `noise_free`: full dose as the mean of
    its Poisson counts would give it.
    """

    full: np.ndarray
    low: dict[float, np.ndarray]
    phantom: Phantom
    spacing_xyz: tuple[float, float, float]
    origin_xyz: tuple[float, float, float]
    facts: dict[str, Any]
    uncorrected: dict[float, np.ndarray] = field(default_factory=dict)
    noise_free: np.ndarray | None = None


class Patient(Protocol):
    """What a scan needs of a patient, procedural or taken from a real scan."""

    weight_kg: float
    diaphragm_mm: float | None  # z of the top of its dome; None where nothing breathes

    def axial_range(self) -> tuple[float, float]:
        """Scan range (z_lower, z_upper) in mm."""

    def rasterize(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Phantom:
        """The patient on a voxel grid; origin is the center of the first voxel in mm."""


def simulate_patient(
    center: Center,
    seed: np.random.SeedSequence,
    *,
    patient: Patient | None = None,
    dose_reduction_factors: Sequence[float] | None = None,
    axial_mm: float | None = None,
    tof: bool = False,
    imperfections: Imperfections = PERFECT,
    uncorrected: bool = False,
    noise_free: bool = False,
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Scan:
    """Scans one patient at one center.

    Args:
        center: scanner, protocol and reconstruction.
        seed: of anatomy, physics and noise.
        patient: None: the procedural one of the seed.
        dose_reduction_factors: of the low doses; None: the center's own.
        axial_mm: length of a random axial window, training data at a fraction of the time; None: the
            patient's whole range, or as much of it as a single bed covers.
        tof: with time of flight.
        imperfections: what the reconstruction does not model.
        uncorrected: also images of the same events without attenuation correction.
        noise_free: also the image of the expected counts.
        device: "cpu" or "cuda"; the noise depends on it.
        progress: called with the share done (0..1) after every OSEM update; it may raise to cancel.

    Raises:
        InputError: the scanner has no time of flight, or its field does not reach the patient's window.
    """
    own_seed, physics_seed, noise_seed = fresh(seed).spawn(3)
    patient = patient or (WholeBody if center.region == "wholebody" else Head)(own_seed)
    if tof and not center.tof_fwhm_ps:
        raise InputError(f"center {center.name}: its scanner has no time of flight")
    physics = np.random.default_rng(physics_seed)
    lower, upper, field_start = _window(center, patient, axial_mm, physics)
    dz, dy, dx = center.voxel_mm
    n, nz = center.reconstruction_matrix, math.ceil((upper - lower) / dz) + 2 * END_SLICES
    origin = (lower - END_SLICES * dz, -(n - 1) / 2 * dy, -(n - 1) / 2 * dx)
    phantom = patient.rasterize((nz, n, n), center.voxel_mm, origin)
    acquisition, calibration = _acquire(
        phantom, patient, center, imperfections, physics, origin[0], field_start, tof=tof, device=device
    )
    factors = [float(f) for f in (dose_reduction_factors or center.dose_reduction_factors)]
    events = Events(acquisition, factors, noise_seed, expected=noise_free)
    images, raw = _reconstructions(events, center, nz, tof=tof, uncorrected=uncorrected, progress=progress)
    first = (n - center.matrix) // 2
    inner = slice(first, first + center.matrix)
    cut = lambda volume: volume[END_SLICES : nz - END_SLICES, inner, inner].contiguous()
    phantom = _cropped(phantom, cut)
    return Scan(
        full=cut(images[0]).numpy(),
        low={f: cut(images[i + 1]).numpy() for i, f in enumerate(factors)},
        phantom=phantom,
        spacing_xyz=(dx, dy, dz),
        origin_xyz=(origin[2] + first * dx, origin[1] + first * dy, origin[0] + END_SLICES * dz),
        facts={
            "weight_kg": patient.weight_kg,
            "time_of_flight": tof,
            "imperfections": {**asdict(imperfections), "calibration": calibration},
            "noise_device": torch.device(device).type,  # CPU and GPU draw different noise from a seed
            **_counts(center, tof, acquisition.counts, events.full_dose_prompts),
            **phantom.facts,
        },
        uncorrected={} if raw is None else {f: cut(raw[i]).numpy() for i, f in enumerate((1.0, *factors))},
        noise_free=cut(images[-1]).numpy() if noise_free else None,
    )


def _acquire(
    phantom: Phantom,
    patient: Patient,
    center: Center,
    imperfections: Imperfections,
    physics: np.random.Generator,
    first_mm: float,
    field_start: float,
    *,
    tof: bool,
    device: str,
) -> tuple[Acquisition, float]:
    """The acquisition of a phantom whose first slice is at `first_mm`, and the scanner's calibration."""
    dz = center.voxel_mm[0]
    z_mm = first_mm + torch.arange(len(phantom.activity)) * dz
    (activity, mu), assumed_mu = _imperfect(phantom, patient, imperfections, z_mm)
    calibration = 1.0 + imperfections.calibration_sd * float(physics.normal())
    acquisition = Acquisition(
        activity,
        mu,
        center,
        weight_kg=patient.weight_kg,
        z_start_mm=first_mm - dz / 2 - field_start,
        rng=physics,
        assumed_mu=assumed_mu,
        calibration=calibration,
        tof=tof,
        device=device,
    )
    return acquisition, calibration


def _window(
    center: Center, patient: Patient, axial_mm: float | None, physics: np.random.Generator
) -> tuple[float, float, float]:
    """What is scanned of a patient, from and to [mm], and where the first bed of the field starts [mm].

    A window of a patient lies in the field where the whole patient would.
    """
    lower, upper = patient.axial_range()
    whole = getattr(patient, "whole_range", patient.axial_range)()
    lower = max(lower, scan_range(center, *whole)[0])
    if lower >= upper:
        raise InputError(
            f"center {center.name}: its axial field does not reach the window that ends at {upper:g} mm"
        )
    if axial_mm is not None and axial_mm < upper - lower:
        lower = float(physics.uniform(lower, upper - axial_mm))
        upper = lower + axial_mm
    return lower, upper, _field_start(center, *whole)


def _reconstructions(
    events: Events,
    center: Center,
    slices: int,
    *,
    tof: bool,
    uncorrected: bool,
    progress: Callable[[float], None] | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Images of the events by dose, and those without correction for attenuation where they are wanted."""
    post_filter = GaussianPSF(center.post_filter_mm, center.voxel_mm) if any(center.post_filter_mm) else None
    iterations = center.tof_iterations if tof else center.iterations
    passes = 2 if uncorrected else 1
    part = lambda number: None if progress is None else lambda share: progress((number + share) / passes)
    images = reconstruct(events, slices, iterations, post_filter, progress=part(0))
    if not uncorrected:
        return images, None
    source = events.without_attenuation_correction
    return images, reconstruct(source, slices, iterations, post_filter, progress=part(1))


def _cropped(phantom: Phantom, cut: Callable[[torch.Tensor], torch.Tensor]) -> Phantom:
    return Phantom(
        cut(phantom.activity), cut(phantom.mu), cut(phantom.organs), cut(phantom.lesions), phantom.facts
    )


def _counts(center: Center, tof: bool, expected: dict[str, float], prompts: float) -> dict[str, Any]:
    """Counts of the full dose: `count_multiplier` are simulated for one that a scanner would count."""
    multiplier = center.tof_count_multiplier if tof else center.count_multiplier
    return {
        "count_multiplier": multiplier,
        "expected_counts": expected,
        "simulated_prompts": prompts,
        "physical_prompts": prompts / multiplier,
    }


def anatomy_seed(seed: np.random.SeedSequence) -> np.random.SeedSequence:
    """Seed of the procedural patient whom `simulate_patient` scans with this seed."""
    return fresh(seed).spawn(3)[0]


def scan_range(center: Center, lower: float, upper: float) -> tuple[float, float]:
    """The part of a patient's range (mm) that a center scans: all, or what one bed covers from the vertex."""
    return (lower if center.bed_step_mm > 0 else max(lower, _field_start(center, lower, upper))), upper


def _field_start(center: Center, lower: float, upper: float) -> float:
    """Where positions of `axial_profile` count from, in mm of the patient frame.

    Beds are centered on the lower end of the range and every step up. A single bed holds the range in its
    middle, but the vertex is no further than HEAD_MARGIN_MM from its end; what does not fit is cut off at the
    thighs.
    """
    if center.bed_step_mm > 0:
        return lower
    margin = min(max((center.axial_field_mm - (upper - lower)) / 2, LEAST_MARGIN_MM), HEAD_MARGIN_MM)
    return upper + margin - center.axial_field_mm


def _imperfect(
    phantom: Phantom, patient: Patient, imperfections: Imperfections, z_mm: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
    """Activity and mu during the scan, and the attenuation map of the reconstruction (None: the same mu)."""
    activity, mu, assumed = phantom.activity, phantom.mu, None
    dome = getattr(patient, "diaphragm_mm", None)
    if dome is None:
        return (activity, mu), None
    if imperfections.breathing_mm or imperfections.attenuation_mismatch_mm:
        assumed = descend(mu, z_mm, dome, [imperfections.attenuation_mismatch_mm])
    if imperfections.breathing_mm:
        phases = breathing_phases(imperfections.breathing_mm)
        activity, mu = (descend(volume, z_mm, dome, phases) for volume in (activity, mu))
    return (activity, mu), assumed
