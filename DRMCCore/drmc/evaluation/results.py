"""The results in long form, and their means over patients: per center and dose, and per group of centers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drmc.datasets.manifest import Case
from drmc.evaluation.estimators import Estimator
from drmc.evaluation.measures import LARGE_MM, biases, lesion_metrics
from drmc.evaluation.records import CaseRecord, Summary
from drmc.measures.metrics import attainable_gain_db, share_of_attainable

MEANS = (
    *("psnr", "psnr_gain", "psnr_share", "psnr_2mm", "psnr_2mm_gain", "psnr_2mm_share", "nrmse", "ssim"),
    *("psnr_legacy", "ssim_legacy", "B_mean_signed", "B_max_signed", "B_peak_signed"),
    *("B_mean", "B_max", "B_peak", "body_mean_change", "body_mean_bias", "liver_cov", "seconds"),
)
LESION_QUANTITIES = ("mean", "peak")
GROUPS = ("known", "unknown")


@dataclass(frozen=True)
class Row:
    """One result in long form; `value` in dB for PSNR and its gain, else a fraction."""

    center: str
    case: str
    patient: str
    dose_reduction_factor: float
    method: str
    metric: str
    value: float


@dataclass
class Results:
    """All rows, and the lesions by (center, case, patient, dose reduction factor, method)."""

    rows: list[Row] = field(default_factory=list)
    lesions: dict[tuple[str, str, str, float, str], list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, case: Case, factor: float, found: Sequence[tuple[Estimator, CaseRecord]]) -> None:
        """Adds what was measured of a case at one dose; several networks of one method give their mean."""
        methods: dict[str, list[CaseRecord]] = {}
        for estimator, record in found:
            methods.setdefault(estimator.method, []).append(record)
        place = (case.center, case.case_id, case.patient, factor)
        before = _mean_of([record["metrics"] for record in methods["low"]])
        for method, records in methods.items():
            lesions = _mean_lesions([record["lesions"] for record in records])
            key = (*place, method)
            self.lesions[key] = lesions
            metrics = _mean_of([record["metrics"] for record in records])
            for grid in ("psnr", "psnr_2mm"):
                if metrics.get(grid) is not None and before.get(grid) is not None:
                    gain = metrics[grid] - before[grid]
                    metrics |= {f"{grid}_gain": gain, f"{grid}_share": _share(gain, factor)}
            if method not in ("low", "full"):
                metrics["seconds"] = float(np.mean([record["seconds"] for record in records]))
            if method != "full":
                metrics |= lesion_metrics(lesions)
            self.rows += [Row(*place, method, k, v) for k, v in metrics.items() if v is not None]

    def methods(self) -> list[str]:
        """The methods in their order."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def doses(self) -> list[tuple[str, float]]:
        """The centers with their dose reduction factors."""
        return sorted({(row.center, row.dose_reduction_factor) for row in self.rows})

    def patient_means(
        self, method: str, metric: str, centers: Iterable[str], factor: float | None = None
    ) -> dict[tuple[str, str], float]:
        """Mean over a patient's cases and doses, by (center, patient): each patient counts once."""
        values: dict[tuple[str, str], list[float]] = defaultdict(list)
        wanted = set(centers)
        for row in self.rows:
            if (row.method, row.metric) == (method, metric) and row.center in wanted:
                if factor in (None, row.dose_reduction_factor):
                    values[row.center, row.patient].append(row.value)
        return {patient: float(np.mean(found)) for patient, found in values.items()}

    def lesion_biases(
        self,
        method: str,
        quantity: str,
        centers: Iterable[str],
        factor: float | None = None,
        against: str = "full",
        diameters_mm: tuple[float, float] = (LARGE_MM, math.inf),
    ) -> list[float]:
        """Signed relative differences of all lesions of these diameters [mm], each once at each dose."""
        wanted = set(centers)
        return [
            value
            for (center, _, _, dose, of), lesions in self.lesions.items()
            if of == method and center in wanted and factor in (None, dose)
            for value in biases(lesions, quantity, against=against, diameters_mm=diameters_mm)
        ]

    def lesion_count(
        self, method: str, quantity: str, centers: Iterable[str], diameters_mm: tuple[float, float]
    ) -> int:
        """How many lesions `lesion_biases` is of, each counted once however many doses it has."""
        wanted = set(centers)
        return len(
            {
                (center, case, lesion["lesion"])
                for (center, case, _, _, of), lesions in self.lesions.items()
                if of == method and center in wanted
                for lesion in lesions
                if biases([lesion], quantity, diameters_mm=diameters_mm)
            }
        )

    def summary(self, method: str, centers: Sequence[str], factor: float | None = None) -> Summary | None:
        """Means over patients of `MEANS`, spread of the gain, and biases of lesions over 15 mm.

        None without patients.
        `bias_mean`, `bias_peak`: mean over lesions of (SUV - SUV of the full dose) / SUV of the full dose;
        `truth_bias_*` the same against the truth of simulated patients, small lesions' loss by blur included.
        """
        means = {metric: self.patient_means(method, metric, centers, factor) for metric in MEANS}
        if not means["psnr"]:
            return None
        gains = list(means["psnr_gain"].values())
        record: Summary = {"method": method, "patients": len(means["psnr"])}
        record |= {metric: float(np.mean(list(v.values()))) if v else None for metric, v in means.items()}
        record["psnr_gain_sd"] = float(np.std(gains, ddof=1)) if len(gains) > 1 else None
        record["lesions"] = len(self.lesion_biases(method, "mean", centers, factor))
        for quantity in LESION_QUANTITIES:
            for prefix, against in (("bias", "full"), ("truth_bias", "truth")):
                values = self.lesion_biases(method, quantity, centers, factor, against)
                record[f"{prefix}_{quantity}"] = float(np.mean(values)) if values else None
        return record


def table(
    results: Results, known: Sequence[str] | None, labels: Mapping[tuple[str, float, str], str] | None = None
) -> list[Summary]:
    """`Results.summary`, attainable gain and label of every center, dose reduction factor and method."""
    records = []
    for center, factor in results.doses():
        for method in results.methods():
            found = results.summary(method, [center], factor)
            if found is not None:
                records.append(
                    {
                        "center": center,
                        "known": None if known is None else center in known,
                        "dose_reduction_factor": factor,
                        "label": (labels or {}).get((center, factor, method), method),
                        "attainable_db": attainable_gain_db(factor),
                        **found,
                    }
                )
    return records


def groups(centers: Iterable[str], known: Sequence[str] | None) -> dict[str, list[str]]:
    """The centers by group, `known` and `unknown`, or `all` where nothing states which are known.

    Empty groups are left out.
    """
    every = sorted(set(centers))
    if known is None:
        return {"all": every}
    parted = {"known": [c for c in every if c in known], "unknown": [c for c in every if c not in known]}
    return {name: found for name, found in parted.items() if found}


def pooled(results: Results, known: Sequence[str] | None) -> list[Summary]:
    """One record per group of centers and method; every patient counts alike."""
    records = []
    for group, centers in groups((center for center, _ in results.doses()), known).items():
        for method in results.methods():
            found = results.summary(method, centers)
            if found is not None:
                served = {c for c, _ in results.patient_means(method, "psnr", centers)}
                records.append({"group": group, "centers": sorted(served), **found})
    return records


def _share(gain: float, factor: float) -> float | None:
    return share_of_attainable(gain, factor) if factor > 1 else None


def _mean_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of numbers under the same keys; None where one of them is None."""
    keys = found[0].keys()
    return {
        key: None
        if any(one.get(key) is None for one in found)
        else float(np.mean([one[key] for one in found]))
        for key in keys
    }


def _mean_lesions(found: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Mean over networks of the numbers of the same lesions, which every network has in the same order."""
    if len(found) == 1:
        return [dict(lesion) for lesion in found[0]]
    merged = []
    for same in zip(*found, strict=True):
        numbers = [{k: v for k, v in one.items() if not isinstance(v, (str, Mapping))} for one in same]
        nested = [key for key, value in same[0].items() if isinstance(value, Mapping)]
        merged.append(
            {"lesion": same[0]["lesion"], **_mean_of(numbers)}
            | {key: _mean_of([one[key] for one in same]) for key in nested}
        )
    return merged
