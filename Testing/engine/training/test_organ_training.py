"""A training on organs: the same loop, resumed exactly, in any number of processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drmc.cli import main as cli
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_network, load_organ_network, save_model
from drmc.organs.table import classes
from drmc.training.config import TrainingConfig
from drmc.training.history import LOG, PAGE, History
from drmc.training.loop import train
from drmc.training.preflight import step_cost
from drmc.training.tasks.registry import make_task
from drmc.training.trainer import Trainer
from support.engine.denoising_cases import tiny_network
from support.engine.small_organs import TINY_UNET, make_organ_dataset, tiny_organ_config
from support.engine.small_training import apart, checkpoint, same, stop_after, train_in


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_organ_dataset(tmp_path_factory.mktemp("organs"))


def test_a_training_lowers_the_loss_and_writes_a_model_of_organs(dataset, tmp_path, monkeypatch):
    losses, step = [], Trainer.train_step

    def noted(self, sampler):
        record = step(self, sampler)
        losses.append(record["loss"]["A"])
        return record

    monkeypatch.setattr(Trainer, "train_step", noted)
    path = train(
        tiny_organ_config(dataset, tmp_path / "run", steps=16, validate_every=16, learning_rate=2e-2)
    )
    history = History.read(tmp_path / "run" / LOG)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:4])
    found = history.validation[-1]
    assert 0 < found["dice"]["A"] <= 1 and set(found) >= {"false_organs", "side_error", "dice_corrected_low"}
    entry = find_model(path)
    assert entry.card["task"] == "organs" and entry.card["kind"] == "organ_unet"
    assert entry.card["classes"] == {str(one.index): one.key for one in classes()}
    assert entry.card["training"]["validation_dice"] == pytest.approx(found["dice"]["A"])
    network, slices = load_organ_network(entry)
    assert network.config == TINY_UNET and slices == 16
    page = (tmp_path / "run" / PAGE).read_text()
    assert "Mean Dice" in page and "Loss per center" in page and "Charbonnier loss per" not in page


def test_a_resumed_run_has_the_bits_of_an_unbroken_one(dataset, tmp_path, monkeypatch):
    whole = tiny_organ_config(dataset, tmp_path / "whole")
    train(whole)
    broken = tiny_organ_config(dataset, tmp_path / "broken")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        train(broken)
        assert checkpoint(broken.output)["step"] == 3
    train(broken)
    assert same(checkpoint(whole.output)["sites"], checkpoint(broken.output)["sites"])


def test_two_processes_take_the_steps_of_one(dataset, tmp_path):
    one, two = (tiny_organ_config(dataset, tmp_path / name, steps=3) for name in ("one", "two"))
    train(one)
    train_in(2, two)
    networks = [checkpoint(config.output)["sites"][""]["network"] for config in (one, two)]
    assert apart(*networks, one) < 0.03


def test_other_images_are_another_run(dataset, tmp_path):
    config = tiny_organ_config(dataset, tmp_path / "run", steps=2)
    train(config)
    other = make_organ_dataset(tmp_path / "other", patients=3)
    with pytest.raises(InputError, match="are not those that this run started with"):
        train(tiny_organ_config(other, tmp_path / "run", steps=4))


def test_the_configuration_survives_json(dataset, tmp_path):
    config = tiny_organ_config(dataset, tmp_path / "run")
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 17}, "multiple of 4"),
        ({"organs": {"plane": [24, 30]}}, "must be multiples of 4"),
        ({"organs": {"plan": [24, 32]}}, "unknown key 'plan'"),
        ({"organs": {"conditions": [1, 2]}}, "must have 4 values"),
        ({"network": {"kind": "organ_unet", "classes": 5}}, "organs need 32"),
        ({"strategy": "flmrcm"}, "needs a network that denoises"),
        ({"critic": "cgan3d"}, "organs are trained without"),
        ({"prepared": "folder"}, "leave it out"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(dataset, tmp_path, changes, message):
    values = {**tiny_organ_config(dataset, tmp_path / "run").to_dict(), **changes}
    with pytest.raises(InputError, match=message):
        TrainingConfig.from_dict(values)


def test_a_dataset_without_organs_is_refused(tmp_path):
    dataset = make_organ_dataset(tmp_path / "data")
    manifest = json.loads((dataset / "dataset.json").read_text())
    for case in manifest["cases"]:
        del case["organs"]
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="has no organ labels"):
        train(tiny_organ_config(dataset, tmp_path / "run"))


def test_models_of_one_task_are_refused_by_the_other(dataset, tmp_path):
    trainer = Trainer(tiny_organ_config(dataset, tmp_path / "run"))
    organs = save_model(tmp_path / "organs.pt", trainer.models()[""], 16)
    with pytest.raises(InputError, match="is a model of organs, it does not denoise"):
        load_network(organs)
    with pytest.raises(InputError, match="knows no organs"):
        load_organ_network(save_model(tmp_path / "denoises.pt", tiny_network(), 16))


def test_a_check_before_a_long_run_knows_the_task(dataset, tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tiny_organ_config(dataset, tmp_path / "run").to_dict()))
    assert cli.main(["train", str(path), "--check"]) == 0
    out = capsys.readouterr().out
    assert "training starts at step 0" in out and "2 patches of 16 x 24 x 32 voxels" in out


def test_the_cost_of_a_step_is_that_of_its_arithmetic_and_processor(dataset, tmp_path, monkeypatch):
    config = tiny_organ_config(dataset, tmp_path / "run", patch=32)
    network = make_task(config).initial_network()
    exact, half = (step_cost(replace(config, precision=name), network) for name in ("fp32", "bf16"))
    assert half.memory_bytes < 0.75 * exact.memory_bytes
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr("drmc.training.preflight.time.monotonic", lambda: next(clock))  # a busy machine
    assert step_cost(config, network).seconds < 100


def test_weights_that_are_begun_with_are_those_of_the_model(dataset, tmp_path):
    first = train(tiny_organ_config(dataset, tmp_path / "first", steps=2))
    second = tiny_organ_config(dataset, tmp_path / "second", initial_weights=str(first))
    begun, given = Trainer(second).models()[""].state_dict(), load_organ_network(find_model(first))[0]
    assert all(torch.equal(begun[key], value) for key, value in given.state_dict().items())
    assert np.isfinite(begun["head.weight"].numpy()).all()
