"""Adversarial training: the critic's step, the network's gradients, and the same guarantees as without."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.cgan3d import CGAN3DConfig
from drmc.training.config import TrainingConfig
from drmc.training.critics import CGANCritic, CVTCritic, check_critic
from drmc.training.loop import train
from drmc.training.objectives import PATCHES
from drmc.training.trainer import Trainer, learning_rate
from support.engine.small_training import (
    ROUNDING,
    apart,
    checkpoint,
    same,
    sampler_of,
    stop_after,
    tiny_config,
    train_in,
)

LAYER = CGAN3DConfig(depth=2, width=4, norm="layer")
GAN = {"network": LAYER, "loss": "l1", "critic": "cgan3d", "critic_width": 4, "adversarial_weight": 0.1}
TRANSFORMER = {**GAN, "critic": "cvtgan3d", "critic_width": 2}


@pytest.fixture
def gan(dataset, tmp_path) -> TrainingConfig:
    return tiny_config(dataset, tmp_path / "run", **GAN)


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


# ---- critics


@pytest.mark.parametrize(("edge", "count"), [(64, 11_052_865), (48, 11_033_921), (32, 11_024_193)])
def test_the_critic_of_the_conditional_gan_has_the_reference_s_parameters(edge, count):
    with torch.device("meta"):
        critic = CGANCritic(edge, 64, "batch")
        assert critic(*torch.zeros(2, 3, 1, edge, edge, edge)).shape == (3, 1)
    assert sum(parameter.numel() for parameter in critic.parameters()) == count


@pytest.mark.parametrize(("edge", "cells"), [(64, 4), (48, 3)])
def test_the_critic_of_the_transformer_gan_judges_every_value_of_its_map(edge, cells):
    with torch.device("meta"):
        critic = CVTCritic(8, "batch")
        assert critic(*torch.zeros(2, 3, 1, edge, edge, edge)).shape == (3, 64, cells, cells, cells)
    assert sum(parameter.numel() for parameter in critic.parameters()) == 294_872


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
@pytest.mark.parametrize("make", [lambda norm: CGANCritic(48, 16, norm), lambda norm: CVTCritic(8, norm)])
def test_a_new_critic_knows_nothing_and_tells_its_inputs_apart(make, norm):
    torch.manual_seed(0)
    critic, low = make(norm).eval(), 0.1 * torch.rand(2, 1, 48, 48, 48)
    full = low + 0.02 * torch.randn_like(low)
    real, fake = critic(low, full), critic(low, low)
    loss = ((F.softplus(-real).mean() + F.softplus(fake).mean()) / 2).detach()
    if isinstance(critic, CGANCritic):  # the other has no linear map after its last block
        assert float(loss) == pytest.approx(math.log(2), abs=0.05)
    assert not torch.equal(critic(full, low), real)


@pytest.mark.parametrize(
    ("critic", "patch", "said"),
    [("cgan3d", 16, "the critic cgan3d one value"), ("cvtgan3d", 32, "the critic cvtgan3d one value")],
)
def test_a_patch_that_leaves_the_critic_one_value_is_refused(dataset, tmp_path, critic, patch, said):
    network = replace(LAYER, norm="instance")
    with pytest.raises(InputError, match=f"patch = {patch}: leaves {said} to normalize over"):
        tiny_config(dataset, tmp_path, network=network, critic=critic, patch=patch)
    config = tiny_config(dataset, tmp_path, network=network, critic=critic, patch=patch + 1)
    check_critic(config)


def test_a_critic_sees_a_step_at_once(gan):
    with pytest.raises(InputError, match="slots_at_once = 1: must be 0 with a critic"):
        replace(gan, slots_at_once=1)


# ---- one step


def test_a_step_is_the_equations_of_the_paper(gan, pairs):
    """Critic: (BCE(real, 1) + BCE(fake, 0)) / 2, one step; then L1 + weight x BCE(D(x, G(x)), 1)."""
    config = replace(gan, optimizer="sgd", gradient_clip=0.0, identity_start=False, adversarial_weight=0.5)
    trainer, sampler = Trainer(config), sampler_of(pairs)
    site, other = trainer.sites[0], Trainer(config).sites[0]
    network, critic = other.network, other.critics[PATCHES].module
    drawn = [sampler.draw(0, center, 0) for center in "AB"]
    low, full = (torch.stack([torch.from_numpy(p[k]) for p in drawn])[:, None] for k in (0, 1))
    rate = learning_rate(config, 0)
    estimate = low + network(low)[0]
    real, fake = critic(low, full), critic(low, estimate.detach())
    with torch.no_grad():
        loss = (F.softplus(-real) + F.softplus(fake)).mean() / 2
    gradients = torch.autograd.grad(
        (F.softplus(-real) + F.softplus(fake)).mean() / 2, list(critic.parameters())
    )
    with torch.no_grad():
        for parameter, gradient in zip(critic.parameters(), gradients, strict=True):
            parameter.sub_(rate * gradient)
    total = (estimate - full).abs().mean() + 0.5 * F.softplus(-critic(low, estimate)).mean()
    expected = torch.autograd.grad(total, list(network.parameters()), retain_graph=True)
    before = state_of(site.network)
    record = trainer.train_step(sampler)
    for name, value in critic.state_dict().items():  # moved by its own loss only
        torch.testing.assert_close(site.critics[PATCHES].module.state_dict()[name], value)
    for (name, parameter), gradient in zip(site.network.named_parameters(), expected, strict=True):
        assert gradient.isfinite().all() and gradient.any(), name
        step = config.tail_rate if name.startswith("tail.") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] - rate * step * gradient)
    assert record["critic"]["critic_loss"] == pytest.approx(float(loss), rel=1e-4)
    assert record["critic"]["critic_real"] == float((real > 0).float().mean())
    assert record["critic"]["critic_fake"] == float((fake < 0).float().mean())
    l1 = torch.autograd.grad((estimate - full).abs().mean(), estimate, retain_graph=True)[0]
    both = torch.autograd.grad(total, estimate)[0]
    ratio = record["critic"]["loss_to_adversarial"]
    norms = [gradient.flatten(1).norm(dim=1) for gradient in (l1, both - l1)]
    assert ratio == pytest.approx(float((norms[0] / norms[1]).mean()), rel=1e-3)
    assert set(record["loss"]) == {"A", "B"}
    assert record["loss"]["A"] == pytest.approx(float((estimate - full)[0].detach().abs().mean()), rel=1e-4)


@pytest.mark.parametrize("strategy", ["joint", "specialist"])
@pytest.mark.parametrize("critic", [GAN, TRANSFORMER], ids=["cgan3d", "cvtgan3d"])
def test_without_weight_it_is_the_loss_alone_to_the_last_bit(dataset, tmp_path, critic, strategy):
    config = tiny_config(dataset, tmp_path / "gan", **critic, strategy=strategy)
    config = replace(config, adversarial_weight=1e-35)
    alone = replace(config, critic="none", output=str(tmp_path / "alone"))
    train(config)
    train(alone)
    with_critic, without = checkpoint(config.output)["sites"], checkpoint(alone.output)["sites"]
    for name, site in without.items():
        assert all(same(site[key], with_critic[name][key]) for key in site)
    weighed = replace(config, adversarial_weight=1.0, output=str(tmp_path / "weighed"))
    train(weighed)
    for name, site in checkpoint(weighed.output)["sites"].items():
        assert not same(site["network"], without[name]["network"])


def test_before_the_start_the_critic_waits(gan, pairs):
    trainer, sampler = Trainer(replace(gan, adversarial_start=2)), sampler_of(pairs)
    critic = trainer.sites[0].critics[PATCHES]
    before = state_of(critic.module)
    for _ in range(2):
        record = trainer.train_step(sampler)
        assert all(math.isnan(value) for value in record["critic"].values())
    assert same(state_of(critic.module), before) and not critic.optimizer.state
    record = trainer.train_step(sampler)
    assert not same(state_of(critic.module), before)
    assert all(math.isfinite(value) for value in record["critic"].values())


def test_a_step_without_finite_gradients_leaves_the_critic(gan, pairs):
    trainer, sampler = Trainer(gan), sampler_of(pairs)
    trainer.train_step(sampler)
    site = trainer.sites[0]
    before = site.critics[PATCHES].copied_state(), state_of(site.network)
    for broken in ("low", "full"):  # of the network, and of the critic alone
        found = {
            c: [replace(p, **{broken: getattr(p, broken) * math.nan}) for p in ps] for c, ps in pairs.items()
        }
        trainer.train_step(sampler_of(found))
        assert same(site.critics[PATCHES].state(), before[0]) and same(state_of(site.network), before[1])
    assert trainer.skipped == 2


# ---- whole runs


@pytest.mark.parametrize("strategy", ["joint", "fedavg", "ftl"])
@pytest.mark.parametrize("critic", [GAN, TRANSFORMER], ids=["cgan3d", "cvtgan3d"])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(dataset, tmp_path, monkeypatch, critic, strategy):
    config = tiny_config(dataset, tmp_path / "whole", **critic, strategy=strategy, round_steps=2)
    stopped = replace(config, output=str(tmp_path / "stopped"))
    train(config)
    for step in (1, 4):
        with monkeypatch.context() as patched:
            stop_after(patched, step)
            train(stopped)
    train(stopped)
    a, b = checkpoint(config.output)["sites"], checkpoint(stopped.output)["sites"]
    assert same(a, b)
    for site in a.values():
        assert site["critics"][PATCHES]["optimizer"]["state"]
    names = sorted(path.name for path in Path(config.output).glob("tiny*.pt"))
    for name in names:
        assert (Path(config.output) / name).read_bytes() == (Path(stopped.output) / name).read_bytes()


def test_the_critic_is_in_no_weight_file(gan):
    path = train(gan)
    stored = torch.load(path, weights_only=True)
    assert set(stored["state_dict"]) == set(load_network(find_model(path))[0].state_dict())
    assert set(stored) == {"format", "config", "tile", "state_dict", "kind"}
    assert find_model(path).card["training"]["configuration"]["critic"] == "cgan3d"


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_processes_takes_the_steps_of_one(gan, tmp_path, world):
    """With three, one has no patch, and takes part in the critic's sum."""
    one = replace(gan, steps=3)
    several = replace(one, output=str(tmp_path / "several"))
    train(one)
    train_in(world, several)
    a, b = (checkpoint(config.output)["sites"][""] for config in (one, several))
    assert apart(a["network"], b["network"], one) < ROUNDING
    critics = (site["critics"][PATCHES]["network"] for site in (a, b))
    assert apart(*critics, one) < ROUNDING
    records = [
        json.loads((Path(config.output) / "training.jsonl").read_text().splitlines()[1])["critic"]
        for config in (one, several)
    ]
    assert records[0] == pytest.approx(records[1], rel=1e-2)


def test_sites_dealt_to_processes_are_those_of_one_to_the_last_bit(gan, tmp_path):
    one = replace(gan, strategy="fedavg", round_steps=2, steps=3)
    several = replace(one, output=str(tmp_path / "several"))
    train(one)
    train_in(2, several)
    assert same(checkpoint(one.output)["sites"], checkpoint(several.output)["sites"])
