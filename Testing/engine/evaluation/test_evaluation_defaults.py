"""`drmc evaluate DATASET`: an evaluation without a configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drmc.cli.main import main
from drmc.evaluation.config import EvaluationConfig
from drmc.evaluation.defaults import dataset_evaluation
from support.engine.evaluation_data import constant_model, write_dataset


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch) -> Path:
    """The only installed model."""
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("drmc.models.registry.SHIPPED", tmp_path / "none")
    return constant_model(tmp_path / "models" / "shipped.pt", 0.3)


def methods(config: EvaluationConfig) -> list[str]:
    return [method.name for method in config.rows()]


def test_without_a_model_it_is_the_default_one_beside_a_tuned_filter(tmp_path, monkeypatch, capsys):
    write_dataset(tmp_path / "ours")
    monkeypatch.setattr(EvaluationConfig, "spots", 0)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "ours/dataset.json"]) == 0
    result = json.loads((tmp_path / "ours-evaluation" / "evaluation.json").read_text())
    assert [method["name"] for method in result["methods"]] == ["gaussian", "shipped"]
    assert result["reference"] == "shipped" and result["tuning"]["split"] == "train"
    assert {row["method"] for row in result["table"]} == {"low", "gaussian", "shipped"}
    assert "| A | 4 | shipped | 1 |" in capsys.readouterr().out


def test_models_are_named_by_name_file_or_folder_and_the_first_is_the_reference(tmp_path, shipped):
    run = tmp_path / "run"
    own = constant_model(run / "drmc.pt", 0.1)
    (run / "best.pt").write_bytes(b"a checkpoint, which has no card")
    one = dataset_evaluation(tmp_path / "ours", [str(run)], tmp_path / "out")
    assert methods(one) == ["gaussian", "drmc", "shipped"] and one.reference_name() == "drmc"
    assert one.rows()[1].model == str(own) and one.output == str(tmp_path / "out")
    again = dataset_evaluation(tmp_path / "ours", ["shipped", str(own), str(own)])
    assert methods(again) == ["gaussian", "shipped", "drmc"] and again.reference_name() == "shipped"
    other = constant_model(tmp_path / "second" / "drmc.pt", 0.2)
    assert methods(dataset_evaluation(tmp_path / "ours", [str(own), str(other)])) == [
        *("gaussian", "drmc", "second-drmc", "shipped")
    ]
    shipped.unlink()
    assert methods(dataset_evaluation(tmp_path / "ours", [str(own)])) == ["gaussian", "drmc"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ours", "--model", "nowhere"], "model 'nowhere': no such file"),
        (["ours", "--model", "ours"], "no model (NAME.pt with NAME.json) is there: has its training ended?"),
        (["models"], "no such dataset"),
        (["evaluation.json", "--model", "shipped"], "goes with a dataset; evaluation.json has its own"),
        (["nowhere"], "nowhere: cannot be read"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(tmp_path, monkeypatch, capfd, arguments, said):
    write_dataset(tmp_path / "ours")
    (tmp_path / "evaluation.json").write_text('{"dataset": "ours", "output": "out"}')
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    err = capfd.readouterr().err
    assert said in err and err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "models", "evaluation.json"}


def test_the_output_of_a_configuration_gives_way_to_that_of_the_command(tmp_path, monkeypatch):
    write_dataset(tmp_path / "ours")
    values = {"dataset": "ours", "output": "out", "tuning_dataset": "ours", "spots": 0}
    (tmp_path / "evaluation.json").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "evaluation.json", "-o", "elsewhere"]) == 0
    result = json.loads((tmp_path / "elsewhere" / "evaluation.json").read_text())
    assert [method["name"] for method in result["methods"]] == ["gaussian", "drmc"]
    assert not (tmp_path / "out").exists()
