"""The result as text: tables for people in Markdown, and all numbers in long form as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from drmc.evaluation.paired_tests import PRIMARY, star
from drmc.evaluation.records import (
    Aim,
    Comparison,
    EvaluationResult,
    RealResult,
    SpotsSummary,
    Summary,
)
from drmc.evaluation.results import GROUPS, Results
from drmc.evaluation.spots import kinds
from drmc.files import csv_text
from drmc.measures.rows import LEAST_KEPT, SPOT_SHARES
from drmc.pages import text

MAIN = (
    *("PSNR [dB]", "gain [dB]", "share of attainable", "share, network's grid", "SSIM", "NRMSE"),
    *("B_mean", "B_max", "B_peak", "lesions", "bias SUVmean", "bias SUVpeak", "body mean", "liver COV"),
)
MAIN_NOTE = (
    "PSNR: {psnr}. Share: gain over 10 log10(DRF) dB. B_mean, B_max, B_peak: mean absolute relative "
    "difference of the lesions from full dose; bias: mean signed one of the lesions over 15 mm, of which "
    "there are as many as said, one at several doses once at each. Body mean: change of the body's mean SUV "
    "from low dose. Liver COV: coefficient of variation 8 mm inside the liver. n: patients."
)
SPOTS_NOTE = (
    "Share of the 1 ml mean of virtual spots that is kept, in brackets after a Gaussian filter that leaves "
    f"as much noise; marked: below {100 * LEAST_KEPT:.0f} %. Columns: diameter and peak [SUV]. The spots are "
    "added to the low dose at the largest dose reduction factor. Gaussian: FWHM, mean over patients; n: "
    "patients."
)
ROW_NAMES = ("center", "case", "dose_reduction_factor", "method", "metric", "value")
SPOT_NAMES = (
    *("group", "method", "patients", "diameter_mm", "peak_suv", "spots"),
    *SPOT_SHARES,
)
LESION_NAMES = ("suv_mean", "suv_max", "suv_peak")


def main_cells(record: Summary) -> list[str]:
    """The cells of `MAIN`; empty where there is no number."""
    return [
        number(record["psnr"], 2),
        number(record["psnr_gain"], 2, sign=True),
        percent(record["psnr_share"]),
        percent(record["psnr_2mm_share"]),
        number(record["ssim"], 4),
        number(record["nrmse"], 4),
        *(number(record[key], 3) for key in ("B_mean", "B_max", "B_peak")),
        str(record["lesions"]),
        *(percent(record[key], 1, sign=True) for key in ("bias_mean", "bias_peak")),
        percent(record["body_mean_change"], 2, sign=True),
        number(record["liver_cov"], 3),
    ]


def markdown(result: EvaluationResult) -> str:
    """The tables of results, comparisons, aims and real scans, as `drmc models --evaluation` prints them."""
    comparisons = result["comparisons"]
    parts = []
    if result["table"]:
        lines = [
            [
                record["center"],
                f"{record['dose_reduction_factor']:g}",
                record["label"] + star(comparisons, record["center"], record["method"]),
                str(record["patients"]),
                *main_cells(record),
            ]
            for record in result["table"]
        ]
        lines += [
            [
                group_name(record["group"]),
                "",
                record["method"] + star(comparisons, record["group"], record["method"]),
                str(record["patients"]),
                *main_cells(record),
            ]
            for record in result["pooled"]
        ]
        parts += [
            markdown_table(["center", "DRF", "method", "n", *MAIN], lines),
            MAIN_NOTE.format(psnr=result["psnr"]),
        ]
    if comparisons:
        parts += [f"### {result['reference']} against the others, PSNR", comparison_table(comparisons)]
        parts += result["tests"]
    parts += ["### Aims", aims_table(result["aims"])]
    if result.get("spots"):
        parts += ["### Virtual spots", spots_table(result["spots"]), SPOTS_NOTE]
    if result["real_scans"]:
        parts += ["### Real full-dose scans", real_table(result["real_scans"])]
    return "\n\n".join(parts) + "\n"


def comparison_table(records: Sequence[Comparison]) -> str:
    """Markdown of the comparisons of PSNR."""
    head = ["centers", "against", "n", "median difference [dB]", "p", "p (Holm)", "smallest p possible"]
    lines = [
        [
            group_name(record["group"]),
            record["method"] + "*" * record["significant"],
            str(record["n"]),
            number(record["median_difference"], 2, sign=True),
            probability(record["p"]),
            probability(record["p_holm"]),
            probability(record["smallest_p"]),
        ]
        for record in records
        if record["metric"] == PRIMARY
    ]
    return markdown_table(head, lines)


def aims_table(records: Sequence[Aim]) -> str:
    """Markdown of the aims."""
    lines = [[record["aim"], reached(record), outcome(record), record["detail"]] for record in records]
    return markdown_table(["aim", "reached", "outcome", "detail"], lines)


def real_table(scans: Mapping[str, Sequence[RealResult]]) -> str:
    """Markdown of the real scans: a line per network and tumor."""
    lines = []
    for scan, records in scans.items():
        for record in records:
            first = [scan, record["method"], percent_of(record["body_mean_change_percent"], 3)]
            liver = f"{number(record['liver_cov_before'], 3)} → {number(record['liver_cov_after'], 3)}"
            last = [liver if record["liver_cov_before"] is not None else "", f"{record['seconds']:.0f}"]
            for lesion in record["lesions"] or [{}]:
                changes = [percent_of(lesion.get(key), 2) for key in LESION_NAMES]
                lines.append([*first, lesion.get("lesion", ""), *changes, *last])
                first, last = ["", "", ""], ["", ""]
    head = ["scan", "method", "body mean", "tumour", "SUVmean", "SUVmax", "SUVpeak", "liver COV", "seconds"]
    told = liver_note(scans)
    return markdown_table(head, lines) + (f"\n\n{told}" if told else "")


def liver_note(scans: Mapping[str, Sequence[RealResult]]) -> str:
    """Where the liver of each real scan is from; empty where the records do not say it."""
    found = {
        name: record["liver_from"]
        for name, records in scans.items()
        for record in records
        if record.get("liver_from")
    }
    return f"Liver: {'; '.join(f'{name}: {words}' for name, words in found.items())}." if found else ""


def spots_table(summaries: Sequence[SpotsSummary]) -> str:
    """Markdown of the virtual spots: a line for each center or group and method."""
    columns = kinds(summaries)
    lines = [
        [
            *spots_facts(one),
            *(
                f"**{kept}** ({gaussian})" if low else f"{kept} ({gaussian})" if kept else ""
                for kept, gaussian, low in spots_cells(one, columns)
            ),
        ]
        for one in summaries
    ]
    return markdown_table(
        ["centers", "method", "n", "spots", "Gaussian [mm]", *map(spot_name, columns)], lines
    )


def spots_facts(one: SpotsSummary) -> list[str]:
    """The first cells of a line of virtual spots: centers, method, patients, spots, Gaussian."""
    width = number(one["gaussian_fwhm_mm"], 1) or "–"
    return [group_name(one["group"]), one["method"], str(one["patients"]), str(one["spots"]), width]


def spot_name(kind: tuple[float, float]) -> str:
    """Diameter and peak of virtual spots."""
    return f"{kind[0]:g} mm +{kind[1]:g}"


def spots_cells(one: SpotsSummary, columns: Sequence[tuple[float, float]]) -> Iterator[tuple[str, str, bool]]:
    """By diameter and peak the share that is kept, that after the Gaussian, and whether it is a warning."""
    rows = {(row["diameter_mm"], row["peak_suv"]): row for row in one["rows"]}
    for kind in columns:
        row = rows.get(kind)
        if row is None:
            yield "", "", False
        else:
            kept, gaussian = (text.share(row[key], LEAST_KEPT) for key in ("mean_kept", "gaussian_mean_kept"))
            yield kept, gaussian, row["warning"]


def reached(aim: Aim) -> str:
    """The value of an aim with its unit, if it has one."""
    value = aim["reached"]
    if aim["unit"] == "fraction":
        return percent(value, 1, sign="bias" in aim["aim"])
    if not aim["unit"]:
        return "" if value is None else f"{value:.3g}"
    return f"{number(value, 2, sign=True)} {aim['unit']}" if value is not None else ""


def outcome(aim: Aim) -> str:
    """pass, miss or not assessed."""
    return {True: "pass", False: "**miss**", None: "not assessed"}[aim["passed"]]


def group_name(group: str) -> str:
    """`known centers` for the groups, the center's name for a center."""
    return f"{group} centers" if group in (*GROUPS, "all") else group


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """As on every page, but all of a column with the same decimals, and nothing where there is no number."""
    return text.number(value, digits, sign=sign, fixed=True, absent="")


def percent(fraction: float | None, digits: int = 0, *, sign: bool = False) -> str:
    """A fraction as a percentage; nothing where there is none."""
    return percent_of(None if fraction is None else 100 * fraction, digits, sign=sign)


def percent_of(value: float | None, digits: int, *, sign: bool = True) -> str:
    """A value in percent, with its sign; nothing where there is none."""
    return text.percent(value, digits=digits, sign=sign, absent="")


def probability(p: float) -> str:
    """Two significant digits; very small ones as a power of ten."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def results_csv(results: Results) -> str:
    """Long form: a line per case, dose, method and metric."""
    lines = (
        [r.center, r.case, f"{r.dose_reduction_factor:g}", r.method, r.metric, f"{r.value:.6f}"]
        for r in results.rows
    )
    return csv_text(ROW_NAMES, lines)


def lesions_csv(results: Results) -> str:
    """A line per lesion, dose and method: SUVs and their signed differences from full dose and truth."""
    head = ["center", "case", "dose_reduction_factor", "method", "lesion", "diameter_mm", *LESION_NAMES]
    head += [f"{against}_{quantity}" for against in ("full", "truth") for quantity in ("mean", "max", "peak")]
    lines = (
        [center, case, f"{factor:g}", method, lesion["lesion"], f"{lesion['diameter_mm']:.2f}"]
        + [_cell(lesion[key]) for key in LESION_NAMES]
        + [
            _cell(lesion.get(against, {}).get(quantity))
            for against in ("full", "truth")
            for quantity in ("mean", "max", "peak")
        ]
        for (center, case, _, factor, method), lesions in results.lesions.items()
        for lesion in lesions
    )
    return csv_text(head, lines)


def spots_csv(summaries: Sequence[SpotsSummary]) -> str:
    """A line per center or group, method, diameter and peak of virtual spots."""
    lines = (
        [
            *(one["group"], one["method"], str(one["patients"])),
            *(f"{row['diameter_mm']:g}", f"{row['peak_suv']:g}", str(row["spots"])),
            *(_cell(row[key]) for key in SPOT_SHARES),
        ]
        for one in summaries
        for row in one["rows"]
    )
    return csv_text(SPOT_NAMES, lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
