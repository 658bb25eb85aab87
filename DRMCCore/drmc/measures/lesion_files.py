"""The lesion table as a CSV file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from drmc.files import csv_text, write_text
from drmc.measures.rows import (
    INTERVAL_BOUNDS,
    LEAN_NUMBERS,
    LESION_COLUMNS,
    LESION_FILE_COLUMNS,
    POSITION,
    QUANTITIES,
    SUV_COLUMNS,
    THRESHOLDS,
    LesionNumber,
    LesionRow,
)
from drmc.suv import wording


def lesions_csv_text(rows: Iterable[LesionRow], suv: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """The table as CSV text: '.' as decimal point, full precision, an empty cell for an undefined number.

    Args:
        rows: the rows of `lesion_table`.
        suv: the SUV decision (`SUVDecision.to_dict`) of each stage; None leaves SUV_COLUMNS out.
    """

    def texts_of(row: LesionRow, keys: Iterable[LesionNumber]) -> list[str]:
        return ["" if (number := row[key]) is None else repr(float(number)) for key in keys]

    def cells(row: LesionRow) -> list[Any]:
        decision = (suv or {}).get(row["stage"])
        columns = wording.columns(decision) if decision else ("",) * len(SUV_COLUMNS)
        return [
            *(row["scan"], row["segment"], row["stage"]),
            *texts_of(row, (*QUANTITIES, *POSITION)),
            *(() if suv is None else columns),
            *texts_of(row, (*THRESHOLDS, *INTERVAL_BOUNDS)),
            row["interval_note"] or "",
            *texts_of(row, LEAN_NUMBERS),
            row["sul_note"] or "",
        ]

    return csv_text(LESION_COLUMNS if suv is None else LESION_FILE_COLUMNS, map(cells, rows))


def write_lesions_csv(
    path: str | os.PathLike[str],
    rows: Iterable[LesionRow],
    suv: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Writes the lesion table (UTF-8, atomically); `suv` as for `lesions_csv_text`."""
    write_text(path, lesions_csv_text(rows, suv))
