"""Bias of lesions against a full-dose image, and the repeatability of their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drmc.measures.agreement import bland_altman
from drmc.measures.lesions import Row

BIAS_QUANTITIES = {"mean": "suv_mean", "max": "suv_max", "peak": "suv_peak"}

# Within-patient standard deviation of two FDG scans [%] (Lodge et al. 2012), and the 95 % repeatability
# coefficient 1.96 * sqrt(2) = 2.77 times that: two scans of an unchanged lesion differ by less in 95 of 100
# cases.
REPEATABILITY_SD_PERCENT = {"suv_max": 5.6, "suv_peak": 2.5}
REPEATABILITY_COEFFICIENT_PERCENT = {key: 2.77 * sd for key, sd in REPEATABILITY_SD_PERCENT.items()}


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
                signed = None
                if full is not None and estimate is not None and full > 0:
                    signed = (estimate - full) / full
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
