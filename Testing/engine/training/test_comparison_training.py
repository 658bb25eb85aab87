"""Training of networks with batch statistics and dropout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from drmc.errors import InputError
from drmc.networks.cgan3d import CGAN3DConfig
from drmc.networks.cvtgan3d import CVTGAN3DConfig
from drmc.training.loop import train
from drmc.training.processes import Processes
from drmc.training.trainer import Trainer
from support.engine.small_training import checkpoint, same, sampler_of, stop_after, tiny_config

BATCH = CGAN3DConfig(depth=2, width=4, norm="batch")
DROPOUT = CVTGAN3DConfig(width=4, norm="layer", dropout=0.3)


@pytest.mark.parametrize("strategy", ["joint", "fedavg", "ftl"])
@pytest.mark.parametrize("network", [BATCH, DROPOUT], ids=["batch", "dropout"])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(dataset, tmp_path, monkeypatch, network, strategy):
    config = tiny_config(dataset, tmp_path / "whole", network=network, strategy=strategy, round_steps=2)
    stopped = replace(config, output=str(tmp_path / "stopped"))
    train(config)
    for step in (1, 4):
        with monkeypatch.context() as patched:
            stop_after(patched, step)
            train(stopped)
    train(stopped)
    assert same(checkpoint(config.output)["sites"], checkpoint(stopped.output)["sites"])


def test_federated_averaging_averages_the_running_statistics(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", network=BATCH, strategy="fedavg", round_steps=3, steps=3)
    train(config)
    sites = checkpoint(config.output)["sites"]
    names = [name for name in sites["A"]["network"] if name.endswith((".mean", ".variance"))]
    assert names
    for name in names:
        assert torch.equal(sites["A"]["network"][name], sites["B"]["network"][name])
        assert sites["A"]["network"][name].unique().numel() > 1  # they have moved


def test_a_step_without_finite_gradients_leaves_the_running_statistics(dataset, tmp_path, pairs):
    trainer = Trainer(tiny_config(dataset, tmp_path / "run", network=BATCH))
    trainer.train_step(sampler_of(pairs))
    before = {key: value.clone() for key, value in trainer.sites[0].network.state_dict().items()}
    broken = {
        center: [replace(pair, low=pair.low * float("nan")) for pair in found]
        for center, found in pairs.items()
    }
    trainer.train_step(sampler_of(broken))
    assert trainer.skipped == 1 and same(dict(trainer.sites[0].network.state_dict()), before)
    trainer.train_step(sampler_of(pairs))
    assert not same(dict(trainer.sites[0].network.state_dict()), before)


def test_the_step_of_one_network_with_batch_statistics_is_not_dealt_out(dataset, tmp_path):
    config = tiny_config(dataset, tmp_path / "run", network=BATCH)
    with pytest.raises(InputError, match="in one process, not 2"):
        Trainer(config, Processes(0, 2))
    assert len(Trainer(replace(config, strategy="specialist"), Processes(0, 2)).sites) == 2
