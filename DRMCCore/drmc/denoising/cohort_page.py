"""cohort.html: all scans of a batch on one self-contained page, those to be looked at first.

An outlier is a scan that did not end well, one with a warning, one whose routing is unlike every training
center's, one with foci that were lowered by more than noise explains, one where too little is kept of virtual
spots, or one whose body mean or noise changed unlike the others': robust z = 0.6745 (value - median) / MAD
above 3.5 in size (Iglewicz and Hoaglin 1993), among at least five scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from drmc.denoising.outputs import earlier_summary
from drmc.files import write_text
from drmc.pages.markup import facts_list, section
from drmc.pages.page import page
from drmc.pages.text import mapping, number, percent
from drmc.report.foci import sentence
from drmc.texts import RESEARCH_USE, shown

NAME = "cohort.html"
Z_LIMIT = 3.5
FEWEST = 5
_JUDGED = {"body_mean_change_percent": "body mean change", "noise_reduction_percent": "noise reduction"}
_CSS = """
.scan { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 6px 20px; }
.scan .pair { display: flex; gap: 6px; } \
.scan img { height: 160px; border: 1px solid var(--line); background: #fff; }
@media (max-width: 640px) { .scan { grid-template-columns: 1fr; } }
"""


_NOTE = (
    '<p class="note">First come scans that were not done, that have a warning, whose routing is unlike the '
    "training centers’, with foci lowered by more than noise explains, where too little is kept of virtual "
    "spots, or whose body mean or noise changed "
    "unlike the others’: robust z = 0.6745 × "
    f"(value − median) / MAD beyond ±{Z_LIMIT:g}, among at least {FEWEST} scans. The noise is the robust "
    "standard deviation of second differences in the body. Pictures: maximum-intensity projections, original "
    "and denoised, 0 to 6 SUV.</p>"
)


def write(output: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes OUT/cohort.html atomically, from the rows of batch.csv and the summaries of the scans."""
    summaries = {
        row["scan"]: earlier_summary(output / row["scan"]) or {}
        for row in rows
        if row["outcome"] in ("done", "skipped")
    }
    write_text(output / NAME, shown(page_html(rows, summaries), keep="\n\t"))


def page_html(rows: Sequence[Mapping[str, str]], summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The page as text; `rows` of batch.csv as texts, `summaries` by scan."""
    reasons = outliers(rows, summaries)
    ordered = sorted(rows, key=lambda row: (not reasons[row["scan"]], row["outcome"] in ("done", "skipped")))
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + 1
    summary = ", ".join(f"{count} {escape(outcome)}" for outcome, count in counts.items())
    marked = sum(bool(why) for why in reasons.values())
    cards = [_scan(row, mapping(summaries.get(row["scan"])), reasons[row["scan"]]) for row in ordered]
    return page(
        "DRMC cohort",
        "\n".join(cards),
        heading=f"Cohort of {len(rows)} scans",
        introduction=f'<p class="lead">{summary}. {marked} to be looked at, shown first.</p>{_NOTE}',
        banner=RESEARCH_USE,
        style=_CSS,
    )


def outliers(
    rows: Sequence[Mapping[str, str]], summaries: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Why each scan is to be looked at first, by scan; empty where nothing stands out."""
    reasons: dict[str, list[str]] = {row["scan"]: [] for row in rows}
    for row in rows:
        why = reasons[row["scan"]]
        if row["outcome"] not in ("done", "skipped"):
            why.append(f"{row['outcome']}: {row['message']}" if row["message"] else row["outcome"])
        if row.get("warnings"):
            why.append(f"SUV warning: {row['warnings']}")
        nearest = mapping(mapping(summaries.get(row["scan"])).get("routing_nearest"))
        if nearest.get("unlike"):
            why.append("its routing is unlike that of every training center")
        lowered = sentence(mapping(mapping(summaries.get(row["scan"])).get("lowered_foci")))
        if lowered:
            why.append(lowered)
        if row.get("virtual_spots_warning"):
            why.append(row["virtual_spots_warning"])
    for column, label in _JUDGED.items():
        known = [(row["scan"], float(row[column])) for row in rows if row.get(column)]
        for (name, value), z in zip(known, robust_z([value for _, value in known]), strict=True):
            if abs(z) > Z_LIMIT:
                reasons[name].append(
                    f"{label} {percent(value)} is unlike the others (robust z {number(z, 1)})"
                )
    return reasons


def robust_z(values: Sequence[float]) -> list[float]:
    """0.6745 (value - median) / MAD of each; all 0 with fewer than FEWEST values or half of them equal."""
    if len(values) < FEWEST:
        return [0.0] * len(values)
    array = np.asarray(values, dtype=np.float64)
    apart = array - np.median(array)
    spread = float(np.median(np.abs(apart)))
    return [0.0] * len(values) if spread == 0 else (0.6745 * apart / spread).tolist()


def _scan(row: Mapping[str, str], summary: Mapping[str, Any], why: Sequence[str]) -> str:
    name = row["scan"]
    pictures = mapping(summary.get("thumbnails"))
    shown_pictures = "".join(
        f'<img alt="{label}" title="{label}" src="{escape(str(pictures[key]))}">'
        for key, label in (("original", "Original"), ("denoised", "Denoised"))
        if str(pictures.get(key, "")).startswith("data:image/png;base64,")
    )
    entries = [("Outcome", escape(row["outcome"]))]
    if summary:
        factor = " ".join(part for part in (row["suv_type"], row["rule"], _short(row["factor"])) if part)
        entries += [
            ("SUV type, rule, factor", escape(factor) or "–"),
            ("Weight", _measure(row["weight_kg"], "kg")),
            ("Injected activity", _measure(row["dose_mbq"], "MBq")),
            ("Uptake time", _measure(row["uptake_min"], "min")),
            ("Tracer", escape(row["tracer"]) or "–"),
            ("Body mean change", _percent(row["body_mean_change_percent"])),
            ("Noise reduction", _percent(row["noise_reduction_percent"])),
            ("Lesions", _lesions(summary)),
            ("Lowered foci", escape(row.get("lowered_foci") or "") or "–"),
            ("Model", escape(row["model"]) or "–"),
        ]
        if row.get("virtual_spots_least_percent"):
            least = escape(row["virtual_spots_least_percent"])
            entries.append(("Virtual spots, least kept", f"{least} %"))
        if row["nearest_center"]:
            entries.append(("Nearest center", escape(row["nearest_center"])))
    notes = [*why, *([row["message"]] if row["message"] and row["outcome"] in ("done", "skipped") else [])]
    box = ""
    if notes:
        kind = "warning" if why else "notice"
        items = "".join(f"<li>{escape(text)}</li>" for text in notes)
        box = f'<div class="box {kind}" role="note"><ul>{items}</ul></div>'
    link = f'<p><a href="{quote(name)}/report.html">Report</a></p>' if summary else ""
    pair = f'<div class="pair">{shown_pictures}</div>' if shown_pictures else "<div></div>"
    return section(escape(name), f'{box}<div class="scan">{pair}<div>{facts_list(entries)}{link}</div></div>')


def _lesions(summary: Mapping[str, Any]) -> str:
    rows = mapping(summary.get("lesions")).get("segments") or []
    changes = [row for row in rows if row.get("stage") == "change_percent"]
    if not changes:
        return "–"
    parts = []
    for key, label in (("suv_max", "SUVmax"), ("suv_peak", "SUVpeak"), ("suv_mean", "SUVmean")):
        values = [row[key] for row in changes if row.get(key) is not None]
        if values:
            parts.append(f"{label} {percent(float(np.median(values)))}")
    how = "" if len(changes) == 1 else ", median"
    return f"{len(changes)}{how}: {', '.join(parts)}" if parts else str(len(changes))


def _short(text: str) -> str:
    return f"{float(text):.6g}" if text else ""


def _measure(text: str, unit: str) -> str:
    return f"{float(text):.4g} {unit}" if text else "–"


def _percent(text: str) -> str:
    return percent(float(text)) if text else "–"
