"""Loss, rate, optimizers and the start of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drmc.training.muon import MuonAdamW, orthogonalized
from drmc.training.objectives import MEAN_CUBE, absolute, charbonnier, mean_error
from drmc.training.start import initial_network
from drmc.training.trainer import Trainer, learning_rate
from support.engine.small_training import (
    same,
    tiny_config,
)


def test_charbonnier_is_epsilon_at_zero_error_and_the_error_far_away():
    residual = torch.zeros(2, 3, requires_grad=True)
    loss = charbonnier(residual, torch.zeros(2, 3), 1e-3)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e-3, rel=1e-6)
    assert float(residual.grad.abs().max()) == 0
    far = charbonnier(torch.tensor([3.0, -1.0]), torch.tensor([0.0, 1.0]), 1e-3)
    assert float(far) == pytest.approx(2.5, rel=1e-5)  # the mean over voxels, not a norm
    known = charbonnier(torch.tensor([3e-3]), torch.tensor([0.0]), 4e-3)
    assert float(known) == pytest.approx(5e-3, rel=1e-6)


def test_what_lies_in_the_margin_has_no_share_in_the_loss():
    error = torch.zeros(1, 6, 6, 6)
    error[:, 2:4, 2:4, 2:4] = 3e-3
    inner = charbonnier(error, torch.zeros(()), 4e-3, margin=2)
    assert float(inner) == pytest.approx(5e-3, rel=1e-6)
    error[:, 1] = error[:, :, 4] = error[..., 0] = 7.0
    assert charbonnier(error, torch.zeros(()), 4e-3, margin=2) == inner
    assert charbonnier(error, torch.zeros(()), 4e-3, margin=1) > inner


def test_errors_that_cancel_within_16_mm_are_no_error_of_the_mean():
    rng = torch.Generator().manual_seed(2)
    noise = torch.randn(20, 20, 20, generator=rng)
    inner = slice(2, 2 + 2 * MEAN_CUBE)
    cubes = noise[inner, inner, inner].reshape(2, MEAN_CUBE, 2, MEAN_CUBE, 2, MEAN_CUBE)
    cubes -= cubes.mean((1, 3, 5), keepdim=True)
    noise[inner, inner, inner] = cubes.reshape(3 * (2 * MEAN_CUBE,))
    none = torch.zeros(())
    assert float(mean_error(noise, none, 4e-3, 2)) == pytest.approx(4e-3, rel=1e-4)
    assert float(mean_error(noise + 3e-3, none, 4e-3, 2)) == pytest.approx(5e-3, rel=1e-4)
    weight = torch.full_like(noise, 0.5)
    weight[8:12, 8:12, 8:12] = 16.0  # a lesion counts no more than the rest
    assert float(mean_error(noise + 3e-3, none, 4e-3, 2, weight)) == pytest.approx(2.5e-3, rel=1e-4)


def test_orthogonalized_matrices_keep_their_singular_vectors():
    rng = torch.Generator().manual_seed(1)
    for shape in ((3, 5, 16, 16), (2, 8, 27), (96, 16)):
        matrices = torch.randn(shape, generator=rng, dtype=torch.float64)
        left, values, right = torch.linalg.svd(matrices, full_matrices=False)
        rotated = left.mT @ orthogonalized(matrices) @ right.mT
        found = torch.diagonal(rotated, dim1=-2, dim2=-1)
        assert torch.allclose(rotated, torch.diag_embed(found), atol=1e-9)
        # directions of next to no weight are left behind, all others come to one size
        assert bool((found[values > 0.05 * values.amax(-1, keepdim=True)] > 0.6).all())
        assert float(found.max()) < 1.3
        assert torch.allclose(orthogonalized(1e-6 * matrices), orthogonalized(matrices), atol=1e-4)
    assert not orthogonalized(torch.zeros(4, 4)).any()


def test_a_step_of_muon_has_the_size_of_one_of_adamw_and_leaves_the_others_to_it():
    torch.manual_seed(3)
    start = [torch.randn(3, 8, 24), torch.randn(5, 4, 3, 3, 3), torch.randn(7)]
    gradients = [torch.randn_like(p) * 10.0**k for k, p in enumerate(start)]

    def stepped(kind, groups) -> list[torch.Tensor]:
        parameters = [p.clone().requires_grad_() for p in start]
        optimizer = kind(
            [{"params": [parameters[i] for i in g], **options} for g, options in groups], lr=1e-2
        )
        for _ in range(3):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        return [(p - q).detach() for p, q in zip(parameters, start, strict=True)]

    plain = stepped(torch.optim.AdamW, [((0, 1, 2), {})])
    assert all(map(torch.equal, stepped(MuonAdamW, [((0, 1, 2), {"matrices": False})]), plain))
    mixed = stepped(MuonAdamW, [((0, 1), {"matrices": True}), ((2,), {})])
    assert torch.equal(mixed[2], plain[2])
    for moved in mixed[:2]:  # three steps in one direction, each 0.2 of the rate in root mean square
        assert float(moved.square().mean().sqrt()) == pytest.approx(3 * 0.2 * 1e-2, rel=0.25)


def test_every_parameter_is_in_one_group_and_the_experts_are_muons(config):
    config = replace(config, optimizer="muon", muon_rate=7.0, tail_rate=0.5)
    trainer = Trainer(config)
    names = {id(p): name for name, p in trainer.sites[0].network.named_parameters()}
    groups = [([names[id(p)] for p in g["params"]], g) for g in trainer.sites[0].optimizer.param_groups]
    assert sorted(name for grouped, _ in groups for name in grouped) == sorted(names.values())
    banks = {"qkv_M3CC", "depthwise_MC333", "project_MCC", "weight1_MFC", "weight2_MCF"}
    for grouped, group in groups:
        for name in grouped:
            assert group["matrices"] == (name.split(".")[-1] in banks)
            assert group["rate"] == (7.0 if group["matrices"] else 0.5 if name.startswith("tail.") else 1.0)
    assert not any(
        g["matrices"] for g in Trainer(replace(config, optimizer="adamw")).sites[0].optimizer.param_groups
    )


def test_the_rate_warms_up_and_falls_to_its_final_value():
    config = tiny_config(
        Path(), Path(), steps=1000, warmup_steps=100, learning_rate=2e-4, final_learning_rate=1e-6
    )
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-6) and rates[99] == rates[100] == 2e-4 == max(rates)
    assert rates[:100] == sorted(rates[:100]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[549] == pytest.approx((2e-4 + 1e-6) / 2, rel=0.01)  # halfway down the cosine
    assert rates[999] == 1e-6 < rates[998]  # in the last step, not after it
    constant = replace(config, warmup_steps=0, final_learning_rate=2e-4)
    assert {learning_rate(constant, step) for step in range(1000)} == {2e-4}
    assert learning_rate(replace(config, warmup_steps=0), 0) == 2e-4


def test_a_linear_schedule_is_constant_for_half_of_the_steps():
    config = tiny_config(
        Path(),
        Path(),
        steps=201,
        warmup_steps=0,
        schedule="linear",
        learning_rate=2e-4,
        final_learning_rate=0.0,
    )
    rates = [learning_rate(config, step) for step in range(201)]
    assert set(rates[:101]) == {2e-4} and rates[150] == pytest.approx(1e-4) and rates[200] == 0
    assert replace(config, warmup_steps=20).schedule == "linear"
    assert learning_rate(replace(config, warmup_steps=20), 9) == pytest.approx(1e-4)


def test_absolute_differences_are_weighed_and_cut_as_the_charbonnier_loss():
    error, weight = torch.zeros(1, 6, 6, 6), torch.ones(1, 6, 6, 6)
    error[:, 2:4, 2:4, 2:4] = -3.0
    error[:, 0] = 7.0
    weight[:, 2] = 3.0
    assert float(absolute(error, torch.zeros(()), margin=2)) == 3.0
    assert float(absolute(error, torch.zeros(()), margin=2, weight=weight)) == 6.0
    assert float(absolute(error, error + 0.5)) == pytest.approx(0.5)


def test_optimizers_have_the_decays_of_the_configuration(config):
    def made(**changes):
        return Trainer(replace(config, **changes)).sites[0].optimizer

    assert all(g["betas"] == (0.5, 0.99) for g in made(beta1=0.5, beta2=0.99).param_groups)
    assert all(g["betas"] == (0.9, 0.999) for g in made().param_groups)
    assert type(made(optimizer="rmsprop")) is torch.optim.RMSprop


def test_training_starts_at_the_identity_from_the_seed():
    config = tiny_config(Path(), Path())
    network, again = initial_network(config), initial_network(config)
    assert same(network.state_dict(), again.state_dict())
    assert not same(network.state_dict(), initial_network(replace(config, seed=9)).state_dict())
    residual, _ = network(torch.rand(1, 1, 8, 8, 8))
    assert not residual.any()
