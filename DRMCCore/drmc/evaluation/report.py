"""The page evaluation.html: tables, figures and pictures in one file, no script, no outside resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from drmc.evaluation.aims import LESION_BIAS
from drmc.evaluation.figures import colors, gain_svg, lesion_svg
from drmc.evaluation.paired_tests import PRIMARY, star
from drmc.evaluation.pictures import VIEWS
from drmc.evaluation.records import (
    Aim,
    CasePictures,
    EvaluationResult,
    RealResult,
    SpotsSummary,
    Tuning,
)
from drmc.evaluation.results import Results
from drmc.evaluation.spots import kinds
from drmc.evaluation.tables import (
    LESION_NAMES,
    MAIN,
    MAIN_NOTE,
    SPOTS_NOTE,
    group_name,
    liver_note,
    main_cells,
    number,
    percent_of,
    probability,
    reached,
    spot_name,
    spots_cells,
    spots_facts,
)
from drmc.measures.metrics import attainable_gain_db
from drmc.pages.colors import NEUTRAL
from drmc.pages.markup import facts_list, section, table
from drmc.pages.page import page
from drmc.pages.text import plain
from drmc.texts import RESEARCH_USE

FEW = 3  # methods beside the reference that the figures of lesions show
_STYLE = """
main { max-width: 1400px; } .figures { display: flex; flex-wrap: wrap; gap: 12px 24px; }
.figures svg { max-width: 560px; flex: 1 1 420px; }
.pictures { display: flex; flex-wrap: wrap; gap: 10px 14px; margin-bottom: 14px; }
.pictures figure { margin: 0; } .pictures div { display: flex; gap: 3px; }
.pictures img { display: block; border: 1px solid var(--line); \
max-height: 230px; max-width: 250px; width: auto;
  height: auto; background: #fff; }
tr.group td { border-top: 1.5px solid var(--line); } \
td.wide { white-space: normal; text-align: left; min-width: 220px; }
.main table { font-size: 13px; } .main td, .main th { padding: 3px 5px; } \
tr.reference td { font-weight: 650; } .pass { color: var(--series-2); font-weight: 650; }
"""


def evaluation_html(result: EvaluationResult, results: Results, pictures: Sequence[CasePictures]) -> str:
    """The whole page.

    Args:
        result: the content of evaluation.json.
        results: the results in long form.
        pictures: of some patients.
    """
    data = "Simulated data. " * (result["data"] == "simulated")
    cards = [
        section("What was measured", _facts(result)),
        section("Aims", _aims(result["aims"])),
        section("Results on the test patients", _main(result)),
        section("Gain of every patient", _gains(result, results)),
        section("Lesions", _lesions(result, results)),
        section(f"{escape(result['reference'])} against the others", _comparisons(result)),
        section("Virtual spots", _spots(result["spots"])),
        section("Real full-dose scans", _real(result["real_scans"])),
        section("Pictures", _pictures(pictures)),
    ]
    return page(
        f"Evaluation of {result['model']['name']}",
        "".join(cards),
        banner=data + RESEARCH_USE,
        footer=f"drmc {result['version']}",
        style=_STYLE,
    )


def _facts(result: EvaluationResult) -> str:
    known = result["known_centers"]
    patients = ", ".join(f"{center} {n}" for center, n in result["patients"].items())
    entries = [
        ("Data", escape(result["data"])),
        ("Patients", escape(patients) or "none"),
        ("Known centers", "not stated" if known is None else escape(", ".join(known))),
        ("Tested against", escape(result["reference"])),
        ("Computed on", escape(f"{result['device']} ({result['precision']})")),
        ("Hardware", escape(plain(result["hardware"]))),
    ]
    lines = [
        f'<tr><td class="text">{escape(method["name"])}</td><td class="text">{escape(method["kind"])}</td>'
        f'<td class="wide">{_models(method)}</td></tr>'
        for method in result["methods"]
    ]
    head = '<th class="text">Method</th><th class="text">Kind</th><th class="text">Model, SHA-256</th>'
    return facts_list(entries) + "<h3>Methods</h3>" + table(head, lines) + _tuning(result["tuning"])


def _models(method: Mapping[str, Any]) -> str:
    lines = [
        f"{escape(model['center'] + ': ') if model['center'] else ''}{escape(model['name'])} "
        f"<code>{model['sha256']}</code>"
        for model in method.get("models", [])
    ]
    if "unknown_centers" in method:
        others = {"mean": "mean over all specialists", "model": "the model without a center"}
        lines.append("at other centers: " + others.get(method["unknown_centers"], "left out"))
    return "<br>".join(lines)


def _tuning(tuning: Tuning | None) -> str:
    if tuning is None:
        return ""
    lines = []
    for choice in tuning["chosen"]:
        end = choice["at_the_end_of"]
        edge = f"{', '.join(end)}: at the end of the range tried" if end else ""
        cells = [choice["center"], f"{choice['dose_reduction_factor']:g}", choice["filter"]]
        lines.append(
            "<tr>"
            + "".join(f'<td class="text">{escape(cell)}</td>' for cell in cells)
            + f'<td class="text">{escape(plain(choice["parameters"]))}</td>'
            f"<td>{number(choice['psnr'], 2)}</td>"
            f'<td>{choice["patients"]}</td><td class="wide">{escape(edge)}</td></tr>'
        )
    head = "".join(f'<th class="text">{name}</th>' for name in ("Center", "DRF", "Filter", "Chosen"))
    head += '<th>PSNR [dB]</th><th>Tuning patients</th><th class="text">Note</th>'
    rules = "; ".join(f"{escape(tuning[name])}" for name in ("rule", "gaussian", "nlm"))
    content = f'{table(head, lines)}<p class="note">{rules}.</p>'
    return f"<details><summary>Parameters of the filters</summary>{content}</details>"


def _aims(aims: Sequence[Aim]) -> str:
    outcomes = {
        True: '<td class="pass">pass</td>',
        False: '<td class="beyond">miss</td>',
        None: "<td>not assessed</td>",
    }
    lines = [
        f'<tr><td class="wide">{escape(aim["aim"])}</td>'
        f"<td>{reached(aim) or '–'}</td>{outcomes[aim['passed']]}"
        f'<td class="wide">{escape(aim["detail"])}</td></tr>'
        for aim in aims
    ]
    head = '<th class="text">Aim</th><th>Reached</th><th>Outcome</th><th class="text">Detail</th>'
    return table(head, lines)


def _main(result: EvaluationResult) -> str:
    if not result["table"]:
        return ""
    comparisons, lines, place = result["comparisons"], [], None
    for record in [*result["table"], *result["pooled"]]:
        group = record.get("center") or record["group"]
        dose = f"{record['dose_reduction_factor']:g}" if "center" in record else ""
        kinds = ["group"] * ((group, dose) != place) + ["reference"] * (
            record["method"] == result["reference"]
        )
        name = record.get("label", record["method"]) + star(comparisons, group, record["method"])
        texts = [group_name(group) if (group, dose) != place else "", dose, name]
        place = (group, dose)
        cells = "".join(f'<td class="text">{escape(text)}</td>' for text in texts)
        cells += f"<td>{record['patients']}</td>" + "".join(
            f"<td>{cell or '–'}</td>" for cell in main_cells(record)
        )
        lines.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>')
    head = "".join(f'<th class="text">{name}</th>' for name in ("Center", "DRF", "Method")) + "<th>n</th>"
    head += "".join(f"<th>{name[0].upper() + name[1:]}</th>" for name in MAIN)
    numbers = f'<div class="main">{table(head, lines)}</div>'
    return numbers + f'<p class="note">{escape(MAIN_NOTE.format(psnr=result["psnr"]))}</p>'


def _gains(result: EvaluationResult, results: Results) -> str:
    methods = [method for method in results.methods() if method not in ("low", "full")]
    paint = colors(methods, result["reference"])
    figures = [
        gain_svg(results, center, factor, methods, paint, attainable_gain_db(factor))
        for center, factor in results.doses()
    ]
    if not figures:
        return ""
    note = (
        "A dot is a patient, the bar their mean; the dashed line is 10 log10(DRF), which no method exceeds "
        "in expectation."
    )
    return f'<div class="figures">{"".join(figures)}</div><p class="note">{note}</p>'


def _lesions(result: EvaluationResult, results: Results) -> str:
    methods = [method for method in results.methods() if method not in ("low", "full")]
    methods = sorted(methods, key=lambda method: method != result["reference"])
    paint = colors(methods, result["reference"])
    paint["low"] = NEUTRAL
    shown = [*methods[: FEW + 1], "low"]
    figures = [lesion_svg(results, quantity, shown, paint, limit) for quantity, limit in LESION_BIAS.items()]
    if not any(figures):
        return ""
    note = (
        "A dot is a lesion in the same segment on both images; lesions beyond the picture lie on its edge. "
        "The gray band is the aim for the mean of lesions over 15 mm. The full-dose image is noisy too. All "
        "lesions: lesions.csv."
    )
    return f'<div class="figures">{"".join(figures)}</div><p class="note">{note}</p>'


def _comparisons(result: EvaluationResult) -> str:
    lines = [
        f'<tr><td class="text">{escape(group_name(record["group"]))}</td><td class="text">'
        f"{escape(record['method'])}{'*' * record['significant']}</td><td>{record['n']}</td>"
        f"<td>{number(record['median_difference'], 2, sign=True)}</td><td>{probability(record['p'])}</td>"
        f"<td>{probability(record['p_holm'])}</td><td>{probability(record['smallest_p'])}</td></tr>"
        for record in result["comparisons"]
        if record["metric"] == PRIMARY
    ]
    if not lines:
        return ""
    head = '<th class="text">Centers</th><th class="text">Against</th><th>n</th>'
    head += "<th>Median difference in PSNR [dB]</th><th>p</th><th>p (Holm)</th><th>Smallest p possible</th>"
    return table(head, lines) + "".join(f'<p class="note">{escape(rule)}</p>' for rule in result["tests"])


def _spots(summaries: Sequence[SpotsSummary]) -> str:
    columns, beyond = kinds(summaries), ' class="beyond"'
    lines = [
        "<tr>"
        + "".join(f'<td class="text">{escape(cell)}</td>' for cell in spots_facts(one)[:2])
        + "".join(f"<td>{escape(cell)}</td>" for cell in spots_facts(one)[2:])
        + "".join(
            f"<td{beyond * low}>{f'{kept} ({gaussian})' if kept else '–'}</td>"
            for kept, gaussian, low in spots_cells(one, columns)
        )
        + "</tr>"
        for one in summaries
    ]
    if not lines:
        return ""
    head = "".join(f'<th class="text">{name}</th>' for name in ("Centers", "Method"))
    head += "".join(f"<th>{name}</th>" for name in ("n", "Spots", "Gaussian [mm]", *map(spot_name, columns)))
    return f'<div class="main">{table(head, lines)}</div><p class="note">{escape(SPOTS_NOTE)}</p>'


def _real(scans: Mapping[str, Sequence[RealResult]]) -> str:
    lines = []
    for scan, records in scans.items():
        for record in records:
            before, after = number(record["liver_cov_before"], 3), number(record["liver_cov_after"], 3)
            for lesion in record["lesions"] or [{"lesion": "–"}]:
                texts = (scan, record["method"], lesion["lesion"])
                cells = "".join(f'<td class="text">{escape(text)}</td>' for text in texts)
                cells += f"<td>{percent_of(record['body_mean_change_percent'], 3)}</td>"
                cells += "".join(f"<td>{percent_of(lesion.get(key), 2) or '–'}</td>" for key in LESION_NAMES)
                cells += (
                    f"<td>{f'{before} → {after}' if before else '–'}</td><td>{record['seconds']:.0f}</td>"
                )
                lines.append(f"<tr>{cells}</tr>")
    if not lines:
        return ""
    head = "".join(f'<th class="text">{name}</th>' for name in ("Scan", "Method", "Tumour"))
    head += "".join(
        f"<th>{name}</th>" for name in ("Body mean", "SUVmean", "SUVmax", "SUVpeak", "Liver COV", "Seconds")
    )
    note = (
        "Changes from the full-dose scan to the same scan after the network. Liver COV: inside the liver. "
        f"{liver_note(scans)}"
    )
    return table(head, lines) + f'<p class="note">{escape(note)}</p>'


def _pictures(patients: Sequence[CasePictures]) -> str:
    parts = []
    for patient in patients:
        figures = "".join(
            f"<figure><div>{''.join(_image(name, view, uris[view]) for view in VIEWS)}</div>"
            f"<figcaption>{escape(name)}</figcaption></figure>"
            for name, uris in patient["pictures"]
        )
        parts.append(
            f"<h3>{escape(patient['case'])}, 1/{patient['dose_reduction_factor']:g} of the dose</h3>"
            f'<div class="pictures">{figures}</div>'
        )
    if not parts:
        return ""
    note = (
        "The first patient of each center: coronal maximum-intensity projection, and slice through the "
        "center of the uptake. White is SUV 0; black is SUV 7 and above in bodies, 12 in brains. Patient’s "
        "right on the left, head up."
    )
    return "".join(parts) + f'<p class="note">{note}</p>'


def _image(name: str, view: str, uri: str) -> str:
    return f'<img alt="{escape(name)}, {view}" title="{escape(name)}, {view}" src="{uri}">'
