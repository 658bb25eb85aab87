"""The aims of the method, and what it reached: computed from the results, misses included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from drmc.evaluation.config import FILTERS
from drmc.evaluation.measures import LARGE_MM
from drmc.evaluation.records import Aim, RealResult
from drmc.evaluation.results import Results, groups
from drmc.evaluation.tables import number, percent

SHARE = {"known": 0.6, "unknown": 0.5}
ABOVE_FILTER_DB = 1.0
LESION_BIAS = {"mean": 0.05, "peak": 0.08}
SMALL_MM, SMALL_BIAS = (8.0, LARGE_MM), 0.1
LEAST_LESIONS = 60
"""Fewer of a class say little of a mean bias."""
BODY_PERCENT, PEAK_PERCENT, LIVER_FALL = 0.5, 4.0, 0.25
BASELINE, RESUNET = "baseline", "resunet"


def aims(
    results: Results,
    real: Mapping[str, Sequence[RealResult]],
    reference: str,
    known: Sequence[str] | None,
) -> list[Aim]:
    """Whether each aim was reached.

    Args:
        results: of the test patients.
        real: records of the networks, by real scan.
        reference: the method whose aims they are.
        known: the centers that it was trained on; None where nothing states them.

    Returns:
        Per aim `aim`, `limit`, `reached` (a number; None: not assessed), `unit`, `passed` and `detail`. Means
        are over patients; where an aim is about every center, the lowest counts.
    """
    centers = groups((center for center, _ in results.doses()), known)
    found = [_share(results, reference, centers.get(group, []), group) for group in SHARE]
    every = sorted({center for center, _ in results.doses()})
    found.append(_above_filters(results, reference, centers.get("known", [])))
    found.append(_never_below_filters(results, reference, every))
    found.append(_above(results, reference, every, BASELINE, "the baseline generalist"))
    found.append(_above(results, reference, every, RESUNET, "the residual U-Net"))
    found += [_lesions(results, reference, quantity, centers) for quantity in LESION_BIAS]
    found.append(_lesions(results, reference, "mean", centers, SMALL_MM, SMALL_BIAS))
    found += [_nearer_than_low(results, reference, every, metric) for metric in ("B_mean", "B_max")]
    if not real:
        return found
    return found + [aim for scan, records in real.items() for aim in _real(scan, records, reference)]


def _aim(
    text: str,
    limit: float,
    reached: float | None,
    unit: str,
    passes: Callable[[float], bool],
    detail: str = "",
) -> Aim:
    passed = None if reached is None else bool(passes(reached))
    detail = detail or "nothing to measure it on" * (reached is None)
    return {"aim": text, "limit": limit, "reached": reached, "unit": unit, "passed": passed, "detail": detail}


def _share(results: Results, reference: str, centers: Sequence[str], group: str) -> Aim:
    limit = SHARE[group]
    shares = results.patient_means(reference, "psnr_share", centers)
    by_center = _by_center(shares)
    detail = ", ".join(f"{center} {percent(value)}" for center, value in by_center.items())
    return _aim(
        f"{reference}: share of the attainable gain on {group} centers, at least {100 * limit:g} %",
        limit,
        _mean(shares.values()),
        "fraction",
        lambda reached: reached >= limit,
        detail,
    )


def _above_filters(results: Results, reference: str, centers: Sequence[str]) -> Aim:
    differences: dict[tuple[str, str], list[float]] = {}
    for found in _over_filters(results, reference, centers).values():
        for patient, difference in found.items():
            differences.setdefault(patient, []).append(difference)
    means = {patient: float(np.mean(values)) for patient, values in differences.items()}
    detail = ", ".join(
        f"{center} {number(value, 2, sign=True)} dB" for center, value in _by_center(means).items()
    )
    return _aim(
        f"{reference}: above the best classical filter on known centers, at least {ABOVE_FILTER_DB:g} dB",
        ABOVE_FILTER_DB,
        _mean(means.values()),
        "dB",
        lambda reached: reached >= ABOVE_FILTER_DB,
        detail,
    )


def _never_below_filters(results: Results, reference: str, centers: Sequence[str]) -> Aim:
    means = {
        f"{center} at DRF {factor:g}": float(np.mean(list(found.values())))
        for (center, factor), found in _over_filters(results, reference, centers).items()
    }
    lowest = min(means, key=means.__getitem__, default="")
    return _aim(
        f"{reference}: never below the best classical filter, at any center and dose (the lowest counts)",
        0.0,
        means.get(lowest),
        "dB",
        lambda reached: reached >= 0,
        lowest,
    )


def _over_filters(
    results: Results, reference: str, centers: Sequence[str]
) -> dict[tuple[str, float], dict[tuple[str, str], float]]:
    """By center and dose, then by patient: PSNR above the best filter's [dB].

    The filter is chosen after the fact for each center and dose: in the filters' favor.
    """
    differences: dict[tuple[str, float], dict[tuple[str, str], float]] = {}
    for center, factor in results.doses():
        if center not in centers:
            continue
        mine = results.patient_means(reference, "psnr", [center], factor)
        filtered = [results.patient_means(name, "psnr", [center], factor) for name in FILTERS]
        filtered = [values for values in filtered if values]
        if not filtered or not mine:
            continue
        best = max(filtered, key=lambda values: float(np.mean(list(values.values()))))
        both = mine.keys() & best.keys()
        differences[center, factor] = {patient: mine[patient] - best[patient] for patient in both}
    return differences


def _nearer_than_low(results: Results, reference: str, centers: Sequence[str], metric: str) -> Aim:
    differences = _differences(results, reference, "low", metric, centers)
    detail = ", ".join(f"{center} {percent(value, 1, sign=True)}" for center, value in differences.items())
    return _aim(
        f"{reference}: {metric} below the low dose's at every center (the largest difference counts)",
        0.0,
        max(differences.values(), default=None),
        "fraction",
        lambda reached: reached < 0,
        detail,
    )


def _differences(
    results: Results, reference: str, other: str, metric: str, centers: Sequence[str]
) -> dict[str, float]:
    """By center the mean difference of the patients that both methods have."""
    differences = {}
    for center in centers:
        mine, others = (results.patient_means(method, metric, [center]) for method in (reference, other))
        if both := [mine[patient] - others[patient] for patient in mine.keys() & others.keys()]:
            differences[center] = float(np.mean(both))
    return differences


def _above(results: Results, reference: str, centers: Sequence[str], other: str, name: str) -> Aim:
    differences = _differences(results, reference, other, "psnr", centers)
    detail = ", ".join(f"{center} {number(value, 2, sign=True)} dB" for center, value in differences.items())
    return _aim(
        f"{reference}: above {name} on every center (the lowest counts)",
        0.0,
        min(differences.values(), default=None),
        "dB",
        lambda reached: reached > 0,
        detail,
    )


def _lesions(
    results: Results,
    reference: str,
    quantity: str,
    centers: Mapping[str, Sequence[str]],
    diameters_mm: tuple[float, float] = (LARGE_MM, np.inf),
    limit: float | None = None,
) -> Aim:
    """By group of centers, so that a negative bias at known ones does not cancel a positive one at others."""
    limit = LESION_BIAS[quantity] if limit is None else limit
    of = lambda chosen: results.lesion_biases(reference, quantity, chosen, diameters_mm=diameters_mm)
    means = [float(np.mean(values)) for chosen in centers.values() if (values := of(chosen))]
    by_center = {center: of([center]) for chosen in centers.values() for center in chosen}
    every = [value for values in by_center.values() for value in values]
    each = ", ".join(
        f"{center} {percent(float(np.mean(v)), 1, sign=True)} (n {len(v)})"
        for center, v in by_center.items()
        if v
    )
    spread = f"{each}; mean absolute {percent(float(np.mean(np.abs(every))), 1)}" if every else ""
    count = results.lesion_count(reference, quantity, list(by_center), diameters_mm)
    if count:
        doses = f" ({len(every)} with every dose)" if len(every) > count else ""
        spread += f"; {count} lesions{doses}" + f", fewer than {LEAST_LESIONS}" * (count < LEAST_LESIONS)
    low, high = diameters_mm
    which = f"over {low:g} mm" if high == np.inf else f"from {low:g} to {high:g} mm"
    return _aim(
        f"{reference}: bias of SUV{quantity} of lesions {which} against full dose, at most "
        f"{100 * limit:g} % (the larger of known and unknown centers counts)",
        limit,
        max(means, key=abs, default=None),
        "fraction",
        lambda reached: abs(reached) <= limit,
        spread,
    )


def _real(scan: str, records: Sequence[RealResult], reference: str) -> list[Aim]:
    record = next((one for one in records if one["method"] == reference), None)
    if record is None:
        return []
    peaks = {one["lesion"]: one["suv_peak"] for one in record["lesions"] if one["suv_peak"] is not None}
    worst = max(peaks, key=lambda name: abs(peaks[name]), default=None)
    before, after = record["liver_cov_before"], record["liver_cov_after"]
    fall = None if before is None or after is None else 1 - after / before
    return [
        _aim(
            f"{scan}: the body's mean SUV changes by less than {BODY_PERCENT:g} %",
            BODY_PERCENT,
            record["body_mean_change_percent"],
            "%",
            lambda reached: abs(reached) < BODY_PERCENT,
        ),
        _aim(
            f"{scan}: SUVpeak of the tumours changes by less than {PEAK_PERCENT:g} % (the largest change "
            "counts)",
            PEAK_PERCENT,
            None if worst is None else peaks[worst],
            "%",
            lambda reached: abs(reached) < PEAK_PERCENT,
            "" if worst is None else f"in {worst}, of {len(peaks)}",
        ),
        _aim(
            f"{scan}: the liver's coefficient of variation falls by at least a quarter",
            LIVER_FALL,
            fall,
            "fraction",
            lambda reached: reached >= LIVER_FALL,
            "" if fall is None else f"from {before:.3f} to {after:.3f}",
        ),
    ]


def _by_center(values: Mapping[tuple[str, str], float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for (center, _), value in sorted(values.items()):
        found.setdefault(center, []).append(value)
    return {center: float(np.mean(own)) for center, own in found.items()}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None
