"""Organs before and after denoising: does it keep their mean? organs.csv beside lesions.csv.

Rules as in `drmc.measures.lesions`. Where an organ is even, less noise lowers `suv_sd`; its mean should stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from drmc.denoising import organ_references
from drmc.files import write_rows
from drmc.imaging.geometry import Geometry
from drmc.measures.suv_peak import suv_peak
from drmc.pages.text import percent
from drmc.segments.segment import Segment

NAME = "organs.csv"
AIM_PERCENT = 2.0
"""Change of an organ's SUVmean above which it is told (assumed)."""
LEAST_ML = 50.0
"""Smaller organs are not judged: their surface is a large part of them."""
_SUV = ("suv_mean", "suv_sd", "suv_max", "suv_peak")


class OrganChangeRow(TypedDict):
    """One organ at one stage (original, denoised, reference, change_percent); None where not defined."""

    scan: str
    organ: str
    stage: str
    volume_ml: float | None
    suv_mean: float | None
    suv_sd: float | None
    suv_max: float | None
    suv_peak: float | None


COLUMNS = tuple(OrganChangeRow.__annotations__)


def organ_changes(
    scan: str, organs: Sequence[Segment], stages: Mapping[str, np.ndarray], geometry: Geometry
) -> list[OrganChangeRow]:
    """The rows of organs.csv.

    Args:
        scan: the name in the column `scan`.
        organs: segments on the scan's grid.
        stages: SUV (z, y, x) by stage; `original` and `denoised` are among them.
        geometry: the scan's grid.
    """
    geometry = geometry.rounded()
    rows: list[OrganChangeRow] = []
    for organ in organs:
        measured = {stage: _measured(suv, organ, geometry) for stage, suv in stages.items()}
        volume = organ.voxels * geometry.voxel_ml
        before, after = measured["original"], measured["denoised"]
        measured["change_percent"] = {key: _change(before[key], after[key]) for key in _SUV}
        for stage, found in measured.items():
            whole = None if stage == "change_percent" else volume
            rows.append({"scan": scan, "organ": organ.name, "stage": stage, "volume_ml": whole, **found})  # type: ignore[typeddict-item]
    return rows


def _measured(suv: np.ndarray, organ: Segment, geometry: Geometry) -> dict[str, float | None]:
    values = suv[organ.box][organ.inside].astype(np.float64)
    return {
        "suv_mean": float(values.mean()),
        "suv_sd": float(values.std()),
        "suv_max": float(values.max()),
        "suv_peak": suv_peak(suv, organ, geometry.spacing_zyx),
    }


def _change(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or not before > 0:
        return None
    return 100.0 * (after - before) / before


def sentences(rows: Iterable[OrganChangeRow]) -> list[str]:
    """Whether the means were kept, in at most one sentence; empty without an organ that is judged."""
    rows = list(rows)
    volumes = {row["organ"]: row["volume_ml"] or 0.0 for row in rows if row["stage"] == "original"}
    changes = {
        row["organ"]: row["suv_mean"]
        for row in rows
        if row["stage"] == "change_percent"
        and row["suv_mean"] is not None
        and volumes[row["organ"]] >= LEAST_ML
    }
    if not changes:
        return []
    beyond = {name: value for name, value in changes.items() if abs(value or 0.0) > AIM_PERCENT}
    if beyond:
        told = ", ".join(f"{name} {percent(value)}" for name, value in beyond.items())
        return [f"SUVmean of organs changed by more than {AIM_PERCENT:g} %: {told}"]
    which = f"all {len(changes)} organs of {LEAST_ML:g} ml or more"
    return [f"SUVmean of {which} is kept within {AIM_PERCENT:g} %"]


def write_csv(path: str | os.PathLike[str], rows: Iterable[OrganChangeRow]) -> None:
    """Writes organs.csv."""
    write_rows(path, COLUMNS, rows)


def record(label: str, rows: Sequence[OrganChangeRow], references: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json says: the segmentation, its rows, its reference regions, and what they show."""
    told = [*sentences(rows), *organ_references.sentences(references)]
    return {"input": label, "rows": list(rows), "references": references, "sentences": told}
