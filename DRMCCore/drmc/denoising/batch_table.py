"""The tables of a batch: batch.csv, one row a scan, and those of all scans joined, such as lesions.csv."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmc import files, texts
from drmc.denoising.batch_members import table_lock
from drmc.report.spots import least_percent, sentence
from drmc.suv import wording

NAME = "batch.csv"
# Columns are added behind the last one, never between: scripts read them by their place, too.
COLUMNS = (
    *("scan", "outcome", "seconds", "input", "output", "message", "warnings"),
    *("weight_kg", "dose_mbq", "uptake_min", "tracer", "suv_type", "rule", "factor"),
    *("model", "nearest_center", "body_mean_change_percent", "noise_reduction_percent"),
    "strength",
    "lowered_foci",
    *("virtual_spots_least_percent", "virtual_spots_warning"),
)
_FACTS = COLUMNS[COLUMNS.index("warnings") :]


@dataclass(frozen=True)
class TableForm:
    """The tables of one kind of batch.

    Attributes:
        columns: of batch.csv.
        facts: from the summary of a scan, or None, what its row says behind `message`.
        joined: files of the scans that are joined in OUT.
    """

    columns: tuple[str, ...]
    facts: Callable[[Mapping[str, Any] | None], dict[str, Any]]
    joined: tuple[str, ...]


def facts(summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a row says of the scan behind its outcome, from its summary.json; all empty without one."""
    if summary is None:
        return dict.fromkeys(_FACTS, "")
    suv = summary.get("suv") or {}
    known = suv.get("facts") or {}
    dose = known.get("dose_bq")
    body = summary.get("body") or {}
    nearest = summary.get("routing_nearest") or {}
    spots = summary.get("virtual_spots") or {}
    reference = (summary.get("reference") or {}).get("suv") or {}
    warned = [*wording.warning_lines(suv), *wording.warning_lines(reference, "reference")]
    found = {
        "warnings": wording.cell(warned),
        "weight_kg": known.get("weight_kg"),
        "dose_mbq": None if dose is None else round(dose / 1e6, 4),
        "uptake_min": known.get("uptake_minutes"),
        "tracer": known.get("tracer"),
        "suv_type": suv.get("type"),
        "rule": suv.get("rule"),
        "factor": suv.get("factor"),
        "model": (summary.get("model") or {}).get("name"),
        "nearest_center": nearest.get("center"),
        "body_mean_change_percent": _rounded(body.get("mean_change_percent")),
        "noise_reduction_percent": _rounded(body.get("noise_reduction_percent")),
        "strength": summary.get("strength"),
        "lowered_foci": (summary.get("lowered_foci") or {}).get("count"),
        "virtual_spots_least_percent": least_percent(spots),
        "virtual_spots_warning": sentence(spots),
    }
    return {key: "" if found[key] is None else found[key] for key in _FACTS}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


DENOISED = TableForm(COLUMNS, facts, ("lesions.csv",))
"""Of `drmc denoise`."""


def read(path: Path, form: TableForm = DENOISED) -> list[dict[str, str]]:
    """The rows of a batch.csv, texts as they were written; none where there is no such table."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [
                {key: texts.text_of_cell(row.get(key) or "") for key in form.columns}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error):
        return []
    return [row for row in rows if row["scan"]]


def write(
    output: Path,
    names: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    theirs: Collection[str],
    *,
    keep: bool,
    form: TableForm = DENOISED,
) -> None:
    """Writes all tables with the rows of this process, by scan and in the order of `names`.

    `keep`: other processes write there, too; then their rows stay, and for the scans in `theirs` they come
    before this process's own.
    """
    output.mkdir(parents=True, exist_ok=True)
    with table_lock(output):
        path = output / NAME
        earlier = path.is_file()
        kept: dict[str, Mapping[str, Any]] = {row["scan"]: row for row in read(path, form)} if keep else {}
        merged = {
            **kept,
            **{name: row for name, row in rows.items() if name not in theirs or name not in kept},
        }
        order = [*(name for name in names if name in merged), *(name for name in merged if name not in names)]
        lines = ([merged[name][column] for column in form.columns] for name in order)
        files.write_text(path, files.csv_text(form.columns, lines))
        ended = [name for name in order if merged[name]["outcome"] in ("done", "skipped")]
        for table in form.joined:
            _join(output, table, ended, earlier=earlier)


def _join(output: Path, table: str, names: Sequence[str], *, earlier: bool) -> None:
    tables = [output / name / table for name in names]
    found = [path.read_text(encoding="utf-8").splitlines(keepends=True) for path in tables if path.is_file()]
    if found:
        head = max((lines[0] for lines in found), key=len)
        files.write_text(output / table, head + "".join(_rows_below(head, lines) for lines in found))
    elif earlier:  # then a table that is there is an earlier batch's
        (output / table).unlink(missing_ok=True)


def _rows_below(head: str, lines: Sequence[str]) -> str:
    """The rows of a table; cells that an earlier version did not have are empty."""
    missing = head.count(",") - lines[0].count(",")
    if not missing:
        return "".join(lines[1:])
    return "".join(f"{line.rstrip(chr(10))}{',' * missing}\n" for line in lines[1:])
