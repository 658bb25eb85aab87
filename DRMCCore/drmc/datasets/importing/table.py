"""The table of `drmc import`: a CSV file with one row for each pair of low and full dose.

Columns `center`, `patient`, `low` and `full` (paths below the folder of the scans), and optional ones, empty
where they do not apply:

    dose_reduction_factor   full dose over low dose; may be left out where `low` is named low_drf012
    lesions                 segmentation of the case's lesions, as `--lesions` of drmc denoise
    scan                    name of the scan, where a patient has several full doses
    split                   train, validation or test; by default it is drawn
    units                   what an image file holds that does not say so, as `--units` of drmc denoise
    accept_suv              what is ambiguous or implausible and yet right, as `--accept-suv` there

Several rows with one full dose are doses of one case.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drmc import texts
from drmc.datasets.manifest import SPLITS, factor_of, is_folder_name
from drmc.errors import InputError
from drmc.files import table_rows
from drmc.pet.units import CHOICES

REQUIRED = ("center", "patient", "low", "full")
OPTIONAL = ("dose_reduction_factor", "lesions", "scan", "split", "units", "accept_suv")
OPTION = "--pairs"


@dataclass(frozen=True)
class Refusal:
    """Why a row or a case cannot be imported: `line` of the table, and one sentence."""

    line: int
    message: str


@dataclass(frozen=True)
class Source:
    """A scan as the table names it: `units` and `accept_suv` as for `drmc.pet.reading.read_volume`."""

    path: Path
    units: str | None = None
    accept_suv: str | None = None


@dataclass
class WantedCase:
    """A case that rows of the table describe: one full dose with its low doses by reduction factor.

    `lesions` is their segmentation, None where no row names one.
    """

    line: int
    center: str
    patient: str
    scan: str
    full: Source
    low: dict[float, Source] = field(default_factory=dict)
    lesions: Path | None = None

    @property
    def name(self) -> str:
        """Name of the case's folder in that of its center."""
        return f"{self.patient}-{self.scan}" if self.scan else self.patient

    @property
    def case_id(self) -> str:
        """Id in the manifest; centers may have patients of one name."""
        return f"{self.center}/{self.name}"


@dataclass
class Table:
    """What a table of `rows` asks for: cases, splits by (center, patient), and rows that are refused."""

    rows: int = 0
    cases: list[WantedCase] = field(default_factory=list)
    splits: dict[tuple[str, str], str] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def read_table(path: Path, root: Path) -> Table:
    """Reads the table; nothing of the scans is opened.

    Args:
        path: the CSV file.
        root: what its paths are relative to.

    Returns:
        The cases in the order of the table. Rows that cannot be right are among its refusals.

    Raises:
        InputError: it is no table with these columns, or has no rows.
    """
    rows = table_rows(path, OPTION)
    head = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    _check_head(path, head)
    reading = _Reading(root)
    reading.table.rows = len(rows[1:])
    for line, cells in rows[1:]:
        try:
            if len(cells) != len(head):
                raise InputError(f"has {len(cells)} cells for {len(head)} columns: correct it")
            reading.add(
                line, {name: texts.text_of_cell(cell.strip()) for name, cell in zip(head, cells, strict=True)}
            )
        except InputError as error:
            reading.table.refusals.append(Refusal(line, str(error)))
    if not rows[1:]:
        raise InputError(f"{path}: has no pairs: write one row a pair below the names of the columns")
    return reading.table


def _check_head(path: Path, head: Sequence[str]) -> None:
    if missing := [name for name in REQUIRED if name not in head]:
        raise InputError(
            f"{path}: has no column '{missing[0]}': the first row names the columns, "
            f"{', '.join(REQUIRED)} and maybe {', '.join(OPTIONAL)}"
        )
    for name in head:
        if name not in (*REQUIRED, *OPTIONAL):
            raise InputError(
                f"{path}: the column '{name}' is none of {', '.join((*REQUIRED, *OPTIONAL))}: correct its "
                "name or leave it out"
            )
        if head.count(name) > 1:
            raise InputError(f"{path}: the column '{name}' is there twice: leave one out")


class _Reading:
    """Collects the rows of a table; every row is checked against those before it."""

    def __init__(self, root: Path):
        self.table = Table()
        self._root = root
        self._cases: dict[str, WantedCase] = {}
        self._spelled: dict[tuple[str, ...], tuple[str, int]] = {}
        self._scans: dict[str, tuple[str, str]] = {}  # real path -> which dose it is, of which case

    def add(self, line: int, row: Mapping[str, str]) -> None:
        """Adds a row. Raises InputError where it cannot be right."""
        if missing := [name for name in REQUIRED if not row[name]]:
            raise InputError(f"has no {missing[0]}: fill the cell in")
        names = {name: row.get(name, "") for name in ("center", "patient", "scan")}
        self._check_names(line, names)
        full, low = (self._source(row, name) for name in ("full", "low"))
        factor = _factor(row.get("dose_reduction_factor", ""), low.path)
        wanted = WantedCase(line, names["center"], names["patient"], names["scan"], full)
        case = self._cases.get(wanted.case_id, wanted)
        if (case.patient, case.scan) != (wanted.patient, wanted.scan):
            raise InputError(f"its case would have the name of that in line {case.line}: rename the scan")
        if os.path.realpath(case.full.path) != os.path.realpath(full.path):
            raise InputError(
                f"{case.case_id} has another full dose in line {case.line}: name the scans in a column 'scan'"
            )
        if factor in case.low:
            raise InputError(
                f"{case.case_id} has a dose reduction factor of {factor:g} already: leave one row out"
            )
        self._note_split(row.get("split", ""), case)
        self._note_lesions(row.get("lesions", ""), case)
        self._claim(full.path, "full", case)
        self._claim(low.path, "low", case)
        case.low[factor] = low
        if case is wanted:
            self._cases[case.case_id] = case
            self.table.cases.append(case)

    def _check_names(self, line: int, names: Mapping[str, str]) -> None:
        for column, name in names.items():
            if (name or column != "scan") and not is_folder_name(name):
                raise InputError(
                    f"{column} {name!r} is no safe name of a folder: use letters, digits, '_' and '-'"
                )
        center, patient, scan = names.values()
        for key, name in (((center,), center), ((center, patient), patient), ((center, patient, scan), scan)):
            before, where = self._spelled.setdefault(tuple(k.casefold() for k in key), (name, line))
            if before != name:
                raise InputError(
                    f"{name} differs from {before} in line {where} in capitals only: correct one"
                )

    def _source(self, row: Mapping[str, str], column: str) -> Source:
        path = self._existing(column, row[column])
        units = row.get("units", "").lower() or None
        if units is not None and units not in CHOICES:
            raise InputError(f"units '{units}' are unknown: say {', '.join(CHOICES)}")
        return Source(path, units, row.get("accept_suv") or None)

    def _existing(self, column: str, text: str) -> Path:
        path = self._root / text
        if not path.exists():
            raise InputError(f"{column}: {path} is not there: paths are relative to {self._root}")
        return path

    def _claim(self, path: Path, what: str, case: WantedCase) -> None:
        """Every scan is one dose of one case; only a full dose stands in several rows."""
        place, mine = os.path.realpath(path), (what, case.case_id)
        before, of = self._scans.get(place, mine)
        if (before, of) != mine or (what == "low" and place in self._scans):
            raise InputError(f"{what}: {path} is the {before} dose of {of} already")
        self._scans[place] = mine

    def _note_lesions(self, text: str, case: WantedCase) -> None:
        if not text:
            return
        path = self._existing("lesions", text)
        if case.lesions is not None and os.path.realpath(case.lesions) != os.path.realpath(path):
            raise InputError(f"{case.case_id} has other lesions in line {case.line}: name one segmentation")
        case.lesions = path

    def _note_split(self, split: str, case: WantedCase) -> None:
        if not split:
            return
        if split not in SPLITS:
            raise InputError(f"split '{split}' is none of {', '.join(SPLITS)}")
        before = self.table.splits.setdefault((case.center, case.patient), split)
        if before != split:
            raise InputError(
                f"patient {case.center}/{case.patient} is in the splits {before} and {split}: choose one"
            )


def _factor(text: str, low: Path) -> float:
    """The dose reduction factor of a row, else that in the name of the low dose."""
    if not text:
        named = factor_of(low)
        if named is None:
            raise InputError(
                "nothing says by how much the dose is reduced: fill in a column dose_reduction_factor, or "
                "name the low dose low_drf012 or the like"
            )
        return named
    try:
        factor = float(f"{float(text.replace(',', '.')):g}")
    except ValueError:
        factor = math.nan
    if not 1 < factor < math.inf:
        raise InputError(f"dose_reduction_factor '{text}' is no number above 1")
    return factor
