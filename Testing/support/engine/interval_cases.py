"""Lesions whose full dose is known, drawn from a law, and calibrations made from them."""

from __future__ import annotations

import numpy as np
from drmc.measures.intervals import Calibration, CalibrationLesion, calibrate
from drmc.measures.lesion_features import FEATURES, METRICS

BIAS = {"suv_mean": 0.1, "suv_peak": 0.05, "suv_max": 0.2}
WIDE = 12.0  # features of either sign up to it, so that the tiny scans of the tests lie within calibration


def drawn_lesions(
    seed: int, centers: int = 40, per_center: int = 12, name: str = "R"
) -> list[CalibrationLesion]:
    """Lesions of centers that differ; full dose is the denoised value times a known bias and noise.

    The noise grows with the feature `noise_around`.
    """
    rng = np.random.default_rng(seed)
    found = []
    for center in range(centers):
        shift = rng.normal(0, 0.05)
        for number in range(per_center):
            features = rng.uniform(-WIDE, WIDE, len(FEATURES))
            scale = 0.1 * np.exp(0.05 * features[FEATURES.index("noise_around")])
            denoised = {metric: float(rng.uniform(1, 10)) for metric in METRICS}
            full = {
                metric: denoised[metric] * float(np.exp(BIAS[metric] + shift + scale * rng.normal()))
                for metric in METRICS
            }
            where = (f"{name}{center}", f"{name}{center}-1", f"{name}{center}-1 low 4", f"lesion {number}")
            found.append(CalibrationLesion(*where, tuple(features.tolist()), denoised, full))
    return found


def drawn_calibration(seed: int = 0) -> Calibration:
    """A calibration in whose range every lesion lies."""
    return calibrate(drawn_lesions(seed), {"simulated": True})
