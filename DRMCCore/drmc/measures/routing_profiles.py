"""Comparison of a scan's routing with that of the centers that a model was trained on.

A profile is the mean gate of every layer and expert over the body of a center's validation patients. A
model's card may contain the profiles of its training centers (`routing_profiles`). `drmc profile` makes them
once, from whole volumes with the same denoiser that is used later.

Distance of a scan to a center: the standardized Euclidean distance d = sqrt(mean over gates of ((x - m) /
s)^2) between its mean gates x and the center's m. s^2 is, per gate, the average of two values: the variance
between patients of one center, pooled over the centers, and the mean of this variance over all gates. With
few patients the variance of a single gate is hardly known, and a gate that never moved would otherwise
outweigh all others.

Limit: LIMIT_FACTOR times the largest distance of a profiled scan to its own center without its own patient. A
scan that is farther from its nearest center than that is unlike all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from drmc.measures.routing import gates_of, routing_table
from drmc.measures.rows import RoutingRow
from drmc.models.card import card_numbers

if TYPE_CHECKING:
    from drmc.inference.denoiser import Denoiser
    from drmc.pet.volume import PETVolume
    from drmc.runtime.control import Cancel, Progress

CARD_KEY = "routing_profiles"
LIMIT_FACTOR = 1.5
UNLIKE = (
    "The routing of this scan is unlike that of every training center: check the result with particular care"
)


@dataclass(frozen=True)
class ScanGates:
    """Mean gates (L, M) over the body of one scan of a patient of a center."""

    center: str
    patient: str
    gates_LM: np.ndarray


def body_gates(
    volume: PETVolume, denoiser: Denoiser, progress: Progress | None = None, cancel: Cancel | None = None
) -> np.ndarray | None:
    """Mean gates (L, M) of a whole scan, as in `drmc denoise`; None if no tile contains any body."""
    return gates_of(scan_routing(volume, denoiser, progress, cancel))


def scan_routing(
    volume: PETVolume, denoiser: Denoiser, progress: Progress | None = None, cancel: Cancel | None = None
) -> list[RoutingRow]:
    """The routing table of a whole scan, as in `drmc denoise`; without numbers if no tile has any body."""
    result = denoiser.denoise(volume.suv_array(), volume.geometry, progress=progress, cancel=cancel)
    return routing_table(result.gates_TLM)


def make_profiles(scans: Iterable[ScanGates]) -> dict[str, Any]:
    """The profiles of the centers of these scans: the content of the card's `routing_profiles`.

    A patient with several scans counts by their mean.

    Returns:
        JSON types. `centers`: by name `patients`, `scans`, `mean` and `sd` (L x M; `sd` between patients,
        None with one patient); `scale` (L x M, the s of the distance), `limit` (None if no center has two
        unlike patients) and `factor`.

    Raises:
        ValueError: there is no scan.
    """
    scans = list(scans)
    if not scans:
        raise ValueError("profiles need at least one scan")
    patients: dict[str, dict[str, list[np.ndarray]]] = {}
    for scan in scans:
        gates = np.asarray(scan.gates_LM, dtype=np.float64)
        patients.setdefault(scan.center, {}).setdefault(scan.patient, []).append(gates)
    means = {
        center: {patient: np.mean(found, axis=0) for patient, found in of_center.items()}
        for center, of_center in sorted(patients.items())
    }
    scale = _scale(means)
    apart = []  # every scan from its center without its patient
    centers: dict[str, Any] = {}
    for center, of_center in means.items():
        values = np.stack(list(of_center.values()))
        for patient, found in patients[center].items():
            others = [mean for other, mean in of_center.items() if other != patient]
            apart += [_distance(gates, np.mean(others, axis=0), scale) for gates in found if others]
        centers[center] = {
            "patients": len(values),
            "scans": sum(len(found) for found in patients[center].values()),
            "mean": card_numbers(values.mean(axis=0)).tolist(),
            "sd": card_numbers(values.std(axis=0, ddof=1)).tolist() if len(values) > 1 else None,
        }
    largest = max(apart, default=0.0)
    limit = LIMIT_FACTOR * largest if largest > 1e-9 else None  # gates that never move set no limit
    return {"centers": centers, "scale": card_numbers(scale).tolist(), "limit": limit, "factor": LIMIT_FACTOR}


class NearestCenter(TypedDict):
    """The training center whose routing profile is nearest to a scan's.

    `limit`: None if not known; `unlike`: whether the scan is farther away than the limit; `distances` and
    `means` (L x M gates) of all centers by name.
    """

    center: str
    distance: float
    limit: float | None
    unlike: bool
    distances: dict[str, float]
    means: dict[str, list[list[float]]]


def is_of_all_scanners(nearest: Mapping[str, Any]) -> bool:
    """Whether the only profile is that of many scanners: its center is a pattern, as in `select`.

    Args:
        nearest: as `nearest_center` gives it, or what was stored of that.
    """
    return len(nearest.get("distances", ())) == 1 and any(mark in nearest["center"] for mark in "*?[")


def nearest_center(profiles: Mapping[str, Any], rows: Sequence[RoutingRow]) -> NearestCenter | None:
    """The center with the profile nearest to a scan's routing table; None if the scan has no body.

    Args:
        profiles: the result of `make_profiles`.
        rows: the result of `routing_table`.

    Raises:
        ValueError: the profiles are not valid, or are those of a network of another shape.
    """
    gates = gates_of(rows)
    if gates is None:
        return None
    try:
        scale = np.asarray(profiles["scale"], dtype=np.float64)
        means = {str(name): np.asarray(one["mean"], np.float64) for name, one in profiles["centers"].items()}
        limit = None if profiles["limit"] is None else float(profiles["limit"])
        arrays = [scale, *means.values()]
        if not means or any(a.shape != gates.shape or not np.isfinite(a).all() for a in arrays):
            raise ValueError(f"profiles of {gates.shape[0]} layers and {gates.shape[1]} experts are needed")
        if (scale <= 0).any() or (limit is not None and not limit >= 0):
            raise ValueError("scale and limit must be above 0")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not valid profiles: {error}") from error
    distances = {name: _distance(gates, mean, scale) for name, mean in sorted(means.items())}
    center = min(distances, key=lambda name: distances[name])
    return {
        "center": center,
        "distance": distances[center],
        "limit": limit,
        "unlike": limit is not None and distances[center] > limit,
        "distances": distances,
        "means": {name: mean.tolist() for name, mean in sorted(means.items())},
    }


def _distance(gates_LM: np.ndarray, mean_LM: np.ndarray, scale_LM: np.ndarray) -> float:
    return math.sqrt(float(np.mean(((gates_LM - mean_LM) / scale_LM) ** 2)))


def _scale(means: Mapping[str, Mapping[str, np.ndarray]]) -> np.ndarray:
    """The s of the distance, pooled within centers; over all patients if each center has only one."""
    groups = [np.stack(list(of_center.values())) for of_center in means.values()]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        groups, freedom = [np.concatenate(groups)], len(groups) - 1
    squares = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups)
    variance = squares / max(freedom, 1)
    variance = (variance + variance.mean()) / 2
    # Identical patients, or a single one, have no spread: then the gates are not scaled.
    return np.sqrt(variance) if variance.max() > 0 else np.ones_like(variance)
