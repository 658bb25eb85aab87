"""Numbers of organs: volume and uptake of every labeled organ of a scan.

Rules as in `drmc.measures.lesions`. `relative_mean` is the mean over the mean of the body, which has no unit
and is there for scans without SUV too. `total_uptake_ml` is SUVmean times volume [SUV x ml] and `body_share`
its share of the body's. Stage `without_lesions` leaves the voxels of the lesions out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np

from drmc.files import write_rows
from drmc.imaging.geometry import Geometry
from drmc.measures.suv_peak import suv_peak
from drmc.organs.table import SIDE_CODES, OrganClass, classes
from drmc.segments.segment import Segment

WHOLE, WITHOUT_LESIONS = "whole", "without_lesions"
LEAST_ML = 1.0
"""An organ of which less is in the field counts neither as present nor as absent in comparisons with a
reference; an absent one of which more is found is a false one."""


class OrganRow(TypedDict):
    """One organ at one stage, a row of organs.csv; None where a number is not defined."""

    scan: str
    organ: str
    code: str
    side: str
    stage: str
    volume_ml: float
    suv_mean: float | None
    suv_sd: float | None
    suv_median: float | None
    suv_max: float | None
    suv_peak: float | None
    relative_mean: float | None
    total_uptake_ml: float | None
    body_share: float | None
    lesion_ml: float | None
    flags: str


COLUMNS = tuple(OrganRow.__annotations__)


def organ_segments(labels_zyx: np.ndarray) -> list[tuple[OrganClass, Segment]]:
    """The organs that a label map shows, in the order of the table.

    Args:
        labels_zyx: classes, uint8.
    """
    there = np.bincount(labels_zyx.ravel(), minlength=256)
    return [(one, Segment(one.name, labels_zyx == one.index)) for one in classes() if there[one.index]]


def organ_table(
    scan: str,
    organs: Sequence[tuple[OrganClass, Segment]],
    image_zyx: np.ndarray,
    body_zyx: np.ndarray,
    geometry: Geometry,
    *,
    has_suv: bool,
    lesions: Sequence[Segment] = (),
) -> list[OrganRow]:
    """The rows of all organs, without flags.

    Args:
        scan: the name in the column `scan`.
        organs: what `organ_segments` found.
        image_zyx: SUV, or any unit where `has_suv` is False.
        body_zyx: mask of the body.
        geometry: their grid.
        has_suv: whether the image is SUV.
        lesions: segments whose voxels are left out in a second row of each organ that they touch.
    """
    geometry = geometry.rounded()
    inside = image_zyx[body_zyx].astype(np.float64)
    mean, total = (float(inside.mean()), float(inside.sum())) if inside.size else (0.0, 0.0)
    marked = np.zeros(image_zyx.shape, bool)
    for lesion in lesions:
        marked[lesion.box] |= lesion.inside
    rows = []
    for one, segment in organs:
        values = image_zyx[segment.box][segment.inside].astype(np.float64)
        lesion = marked[segment.box][segment.inside]
        peak = suv_peak(image_zyx, segment, geometry.spacing_zyx) if has_suv else None
        lesion_ml = float(lesion.sum()) * geometry.voxel_ml if lesions else None
        stages = [(WHOLE, values, peak)]
        if lesion.any():
            stages.append((WITHOUT_LESIONS, values[~lesion], None))
        rows += [
            _row(scan, one, stage, part, geometry.voxel_ml, mean, total, has_suv, found_peak, lesion_ml)
            for stage, part, found_peak in stages
        ]
    return rows


def _row(
    scan: str,
    one: OrganClass,
    stage: str,
    values: np.ndarray,
    voxel_ml: float,
    body_mean: float,
    body_total: float,
    has_suv: bool,
    peak: float | None,
    lesion_ml: float | None,
) -> OrganRow:
    suv = values if has_suv and values.size else None
    mean = float(values.mean()) if values.size else None
    return {
        "scan": scan,
        "organ": one.name,
        "code": one.code,
        "side": SIDE_CODES[one.side][0] if one.side else "",
        "stage": stage,
        "volume_ml": values.size * voxel_ml,
        "suv_mean": None if suv is None else mean,
        "suv_sd": None if suv is None else float(suv.std()),
        "suv_median": None if suv is None else float(np.median(suv)),
        "suv_max": None if suv is None else float(suv.max()),
        "suv_peak": peak,
        "relative_mean": mean / body_mean if mean is not None and body_mean > 0 else None,
        "total_uptake_ml": None if suv is None else float(suv.sum()) * voxel_ml,
        "body_share": float(values.sum()) / body_total if body_total > 0 else None,
        "lesion_ml": lesion_ml,
        "flags": "",
    }


def write_organs_csv(path: str | os.PathLike[str], rows: Iterable[OrganRow]) -> None:
    """Writes organs.csv."""
    write_rows(path, COLUMNS, rows)
