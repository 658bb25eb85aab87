"""Bias of lesions against a full-dose image, and the repeatability of their numbers under noise alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast

import numpy as np

from drmc.measures.agreement import bland_altman
from drmc.measures.rows import LesionRow, Quantity, Stage

BIAS_QUANTITIES: dict[str, Quantity] = {"mean": "suv_mean", "max": "suv_max", "peak": "suv_peak"}
_COMPARED: tuple[Stage, ...] = ("original", "denoised")

# Within-patient standard deviation [%] of two FDG images of one acquisition, each of the events of about 3
# min, which differ by noise alone (Lodge et al., J Nucl Med 2012;53:1041), and the 95 % repeatability
# coefficient 1.96 * sqrt(2) = 2.77 times that: two such images differ by less in 95 of 100 lesions. Not
# test-retest: scans of different days differ by more, within-patient about 10 %.
REPEATABILITY_SD_PERCENT: dict[Quantity, float] = {"suv_max": 5.6, "suv_peak": 2.5}
REPEATABILITY_COEFFICIENT_PERCENT = {key: 2.77 * sd for key, sd in REPEATABILITY_SD_PERCENT.items()}
# Changes of SUV between scans of different days that measurement explains [%] (Lodge, J Nucl Med
# 2017;58:523).
TEST_RETEST_PERCENT = (-25.0, 33.0)


class RepeatabilityFlag(TypedDict):
    """A change of a lesion beside the 95 % repeatability coefficient of noise alone, both in percent."""

    segment: str
    quantity: Quantity
    change_percent: float
    coefficient_percent: float
    exceeds: bool


class LesionBias(TypedDict):
    """Bias of one lesion at one stage, as fractions; None if the full-dose value is not above 0.

    `B_*` = |S - S_full| / S_full and `signed_*` = (S - S_full) / S_full, for SUVmean, SUVmax and SUVpeak.
    """

    segment: str
    stage: Stage
    B_mean: float | None
    signed_mean: float | None
    B_max: float | None
    signed_max: float | None
    B_peak: float | None
    signed_peak: float | None


class BiasSummary(TypedDict):
    """Bias over the lesions of a patient, as fractions.

    `B_*`: mean over the lesions; `n_*`: lesions with a bias; of the signed values the median and the 95 %
    limits of agreement (Bland-Altman).
    """

    B_mean: float | None
    n_mean: int
    signed_median_mean: float | None
    limit_low_mean: float | None
    limit_high_mean: float | None
    B_max: float | None
    n_max: int
    signed_median_max: float | None
    limit_low_max: float | None
    limit_high_max: float | None
    B_peak: float | None
    n_peak: int
    signed_median_peak: float | None
    limit_low_peak: float | None
    limit_high_peak: float | None


class Bias(TypedDict):
    """Bias of the lesions, and their summary for the patient by stage."""

    lesions: list[LesionBias]
    patient: dict[Stage, BiasSummary]


def repeatability_flags(rows: Iterable[LesionRow]) -> list[RepeatabilityFlag]:
    """Compares changes with those between two images of one scan that differ by noise alone.

    The 95 % repeatability coefficient is 2.77 times the within-patient standard deviation of Lodge et al.
    2012: 15.5 % for SUVmax, 6.9 % for SUVpeak.

    Args:
        rows: rows of the lesion table; those of the stage "change_percent" count.

    Returns:
        one flag per segment and quantity with a known repeatability and a defined change.
    """
    return [
        {
            "segment": row["segment"],
            "quantity": quantity,
            "change_percent": change,
            "coefficient_percent": coefficient,
            "exceeds": abs(change) > coefficient,
        }
        for row in rows
        if row["stage"] == "change_percent"
        for quantity, coefficient in REPEATABILITY_COEFFICIENT_PERCENT.items()
        if (change := row.get(quantity)) is not None
    ]


def lesion_bias(rows: Iterable[LesionRow]) -> Bias:
    """Bias against the full-dose image, from the rows of one patient.

    Per lesion b = |S - S_full| / S_full for SUVmean, SUVmax and SUVpeak in the same segment (the paper's
    B_mean and B_max; its authors released no code, this is the definition used here), as a fraction. Both
    parts of the result are empty if no row has the stage "reference".
    """
    stages: dict[str, dict[Stage, LesionRow]] = {}
    for row in rows:
        stages.setdefault(row["segment"], {})[row["stage"]] = row
    lesions: list[LesionBias] = []
    for segment, found in stages.items():
        if "reference" not in found:
            continue
        for stage in _COMPARED:
            if stage not in found:
                continue
            entry: dict[str, Any] = {"segment": segment, "stage": stage}
            for short, quantity in BIAS_QUANTITIES.items():
                full, estimate = found["reference"].get(quantity), found[stage].get(quantity)
                signed = None
                if full is not None and estimate is not None and full > 0:
                    signed = (estimate - full) / full
                entry[f"B_{short}"] = None if signed is None else abs(signed)
                entry[f"signed_{short}"] = signed
            lesions.append(cast("LesionBias", entry))
    return {"lesions": lesions, "patient": _summaries(lesions)}


def _summaries(lesions: Sequence[Mapping[str, Any]]) -> dict[Stage, BiasSummary]:
    """Mean absolute and signed bias per stage over the given entries."""
    summaries: dict[Stage, BiasSummary] = {}
    for stage in _COMPARED:
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
        summaries[stage] = cast("BiasSummary", summary)
    return summaries
