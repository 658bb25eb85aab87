"""The configurations that `make weights` runs: valid, and a fair comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drmc.evaluation.config import EvaluationConfig
from drmc.training.config import TrainingConfig
from support import REPOSITORY

FOLDER = REPOSITORY / "Resources" / "Training"
C1C4 = ("drmc-c1c4", "resunet-c1c4")  # of equal cost: a step of the residual U-Net takes less time
EQUAL = ("drmc-small-2", "baseline", "specialists")  # what the table compares at equal steps


def read(name: str) -> TrainingConfig:
    return TrainingConfig.read(FOLDER / f"{name}.json")


def test_every_configuration_is_valid():
    others = {"drmc-any", *C1C4, "evaluation", "evaluation-any", "evaluation-c1c4", "organs", "paper"}
    assert {path.stem for path in FOLDER.glob("*.json")} == {*EQUAL, *others}
    for name in (*EQUAL, "drmc-any", *C1C4):
        assert read(name).output.endswith(f"output/weights/{name}")
    assert read("organs").network.task == "organs"


@pytest.mark.parametrize("name", EQUAL[1:])
def test_what_is_compared_differs_in_nothing_but_what_is_compared(name):
    ours, other = (read(one).to_dict() for one in (EQUAL[0], name))
    differing = {key for key in ours if ours[key] != other[key]} - {"name", "output", "card"}
    assert differing == {"baseline": {"network"}, "specialists": {"strategy"}}[name]


def test_the_residual_unet_differs_in_network_and_steps_alone():
    ours, other = (read(one).to_dict() for one in C1C4)
    of_the_file = {"name", "output", "card", "half_weights"}
    of_gates = {"reopen_gates"}  # the residual U-Net has none
    differing = {key for key in ours if ours[key] != other[key]} - of_the_file - of_gates
    assert differing == {"network", "steps"}


def test_the_evaluation_takes_what_the_trainings_make():
    config = EvaluationConfig.read(FOLDER / "evaluation.json")
    named = [path for method in config.rows() for path in (method.model, *method.models.values()) if path]
    files = {tuple(Path(path).parts[-2:]) for path in named if path.endswith(".pt")}
    made = set()
    for name in EQUAL[1:]:
        training = read(name)
        centers = [f"-{c}" for c in training.centers] if training.strategy == "specialist" else [""]
        made |= {(name, f"{training.name}{center}.pt") for center in centers}
    assert files == made and config.reference_name() == "drmc"
    assert Path(config.tuning_dataset) == Path(config.dataset).with_name("data")


@pytest.mark.parametrize(("name", "reference"), [("any", "drmc-any"), ("c1c4", "drmc-c1c4")])
def test_the_evaluations_take_what_the_trainings_make(name: str, reference: str):
    config = EvaluationConfig.read(FOLDER / f"evaluation-{name}.json")
    models = {method.name: method.model for method in config.rows() if method.model}
    trainings = REPOSITORY / "output" / "paper" / "reproduction" / "trainings"
    paper = json.loads((FOLDER / "paper.json").read_text())["trainings"]
    made = [Path(read(one).output, f"{one}.pt") for one in C1C4]
    made += [trainings / one / f"{one}.pt" for one in paper]
    files = [model for model in models.values() if model.endswith(".pt")]
    assert files and {(FOLDER / one).resolve() for one in files} <= {one.resolve() for one in made}
    assert config.reference_name() == "drmc" and models["drmc"] == reference
