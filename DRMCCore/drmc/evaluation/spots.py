"""Virtual spots in the low dose of test patients: what every network keeps of them, and a Gaussian filter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drmc.evaluation.estimators import Estimator
from drmc.evaluation.records import SpotsRecord, SpotsSummary
from drmc.evaluation.results import groups
from drmc.measures import spots
from drmc.pet.volume import PETVolume

DEPENDS_ON = (
    spots.DIAMETERS_MM,
    spots.PEAKS_SUV,
    spots.RESOLUTION_MM,
    spots.APART_MM,
    spots.DEPTH_MM,
)
"""What a stored record depends on beside the image and the network."""


def measure_volume(volume: PETVolume, estimator: Estimator, share: Callable[[float], None]) -> SpotsRecord:
    """What a network keeps of virtual spots in a scan; `each` is empty if no spot fits.

    Args:
        volume: the scan.
        estimator: the network.
        share: called with the share (0 to 1) that is done.
    """
    start = time.monotonic()
    device: str | None = None
    runs = 0

    def denoise(suv: np.ndarray) -> np.ndarray:
        nonlocal device, runs
        first, runs = runs, runs + 1
        part = lambda inner: share((first + min(inner, 0.9)) / 2)
        image, device = estimator.estimate(suv, suv, volume.geometry, part)
        return image

    try:
        found = spots.measure_spots(volume.suv_array(), volume.geometry.spacing_zyx, denoise)
    except spots.NoSpotFitsError:
        found = None
    return {
        "each": found.each if found else [],
        "noise": found.noise if found else None,
        "gaussian_fwhm_mm": found.gaussian_fwhm_mm if found else None,
        "device": device,
        "seconds": time.monotonic() - start,
    }


def summarize(
    found: Sequence[tuple[str, str, SpotsRecord]], known: Sequence[str] | None
) -> list[SpotsSummary]:
    """One record for each center and method, then for each group of centers and method.

    Args:
        found: center, method and record of every patient; all spots of a group count alike.
        known: the centers that the reference was trained on, None if nothing states them.
    """
    centers = list(dict.fromkeys(center for center, _, _ in found))
    methods = list(dict.fromkeys(method for _, method, _ in found))
    members: Mapping[str, Iterable[str]] = {center: [center] for center in sorted(centers)}
    summaries: list[SpotsSummary] = []
    for group, of in [*members.items(), *groups(centers, known).items()]:
        for method in methods:
            mine = [(center, one) for center, name, one in found if center in of and name == method]
            mine = [(center, one) for center, one in mine if one["each"]]
            if mine:
                summaries.append(_summary(group, method, mine))
    return summaries


def _summary(group: str, method: str, found: Sequence[tuple[str, SpotsRecord]]) -> SpotsSummary:
    each = [spot for _, record in found for spot in record["each"]]
    widths = [w for _, record in found if (w := record["gaussian_fwhm_mm"]) is not None]
    return {
        "group": group,
        "centers": sorted({center for center, _ in found}),
        "method": method,
        "patients": len(found),
        "spots": len(each),
        "gaussian_fwhm_mm": float(np.mean(widths)) if widths else None,
        "rows": spots.spot_rows(each),
    }


def kinds(summaries: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The diameters [mm] and peaks [SUV] of all rows, in order."""
    return sorted({(row["diameter_mm"], row["peak_suv"]) for one in summaries for row in one["rows"]})
