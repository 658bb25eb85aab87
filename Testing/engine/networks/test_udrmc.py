"""U-DRMC against its oracle of the literal blocks of equations 1 and 2, and its invariances."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise

import drmc.networks.drmc
import pytest
import torch
import torch.nn.functional as F
from drmc.benchmark import oracle
from drmc.networks.drmc import DRMC
from drmc.networks.udrmc import UDRMC, UDRMCConfig
from support.engine import network_checks
from support.engine.network_checks import GATE_BIASES, relative, relative_norm, tile
from torch import Tensor, nn

SMALL = UDRMCConfig(widths=(8, 16, 24), blocks=(1, 2, 1, 1, 1), hidden=6)


class UOracle(nn.Module):
    """The network with torch's own convolutions between the levels and the literal blocks on them."""

    def __init__(self, config: UDRMCConfig):
        super().__init__()
        self.config, self.k = config, config.voxel_unshuffle
        if config.use_hidden and config.gate != "none":
            self.hidden = nn.Parameter(torch.ones(1, config.hidden, 1, 1, 1))
        self.firsts = [(i, j, m) for i in range(self.k) for j in range(self.k) for m in range(self.k)]
        widths = config.widths
        self.head = nn.Conv3d(len(self.firsts), widths[0], 3, padding=1)
        self.tail = nn.Conv3d(widths[0], len(self.firsts), 3, padding=1)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(nn.Conv3d(2 * width, width, 1) for width in widths[:-1])
        levels = [*range(len(widths)), *reversed(range(len(widths) - 1))]
        self.stages = nn.ModuleList(
            nn.ModuleList(oracle.Block(config.of_level(level)) for _ in range(count))
            for level, count in zip(levels, config.blocks, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (D, H, W), levels, k = x.shape[2:], len(self.config.widths), self.k
        multiple = k * 2 ** (levels - 1)
        filled = F.pad(x, (0, -W % multiple, 0, -H % multiple, 0, -D % multiple), mode="replicate")
        hidden = self.hidden.repeat(len(x), 1, 1, 1, 1) if hasattr(self, "hidden") else None
        y = self.head(torch.cat([filled[..., a::k, b::k, c::k] for a, b, c in self.firsts], dim=1))
        gates, passed = [], []
        for stage, blocks in enumerate(self.stages):
            if 0 < stage < levels:
                passed.append(y)
                y = self.down[stage - 1](y)
            elif stage >= levels:
                level = 2 * levels - 2 - stage
                y = self.merge[level](torch.cat([self.up[level](y), passed.pop()], dim=1))
            for block in blocks:
                y, hidden, block_gates = block(y, hidden)
                gates += block_gates
        residual = torch.zeros_like(filled)
        for channel, (a, b, c) in zip(self.tail(y).split(1, dim=1), self.firsts, strict=True):
            residual[..., a::k, b::k, c::k] = channel
        return residual[..., :D, :H, :W], torch.stack(gates, dim=1)


def oracle_state(network: UDRMC) -> dict[str, Tensor]:
    """The network's parameters under the oracle's names and in its shapes: a linear view."""
    config, own = network.config, dict(network.named_parameters())
    state = {name: own[name].detach() for name in own if name.startswith(("head.", "tail."))}
    if "hidden_R" in own:
        state["hidden"] = own["hidden_R"].detach().view(1, -1, 1, 1, 1)
    blocks = iter(network.blocks)
    for stage, (level, count) in enumerate(config.stages):
        for index in range(count):
            like = DRMC(config.of_level(level)).double()
            like.blocks[0] = next(blocks)
            views = like.authors_state_dict()
            found = {name.removeprefix("body.0."): v for name, v in views.items() if "body.0." in name}
            state |= {f"stages.{stage}.{index}.{name}": view for name, view in found.items()}
    last = len(config.widths) - 2
    for level, (width, lower) in enumerate(pairwise(config.widths)):
        down, up, merge = network.down[level], network.up[last - level], network.merge[last - level]
        cubes = down.map.weight.detach().view(lower, 2, 2, 2, width)
        state[f"down.{level}.weight"], state[f"down.{level}.bias"] = (
            cubes.permute(0, 4, 1, 2, 3),
            down.map.bias,
        )
        cubes = up.map.weight.detach().view(2, 2, 2, width, lower)
        state[f"up.{level}.weight"], state[f"up.{level}.bias"] = cubes.permute(4, 3, 0, 1, 2), up.bias_C
        state[f"merge.{level}.weight"] = merge.weight.detach().view(width, 2 * width, 1, 1, 1)
        state[f"merge.{level}.bias"] = merge.bias
    return {name: value.detach() for name, value in state.items()}


def build(config=SMALL, *, gates=None, dtype=torch.float64, seed=0) -> UDRMC:
    """A network with every parameter moved off its initial value, so that none is 0 or 1 by construction."""
    torch.manual_seed(seed)
    network = UDRMC(config).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if gates is not None and name.endswith("outer.bias"):
                parameter.copy_(torch.tensor(GATE_BIASES[gates]))
    return network.to(dtype)


def oracle_of(network: UDRMC) -> UOracle:
    literal = UOracle(network.config).double()
    literal.load_state_dict(oracle_state(network))
    return literal


assert_equals_oracle = partial(
    network_checks.assert_equals_oracle, oracle_of=oracle_of, state_of=oracle_state
)


# --------------------------------------------------------------------------------------- against the oracle
@pytest.mark.parametrize("few_tokens", [0, 10**6], ids=["by the kernel", "by the factors"])
@pytest.mark.parametrize("gates", GATE_BIASES)
def test_equals_the_oracle(gates, few_tokens, monkeypatch):
    monkeypatch.setattr(drmc.networks.drmc, "FEW_TOKENS", few_tokens)
    found = assert_equals_oracle(build(gates=gates), tile(2, 1, 16, 8, 24))
    closed = (found == 0).double().mean().item()
    assert {"open": closed == 0, "mixed": 0 < closed < 1, "closed": closed == 1}[gates]


def test_the_dense_form_equals_the_oracle():
    network = build()
    network.form = "dense"
    assert_equals_oracle(network, tile(2, 1, 8, 8, 16))


def test_default_size_equals_the_oracle():
    assert_equals_oracle(build(UDRMCConfig()), tile(1, 1, 16, 8, 16))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (5, 7, 9), (3, 17, 8), (20, 1, 12)])
def test_any_size_equals_the_oracle_on_the_tile_filled_up_by_its_last_planes(shape):
    # Of a single token in the lowest level the gradient of q and k is zero but for rounding.
    assert_equals_oracle(build(), tile(2, 1, *shape), 1e-8)


@pytest.mark.parametrize(
    "config",
    [
        UDRMCConfig(widths=(8,), blocks=(2,), hidden=6),
        UDRMCConfig(widths=(4, 12), blocks=(1, 1, 2), hidden=6, voxel_unshuffle=1),
        UDRMCConfig(widths=(8, 8), blocks=(2, 1, 1), hidden=6, voxel_unshuffle=3, head_width=2, ffn_ratio=3),
    ],
    ids=["one level", "every voxel", "cubes of 27"],
)
def test_other_shapes_equal_the_oracle(config):
    assert_equals_oracle(build(config), tile(2, 1, 9, 10, 12))


@pytest.mark.parametrize("gate", ["relu", "softmax", "top2", "none"])
@pytest.mark.parametrize("use_hidden", [True, False])
@pytest.mark.parametrize("experts", [1, 4])
def test_ablations_equal_the_oracle(gate, use_hidden, experts):
    config = dataclasses.replace(SMALL, gate=gate, use_hidden=use_hidden, experts=experts)
    gates = assert_equals_oracle(build(config), tile(2, 1, 16, 24, 16))
    assert gates.shape == (2, 12, experts)
    if gate in ("softmax", "top2"):
        torch.testing.assert_close(gates.sum(2), torch.ones_like(gates[:, :, 0]), rtol=0, atol=1e-12)


def test_float32_stays_within_1e_4_of_the_residual():
    network, x = build(UDRMCConfig()), tile(1, 1, 16, 24, 16)
    expected, _ = oracle_of(network)(x)
    network = network.float()
    assert relative_norm(network(x.float())[0], expected) < 1e-4
    with torch.inference_mode():
        assert relative_norm(network.eval()(x.float())[0], expected) < 1e-4


def test_bfloat16_products_stay_near():
    network, x = build(dtype=torch.float32), tile(2, 1, 16, 16, 16, dtype=torch.float32)
    expected, expected_gates = network(x)
    for training in (True, False):
        with torch.set_grad_enabled(training):
            residual, gates = network.train(training)(x, torch.bfloat16)
        assert residual.dtype == gates.dtype == torch.float32
        assert 0 < relative_norm(residual, expected) < 3e-2
        assert relative(gates, expected_gates) < 3e-2
        if training:
            found = torch.autograd.grad(residual.square().mean(), list(network.parameters()))
    exact = torch.autograd.grad(expected.square().mean(), list(network.parameters()))
    flat = [torch.cat([gradient.flatten() for gradient in grads]) for grads in (found, exact)]
    assert relative_norm(*flat) < 5e-2


# --------------------------------------------------------------------------------------- golden figures
@pytest.mark.parametrize(
    "config, count", [(UDRMCConfig(), 1_906_814), (UDRMCConfig(widths=(48, 96, 192)), 4_204_374)]
)
def test_parameter_counts(config, count):
    assert sum(parameter.numel() for parameter in UDRMC(config).parameters()) == count
    assert sum(parameter.numel() for parameter in UOracle(config).parameters()) == count


def test_layers_are_those_of_the_blocks_in_order():
    config = UDRMCConfig()
    assert config.stages == [(0, 1), (1, 2), (2, 3), (1, 2), (0, 1)] and config.gates_shape == (18, 3)
    widths = [len(block.skip1_C) for block in UDRMC(config).blocks]
    assert widths == [32, 64, 64, 128, 128, 128, 64, 64, 32]


# --------------------------------------------------------------------------------------- what must hold
@pytest.mark.parametrize("use_hidden", [True, False])
def test_only_h_links_the_routers_of_all_levels_when_experts_say_nothing(use_hidden):
    network = build(dataclasses.replace(SMALL, use_hidden=use_hidden, gate="softmax"))
    with torch.no_grad():
        for block in network.blocks:
            for silent in (block.attention.project_MCC, block.ffn.weight2_MCF, block.ffn.bias2_MC):
                silent.zero_()
    gates = network(tile(1, 1, 8, 8, 16))[1]
    first = network.blocks[0].router1.inner.bias
    linked = []
    for layer in range(1, gates.shape[1]):
        (gradient,) = torch.autograd.grad(
            gates[:, layer, 0].sum(), [first], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        linked.append(bool(gradient.any()))
    assert linked == [use_hidden] * 11
    with torch.no_grad():  # what the first router sees moves, and nothing else
        network.blocks[0].router1.inner.bias.add_(1.0)
        moved = (network(tile(1, 1, 8, 8, 16))[1] != gates).any(2)[0]
    assert moved.tolist() == [True, *[use_hidden] * 11]


@pytest.mark.parametrize("training", [True, False])
def test_a_closed_expert_changes_nothing(training):
    network, x = build(gates="mixed").train(training), tile(2, 1, 8, 16, 9)
    with torch.set_grad_enabled(training):
        before, gates = network(x)
    assert (gates[:, :, 2] == 0).all() and (gates[:, :, 0] > 0).any()
    with torch.no_grad():
        for block in network.blocks:
            for bank in (block.attention, block.ffn):
                for parameter in bank.parameters():
                    parameter[2] += torch.randn_like(parameter[2]) if training else torch.nan
    with torch.set_grad_enabled(training):
        assert torch.equal(network(x)[0], before)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_tile_gives_the_same_in_a_batch_and_alone(dtype, tolerance):
    network = build(gates="mixed", dtype=dtype).eval()
    x = tile(3, 1, 9, 8, 16, dtype=dtype) * torch.tensor([0.01, 1, 30], dtype=dtype).view(3, 1, 1, 1, 1)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            together, gates = network(x)
            for b in range(3):
                alone, own_gates = network(x[b : b + 1])
                assert relative_norm(alone[0], together[b]) < tolerance
                assert relative(own_gates[0], gates[b]) < tolerance


def test_the_input_is_left_alone_and_a_zero_tail_adds_nothing():
    network, x = build(dtype=torch.float32).eval(), tile(1, 1, 9, 8, 8, dtype=torch.float32)
    copy = x.clone()
    with torch.no_grad():
        network(x)
        network.tail.weight.zero_()
        network.tail.bias.zero_()
        assert torch.equal(network.denoise(x), copy)
    network(x)
    assert torch.equal(x, copy)


def test_training_gives_every_parameter_a_gradient_even_with_closed_experts():
    network = build(gates="closed")
    network(tile(1, 1, 8, 8, 8))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


# --------------------------------------------------------------------------------------- settings and misuse
def test_config_survives_a_dictionary():
    config = dataclasses.replace(SMALL, gate="top2", use_hidden=False)
    assert UDRMCConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["widths"] == [8, 16, 24]  # as JSON has it
    with pytest.raises(ValueError, match="heads"):
        UDRMCConfig.from_dict({"heads": 4})


@pytest.mark.parametrize(
    "change",
    [
        {"widths": 8},
        {"widths": (8, 0, 16)},
        {"widths": (8, 18, 16)},
        {"blocks": (1, 1)},
        {"blocks": (1, 2, 1)},
        {"blocks": (1, 2, 0, 2, 1)},
        {"head_width": 0},
        {"gate": "sigmoid"},
        {"router_init": "zeros"},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SMALL, **change)


def test_senseless_input_is_refused():
    network = UDRMC(SMALL)
    for shape in ((1, 8, 8, 8), (1, 2, 8, 8, 8), (1, 1, 8, 0, 8)):
        with pytest.raises(ValueError, match="B, 1, D, H, W"):
            network(torch.zeros(shape))
    network.form = "sparse"
    with pytest.raises(ValueError, match="sparse"):
        network(torch.zeros(1, 1, 8, 8, 8))
