"""What a dataset contains: per center cases, grids, doses, uptake and noise, and one hash of all content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from drmc.datasets.manifest import SPLITS
from drmc.datasets.validation.checks import Measured
from drmc.datasets.validation.measures import PERCENTILES, quartiles


class CenterFingerprint(TypedDict):
    """The cases of one center; ranges are None where no case states the value."""

    cases: dict[str, int]
    """Number of cases by split."""
    scanners: list[str]
    voxel_mm_zyx: list[tuple[float, ...]]
    matrix: list[tuple[int, int]]
    """Rows and columns of a slice."""
    slices: list[int] | None
    """Fewest and most."""
    dose_reduction_factors: list[float]
    suv_percentiles: dict[str, float] | None
    """In the body of the full dose, median over cases; keys `p5` to `p99`."""
    noise_full: float | None
    """Median over cases, SUV."""
    noise_ratio: dict[str, float | None]
    """Noise of a low dose over that of the full dose, by dose reduction factor."""
    injected_mbq: list[float] | None
    """Quartiles."""
    weight_kg: list[float] | None
    """Quartiles."""
    negative_share: float | None


class Fingerprint(TypedDict):
    """What a dataset contains."""

    sha256: str | None
    cases: int
    centers: dict[str, CenterFingerprint]


def fingerprint(measured: Sequence[Measured]) -> Fingerprint:
    """What a dataset contains; independent of the manifest's order and the files' format.

    The hash covers id, center, split and every image of every case; None where a case could not be read
    whole.
    """
    complete = bool(measured) and all(one.complete for one in measured)
    centers = sorted({one.case.center for one in measured})
    return {
        "sha256": _content(measured) if complete else None,
        "cases": len(measured),
        "centers": {c: _center([one for one in measured if one.case.center == c]) for c in centers},
    }


def _content(measured: Sequence[Measured]) -> str:
    lines = sorted(
        "\t".join((one.case.case_id, one.case.center, one.case.split, name, digest))
        for one in measured
        for name, digest in one.hashes.items()
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def _center(cases: Sequence[Measured]) -> CenterFingerprint:
    grids = [one.geometry for one in cases if one.geometry is not None]
    splits = Counter(one.case.split for one in cases)
    factors = sorted({factor for one in cases for factor in one.case.low})
    full = [value for one in cases if (value := one.noise.get("full")) is not None]
    percentiles = [one.percentiles for one in cases if one.percentiles is not None]
    negative, voxels = sum(one.negative for one in cases), sum(one.voxels for one in cases)
    slices = [grid.shape[0] for grid in grids]
    return {
        "cases": {split: splits[split] for split in (*SPLITS, *sorted(set(splits) - set(SPLITS)))},
        "scanners": sorted({str(s) for one in cases if (s := one.facts.get("ManufacturersModelName"))}),
        "voxel_mm_zyx": sorted({tuple(round(v, 3) for v in grid.spacing_zyx) for grid in grids}),
        "matrix": sorted({grid.shape[1:] for grid in grids}),
        "slices": [min(slices), max(slices)] if slices else None,
        "dose_reduction_factors": factors,
        "suv_percentiles": {
            f"p{p:g}": float(v) for p, v in zip(PERCENTILES, np.median(percentiles, axis=0), strict=True)
        }
        if percentiles
        else None,
        "noise_full": float(np.median(full)) if full else None,
        "noise_ratio": {f"{factor:g}": _ratio(cases, f"low {factor:g}") for factor in factors},
        "injected_mbq": quartiles([v for one in cases if (v := one.megabecquerel) is not None]),
        "weight_kg": quartiles([v for one in cases if (v := one.kilograms) is not None]),
        "negative_share": negative / voxels if voxels else None,
    }


def _ratio(cases: Sequence[Measured], name: str) -> float | None:
    """Median over cases of the noise of a low dose over that of the full dose."""
    ratios = [
        low / full
        for one in cases
        if (full := one.noise.get("full")) and (low := one.noise.get(name)) is not None
    ]
    return float(np.median(ratios)) if ratios else None
