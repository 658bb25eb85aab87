"""Reference regions of a labeled scan, and its uptake above a threshold with what is physiological marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from drmc.errors import InputError
from drmc.measures import burden
from drmc.measures.candidates import (
    Candidate,
    Threshold,
    find_candidates,
    fixed_threshold,
    mark,
    note_of,
    percist_threshold,
)
from drmc.measures.physiological import hot_organs, tracer_of
from drmc.measures.references import LIVER, POOL, Reference, blood_pool_threshold, references_of
from drmc.organs.table import OrganClass
from drmc.segmentation.inputs import Scan
from drmc.segmentation.request import BLOOD_POOL, PERCIST, SegmentRequest, threshold_of
from drmc.segments.segment import Segment
from drmc.suv.lean import sul_per_suv


@dataclass
class Uptake:
    """What was found.

    Attributes:
        references: of PERCIST, by LIVER and POOL, where there are any.
        threshold: of the parts; None where none was asked for, or no SUV is known.
        found: the connected parts above it, hottest first.
        tracer: as `tracer_of` gives it.
        lesions: for each lesion that was given its name, organ, share and mark.
        notices: one line each.
    """

    references: dict[str, Reference] = field(default_factory=dict)
    threshold: Threshold | None = None
    found: list[Candidate] = field(default_factory=list)
    tracer: str | None = None
    lesions: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def measure_uptake(
    request: SegmentRequest,
    scan: Scan,
    organs: Sequence[tuple[OrganClass, Segment]],
    lesions: Sequence[Segment],
) -> Uptake:
    """References, and with a threshold the uptake above it. Only a notice without a known SUV.

    Args:
        request: its `threshold`.
        scan: what was read.
        organs: all that were labeled.
        lesions: those that were given.
    """
    uptake = Uptake()
    wanted = threshold_of(request.threshold)
    if scan.volume is None:
        if wanted is not None:
            uptake.notices.append("no SUV, so that no uptake above a threshold is listed")
        return uptake
    uptake.tracer = tracer_of(scan.tracer)
    named = {one.name: segment for one, segment in organs}
    uptake.references = references_of(scan.image, scan.geometry, named, lesions)
    if wanted is None and not lesions:
        return uptake
    hot, told = hot_organs(organs, scan.geometry, uptake.tracer)
    uptake.notices += told
    for lesion in lesions:
        organ, share = mark(lesion, hot)
        entry = {"name": lesion.name, "organ": organ, "organ_share": share, "note": note_of(organ, share)}
        uptake.lesions.append(entry)
    if wanted is None:
        return uptake
    try:
        uptake.threshold = _threshold(wanted, scan, uptake)
        uptake.found, told = find_candidates(
            scan.image,
            scan.geometry,
            uptake.threshold,
            organs=[segment for _one, segment in organs],
            hot=hot,
        )
        uptake.notices += told
    except InputError as error:  # too many parts, or no liver: the organs are not at fault
        uptake.notices.append(f"no uptake is listed: {error}")
        uptake.threshold = None
    return uptake


def _threshold(wanted: str | float, scan: Scan, uptake: Uptake) -> Threshold:
    """The threshold that was asked for. Raises InputError where its reference is missing."""
    if isinstance(wanted, float | int):
        return fixed_threshold(float(wanted))
    if wanted == PERCIST and LIVER in uptake.references:
        return percist_threshold(scan.image, uptake.references[LIVER].segment)
    if POOL not in uptake.references:
        missing = "liver and aorta have" if wanted == PERCIST else "the aorta has"
        raise InputError(f"{missing} no room for a reference region: give an SUV as --threshold")
    if wanted == PERCIST:
        uptake.notices.append("the liver has no room for PERCIST's sphere: the blood pool is the reference")
    return blood_pool_threshold(uptake.references[POOL])


def record(uptake: Uptake, scan: Scan) -> dict[str, Any]:
    """What summary.json says: `references`, `uptake` (None without a threshold) and `lesions`."""
    if scan.volume is None:
        return {"references": {}, "uptake": None, "lesions": []}
    lean, reason = sul_per_suv(scan.volume.suv.to_dict())
    references = {
        name: {
            "center_lps_mm": list(one.center_mm),
            "suv_mean": one.mean,
            "suv_sd": one.sd,
            "variation": one.variation,
            "sul_mean": None if lean is None else one.mean * lean,
        }
        for name, one in uptake.references.items()
    }
    for name, threshold in _thresholds(uptake, scan).items():
        references[name]["threshold_suv"] = threshold
    found = None
    if uptake.threshold is not None:
        found = {
            "threshold": threshold_record(uptake.threshold, lean),
            "tracer": uptake.tracer,
            "totals": burden.totals(uptake.found),
        }
    return {
        "references": references,
        "uptake": found,
        "lesions": uptake.lesions,
        "sul_note": reason or None,
    }


def _thresholds(uptake: Uptake, scan: Scan) -> dict[str, float]:
    """PERCIST's threshold by each reference, where its mean is above 0."""
    made = {LIVER: lambda one: percist_threshold(scan.image, one.segment), POOL: blood_pool_threshold}
    return {name: made[name](one).suv for name, one in uptake.references.items() if one.mean > 0}


def threshold_record(threshold: Threshold, lean: float | None) -> dict[str, Any]:
    """A threshold for summary.json.

    Args:
        threshold: what was used.
        lean: SUL over SUV, None where it is not known.
    """
    return {
        "method": BLOOD_POOL if threshold.liver == "blood pool" else threshold.method,
        "suv": threshold.suv,
        "sul": None if lean is None else threshold.suv * lean,
        "reference": threshold.liver,
        "reference_mean_suv": threshold.liver_mean,
        "reference_sd_suv": threshold.liver_sd,
        "factor": threshold.factor if threshold.liver else None,
    }
