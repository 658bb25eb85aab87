"""Results on the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.runtime.progress import Reporter, duration, table_lines
from drmc.texts import RESEARCH_USE, shown

if TYPE_CHECKING:
    from drmc.measures.rows import LesionNumber, LesionRow, SpotsTable
    from drmc.report.summary import Summary

TABLE_QUANTITIES: tuple[tuple[LesionNumber, str], ...] = (
    ("suv_mean", "SUVmean"),
    ("suv_max", "SUVmax"),
    ("suv_peak", "SUVpeak"),
    ("mtv41_ml", "MTV41 [ml]"),
    ("tlg41", "TLG41"),
)
FIXED_VOLUMES: tuple[tuple[LesionNumber, str], ...] = (
    ("mtv_suv25_ml", "MTV SUV2.5"),
    ("mtv_suv40_ml", "MTV SUV4.0"),
    ("mtv41_original_ml", "MTV41 of original"),
)


def print_denoised(summary: Summary, output: Path) -> None:
    """Prints what `drmc denoise` says of a result: lesions, comparison with the reference, SUV and files."""
    lesions = summary["lesions"]
    if lesions is not None:
        by_segment: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in lesions["segments"]:
            by_segment.setdefault(row["segment"], {})[row["stage"]] = row
        columns = (*TABLE_QUANTITIES, *FIXED_VOLUMES)
        titles = ["segment", "volume [ml]", *(title for _, title in columns)]
        cells = []
        for segment, stages in by_segment.items():
            before, after, change = (
                stages.get(stage, {}) for stage in ("original", "denoised", "change_percent")
            )
            cells.append(
                [
                    segment,
                    number(before.get("volume_ml")),
                    *(_change(before, after, change, key) for key, _ in columns),
                ]
            )
        print("lesions, original -> denoised (change)")
        print_table(titles, cells)
        print_volumes(lesions["segments"])
        print_intervals(lesions["segments"])
    if summary["virtual_spots"] is not None:
        print("virtual spots: share of their contrast that is kept")
        print_spots(summary["virtual_spots"])
    reference = summary["reference"]
    if reference is not None:
        for name, values, unit in (
            ("PSNR", reference["psnr"], " dB"),
            ("NRMSE", reference["nrmse"], ""),
            ("SSIM", reference["ssim"], ""),
        ):
            metric = f"{number(values['original'])} -> {number(values['denoised'])}{unit}"
            print(f"{name} in the body against the reference: {metric}")
        if reference.get("lesions"):
            print_bias(reference["lesions"])
    print_suv(summary["suv"], summary["input"]["units"])
    if reference is not None:
        print_suv(reference["suv"], reference["input"]["units"], "reference")
    from drmc.pet.strength import strength_text

    tiles, model = summary["tiles"]["count"], summary["model"]["name"]
    where = f"{summary['device']} ({summary['precision']})"
    seconds, strength = duration(summary["seconds"]["total"]), strength_text(summary["strength"])
    print(f"{tiles} tiles on {where} in {seconds}, model {model}, strength {strength}")
    print(f"denoised: {shown(output / summary['outputs'][0])}")
    print(f"report: {shown(output / 'report.html')}")
    print(RESEARCH_USE)


def print_spots(found: SpotsTable) -> None:
    """Prints the table of virtual spots, and which Gaussian filter it is compared with."""
    from drmc.measures.rows import LEAST_KEPT
    from drmc.pages.text import share
    from drmc.report.spots import gaussian_text

    kept = lambda fraction: share(fraction, LEAST_KEPT, absent="-")
    titles = ["diameter [mm]", "peak [SUV]", "spots", "1 ml mean", "worst tenth", "peak"]
    titles += ["Gaussian: 1 ml mean", "peak", ""]
    cells = [
        [
            f"{row['diameter_mm']:g}",
            f"+{row['peak_suv']:g}",
            str(row["spots"]),
            *(kept(row[key]) for key in ("mean_kept", "mean_kept_low", "peak_kept")),
            *(kept(row[key]) for key in ("gaussian_mean_kept", "gaussian_peak_kept")),
            f"warning: below {100 * LEAST_KEPT:.0f} %" if row["warning"] else "",
        ]
        for row in found["rows"]
    ]
    print_table(titles, cells)
    beside = gaussian_text(found["gaussian_fwhm_mm"])
    print(f"{beside}; spots are blurred by {found['resolution_mm']:g} mm and bring no noise of their own")


def print_suv(decision: Mapping[str, Any], units: str, whose: str = "") -> None:
    """Factor, rule and warnings of the SUV that the numbers rest on."""
    from drmc.suv import wording

    print((f"{whose}: " if whose else "") + wording.one_line(decision, units))
    for text in wording.warning_lines(decision, whose):
        print(f"warning: {text}")


def print_bias(bias: Mapping[str, Any]) -> None:
    """Prints B_mean, B_max and B_peak by stage."""
    for stage, found in bias["patient"].items():
        values = ", ".join(
            f"B_{key} {percent(found[f'B_{key}'])} (n {found[f'n_{key}']})" for key in ("mean", "max", "peak")
        )
        print(f"bias against the reference, {stage}: {values}")


def print_table(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Prints a table, the first column to the left."""
    print("\n".join(table_lines(titles, cells)))


def _change(before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, Any], key: str) -> str:
    percent = change.get(key)
    text = "" if percent is None else f" ({percent:+.1f} %{mark(change, key)})"
    return f"{number(before.get(key))} -> {number(after.get(key))}{text}"


def mark(row: Mapping[str, Any], key: str) -> str:
    """The mark of a change whose threshold has changed with it."""
    from drmc.measures import mtv

    changed = row.get("stage") == "change_percent" and key in mtv.RELATIVE and row.get(key)
    return f" {mtv.MARK}" if changed else ""


def print_volumes(rows: Sequence[LesionRow]) -> None:
    """What the mark means, once, and the PERCIST threshold where there is one."""
    from drmc.measures import mtv

    if any(mark(row, key) for row in rows for key in mtv.RELATIVE):
        print(f"{mtv.MARK} {mtv.EXPLANATION}")
    percist = next(
        (row["percist_threshold"] for row in rows if row.get("percist_threshold") is not None), None
    )
    if percist is not None:
        print(f"PERCIST threshold by the liver of the original, 1.5 x mean + 2 SD: SUV {number(percist)}")
        for row in rows:
            if row.get("mtv_percist_ml") is not None and row["stage"] != "change_percent":
                volume, glycolysis = number(row["mtv_percist_ml"]), number(row["tlg_percist"])
                print(f"  {row['segment']}, {row['stage']}: MTV {volume} ml, TLG {glycolysis}")


def print_intervals(rows: Sequence[LesionRow]) -> None:
    """Prints the 90 % intervals of what full dose would have shown, where a model states them."""
    from drmc.measures.rows import INTERVAL_OF

    stated = [row for row in rows if row["suv_mean_interval90_low"] is not None]
    noted = [row for row in rows if row["interval_note"]]
    if stated:
        print("denoised, and the 90 % interval of what full dose would have shown")
        columns = [(key, title) for key, title in TABLE_QUANTITIES if key in INTERVAL_OF]
        text = lambda row, key, low, high: f"{number(row[key])}, {number(row[low])} to {number(row[high])}"
        cells = [
            [row["segment"], *(text(row, key, *INTERVAL_OF[key]) for key, _ in columns)] for row in stated
        ]
        print_table(["segment", *(title for _, title in columns)], cells)
    for row in noted:
        print(f"no interval for {shown(row['segment'])}: {row['interval_note']}")


# Not those of pages.text: a terminal without UTF-8 would show a real minus sign or a dash as "?", and
# programs read what is printed.
def number(value: float | None) -> str:
    """A number for a table; - where undefined."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def percent(fraction: float | None) -> str:
    """A fraction in percent; - where undefined."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def printed(options: argparse.Namespace, reporter: Reporter, found: dict[str, Any]) -> bool:
    """Prints what a command has found where --progress or --json says that a program reads it."""
    from drmc.files import jsonable

    reporter.result(**jsonable(found))
    if options.json and options.progress != "json":
        print_json(found)
    return options.json or options.progress == "json"


def print_json(value: Any) -> None:
    """Prints indented JSON; what is not finite is null."""
    from drmc.files import jsonable

    print(json.dumps(jsonable(value), indent=2, allow_nan=False))
