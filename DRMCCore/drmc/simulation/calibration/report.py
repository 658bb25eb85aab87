"""The result of a calibration as JSON, as a table for the documentation and as a page with pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import drmc
from drmc.datasets.manifest import read_manifest
from drmc.files import write_json, write_text
from drmc.pages.markup import facts_list, section, table
from drmc.pages.page import page
from drmc.simulation.calibration.figures import correlation_svg, law_svg, liver_svg
from drmc.simulation.calibration.public_noise import SCANNERS, noise_ratios
from drmc.simulation.calibration.rows import (
    GE_SECTION,
    LAW_SECTION,
    LIVER_SECTION,
    MISS,
    Measures,
    Row,
    law_ratios,
    outcome_counts,
    short_number,
)
from drmc.simulation.calibration.study import Plan, ge_scan, noise_table
from drmc.simulation.liver import GUESSED, given_by
from drmc.texts import RESEARCH_USE

QUICK = "A quick run: a few small windows show that the command works; the numbers are no evidence."
LIMITS = (
    "The simulated scans are measured with the same rules as the real ones. A row passes inside its accepted "
    "range and is a miss outside it; where nothing is published, the value is stated only. Windows are "
    "single noise realizations of few patients: the spread over the patients is given."
)


def write_report(
    folder: Path, plan: Plan, rows: Sequence[Row], measures: Measures, *, quick: bool = False
) -> Path:
    """Writes calibration.json, calibration.md and report.html into `folder`; returns the report's path."""
    facts = plan_facts(plan, quick)
    pieces = {
        name: {key: value for key, value in found.items() if key != "pictures"}
        for name, found in measures.items()
    }
    centers = {center.name: center.to_dict() for center in plan.centers}
    result = {"plan": facts, "rows": [row.to_dict() for row in rows], "centers": centers, "pieces": pieces}
    write_json(folder / "calibration.json", result)
    write_text(folder / "calibration.md", markdown(rows, facts, quick))
    path = folder / "report.html"
    write_text(path, html(plan, rows, measures, facts, quick))
    return path


def contact_sheets(
    plan: Plan, folder: Path, report: Callable[[int, int, str, float], None] | None = None
) -> Path:
    """Simulates a patient of each center and draws truth, full and low dose; returns the page's path.

    `report(done, total, case, seconds)` is called after each. Patients that are there are kept.
    """
    from drmc.datasets.sheet import write_sheets
    from drmc.simulation.cohort import ScanOptions, write_cohort

    options = ScanOptions(axial_mm=plan.sheet_mm, device=plan.device)
    write_cohort(
        folder / "patients", plan.centers, 1, seed=plan.seed, split="test", options=options, report=report
    )
    shown = [
        case for case in read_manifest(folder / "patients") if case.center in {c.name for c in plan.centers}
    ]
    return write_sheets(shown, folder / "sheets", title="Simulated patients of the calibration")


def plan_facts(plan: Plan, quick: bool) -> dict[str, Any]:
    """What was run, JSON-able."""
    return {
        "version": drmc.__version__,
        "centers": [center.name for center in plan.centers],
        "seed": plan.seed,
        "patients": plan.patients,
        "liver_window_mm": plan.liver_mm,
        "law_patients": plan.law_patients,
        "slab_mm": plan.slab_mm,
        "one_slab_in": plan.every,
        "time_of_flight": plan.tof,
        "quick": quick,
        "real_scan": ge_scan(plan) is not None,
        "real_scan_liver": GUESSED if plan.organs is None else given_by(plan.organs),
        "noise_table": noise_table(plan) is not None,
    }


def missing_data(plan: Plan) -> list[str]:
    """What could not be compared because its data is not there."""
    missing = []
    if noise_table(plan) is None:
        missing.append("the public noise table (udpet_noise_stats): the low-dose law has no reference")
    if ge_scan(plan) is None:
        missing.append("the GE Discovery ST scan (ge_wb_sts001): no real scan was measured")
    return missing


# ---- table for the documentation
def markdown(rows: Sequence[Row], facts: Mapping[str, Any], quick: bool) -> str:
    """The rows as Markdown tables, one per section."""
    tof = "with" if facts["time_of_flight"] else "without"
    patients = f"{facts['patients']} patients per center, {tof} time of flight"
    text = [f"Measured by `drmc calibrate` {facts['version']}, seed {facts['seed']}, {patients}.", ""]
    if facts["real_scan_liver"] != GUESSED:
        text += [f"Liver and lungs of the real scan: {facts['real_scan_liver']}.", ""]
    if quick:
        text += [f"**{QUICK}**", ""]
    for name, group in groupby(rows, key=lambda row: row.section):
        head = ["what", "measure", "simulated", "real or published", "accepted", "outcome", "source", "note"]
        text += [f"### {name}", "", _line(head), _line(["---"] * len(head))]
        for row in group:
            outcome = f"**{row.outcome}**" if row.outcome == MISS else row.outcome
            cells = [
                row.subject,
                row.measure,
                _number(row.value),
                _number(row.reference),
                row.accepted,
                outcome,
            ]
            text.append(_line([*cells, row.source, row.note]))
        text.append("")
    return "\n".join(text)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return short_number(value)


# ---- page
def html(plan: Plan, rows: Sequence[Row], measures: Measures, facts: Mapping[str, Any], quick: bool) -> str:
    """The whole page; no script, no outside resource."""
    boxes = [f'<div class="box warning"><p>{escape(QUICK)}</p></div>'] if quick else []
    missing = missing_data(plan)
    if missing:
        items = "".join(f"<li>{escape(text)}</li>" for text in missing)
        boxes.append(f'<div class="box notice"><ul>{items}</ul></div>')
    counts = outcome_counts(rows)
    entries = [
        ("Centers", escape(", ".join(facts["centers"]))),
        ("Seed", str(facts["seed"])),
        ("Patients per center", str(facts["patients"])),
        ("Time of flight", "where the scanner has it" if facts["time_of_flight"] else "not simulated"),
        ("Outcome", escape(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))),
        *([("Liver of the real scan", escape(facts["real_scan_liver"]))] if facts["real_scan"] else []),
        ("Version", escape(facts["version"])),
    ]
    note = f'<p class="note">{escape(LIMITS)}</p>'
    cards = [section("Calibration", facts_list(entries) + note)]
    figures = _figures(plan, measures, rows)
    for name, group in groupby(rows, key=lambda row: row.section):
        cards.append(section(escape(name), figures.get(name, "") + _table(list(group))))
    link = '<p><a href="sheets/sheet.html">A patient of each center: projections and slices</a></p>'
    cards.append(section("The simulated windows", link + _contact_sheet(measures)))
    lead = "How the noise of the simulated scans compares with real scans and published values."
    return page(
        "Calibration of the simulation",
        "".join([*boxes, *cards]),
        introduction=f'<p class="lead">{lead}</p>',
        banner=f"Simulated data. {RESEARCH_USE}",
        footer=f"drmc {facts['version']}",
        style=_OWN_CSS,
    )


_OWN_CSS = """
.sheet { display: flex; flex-wrap: wrap; gap: 14px; } .sheet figure { margin: 0; max-width: 100%; }
.sheet .views { display: flex; flex-wrap: wrap; gap: 4px; }
.sheet img { display: block; border: 1px solid var(--line); \
width: 290px; max-width: 100%; height: auto; background: #fff; }
.figures { display: flex; flex-wrap: wrap; gap: 12px 24px; } .figures svg { max-width: 480px; }
td.subject, td.measure { white-space: normal; text-align: left; } td.subject { min-width: 95px; }
td.measure { min-width: 190px; }
td.source { white-space: normal; text-align: left; min-width: 200px; color: var(--soft); font-size: 12.5px; }
"""


def _table(rows: Sequence[Row]) -> str:
    head = "".join(
        f"<th{kind}>{text}</th>"
        for text, kind in (
            ("", ' class="text"'),
            ("Measure", ' class="text"'),
            ("Simulated", ""),
            ("Real or published", ""),
            ("Accepted", ""),
            ("Outcome", ""),
            ("Source and note", ' class="text"'),
        )
    )
    lines = []
    for row in rows:
        outcome = (
            f'<td class="beyond">{row.outcome}</td>' if row.outcome == MISS else f"<td>{row.outcome}</td>"
        )
        source = "; ".join(part for part in (row.source, row.note) if part)
        lines.append(
            f'<tr><td class="subject">{escape(row.subject)}</td>'
            f'<td class="measure">{escape(row.measure)}</td>'
            f"<td>{_number(row.value)}</td><td>{_number(row.reference)}</td>"
            f"<td>{escape(row.accepted)}</td>{outcome}"
            f'<td class="source">{escape(source)}</td></tr>'
        )
    return table(head, lines)


def _figures(plan: Plan, measures: Measures, rows: Sequence[Row]) -> dict[str, str]:
    """Section -> its figure."""
    figures: dict[str, str] = {}
    liver = [row for row in rows if row.section == LIVER_SECTION]
    if liver:
        figures[LIVER_SECTION] = f'<div class="figures">{liver_svg(liver)}</div>'
    path = noise_table(plan)
    real = noise_ratios(path) if path is not None else {}
    laws = [
        law_svg(f"{name}, {SCANNERS[name]}", law_ratios(name, measures), real.get(SCANNERS[name], {}))
        for name in (center.name for center in plan.centers)
        if name in SCANNERS and law_ratios(name, measures)
    ]
    if laws:
        figures[LAW_SECTION] = f'<div class="figures">{"".join(laws)}</div>'
    scans = {
        label: [m["full"]["correlation"] for m in measures.values() if m["kind"] == kind]
        for label, kind in (("real", "real"), ("simulated", "twin"), ("semi-real", "semi-real"))
    }
    if all(scans.values()):
        figures[GE_SECTION] = f'<div class="figures">{correlation_svg(scans)}</div>'
    return figures


def _contact_sheet(measures: Measures) -> str:
    """Coronal slices of the first patient's window of every center and of the real scan."""
    figures, shown = [], set()
    for name, found in measures.items():
        group = (found["center"], found["kind"])
        if group in shown or not found.get("pictures"):
            continue
        shown.add(group)
        pictures = "".join(
            f'<img alt="{escape(view)}" title="{escape(view)}" src="{uri}">'
            for view, uri in found["pictures"].items()
        )
        views = ", ".join(found["pictures"])
        figures.append(
            f'<figure><div class="views">{pictures}</div><figcaption>{escape(name)}: '
            f"{escape(views)}</figcaption></figure>"
        )
    if not figures:
        return ""
    return (
        f'<div class="sheet">{"".join(figures)}</div><p class="note">Coronal slices through the middle, SUV '
        "0 (white) "
        "to 6 (black), patient’s right on the left of the picture, head up. A window of the low-dose law "
        "shows the lowest dose.</p>"
    )
