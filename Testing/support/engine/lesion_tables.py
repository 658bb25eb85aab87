"""The lesion table read back, as a script would."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from drmc.measures.rows import LESION_COLUMNS
from drmc.texts import text_of_cell


def read_lesions_csv(path: Path) -> list[dict[str, Any]]:
    """The rows that were written, each with the columns of a table without the SUV's facts."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    number = lambda text: float(text) if text else None
    read: dict[str, Any] = dict.fromkeys(LESION_COLUMNS[:3], text_of_cell)
    read["interval_note"] = read["sul_note"] = lambda text: text_of_cell(text) or None
    return [{key: read.get(key, number)(row[key]) for key in LESION_COLUMNS} for row in rows]
