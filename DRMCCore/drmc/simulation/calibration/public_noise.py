"""Noise of real low-dose scans at reduced dose, from the public table of the UDPET study (data_stats.csv).

One row per study and dose: scanner, tracer, `recon` ("ref" or the dose reduction factor) and `noise_metric`,
the measure of `noise.udpet_terms`.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drmc.errors import InputError

FDG = ("fdg", "fluorodeoxyglucose")
FACTORS = (4.0, 10.0, 20.0, 50.0, 100.0)
SCANNERS = {"C3": "uEXPLORER", "C4": "Biograph128_Vision Quadra Edge"}
"""Center -> the scanner's name in the table."""


@dataclass(frozen=True)
class NoiseStatistics:
    """Median and 5th and 95th percentile over the studies of one scanner."""

    studies: int
    median: float
    p05: float
    p95: float


def noise_ratios(path: str | Path) -> dict[str, dict[float, NoiseStatistics]]:
    """Scanner -> dose reduction factor -> noise metric over that of the full dose, of its FDG studies.

    Raises InputError where the file is no such table.
    """
    return {
        scanner: {
            factor: found
            for factor in FACTORS
            if (found := _statistics(doses.get(f"{factor:g}", 0) / doses["ref"] for doses in studies))
        }
        for scanner, studies in _fdg_studies(path).items()
    }


def full_dose_metrics(path: str | Path) -> dict[str, NoiseStatistics]:
    """Noise metric of the full dose of its FDG studies, by scanner. Raises InputError for any other file."""
    return {
        scanner: found
        for scanner, studies in _fdg_studies(path).items()
        if (found := _statistics(doses["ref"] for doses in studies))
    }


def _fdg_studies(path: str | Path) -> dict[str, list[dict[str, float]]]:
    """Scanner -> studies with a full dose, each dose ("ref", "4", ...) -> noise metric."""
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
    return {
        scanner: [doses for doses in studies.values() if doses.get("ref", 0) > 0]
        for scanner, studies in metrics.items()
    }


def _statistics(values: Iterable[float]) -> NoiseStatistics | None:
    """Of the positive, finite values; None where there are none."""
    known = [value for value in values if 0 < value < math.inf]
    if not known:
        return None
    middle, low, high = (float(v) for v in np.percentile(known, (50, 5, 95)))
    return NoiseStatistics(len(known), middle, low, high)
