"""Lesion numbers: what a segment holds before and after denoising, and how far from a full-dose image.

Images are (z, y, x) in SUV [g/ml], spacing (z, y, x) in mm, volumes in ml, TLG in SUV x ml. A number that is
not defined (SUVpeak where no complete sphere fits into the image, a change from 0) is None, and an empty cell
in the table.

Rules
- SUVmax, SUVmin, SUVmean, SUVmedian: over the voxels of the segment. suv_max_x_mm, _y_mm, _z_mm: where the
  SUVmax is, the center of its voxel in the scan's own frame [mm, LPS] (of equal voxels the first in z, y, x).
- SUVpeak: the largest mean over a sphere of 1 cm^3 (radius 6.2035 mm) centered on a voxel of the segment. A
  voxel belongs to the sphere if its center does, as in published values. Where these voxels are not 1 ml within
  10 % (7 of 5.5 x 5.5 x 3.3 mm are 0.69 ml), each counts by the share of it that lies in the sphere. The sphere
  may reach out of the segment but not out of the image.
- MTV41, TLG41: volume, and volume times mean, of the segment's voxels at or above 41 % of the segment's
  SUVmax (EANM); the threshold is taken on the image it is applied to. Undefined where SUVmax is not above 0.
- Volumes by other thresholds (THRESHOLDS): drmc.measures.mtv.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc.errors import InputError
from drmc.measures import mtv
from drmc.measures.suv_peak import suv_peak
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


QUANTITIES = ("volume_ml", "suv_min", "suv_mean", "suv_median", "suv_max", "suv_peak", "mtv41_ml", "tlg41")
POSITION = ("suv_max_x_mm", "suv_max_y_mm", "suv_max_z_mm")
THRESHOLDS = mtv.QUANTITIES
COLUMNS = ("scan", "segment", "stage", *QUANTITIES, *POSITION, *THRESHOLDS)
STAGES = ("original", "denoised", "reference", "change_percent")

Row = dict[str, Any]


def segment_statistics(suv_zyx: np.ndarray, mask: np.ndarray, spacing_zyx: Sequence[float]) -> dict[str, Any]:
    """The numbers of one segment on one image, by the rules at the top of this module.

    `suv_zyx` float (z, y, x) [SUV], `mask` bool of the same shape, `spacing_zyx` mm. Returns a float or None
    under each of QUANTITIES. Raises InputError where the segment is empty, of another shape, or holds NaN or
    infinity.
    """
    return _statistics(np.asarray(suv_zyx), Segment("segment", mask), spacing_zyx)


def _statistics(suv: np.ndarray, segment: Segment, spacing_zyx: Sequence[float]) -> dict[str, Any]:
    if suv.shape != segment.shape:
        raise InputError(
            f"segment '{segment.name}' has the shape {segment.shape} (z, y, x), the image {suv.shape}: they "
            "must be equal"
        )
    values = suv[segment.box][segment.inside].astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"segment '{segment.name}': the image holds NaN or infinity there")
    voxel_ml = float(np.prod(np.asarray(spacing_zyx, dtype=np.float64))) / 1000.0
    largest = float(values.max())
    hot = values[values >= mtv.FRACTION_OF_MAXIMUM * largest] if largest > 0 else None
    return {
        "volume_ml": values.size * voxel_ml,
        "suv_min": float(values.min()),
        "suv_mean": float(values.mean()),
        "suv_median": float(np.median(values)),
        "suv_max": largest,
        "suv_peak": suv_peak(suv, segment, spacing_zyx),
        "mtv41_ml": None if hot is None else hot.size * voxel_ml,
        "tlg41": None if hot is None else float(hot.sum()) * voxel_ml,
    }


def lesion_table(
    scan: str,
    segments: Iterable[Segment],
    stages: Mapping[str, np.ndarray],
    geometry: Geometry,
    liver: str | None = None,
) -> list[Row]:
    """The lesion table: one row per segment and stage, with the columns COLUMNS.

    `liver`: the name of the segment that PERCIST's threshold is taken from (default: one called liver, if there is).

    `stages` holds SUV images (z, y, x) under "original", and where there are, "denoised" and "reference" (the
    full-dose image). Where original and denoised are given, a row "change_percent" holds 100 (denoised -
    original) / original; None where the original is not above 0. Every image uses the same mask.
    """
    unknown = set(stages) - set(STAGES[:3])
    if unknown:
        raise ValueError(f"unknown stages {sorted(unknown)}; known are {STAGES[:3]}")
    geometry = geometry.rounded()
    segments = list(segments)
    reference = mtv.liver_of(segments, liver)
    threshold = None
    if reference is not None and "original" in stages and reference.shape == np.shape(stages["original"]):
        threshold = mtv.percist_threshold(np.asarray(stages["original"]), reference)
    rows: list[Row] = []
    for segment in segments:
        numbers = {
            stage: _statistics(np.asarray(stages[stage]), segment, geometry.spacing_zyx)
            for stage in STAGES[:3]
            if stage in stages
        }
        largest = numbers["original"]["suv_max"] if "original" in numbers else None
        percist = None if segment is reference else threshold
        for stage, found in numbers.items():
            image = np.asarray(stages[stage])
            found.update(mtv.volumes(image, segment, geometry.spacing_zyx, largest, percist))
        if "original" in numbers and "denoised" in numbers:
            numbers["change_percent"] = {
                key: _change_percent(numbers["original"][key], numbers["denoised"][key])
                for key in (*QUANTITIES, *THRESHOLDS)
            }
        for stage, found in numbers.items():
            place = _place_of_maximum(stages[stage], segment, geometry) if stage in stages else (None,) * 3
            row = {"scan": scan, "segment": segment.name, "stage": stage}
            row |= {key: found[key] for key in QUANTITIES} | dict(zip(POSITION, place, strict=True))
            rows.append(row | {key: found[key] for key in THRESHOLDS})
    return rows


def _place_of_maximum(suv: np.ndarray, segment: Segment, geometry: Geometry) -> tuple[float, float, float]:
    """Center of the segment's hottest voxel, LPS (x, y, z) [mm]."""
    values = np.where(segment.inside, np.asarray(suv)[segment.box], -np.inf)
    index = np.unravel_index(int(values.argmax()), values.shape) + np.array([p.start for p in segment.box])
    offset = np.reshape(geometry.direction, (3, 3)) @ (index[::-1] * np.asarray(geometry.spacing))
    x, y, z = (np.asarray(geometry.origin) + offset).tolist()
    return x, y, z


def _change_percent(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before <= 0:
        return None
    return 100.0 * (after - before) / before
