"""The networks that others compare with, against ones written with torch's own modules."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from drmc.errors import InputError
from drmc.models.registry import find_model
from drmc.models.weights import load_network, save_model
from drmc.networks.cgan3d import CGAN3D, CGAN3DConfig
from drmc.networks.cvtgan3d import CVTGAN3D, CVTGAN3DConfig
from drmc.networks.latent import latent_size, recorded_latents
from drmc.networks.plain import Normalization
from drmc.networks.protocol import ResidualNetwork
from drmc.networks.registry import build, settings_of
from drmc.networks.unet3d import UNet3D, UNet3DConfig
from drmc.training.strategies.registry import make_strategy
from support.engine.network_checks import relative, relative_norm, tile
from support.engine.small_training import tiny_config
from torch import Tensor, nn

CGAN = CGAN3DConfig(depth=3, width=4)
CVT = CVTGAN3DConfig(width=4, dropout=0.0)
UNET = UNet3DConfig(width=4, pools=2)
SMALL = {"cgan3d": CGAN, "cvtgan3d": CVT, "unet3d": UNET}
EDGES = {"cgan3d": 16, "cvtgan3d": 48, "unet3d": 8}
each_kind = pytest.mark.parametrize("kind", SMALL)


def new(config, dtype=torch.float64) -> ResidualNetwork:
    """A network none of whose parameters is at a special value."""
    torch.manual_seed(0)
    network = build(config.kind, config).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.to(dtype)


# ---- the same networks channels first, by torch's functions and modules


def norm_by_torch(y: Tensor, module) -> Tensor:
    if module.kind == "batch":
        copy = nn.BatchNorm3d(len(module.weight)).double().train(module.training)
        copy.weight, copy.bias = module.weight, module.bias
        copy.running_mean, copy.running_var = module.mean.clone(), module.variance.clone()
        return copy(y)
    if module.kind == "instance":
        return F.instance_norm(y, weight=module.weight, bias=module.bias)
    return F.layer_norm(y.movedim(1, -1), module.weight.shape, module.weight, module.bias).movedim(-1, 1)


def up_by_torch(y: Tensor, module) -> Tensor:
    kernel = module.map.weight.view(2, 2, 2, -1, y.shape[1]).permute(4, 3, 0, 1, 2)
    return F.conv_transpose3d(y, kernel, module.bias_C, stride=2)


def cgan_by_torch(network: CGAN3D, x: Tensor) -> Tensor:
    y, passed = network.head(x), []
    for number, down in enumerate(network.down, 2):
        passed.append(y)
        y = F.conv3d(F.leaky_relu(y, 0.2), down.conv.weight, down.conv.bias, stride=2, padding=1)
        y = norm_by_torch(y, down.norm) if number < network.config.depth else y
    for up in network.up:
        y = norm_by_torch(up.conv(F.relu(y)), up.norm)
        y = torch.cat([passed.pop(), y], 1)
    return network.tail(F.relu(y))


def unet_by_torch(network: UNet3D, x: Tensor) -> Tensor:
    def act(y: Tensor) -> Tensor:
        return F.leaky_relu(nn.InstanceNorm3d(y.shape[1])(y), 0.2)

    def unit(y: Tensor, first, second) -> Tensor:
        return act(second(act(first(y))))

    passed = [unit(x, network.head, network.second)]
    for down in network.down:
        passed.append(unit(F.avg_pool3d(passed[-1], 2), down.first, down.second))
    y = passed.pop()
    for up, merge in zip(network.up, network.merge, strict=True):
        y = unit(torch.cat([act(up_by_torch(y, up)), passed.pop()], 1), merge.first, merge.second)
    return network.tail(y)


def cvt_by_torch(network: CVTGAN3D, x: Tensor) -> Tensor:
    def attention(y: Tensor, module) -> Tensor:
        parts = []
        for projection in (module.query, module.key, module.value):
            z = norm_by_torch(projection.conv(y), projection.norm)
            z = projection.map(z.flatten(2).transpose(1, 2))
            parts.append(z.unflatten(2, (module.heads, -1)).transpose(1, 2))
        mixed = F.scaled_dot_product_attention(*parts, scale=y.shape[1] ** -0.5)
        return module.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).view_as(y)

    def block(y: Tensor, module) -> Tensor:
        y = y + attention(norm_by_torch(y, module.norm1), module.attention)
        wide = F.gelu(module.widen(norm_by_torch(y, module.norm2).movedim(1, -1)))
        return y + module.narrow(wide).movedim(-1, 1)

    def stage(y: Tensor, module, *, up: bool = False) -> Tensor:
        y = norm_by_torch(up_by_torch(y, module.embed) if up else module.embed(y), module.norm)
        for one in module.blocks:
            y = block(y, one)
        return y

    def residual(y: Tensor, module) -> Tensor:
        z = norm_by_torch(F.leaky_relu(module.conv(y), 0.2), module.norm)
        return z + F.conv3d(y, module.beside.weight[..., None, None, None], module.beside.bias)

    e0 = norm_by_torch(F.leaky_relu(network.head(x), 0.2), network.norm)
    e1 = stage(e0, network.down[0])
    e2 = stage(e1, network.down[1])
    y = residual(stage(e2, network.down[2]), network.residual[0])
    y = residual(torch.cat([e2, stage(y, network.up[0], up=True)], 1), network.residual[1])
    y = residual(torch.cat([e1, stage(y, network.up[1], up=True)], 1), network.residual[2])
    y = torch.cat([e0, up_by_torch(y, network.widen)], 1)
    return F.leaky_relu(network.tail(network.narrow(network.merge(y))), 0.2)


BY_TORCH = {"cgan3d": cgan_by_torch, "cvtgan3d": cvt_by_torch, "unet3d": unet_by_torch}


def assert_equals_torch(network: ResidualNetwork, x: Tensor) -> None:
    kind, probe = network.config.kind, tile(*x.shape, seed=2)
    filled = [(0, -n % network.multiple) for n in x.shape[:1:-1]]
    whole = F.pad(x, [n for pair in filled for n in pair], mode="replicate")
    D, H, W = x.shape[2:]
    outputs = network(x)[0], BY_TORCH[kind](network, whole)[..., :D, :H, :W]
    assert outputs[0].shape == x.shape and relative(*outputs) < 1e-10
    parameters = dict(network.named_parameters())
    found, expected = (torch.autograd.grad((y * probe).sum(), list(parameters.values())) for y in outputs)
    largest = max(gradient.abs().max() for gradient in expected)
    for name, mine, theirs in zip(parameters, found, expected, strict=True):
        assert ((mine - theirs).abs().max() / largest) < 1e-10, name
        assert mine.isfinite().all()


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
@pytest.mark.parametrize("shape", [(2, 1, 16, 32, 24), (1, 1, 17, 9, 16)], ids=str)
def test_the_conditional_gan_equals_torch_s_own_modules(norm, shape):
    assert_equals_torch(new(dataclasses.replace(CGAN, norm=norm)), tile(*shape))


@pytest.mark.parametrize("shape", [(2, 1, 16, 8, 12), (1, 1, 9, 16, 8)], ids=str)
def test_the_unet_equals_torch_s_own_modules(shape):
    assert_equals_torch(new(UNET), tile(*shape))


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
@pytest.mark.parametrize("shape", [(2, 1, 48, 48, 48), (1, 1, 48, 64, 33)], ids=str)
def test_the_transformer_gan_equals_torch_s_own_modules(norm, shape):
    assert_equals_torch(new(dataclasses.replace(CVT, norm=norm)), tile(*shape))


# ---- sizes


@pytest.mark.parametrize(
    ("kind", "settings", "count"),
    [
        ("cgan3d", {"depth": 6, "width": 64, "norm": "batch", "residual": False}, 116_934_849),
        ("cgan3d", {"depth": 5, "width": 64}, 66_601_153),
        ("cgan3d", {"width": 64}, 24_656_065),
        ("cgan3d", {"depth": 6, "width": 16}, 7_311_921),
        ("cgan3d", {}, 6_167_649),
        ("cvtgan3d", {"width": 64, "norm": "batch"}, 28_288_801),
        ("cvtgan3d", {}, 7_130_513),
        ("cvtgan3d", {"width": 16}, 1_811_785),
        ("unet3d", {"width": 32}, 22_571_905),
        ("unet3d", {}, 5_643_201),
        ("unet3d", {"width": 8}, 1_410_913),
    ],
    ids=str,
)
def test_parameter_counts(kind, settings, count):
    with torch.device("meta"):
        network = build(kind, settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("edge", [64, 48, 32])
def test_the_default_conditional_gan_takes_patches_of_these_edges(edge):
    with torch.device("meta"):
        network = CGAN3D()
        assert network(torch.zeros(1, 1, edge, edge, edge))[0].shape == (1, 1, edge, edge, edge)


def test_the_levels_of_the_transformer_gan_and_the_keys_of_its_first_attention():
    sizes, keys = [], []
    with torch.device("meta"):
        network = CVTGAN3D()
        for stage in [*network.down, *network.up]:
            stage.register_forward_hook(lambda module, inputs, output: sizes.append(output[1][0]))
        network.down[0].blocks[0].attention.key.register_forward_hook(lambda m, i, y: keys.append(y.shape[1]))
        network(torch.zeros(1, 1, 64, 64, 64))
    assert sizes == [16, 8, 4, 8, 16] and keys == [512]


# ---- what each of them is to be


@each_kind
def test_a_tail_of_zeros_is_the_identity(kind):
    network, x = new(SMALL[kind]), tile(1, 1, *[EDGES[kind]] * 3)
    for parameter in network.tail.parameters():
        parameter.data.zero_()
    assert torch.equal(network.denoise(x), x)


@each_kind
def test_without_the_residual_the_output_is_the_estimate(kind):
    network = new(SMALL[kind])
    x = tile(1, 1, *[EDGES[kind]] * 3)
    added = network(x)[0]
    network.config = dataclasses.replace(network.config, residual=False)
    torch.testing.assert_close(network.denoise(x), added)


@each_kind
@pytest.mark.parametrize("edge", [3, 9])
def test_a_tile_gives_the_same_in_a_batch_and_alone(kind, edge):
    network = new(SMALL[kind]).eval()
    x = tile(3, 1, EDGES[kind], EDGES[kind] + edge, EDGES[kind]) * torch.tensor([0.1, 1, 30]).view(
        3, 1, 1, 1, 1
    )
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            together = network(x)[0]
            for b in range(3):
                assert relative_norm(network(x[b : b + 1])[0][0], together[b]) < 1e-9


def test_heads_of_attention_can_be_exchanged():
    network, x = new(CVT), tile(1, 1, 48, 48, 48)
    before = network(x)[0]
    attention = network.down[1].blocks[0].attention
    order = torch.arange(16).view(4, 4).flip(0).flatten()  # four heads of four channels
    with torch.no_grad():
        for projection in (attention.query, attention.key, attention.value):
            projection.map.weight.copy_(projection.map.weight[order].clone())
        changed = network(x)[0]
        attention.out.weight.copy_(attention.out.weight[:, order].clone())
    assert relative_norm(changed, before) > 1e-6
    assert relative_norm(network(x)[0], before) < 1e-12


def test_dropout_is_of_the_training_only():
    network, x = new(dataclasses.replace(CVT, dropout=0.5)), tile(1, 1, 48, 48, 48)
    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


@each_kind
def test_products_in_bfloat16_stay_near(kind):
    network, x = new(SMALL[kind]), tile(2, 1, *[EDGES[kind]] * 3)
    expected = network(x)[0]
    network = network.float()
    for dtype, tolerance in ((None, 1e-4), (torch.bfloat16, 0.1)):
        residual = network(x.float(), dtype)[0]
        gradients = torch.autograd.grad(residual.square().sum(), list(network.parameters()))
        assert residual.dtype == torch.float32 and 0 < relative_norm(residual, expected) < tolerance
        assert all(gradient.isfinite().all() for gradient in gradients)


# ---- normalization


@pytest.mark.parametrize("tokens", [True, False])
def test_running_statistics_are_torch_s(tokens):
    mine, theirs = Normalization(5, "batch").double(), nn.BatchNorm3d(5).double()
    for seed in range(3):
        x = tile(2, 5, 4, 3, 2, seed=seed)
        y = mine(x.flatten(2).mT).mT.view_as(x) if tokens else mine(x)
        torch.testing.assert_close(y, theirs(x))
    torch.testing.assert_close(mine.mean, theirs.running_mean)
    torch.testing.assert_close(mine.variance, theirs.running_var)
    mine.eval(), theirs.eval()
    torch.testing.assert_close(mine(x), theirs(x))
    assert mine(x[:1, :, :1, :1, :1]).isfinite().all()  # evaluation needs no second value


@pytest.mark.parametrize("kind", ["instance", "batch"])
@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 4, 1, 1, 1)], ids=str)
def test_one_value_is_not_normalized(kind, shape):
    with pytest.raises(ValueError, match="one value to normalize over: use larger tiles"):
        Normalization(4, kind)(torch.zeros(shape))
    assert not Normalization(4, "layer")(torch.zeros(shape)).any()


@pytest.mark.parametrize(
    ("kind", "settings", "refused", "taken"),
    [
        ("unet3d", {}, 16, 17),  # filled up to 32
        ("unet3d", {"pools": 3}, 8, 16),
        ("cvtgan3d", {}, 32, 33),
        ("cvtgan3d", {"norm": "batch"}, 32, 48),
    ],
    ids=str,
)
def test_a_patch_that_leaves_one_value_is_refused_before_the_training(
    kind, settings, refused, taken, tmp_path
):
    network = settings_of(kind, settings)
    with pytest.raises(InputError, match=f"patch = {refused}: .* one value to normalize over") as refusal:
        tiny_config(tmp_path, tmp_path, network=network, patch=refused)
    assert "\n" not in str(refusal.value)
    tiny_config(tmp_path, tmp_path, network=network, patch=taken)
    with pytest.raises(ValueError, match="one value to normalize over"):
        build(kind, network)(torch.zeros(1, 1, *[refused] * 3))
    build(kind, network)(torch.zeros(1, 1, *[taken] * 3))


def test_the_layer_norm_needs_no_second_value(tmp_path):
    tiny_config(tmp_path, tmp_path, network=settings_of("cvtgan3d", {"norm": "layer"}), patch=16)


def test_running_statistics_are_in_the_weight_file(tmp_path):
    network = new(dataclasses.replace(CGAN, norm="batch"), torch.float32)
    network(tile(2, 1, 16, 16, 16, dtype=torch.float32))
    save_model(tmp_path / "m.pt", network.eval(), 16)
    loaded = load_network(find_model(tmp_path / "m.pt"))[0].eval()
    x = tile(1, 1, 16, 16, 16, dtype=torch.float32)
    assert torch.equal(loaded(x)[0], network(x)[0])
    assert loaded.down[0].norm.mean.any()


# ---- latent features


@pytest.mark.parametrize("edge", [8, 12])
def test_latents_of_the_unet_are_torch_s_adaptive_pooling(edge):
    network, x = new(UNET), tile(2, 1, edge, edge, edge)
    lowest = []
    network.down[-1].register_forward_hook(lambda module, inputs, output: lowest.append((output, inputs[1])))
    with recorded_latents(network) as parts:
        network(x)
    ((tokens, space),) = lowest
    expected = F.adaptive_avg_pool3d(tokens.mT.unflatten(2, space), 2).flatten(1)
    torch.testing.assert_close(torch.cat(parts, 1), expected)


@pytest.mark.parametrize(
    ("kind", "settings", "size"),
    [
        ("unet3d", {"width": 4}, 4 * 16 * 8),
        ("drmc", {"channels": 48, "heads": 12, "blocks": 5}, 96),
        ("drmc", {"channels": 8, "heads": 2, "blocks": 1}, 8),
        ("udrmc", {}, 128),
        ("resunet", {}, 128),
        ("resunet", {"widths": [8], "units": [1]}, 0),
        ("cgan3d", {"width": 4}, 32),
        ("cvtgan3d", {"width": 4}, 32),
    ],
    ids=str,
)
def test_latent_sizes(kind, settings, size):
    network = build(kind, settings)
    assert latent_size(network, 48) == size and network.training


def test_gradients_of_latents_reach_what_computes_them_only():
    network = new(UNET)
    with recorded_latents(network) as parts:
        network(tile(1, 1, 8, 8, 8))
    gradients = torch.autograd.grad(parts[0].sum(), list(network.parameters()), allow_unused=True)
    reached = {
        name.split(".")[0]
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None
    }
    assert reached == {"head", "second", "down"}


# ---- settings


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("cgan3d", {"depth": 1}),
        ("cgan3d", {"norm": "group"}),
        ("cgan3d", {"residual": 1}),
        ("cvtgan3d", {"width": 5}),
        ("cvtgan3d", {"dropout": 1.0}),
        ("cvtgan3d", {"dropout": "0.2"}),
        ("cvtgan3d", {"final_activation": None}),
        ("unet3d", {"width": 0}),
        ("unet3d", {"pools": 2.5}),
    ],
    ids=str,
)
def test_senseless_settings_are_refused(kind, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        settings_of(kind, change)


@each_kind
def test_senseless_input_is_refused(kind):
    with pytest.raises(ValueError, match=r"3D takes \(B, 1, D, H, W"):
        new(SMALL[kind])(torch.zeros(1, 8, 8, 8))


def test_batch_statistics_and_dropout_need_the_step_in_one_batch(tmp_path):
    for network in (
        dataclasses.replace(CGAN, norm="batch"),
        dataclasses.replace(CVT, norm="layer", dropout=0.1),
    ):
        config = tiny_config(tmp_path, tmp_path, network=network, patch=16)
        with pytest.raises(InputError, match="slots_at_once = 1: must be 0 with batch statistics or dropout"):
            dataclasses.replace(config, slots_at_once=1)
        with pytest.raises(InputError, match="in one process, not 2"):
            make_strategy(config).check_processes(2)
        make_strategy(dataclasses.replace(config, strategy="fedavg")).check_processes(2)  # whole sites
