"""Means over scans that belong together, from the scores of single scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from drmc.evaluation.organs.records import NETWORK, TEMPLATE, Group, Row, Spread
from drmc.evaluation.organs.scores import OrganScore
from drmc.measures.organs import LEAST_ML
from drmc.organs.table import ORGANS, classes, organs

CONDITIONS = ("corrected_full", "corrected_low", "uncorrected_full", "uncorrected_low")
NO_IMAGE = "no image"
ALL, CENTER, DOSE, TRACER = "all", "center", "dose", "tracer"
LARGEST = frozenset(
    one.key for one in sorted(organs(), key=lambda one: one.plausible_ml[0] * one.plausible_ml[1])[-12:]
)
"""The twelve largest organs of the table."""
_COUNTED = frozenset(one.key for one in organs())


def condition_of(row: Row) -> str:
    """Of an image, one of `CONDITIONS`; NO_IMAGE of the template."""
    if row["method"] == TEMPLATE:
        return NO_IMAGE
    dose = "full" if row["dose_reduction_factor"] == 1 else "low"
    return f"{'corrected' if row['corrected'] else 'uncorrected'}_{dose}"


def groups(rows: Sequence[Row]) -> list[Group]:
    """All groups with scans: of each anatomy and condition all, and by center, dose and tracer."""
    values: dict[str, Callable[[Row], str]] = {
        ALL: lambda row: "",
        CENTER: lambda row: row["center"],
        DOSE: lambda row: f"{row['center']} 1/{row['dose_reduction_factor']:g}",
        TRACER: lambda row: row["tracer"],
    }
    found = []
    for method in (NETWORK, TEMPLATE):
        for by, value_of in values.items():
            parts: dict[tuple[str, str, str], list[Row]] = {}
            for row in rows:
                if row["method"] == method and (method == NETWORK or by == ALL):
                    place = (row["anatomy"], condition_of(row), value_of(row))
                    parts.setdefault(place, []).append(row)
            found += [_group(method, by, *place, part) for place, part in parts.items()]
    return found


def scan_mean(row: Row, keys: frozenset[str] = _COUNTED) -> float | None:
    """Mean Dice over the organs that count in a scan."""
    values = [one["dice"] for key, one in row["scores"]["organs"].items() if key in keys]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _group(method: str, by: str, anatomy: str, condition: str, value: str, rows: Sequence[Row]) -> Group:
    presence = [_presence(row) for row in rows]
    present, found, absent, invented = (sum(column) for column in zip(*presence, strict=True))
    return {
        "method": method,
        "anatomy": anatomy,
        "condition": condition,
        "by": by,
        "value": value,
        "scans": len(rows),
        "dice": spread(scan_mean(row) for row in rows),
        "dice_largest": spread(scan_mean(row, LARGEST) for row in rows)["mean"],
        "side_error": spread(row["scores"]["side_error"] for row in rows)["mean"],
        "found": found / present if present else None,
        "invented": invented / absent if absent else None,
        "organs": {one.key: _of_organ(one.key, rows) for one in classes() if _scores(one.key, rows)},
    }


def _presence(row: Row) -> tuple[int, int, int, int]:
    """Organs that are in the field, of these found; absent ones, of these invented."""
    there = {key: one for key, one in row["scores"]["organs"].items() if key in _COUNTED}
    present = [one for one in there.values() if one["reference_ml"] >= LEAST_ML]
    invented = [one for one in there.values() if not one["reference_ml"] and one["found_ml"] > LEAST_ML]
    with_reference = sum(one["reference_ml"] > 0 for one in there.values())
    found = sum(one["found_ml"] > 0 for one in present)
    return len(present), found, ORGANS - with_reference, len(invented)


def _scores(key: str, rows: Sequence[Row]) -> list[OrganScore]:
    """Of an organ in the scans where it counts."""
    found = (row["scores"]["organs"].get(key) for row in rows)
    return [one for one in found if one is not None and one["dice"] is not None]


def _of_organ(key: str, rows: Sequence[Row]) -> dict[str, Any]:
    scores = _scores(key, rows)
    measures = ("surface_dice", "surface_dice_fine", "hd95_mm", "volume_error", "suv_error")
    return {
        "dice": spread(one["dice"] for one in scores),
        "missed": sum(not one["found_ml"] for one in scores),
        "invented": sum(not one["reference_ml"] for one in scores),
        **{m: spread(one[m] for one in scores) for m in (*measures, "suv_error_truth", "centroid_mm")},  # type: ignore[literal-required]
    }


def spread(values: Sequence[float | None] | Iterator[float | None]) -> Spread:
    """Number, mean, sd, median and quartiles of the values that are defined."""
    found = np.array([value for value in values if value is not None], np.float64)
    if not found.size:
        return {"n": 0, "mean": None, "sd": None, "median": None, "quartiles": None}
    low, middle, high = (float(q) for q in np.percentile(found, (25, 50, 75)))
    sd = float(found.std(ddof=1)) if found.size > 1 else None
    return {
        "n": found.size,
        "mean": float(found.mean()),
        "sd": sd,
        "median": middle,
        "quartiles": (low, high),
    }


def find(
    found: Sequence[Group],
    *,
    anatomy: str,
    condition: str,
    by: str = ALL,
    value: str = "",
    method: str = NETWORK,
) -> Group | None:
    """The group of that description, if it has scans."""
    wanted = {"method": method, "anatomy": anatomy, "condition": condition, "by": by, "value": value}
    return next((one for one in found if all(one[k] == v for k, v in wanted.items())), None)  # type: ignore[literal-required]
