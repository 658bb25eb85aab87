"""The network against the literal oracle of equations 1 and 2, its golden figures and its invariances."""

from __future__ import annotations

import dataclasses

import drmc.networks.drmc
import drmc.networks.tokens
import pytest
import torch
from drmc.benchmark.oracle import Oracle
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.drmc import DRMC, NetworkConfig, ReopeningReLU, Router
from support.engine.network_checks import (
    GATE_BIASES,
    assert_equals_oracle,
    oracle_of,
    relative,
    relative_norm,
    tile,
)

SMALL = NetworkConfig(channels=16, blocks=2, heads=4, hidden=8)
FORMS = ("depthwise", "dense")


def build(config=SMALL, *, form="auto", gates=None, dtype=torch.float64, seed=0) -> DRMC:
    """A network with every parameter moved off its initial value, so that none is 0 or 1 by construction."""
    torch.manual_seed(seed)
    network = DRMC(config).double()
    network.form = form
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if gates is not None and name.endswith("outer.bias"):
                parameter.copy_(torch.tensor(GATE_BIASES[gates]))
    return network.to(dtype)


# --------------------------------------------------------------------------------------- against the oracle
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gates", GATE_BIASES)
def test_equals_the_oracle(form, gates):
    found = assert_equals_oracle(build(form=form, gates=gates), tile(2, 1, 9, 7, 8))
    closed = (found == 0).double().mean().item()
    assert {"open": closed == 0, "mixed": 0 < closed < 1, "closed": closed == 1}[gates]


@pytest.mark.parametrize("form", FORMS)
def test_default_size_equals_the_oracle(form):
    assert_equals_oracle(build(NetworkConfig(), form=form), tile(2, 1, 9, 7, 8))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (1, 6, 5), (2, 1, 3), (3, 3, 3)])
def test_equals_the_oracle_on_thin_tiles(shape):
    assert_equals_oracle(build(dataclasses.replace(SMALL, experts=2)), tile(1, 1, *shape))


def test_equals_the_oracle_across_slabs_and_chunks_and_as_a_large_image(monkeypatch):
    monkeypatch.setattr(drmc.networks.tokens, "SLAB_VALUES", 1)
    monkeypatch.setattr(drmc.networks.tokens, "CACHE_VALUES", 1000)
    monkeypatch.setattr(drmc.networks.tokens, "SMALL_IMAGE", 0)
    assert_equals_oracle(build(), tile(2, 1, 9, 5, 6))


@pytest.mark.parametrize("few_tokens", [0, 10**6], ids=["by the kernel", "by the factors"])
@pytest.mark.parametrize("gates", GATE_BIASES)
def test_both_ways_of_training_a_bank_equal_the_oracle(monkeypatch, few_tokens, gates):
    monkeypatch.setattr(drmc.networks.drmc, "FEW_TOKENS", few_tokens)
    assert_equals_oracle(build(gates=gates), tile(2, 1, 7, 5, 6))
    monkeypatch.setattr(drmc.networks.tokens, "CACHE_VALUES", 1000)  # tile by tile
    assert_equals_oracle(build(gates=gates), tile(2, 1, 7, 5, 6))


@pytest.mark.parametrize("gate", ["relu", "softmax", "top2", "none"])
@pytest.mark.parametrize("use_hidden", [True, False])
@pytest.mark.parametrize("experts", [1, 4])
def test_ablations_equal_the_oracle(gate, use_hidden, experts):
    config = dataclasses.replace(SMALL, gate=gate, use_hidden=use_hidden, experts=experts)
    gates = assert_equals_oracle(build(config), tile(2, 1, 5, 4, 6))
    if gate in ("softmax", "top2"):
        torch.testing.assert_close(gates.sum(2), torch.ones_like(gates[:, :, 0]), rtol=0, atol=1e-12)
    if gate == "top2":
        assert ((gates > 0).sum(2) == min(2, experts)).all()
    if gate == "none":
        assert (gates == 1).all()


@pytest.mark.parametrize(("k", "shape"), [(2, (8, 6, 4)), (2, (5, 6, 7)), (3, (7, 1, 9))])
def test_cubes_of_voxels_as_channels_equal_the_oracle(k, shape):
    config = dataclasses.replace(SMALL, voxel_unshuffle=k)
    assert_equals_oracle(build(config), tile(2, 1, *shape))
    state = build(config).authors_state_dict()
    assert DRMC.from_authors_checkpoint(state).config.voxel_unshuffle == k


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("config", [SMALL, NetworkConfig()], ids=["small", "default"])
def test_float32_stays_within_1e_4_of_the_residual(config, form):
    network = build(config, form=form)
    x = tile(1, 1, 12, 10, 11)
    expected, _ = oracle_of(network)(x)
    network = network.float()
    assert relative_norm(network(x.float())[0], expected) < 1e-4
    network.eval()
    with torch.inference_mode():
        assert relative_norm(network(x.float())[0], expected) < 1e-4


def test_float32_sums_over_a_tile_of_64_stay_accurate():
    network = build(
        NetworkConfig(channels=8, blocks=1, heads=2, experts=1, ffn_ratio=1, gate="none"), form="dense"
    )
    x = 0.2 + 0.1 * tile(1, 1, 64, 64, 64)  # far from zero mean, as uptake is
    with torch.inference_mode():
        expected, _ = network(x)
        network = network.float()
        for network.form in FORMS:
            assert relative_norm(network(x.float())[0], expected) < 1e-4, network.form


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("level", [0.0, 1e-4, 1.0])
def test_float32_is_as_exact_in_a_flat_tile(level, training):
    """Its tokens are nearly the same, so that products of all of them hide what differs."""
    entry = find_model("drmc-small-2")
    x = torch.full((1, 1, 32, 32, 32), level)
    with torch.set_grad_enabled(training):
        expected = load_network(entry)[0].eval().double()(x.double())[0]
        found = load_network(entry)[0].eval()(x)[0]
    assert relative_norm(found, expected) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_products_stay_within_3e_2_of_the_residual(form):
    network = build(NetworkConfig(), form=form, dtype=torch.float32).eval()
    x = tile(1, 1, 12, 12, 12, dtype=torch.float32)
    with torch.inference_mode():
        expected, expected_gates = network(x)
        residual, gates = network(x, torch.bfloat16)
    assert residual.dtype == gates.dtype == torch.float32
    assert relative_norm(residual, expected) < 3e-2
    assert relative(gates, expected_gates) < 3e-2


def test_gradients_with_bfloat16_products_follow_those_in_float32():
    network, x = build(dtype=torch.float32), tile(2, 1, 8, 8, 8, dtype=torch.float32)
    gradients = []
    for compute_dtype in (None, torch.bfloat16):
        loss = network(x, compute_dtype)[0].square().mean()
        grads = torch.autograd.grad(loss, list(network.parameters()))
        assert all(gradient.dtype == torch.float32 for gradient in grads)
        gradients.append(torch.cat([gradient.flatten() for gradient in grads]))
    assert relative_norm(gradients[1], gradients[0]) < 5e-2


# --------------------------------------------------------------------------------------- golden figures
@pytest.mark.parametrize(
    "config, count",
    [
        (NetworkConfig(), 539_487),
        (NetworkConfig(blocks=15, experts=1), 569_247),
        (NetworkConfig(blocks=15, experts=1, gate="none"), 529_841),  # the paper's generalist baseline
    ],
)
def test_parameter_counts(config, count):
    assert sum(parameter.numel() for parameter in DRMC(config).parameters()) == count
    assert sum(parameter.numel() for parameter in Oracle(config).parameters()) == count


def test_routing_takes_13486_parameters():
    routing = [p for name, p in DRMC().named_parameters() if "router" in name or name == "hidden_R"]
    assert sum(parameter.numel() for parameter in routing) == 13_486


def expected_authors_shapes() -> dict[str, tuple[int, ...]]:
    """The 195 keys and shapes of a checkpoint of the authors' code."""
    shapes = {"hidden": (1, 16, 1, 1, 1)}
    shapes |= {"head_conv.weight": (64, 1, 3, 3, 3), "head_conv.bias": (64,)}
    shapes |= {"tail_conv.weight": (1, 64, 3, 3, 3), "tail_conv.bias": (1,)}
    for i in range(5):
        body = f"body.{i}."
        shapes |= {body + "beta": (1, 64, 1, 1, 1), body + "gamma": (1, 64, 1, 1, 1)}
        for norm in ("norm1.norm.", "norm2.norm."):
            shapes |= {body + norm + "weight": (64,), body + norm + "bias": (64,)}
        for routing in (body + "attention.routing.", body + "mlp.routing."):
            shapes |= {routing + "conv1.weight": (16, 80, 1, 1, 1), routing + "conv1.bias": (16,)}
            shapes |= {routing + "conv3.weight": (3, 16, 1, 1, 1), routing + "conv3.bias": (3,)}
        for m in range(3):
            expert = f"{body}attention.att_experts.{m}."
            shapes |= {expert + "temperature": (16, 1, 1), expert + "qkv.weight": (192, 64, 1, 1, 1)}
            shapes |= {
                expert + "dwconv.weight": (64, 1, 3, 3, 3),
                expert + "project_out.weight": (64, 64, 1, 1, 1),
            }
            expert = f"{body}mlp.mpl_experts.{m}."
            shapes |= {expert + "fc1.weight": (128, 64, 1, 1, 1), expert + "fc1.bias": (128,)}
            shapes |= {expert + "fc2.weight": (64, 128, 1, 1, 1), expert + "fc2.bias": (64,)}
    return shapes


def test_authors_keys_and_shapes():
    expected = expected_authors_shapes()
    assert len(expected) == 195
    for state in (DRMC().authors_state_dict(), Oracle(NetworkConfig()).state_dict()):
        assert {key: tuple(value.shape) for key, value in state.items()} == expected


# --------------------------------------------------------------------------------------- checkpoints
@pytest.mark.parametrize(
    "config", [SMALL, dataclasses.replace(SMALL, use_hidden=False, experts=2), NetworkConfig()], ids=str
)
def test_authors_checkpoint_round_trip_by_file(tmp_path, config):
    torch.manual_seed(0)
    theirs = Oracle(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = DRMC.from_authors_checkpoint(tmp_path / "theirs.pth")
    assert ours.config == config
    torch.save(ours.authors_state_dict(), tmp_path / "ours.pth")
    back = torch.load(tmp_path / "ours.pth", weights_only=True)
    for key, value in theirs.state_dict().items():
        assert torch.equal(back.pop(key), value), key
    assert not back


def test_authors_checkpoint_may_come_from_data_parallel():
    network = build(dtype=torch.float32)
    state = {"module." + key: value for key, value in network.authors_state_dict().items()}
    loaded = DRMC.from_authors_checkpoint(state)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))


def test_loading_copies_and_the_view_does_not():
    network = DRMC(SMALL)
    state = network.authors_state_dict()
    loaded = DRMC.from_authors_checkpoint(state)
    state["tail_conv.bias"].fill_(7)
    assert network.tail.bias.item() == 7 != loaded.tail.bias.item()


@pytest.mark.parametrize("key", list(Oracle(dataclasses.replace(SMALL, blocks=1, experts=1)).state_dict()))
def test_authors_checkpoint_without_a_key_or_of_another_shape_is_refused(key):
    state = DRMC(dataclasses.replace(SMALL, blocks=2)).authors_state_dict()
    spoiled = {k: v for k, v in state.items() if k != key}
    if key != "hidden":  # without it, it is the network without H
        with pytest.raises(ValueError):
            DRMC.from_authors_checkpoint(spoiled)
    for other in (state[key].new_zeros(3, 3), state[key][None]):
        with pytest.raises(ValueError):
            DRMC.from_authors_checkpoint(state | {key: other})


def test_refusals_name_the_key():
    state = DRMC(SMALL).authors_state_dict()
    name = "body.1.mlp.mpl_experts.2.fc2.bias"
    for spoiled in (
        {key: value for key, value in state.items() if key != name},
        state | {name: torch.zeros(7)},
    ):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            DRMC.from_authors_checkpoint(spoiled)
    with pytest.raises(ValueError, match="odd_key"):
        DRMC.from_authors_checkpoint(state | {"odd_key": torch.zeros(1)})


@pytest.mark.parametrize(
    "content", [{}, {"model": {}}, [1, 2], {"head_conv.weight": torch.tensor(1.0)}], ids=repr
)
def test_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError):
        DRMC.from_authors_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "content", [b"", b"not a weight file", b"\x80\x02K\x01."], ids=["empty", "text", "pickle"]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(ValueError):
        DRMC.from_authors_checkpoint(tmp_path / "other.pth")


# --------------------------------------------------------------------------------------- what must hold
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [True, False])
def test_a_closed_expert_changes_nothing(form, training):
    network, x = build(form=form, gates="mixed").train(training), tile(2, 1, 6, 5, 7)
    with torch.set_grad_enabled(training):
        before, gates = network(x)
    assert (gates[:, :, 2] == 0).all() and (gates[:, :, 0] > 0).any()
    with torch.no_grad():
        for block in network.blocks:
            for bank in (block.attention, block.ffn):
                for parameter in bank.parameters():
                    parameter[2] += torch.randn_like(parameter[2]) if training else torch.nan
    with torch.set_grad_enabled(training):
        after, _ = network(x)
    assert torch.equal(after, before)


def test_training_gives_every_parameter_a_gradient_even_with_closed_experts():
    network = build(gates="closed")
    network(tile(1, 1, 4, 4, 4))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_a_zero_tail_predicts_a_residual_of_exactly_zero(form):
    network = build(form=form, dtype=torch.float32).eval()
    with torch.no_grad():
        network.tail.weight.zero_()
        network.tail.bias.zero_()
    x = tile(2, 1, 5, 9, 6, dtype=torch.float32)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert torch.equal(network(x)[0], torch.zeros_like(x))
            assert torch.equal(network.denoise(x), x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_tile_gives_the_same_in_a_batch_and_alone(form, dtype, tolerance):
    network = build(form=form, gates="mixed", dtype=dtype).eval()
    x = tile(3, 1, 6, 8, 7, dtype=dtype) * torch.tensor([0.01, 1, 30], dtype=dtype).view(3, 1, 1, 1, 1)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            together, gates = network(x)
            for b in range(3):
                alone, own_gates = network(x[b : b + 1])
                assert relative_norm(alone[0], together[b]) < tolerance
                assert relative(own_gates[0], gates[b]) < tolerance


@pytest.mark.parametrize("form", FORMS)
def test_the_input_is_left_alone(form):
    network, x = build(form=form), tile(1, 1, 5, 5, 5)
    copy = x.clone()
    network(x)
    with torch.no_grad():
        network.eval()(x)
    assert torch.equal(x, copy)


def test_a_constant_tile_gives_finite_numbers_and_gradients():
    network = DRMC(SMALL)
    for value in (0.0, 1.0, 1e4):
        loss = network(torch.full((1, 1, 6, 6, 6), value))[0].square().sum()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("use_hidden", [True, False])
def test_only_h_links_a_router_to_the_next_when_experts_say_nothing(use_hidden):
    network = build(dataclasses.replace(SMALL, use_hidden=use_hidden, blocks=1))
    with torch.no_grad():
        network.blocks[0].attention.project_MCC.zero_()
    _, gates = network(tile(1, 1, 4, 4, 4))
    first = network.blocks[0].router1.inner.weight
    (gradient,) = torch.autograd.grad(gates[:, 1].sum(), [first], allow_unused=True, materialize_grads=True)
    assert bool(gradient.any()) is use_hidden
    assert hasattr(network, "hidden_R") is use_hidden


def test_routers_start_with_every_expert_open():
    for seed in range(5):
        torch.manual_seed(seed)
        with torch.no_grad():
            _, gates = DRMC(NetworkConfig(router_init="one_over_experts"))(0.05 * torch.rand(1, 1, 8, 8, 8))
        assert (gates > 0).float().mean() > 0.9, seed
    assert DRMC(SMALL).blocks[0].router1.outer.bias.tolist() == pytest.approx([1 / 3] * 3)
    assert len(set(DRMC(NetworkConfig(router_init="official")).blocks[0].router1.outer.bias.tolist())) == 3


# --------------------------------------------------------------------------------------- settings and misuse
def test_config_survives_a_dictionary():
    config = dataclasses.replace(SMALL, gate="top2", use_hidden=False)
    assert NetworkConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="chanels"):
        NetworkConfig.from_dict({"chanels": 64})


@pytest.mark.parametrize(
    "change",
    [{"heads": 5}, {"channels": 0}, {"blocks": 1.5}, {"gate": "sigmoid"}, {"router_init": "zeros"}],
    ids=str,
)
def test_senseless_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        NetworkConfig(**change)


def test_senseless_input_is_refused():
    network = DRMC(SMALL)
    for shape in ((1, 8, 8, 8), (1, 2, 8, 8, 8), (1, 1, 8, 0, 8)):
        with pytest.raises(ValueError, match="B, 1, D, H, W"):
            network(torch.zeros(shape))
    network.form = "sparse"
    with pytest.raises(ValueError, match="sparse"):
        network(torch.zeros(1, 1, 4, 4, 4))


def test_state_dict_round_trip_keeps_the_output():
    network, x = build(), tile(1, 1, 5, 6, 4)
    other = DRMC(NetworkConfig.from_dict(network.config.to_dict())).double()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x)[0], network(x)[0])


def test_a_closed_gate_opens_where_that_lowers_the_loss_and_values_stay():
    logits = torch.tensor([-1.0, -1.0, 0.0, 2.0, 2.0], dtype=torch.float64, requires_grad=True)
    wanted = torch.tensor([1.0, -1.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    gates = ReopeningReLU.apply(logits)
    assert torch.equal(gates, torch.relu(logits))
    (0.5 * (gates - wanted).square()).sum().backward()
    assert logits.grad.tolist() == [-1.0, 0.0, -1.0, -1.0, 1.0]


@pytest.mark.parametrize("reopens", [False, True])
def test_an_expert_that_no_patch_opens_comes_back_only_by_reopening_gates(reopens):
    network = build(dtype=torch.float32)
    router = network.blocks[-1].router2
    x = tile(2, 1, 8, 8, 8).float()
    with torch.no_grad():
        router.outer.weight[0] = 0
        router.outer.bias[0] = 0.5
        wanted = network(x)[0]
        router.outer.bias[0] = -0.1
        closed = network(x)[0]
        for module in network.modules():
            if isinstance(module, Router):
                module.reopens = reopens
        assert torch.equal(network(x)[0], closed)  # it changes gradients alone
    optimizer = torch.optim.Adam([router.outer.bias], 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        (network(x)[0] - wanted).square().mean().backward()
        optimizer.step()
    assert bool(router.outer.bias[0] > 0) is reopens
