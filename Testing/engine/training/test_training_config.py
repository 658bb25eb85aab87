"""The configuration of a training: files, presets, the command line, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drmc.cli import main as cli
from drmc.errors import InputError
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.training.config import TrainingConfig
from drmc.training.presets import PRESETS
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer, learning_rate
from support.engine.small_training import (
    TINY,
    same,
    sampler_of,
)

# ---- configuration


def test_a_configuration_survives_its_file(config, tmp_path):
    path = tmp_path / "config.json"
    changed = replace(config, centers=("A",), hot_fraction=0.25, network=replace(TINY, gate="top2"))
    path.write_text(json.dumps(changed.to_dict()))
    assert TrainingConfig.read(path) == changed
    assert changed != config
    path.write_text(json.dumps({"dataset": "../data", "output": "run"}))
    read = TrainingConfig.read(path)
    assert Path(read.dataset).resolve() == tmp_path.parent.resolve() / "data"
    assert Path(read.output) == tmp_path.resolve() / "run"
    defaults = TrainingConfig(dataset="", output="")
    assert replace(read, dataset="", output="") == defaults
    assert (defaults.patch, defaults.network, defaults.centers) == (
        64,
        NetworkConfig(),
        ("C1", "C2", "C3", "C4"),
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stepz": 5}, "unknown key 'stepz'"),
        ({"network": {"channels": 8, "depth": 3}}, "depth"),
        ({"network": {"channels": 10, "heads": 3}}, "multiple of heads"),
        ({"network": "large"}, "network"),
        ({"patch": 0}, "patch"),
        ({"patch": 4}, "patch"),  # a model with such a tile cannot be loaded
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": 10.5}, "steps"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"hot_fraction": 1.5}, "hot_fraction"),
        ({"scale_range": 0.5}, "scale_range"),
        ({"dose_mixing": 1.5}, "dose_mixing"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"beta2": 1.0}, "beta2"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"strategy": "federated"}, "strategy"),
        ({"strategy": "ftl", "federated_steps": 6}, "federated_steps"),
        ({"strategy": "specialist", "watched_dataset": "w"}, "watched_dataset"),
        ({"watched_centers": ["A"]}, "watched_centers"),
        ({"round_steps": 0}, "round_steps"),
        ({"export": "first"}, "export"),
        ({"precision": "fp16"}, "precision"),
        ({"gradient_clip": -1}, "gradient_clip"),
        ({"preset": "huge"}, "preset"),
        ({"initial_weights": "no-such-model"}, "no-such-model"),
        ({"muon_rate": 0}, "muon_rate"),
        ({"loss_margin": 4}, "loss_margin"),  # nothing is left of a patch of 8 voxels
        ({"tile": 7}, "tile"),
        ({"card": "mine"}, "card"),
        ({"centers": []}, "centers"),
        ({"centers": "A"}, "centers"),
        ({"centers": ["A", "A"]}, "centers"),
        ({"seed": -1}, "seed"),
        ({"form": "fast"}, "form"),
        ({"name": "../tiny"}, "name"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(changes, said, config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config.to_dict(), **changes}))
    with pytest.raises(InputError) as refusal:
        TrainingConfig.read(path)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    path = tmp_path / "config.json"
    for text, said in (("{", "not JSON"), ("[]", "JSON object"), ('{"output": "x"}', "'dataset' is missing")):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            TrainingConfig.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        TrainingConfig.read(tmp_path / "none.json")


# ---- presets and the command line


def test_the_paper_is_a_preset():
    config = TrainingConfig.from_dict({"preset": "paper", "dataset": "d", "output": "o"})
    network = DRMC(config.network)
    assert sum(parameter.numel() for parameter in network.parameters()) == 539_487
    assert config.network.router_init == "official"
    assert config.steps * config.patches_per_center == 200 * 1024  # patches of a center
    assert config.patch == 64 and config.centers == ("C1", "C2", "C3", "C4")
    assert {learning_rate(config, step) for step in (0, 1, 100_000, config.steps - 1)} == {1e-4}
    assert (config.charbonnier, config.weight_decay, config.hot_fraction) == (1e-3, 0, 0)
    # the start is that of the network itself, and what is exported the network, not an average
    mine = initial_network(replace(config, network=TINY))
    torch.manual_seed(config.seed)
    assert same(dict(mine.state_dict()), dict(DRMC(TINY).state_dict()))
    assert config.ema_decay == 0 and config.export == "last"


def test_without_a_moving_average_the_average_is_the_network(config, pairs):
    trainer = Trainer(replace(config, ema_decay=0.0))
    for _ in range(2):
        trainer.train_step(sampler_of(pairs))
    assert same(dict(trainer.sites[0].average.state_dict()), dict(trainer.sites[0].network.state_dict()))
    assert not same(dict(trainer.sites[0].network.state_dict()), dict(initial_network(config).state_dict()))


def test_values_stand_on_top_of_their_preset():
    values = {"preset": "default", "dataset": "d", "output": "o"}
    preset = TrainingConfig.from_dict(values)
    wide = TrainingConfig.from_dict({**values, "network": {"channels": 24}, "steps": 7})
    assert wide == replace(preset, network=replace(preset.network, channels=24), steps=7)
    baseline = TrainingConfig.from_dict({**values, "network": "baseline"}).network
    blocks = preset.network.blocks * preset.network.experts
    assert baseline == replace(preset.network, gate="none", experts=1, blocks=blocks)
    paper = TrainingConfig.from_dict({"dataset": "d", "output": "o", "network": "baseline"}).network
    assert sum(parameter.numel() for parameter in DRMC(paper).parameters()) == 529_841
    for name in PRESETS:
        whole = TrainingConfig.from_dict({**values, "preset": name})
        assert TrainingConfig.from_dict(whole.to_dict()) == whole


def test_the_command_line_writes_the_whole_configuration(tmp_path, capsys):
    written = tmp_path / "all.json"
    arguments = ["--preset", "tiny", "--dataset", "data", "--output", str(tmp_path / "run")]
    settings = ["steps=7", "network.channels=12", 'centers=["A"]', "name=mine"]
    sets = [part for setting in settings for part in ("--set", setting)]
    assert cli.main(["train", *arguments, *sets, "--write-config", str(written)]) == 0
    config = TrainingConfig.read(written)
    assert (config.steps, config.network.channels, config.centers, config.name) == (7, 12, ("A",), "mine")
    assert Path(config.dataset) == Path("data").resolve()
    assert set(json.loads(written.read_text())) == set(config.to_dict())
    # a file, and the command line on top of it
    assert cli.main(["train", str(written), "--set", "steps=9", "--write-config", str(written)]) == 0
    assert TrainingConfig.read(written) == replace(config, steps=9)
    capsys.readouterr()
    for wrong, said in ((["--set", "steps"], "KEY=VALUE"), (["--set", "stepz=3"], "stepz"), ([], "dataset")):
        assert cli.main(["train", "--preset", "tiny", *wrong]) == 2
        errors = capsys.readouterr().err
        assert said in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()
    named = ["--set", "dataset=data", "--set", f"output={tmp_path / 'run'}", "--write-config", str(written)]
    assert cli.main(["train", "--preset", "tiny", *named]) == 0 and TrainingConfig.read(written).dataset


def test_a_dataset_with_a_missing_file_is_refused_in_one_line(dataset, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    (data / "A-train-1" / "low.nii.gz").unlink()
    arguments = ["--preset", "tiny", "--dataset", str(data), "--output", str(tmp_path / "run")]
    assert cli.main(["train", *arguments, "--set", 'centers=["A"]']) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "A-train-1" in errors and "not there" in errors
    assert not (tmp_path / "run").exists()
