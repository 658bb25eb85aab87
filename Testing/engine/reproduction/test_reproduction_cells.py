"""The cells of the tables, their tests, and the paper's numbers, by hand."""

from __future__ import annotations

import pytest
from drmc.evaluation.results import Results
from drmc.evaluation.results import Row as ResultRow
from drmc.evaluation.statistics import holm, signed_rank
from drmc.reproduction.cells import BIAS, PSNR, Measured, cells_of, row_tests, table_forms
from drmc.reproduction.config import ReproductionConfig
from drmc.reproduction.document import Figure, Section, Table, html_of, markdown_of, standalone
from drmc.reproduction.paper import paper_cells, paper_rows
from support.engine.small_reproduction import write_config

LEGACY = PSNR[0]


@pytest.fixture
def config(tmp_path) -> ReproductionConfig:
    return ReproductionConfig.read(write_config(tmp_path / "config.json", tmp_path / "data"))


def measured_of(
    config, values: dict[tuple[str, str, float], list[float]], metric: str = "psnr_legacy"
) -> Measured:
    """By method, center and dose the values of the center's patients."""
    rows = [
        ResultRow(center, f"{center}-{k}", f"{center}-{k}", dose, method, metric, value)
        for (method, center, dose), of_patients in values.items()
        for k, value in enumerate(of_patients)
    ]
    return Measured(config, Results(rows))


def test_the_papers_cells_are_those_of_its_tables():
    cells = paper_cells()
    assert len(cells) == 360 and {key[0] for key in cells} == {2, 3, 4, 5, 6, 7}
    assert (
        cells[2, "DRMC", "Avg.", "PSNR"].shown == "46.88" and cells[2, "FTL", "C4", "PSNR"].shown == "44.75*"
    )
    unreadable = cells[3, "3D CVT-GAN", "C5", "PSNR"]
    assert unreadable.value is None and unreadable.shown == "" and "unreadable" in unreadable.note
    # "unknown" is the mean of both centers for PSNR: the paper's own numbers say so
    mean = (cells[3, "DRMC", "C5", "PSNR"].value + cells[3, "DRMC", "C6", "PSNR"].value) / 2
    assert mean == pytest.approx(cells[4, "DRMC", "C_ukn", "PSNR"].value, abs=0.01)
    assert paper_rows(6) == ["3D-cGAN", "3D CVT-GAN", "FedAVG", "FL-MRCM", "FTL", "DRMC"]


def test_an_average_is_the_mean_of_the_centers_and_empty_without_one_of_them(config):
    measured = measured_of(config, {("a", "C1", 12.0): [10, 20, 30], ("a", "C2", 4.0): [40]})
    form = table_forms(config, measured)[2]
    cells = cells_of(measured, form, {"A": ["a"]}, [])
    assert cells["A", "Avg.", "psnr_legacy"].value == pytest.approx((20 + 40) / 2)
    assert cells["A", "Avg.", "psnr_legacy"].patients == 4
    alone = measured_of(config, {("a", "C1", 12.0): [10, 20, 30]})
    cells = cells_of(alone, table_forms(config, alone)[2], {"A": ["a"]}, [])
    assert set(cells) == {("A", "C1", "psnr_legacy")}


def test_unknown_centers_without_lesions_do_not_count_for_biases(config):
    values = {("low", "C5", 4.0): [20], ("low", "C6", 12.0): [30], ("low", "C6", 3.0): [99]}
    measured = measured_of(config, values, "psnr")
    measured.results.rows += measured_of(config, {("low", "C6", 12.0): [0.25]}, "B_mean").results.rows
    form = table_forms(config, measured)[4]
    unknown = form.columns[1]
    assert measured.value("low", PSNR[1], unknown) == pytest.approx(25)  # C6 at its largest factor
    assert measured.value("low", BIAS[0], unknown) == 0.25


def test_a_patient_at_several_doses_counts_once(config):
    values = {("a", "C6", 3.0): [30, 32], ("a", "C6", 12.0): [20, 24]}
    measured = measured_of(config, {**values, ("b", "C6", 3.0): [29, 30], ("b", "C6", 12.0): [19, 21]})
    form = table_forms(config, measured)[7]
    assert [column.name for column in form.columns] == ["DRF=3", "DRF=12", "Avg."]
    found = row_tests(measured, form, {"DRMC": ["a"], "other": ["b"]}, "DRMC")
    average = next(one for one in found if one.column == "Avg.")
    assert average.patients == 2 and average.median == pytest.approx(1.75)  # of 1 and 2.5


def test_several_seeds_give_their_mean_and_range(config):
    measured = measured_of(config, {("a", "C1", 12.0): [10, 20], ("b", "C1", 12.0): [12, 22]})
    cell = cells_of(measured, table_forms(config, measured)[2], {"A": ["a", "b"]}, [])[
        "A", "C1", "psnr_legacy"
    ]
    assert (cell.value, cell.spread, cell.patients) == (16.0, (15.0, 17.0), 2)


def test_holm_corrects_within_a_table_and_metric_apart_for_pooled_columns(config):
    mine = [10.0 + k for k in range(8)]
    others = {
        "b": [x - 1 - 0.01 * k for k, x in enumerate(mine)],
        "c": [x + (-1) ** k for k, x in enumerate(mine)],
    }
    values = {("a", "C1", 12.0): mine, ("a", "C2", 4.0): mine}
    values |= {
        (name, center, dose): of
        for name, of in others.items()
        for center, dose in (("C1", 12.0), ("C2", 4.0))
    }
    measured = measured_of(config, values)
    form = table_forms(config, measured)[2]
    rows = {"DRMC": ["a"], "B": ["b"], "C": ["c"]}
    found = row_tests(measured, form, rows, "DRMC")
    single = [one for one in found if not one.pooled]
    assert {(one.row, one.column) for one in single} == {(r, c) for r in "BC" for c in ("C1", "C2")}
    assert [one.p_holm for one in single] == pytest.approx(holm([one.p for one in single]))
    pooled = [one for one in found if one.pooled]
    assert [one.p_holm for one in pooled] == pytest.approx(holm([one.p for one in pooled]))
    expected = signed_rank([m - o for m, o in zip(mine, others["b"], strict=True)] * 2).p
    assert next(one for one in pooled if one.row == "B").p == expected
    cells = cells_of(measured, form, rows, found)
    assert cells["B", "C1", "psnr_legacy"].significant and not cells["C", "C1", "psnr_legacy"].significant


def test_a_document_as_html_and_markdown():
    svg = '<svg class="heatmap" viewBox="0 0 1 1"><text class="label">a & b</text></svg>'.replace(
        "&", "&amp;"
    )
    parts = ["x < 1, 2*", Table(["row", "C1"], [["A|B", "1.5* | 2"]]), Figure([("one", svg)])]
    html = html_of("T", "intro", [Section("S", parts), Section("empty")], banner="b", footer="f")
    assert "x &lt; 1, 2*" in html and "<td>1.5* | 2</td>" in html and svg in html and "empty" not in html
    text = markdown_of("T", "intro", [Section("S", parts)], "figures")
    assert r"| A\|B | 1.5\* \| 2 |" in text and "![one](figures/one.svg)" in text and r"x \< 1, 2\*" in text
    alone = standalone(svg)
    assert alone.startswith('<svg xmlns="http://www.w3.org/2000/svg" class="heatmap"') and "</style>" in alone
