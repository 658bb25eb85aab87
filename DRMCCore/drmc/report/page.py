"""The report of one scan: one self-contained HTML file without a script.

It has what was done, the SUV decision, warnings, the images on one SUV scale, the lesion table with the
changes that exceed those by noise alone, the routing, and the model. Every string from a file is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc.files import write_text
from drmc.measures.bias import repeatability_flags
from drmc.measures.rows import LesionRow, Quantity, RoutingRow
from drmc.pages.markup import section
from drmc.pages.page import page
from drmc.pages.text import mapping, number, percent
from drmc.report.facts import messages_html, model_html, sheet_html
from drmc.report.figures import figures_html
from drmc.report.foci import foci_html
from drmc.report.lesions import comparison_html, lesions_html
from drmc.report.organs import organs_html
from drmc.report.routing import routing_html
from drmc.report.spots import spots_html
from drmc.report.summary import Summary
from drmc.segments.segment import Segment
from drmc.suv.decision import SUVRecord
from drmc.texts import RESEARCH_USE, shown

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

_STATED: tuple[tuple[Quantity, str], ...] = (
    ("suv_max", "SUVmax"),
    ("suv_peak", "SUVpeak"),
    ("suv_mean", "SUVmean"),
)


def write_report(path: str | os.PathLike[str], **content: Any) -> None:
    """Writes the report, atomically; the content as for `report_html`."""
    write_text(path, shown(report_html(**content), keep="\n\t"))


def report_html(
    *,
    title: str,
    original_suv: np.ndarray,
    denoised_suv: np.ndarray,
    geometry: Geometry,
    suv: SUVRecord,
    lesions: Sequence[LesionRow] | None,
    routing: Sequence[RoutingRow] | None,
    summary: Summary,
    header: Mapping[str, Any],
    segments: Sequence[Segment] | None = None,
) -> str:
    """The report as HTML. What `suv`, `summary` and `header` lack is left out or reported as not stated.

    Args:
        title: heading of the page.
        original_suv: SUV (z, y, x) on `geometry`.
        denoised_suv: as `original_suv`.
        geometry: the grid of the scan.
        suv: the SUV decision.
        lesions: rows of `lesion_table`, empty or None without lesions.
        routing: rows of `routing_table`, empty or None without routing.
        summary: the content of summary.json.
        header: facts from the scan's header about scanner and study.
        segments: the lesions, outlined on the slices; the slices go through the hottest voxel of them.

    Raises:
        ValueError: the images have different shapes.
    """
    if original_suv.shape != denoised_suv.shape:
        raise ValueError(f"original {original_suv.shape} and denoised {denoised_suv.shape} differ in shape")
    lesions, routing = list(lesions or ()), list(routing or ())
    lead = f'<p class="lead">{_what_was_done(original_suv, denoised_suv, lesions, summary)}</p>'
    tracer = {**header, **mapping(suv.get("facts"))}.get("tracer")
    cards = [
        messages_html(suv, summary),
        section("Images", figures_html(original_suv, denoised_suv, geometry, segments, tracer)),
        section("Lesions", lesions_html(lesions)),
        section("Organs before and after", organs_html(summary)),
        section("Foci lowered by more than noise explains", foci_html(summary)),
        section("Virtual spots", spots_html(summary)),
        comparison_html(summary),
        section("Scan and SUV", sheet_html(suv, header, geometry)),
        section("Routing", routing_html(routing, summary)),
        section("Model and run", model_html(summary)),
    ]
    return page(
        f"{title} – DRMC report",
        "\n".join(card for card in cards if card),
        heading=title,
        introduction=lead + _stamp(summary),
        banner=RESEARCH_USE,
        footer=f"{RESEARCH_USE} The original scan is unchanged and remains the record.",
    )


# ---- what was done


def _what_was_done(
    original: np.ndarray, denoised: np.ndarray, lesions: Sequence[LesionRow], summary: Summary
) -> str:
    model = mapping(summary.get("model"))
    name = model.get("title") or model.get("name")
    by = f"the model <b>{escape(str(name))}</b>" if name else "a DRMC model"
    strength = summary.get("strength")
    part = "" if strength in (None, 1) else f"{100 * strength:g} % of "
    first = (
        f"This PET scan was denoised by {by}, which adds {part}a predicted residual to the scan; grid "
        "and units are those of the scan, and no value was clipped."
    )
    changes = [row for row in lesions if row["stage"] == "change_percent"]
    if changes:
        parts = []
        for key, label in _STATED:
            values = [value for row in changes if (value := row[key]) is not None]
            if values:
                parts.append(f"{label} by {percent(float(np.median(values)))}")
        beyond = sum(flag["exceeds"] for flag in repeatability_flags(changes))
        how = "" if len(changes) == 1 else " (median)"
        whose = "the lesion" if len(changes) == 1 else f"{len(changes)} lesions"
        second = (
            f"In {whose} it changed {', '.join(parts)}{how}; {beyond} of these SUVmax and SUVpeak changes "
            f"{'is' if beyond == 1 else 'are'} larger than noise alone makes between two images of one scan."
            if parts
            else f"In {whose} no change is defined."
        )
    else:
        difference = np.asarray(denoised, dtype=np.float32) - np.asarray(original, dtype=np.float32)
        changed = float(np.mean(difference != 0)) if difference.size else 0.0
        largest = float(np.abs(difference).max()) if difference.size else 0.0
        second = (
            f"It changed {100 * changed:.0f} % of the voxels, by at most {number(largest, 2)} SUV; no "
            "lesions were given, so there is no lesion table."
        )
    return f"{first} {second}"


def _stamp(summary: Summary) -> str:
    facts = [escape(str(value)) for value in (summary.get("scan"), summary.get("created")) if value]
    return f'<p class="stamp">{" · ".join(facts)}</p>' if facts else ""
