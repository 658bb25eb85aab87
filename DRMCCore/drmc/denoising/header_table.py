"""The table of `--headers`: values of DICOM headers that are given by hand, one row a scan of a batch.

A CSV file with the column `scan` (the scan's name as in batch.csv, or its path below the batch folder) and
columns named by DICOM keywords as `--header` takes them. An empty cell gives nothing; a scan without a row
takes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from drmc import texts
from drmc.errors import InputError
from drmc.files import table_rows
from drmc.suv import manual

SCAN = "scan"


def read(path: str | os.PathLike[str], scans: Mapping[str, Path], folder: Path) -> dict[str, dict[str, str]]:
    """The given values by scan and keyword, in the form that DICOM writes.

    `scans`: name and path of each scan of the batch; `folder`: what their paths are relative to. Raises
    InputError for an unreadable table, unknown scans or keywords, doubled rows or columns, and values that
    make no sense.
    """
    path = Path(path)
    rows = table_rows(path, "--headers")
    head = [cell.strip() for cell in rows[0][1]] if rows else []
    if SCAN not in head:
        raise InputError(
            f"{path}: has no column '{SCAN}': name the scans in a column of this name (--headers)"
        )
    doubled = next((name for name in head if head.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"{path}: the column '{doubled}' is there twice: leave one out")
    for keyword in head:
        if keyword != SCAN and keyword not in manual.KINDS:
            raise InputError(
                f"{path}: the column '{keyword}' is no value that can be given by hand, only "
                f"{', '.join(manual.KINDS)}: correct its name or leave it out"
            )
    named = _names(scans, folder)
    given: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    for line, cells in rows[1:]:
        if len(cells) != len(head):
            raise InputError(
                f"{path}, line {line}: has {len(cells)} cells for {len(head)} columns: correct it"
            )
        row = dict(zip(head, cells, strict=True))
        text = texts.text_of_cell(row.pop(SCAN).strip())
        found = named.get(text, set())
        if len(found) != 1:
            what = "is the name of one scan and the path of another" if found else "is no scan of this batch"
            example = next(iter(scans), "")
            raise InputError(
                f"{path}, line {line}: '{text}' {what}: write a name as in batch.csv, such as {example}"
            )
        name = next(iter(found))
        if name in given:
            raise InputError(
                f"{path}, line {line}: the scan '{text}' has a row already (line {lines[name]}): leave one "
                "out"
            )
        values = {keyword: texts.text_of_cell(cell) for keyword, cell in row.items() if cell.strip()}
        try:
            given[name] = manual.checked(values)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {str(error).removeprefix('--header ')}") from None
        lines[name] = line
    return given


def _names(scans: Mapping[str, Path], folder: Path) -> dict[str, set[str]]:
    """Which scans a text can mean: a name, or a path below the folder."""
    named: dict[str, set[str]] = {}
    for name, path in scans.items():
        texts_of_scan = {name}
        if path.is_relative_to(folder):
            texts_of_scan.add(path.relative_to(folder).as_posix())
        for text in texts_of_scan:
            named.setdefault(text, set()).add(name)
    return named
