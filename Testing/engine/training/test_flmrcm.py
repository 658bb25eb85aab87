"""FL-MRCM, federated and mixed: its steps by hand, its limits, and the guarantees of all strategies."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drmc.errors import InputError
from drmc.networks.latent import recorded_latents
from drmc.networks.resunet import ResUNetConfig
from drmc.networks.unet3d import UNet3DConfig
from drmc.training.config import TrainingConfig
from drmc.training.critics import LatentCritic
from drmc.training.loop import train
from drmc.training.sampler import PatchSampler
from drmc.training.trainer import Trainer, learning_rate
from support.engine.small_training import (
    ROUNDING,
    TINY,
    apart,
    checkpoint,
    made_pair,
    make_dataset,
    same,
    sampler_of,
    tiny_config,
    train_in,
)

CENTERS = ("A", "B", "C")
UNET = UNet3DConfig(width=4, pools=2)
MODES = pytest.mark.parametrize("strategy", ["flmrcm", "flmrcm_mix"])


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("three"), centers=CENTERS)


@pytest.fixture
def aligned(three, tmp_path) -> TrainingConfig:
    """Plain steps, so that they can be followed."""
    plain = {
        "optimizer": "sgd",
        "gradient_clip": 0.0,
        "identity_start": False,
        "loss": "l1",
        "critic_rate": 10.0,
    }
    run = {"centers": CENTERS, "network": UNET, "round_steps": 2, "alignment_weight": 0.3}
    return tiny_config(three, tmp_path / "run", **plain, **run)


@pytest.fixture(scope="module")
def drawn() -> PatchSampler:
    rng = np.random.default_rng(3)
    images = {center: 1 + number + rng.random((12, 12, 12)) for number, center in enumerate(CENTERS)}
    return sampler_of(
        {c: [made_pair(image, image + rng.normal(0, 0.3, image.shape))] for c, image in images.items()}
    )


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


# ---- the critic


@pytest.mark.parametrize(("features", "count"), [(2048, 525_058), (4096, 1_049_346), (96, 25_346)])
def test_the_critic_of_latent_features_has_the_reference_s_parameters(features, count):
    assert sum(parameter.numel() for parameter in LatentCritic(features).parameters()) == count


@MODES
def test_there_is_a_critic_for_each_source_and_target(aligned, strategy):
    def names(**changes) -> list[str]:
        sites = Trainer(replace(aligned, strategy=strategy, **changes)).sites
        return sorted(f"{site.name}:{name}" for site in sites for name in site.critics)

    if strategy == "flmrcm":
        assert names() == ["A:B", "A:C", "B:A", "B:C", "C:A", "C:B"]
        assert names(target_center="B") == ["A:B", "C:B"]
    else:
        assert names() == [":A > B", ":A > C", ":B > A", ":B > C", ":C > A", ":C > B"]
        assert names(target_center="B") == [":A > B", ":C > B"]
    weights = [
        critic.module.wide.weight.flatten().tolist()
        for site in Trainer(replace(aligned, strategy=strategy)).sites
        for critic in site.critics.values()
    ]
    assert len(set(map(tuple, weights))) == 6


def test_targets_take_turns(aligned):
    federated = Trainer(replace(aligned, strategy="flmrcm")).strategy
    assert "".join(federated.target(step) for step in range(8)) == "AABBCCAA"  # rounds of two steps
    mix = Trainer(replace(aligned, strategy="flmrcm_mix")).strategy
    assert "".join(mix.target(step) for step in range(4)) == "ABCA"
    for name in ("flmrcm", "flmrcm_mix"):
        fixed = Trainer(replace(aligned, strategy=name, target_center="C")).strategy
        assert {fixed.target(step) for step in range(9)} == {"C"}


# ---- a step by hand


def to_code(logits: torch.Tensor, code: tuple[float, float]) -> torch.Tensor:
    wanted = torch.tensor([code] * len(logits))
    return -(wanted * F.logsigmoid(logits) + (1 - wanted) * F.logsigmoid(-logits)).mean()


def forward(network, patches) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean absolute error and the latent features of patches."""
    low, full = (torch.stack([torch.from_numpy(p[k]) for p in patches])[:, None] for k in (0, 1))
    with recorded_latents(network) as parts:
        residual, _ = network(low)
    return (low + residual - full).abs().mean(), torch.cat(parts, 1)


def descend(module, loss: torch.Tensor, rate: float, *, retain: bool = False) -> None:
    gradients = torch.autograd.grad(loss, list(module.parameters()), retain_graph=retain)
    with torch.no_grad():
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.sub_(rate * gradient)


def assert_moved_alike(module, expected, before: dict[str, torch.Tensor]) -> None:
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value)
    assert not same(dict(expected.state_dict()), before)


@pytest.mark.parametrize("patches_per_center", [1, 2])
def test_a_federated_step_is_the_equations_of_the_paper(aligned, drawn, patches_per_center):
    config = replace(aligned, strategy="flmrcm", target_center="B", patches_per_center=patches_per_center)
    trainer = Trainer(config)
    sites = {site.name: deepcopy(site) for site in trainer.sites}
    rate = learning_rate(config, 0)
    patches = {c: [drawn.draw(0, c, i) for i in range(patches_per_center)] for c in CENTERS}
    before = {c: state_of(site.network) for c, site in sites.items()}
    found = {center: forward(site.network, patches[center]) for center, site in sites.items()}
    z_target = found["B"][1].detach()
    descend(sites["B"].network, found["B"][0], rate)
    for source in "AC":
        (loss, z), critic = found[source], sites[source].critics["B"].module
        learned = (to_code(critic(z.detach()), (1.0, 0.0)) + to_code(critic(z_target), (0.0, 1.0))) / 2
        descend(critic, learned, 10 * rate)
        confused = (to_code(critic(z), (0.0, 1.0)) + to_code(critic(z_target), (1.0, 0.0))) / 2
        descend(sites[source].network, loss + 0.3 * confused, rate)
    trainer.train_step(drawn)
    for site in trainer.sites:
        assert_moved_alike(site.network, sites[site.name].network, before[site.name])
        for name, critic in site.critics.items():
            torch.testing.assert_close(
                state_of(critic.module), state_of(sites[site.name].critics[name].module)
            )


@pytest.mark.parametrize("patches_per_center", [1, 2])
def test_a_mixed_step_is_the_same_for_all_centers_at_once(aligned, drawn, patches_per_center):
    config = replace(aligned, strategy="flmrcm_mix", patches_per_center=patches_per_center)
    trainer = Trainer(config)
    site, rate = deepcopy(trainer.sites[0]), learning_rate(config, 0)
    before = state_of(site.network)
    found = {
        c: forward(site.network, [drawn.draw(0, c, i) for i in range(patches_per_center)]) for c in CENTERS
    }
    losses, z = ({c: pair[k] for c, pair in found.items()} for k in (0, 1))
    total = sum(losses.values()) / 3
    for source in "BC":  # the target of the first step is A
        critic = site.critics[f"{source} > A"].module
        z_source, z_target = z[source].detach(), z["A"].detach()
        learned = (to_code(critic(z_source), (1.0, 0.0)) + to_code(critic(z_target), (0.0, 1.0))) / 2
        descend(critic, learned, 10 * rate)
        confused = (to_code(critic(z[source]), (0.0, 1.0)) + to_code(critic(z["A"]), (1.0, 0.0))) / 2
        total = total + 0.3 * confused / 2
    descend(site.network, total, rate)
    record = trainer.train_step(drawn)
    assert_moved_alike(trainer.sites[0].network, site.network, before)
    for name, critic in trainer.sites[0].critics.items():
        torch.testing.assert_close(state_of(critic.module), state_of(site.critics[name].module))
    assert set(record["critic"]) == {"critic_loss", "critic_source", "critic_target"}


# ---- limits


@pytest.mark.parametrize(("strategy", "plain"), [("flmrcm", "fedavg"), ("flmrcm_mix", "joint")])
@pytest.mark.parametrize("optimizer", ["muon", "rmsprop"])
def test_without_weight_it_is_the_strategy_without_alignment_to_the_last_bit(
    aligned, tmp_path, strategy, plain, optimizer
):
    config = replace(aligned, strategy=strategy, alignment_weight=1e-35, optimizer=optimizer)
    without = replace(config, strategy=plain, output=str(tmp_path / "plain"))
    train(config)
    train(without)
    a, b = checkpoint(config.output)["sites"], checkpoint(without.output)["sites"]
    for name, site in b.items():
        assert "critics" not in site and all(same(site[key], a[name][key]) for key in site)
    weighed = replace(config, alignment_weight=0.3, output=str(tmp_path / "weighed"))
    train(weighed)
    for name, site in checkpoint(weighed.output)["sites"].items():
        assert not same(site["network"], b[name]["network"])


@MODES
def test_before_the_start_critics_wait(aligned, drawn, strategy):
    trainer = Trainer(replace(aligned, strategy=strategy, adversarial_start=1))
    before = [state_of(critic.module) for site in trainer.sites for critic in site.critics.values()]
    for waits in (True, False):
        trainer.train_step(drawn)
        after = [state_of(critic.module) for site in trainer.sites for critic in site.critics.values()]
        assert same(before, after) is waits


@MODES
def test_a_step_without_finite_gradients_changes_nothing(aligned, drawn, strategy):
    trainer = Trainer(replace(aligned, strategy=strategy, target_center="A", round_steps=10))
    trainer.train_step(drawn)
    before = [deepcopy(site.state()) for site in trainer.sites]
    broken = {c: [replace(pair, low=pair.low * torch.nan) for pair in ps] for c, ps in drawn.pairs.items()}
    trainer.train_step(sampler_of(broken))
    assert trainer.skipped > 0 and same([site.state() for site in trainer.sites], before)


def test_alignment_makes_centers_hard_to_tell_apart(aligned):
    """Critics tell centers of other uptake apart, but not once the network works against them."""
    rng = np.random.default_rng(3)
    images = {center: 1 + number + rng.random((12, 12, 12)) for number, center in enumerate(CENTERS)}
    noisy = {center: image + rng.normal(0, 0.2, image.shape) for center, image in images.items()}
    drawn = sampler_of({c: [made_pair(images[c], noisy[c])] for c in CENTERS}, scale_range=1.0)
    run = {
        "strategy": "flmrcm_mix",
        "network": TINY,
        "head_gain": 20.0,
        "patches_per_center": 2,
        "steps": 300,
    }
    rates = {"optimizer": "adamw", "learning_rate": 1e-2, "critic_rate": 0.3, "warmup_steps": 0}

    def critics_loss(weight: float) -> float:
        trainer = Trainer(replace(aligned, **run, **rates, alignment_weight=weight))
        return np.mean([trainer.train_step(drawn)["critic"]["critic_loss"] for _ in range(300)][-60:])

    assert critics_loss(1e-35) < 0.55 < 0.65 < critics_loss(10.0)  # chance: log 2 = 0.69


# ---- processes and refusals


@pytest.mark.parametrize("world", [2, 4])
def test_sites_dealt_to_processes_are_those_of_one_to_the_last_bit(aligned, tmp_path, world):
    """With four, one steps no site, and takes part in what the target sends."""
    one = replace(aligned, strategy="flmrcm", optimizer="rmsprop", steps=5, adversarial_start=1)
    several = replace(one, output=str(tmp_path / "several"))
    train(one)
    train_in(world, several)
    assert same(checkpoint(one.output)["sites"], checkpoint(several.output)["sites"])
    name = f"{one.name}.pt"
    assert (Path(one.output) / name).read_bytes() == (Path(several.output) / name).read_bytes()


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_processes_takes_the_mixed_steps_of_one(aligned, tmp_path, world):
    one = replace(aligned, strategy="flmrcm_mix", optimizer="adamw", critic_rate=1.0, steps=3)
    several = replace(one, output=str(tmp_path / "several"))
    train(one)
    train_in(world, several)
    a, b = (checkpoint(config.output)["sites"][""] for config in (one, several))
    assert apart(a["network"], b["network"], one) < ROUNDING
    for name, critic in a["critics"].items():
        assert apart(critic["network"], b["critics"][name]["network"], one) < ROUNDING


@MODES
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"centers": ("A",)}, "needs at least two"),
        ({"target_center": "D"}, "target_center = 'D': must be a center of the run"),
        ({"critic": "cgan3d", "patch": 24}, "critic = cgan3d: must be none"),
        ({"slots_at_once": 2}, "slots_at_once = 2: must be 0"),
    ],
    ids=str,
)
def test_what_does_not_go_with_alignment_is_refused(aligned, strategy, changes, said):
    with pytest.raises(InputError, match=said) as refusal:
        replace(aligned, strategy=strategy, **changes)
    assert "\n" not in str(refusal.value)


@MODES
def test_a_network_of_one_level_has_nothing_to_align(aligned, strategy):
    config = replace(aligned, strategy=strategy, network=ResUNetConfig(widths=(4,), units=(1,)))
    with pytest.raises(InputError, match="resunet has no level below the finest to align"):
        Trainer(config)
