"""Our cells of the tables: means over patients, and paired tests against the reference row."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.evaluation.results import Results
from drmc.evaluation.results import Row as ResultRow
from drmc.evaluation.statistics import LEVEL, hodges_lehmann, holm, signed_rank
from drmc.reproduction.config import ReproductionConfig, Row
from drmc.reproduction.states import EVALUATION

LOW = "low"
Place = tuple[str, float]
"""A center and a dose reduction factor."""


@dataclass(frozen=True)
class Metric:
    """A number of the tables: its key in the evaluation, title, the paper's name or "", and digits."""

    key: str
    title: str
    paper: str
    digits: int

    @property
    def of_lesions(self) -> bool:
        """Whether only patients with lesions have it."""
        return self.key.startswith("B_")


PSNR = (
    Metric("psnr_legacy", "PSNR as in the authors' code [dB]", "PSNR", 2),
    Metric("psnr", "PSNR, range 20 SUV, in the body [dB]", "", 2),
)
SSIM = (
    Metric("ssim_legacy", "SSIM as in the authors' code", "SSIM", 4),
    Metric("ssim", "SSIM, range 20 SUV, in the body", "", 4),
)
BIAS = (
    Metric("B_mean", "B_mean, absolute", "B_mean", 4),
    Metric("B_mean_signed", "B_mean, signed", "", 4),
    Metric("B_max", "B_max, absolute", "B_max", 4),
    Metric("B_max_signed", "B_max, signed", "", 4),
)


@dataclass(frozen=True)
class Column:
    """A column: its name in the paper, what it is the mean of, and whether it pools centers or doses."""

    name: str
    parts: tuple[Place, ...]
    pooled: bool = False


@dataclass(frozen=True)
class TableForm:
    """A table of the paper."""

    number: int
    title: str
    metrics: tuple[Metric, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Cell:
    """One of our cells.

    Attributes:
        value: mean over the parts of the column of the mean over patients.
        patients: number of patients.
        spread: lowest and highest value of several trainings, None of one.
        p: Holm's p against the reference row, None where there is no test.
    """

    value: float
    patients: int
    spread: tuple[float, float] | None = None
    p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether it differs from the reference."""
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class RowTest:
    """The reference row against another one, in one column: reference minus other."""

    row: str
    column: str
    metric: Metric
    patients: int
    median: float
    low: float
    high: float
    p: float
    p_holm: float
    pooled: bool


class Measured:
    """The results of the evaluation, as the tables need them."""

    def __init__(self, config: ReproductionConfig, results: Results):
        self.config, self.results = config, results

    @classmethod
    def read(cls, config: ReproductionConfig) -> Measured:
        """The results in the output folder; without any where nothing has been evaluated.

        Raises:
            InputError: the results cannot be read.
        """
        path, results = Path(config.output) / EVALUATION / "results.csv", Results()
        if path.is_file():
            patients = {case.case_id: case.patient for case in read_manifest(Path(config.test_dataset))}
            try:
                with open(path, encoding="utf-8", newline="") as file:
                    for line in csv.DictReader(file):
                        case, factor = line["case"], float(line["dose_reduction_factor"])
                        place = (line["center"], case, patients.get(case, case), factor)
                        results.rows.append(
                            ResultRow(*place, line["method"], line["metric"], float(line["value"]))
                        )
            except (KeyError, ValueError) as error:
                raise InputError(f"{path}: cannot be read ({error}): delete it and start again") from None
        return cls(config, results)

    @cached_property
    def _values(self) -> dict[tuple[str, str, Place], dict[tuple[str, str], float]]:
        found: dict[tuple[str, str, Place], dict[tuple[str, str], list[float]]] = defaultdict(dict)
        for row in self.results.rows:
            key = (row.method, row.metric, (row.center, row.dose_reduction_factor))
            found[key].setdefault((row.center, row.patient), []).append(row.value)
        return {
            key: {patient: float(np.mean(values)) for patient, values in of_key.items()}
            for key, of_key in found.items()
        }

    def doses(self, center: str) -> list[float]:
        """The dose reduction factors that a center was tested at."""
        return sorted({row.dose_reduction_factor for row in self.results.rows if row.center == center})

    def place(self, center: str) -> Place:
        """A center at its largest dose reduction factor."""
        return center, max(self.doses(center), default=0.0)

    def patients(self, center: str) -> int:
        """Number of test patients of a center."""
        return len({row.patient for row in self.results.rows if row.center == center})

    def by_patient(
        self, methods: Sequence[str], metric: Metric, column: Column
    ) -> dict[tuple[str, str], float]:
        """Mean over methods and parts of a patient's value, for those who have all of them."""
        values: dict[tuple[str, str], list[float]] = defaultdict(list)
        parts = self._parts(metric, column)
        for method in methods:
            for part in parts:
                for patient, value in self._values.get((method, metric.key, part), {}).items():
                    values[patient].append(value)
        share = {center: sum(one == center for one, _ in parts) for center, _ in parts}
        return {
            patient: float(np.mean(found))
            for patient, found in values.items()
            if len(found) == len(methods) * share[patient[0]]
        }

    def value(self, method: str, metric: Metric, column: Column) -> float | None:
        """A cell of one method: the mean over the column's parts; None where one is missing."""
        parts = self._parts(metric, column)
        found = [self._values.get((method, metric.key, part)) for part in parts]
        if not parts or not all(found):
            return None
        return float(np.mean([np.mean(list(of_part.values())) for of_part in found if of_part]))

    def _parts(self, metric: Metric, column: Column) -> tuple[Place, ...]:
        """The parts of a column; without centers that have no lesions, for what is measured in lesions."""
        if not metric.of_lesions:
            return column.parts
        return tuple(
            part
            for part in column.parts
            if (LOW, metric.key, part) in self._values or (LOW, "psnr", part) not in self._values
        )

    def done(self, row: Row) -> list[str]:
        """The methods of a row that were evaluated."""
        every = {method for method, _, _ in self._values}
        return [method for method in row.methods if method in every]

    def seconds(self, method: str) -> float | None:
        """Mean seconds of a method for a test image."""
        values = [row.value for row in self.results.rows if (row.method, row.metric) == (method, "seconds")]
        return float(np.mean(values)) if values else None


def table_forms(config: ReproductionConfig, measured: Measured) -> dict[int, TableForm]:
    """The tables with their columns, as far as the test patients have them."""
    known = tuple(Column(center, (measured.place(center),)) for center in config.known_centers)
    average = Column("Avg.", tuple(part for column in known for part in column.parts), pooled=True)
    unknown = tuple(Column(center, (measured.place(center),)) for center in config.unknown_centers)
    groups = (
        Column("C_kn", average.parts, pooled=True),
        Column("C_ukn", tuple(part for column in unknown for part in column.parts), pooled=True),
    )
    doses = tuple(Column(f"DRF={dose:g}", ((config.dose_center, dose),)) for dose in config.doses)
    over_doses = Column("Avg.", tuple(part for column in doses for part in column.parts), pooled=True)
    forms = (
        TableForm(2, "Comparison on the known centers", (*PSNR, *BIAS), (*known, average)),
        TableForm(3, "Comparison on unknown centers", (*PSNR, *BIAS), unknown),
        TableForm(4, "Ablation of the routing", (*PSNR, *BIAS), groups),
        TableForm(5, "Specialists, generalist and DRMC", (*PSNR, *BIAS), (*known, average)),
        TableForm(6, "SSIM on the known centers", SSIM, (*known, average)),
        TableForm(7, f"{config.dose_center} at several doses", (*PSNR, *BIAS), (*doses, over_doses)),
    )
    return {form.number: form for form in forms}


def row_tests(
    measured: Measured, form: TableForm, rows: Mapping[str, Sequence[str]], reference: str
) -> list[RowTest]:
    """Every row of a table against the reference row.

    Holm's correction is over the rows of a table for one metric: columns of single centers or doses are one
    family, pooled columns another one.

    Args:
        measured: the results.
        form: the table.
        rows: methods of each row.
        reference: the row that the others are tested against.
    """
    found: list[RowTest] = []
    for metric in form.metrics:
        for pooled in (False, True):
            family = []
            for column in form.columns:
                mine = measured.by_patient(rows.get(reference, ()), metric, column)
                for name, methods in rows.items():
                    theirs = measured.by_patient(methods, metric, column)
                    differences = [mine[patient] - theirs[patient] for patient in mine if patient in theirs]
                    if name != reference and column.pooled == pooled and len(differences) > 1:
                        family.append((name, column.name, differences))
            p_values = [signed_rank(differences).p for _, _, differences in family]
            for (name, column_name, differences), p, corrected in zip(
                family, p_values, holm(p_values), strict=True
            ):
                median = hodges_lehmann(differences)
                found.append(
                    RowTest(name, column_name, metric, len(differences), *median, p, corrected, pooled)
                )
    return found


def cells_of(
    measured: Measured, form: TableForm, rows: Mapping[str, Sequence[str]], found: Sequence[RowTest]
) -> dict[tuple[str, str, str], Cell]:
    """The cells by row, column and metric's key; those that were not computed are not there.

    Args:
        measured: the results.
        form: the table.
        rows: methods of each row.
        found: the tests of the table.
    """
    p_values = {(test.row, test.column, test.metric.key): test.p_holm for test in found}
    cells = {}
    for metric in form.metrics:
        for column in form.columns:
            for name, methods in rows.items():
                values = [measured.value(method, metric, column) for method in methods]
                known = [value for value in values if value is not None]
                if not known:
                    continue
                count = len(measured.by_patient(methods, metric, column))
                spread = (min(known), max(known)) if len(known) > 1 else None
                key = (name, column.name, metric.key)
                cells[key] = Cell(float(np.mean(known)), count, spread, p_values.get(key))
    return cells
