"""Noise of real low-dose scans at reduced dose, from the public table of the UDPET study (data_stats.csv).

One row per study and dose: scanner, tracer, `recon` ("ref" or the dose reduction factor) and `noise_metric`, the measure
of `noise.udpet_metric`.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drmc.errors import InputError

FDG = ("fdg", "fluorodeoxyglucose")
FACTORS = (4.0, 10.0, 20.0, 50.0, 100.0)
SCANNERS = {"C3": "uEXPLORER", "C4": "Biograph128_Vision Quadra Edge"}
"""Center -> the scanner's name in the table."""


@dataclass(frozen=True)
class RatioStatistics:
    """Ratio of the noise metric at one dose reduction factor to full dose, over the studies of one scanner."""

    studies: int
    median: float
    p05: float
    p95: float


def noise_ratios(path: str | Path) -> dict[str, dict[float, RatioStatistics]]:
    """Scanner -> dose reduction factor -> ratios over its FDG studies; InputError where the table is none."""
    metrics: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["tracer"].strip().lower() in FDG:
                    metrics[row["scanner"]][row["acq"]][row["recon"]] = float(row["noise_metric"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(f"{path}: is no table of noise metrics ({type(error).__name__}: {error})") from None
    result: dict[str, dict[float, RatioStatistics]] = {}
    for scanner, studies in metrics.items():
        result[scanner] = {}
        for factor in FACTORS:
            ratios = [
                doses[f"{factor:g}"] / doses["ref"]
                for doses in studies.values()
                if f"{factor:g}" in doses and doses.get("ref", 0) > 0
            ]
            ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
            if ratios:
                middle, low, high = (float(v) for v in np.percentile(ratios, (50, 5, 95)))
                result[scanner][factor] = RatioStatistics(len(ratios), middle, low, high)
    return result
