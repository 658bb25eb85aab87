"""Intervals of full dose through a run: lesions.csv, report, summary, strengths, results measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drmc.cli.main import main
from drmc.denoising.pipeline import run
from drmc.measures.intervals import CARD_KEY, Calibration
from drmc.measures.rows import INTERVAL_BOUNDS, INTERVAL_OF, LESION_FILE_COLUMNS
from drmc.models.card import add_to_card
from drmc.models.registry import find_model
from drmc.models.weights import save_model
from support.engine.denoising_cases import request, tiny_network, write_case
from support.engine.interval_cases import drawn_calibration
from support.engine.lesion_tables import read_lesions_csv

EXACT = ("--device", "cpu", "--precision", "fp32", "--model", "tiny")


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    save_model(folder / "tiny.pt", tiny_network(), 16, {"title": "tiny", "default": True})
    monkeypatch.setenv("DRMC_MODELS", str(folder))
    return folder


@pytest.fixture
def calibrated(models) -> Calibration:
    calibration = drawn_calibration()
    add_to_card(find_model("tiny"), {CARD_KEY: calibration.to_dict()})
    return calibration


def denoised_row(out: Path) -> dict:
    return next(row for row in read_lesions_csv(out / "lesions.csv") if row["stage"] == "denoised")


def test_a_run_states_the_intervals_in_table_summary_and_report(calibrated, tmp_path, capsys):
    case = write_case(tmp_path / "case")
    out = tmp_path / "out"
    assert main(["denoise", str(case["low"]), "-o", str(out), "--lesions", str(case["lesions"]), *EXACT]) == 0
    said = capsys.readouterr().out
    row = denoised_row(out)
    head = (out / "lesions.csv").read_text().splitlines()[0].split(",")
    assert tuple(head) == LESION_FILE_COLUMNS and tuple(head[-11:-5]) == INTERVAL_BOUNDS
    summary = json.loads((out / "summary.json").read_text())
    assert summary["lesion_intervals"] == calibrated.to_dict()
    segment = next(one for one in summary["lesions"]["segments"] if one["stage"] == "denoised")
    page = (out / "report.html").read_text()
    assert "Full dose, 90 % interval" in page and "no interval of the true uptake" in page
    for key, bounds in INTERVAL_OF.items():
        low, high = (row[bound] for bound in bounds)
        assert 0 < low < high and (segment[bounds[0]], segment[bounds[1]]) == (low, high)
        assert f"<td>{low:.2f} to {high:.2f}</td>" in page
        assert f"{row[key]:.3f}, {low:.3f} to {high:.3f}" in said


def test_a_model_without_calibration_states_none(models, tmp_path, capsys):
    case = write_case(tmp_path / "case")
    summary = run(request(case, tmp_path / "out", lesions=case["lesions"]))
    row = denoised_row(tmp_path / "out")
    assert {row[key] for key in (*INTERVAL_BOUNDS, "interval_note")} == {None}
    assert summary["lesion_intervals"] is None
    assert "interval" not in (tmp_path / "out" / "report.html").read_text()


def test_a_note_stands_where_no_interval_can_be_stated(calibrated, tmp_path, capsys):
    content = calibrated.to_dict()
    content["high"][0] = content["low"][0] + 0.1
    add_to_card(find_model("tiny"), {CARD_KEY: content})
    case = write_case(tmp_path / "case")
    out = tmp_path / "out"
    assert main(["denoise", str(case["low"]), "-o", str(out), "--lesions", str(case["lesions"]), *EXACT]) == 0
    row = denoised_row(out)
    assert row["interval_note"].startswith("diameter [mm]: ") and row["suv_max_interval90_high"] is None
    assert f"No interval of full dose is stated for {row['segment']}" in (out / "report.html").read_text()
    assert f"no interval for {row['segment']}: {row['interval_note']}" in capsys.readouterr().out


def test_a_damaged_calibration_is_refused_where_it_is_needed_and_nothing_is_written(
    calibrated, tmp_path, capsys
):
    add_to_card(find_model("tiny"), {CARD_KEY: {**calibrated.to_dict(), "scale": "?"}})
    case = write_case(tmp_path / "case")
    out = tmp_path / "out"
    command = ["denoise", str(case["low"]), "-o", str(out), *EXACT]
    assert main([*command, "--lesions", str(case["lesions"])]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "tiny.json: its lesion intervals (lesion_intervals) are damaged" in said and not out.exists()
    assert main(command) == 0, "a run without lesions does not need it"


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_the_intervals_do_not_depend_on_the_strength(calibrated, tmp_path, strength):
    case = write_case(tmp_path / "case")
    lesions = {"lesions": case["lesions"]}
    run(request(case, tmp_path / "full", keep_residual=True, **lesions))
    run(request(case, tmp_path / "anew", strength=strength, **lesions))
    kept = {"model": None, "residual": tmp_path / "full", "strength": strength}
    again = run(request(case, tmp_path / "kept", **kept, **lesions))
    full, anew, of_kept = (denoised_row(tmp_path / name) for name in ("full", "anew", "kept"))
    assert of_kept == anew and anew["suv_max"] != full["suv_max"]
    assert {key: anew[key] for key in INTERVAL_BOUNDS} == {key: full[key] for key in INTERVAL_BOUNDS}
    assert again["lesion_intervals"] == calibrated.to_dict()


def test_a_result_is_measured_again_with_its_intervals_at_full_strength_only(calibrated, tmp_path, capsys):
    case = write_case(tmp_path / "case")
    for name, strength in (("full", 1.0), ("half", 0.5)):
        run(request(case, tmp_path / name, lesions=case["lesions"], strength=strength))
    # The run's own calibration counts, also if the model's card has changed since.
    add_to_card(find_model("tiny"), {CARD_KEY: drawn_calibration(7).to_dict()})
    capsys.readouterr()
    found = {}
    for name in ("full", "half"):
        assert main(["quantify", str(tmp_path / name), "--lesions", str(case["lesions"]), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["segments"]
        found[name] = next(row for row in rows if row["stage"] == "denoised")
    stated = denoised_row(tmp_path / "full")
    assert {key: found["full"][key] for key in INTERVAL_BOUNDS} == {
        key: pytest.approx(stated[key], rel=1e-6) for key in INTERVAL_BOUNDS
    }
    assert {found["half"][key] for key in INTERVAL_BOUNDS} == {None}
