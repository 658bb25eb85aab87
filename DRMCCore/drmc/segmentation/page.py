"""The page about the organs of one scan: projections with outlines, the organ table, and what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from drmc.imaging.geometry import Geometry
from drmc.measures.organs import OrganRow
from drmc.organs.table import OrganClass, by_name
from drmc.pages.colors import css_color, inverted_gray
from drmc.pages.markup import facts_list, section, table
from drmc.pages.page import page
from drmc.pages.png import data_uri
from drmc.pages.text import number
from drmc.pages.views import anatomical_spacing, outline, to_anatomical
from drmc.report.facts import training_box
from drmc.segments.segment import Segment
from drmc.suv import wording
from drmc.texts import RESEARCH_USE

CSS = """
.views { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 12px; }
.views figure { margin: 0; } .views img { width: 100%; display: block; image-rendering: auto; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 7px;
  border: 1px solid #777; }
"""
_PIXEL_MM = 2.0  # of the pictures; finer ones only make them larger
_TOP_PERCENTILE = 99.5  # of a projection, which is black
_EXACT = {
    "volume_ml": 3,
    "suv_mean": 3,
    "suv_max": 3,
    "suv_peak": 3,
    "total_uptake_ml": 3,
    "relative_mean": 3,
}


def page_html(
    name: str,
    image_zyx: np.ndarray,
    geometry: Geometry,
    organs: Sequence[tuple[OrganClass, Segment]],
    rows: Sequence[OrganRow],
    summary: Mapping[str, Any],
) -> str:
    """The page as text: one file without scripts or external resources.

    Args:
        name: of the scan.
        image_zyx: the scan, in SUV or any unit.
        geometry: its grid.
        organs: the organs with their masks on that grid.
        rows: the organ table.
        summary: the content of summary.json.
    """
    told = [*wording.warning_lines(summary["suv"] or {}), *summary["warnings"], *summary["notices"]]
    boxes = "".join(f'<div class="box notice" role="note"><p>{escape(text)}</p></div>' for text in told)
    cards = [
        section("Images", _views(image_zyx, geometry, organs)),
        section("Organs", _table(rows) + _units(summary)),
        section("Reference regions", _references(summary)),
        section("Uptake above the threshold", _uptake(summary)),
        section("Lesions", _lesions(summary["lesions"])),
        section("What was put in order", _changes(summary["changes_ml"])),
        section("How it was made", _made(summary)),
    ]
    return page(
        f"{name} – organs",
        boxes + "\n".join(card for card in cards if card),
        heading=f"Organs of {name}",
        banner=RESEARCH_USE,
        footer=RESEARCH_USE,
        style=CSS,
    )


def _views(image: np.ndarray, geometry: Geometry, organs: Sequence[tuple[OrganClass, Segment]]) -> str:
    """Coronal and sagittal projections, and the coronal one with the outline of every organ's projection."""
    turned = to_anatomical(image, geometry.direction)
    spacing = anatomical_spacing(geometry.spacing_zyx, geometry.direction)
    pictures = []
    for title, axis, marked in (
        ("Coronal projection", 1, False),
        ("with the organs", 1, True),
        ("Sagittal projection with the organs", 2, True),
    ):
        projection = turned.max(axis=axis)
        above = projection[projection > 0]
        top = float(np.percentile(above, _TOP_PERCENTILE)) if above.size else 1.0
        steps = [step for k, step in enumerate(spacing) if k != axis]
        gray = _scaled(inverted_gray(projection, top), steps)
        pixels = np.repeat(gray[..., None], 3, 2)
        for one, segment in organs if marked else ():
            shadow = to_anatomical(segment.mask, geometry.direction).max(axis=axis)
            pixels[outline(_scaled(shadow, steps))] = one.color
        pictures.append(
            f'<figure><img alt="{title}" src="{data_uri(pixels)}"><figcaption>{title}</figcaption></figure>'
        )
    return (
        f'<div class="views">{"".join(pictures)}</div><p class="note">Patient’s right on the left of the '
        "picture, head up; in the sagittal one the front is on the left. Outlines are those of the organs’ "
        "projections.</p>"
    )


def _scaled(picture: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """A picture on pixels of _PIXEL_MM, by the nearest one."""
    places = []
    for size, step in zip(picture.shape, steps, strict=True):
        count = max(1, round(size * step / _PIXEL_MM))
        places.append(np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(int))
    return picture[np.ix_(*places)]


def _table(rows: Sequence[OrganRow]) -> str:
    titles = ("Volume [ml]", "SUVmean", "SUVmax", "SUVpeak", "Total uptake [SUV ml]", "Mean over body’s")
    head = '<th class="text">Organ</th>' + "".join(f"<th>{title}</th>" for title in titles)
    lines = []
    for row in rows:
        one = by_name()[row["organ"]]
        swatch = f'<span class="swatch" style="background:{css_color(one.color)}"></span>'
        label = escape(one.name) + (" without lesions" if row["stage"] != "whole" else "")
        values: Mapping[str, Any] = row
        cells = "".join(
            f"<td>{'–' if values[key] is None else number(values[key], digits)}</td>"
            for key, digits in _EXACT.items()
        )
        lines.append(
            f'<tr><td class="text">{swatch}{label}</td>{cells}'
            f'<td class="text">{escape(row["flags"])}</td></tr>'
        )
    return table(f'{head}<th class="text"></th>', lines)


def _units(summary: Mapping[str, Any]) -> str:
    """What the columns of the organ table are, and why some are empty."""
    suv = summary["suv"]
    told = "Mean over body’s: mean uptake over that of the whole body in the scan."
    if suv is not None:
        told += f" SUV in g/ml ({suv['type']}); total uptake: SUVmean times volume."
    elif summary["corrected_for_attenuation"] is False:
        told += (
            " Not corrected for attenuation: such a scan has no SUV, and the deeper an organ lies, the "
            "colder it looks."
        )
    else:
        told += " The SUV of this scan is not known."
    return f'<p class="note">{escape(told)}</p>'


def _references(summary: Mapping[str, Any]) -> str:
    names = {"liver": "Liver, sphere of 3 cm", "blood_pool": "Blood pool, descending aorta, 1 cm x 2 cm"}
    entries = []
    for key, one in summary["references"].items():
        threshold = one.get("threshold_suv")
        text = f"SUVmean {number(one['suv_mean'], 2)}, SD {number(one['suv_sd'], 2)}"
        text += "" if threshold is None else f", PERCIST threshold SUV {number(threshold, 2)}"
        entries.append((names[key], text))
    return facts_list(entries) if entries else ""


def _uptake(summary: Mapping[str, Any]) -> str:
    found = summary["uptake"]
    if found is None:
        return ""
    titles = {
        "all": "All",
        "without_physiological": "Without what is marked",
        "physiological": "Marked as physiological",
    }
    totals = found["totals"]
    lines = [
        f'<tr><td class="text">{title}</td><td>{totals[key]["count"]}</td>'
        f"<td>{number(totals[key]['volume_ml'], 2)}</td><td>{number(totals[key]['tlg'], 2)}</td></tr>"
        for key, title in titles.items()
    ]
    head = '<th class="text"></th><th>Parts</th><th>Volume [ml]</th><th>TLG [SUV ml]</th>'
    threshold = found["threshold"]
    note = (
        f'<p class="note">Connected parts at or above SUV {number(threshold["suv"], 2)} '
        f"({escape(threshold['method'])}). A mark is where most of a part lies, not a finding; nothing is "
        "taken away: uptake.csv has every part.</p>"
    )
    return note + table(head, lines)


def _lesions(lesions: Sequence[Mapping[str, Any]]) -> str:
    entries = [(escape(one["name"]), escape(one["note"]) or "outside of these organs") for one in lesions]
    return facts_list(entries) if entries else ""


def _changes(changes: Mapping[str, Mapping[str, float]]) -> str:
    titles = {
        "sides": "Moved to the other side",
        "parts": "Stray parts removed",
        "traces": "Traces of organs removed",
        "holes": "Holes filled",
    }
    entries = [
        (title, escape(", ".join(f"{organ} {volume:g} ml" for organ, volume in changes[key].items())))
        for key, title in titles.items()
        if changes.get(key)
    ]
    return facts_list(entries) if entries else ""


def _made(summary: Mapping[str, Any]) -> str:
    suv = summary["suv"]
    model, seconds = summary["model"], summary["seconds"]
    corrected = {True: "yes", False: "no", None: "not known"}[summary["corrected_for_attenuation"]]
    made = f"segmentation {summary['input']['segmentation']}"
    if model is not None:
        made = f"model {model['name']}, SHA-256 {model['sha256'][:16]}…"
    entries = {
        "SUV": "none" if suv is None else f"{suv['type']}, factor {suv['factor']:g}, rule {suv['rule']}",
        "Tracer": ((suv or {}).get("facts") or {}).get("tracer") or "not known",
        "Corrected for attenuation": corrected,
        "Organs by": made,
        **({"Device": f"{summary['device']}, {summary['precision']}"} if model is not None else {}),
        "Seconds": f"{seconds['total']:.1f}",
        "Version": summary["versions"]["drmc"],
    }
    box = "" if model is None else training_box(model["training"])
    return box + facts_list((key, escape(str(value))) for key, value in entries.items())
