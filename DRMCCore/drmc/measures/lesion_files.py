"""The lesion table as a CSV file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from drmc.files import csv_text, write_text
from drmc.measures.lesions import COLUMNS, POSITION, QUANTITIES, THRESHOLDS, Row
from drmc.suv import wording

SUV_COLUMNS = (
    "suv_rule",
    "suv_factor",
    "suv_warnings",
)  # behind the others in the file: what the SUV rests on


def lesions_csv_text(rows: Iterable[Row], suv: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """The table as CSV text: '.' decimals, digits enough to give the number back, empty where undefined.

    `suv`: the SUV decisions (`SUVDecision.to_dict`) that the stages rest on, by stage; with it SUV_COLUMNS follow. THRESHOLDS are
    the last columns.
    """

    def texts_of(row: Row, keys: Iterable[str]) -> list[str]:
        numbers = (row.get(key) for key in keys)
        return ["" if number is None else repr(float(number)) for number in numbers]

    def cells(row: Row) -> list[Any]:
        texts = texts_of(row, (*QUANTITIES, *POSITION))
        decision = (suv or {}).get(row["stage"])
        said = wording.columns(decision) if decision else ("",) * len(SUV_COLUMNS)
        said = () if suv is None else said
        return [row["scan"], row["segment"], row["stage"], *texts, *said, *texts_of(row, THRESHOLDS)]

    known = COLUMNS[
        : -len(THRESHOLDS)
    ]  # the file has had these and the SUV's for longer: those added come last
    head = (*known, *(() if suv is None else SUV_COLUMNS), *THRESHOLDS)
    return csv_text(head, map(cells, rows))


def write_lesions_csv(
    path: str | os.PathLike[str], rows: Iterable[Row], suv: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Writes the lesion table (UTF-8, atomically); `suv` as for `lesions_csv_text`."""
    write_text(path, lesions_csv_text(rows, suv))
