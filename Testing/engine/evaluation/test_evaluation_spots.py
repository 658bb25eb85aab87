"""Virtual spots in an evaluation: pooled over patients, kept for a resumed run, in tables, page and card."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.evaluation import estimators
from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth
from drmc.measures.rows import SPOT_SHARES
from drmc.measures.spots import measure_spots
from drmc.models.evaluation import summary
from drmc.pet.reading import read_volume
from support.engine.evaluation_data import constant_model, write_nifti

SHAPE, SPACING = (30, 34, 44), (3.0, 2.5, 2.5)  # (z, y, x)
DOSES = {"A-1": (4,), "A-2": (4,), "B-1": (3, 12)}
WIDTH = 10.0  # mm, of the Gaussian filter that the network `drmc` is here


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Noisy tissue: two patients of center A and one of B, who was scanned at two doses."""
    rng, folder, cases = np.random.default_rng(3), tmp_path / "data", []
    for name, factors in DOSES.items():
        images = {"full": rng.gamma(100.0, 1 / 100.0, SHAPE)}
        images |= {f"low{f}": images["full"] + rng.normal(0, 0.1 * math.sqrt(f), SHAPE) for f in factors}
        for file, array in images.items():
            write_nifti(folder / name / f"{file}.nii.gz", array, SPACING[::-1])
        low = {str(f): f"{name}/low{f}.nii.gz" for f in factors}
        cases.append(
            {"id": name, "center": name[0], "split": "test", "full": f"{name}/full.nii.gz", "low": low}
        )
    (folder / "dataset.json").write_text(json.dumps({"simulated": True, "cases": cases}))
    return folder


def low_dose(dataset: Path, case: str) -> np.ndarray:
    """The low dose at the largest dose reduction factor."""
    return read_volume(dataset / case / f"low{DOSES[case][-1]}.nii.gz", units="suv").suv_array()


def filtered(suv: np.ndarray) -> np.ndarray:
    return smooth(suv, [WIDTH / FWHM_PER_SIGMA / step for step in SPACING]).numpy()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs of networks by their method; `drmc` is a Gaussian filter, others add a constant."""
    found: list[str] = []
    estimate = estimators.Estimator.estimate

    def counted(self, low, *others):
        if self.kind == "network":
            found.append(self.method)
        return (filtered(low), "cpu") if self.method == "drmc" else estimate(self, low, *others)

    monkeypatch.setattr(estimators.Estimator, "estimate", counted)
    return found


def configured(dataset: Path, **changes) -> Path:
    models = {name: constant_model(dataset.parent / f"{name}.pt", o) for name, o in (("drmc", 0), ("add", 1))}
    values = {
        "dataset": str(dataset),
        "output": str(dataset.parent / "out"),
        "methods": [{"name": name, "model": str(path)} for name, path in models.items()],
        "known_centers": ["A"],
        "device": "cpu",
        "precision": "fp32",
        **changes,
    }
    path = dataset.parent / "evaluation.json"
    path.write_text(json.dumps(values))
    return path


def evaluated(path: Path, *options: str) -> dict:
    assert main(["evaluate", str(path), *options]) == 0
    return json.loads((Path(json.loads(path.read_text())["output"]) / "evaluation.json").read_text())


def test_the_spots_of_all_patients_count_alike(dataset, runs, capsys):
    result = evaluated(configured(dataset, spots=2))
    each = {case: measure_spots(low_dose(dataset, case), SPACING, filtered).each for case in DOSES}
    members = {"A": ["A-1", "A-2"], "B": ["B-1"], "known": ["A-1", "A-2"], "unknown": ["B-1"]}
    assert [(r["group"], r["method"]) for r in result["spots"]] == [
        (g, m) for g in members for m in ("drmc", "add")
    ]
    for record in result["spots"]:
        cases = members[record["group"]]
        pooled = [spot for case in cases for spot in each[case]]
        assert record["patients"] == len(cases) and record["spots"] == len(pooled)
        assert sum(row["spots"] for row in record["rows"]) == len(pooled)
        for row in record["rows"]:
            kind = (row["diameter_mm"], row["peak_suv"])
            mine = [spot for spot in pooled if (spot["diameter_mm"], spot["peak_suv"]) == kind]
            assert row["spots"] == len(mine)
            if record["method"] == "add":
                assert row["mean_kept"] == pytest.approx(1, abs=1e-4) and not row["warning"]
                continue
            kept = np.array([spot["mean_kept"] for spot in mine])
            assert row["mean_kept"] == pytest.approx(kept.mean(), rel=1e-6)
            assert row["mean_kept_low"] == pytest.approx(np.quantile(kept, 0.1), rel=1e-6)
            assert row["warning"] == (row["mean_kept"] < 0.8)
    out = dataset.parent / "out"
    lines = list(csv.DictReader((out / "spots.csv").open()))
    rows = [(one, row) for one in result["spots"] for row in one["rows"]]
    assert len(lines) == len(rows)
    for line, (one, row) in zip(lines, rows, strict=True):
        assert (line["group"], line["method"]) == (one["group"], one["method"])
        for key in SPOT_SHARES:
            assert float(line[key]) == pytest.approx(row[key], abs=1e-6)
    text = (out / "table.md").read_text(encoding="utf-8")
    assert "### Virtual spots" in text and "| 7 mm +1 | 7 mm +2 | 7 mm +4 | 10 mm +1 |" in text
    first = result["spots"][0]["rows"][0]
    assert f"| **{100 * first['mean_kept']:.0f} %** (" in text and text in capsys.readouterr().out
    page = (out / "evaluation.html").read_text(encoding="utf-8")
    assert (
        "<h2>Virtual spots</h2>" in page and f'<td class="beyond">{100 * first["mean_kept"]:.0f} % (' in page
    )


def test_the_card_has_one_figure_of_all_centers(dataset, runs, capsys, monkeypatch):
    monkeypatch.setenv("DRMC_MODELS", str(dataset.parent))
    result = evaluated(configured(dataset, spots=2), "--card")
    pooled = [
        spot["mean_kept"]
        for case in DOSES
        for spot in measure_spots(low_dose(dataset, case), SPACING, filtered).each
        if (spot["diameter_mm"], spot["peak_suv"]) == (10.0, 1.0)
    ]
    found = summary(result)["spots"]
    assert found == {
        "diameter_mm": 10.0,
        "peak_suv": 1.0,
        "spots": len(pooled),
        "mean_kept": found["mean_kept"],
    }
    assert found["mean_kept"] == pytest.approx(np.mean(pooled), rel=1e-6)
    card = json.loads((dataset.parent / "drmc.json").read_text())
    assert card["evaluation_summary"] == summary(result)
    assert "spots" not in summary({key: value for key, value in result.items() if key != "spots"})
    capsys.readouterr()
    assert main(["models"]) == 0
    line = f"{100 * np.mean(pooled):.0f} % kept of virtual spots of 10 mm and +1 SUV"
    assert line in capsys.readouterr().out
    assert main(["models", "--evaluation", "drmc"]) == 0
    assert "### Virtual spots" in capsys.readouterr().out


def test_by_default_it_is_one_patient_of_each_center_and_done_once(dataset, runs):
    first = evaluated(configured(dataset))
    assert {(r["group"], r["patients"]) for r in first["spots"] if r["group"] in "AB"} == {("A", 1), ("B", 1)}
    images = 4 * 2  # doses of all patients, networks
    assert len(runs) == images + 2 * 2 * 2  # patients, networks, with and without spots
    runs.clear()
    assert evaluated(configured(dataset))["spots"] == first["spots"] and runs == []
    evaluated(configured(dataset, spots=2))
    assert sorted(runs) == ["add", "add", "drmc", "drmc"]  # those of the second patient of A
    runs.clear()
    without = evaluated(configured(dataset, spots=0))
    assert without["spots"] == [] and runs == []
    assert "Virtual spots" not in (dataset.parent / "out" / "table.md").read_text(encoding="utf-8")


def test_an_evaluation_that_was_broken_off_in_the_spots_goes_on(dataset, runs, monkeypatch):
    path = configured(dataset)
    counted = estimators.Estimator.estimate

    def stops(self, *arguments):
        if len(runs) == 8 + 3:  # in the second run of the second network
            raise KeyboardInterrupt
        return counted(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(estimators.Estimator, "estimate", stops)
        assert main(["evaluate", str(path)]) == 130
    runs.clear()
    found = evaluated(path)
    assert sorted(runs) == ["add"] * 4 + ["drmc"] * 2  # A's first network was done
    whole = evaluated(configured(dataset, output=str(dataset.parent / "whole")))
    assert found["spots"] == whole["spots"]


def test_a_center_without_a_place_for_a_spot_has_no_row(dataset, runs):
    for case in ("A-1", "A-2"):
        for seed, path in enumerate((dataset / case).iterdir()):
            write_nifti(path, np.random.default_rng(seed).gamma(25.0, 9 / 25.0, SHAPE), SPACING[::-1])
    found = evaluated(configured(dataset, spots=2))["spots"]
    assert {record["group"] for record in found} == {"B", "unknown"}


def test_a_mean_over_specialists_of_other_centers_is_left_out(dataset, runs):
    models = {name: str(constant_model(dataset.parent / f"{name}.pt", 0)) for name in ("drmc", "a", "c")}
    methods = [{"name": "drmc", "model": models["drmc"]}]
    methods.append({"name": "own", "models": {"A": models["a"], "C": models["c"]}})
    found = evaluated(configured(dataset, methods=methods))["spots"]
    assert {(r["group"], r["method"]) for r in found if r["group"] in "AB"} == {
        ("A", "drmc"),
        ("A", "own"),
        ("B", "drmc"),
    }
