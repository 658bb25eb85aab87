"""The patients: taken where they are, simulated where they are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from drmc.datasets.manifest import MANIFEST, load_manifest
from drmc.errors import InputError
from drmc.reproduction.config import Cohort, ReproductionConfig
from drmc.simulation.centers import Center, find_center
from drmc.simulation.cohort import ScanOptions, write_cohort
from drmc.simulation.patients import PatientSource

# Few, large voxels and few views: seconds a patient, images that only show that all runs.
_TINY: dict[str, dict[str, Any]] = {
    "wholebody": {
        "voxel_mm": (10.0, 12.0, 12.0),
        "matrix": 46,
        "reconstruction_matrix": 50,
        "views": 24,
        "subsets": 4,
        "iterations": 2,
        "system_psf_mm": (10.0, 10.0, 10.0),
        "modelled_psf_mm": (8.0, 8.0, 8.0),
        "post_filter_mm": (0.0, 0.0, 0.0),
        "count_multiplier": 0.05,
    },
    "brain": {
        "voxel_mm": (9.0, 8.0, 8.0),
        "matrix": 30,
        "reconstruction_matrix": 34,
        "views": 18,
        "subsets": 3,
        "iterations": 2,
        "system_psf_mm": (8.0, 8.0, 8.0),
        "modelled_psf_mm": (8.0, 8.0, 8.0),
        "post_filter_mm": (6.0, 6.0, 6.0),
        "count_multiplier": 0.02,
    },
}


def folder_of(config: ReproductionConfig, cohort: Cohort) -> Path:
    """The dataset that a cohort belongs to."""
    return Path(config.test_dataset if cohort.split == "test" else config.dataset)


def missing_centers(config: ReproductionConfig, cohort: Cohort) -> list[str]:
    """The centers of a cohort of which the dataset has too few patients.

    Raises:
        InputError: the manifest is damaged.
    """
    folder = folder_of(config, cohort)
    if not (folder / MANIFEST).is_file():
        return list(cohort.centers)
    entries = load_manifest(folder)[1].get("cases", [])
    found = [(one.get("center"), one.get("split")) for one in entries if isinstance(one, dict)]
    return [name for name in cohort.centers if found.count((name, cohort.split)) < cohort.patients]


def scanner(name: str, cohort: Cohort) -> Center:
    """The center that a cohort is simulated at.

    Raises:
        InputError: there is no such center.
    """
    center = find_center(name)
    return replace(center, **_TINY[center.region]) if cohort.scanner == "tiny" else center


def simulate(config: ReproductionConfig, cohort: Cohort, report: Callable[[float], None]) -> int:
    """Simulates what is missing of a cohort; returns the number of its patients.

    Raises:
        InputError: the dataset holds patients of another study, a center is unknown, the disk is full.
    """
    missing = missing_centers(config, cohort)
    source = PatientSource(many_lesions=cohort.many_lesions)
    if cohort.scanner == "tiny":
        source = replace(source, field="thorax")
    if missing:
        write_cohort(
            folder_of(config, cohort),
            [scanner(name, cohort) for name in missing],
            cohort.patients,
            seed=cohort.seed,
            split=cohort.split,
            options=ScanOptions(cohort.doses, cohort.axial_mm, noise_free=cohort.noise_free, source=source),
            progress=lambda done, total, _: report(done / max(total, 1)),
        )
    if still := missing_centers(config, cohort):
        raise InputError(f"center {still[0]} has too few patients in the split '{cohort.split}'")
    return len(cohort.centers) * cohort.patients
