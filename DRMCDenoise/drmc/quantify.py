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
- Volumes by other thresholds (THRESHOLDS): drmc.mtv.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc import mtv
from drmc.errors import InputError
from drmc.files import csv_text, write_text
from drmc.metrics import bland_altman
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from drmc.suv import wording
from drmc.texts import text_of_cell

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

__all__ = [
    "BIAS_QUANTITIES",
    "COLUMNS",
    "PEAK_RADIUS_MM",
    "POSITION",
    "QUANTITIES",
    "REPEATABILITY_COEFFICIENT_PERCENT",
    "STAGES",
    "THRESHOLDS",
    "Segment",
    "cohort_bias",
    "lesion_bias",
    "lesion_table",
    "lesions_csv_text",
    "peak_sphere",
    "read_lesions_csv",
    "read_segments",
    "repeatability_flags",
    "segment_statistics",
    "write_lesions_csv",
]

QUANTITIES = ("volume_ml", "suv_min", "suv_mean", "suv_median", "suv_max", "suv_peak", "mtv41_ml", "tlg41")
POSITION = ("suv_max_x_mm", "suv_max_y_mm", "suv_max_z_mm")
THRESHOLDS = mtv.QUANTITIES
COLUMNS = ("scan", "segment", "stage", *QUANTITIES, *POSITION, *THRESHOLDS)
SUV_COLUMNS = (
    "suv_rule",
    "suv_factor",
    "suv_warnings",
)  # behind the others in the file: what the SUV rests on
STAGES = ("original", "denoised", "reference", "change_percent")
PEAK_RADIUS_MM = (3.0 * 1000.0 / (4.0 * math.pi)) ** (1.0 / 3.0)  # 6.2035 mm: a sphere of 1 cm^3
PEAK_VOLUME_TOLERANCE = 0.1  # of 1 ml, up to which whole voxels make up SUVpeak's sphere
PEAK_POINTS = 16  # along each edge of a voxel, whose share in the sphere is counted
MTV_FRACTION = 0.41
BIAS_QUANTITIES = {"mean": "suv_mean", "max": "suv_max", "peak": "suv_peak"}

# Within-patient standard deviation of two FDG scans [%] (Lodge et al. 2012), and the 95 % repeatability
# coefficient 1.96 * sqrt(2) = 2.77 times that: two scans of an unchanged lesion differ by less in 95 of 100
# cases.
REPEATABILITY_SD_PERCENT = {"suv_max": 5.6, "suv_peak": 2.5}
REPEATABILITY_COEFFICIENT_PERCENT = {key: 2.77 * sd for key, sd in REPEATABILITY_SD_PERCENT.items()}

Row = dict[str, Any]


def peak_sphere(spacing_zyx: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of SUVpeak's sphere: offsets (K, 3) (z, y, x) from its center's voxel, and weights (K,) of sum 1."""
    return _peak_sphere(tuple(float(step) for step in spacing_zyx))


@lru_cache(maxsize=16)
def _peak_sphere(spacing_zyx: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    spacing = np.asarray(spacing_zyx)
    reach = np.floor(PEAK_RADIUS_MM / spacing + 0.5).astype(int)
    offsets = _lattice([np.arange(-n, n + 1) for n in reach])
    shares = (((offsets * spacing) ** 2).sum(axis=1) <= PEAK_RADIUS_MM**2).astype(np.float64)
    if abs(shares.sum() * math.prod(spacing_zyx) / 1000.0 - 1) > PEAK_VOLUME_TOLERANCE:
        points = _lattice([(np.arange(PEAK_POINTS) + 0.5) / PEAK_POINTS - 0.5] * 3)
        shares = np.array(
            [np.mean((((o + points) * spacing) ** 2).sum(axis=1) <= PEAK_RADIUS_MM**2) for o in offsets]
        )
    return offsets[shares > 0], shares[shares > 0] / shares.sum()


def _lattice(axes: Sequence[np.ndarray]) -> np.ndarray:
    """All points (n, 3) of three axes."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


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
    hot = values[values >= MTV_FRACTION * largest] if largest > 0 else None
    return {
        "volume_ml": values.size * voxel_ml,
        "suv_min": float(values.min()),
        "suv_mean": float(values.mean()),
        "suv_median": float(np.median(values)),
        "suv_max": largest,
        "suv_peak": _peak(suv, segment, spacing_zyx),
        "mtv41_ml": None if hot is None else hot.size * voxel_ml,
        "tlg41": None if hot is None else float(hot.sum()) * voxel_ml,
    }


def _peak(suv: np.ndarray, segment: Segment, spacing_zyx: Sequence[float]) -> float | None:
    offsets, weights = peak_sphere(spacing_zyx)
    reach = offsets.max(axis=0)
    centers = np.stack(np.nonzero(segment.inside), axis=1) + [part.start for part in segment.box]
    complete = ((centers >= reach) & (centers < np.asarray(suv.shape) - reach)).all(axis=1)
    centers = centers[complete]
    if not len(centers):
        return None
    low = centers.min(axis=0) - reach
    high = centers.max(axis=0) + reach + 1
    region = np.ascontiguousarray(suv[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    strides = np.array([region.shape[1] * region.shape[2], region.shape[2], 1])
    flat = region.ravel()
    steps = offsets @ strides
    best = -math.inf
    for start in range(0, len(centers), 1 << 18):
        index = (centers[start : start + (1 << 18)] - low) @ strides
        total = np.zeros(len(index), dtype=np.float64)
        for step, weight in zip(steps, weights, strict=True):
            total += weight * flat[index + step]
        best = max(best, float(total.max()))
        if not np.isfinite(total).all():
            raise InputError(f"segment '{segment.name}': the image holds NaN or infinity next to it")
    return best


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


def lesions_csv_text(rows: Iterable[Row], suv: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """The table as CSV text: '.' decimals, digits enough to give the number back, empty where undefined.

    `suv`: the SUV decisions (`SUVDecision.to_dict`) that the stages rest on, by stage; with it SUV_COLUMNS follow. THRESHOLDS are
    the last columns.
    """

    def texts_of(row: Row, keys: Iterable[str]) -> list[str]:
        numbers = (row.get(key) for key in keys)
        return ["" if number is None else repr(float(number)) for number in numbers]

    def cells(row: Row) -> list[Any]:
        texts = texts_of(row, (*QUANTITIES, *POSITION))
        decision = (suv or {}).get(row["stage"])
        said = wording.columns(decision) if decision else ("",) * len(SUV_COLUMNS)
        said = () if suv is None else said
        return [row["scan"], row["segment"], row["stage"], *texts, *said, *texts_of(row, THRESHOLDS)]

    known = COLUMNS[
        : -len(THRESHOLDS)
    ]  # the file has had these and the SUV's for longer: those added come last
    head = (*known, *(() if suv is None else SUV_COLUMNS), *THRESHOLDS)
    return csv_text(head, map(cells, rows))


def write_lesions_csv(
    path: str | os.PathLike[str], rows: Iterable[Row], suv: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Writes the lesion table (UTF-8, atomically); `suv` as for `lesions_csv_text`."""
    write_text(path, lesions_csv_text(rows, suv))


def read_lesions_csv(path: str | os.PathLike[str]) -> list[Row]:
    """Reads a lesion table back; gives the rows that were written (older files have no positions and fewer volumes: None)."""
    with open(Path(path), encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(POSITION) - set(THRESHOLDS) - set(reader.fieldnames or ())
        if missing:
            raise InputError(
                f"{path}: not a lesion table, the columns {', '.join(sorted(missing))} are missing"
            )
        return [
            {
                key: text_of_cell(row[key])
                if key in COLUMNS[:3]
                else float(row[key])
                if row.get(key)
                else None
                for key in COLUMNS
            }
            for row in reader
        ]


def repeatability_flags(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Which changes are larger than two scans of an unchanged lesion would show.

    One entry per segment and quantity with a known repeatability (SUVmax, SUVpeak) and a defined change:
    segment, quantity, change_percent, coefficient_percent (the 95 % repeatability coefficient, 2.77 times the
    within-patient standard deviation of Lodge et al. 2012: SUVmax 15.5 %, SUVpeak 6.9 %), exceeds (bool).
    """
    return [
        {
            "segment": row["segment"],
            "quantity": quantity,
            "change_percent": row[quantity],
            "coefficient_percent": coefficient,
            "exceeds": abs(row[quantity]) > coefficient,
        }
        for row in rows
        if row["stage"] == "change_percent"
        for quantity, coefficient in REPEATABILITY_COEFFICIENT_PERCENT.items()
        if row.get(quantity) is not None
    ]


def lesion_bias(rows: Iterable[Row]) -> dict[str, Any]:
    """Bias against the full-dose image, of the rows of one patient.

    Per lesion b = |S - S_full| / S_full for SUVmean, SUVmax and SUVpeak in the same segment (the paper's
    B_mean and B_max; its authors released no code, this is the definition used here), as a fraction. Returns
    - "lesions": one dict per segment and stage ("original", "denoised"): segment, stage, B_mean, B_max,
      B_peak and the signed (S - S_full) / S_full as signed_mean, signed_max, signed_peak; None where S_full
      is not above 0;
    - "patient": stage -> B_mean, B_max, B_peak (mean over lesions), n_mean, n_max, n_peak (lesions that
      count), and of the signed values signed_median_*, limit_low_*, limit_high_* (95 % limits of agreement,
      Bland-Altman).
    Both are empty where no row has the stage "reference".
    """
    stages: dict[str, dict[str, Row]] = {}
    for row in rows:
        stages.setdefault(row["segment"], {})[row["stage"]] = row
    lesions: list[dict[str, Any]] = []
    for segment, found in stages.items():
        if "reference" not in found:
            continue
        for stage in ("original", "denoised"):
            if stage not in found:
                continue
            entry: dict[str, Any] = {"segment": segment, "stage": stage}
            for short, quantity in BIAS_QUANTITIES.items():
                full, estimate = found["reference"].get(quantity), found[stage].get(quantity)
                defined = full is not None and estimate is not None and full > 0
                signed = (estimate - full) / full if defined else None
                entry[f"B_{short}"] = None if signed is None else abs(signed)
                entry[f"signed_{short}"] = signed
            lesions.append(entry)
    return {"lesions": lesions, "patient": _summaries(lesions)}


def _summaries(lesions: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean absolute and signed bias per stage over the given entries."""
    summaries: dict[str, dict[str, Any]] = {}
    for stage in ("original", "denoised"):
        entries = [entry for entry in lesions if entry["stage"] == stage]
        if not entries:
            continue
        summary: dict[str, Any] = {}
        for short in BIAS_QUANTITIES:
            absolute = [entry[f"B_{short}"] for entry in entries if entry[f"B_{short}"] is not None]
            signed = [entry[f"signed_{short}"] for entry in entries if entry[f"signed_{short}"] is not None]
            agreement = bland_altman(signed)
            summary[f"B_{short}"] = float(np.mean(absolute)) if absolute else None
            summary[f"n_{short}"] = len(absolute)
            summary[f"signed_median_{short}"] = agreement["median"]
            summary[f"limit_low_{short}"] = agreement["limit_low"]
            summary[f"limit_high_{short}"] = agreement["limit_high"]
        summaries[stage] = summary
    return summaries


def cohort_bias(patients: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Bias of a cohort from the `lesion_bias` of each patient.

    Stage -> B_mean, B_max, B_peak as the mean over patients of their means over lesions, patients_* (how many
    count), and pooled (every lesion alike): the summary of `lesion_bias` under "pooled".
    """
    patients = [patient for patient in patients if patient["lesions"]]
    pooled = _summaries([entry for patient in patients for entry in patient["lesions"]])
    cohort: dict[str, dict[str, Any]] = {}
    for stage, pool in pooled.items():
        summary: dict[str, Any] = {"pooled": pool}
        for short in BIAS_QUANTITIES:
            means = [patient["patient"].get(stage, {}).get(f"B_{short}") for patient in patients]
            means = [mean for mean in means if mean is not None]
            summary[f"B_{short}"] = float(np.mean(means)) if means else None
            summary[f"patients_{short}"] = len(means)
        cohort[stage] = summary
    return cohort
