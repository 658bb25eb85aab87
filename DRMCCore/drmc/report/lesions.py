"""The report's tables: lesions, what exceeds noise, bias, and the whole image against full dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from drmc.measures import mtv
from drmc.measures.bias import (
    BIAS_QUANTITIES,
    REPEATABILITY_COEFFICIENT_PERCENT,
    TEST_RETEST_PERCENT,
    lesion_bias,
    repeatability_flags,
)
from drmc.measures.rows import INTERVAL_OF, LEAN_NUMBERS, LesionNumber, LesionRow, Stage
from drmc.pages.markup import section, table
from drmc.pages.text import is_number, mapping, number, percent, plain
from drmc.report.summary import Summary

_MEASURES: tuple[tuple[LesionNumber, str, str], ...] = (
    ("suv_max", "SUVmax", ""),
    ("suv_peak", "SUVpeak", ""),
    ("suv_mean", "SUVmean", ""),
    ("suv_median", "SUVmedian", ""),
    ("suv_min", "SUVmin", ""),
    ("mtv41_ml", "MTV 41 %", " ml"),
    ("tlg41", "TLG 41 %", ""),
    ("mtv_suv25_ml", "MTV SUV ≥ 2.5", " ml"),
    ("tlg_suv25", "TLG SUV ≥ 2.5", ""),
    ("mtv_suv40_ml", "MTV SUV ≥ 4.0", " ml"),
    ("tlg_suv40", "TLG SUV ≥ 4.0", ""),
    ("mtv41_original_ml", "MTV 41 % of the original’s SUVmax", " ml"),
    ("mtv_percist_ml", "MTV PERCIST", " ml"),
    ("tlg_percist", "TLG PERCIST", ""),
    ("sul_max", "SULmax", ""),
    ("sul_peak", "SULpeak", ""),
    ("sul_mean", "SULmean", ""),
)
# Shown only where there is a liver, or height, weight and sex.
_WHERE_DEFINED = {"mtv_percist_ml", "tlg_percist", *LEAN_NUMBERS}
_MINOR = {"suv_median", "suv_min"}
_COMPARED: tuple[Stage, ...] = ("original", "denoised")
_LIMIT_OF: dict[str, float] = dict(REPEATABILITY_COEFFICIENT_PERCENT.items())
_BIAS_OF: dict[str, str] = {quantity: short for short, quantity in BIAS_QUANTITIES.items()}


def lesions_html(rows: Sequence[LesionRow]) -> str:
    """The lesion section, from rows of the lesion table; with the bias if there is a full-dose image."""
    if not rows:
        return '<p class="note">No lesions were given; with a segmentation this page has their numbers.</p>'
    stages: dict[str, dict[Stage, LesionRow]] = {}
    for row in rows:
        stages.setdefault(row["segment"], {})[row["stage"]] = row
    has = {stage for found in stages.values() for stage in found}
    flags = repeatability_flags(rows)
    beyond = {(flag["segment"], flag["quantity"]) for flag in flags if flag["exceeds"]}
    bias = lesion_bias(rows)
    signed = {(entry["segment"], entry["stage"]): entry for entry in bias["lesions"]}

    columns = ["Original"]
    columns += ["Denoised", "Change", "Noise alone"] if "change_percent" in has else []
    with_interval = any(_has_interval(row) for row in rows)
    columns += ["Full dose, 90 % interval"] if with_interval else []
    columns += ["Full dose", "Bias original"] if "reference" in has else []
    columns += ["Bias denoised"] if {"reference", "denoised"} <= has else []
    head = '<th class="text">Measure</th>' + "".join(f"<th>{column}</th>" for column in columns)
    lines = []
    for segment, found in stages.items():
        volume = number(next(iter(found.values()))["volume_ml"], 2)
        lines.append(
            f'<tr><th class="lesion" colspan="{len(columns) + 1}">{escape(segment)} <span>· {volume} '
            "ml</span></th></tr>"
        )
        for key, label, unit in _MEASURES:
            if key in _WHERE_DEFINED and all(row.get(key) is None for row in found.values()):
                continue
            cells = _cells(found, key, unit, has, (segment, key) in beyond, with_interval)
            if "reference" in has:
                cells += [
                    _bias_cell(signed.get((segment, stage)), key) for stage in _COMPARED if stage in has
                ]
            minor = ' class="minor"' if key in _MINOR else ""
            lines.append(f'<tr{minor}><td class="text">{label}</td>{"".join(cells)}</tr>')
    parts = [table(head, lines)]
    if "change_percent" in has:
        parts.append(_repeatability_note(bool(beyond)))
    parts.append(
        '<p class="note">SUV in g/ml, TLG in SUV × ml. SUVpeak: largest mean of a 1 cm³ sphere (radius 6.2 '
        "mm, voxels whose centers lie in it; if these are not 1 cm³ within 10 %, each by its fraction "
        "inside) centered in the lesion. MTV and TLG: voxels at or above 41 % of the lesion’s SUVmax on the "
        "same image, or above the threshold named. The same segment is used on every image. A dash: not "
        "defined.</p>"
    )
    parts.append(_intervals_note(rows))
    parts.append(_sul_note(rows))
    parts.append(_volumes_note(rows))
    parts.append(_bias_summary(bias["patient"]))
    return "".join(parts)


def _cells(
    found: Mapping[Stage, LesionRow],
    key: LesionNumber,
    unit: str,
    has: set[Stage],
    beyond: bool,
    with_interval: bool,
) -> list[str]:
    """One measure of one lesion on every image, with the change, its limit and the interval of full dose."""
    cells = [_value(found, "original", key, unit)]
    if "change_percent" in has:
        value = _number(found, "change_percent", key)
        change = percent(value)
        limit = _LIMIT_OF.get(key)
        cells.append(_value(found, "denoised", key, unit))
        mark = f" {mtv.MARK}" if key in mtv.RELATIVE and value else ""
        cells.append(f'<td class="beyond">{change} ▲</td>' if beyond else f"<td>{change}{mark}</td>")
        cells.append("<td></td>" if limit is None else f"<td>±{limit:.1f} %</td>")
    if with_interval:
        cells.append(f"<td>{_interval(found.get('denoised'), key)}</td>")
    if "reference" in has:
        cells.append(_value(found, "reference", key, unit))
    return cells


def _has_interval(row: LesionRow) -> bool:
    return row.get("suv_mean_interval90_low") is not None


def _interval(row: LesionRow | None, key: LesionNumber) -> str:
    """Both bounds of a quantity that has them; a dash where a calibrated model states none."""
    if row is None or key not in INTERVAL_OF:
        return ""
    low, high = (row.get(bound) for bound in INTERVAL_OF[key])
    if low is None or high is None:
        return number(None, 2)
    return f"{number(low, 2)} to {number(high, 2)}"


def _intervals_note(rows: Sequence[LesionRow]) -> str:
    """What the intervals mean, and why a lesion has none."""
    lines = []
    if any(_has_interval(row) for row in rows):
        lines.append(
            "Full dose, 90 % interval: what a full-dose image of this scan, with its own noise, would have "
            "shown, as far as size, contrast, noise and the change by denoising tell. It was calibrated for "
            "this model on lesions whose full dose is known: of lesions like those, nine in ten lie in their "
            "intervals. It corrects the bias that this model is known to have, so the denoised value may lie "
            "outside. It does not depend on the strength, and is no interval of the true uptake."
        )
    notes = [f"{row['segment']}: {note}" for row in rows if (note := row.get("interval_note"))]
    if notes:
        lines.append(f"No interval of full dose is stated for {'; '.join(notes)}.")
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def _sul_note(rows: Sequence[LesionRow]) -> str:
    """What SUL is, or why it is not stated."""
    if any(row.get("sul_mean") is not None for row in rows):
        text = (
            "SUL: SUV by lean body mass, by Janmahasatian’s formula; PERCIST means it. It is proportional to "
            "SUV, so that its changes are those of SUV."
        )
        return f'<p class="note">{text}</p>'
    reason = next((note for row in rows if (note := row.get("sul_note"))), None)
    return f'<p class="note">SUL is not stated: {escape(reason)}.</p>' if reason else ""


def _number(found: Mapping[Stage, LesionRow], stage: Stage, key: LesionNumber) -> float | None:
    row = found.get(stage)
    return None if row is None else row[key]


def _value(found: Mapping[Stage, LesionRow], stage: Stage, key: LesionNumber, unit: str) -> str:
    value = _number(found, stage, key)
    return f"<td>{number(value, 2)}{unit if value is not None else ''}</td>"


def _bias_cell(entry: Mapping[str, Any] | None, key: str) -> str:
    if key not in _BIAS_OF:
        return "<td></td>"
    signed = entry[f"signed_{_BIAS_OF[key]}"] if entry else None
    return f"<td>{percent(_hundredfold(signed))}</td>"


def _repeatability_note(any_beyond: bool) -> str:
    limits = REPEATABILITY_COEFFICIENT_PERCENT
    low, high = (percent(value, digits=0) for value in TEST_RETEST_PERCENT)
    return (
        '<p class="note"><span class="chip">▲ beyond noise</span> '
        f"{'marks' if any_beyond else 'would mark'} a change larger than noise alone makes between two "
        "images of one scan, 2.77 × their within-patient standard deviation: "
        f"{limits['suv_max']:.1f} % for SUVmax, {limits['suv_peak']:.1f} % for SUVpeak (Lodge 2012). "
        f"Scans of different days differ by more, {low} to {high} (Lodge 2017). "
        f"{'' if any_beyond else 'No change here is. '}A noisy SUVmax is expected to drop: it is the largest "
        "of many noisy voxels, so noise alone raises it, in short scans by tens of percent. Judge a drop by "
        "SUVpeak and SUVmean, which noise hardly shifts, and where there is one by the full-dose image.</p>"
    )


def _volumes_note(rows: Sequence[LesionRow]) -> str:
    """The meaning of the mark of a relative threshold, and the origin of PERCIST's threshold."""
    notes = []
    changes = [row for row in rows if row["stage"] == "change_percent"]
    if any(row.get(key) for row in changes for key in mtv.RELATIVE):
        notes.append(f"{mtv.MARK} {mtv.EXPLANATION}.")
    percist = next(
        (row["percist_threshold"] for row in rows if row.get("percist_threshold") is not None), None
    )
    if percist is not None:
        is_segment = any(row.get("percist_threshold") is None for row in rows)  # the liver itself has none
        liver = "the liver segment" if is_segment else "a sphere of 3 cm in the liver of the organs"
        notes.append(
            f"PERCIST: SUV ≥ {number(percist, 2)}, 1.5 × mean + 2 SD of {liver} on the original, "
            "the same on every image and in this table’s SUV type (PERCIST means SUL)."
        )
    return f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""


def _bias_summary(patient: Mapping[Stage, Mapping[str, Any]]) -> str:
    if not patient:
        return ""
    titles = ("Mean absolute bias", "Lesions", "Signed, median", "95 % limits of agreement")
    head = '<th class="text">Bias</th>' + "".join(f"<th>{title}</th>" for title in titles)
    lines = []
    for short, quantity in BIAS_QUANTITIES.items():
        label = f"B_{short} ({quantity.replace('suv_', 'SUV')})"
        for stage, numbers in patient.items():
            low, high = (percent(_hundredfold(numbers[f"limit_{end}_{short}"])) for end in ("low", "high"))
            cells = (
                percent(_hundredfold(numbers[f"B_{short}"]), sign=False),
                str(numbers[f"n_{short}"]),
                percent(_hundredfold(numbers[f"signed_median_{short}"])),
                "–" if numbers[f"limit_low_{short}"] is None else f"{low} to {high}",
            )
            line = "".join(f"<td>{cell}</td>" for cell in cells)
            lines.append(f'<tr><td class="text">{label}, {escape(stage)}</td>{line}</tr>')
    return (
        f"<h3>Bias against the full-dose image, over this patient’s lesions</h3>{table(head, lines)}"
        '<p class="note">|S − S_full| / S_full per lesion, then the mean over lesions. The full-dose image '
        "is noisy too; perfect agreement with it is not the goal.</p>"
    )


def comparison_html(summary: Summary) -> str:
    """The section that compares original and denoised with the full-dose image; empty without one."""
    comparison = mapping(summary.get("reference"))
    lines = []
    for key, label, digits in (("psnr", "PSNR [dB]", 2), ("nrmse", "NRMSE", 4), ("ssim", "SSIM", 4)):
        values = mapping(comparison.get(key))
        if values:
            cells = "".join(f"<td>{number(values.get(stage), digits)}</td>" for stage in _COMPARED)
            lines.append(f'<tr><td class="text">{label}</td>{cells}</tr>')
    if not lines:
        return ""
    facts = []
    if is_number(comparison.get("data_range")):
        facts.append(f"Data range {comparison['data_range']:g} SUV, nothing clipped")
    if comparison.get("mask"):
        voxels = comparison.get("voxels")
        count = f" ({voxels:,} voxels)" if is_number(voxels) else ""
        facts.append(f"voxels compared: {escape(plain(comparison['mask']))}{count}")
    head = '<th class="text">Measure</th><th>Original</th><th>Denoised</th>'
    note = f'<p class="note">{"; ".join(facts)}.</p>' if facts else ""
    return section("Against the full-dose image", table(head, lines) + note)


def _hundredfold(fraction: float | None) -> float | None:
    return None if fraction is None else 100.0 * fraction
