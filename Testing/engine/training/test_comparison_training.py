"""Training of networks with batch statistics and dropout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from drmc.errors import InputError
from drmc.networks.cgan3d import CGAN3DConfig
from drmc.networks.cvtgan3d import CVTGAN3DConfig
from drmc.training.config import TrainingConfig
from drmc.training.loop import train
from drmc.training.presets import OTHERS
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


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("unet3d", {"optimizer": "rmsprop", "learning_rate": 1e-4, "critic_rate": 10.0, "patch": 48}),
        ("unet3d-published", {"alignment_weight": 1.0, "flips": False, "patch": 48}),
        ("cgan3d", {"critic": "cgan3d", "beta1": 0.5, "schedule": "linear", "patch": 48, "tile": 64}),
        ("cgan3d-published", {"adversarial_weight": 1 / 300, "patch": 64, "critic_width": 64}),
        ("cvtgan3d", {"critic": "cvtgan3d", "adversarial_start": 240, "critic_rate": 0.1, "patch": 48}),
        ("cvtgan3d-published", {"adversarial_weight": 1 / 100, "critic_rate": 1.0, "patch": 64}),
    ],
)
def test_each_method_is_a_preset(preset, settings):
    values = {"preset": preset, "dataset": "d", "output": "o"}
    config = TrainingConfig.from_dict(values)
    assert config.network == OTHERS[preset] and config.loss == "l1" and config.steps == 2400
    assert {key: getattr(config, key) for key in settings} == settings
    changed = TrainingConfig.from_dict({**values, "network": {"norm": "layer"} if "gan" in preset else {}})
    assert changed.network.kind == config.network.kind  # on top of the preset's
    for strategy in ("mixed", "fedavg", "ftl"):
        TrainingConfig.from_dict({**values, "strategy": strategy})
    if config.critic == "none":
        for strategy in ("flmrcm", "flmrcm_mix"):
            TrainingConfig.from_dict({**values, "strategy": strategy})
    if not preset.endswith("published"):  # all else is as of the shipped network
        common = TrainingConfig.from_dict({**values, "preset": "default"})
        for key in ("steps", "hot_fraction", "scale_range", "flips", "ema_decay", "loss_margin", "export"):
            assert getattr(config, key) == getattr(common, key)


def test_a_network_without_experts_has_no_variants():
    values = {"preset": "cgan3d", "dataset": "d", "output": "o", "network": "softmax"}
    with pytest.raises(InputError, match="network = 'softmax': needs a network with experts, not cgan3d"):
        TrainingConfig.from_dict(values)
