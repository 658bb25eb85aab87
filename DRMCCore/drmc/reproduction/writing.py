"""The page of a reproduction, from what is finished: paper.html, paper.md, paper.csv and the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import drmc
from drmc.datasets.manifest import is_simulated
from drmc.errors import InputError
from drmc.evaluation.first_experts import NOTE as EXPERTS_NOTE
from drmc.evaluation.first_experts import figure_svg as experts_svg
from drmc.files import csv_text, write_text
from drmc.pages.text import number
from drmc.reproduction.cells import Cell, Measured, RowTest, TableForm, cells_of, row_tests, table_forms
from drmc.reproduction.config import TABLES, ReproductionConfig
from drmc.reproduction.document import Figure, Section, Table, html_of, markdown_of, standalone
from drmc.reproduction.figures import size_figures
from drmc.reproduction.paper import paper_cells, paper_source
from drmc.reproduction.states import DONE, Piece, queue_of, read_state, training_state
from drmc.reproduction.texts import (
    DEFINITIONS,
    INTRODUCTION,
    METHODS_NOTE,
    NO_RESULTS,
    READING,
    TABLE_NOTES,
    TESTS_NOTE,
)
from drmc.texts import RESEARCH_USE
from drmc.training.interference.page import NOTE as INTERFERENCE_NOTE
from drmc.training.interference.page import figure_svg as interference_svg

FIGURES = "paper-figures"
CSV_COLUMNS = (
    *("table", "row", "column", "metric", "ours", "patients", "lowest", "highest", "p_holm", "paper"),
    *("paper_significant", "paper_note"),
)


def write_pages(config: ReproductionConfig) -> Path:
    """Writes the page from what is finished at this moment; nothing is computed but means and tests.

    Returns:
        paper.html; paper.md, paper.csv and the folder of figures lie beside it.

    Raises:
        InputError: results of the evaluation cannot be read.
        OSError: the page cannot be written.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    document = _Document(config)
    sections = document.sections()
    title = "The paper's comparison, made again"
    simulated = "Simulated patients. " if document.simulated else ""
    footer = f"drmc {drmc.__version__}"
    for part in (part for one in sections for part in one.parts if isinstance(part, Figure)):
        (output / FIGURES).mkdir(exist_ok=True)
        for name, svg in part.parts:
            write_text(output / FIGURES / f"{name}.svg", standalone(svg))
    write_text(output / "paper.csv", csv_text(CSV_COLUMNS, document.lines))
    introduction = f"{simulated}{RESEARCH_USE} {INTRODUCTION}"
    write_text(output / "paper.md", markdown_of(title, introduction, sections, FIGURES))
    path = output / "paper.html"
    write_text(
        path,
        html_of(title, INTRODUCTION, sections, banner=simulated + RESEARCH_USE, footer=footer),
    )
    return path


class _Document:
    def __init__(self, config: ReproductionConfig):
        self.config, self.measured = config, Measured.read(config)
        self.forms = table_forms(config, self.measured)
        self.lines: list[list[Any]] = []  # of paper.csv
        self._pooled: list[tuple[int, RowTest]] = []
        self._cells: dict[int, dict[tuple[str, str, str], Cell]] = {}

    @property
    def simulated(self) -> bool:
        """Whether the test patients are simulated."""
        try:
            return is_simulated(Path(self.config.test_dataset))
        except InputError:
            return False

    def sections(self) -> list[Section]:
        """All sections in their order; empty ones are left out by the page."""
        tables = [self._table(self.forms[number]) for number in TABLES]
        return [
            Section("Remarks", list(self.config.remarks)),
            Section("Where the rankings agree", self._rankings()),
            *tables,
            Section("Tests of the pooled columns", self._tests()),
            Section("Figure 1b: interference between centers", self._interference()),
            Section("Figure 3b: first experts by bank and center", self._routing()),
            Section("Figures 3c and 3d: number of experts and blocks", self._sizes()),
            Section("Methods", self._methods()),
            Section("Definitions", list(DEFINITIONS)),
            Section("State of the queue", self._queue()),
        ]

    def _rows(self, table: int) -> dict[str, list[str]]:
        """Methods of each row of a table that were evaluated; the low dose first."""
        rows = {"low dose": ["low"]} if table != 5 else {}
        return rows | {row.row: self.measured.done(row) for row in self.config.rows if table in row.tables}

    def _table(self, form: TableForm) -> Section:
        rows = self._rows(form.number)
        found = row_tests(self.measured, form, rows, self._reference(form.number))
        cells = self._cells[form.number] = cells_of(self.measured, form, rows, found)
        self._pooled += [(form.number, test) for test in found if test.pooled]
        parts: list[str | Table | Figure] = []
        for metric in form.metrics:
            lines = []
            for row in rows:
                line = [row]
                for column in form.columns:
                    key = (row, column.name, metric.key)
                    line.append(self._cell(form.number, cells.get(key), *key, metric.paper, metric.digits))
                lines.append(line)
            names = [column.name for column in form.columns]
            parts.append(Table([metric.title, *names], lines))
        counts = [f"{c} {n}" for c in self._centers(form) if (n := self.measured.patients(c))]
        notes = [paper_cells()[key].note for key in sorted(paper_cells()) if key[0] == form.number]
        noted = [
            f"{key[1]}, {key[2]}, {key[3]}: {paper_cells()[key].note}."
            for key in sorted(paper_cells())
            if key[0] == form.number and paper_cells()[key].note and notes.count(paper_cells()[key].note) < 4
        ]
        parts.append(f"{TABLE_NOTES[form.number]} Patients: {', '.join(counts) or 'none yet'}. {READING}")
        if noted:
            parts.append(f"The paper's cells: {' '.join(dict.fromkeys(noted))}")
        return Section(f"Table {form.number}: {form.title}", parts)

    def _centers(self, form: TableForm) -> list[str]:
        return list(dict.fromkeys(center for column in form.columns for center, _ in column.parts))

    def _reference(self, table: int) -> str:
        """The reference row, or in a table without it the last row of the same training."""
        rows = [row for row in self.config.rows if table in row.tables]
        if any(row.row == self.config.reference for row in rows):
            return self.config.reference
        mine = [row.trainings for row in self.config.rows if row.row == self.config.reference]
        same = [row.row for row in rows if mine and set(row.trainings) & set(mine[0])]
        return same[-1] if same else self.config.reference

    def _cell(
        self, table: int, cell: Cell | None, row: str, column: str, key: str, paper_metric: str, digits: int
    ) -> str:
        """Ours and the paper's number; adds the line of paper.csv."""
        paper = paper_cells().get((table, row, column, paper_metric)) if paper_metric else None
        ours = ""
        if cell is not None:
            ours = number(cell.value, digits, fixed=True) + "*" * cell.significant
            if cell.spread is not None:
                ours += " ({} to {})".format(*(number(value, digits, fixed=True) for value in cell.spread))
        low, high = cell.spread if cell is not None and cell.spread is not None else ("", "")
        self.lines.append(
            [
                *(table, row, column, key),
                *(("", "") if cell is None else (repr(cell.value), cell.patients)),
                *(low, high),
                "" if cell is None or cell.p is None else repr(cell.p),
                *(("", "", "") if paper is None else (paper.text, paper.significant, paper.note)),
            ]
        )
        if not paper_metric:
            return ours
        return f"{ours} | {paper.shown if paper is not None else ''}".strip()

    def _tests(self) -> list[str | Table | Figure]:
        if not self._pooled:
            return []
        lines = [_test_line(*one) for one in self._pooled]
        head = [
            "Table",
            "Column",
            "Metric",
            "Against",
            "n",
            "Median difference",
            "95 % interval",
            "p",
            "p (Holm)",
        ]
        return [Table(head, lines, texts=4), TESTS_NOTE.format(reference=self.config.reference)]

    def _rankings(self) -> list[str | Table | Figure]:
        """In which order the rows stand in the pooled columns, ours and the paper's."""
        lines = []
        for form in self.forms.values():
            for metric in (metric for metric in form.metrics if metric.paper):
                for column in form.columns if form.number == 3 else form.columns[-2:]:
                    if not column.pooled and form.number != 3:
                        continue
                    line = self._ranking(form, metric.key, metric.paper, column.name)
                    if line:
                        lines.append([str(form.number), column.name, metric.title, *line])
        if not lines:
            return []
        head = ["Table", "Column", "Metric", "Ours, best first", "The paper's, best first", "Same order"]
        return [
            Table(head, lines, texts=5),
            "Same order: pairs of rows that stand in the same order in both.",
        ]

    def _ranking(self, form: TableForm, key: str, paper_metric: str, column: str) -> list[str] | None:
        better = -1 if paper_metric.startswith("B_") else 1
        pairs = {}
        for row in self._rows(form.number):
            cell = self._cells[form.number].get((row, column, key))
            paper = paper_cells().get((form.number, row, column, paper_metric))
            if cell is not None and paper is not None and paper.value is not None:
                pairs[row] = (better * cell.value, better * paper.value)
        if len(pairs) < 2:
            return None
        names = list(pairs)
        orders = [" > ".join(sorted(names, key=lambda name: -pairs[name][side])) for side in (0, 1)]
        two = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
        same = sum((pairs[a][0] - pairs[b][0]) * (pairs[a][1] - pairs[b][1]) > 0 for a, b in two)
        return [*orders, f"{same} of {len(two)}"]

    def _interference(self) -> list[str | Table | Figure]:
        found: list[str | Table | Figure] = []
        for step, file in read_state(self.config, Piece("interference")).get("results", {}).items():
            content = self._json(file)
            if content is not None:
                groups = [
                    g
                    for g in content["groups"]
                    if g["group"].startswith("block") and "router" not in g["group"]
                ]
                figures = [
                    (
                        f"interference-{step}-{g['group'].replace(' ', '-')}",
                        interference_svg(g, content["centers"]),
                    )
                    for g in groups or content["groups"]
                ]
                found += [f"After step {step}, {content['batches']} patches of each center:", Figure(figures)]
        return [*found, INTERFERENCE_NOTE] if found else []

    def _routing(self) -> list[str | Table | Figure]:
        file = read_state(self.config, Piece("routing")).get("result", "")
        content = self._json(file) if file else None
        if content is None:
            return []
        figures = [
            (f"experts-{center}", experts_svg(center, one)) for center, one in content["centers"].items()
        ]
        lines = [
            [" and ".join(one["centers"]), number(one["distance"], 3), number(one["p"], 4)]
            for one in content["distances"]
        ]
        return [
            Figure(figures),
            "Colors: experts in the order of the bars, from the bottom; gray: none.",
            Table(["Centers", "Distance", "p"], lines),
            EXPERTS_NOTE,
        ]

    def _sizes(self) -> list[str | Table | Figure]:
        return size_figures(self.config, self.measured, self.forms[4].columns)

    def _json(self, file: str) -> dict[str, Any] | None:
        try:
            return json.loads((Path(self.config.output) / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _methods(self) -> list[str | Table | Figure]:
        lines = []
        for name in self.config.trainings:
            state = training_state(self.config, name)
            rows = dict.fromkeys(row.row for row in self.config.rows if name in row.trainings)
            if state["state"] != DONE:
                cells = ["", "", "", "", "", "", state.get("message", "waiting")]
            else:
                inference = self.measured.seconds(name)
                cells = [
                    state["kind"],
                    state["strategy"],
                    f"{state['parameters']:,}",
                    f"{state['patches']:,} of {state['patch']}",
                    f"{state['seconds']:,.0f}",
                    "" if inference is None else f"{inference:.1f}",
                    "done",
                ]
            lines.append([name, "; ".join(rows), *cells])
        head = [
            "Training",
            "Rows",
            "Network",
            "Strategy",
            "Parameters",
            "Patches",
            "Training [s]",
            "Scan [s]",
            "State",
        ]
        return [Table(head, lines, texts=4), METHODS_NOTE]

    def _queue(self) -> list[str | Table | Figure]:
        lines = []
        for piece in dict.fromkeys(queue_of(self.config)):
            state = read_state(self.config, piece)
            seconds = state.get("piece_seconds")
            shown = "" if seconds is None else f"{seconds:,.0f}"
            lines.append([piece.title, state["state"], shown, state.get("message", "")])
        parts: list[str | Table | Figure] = [Table(["Piece", "State", "Seconds", "Message"], lines, texts=2)]
        if not self.measured.results.rows:
            return [NO_RESULTS, *parts]
        every = (*self.config.known_centers, *self.config.unknown_centers)
        if gone := [center for center in every if not self.measured.patients(center)]:
            parts.append(
                f"No test patient of {', '.join(gone)}: their cells, and means over them, are empty."
            )
        return [*parts, f"The paper's numbers: {paper_source()}."]


def _test_line(table: int, test: RowTest) -> list[str]:
    digits = test.metric.digits
    interval = f"{number(test.low, digits, sign=True)} to {number(test.high, digits, sign=True)}"
    return [
        str(table),
        test.column,
        test.metric.title,
        test.row,
        str(test.patients),
        number(test.median, digits, sign=True),
        interval,
        number(test.p, 4),
        number(test.p_holm, 4),
    ]
