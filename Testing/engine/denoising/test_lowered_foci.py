"""Lowered foci from run to reader: summary, notice, report, command line, batch table, cohort page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.denoising import cohort_page, pipeline
from drmc.imaging.files import write_image
from drmc.measures.foci import lowered_foci
from drmc.measures.rows import LoweredFoci, LoweredFocus
from drmc.measures.spots import Spot, spots_image
from drmc.report.foci import foci_html, sentence
from support.engine.denoising_cases import GRID, rows_of

PLACE = (9, 12, 15)
SENTENCE = "1 focus was lowered by more than noise explains: see the list in the report"


def focus(rank: int = 1, **changes) -> dict:
    found = {"rank": rank, "x_mm": 12.4, "y_mm": -30.6, "z_mm": 400.2, "slice": 7, "suv_before": 2.5}
    found |= {"suv_after": 1.25, "change_percent": -50.0, "sigmas": 6.25, "segment": None}
    return found | changes


@pytest.fixture
def scan(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scan with a spot, in a folder with its lesion, and a model that wipes the spot out."""
    rng = np.random.default_rng(0)
    tissue = rng.gamma(400.0, 1 / 400.0, GRID.shape).astype(np.float32)
    spot = spots_image([Spot(PLACE, 12.0, 3.0)], GRID.shape, GRID.spacing_zyx, 6.0)
    (tmp_path / "cohort").mkdir()
    path = tmp_path / "cohort" / "pet.nrrd"
    write_image(path, tissue + spot, GRID, metadata={"units": "SUV"})
    write_image(tmp_path / "lesions.nii.gz", (spot > 1).astype(np.float32), GRID)
    denoise = pipeline.denoise_volume

    def wiping(volume, denoiser, **keywords):
        return replace(volume, array=tissue), denoise(volume, denoiser, **keywords)[1]

    monkeypatch.setattr(pipeline, "denoise_volume", wiping)
    return path


def arguments(scan: Path, output: Path, *more: str) -> list[str]:
    return ["denoise", str(scan), "-o", str(output), "--model", "zero", "--device", "cpu", *more]


def test_a_wiped_focus_is_in_summary_report_and_on_the_command_line(scan, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(arguments(scan, output, "--lesions", str(tmp_path / "lesions.nii.gz"))) == 0
    printed = capsys.readouterr()
    assert SENTENCE in printed.out + printed.err
    summary = json.loads((output / "summary.json").read_text())
    found = summary["lowered_foci"]
    assert set(found) == set(LoweredFoci.__annotations__) and found["count"] == 1
    (row,) = found["foci"]
    assert set(row) == set(LoweredFocus.__annotations__) and row["segment"] is not None
    place = (GRID.matrix @ [*reversed(PLACE), 1.0])[:3]
    assert [row[f"{axis}_mm"] for axis in "xyz"] == pytest.approx(place, abs=3.1)
    assert row["suv_before"] > 2 > 1.1 > row["suv_after"]
    assert SENTENCE in summary["notices"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<h2>Foci lowered by more than noise explains</h2>" in page and SENTENCE in page


def test_batch_table_and_cohort_page_count_them(scan, tmp_path):
    output = tmp_path / "out"
    assert main(arguments(scan.parent, output, "--batch")) == 0
    (row,) = rows_of(output / "batch.csv")
    assert row["lowered_foci"] == "1"
    page = (output / "cohort.html").read_text(encoding="utf-8")
    assert SENTENCE in page and "1 to be looked at" in page
    # A result of an earlier version does not know.
    assert cohort_page.outliers([row], {"pet": {}}) == {"pet": []}


def test_without_lowered_foci_there_is_no_list_and_no_message(models, tmp_path, capsys):
    write_image(tmp_path / "pet.nrrd", np.ones(GRID.shape, np.float32), GRID, metadata={"units": "SUV"})
    assert main(arguments(tmp_path / "pet.nrrd", tmp_path / "out")) == 0
    printed = capsys.readouterr()
    assert "noise explains" not in printed.out + printed.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["lowered_foci"]["count"] == 0 and summary["lowered_foci"]["foci"] == []
    assert "Foci lowered" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    nothing = np.zeros((2, 2, 2), np.float32)
    assert sentence(lowered_foci(nothing, nothing, replace(GRID, shape=(2, 2, 2)))) == ""


def test_the_list_says_where_how_much_and_how_many_more():
    found = {"count": 22, "foci": [focus(segment="<b>Node</b>"), focus(2)]}
    html = foci_html({"lowered_foci": {**found, "candidates": 900, "limit_sigmas": 4.52}})
    for text in ("12, −31, 400", "<td>7</td>", "2.50", "1.25", "−50.0 %", "6.2 SD", "4.5", "900"):
        assert text in html, text
    assert "&lt;b&gt;Node" in html and "<b>Node" not in html and "20 more are not listed" in html
    assert "need not be a lesion" in html and "at least 15 %" in html
    assert sentence(found).startswith("22 foci were lowered")
    assert foci_html({}) == "" == sentence({})  # a summary of an earlier version
