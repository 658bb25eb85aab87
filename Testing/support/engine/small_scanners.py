"""Scanners with few voxels and views, and what tests of the simulation measure in their images."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import torch
from drmc.simulation.centers import CENTERS, Center

TINY = replace(
    CENTERS["C1"],
    voxel_mm=(6.0, 8.0, 8.0),
    matrix=40,
    reconstruction_matrix=40,
    system_psf_mm=(8.0, 8.0, 8.0),
    modelled_psf_mm=(8.0, 8.0, 8.0),
    views=40,
    subsets=4,
    post_filter_mm=(8.0, 8.0, 8.0),
)
TIMED = replace(
    TINY, bed_step_mm=0.0, axial_field_mm=1000.0, acceptance_mm=100.0, tof_fwhm_ps=400.0, tof_bins=7,
    tof_bin_mm=50.0, tof_count_multiplier=TINY.count_multiplier,
)  # fmt: skip
SLICES = 20


def scanner_error(deviations: float = 0.0) -> SimpleNamespace:
    """A generator whose scanner misjudges its scatter by so many standard deviations of 4 %."""
    return SimpleNamespace(normal=lambda: deviations)


def radius_mm(center: Center, at=(0.0, 0.0)) -> torch.Tensor:
    """Distance (y, x) from `at` (x, y) in mm."""
    n = center.reconstruction_matrix
    position = (torch.arange(n) - (n - 1) / 2) * center.voxel_mm[2]
    return ((position[:, None] - at[1]) ** 2 + (position[None] - at[0]) ** 2).sqrt()


COARSE = replace(TINY, name="U1", voxel_mm=(8.0, 10.0, 10.0), matrix=56, reconstruction_matrix=56, views=48)

HEAD = replace(
    CENTERS["C5"],
    voxel_mm=(9.0, 8.0, 8.0),
    matrix=30,
    reconstruction_matrix=34,
    views=18,
    subsets=3,
    iterations=2,
    system_psf_mm=(8.0, 8.0, 8.0),
    modelled_psf_mm=(8.0,) * 3,
    post_filter_mm=(6.0,) * 3,
    count_multiplier=0.01,
)

BODY = replace(
    CENTERS["C1"],
    voxel_mm=(11.0, 12.0, 12.0),
    matrix=46,
    reconstruction_matrix=50,
    views=24,
    subsets=4,
    iterations=4,
    system_psf_mm=(10.0, 10.0, 10.0),
    modelled_psf_mm=(8.0,) * 3,
    post_filter_mm=(0.0,) * 3,
    dose_reduction_factors=(12.0, 3.0),
    count_multiplier=0.02,
)
