"""Agreement of two measurements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np


class Agreement(TypedDict):
    """Count, median and mean of differences, and the 95 % limits of agreement."""

    n: int
    median: float | None
    mean: float | None
    limit_low: float | None
    limit_high: float | None


def bland_altman(differences: Iterable[float]) -> Agreement:
    """n, median, mean and the 95 % limits of agreement, mean -/+ 1.96 sample SD (None below two values)."""
    values = np.asarray(list(differences), dtype=np.float64)
    mean = float(values.mean()) if values.size else None
    spread = 1.96 * float(values.std(ddof=1)) if values.size > 1 else None
    limits = None if mean is None or spread is None else (mean - spread, mean + spread)
    return {
        "n": int(values.size),
        "median": float(np.median(values)) if values.size else None,
        "mean": mean,
        "limit_low": None if limits is None else limits[0],
        "limit_high": None if limits is None else limits[1],
    }
