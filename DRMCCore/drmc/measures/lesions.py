"""Lesion numbers: SUV, volume and TLG of segments before and after denoising, and on a full-dose image.

Images are (z, y, x) in SUV [g/ml], spacing (z, y, x) in mm, volumes in ml, TLG in SUV x ml. A number that is
not defined (SUVpeak if no complete sphere fits into the image, a change from 0) is None, and an empty cell
in the table.

Rules
- SUVmax, SUVmin, SUVmean, SUVmedian: over the voxels of the segment. suv_max_x_mm, _y_mm, _z_mm: the position
  of the SUVmax, the center of its voxel in the scan's own frame [mm, LPS] (of equal voxels the first in z, y,
  x).
- SUVpeak: the largest mean over a sphere of 1 cm^3 (radius 6.2035 mm) centered on a voxel of the segment. A
  voxel belongs to the sphere if its center does, as in published values. If these voxels are not 1 ml within
  10 % (7 of 5.5 x 5.5 x 3.3 mm are 0.69 ml), each counts by the fraction of it inside the sphere. The sphere
  may reach out of the segment but not out of the image.
- MTV41, TLG41: volume, and volume times mean, of the segment's voxels at or above 41 % of the segment's
  SUVmax (EANM); the threshold is taken on the image it is applied to. Undefined where SUVmax is not above 0.
- Volumes by other thresholds (THRESHOLDS): drmc.measures.mtv; intervals of full dose:
  drmc.measures.intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drmc.errors import InputError
from drmc.measures import mtv
from drmc.measures.rows import (
    POSITION,
    QUANTITIES,
    STAGES,
    THRESHOLDS,
    FullDoseIntervals,
    LeanNumbers,
    LesionRow,
    MaximumPosition,
    SegmentNumbers,
)
from drmc.measures.suv_peak import suv_peak
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

IMAGE_STAGES = STAGES[:3]
_NO_INTERVALS: FullDoseIntervals = {
    "suv_mean_interval90_low": None,
    "suv_mean_interval90_high": None,
    "suv_peak_interval90_low": None,
    "suv_peak_interval90_high": None,
    "suv_max_interval90_low": None,
    "suv_max_interval90_high": None,
    "interval_note": None,
}
_NO_SUL: LeanNumbers = {"sul_mean": None, "sul_max": None, "sul_peak": None, "sul_note": None}


def segment_statistics(suv_zyx: np.ndarray, mask: np.ndarray, spacing_zyx: Sequence[float]) -> SegmentNumbers:
    """The numbers of one segment on one image, by the rules at the top of this module.

    Args:
        suv_zyx: the image, float (z, y, x) [SUV].
        mask: the segment, bool of the same shape.
        spacing_zyx: voxel spacing [mm].

    Raises:
        InputError: the segment is empty, has another shape than the image, or contains NaN or infinity.
    """
    return _statistics(np.asarray(suv_zyx), Segment("segment", mask), spacing_zyx)


def _statistics(suv: np.ndarray, segment: Segment, spacing_zyx: Sequence[float]) -> SegmentNumbers:
    if suv.shape != segment.shape:
        raise InputError(
            f"segment '{segment.name}' has the shape {segment.shape} (z, y, x), the image {suv.shape}: they "
            "must be equal"
        )
    values = suv[segment.box][segment.inside].astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"segment '{segment.name}': the image has NaN or infinity there")
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
    percist: float | None = None,
) -> list[LesionRow]:
    """The lesion table: one row per segment and stage. Every image uses the same mask.

    If there are an original and a denoised image, a row "change_percent" has 100 (denoised - original) /
    original, None if the original is not above 0. The intervals of full dose and SUL are left empty:
    `drmc.measures.intervals.state_intervals` and `drmc.measures.sul.state_sul` set them.

    Args:
        scan: the name in the column `scan`.
        segments: the segments on the grid of the images.
        stages: SUV images (z, y, x) by stage: "original", "denoised" and "reference" (the full-dose image),
            each of them optional.
        geometry: the grid of the images.
        liver: name of the segment from which PERCIST's threshold is taken (default: the one called liver, if
            any).
        percist: PERCIST's threshold [SUV] where no segment is the liver; None: none then.

    Raises:
        ValueError: a stage is unknown.
        InputError: no segment has the name `liver`, a segment has another shape than an image, or an image
            has NaN or infinity in a segment or next to it.
    """
    unknown = set(stages) - set(IMAGE_STAGES)
    if unknown:
        raise ValueError(f"unknown stages {sorted(unknown)}; known are {IMAGE_STAGES}")
    geometry = geometry.rounded()
    spacing_zyx = geometry.spacing_zyx
    segments = list(segments)
    images = {stage: np.asarray(stages[stage]) for stage in IMAGE_STAGES if stage in stages}
    reference = mtv.liver_of(segments, liver)
    threshold = percist if reference is None else None
    if reference is not None and "original" in images and reference.shape == images["original"].shape:
        threshold = mtv.percist_threshold(images["original"], reference)
    rows: list[LesionRow] = []
    for segment in segments:
        numbers = {stage: _statistics(image, segment, spacing_zyx) for stage, image in images.items()}
        original_max = numbers["original"]["suv_max"] if "original" in numbers else None
        of_liver = None if segment is reference else threshold
        found: dict[str, LesionRow] = {
            stage: {
                "scan": scan,
                "segment": segment.name,
                "stage": stage,
                **numbers[stage],
                **_maximum_position(image, segment, geometry),
                **mtv.volumes(image, segment, spacing_zyx, original_max, of_liver),
                **_NO_INTERVALS,
                **_NO_SUL,
            }
            for stage, image in images.items()
        }
        rows += found.values()
        if "original" in found and "denoised" in found:
            rows.append(_change_row(found["original"], found["denoised"]))
    return rows


def _maximum_position(suv: np.ndarray, segment: Segment, geometry: Geometry) -> MaximumPosition:
    """Center of the segment's hottest voxel, LPS [mm]."""
    values = np.where(segment.inside, suv[segment.box], -np.inf)
    index = np.unravel_index(int(values.argmax()), values.shape) + np.array([p.start for p in segment.box])
    offset = np.reshape(geometry.direction, (3, 3)) @ (index[::-1] * np.asarray(geometry.spacing))
    x, y, z = (np.asarray(geometry.origin) + offset).tolist()
    return {"suv_max_x_mm": x, "suv_max_y_mm": y, "suv_max_z_mm": z}


def _change_row(original: LesionRow, denoised: LesionRow) -> LesionRow:
    row = original.copy()
    row["stage"] = "change_percent"
    for key in (*QUANTITIES, *THRESHOLDS):
        row[key] = _change_percent(original[key], denoised[key])
    for coordinate in POSITION:
        row[coordinate] = None
    return row


def _change_percent(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before <= 0:
        return None
    return 100.0 * (after - before) / before
