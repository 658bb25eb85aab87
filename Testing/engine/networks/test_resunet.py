"""The residual U-Net against one written with torch's own modules, and its invariances."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from drmc.networks.resunet import ResUNet, ResUNetConfig
from support.engine.network_checks import relative, relative_norm, tile
from torch import Tensor

SMALL = ResUNetConfig(widths=(4, 6, 8), units=(1, 2, 1))


def build(config=SMALL, dtype=torch.float64) -> ResUNet:
    torch.manual_seed(0)
    network = ResUNet(config).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.to(dtype)


def literal(network: ResUNet, x: Tensor) -> Tensor:
    """The residual by torch's convolutions, poolings and norms, channels first."""
    (D, H, W), levels, k = x.shape[2:], len(network.config.widths), network.config.voxel_unshuffle
    multiple = k * 2 ** (levels - 1)
    firsts = [(i, j, m) for i in range(k) for j in range(k) for m in range(k)]

    def norm(y: Tensor, layer) -> Tensor:
        if network.config.norm == "instance":
            return F.instance_norm(y, weight=layer.weight, bias=layer.bias)
        channels_last = F.layer_norm(y.movedim(1, -1), layer.normalized_shape, layer.weight, layer.bias)
        return channels_last.movedim(-1, 1)

    def convolution(y: Tensor, module, stride: int = 1) -> Tensor:
        return norm(F.conv3d(y, module.conv.weight, padding=1, stride=stride), module.norm)

    def up(y: Tensor, module) -> Tensor:
        kernel = module.map.weight.view(2, 2, 2, -1, y.shape[1]).permute(4, 3, 0, 1, 2)
        return F.conv_transpose3d(y, kernel, module.bias_C, stride=2)

    filled = F.pad(x, (0, -W % multiple, 0, -H % multiple, 0, -D % multiple), mode="replicate")
    y = network.head(torch.cat([filled[..., a::k, b::k, c::k] for a, b, c in firsts], 1))
    passed = []
    for level, units in enumerate(network.levels):
        for number, unit in enumerate(units):
            stride = 2 if level and not number else 1
            z = F.leaky_relu(convolution(y, unit.first, stride), 0.01)
            shortcut = F.avg_pool3d(y, 2) if stride == 2 else y
            if hasattr(unit, "shortcut"):
                shortcut = F.conv3d(shortcut, unit.shortcut.weight[..., None, None, None])
            y = F.leaky_relu(convolution(z, unit.second) + shortcut, 0.01)
        passed.append(y)
    for number, (grow, merge) in enumerate(zip(network.up, network.merge, strict=True)):
        y = torch.cat([up(y, grow), passed[levels - 2 - number]], 1)
        y = F.leaky_relu(convolution(y, merge), 0.01)
    residual = torch.zeros_like(filled)
    for channel, (a, b, c) in zip(network.tail(y).split(1, dim=1), firsts, strict=True):
        residual[..., a::k, b::k, c::k] = channel
    return residual[..., :D, :H, :W]


def assert_equals_literal(network: ResUNet, x: Tensor) -> None:
    probe = tile(*x.shape, seed=2)
    outputs = network(x)[0], literal(network, x)
    assert outputs[0].shape == x.shape and relative(*outputs) < 1e-10
    found, expected = (
        torch.autograd.grad((output * probe).sum(), list(network.parameters())) for output in outputs
    )
    for (name, _), mine, theirs in zip(network.named_parameters(), found, expected, strict=True):
        assert relative(mine, theirs) < 1e-10, name
    with torch.no_grad():
        assert relative(network.eval()(x)[0], outputs[1]) < 1e-10


@pytest.mark.parametrize("norm", ["layer", "instance"])
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_torch_s_own_modules(norm, batch):
    assert_equals_literal(build(dataclasses.replace(SMALL, norm=norm)), tile(batch, 1, 16, 8, 24))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 9), (3, 17, 8)])
def test_any_size_is_filled_up_by_its_last_planes(shape):
    assert_equals_literal(build(), tile(2, 1, *shape))


def test_default_size_equals_torch_s_own_modules():
    assert_equals_literal(build(ResUNetConfig()), tile(1, 1, 16, 16, 8))


def test_a_single_voxel_at_the_lowest_level_is_no_fault_of_the_instance_norm():
    network = build(dataclasses.replace(SMALL, norm="instance"))
    residual = network(tile(1, 1, 8, 8, 8))[0]
    gradients = torch.autograd.grad(residual.square().sum(), list(network.parameters()))
    assert residual.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients)


def test_parameter_count():
    assert sum(parameter.numel() for parameter in ResUNet().parameters()) == 2_430_536


def test_there_are_no_gates():
    gates = build()(tile(3, 1, 8, 8, 8))[1]
    assert gates.shape == (3, 0, 0) and ResUNetConfig().gates_shape == (0, 0)


@pytest.mark.parametrize("norm", ["layer", "instance"])
def test_a_tile_gives_the_same_in_a_batch_and_alone(norm):
    network = build(dataclasses.replace(SMALL, norm=norm)).eval()
    x = tile(3, 1, 9, 8, 16) * torch.tensor([0.01, 1, 30]).view(3, 1, 1, 1, 1)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            together = network(x)[0]
            for b in range(3):
                assert relative_norm(network(x[b : b + 1])[0][0], together[b]) < 1e-12


def test_float32_and_bfloat16_stay_near():
    network, x = build(ResUNetConfig()), tile(2, 1, 16, 16, 16)
    expected = network(x)[0]
    network = network.float()
    for dtype, tolerance in ((None, 1e-4), (torch.bfloat16, 5e-2)):
        for training in (True, False):
            with torch.set_grad_enabled(training):
                residual = network.train(training)(x.float(), dtype)[0]
            assert residual.dtype == torch.float32
            assert 0 < relative_norm(residual, expected) < tolerance


def test_gradients_with_bfloat16_products_follow_those_in_float32():
    # Two planes in the lowest level, of whose kernels torch's gradient is not finite.
    network, x = build(ResUNetConfig(), torch.float32), tile(2, 1, 16, 16, 16, dtype=torch.float32)
    gradients = []
    for compute_dtype in (None, torch.bfloat16):
        grads = torch.autograd.grad(network(x, compute_dtype)[0].square().mean(), list(network.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in grads]))
    assert relative_norm(gradients[1], gradients[0]) < 0.1


@pytest.mark.parametrize(
    "change", [{"widths": (4, 8)}, {"units": (1, 0, 1)}, {"units": 2}, {"norm": "batch"}], ids=str
)
def test_senseless_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SMALL, **change)


def test_senseless_input_is_refused():
    with pytest.raises(ValueError, match=r"ResUNet takes \(B, 1, D, H, W"):
        ResUNet(SMALL)(torch.zeros(1, 8, 8, 8))
