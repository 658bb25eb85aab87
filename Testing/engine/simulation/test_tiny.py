"""`drmc simulate --tiny`: a dataset to try the commands with."""

from __future__ import annotations

import json

import pytest
from drmc.cli.main import main
from drmc.datasets.manifest import SPLITS, read_manifest
from drmc.evaluation.config import EvaluationConfig
from drmc.simulation import cohort
from support.engine.evaluation_data import constant_model

# torch says that its CSR support is in beta state
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse.*")


def test_a_tiny_dataset_is_valid_and_can_be_trained_on_and_evaluated(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--tiny", "-o", "trial"]) == 0
    assert "T2-test-0001: done" in capfd.readouterr().err
    cases = read_manifest(tmp_path / "trial")
    counts = {
        (c, s): sum((one.center, one.split) == (c, s) for one in cases) for c in ("T1", "T2") for s in SPLITS
    }
    assert counts == {(c, s): 2 if s == "train" else 1 for c in ("T1", "T2") for s in SPLITS}
    assert main(["validate", "trial"]) == 0
    assert "no findings" in capfd.readouterr().out
    assert main(["train", "trial", "-o", "run", "--preset", "tiny", "--set", "steps=2"]) == 0
    monkeypatch.setenv("DRMC_MODELS", str(constant_model(tmp_path / "models" / "other.pt", 0.1).parent))
    monkeypatch.setattr("drmc.models.registry.SHIPPED", tmp_path / "none")
    monkeypatch.setattr(EvaluationConfig, "spots", 0)
    assert main(["evaluate", "trial", "--model", "run"]) == 0
    result = json.loads((tmp_path / "trial-evaluation" / "evaluation.json").read_text())
    assert result["known_centers"] == ["T1", "T2"] and result["reference"] == "tiny"
    assert {row["method"] for row in result["table"]} == {"low", "gaussian", "tiny", "other"}


@pytest.mark.parametrize("option", ["--patients=3", "--centers=C1", "--axial-mm=80", "--tof", "--split=test"])
def test_tiny_is_as_it_is(tmp_path, monkeypatch, capfd, option):
    started: list = []
    monkeypatch.setattr(cohort, "_run_task", lambda task, progress: started.append(task) or 0.0)
    assert main(["simulate", "--tiny", option, "-o", str(tmp_path / "trial")]) == 2
    name = option.partition("=")[0]
    assert f"--tiny has its own centers, patients and images: leave {name} out" in capfd.readouterr().err
    assert not started
