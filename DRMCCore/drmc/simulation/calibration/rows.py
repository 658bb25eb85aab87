"""The calibration's verdict: measured beside published values, row by row, with the accepted range."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from drmc.simulation.calibration.public_noise import (
    SCANNERS,
    NoiseStatistics,
    full_dose_metrics,
    noise_ratios,
)
from drmc.simulation.calibration.study import Plan, noise_table

KIM = "Kim 2020, PMC7560684: liver SNR 11.1 and 8.7 on two scanner generations"
LIVER_CV = {
    "C1": (0.09, 0.12, KIM),
    "C2": (0.09, 0.12, KIM),
    "C3": (0.06, 0.09, "assumed: .075, 20 % either way; no published value at this dose"),
    "C4": (0.07, 0.15, "PMC9747988: below 15 % at 10 min; PMC8241747: 1.8 min equal 16 min of a short field"),
    "C6": (0.09, 0.12, KIM),
}
"""Liver variation at full dose, accepted from, to, and why."""
WIDTHS_MM = {"C1": ((9.0, 12.0), (5.6, 8.4)), "C3": ((5.0, 9.0),) * 2, "C4": ((5.0, 9.0),) * 2}
"""Accepted width of the noise autocorrelation in plane and along the axis."""
TEXTURE_SOURCE = "texture literature (Razifar 2005, Castro 2018), as the project's reference states it"
LIVER_SECTION = "Liver variation at full dose"
TEXTURE_SECTION = "Low dose and texture"
LAW_SECTION = "Noise at reduced dose against real scans"
GE_SECTION = "A real scan, GE Discovery ST"
GE_SOURCE = "STS_001, doi:10.7937/K9/TCIA.2015.7GO2GSKS, same rule"
LAW_TOLERANCE = 0.15
GE_TOLERANCE = 0.20
POISSON_TOLERANCE = 0.08
BIAS_LIMIT = 0.03
LOG_SKEWNESS_LIMIT = 0.4
LEAST_CERTAINTY = 0.01  # standard error of an organ's mean at low dose, above which its shift says nothing
PASS, MISS, STATED, ABSENT = "pass", "miss", "stated only", "not measured"


@dataclass(frozen=True)
class Row:
    """One comparison; `lower` and `upper` bound the accepted values, None where nothing is published."""

    section: str
    subject: str
    measure: str
    value: float | None
    reference: float | None
    lower: float | None
    upper: float | None
    source: str
    note: str = ""

    @property
    def outcome(self) -> str:
        """pass, miss, stated only (nothing to compare with) or not measured."""
        if self.value is None or not math.isfinite(self.value):
            return ABSENT
        if self.lower is None and self.upper is None:
            return STATED
        low = -math.inf if self.lower is None else self.lower
        high = math.inf if self.upper is None else self.upper
        return PASS if low <= self.value <= high else MISS

    @property
    def accepted(self) -> str:
        """The accepted range in words."""
        if self.lower is not None and self.upper is not None:
            return f"{short_number(self.lower)} to {short_number(self.upper)}"
        if self.lower is not None:
            return f"above {short_number(self.lower)}"
        return "" if self.upper is None else f"below {short_number(self.upper)}"

    def to_dict(self) -> dict[str, Any]:
        """The fields and the outcome, JSON-able."""
        return {**asdict(self), "outcome": self.outcome}


def short_number(value: float) -> str:
    """Three significant digits, large numbers whole."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


Measures = Mapping[str, Mapping[str, Any]]


def comparison(plan: Plan, measures: Measures) -> list[Row]:
    """All rows of a calibration; `measures` as `calibrate` returns them."""
    table = noise_table(plan)
    real = noise_ratios(table) if table is not None else {}
    full = full_dose_metrics(table) if table is not None else {}
    livers = [
        (center, found)
        for center in plan.centers
        if (found := [m for m in measures.values() if m["kind"] == "liver" and m["center"] == center.name])
    ]
    rows = [row for center, liver in livers for row in _liver_rows(center.name, center.liver_cv, liver)]
    rows += [row for center, liver in livers for row in _texture_rows(center.name, liver)]
    for center in plan.centers:
        if center.name in SCANNERS:
            law = law_rows(center.name, measures, real.get(SCANNERS[center.name], {}))
            if law and SCANNERS[center.name] in full:
                law.append(_full_dose_row(center.name, measures, full[SCANNERS[center.name]]))
            rows += law
    return rows + _ge_rows(measures)


def outcome_counts(rows: Sequence[Row]) -> dict[str, int]:
    """Outcome -> number of rows."""
    return dict(Counter(row.outcome for row in rows))


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None


def _spread(values: Sequence[float | None], form: str = ".3f") -> str:
    known = sorted(v for v in values if v is not None)
    if len(known) < 2:
        return f"{len(known)} patient" if known else ""
    return f"{len(known)} patients, {known[0]:{form}} to {known[-1]:{form}}"


# ---- liver variation and texture
def _liver_rows(name: str, target: float, pieces: Sequence[Mapping[str, Any]]) -> list[Row]:
    values = [p["full"]["spheres"]["median"] for p in pieces]
    if name in LIVER_CV:
        lower, upper, source = LIVER_CV[name]
    elif target:
        lower, upper, source = 0.8 * target, 1.2 * target, "the center's own liver_cv, 20 % either way"
    else:
        lower, upper, source = None, None, "none"
    return [
        Row(
            LIVER_SECTION,
            name,
            "standard deviation over mean in 3 cm spheres",
            _median(values),
            target or None,
            lower,
            upper,
            source,
            _spread(values),
        )
    ]


def noise_cv(piece: Mapping[str, Any], dose: str) -> float | None:
    """Variation in the spheres less that of the true uptake, seen at the scanner's resolution, in quadrature.

    None where the anatomy makes more than half of the variance: what remains would hang on its exact
    resolution.
    """
    total, anatomy = (piece[key]["spheres"]["median"] for key in (dose, "truth"))
    return math.sqrt(total**2 - anatomy**2) if total**2 > 2 * anatomy**2 else None


def _texture_rows(name: str, pieces: Sequence[Mapping[str, Any]]) -> list[Row]:
    factor = pieces[0]["dose_reduction_factor"]
    ratios = [
        low / full
        for low, full in ((noise_cv(p, "low"), noise_cv(p, "full")) for p in pieces)
        if low is not None and full
    ]
    wanted = math.sqrt(factor)
    row = partial(Row, TEXTURE_SECTION, name)
    rows = [
        row(
            f"liver noise at DRF {factor:g} over full dose",
            _median(ratios),
            wanted,
            wanted * (1 - POISSON_TOLERANCE),
            wanted * (1 + POISSON_TOLERANCE),
            "Poisson counts: square root of the dose reduction factor",
            _spread(ratios, ".2f"),
        )
    ]
    organ, bias = worst_bias(pieces)
    rows.append(
        row(
            f"largest shift of an organ mean, DRF {factor:g} against full dose",
            bias,
            0.0,
            -BIAS_LIMIT,
            BIAS_LIMIT,
            f"unbiased reconstruction, {100 * BIAS_LIMIT:g} %",
            organ,
        )
    )
    skew = _median([p["skewness"] for p in pieces])
    log_skew = _median([p["log_skewness"] for p in pieces])
    source = "EM noise is near log-normal (Barrett 1994)"
    rows.append(row("skewness of low-dose liver voxels", skew, None, 0.0, None, source))
    rows.append(
        row(
            "skewness of their logarithms",
            log_skew,
            None,
            -LOG_SKEWNESS_LIMIT,
            LOG_SKEWNESS_LIMIT,
            source,
        )
    )
    lowest, highest = (0.04, 0.06) if name == "C1" else (None, None)
    rows.append(
        row(
            "half power of the noise spectrum [1/mm]",
            _median([p["half_power"] for p in pieces]),
            None,
            lowest,
            highest,
            TEXTURE_SOURCE if name == "C1" else "none",
        )
    )
    if name == "C1":
        power = _median([p["power_at_0.1"] for p in pieces])
        rows.append(row("noise power at 0.1 /mm over its maximum", power, None, None, 0.05, TEXTURE_SOURCE))
    widths = [p["noise_width_mm"] for p in pieces]
    plane = _median([(w["x"] + w["y"]) / 2 for w in widths if w and w["x"] and w["y"]])
    axial = _median([w["z"] for w in widths if w])
    (low, high), (axial_low, axial_high) = WIDTHS_MM.get(name, ((None, None), (None, None)))
    source = TEXTURE_SOURCE if name in WIDTHS_MM else "none"
    rows.append(row("width of the noise correlation in plane [mm]", plane, None, low, high, source))
    rows.append(
        row("width of the noise correlation along the axis [mm]", axial, None, axial_low, axial_high, source)
    )
    return rows


def worst_bias(pieces: Sequence[Mapping[str, Any]]) -> tuple[str, float | None]:
    """The organ whose mean shifts most from full to low dose, and its relative shift.

    Volumes are pooled over the pieces, means weighted by volume. Only organs count that are large enough:
    where the standard error of the mean, by the noise in the liver and the volume over which noise is
    correlated, is below LEAST_CERTAINTY.
    """
    least_ml = least_volume_ml(pieces)
    if least_ml is None:
        return "", None
    pooled: dict[str, np.ndarray] = {}
    for piece in pieces:
        for organ, (ml, _, full, low) in piece["organs"].items():
            pooled[organ] = pooled.get(organ, np.zeros(3)) + ml * np.array([1.0, full, low])
    shifts = {
        organ: float(low / full - 1)
        for organ, (ml, full, low) in pooled.items()
        if ml >= least_ml and full > 0
    }
    if not shifts:
        return "", None
    organ = max(shifts, key=lambda name: abs(shifts[name]))
    return organ.replace("_", " "), shifts[organ]


def least_volume_ml(pieces: Sequence[Mapping[str, Any]]) -> float | None:
    """Volume (ml) whose mean at low dose has a standard error of LEAST_CERTAINTY.

    None where the noise was not measured.
    A correlation that falls like a Gaussian of full widths w fills (pi / (4 ln 2))^1.5 w_x w_y w_z.
    """
    noise = _median([p["low"]["spheres"]["median"] for p in pieces])
    found = [w for p in pieces if (w := p["noise_width_mm"]) and None not in w.values()]
    if noise is None or not found:
        return None
    widths = [float(np.median([w[axis] for w in found])) for axis in "xyz"]
    correlated = (math.pi / (4 * math.log(2))) ** 1.5 * math.prod(widths)
    return (noise / LEAST_CERTAINTY) ** 2 * correlated / 1000


# ---- the low-dose law
def _law_patients(name: str, measures: Measures) -> list[list[Mapping[str, Any]]]:
    """The slabs of each patient of the low-dose law of a center."""
    patients: dict[str, list[Mapping[str, Any]]] = {}
    for piece, found in measures.items():
        if found["kind"] == "law" and found["center"] == name:
            patients.setdefault(piece.rsplit("-", 1)[0], []).append(found)
    return list(patients.values())


def _pooled(terms: Sequence[Sequence[float]]) -> float:
    """The noise metric of slabs together."""
    numerator, denominator = np.sum(terms, 0)
    return float(numerator / denominator) if denominator > 0 else math.nan


def law_ratios(name: str, measures: Measures) -> dict[str, list[float]]:
    """Dose reduction factor -> ratio of the noise metric to full dose per patient, its slabs pooled."""
    ratios: dict[str, list[float]] = {}
    for slabs in _law_patients(name, measures):
        full = _pooled([slab["full"] for slab in slabs])
        for factor in slabs[0]["low"]:
            ratio = _pooled([slab["low"][factor] for slab in slabs]) / full
            if math.isfinite(ratio):
                ratios.setdefault(factor, []).append(ratio)
    return ratios


def law_rows(name: str, measures: Measures, real: Mapping[float, NoiseStatistics]) -> list[Row]:
    """Noise metric at reduced dose over full dose, against the real scans of that scanner."""
    rows = []
    for factor, values in law_ratios(name, measures).items():
        known = real.get(float(factor))
        value = _median(values)
        note = _spread(values, ".2f")
        if known and value is not None:
            inside = known.p05 <= value <= known.p95
            note += (
                f"; real 5 to 95 %: {known.p05:.2f} to {known.p95:.2f}, {'inside' if inside else 'outside'}"
            )
        rows.append(
            Row(
                LAW_SECTION,
                f"{name}, {SCANNERS[name]}",
                f"noise metric at DRF {factor} over full dose",
                value,
                known.median if known else None,
                known.median * (1 - LAW_TOLERANCE) if known else None,
                known.median * (1 + LAW_TOLERANCE) if known else None,
                f"UDPET, median of {known.studies} FDG studies" if known else "none: the table is not there",
                note,
            )
        )
    return rows


def _full_dose_row(name: str, measures: Measures, real: NoiseStatistics) -> Row:
    """The metric of the full dose, mostly of the anatomy: how finely phantoms are structured. Stated only."""
    values = [_pooled([slab["full"] for slab in slabs]) for slabs in _law_patients(name, measures)]
    note = f"{_spread(values)}; real 5 to 95 %: {real.p05:.3f} to {real.p95:.3f}"
    source = f"UDPET, median of {real.studies} FDG studies"
    subject, what = f"{name}, {SCANNERS[name]}", "noise metric at full dose"
    return Row(LAW_SECTION, subject, what, _median(values), real.median, None, None, source, note)


# ---- the real scan
def _ge_rows(measures: Measures) -> list[Row]:
    real = next((m for m in measures.values() if m["kind"] == "real"), None)
    if real is None:
        return []
    subjects = {"twin": "simulated patients of its weight", "semi-real": "the scan itself, semi-real"}
    measured = {
        "liver variation in 3 cm spheres": lambda m: m["full"]["spheres"]["median"],
        **{f"lag-1 autocorrelation in {axis}": _lag_one(axis) for axis in "xyz"},
        "prompts per slice at the liver": lambda m: m["prompts_per_slice"],
    }
    rows = []
    for kind, subject in subjects.items():
        found = [m for m in measures.values() if m["kind"] == kind]
        for measure, get in measured.items() if found else ():
            known, values = get(real), [get(m) for m in found]
            lower, upper = (known * (1 - GE_TOLERANCE), known * (1 + GE_TOLERANCE)) if known else (None, None)
            note = _spread(values, ".3g") if kind == "twin" else ""
            rows.append(
                Row(GE_SECTION, subject, measure, _median(values), known, lower, upper, GE_SOURCE, note)
            )
    return rows


def _lag_one(axis: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda piece: piece["full"]["correlation"]["mean"][axis][0]
