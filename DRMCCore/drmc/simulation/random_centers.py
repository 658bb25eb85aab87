"""Scanners that nobody owns: centers drawn from ranges, for networks that are to meet any scanner.

The ranges are meant to hold what departments reconstruct today and some more on either side; all of them are
assumed. A seed and a number are one center, on any computer.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from drmc.errors import InputError
from drmc.imaging.geometry import triple
from drmc.simulation.centers import MM_PER_PS, Center

BODY_PIXEL_MM, BRAIN_PIXEL_MM, SLICE_MM = (1.6, 5.5), (1.2, 3.0), (1.6, 5.0)
RESOLUTION_MM = (3.5, 8.0)  # FWHM
POST_FILTER_MM = (2.0, 8.0)  # FWHM, where there is one
LEAST_UNFILTERED_MM = 2.6  # of a pixel: finer ones are always filtered
UPDATES = (16, 80)
TIMING_PS = (210.0, 550.0)
DOSE_REDUCTION = ((2.0, 9.9), (10.0, 50.0))  # of the low doses of each center
NOISE = (0.04, 0.18)
"""Standard deviation over mean of the noise in the liver at full dose, which sets the count multiplier.

Brains have more uptake and attenuate less: theirs is that of a liver with BRAIN_NOISE times as much.
"""
BRAIN_NOISE = 2.5
MULTIPLIER = (0.02, 20.0)
BRAIN_SHARE, FILTERED_SHARE, MODELLED_SHARE, BY_WEIGHT_SHARE = 0.15, 0.8, 0.6, 0.7
BODY_MM, BRAIN_MM = (560.0, 640.0), (300.0, 320.0)  # field of view across
_MOST_PIXELS = 352  # of a row
_FINE_PIXELS = 240  # from here on more views
_TOF_RANGE_MM = 600.0
_ADULT_KG = 75.0
# Axial field, acceptance, step of the beds (0: one bed) in mm, sensitivity, scatter and randoms fraction
_RINGS = (
    (160.0, 160.0, 100.0, 0.010, 0.36, 0.30),
    (218.0, 218.0, 135.0, 0.030, 0.38, 0.35),
    (263.0, 263.0, 160.0, 0.020, 0.38, 0.30),
    (1060.0, 280.0, 0.0, 0.083, 0.37, 0.25),
)


def random_centers(seed: int, count: int, *, tof: bool = False) -> list[Center]:
    """Draws centers.

    Args:
        seed: of the draws.
        count: 1 to 9999.
        tof: every scanner has time of flight.

    Raises:
        InputError: `count` is out of range.
    """
    if not 1 <= count <= 9999:
        raise InputError(f"--random-centers {count}: give a number of scanners from 1 to 9999")
    return [random_center(seed, number, tof=tof) for number in range(1, count + 1)]


def random_center(seed: int, number: int, *, tof: bool = False) -> Center:
    """Center `R<seed>-<number>`, with time of flight `T<seed>-<number>`.

    Scanner, protocol and reconstruction are drawn independently.
    Without time of flight the same parameters stand for a scanner that has it as well as for one that has
    not: it has the more counts for it.
    """
    rng = np.random.default_rng([seed, number, int(tof)])
    brain = bool(rng.random() < BRAIN_SHARE)
    pixel = round(_between(rng, *(BRAIN_PIXEL_MM if brain else BODY_PIXEL_MM)), 2)
    across = float(rng.uniform(*(BRAIN_MM if brain else BODY_MM)))
    matrix = min(_MOST_PIXELS, 2 * round(across / pixel / 2))
    voxel = (round(_between(rng, *SLICE_MM), 2), pixel, pixel)
    length, acceptance, step, sensitivity, scatter, randoms = _RINGS[int(rng.integers(len(_RINGS)))]
    plane = _between(rng, *RESOLUTION_MM)
    axial, in_plane = round(plane * rng.uniform(0.95, 1.25), 2), round(plane, 2)
    resolution = (axial, in_plane, in_plane)
    modelled = bool(rng.random() < MODELLED_SHARE)
    filtered = rng.random() < FILTERED_SHARE or pixel < LEAST_UNFILTERED_MM
    width = round(float(rng.uniform(*POST_FILTER_MM)), 1) if filtered else 0.0
    views = 240 if matrix > _FINE_PIXELS else 180
    subsets = int(rng.choice([10, 12, 20]))
    iterations = max(1, round(_between(rng, *UPDATES) / subsets))
    timing = _between(rng, *TIMING_PS)
    bin_mm = round(0.9 * timing * MM_PER_PS, 1)
    factors = [round(_between(rng, low, high), 1) for low, high in DOSE_REDUCTION]
    center = Center(
        name=f"{'T' if tof else 'R'}{seed}-{number:03d}",
        scanner=f"drawn scanner {number}",
        region="brain" if brain else "wholebody",
        voxel_mm=voxel,
        matrix=matrix,
        reconstruction_matrix=matrix,
        dose_reduction_factors=tuple(factors),
        injected_mbq=float(round(rng.uniform(180, 380))),
        dosed_weight_kg=75.0 if rng.random() < BY_WEIGHT_SHARE else 0.0,
        uptake_minutes=float(round(rng.uniform(50, 90))),
        seconds=float(round(_between(rng, 60, 400))),
        bed_step_mm=0.0 if brain else step,
        axial_field_mm=length,
        acceptance_mm=acceptance,
        sensitivity=sensitivity,
        scatter_fraction=scatter,
        randoms_fraction=randoms,
        system_psf_mm=resolution,
        tof_fwhm_ps=round(timing) if tof else 0.0,
        tof_bins=2 * math.ceil(_TOF_RANGE_MM / bin_mm / 2) + 1 if tof else 0,
        tof_bin_mm=bin_mm if tof else 0.0,
        views=views,
        subsets=subsets,
        iterations=iterations,
        tof_iterations=iterations,
        modelled_psf_mm=triple(round(0.95 * v, 2) for v in resolution) if modelled else (0.0, 0.0, 0.0),
        post_filter_mm=(width,) * 3,
        count_multiplier=1.0,
        tof_count_multiplier=1.0,
        liver_cv=0.0,
    )
    noise = _between(rng, *NOISE) * (BRAIN_NOISE if brain else 1.0)
    multiplier = float(f"{min(max(_multiplier(center, noise), MULTIPLIER[0]), MULTIPLIER[1]):.3g}")
    return replace(center, count_multiplier=multiplier, tof_count_multiplier=multiplier)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _multiplier(center: Center, noise: float) -> float:
    """Count multiplier for that much noise in the liver of an adult.

    ln noise = -0.48 - 0.475 ln(counts per SUV and mm^3) - 1.19 ln(transverse times root of axial smoothing in
    mm) + 0.68 ln(updates), fitted to 35 drawn scanners with a residual of 13 % (standard deviation).
    """
    dz, _dy, dx = center.voxel_mm
    modelled = 0.76 * center.system_psf_mm[1] if any(center.modelled_psf_mm) else 0.0
    widths = [math.hypot(center.post_filter_mm[0], edge, modelled) for edge in (dx, dx, dz)]
    smoothing = math.log(widths[0]) + 0.5 * math.log(widths[2])
    updates = math.log(center.iterations * center.subsets)
    counts = math.exp((-0.48 - 1.19 * smoothing + 0.68 * updates - math.log(noise)) / 0.475)
    return counts * dz * dx / (center.counts_per_suv_mm(_ADULT_KG) * center.views)
