"""The DRMC network (Yang et al., MICCAI 2023, section 2): one denoiser for all centers by dynamic routing.

It is the authors' network to the parameter, evaluated in an algebraically equal form in which the experts of
a bank share their work: no query, key, value or single expert's output ever exists. Read it from the top.

Axes in the names of tensors:
    B tiles       D H W voxels along z, y, x      N = D H W voxels of a tile, n a chunk of them
    C channels    h heads of c = C / h channels   M experts of a bank, K the channels of all, side by side
    F hidden width of an FFN expert               R width of the router's hidden state
    L = 2 * blocks banks in router order: attention then FFN of block 0, attention then FFN of block 1, ...
Tokens are channels-last, x_BNC; a convolution sees a channels-last view, so nothing is transposed in memory.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

INPUT_SCALE = 20.0  # SUV per network unit
Experts = slice | list[int]  # which experts of a bank
Space = tuple[int, int, int]  # D, H, W
CACHE_VALUES = 2**19  # intermediate values of a chunk of voxels in an FFN bank on a CPU, measured
SLAB_VALUES = 2**21  # the same for a slab of planes in an attention bank
SMALL_IMAGE = 20480  # C * D * H of a single image up to which torch does not hand it to oneDNN


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a DRMC network; the defaults are the paper's, 539,487 parameters.

    gate: "relu" (the paper's), "softmax", "top2" (softmax over the two largest logits, the others closed) or
    "none" (no router, every expert open; with experts=1, blocks=15 the paper's generalist baseline).
    use_hidden: the router also sees the hidden state H of the previous router (False: the ablation "w/o H").
    router_init: "one_over_experts" starts the router's last bias at 1/M, so that no expert starts closed;
    "official" keeps torch's default, as the authors do.
    voxel_unshuffle: the head reads cubes of k x k x k voxels as channels and the tail writes them back (1: the
    paper's network). At k = 2 there is one token for 8 voxels, and every layer reaches twice as far.
    """

    channels: int = 64
    blocks: int = 5
    experts: int = 3
    heads: int = 16
    hidden: int = 16
    ffn_ratio: int = 2
    use_hidden: bool = True
    gate: str = "relu"
    router_init: str = "one_over_experts"
    voxel_unshuffle: int = 1

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "experts", "heads", "hidden", "ffn_ratio", "voxel_unshuffle"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, not {getattr(self, name)!r}")
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")
        if self.gate not in ("relu", "softmax", "top2", "none"):
            raise ValueError(f"gate must be relu, softmax, top2 or none, not {self.gate!r}")
        if self.router_init not in ("one_over_experts", "official"):
            raise ValueError(f"router_init must be one_over_experts or official, not {self.router_init!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Raises ValueError on a key that is no field."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"unknown network setting(s): {', '.join(unknown)}")
        return cls(**values)


def _weight(*shape: int, fan_in: int) -> nn.Parameter:
    """torch's default for convolutions and linear maps: uniform in +-1 / sqrt(fan_in)."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))


class Router(nn.Module):
    """Equation 1: gates = ReLU(MLP([GAP(X), H])); its hidden activation is the H of the next router."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.gate, self.use_hidden, self.experts = config.gate, config.use_hidden, config.experts
        if self.gate != "none":
            self.inner = nn.Linear(config.channels + config.hidden * config.use_hidden, config.hidden)
            self.outer = nn.Linear(config.hidden, config.experts)
            if config.router_init == "one_over_experts":
                nn.init.constant_(self.outer.bias, 1 / config.experts)

    def forward(self, mean_BC: Tensor, hidden_BR: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.gate == "none":
            return mean_BC.new_ones(len(mean_BC), self.experts), None
        hidden_BR = F.gelu(self.inner(torch.cat([mean_BC, hidden_BR], 1) if self.use_hidden else mean_BC))
        logits_BM = self.outer(hidden_BR)
        if self.gate == "relu":
            return F.relu(logits_BM), hidden_BR
        if self.gate == "softmax":
            return torch.softmax(logits_BM, 1), hidden_BR
        largest, index = logits_BM.topk(min(2, self.experts), 1)
        return torch.zeros_like(logits_BM).scatter(1, index, torch.softmax(largest, 1)), hidden_BR


class AttentionBank(nn.Module):
    """Equation 2 for attention experts: sum over m of gate_m P_m depthwise_m(softmax(t q k^T) v), in one go.

    q, k have unit norm over the voxels. With the Gram matrix G = X^T X of a tile, shared by all experts,
    q_i . k_j = (Wq G Wk^T)_ij and |q_i|^2 = (Wq G Wq^T)_ii; attention times v is a C x C map A Wv per expert.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        C, M, self.heads = config.channels, config.experts, config.heads
        self.qkv_M3CC = _weight(M, 3, C, C, fan_in=C)
        self.temperature_Mh = nn.Parameter(torch.ones(M, self.heads))
        self.depthwise_MC333 = _weight(M, C, 3, 3, 3, fan_in=27)
        self.project_MCC = _weight(M, C, C, fan_in=C)

    def maps(self, gram_BCC: Tensor, opened: Experts) -> Tensor:
        """A Wv of the opened experts, (B, M, C, C), from the Gram matrix alone."""
        Wq_MCC, Wk_MCC, Wv_MCC = self.qkv_M3CC[opened].unbind(1)
        M, C, h = len(Wq_MCC), gram_BCC.shape[1], self.heads
        qG_BMCC, kG_BMCC = Wq_MCC @ gram_BCC[:, None], Wk_MCC @ gram_BCC[:, None]
        square_q, square_k = (qG_BMCC * Wq_MCC).sum(-1), (kG_BMCC * Wk_MCC).sum(-1)
        norm_q = square_q.clamp_min(1e-24).sqrt().view(-1, M, h, C // h, 1)  # max(|q|, 1e-12)
        norm_k = square_k.clamp_min(1e-24).sqrt().view(-1, M, h, 1, C // h)
        scores_BMhcc = qG_BMCC.view(-1, M, h, C // h, C) @ Wk_MCC.view(M, h, C // h, C).transpose(2, 3)
        scores_BMhcc = scores_BMhcc / norm_q / norm_k * self.temperature_Mh[opened][:, :, None, None]
        return (torch.softmax(scores_BMhcc, -1) @ Wv_MCC.view(M, h, C // h, C)).view(-1, M, C, C)

    def forward(self, total_BNC, x_BNC, gates_BM, opened: Experts, space: Space, form: str) -> Tensor:
        """total + the bank's output for normalized tokens x of tiles of shape `space`; total is consumed."""
        C, low = x_BNC.shape[2], x_BNC.dtype
        exact_BNC = x_BNC.to(gates_BM.dtype)  # a product of bfloat16 would be rounded to it
        map_BKC = self.maps(exact_BNC.mT @ exact_BNC, opened).flatten(1, 2)
        depthwise_K27 = self.depthwise_MC333[opened].flatten(0, 1).flatten(1)
        out_BCK = (self.project_MCC[opened] * gates_BM[:, opened, None, None]).transpose(1, 2).flatten(2)
        dense, kernel_BCC333 = form == "dense", None
        if dense or torch.is_grad_enabled():  # the whole bank is one 3x3x3 convolution per tile
            kernel_BKC27 = map_BKC[..., None] * depthwise_K27[:, None]
            kernel_BCC333 = (out_BCK @ kernel_BKC27.flatten(2)).view(-1, C, C, 3, 3, 3).to(low)
        if dense:
            tiles = zip(x_BNC.split(1), kernel_BCC333, strict=True)
            return total_BNC + torch.cat([_convolve(x_1NC, kernel, space) for x_1NC, kernel in tiles])
        factors = map_BKC.to(low), depthwise_K27.view(-1, 1, 3, 3, 3).to(low), out_BCK.to(low)
        return _FactoredConvolution.apply(total_BNC, x_BNC, kernel_BCC333, *factors, space)


class FFNBank(nn.Module):
    """Equation 2 for FFN experts: sum over m of gate_m (W2_m gelu(W1_m x + b1_m) + b2_m), in one go."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        C, M, width = config.channels, config.experts, config.ffn_ratio * config.channels
        self.weight1_MFC, self.bias1_MF = _weight(M, width, C, fan_in=C), _weight(M, width, fan_in=C)
        self.weight2_MCF, self.bias2_MC = _weight(M, C, width, fan_in=width), _weight(M, C, fan_in=width)

    def forward(self, total_BNC, x_BNC, gates_BM, opened: Experts) -> Tensor:
        """total + the bank's output for the normalized tokens x; total is consumed."""
        gates_BM = gates_BM[:, opened]
        weight1_KC, bias1_K = self.weight1_MFC[opened].flatten(0, 1), self.bias1_MF[opened].flatten()
        weight2_BKC = (self.weight2_MCF[opened] * gates_BM[..., None, None]).transpose(2, 3).flatten(1, 2)
        weights = weight1_KC, bias1_K, weight2_BKC, gates_BM @ self.bias2_MC[opened]
        return _ChunkedFFN.apply(total_BNC, x_BNC, *(weight.to(x_BNC.dtype) for weight in weights))


class Block(nn.Module):
    """Dynamic routing block: x = attention(LN x) + beta x, then x = FFN(LN x) + gamma x; a router each."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.channels), nn.LayerNorm(config.channels)
        self.skip1_C, self.skip2_C = (nn.Parameter(torch.ones(config.channels)) for _ in range(2))
        self.attention, self.ffn = AttentionBank(config), FFNBank(config)
        self.router1, self.router2 = Router(config), Router(config)

    def _route(self, x_BNC, hidden_BR, spare_BNC, norm: nn.LayerNorm, skip_C: Tensor, router: Router):
        """LN x, skip x, gates, the experts to evaluate (in training all: DDP wants every parameter used), new H."""
        y_BNC, mean_BC, x_BNC = _normalize(x_BNC, norm, skip_C, spare_BNC)
        gates_BM, hidden_BR = router(mean_BC, hidden_BR)
        if self.training or torch.is_grad_enabled():
            return y_BNC, x_BNC, gates_BM, slice(None), hidden_BR
        return y_BNC, x_BNC, gates_BM, (gates_BM > 0).any(0).nonzero().flatten().tolist(), hidden_BR

    def forward(
        self, x_BNC: Tensor, hidden_BR: Tensor | None, space: Space, form: str, spare_BNC: Tensor | None
    ):
        """x and H after the block, and its gates; with a spare tensor like x (no gradients) both are written over."""
        route1, route2 = (self.norm1, self.skip1_C, self.router1), (self.norm2, self.skip2_C, self.router2)
        y_BNC, x_BNC, gates1_BM, opened, hidden_BR = self._route(x_BNC, hidden_BR, spare_BNC, *route1)
        if opened:
            x_BNC = self.attention(x_BNC, y_BNC, gates1_BM, opened, space, form)
        y_BNC, x_BNC, gates2_BM, opened, hidden_BR = self._route(x_BNC, hidden_BR, spare_BNC, *route2)
        if opened:
            x_BNC = self.ffn(x_BNC, y_BNC, gates2_BM, opened)
        return x_BNC, hidden_BR, [gates1_BM, gates2_BM]


class DRMC(nn.Module):
    """The whole network: 3x3x3 head, routing blocks, 3x3x3 tail; it predicts the residual.

    form: how attention banks are computed: "depthwise" (in factors), "dense" (a folded convolution per tile),
    or "auto", the faster, which is depthwise wherever it was measured. They differ by rounding only.
    """

    def __init__(self, config: NetworkConfig | None = None):
        super().__init__()
        self.config = config = config or NetworkConfig()
        self.form = "auto"
        cube = config.voxel_unshuffle**3
        self.head = nn.Conv3d(cube, config.channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.tail = nn.Conv3d(config.channels, cube, 3, padding=1)
        if config.use_hidden and config.gate != "none":
            self.hidden_R = nn.Parameter(torch.ones(config.hidden))

    def forward(self, x_BCDHW: Tensor, compute_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """What to add to each tile, and which experts did it; every tile's result depends on that tile alone.

        x_BCDHW: (B, 1, D, H, W) in network units, SUV / 20, never clipped; any D, H, W >= 1.
        compute_dtype: type of the products over voxels, e.g. torch.bfloat16; None: that of the parameters,
            which statistics, Gram algebra, routers, head and tail always have.
        Returns the residual (B, 1, D, H, W) in network units and the gates (B, L, M), both in that type.
        Evaluation without gradients skips closed experts. Raises ValueError on another shape or form.
        """
        if x_BCDHW.ndim != 5 or x_BCDHW.shape[1] != 1 or 0 in x_BCDHW.shape:
            raise ValueError(f"DRMC takes (B, 1, D, H, W), got {tuple(x_BCDHW.shape)}")
        if self.form not in ("auto", "depthwise", "dense"):
            raise ValueError(f"DRMC.form must be auto, depthwise or dense, not {self.form!r}")
        exact, k, gates = self.head.weight.dtype, self.config.voxel_unshuffle, []
        cubes_BCDHW = unshuffle(x_BCDHW.to(exact), k)
        space = cubes_BCDHW.shape[2:]
        x_BNC = _convolve_in_slabs(cubes_BCDHW.flatten(2).transpose(1, 2), self.head, space)
        x_BNC = x_BNC.to(compute_dtype or exact).contiguous()
        # New memory is dear on a CPU: the system hands it out page by page, each filled with zeros.
        reuse = x_BNC.device.type == "cpu" and not torch.is_grad_enabled()
        spare_BNC = torch.empty_like(x_BNC) if reuse else None
        hidden_BR = self.hidden_R.expand(len(x_BNC), -1) if hasattr(self, "hidden_R") else None
        for block in self.blocks:
            x_BNC, hidden_BR, block_gates = block(x_BNC, hidden_BR, space, self.form, spare_BNC)
            gates += block_gates
        residual_BNC = _convolve_in_slabs(x_BNC.to(exact), self.tail, space)
        return _shuffle(residual_BNC, space, k, x_BCDHW.shape), torch.stack(gates, 1)

    def denoise(self, x_BCDHW: Tensor, compute_dtype: torch.dtype | None = None) -> Tensor:
        """x + residual, (B, 1, D, H, W) in network units."""
        return x_BCDHW + self(x_BCDHW, compute_dtype)[0]

    def authors_state_dict(self) -> dict[str, Tensor]:
        """The parameters under the authors' names, in their shapes, sharing memory; by default 195."""
        return dict(_authors_views(self))

    @classmethod
    def from_authors_checkpoint(cls, source: str | os.PathLike | Mapping, gate: str = "relu") -> DRMC:
        """The network of a checkpoint of the authors' code, given by path or as a state_dict, of any size.

        gate: the routers' activation, which a checkpoint does not tell. A "module." prefix (DataParallel) is
        dropped. Raises ValueError where it does not hold exactly their keys and shapes.
        """
        if not isinstance(source, Mapping):
            try:
                source = torch.load(source, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
                raise ValueError(f"{source}: no weight file that PyTorch reads safely: {error}") from error
        if not isinstance(source, Mapping) or not all(isinstance(value, Tensor) for value in source.values()):
            raise ValueError("a checkpoint of the authors' network must be a flat dictionary of tensors")
        state = {key.removeprefix("module."): value for key, value in source.items()}
        network = cls(_authors_config(state, gate))
        views = network.authors_state_dict()
        for key in [*views, *state]:
            found, expected = (tuple(d[key].shape) if key in d else "absent" for d in (state, views))
            if found != expected:
                raise ValueError(f"authors' checkpoint: {key} has shape {found}, expected {expected}")
            views[key].copy_(state[key])
        return network


# ----------------------------------------------------------------------------------- the authors' checkpoints
_AUTHORS_NAMES = {  # ours to theirs, applied to each parameter's name; {m} numbers the expert, which we stack
    "hidden_R": "hidden", "head.": "head_conv.", "tail.": "tail_conv.", "blocks.": "body.",
    "skip1_C": "beta", "skip2_C": "gamma", "norm1.": "norm1.norm.", "norm2.": "norm2.norm.",
    "router1.": "attention.routing.", "router2.": "mlp.routing.", "inner.": "conv1.", "outer.": "conv3.",
    "qkv_M3CC": "att_experts.{m}.qkv.weight", "temperature_Mh": "att_experts.{m}.temperature",
    "depthwise_MC333": "att_experts.{m}.dwconv.weight", "project_MCC": "att_experts.{m}.project_out.weight",
    "ffn.weight1_MFC": "mlp.mpl_experts.{m}.fc1.weight", "ffn.bias1_MF": "mlp.mpl_experts.{m}.fc1.bias",
    "ffn.weight2_MCF": "mlp.mpl_experts.{m}.fc2.weight", "ffn.bias2_MC": "mlp.mpl_experts.{m}.fc2.bias",
}  # fmt: skip


def _authors_views(network: DRMC) -> Iterator[tuple[str, Tensor]]:
    """(their key, detached view of our parameter in their shape)."""
    for name, value in network.named_parameters():
        for ours, theirs in _AUTHORS_NAMES.items():
            name = name.replace(ours, theirs)
        for m, part in enumerate(value.detach() if "{m}" in name else [value.detach()]):
            if name.endswith(("hidden", "beta", "gamma")):
                part = part.view(1, -1, 1, 1, 1)
            elif name.endswith("temperature"):
                part = part.view(-1, 1, 1)
            elif "dwconv" in name:
                part = part[:, None]
            elif part.ndim in (2, 3):  # a linear map is a 1x1x1 convolution there; q, k, v in turn
                part = part.reshape(-1, part.shape[-1], 1, 1, 1)
            yield name.format(m=m), part


def _authors_config(state: Mapping[str, Tensor], gate: str) -> NetworkConfig:
    """Reads the size off the keys and shapes; ValueError where a key that tells it is absent or absurd."""
    size = lambda key: len(state[key]) if state[key].ndim else 0
    expert = "body.0.attention.att_experts.{}.temperature".format
    try:
        return NetworkConfig(
            channels=(channels := size("head_conv.weight")),
            blocks=len({key.split(".")[1] for key in state if key.startswith("body.")}),
            experts=sum(expert(m) in state for m in range(len(state))),
            heads=size(expert(0)),
            hidden=size("body.0.attention.routing.conv1.weight"),
            ffn_ratio=size("body.0.mlp.mpl_experts.0.fc1.weight") // max(1, channels),
            use_hidden="hidden" in state,
            gate=gate,
            voxel_unshuffle=round(len(state["tail_conv.bias"]) ** (1 / 3)),
        )
    except KeyError as error:
        raise ValueError(f"not a checkpoint of the authors' network: no {error}") from error


# ------------------------------------------------------------------------------------ work over the voxels
def unshuffle(x_BCDHW: Tensor, k: int) -> Tensor:
    """(B, 1, D, H, W) -> (B, k^3, D / k, H / k, W / k): channel (i k + j) k + l holds voxels (k d + i, k h + j, k w + l).

    Sizes that are no multiples of k are filled up with zeros behind, as a convolution's padding is.
    """
    if k == 1:
        return x_BCDHW
    D, H, W = x_BCDHW.shape[2:]
    x_BCDHW = F.pad(x_BCDHW, (0, -W % k, 0, -H % k, 0, -D % k))
    x_BDkHkWk = x_BCDHW.view(-1, *(n for size in x_BCDHW.shape[2:] for n in (size // k, k)))
    return x_BDkHkWk.permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 3)


def _shuffle(x_BNC: Tensor, space: Space, k: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `unshuffle` for tokens (B, N, k^3), cropped to `shape` (B, 1, D, H, W)."""
    if k == 1:
        return x_BNC.view(shape)
    x_BDHWkkk = x_BNC.view(-1, *space, k, k, k)
    x_B1DHW = x_BDHWkkk.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, 1, *(k * n for n in space))
    return x_B1DHW[..., : shape[2], : shape[3], : shape[4]]


def _normalize(x_BNC, norm: nn.LayerNorm, skip_C, spare_BNC) -> tuple[Tensor, Tensor, Tensor]:
    """LN x, its mean over the voxels (B, C), and skip x; with a spare tensor LN x is written there, skip x over x."""
    exact = norm.weight.dtype
    weight, bias, skip_C = (p.to(x_BNC.dtype) for p in (norm.weight, norm.bias, skip_C))
    if spare_BNC is None:
        y_BNC = F.layer_norm(x_BNC, norm.normalized_shape, weight, bias, norm.eps)
        return y_BNC, y_BNC.sum(1, dtype=exact) / y_BNC.shape[1], x_BNC * skip_C
    sum_BC = x_BNC.new_zeros(len(x_BNC), x_BNC.shape[2], dtype=exact)
    for b, n in _chunks(x_BNC, x_BNC.shape[2]):
        y_nC = F.layer_norm(x_BNC[b, n], norm.normalized_shape, weight, bias, norm.eps)
        sum_BC[b] += y_nC.sum(0, dtype=exact)
        spare_BNC[b, n] = y_nC
        x_BNC[b, n] *= skip_C
    return spare_BNC, sum_BC / x_BNC.shape[1], x_BNC


def _convolve(x_BNC, kernel: Tensor, space: Space, groups: int = 1, bias: Tensor | None = None) -> Tensor:
    """3x3x3 convolution of channels-last tokens, zero-padded; kernel (out, in / groups, 3, 3, 3)."""
    x_BCDHW = x_BNC.view(len(x_BNC), *space, -1).permute(0, 4, 1, 2, 3)
    return F.conv3d(x_BCDHW, kernel, bias, padding=1, groups=groups).permute(0, 2, 3, 4, 1).flatten(1, 3)


def _convolve_in_slabs(x_BNC, layer: nn.Conv3d, space: Space) -> Tensor:
    """What `_convolve` gives; on a CPU without gradients in slabs of planes to save memory."""
    if torch.is_grad_enabled() or x_BNC.device.type != "cpu":
        return _convolve(x_BNC, layer.weight, space, bias=layer.bias)
    result_BNC = x_BNC.new_empty(*x_BNC.shape[:2], layer.out_channels)
    for b, slab, wider, inside, planes in _slabs(x_BNC, space, max(layer.in_channels, layer.out_channels)):
        part_1NC = _convolve(x_BNC[b : b + 1, wider], layer.weight, (planes, *space[1:]), bias=layer.bias)
        result_BNC[b, slab] = part_1NC[0, inside]
    return result_BNC


class _FactoredConvolution(torch.autograd.Function):
    """total + 3x3x3 convolution of each tile by its kernel = sum over k of out[:, k] depthwise[k] map[k, :].

    The factors apply it, forward and backward; the kernel takes the gradient, which its own graph hands on to
    the factors. On a CPU that is several times quicker than torch's backward of a depth-wise convolution.
    """

    @staticmethod
    def forward(ctx, total_BNC, x_BNC, kernel_BCC333, map_BKC, depthwise_K1333, out_BCK, space):
        ctx.save_for_backward(x_BNC, map_BKC, depthwise_K1333, out_BCK)
        ctx.space = space
        ctx.mark_dirty(total_BNC)
        _add_factored(total_BNC, x_BNC, map_BKC, depthwise_K1333, out_BCK, space)
        return total_BNC

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BNC):
        x_BNC, map_BKC, depthwise_K1333, out_BCK = ctx.saved_tensors
        grad_BNC, grad_x_BNC = grad_BNC.contiguous(), torch.zeros_like(x_BNC)
        flipped_K1333 = depthwise_K1333.flip(2, 3, 4)
        _add_factored(grad_x_BNC, grad_BNC, out_BCK.mT, flipped_K1333, map_BKC.mT, ctx.space)
        grads = [_kernel_gradient(*pair, ctx.space) for pair in zip(x_BNC, grad_BNC, strict=True)]
        return grad_BNC, grad_x_BNC, torch.stack(grads), None, None, None, None


def _kernel_gradient(x_NC, grad_NC, space) -> Tensor:
    """Gradient of a dense 3x3x3 kernel, (C, C, 3, 3, 3), from the tokens of one tile and the output's gradient.

    A small tile goes as a batch of two slabs of planes: a single small image torch keeps from oneDNN, for a way
    that takes up to sixteen times as long.
    """
    (depth, H, W), C = space, x_NC.shape[1]
    if C * depth * H > SMALL_IMAGE or x_NC.device.type != "cpu":
        x, grad = (tokens.view(1, *space, C).permute(0, 4, 1, 2, 3) for tokens in (x_NC, grad_NC))
        return torch.nn.grad.conv3d_weight(x, (C, C, 3, 3, 3), grad, padding=1)
    half, odd = (depth + 1) // 2, depth % 2  # an odd depth gets a plane of zeros
    padded = F.pad(x_NC.reshape(depth, -1), (0, 0, 1, 1 + odd))
    x_2DHWC = torch.stack([padded[: half + 2], padded[half:]]).view(2, half + 2, H, W, C)
    grad_2DHWC = F.pad(grad_NC.reshape(depth, -1), (0, 0, 0, odd)).view(2, half, H, W, C)
    x_2CDHW, grad_2CDHW = (tokens.permute(0, 4, 1, 2, 3) for tokens in (x_2DHWC, grad_2DHWC))
    return torch.nn.grad.conv3d_weight(x_2CDHW, (C, C, 3, 3, 3), grad_2CDHW, padding=(0, 1, 1))


def _add_factored(total_BNC, x_BNC, map_BKC, depthwise_K1333, out_BCK, space) -> None:
    """total += out depthwise(map x), in slabs of planes to save memory; expert by expert where slabs would be thin."""
    K, C, on_cpu = len(depthwise_K1333), x_BNC.shape[2], x_BNC.device.type == "cpu"
    width = C if on_cpu and 8 * space[1] * space[2] * K > SLAB_VALUES else K
    for k in (slice(first, first + width) for first in range(0, K, width)):
        for b, slab, wider, inside, planes in _slabs(x_BNC, space, width):
            v_1NK = (x_BNC[b, wider] @ map_BKC[b, k].T)[None]
            v_1NK = _convolve(v_1NK, depthwise_K1333[k], (planes, *space[1:]), groups=width)
            total_BNC[b, slab].addmm_(v_1NK[0, inside], out_BCK[b, :, k].T)


def _slabs(x_BNC: Tensor, space: Space, width: int) -> Iterator[tuple[int, slice, slice, slice, int]]:
    """(tile, voxels of a slab, these with the planes beside it, where it lies in them, how many planes they are).

    On a CPU a slab has so few planes that `width` values for each voxel take little memory, elsewhere all.
    """
    depth, plane = space[0], space[1] * space[2]
    step = max(4, SLAB_VALUES // (plane * width)) if x_BNC.device.type == "cpu" else depth
    for b, z in ((b, z) for b in range(len(x_BNC)) for z in range(0, depth, step)):
        first, end, last = max(0, z - 1), min(depth, z + step), min(depth, z + step + 1)
        bounds = (z, end), (first, last), (z - first, end - first)
        yield b, *(slice(low * plane, high * plane) for low, high in bounds), last - first


def _chunks(x_BNC: Tensor, width: int) -> list[tuple[int, slice]]:
    """(tile, voxels) in turn; on a CPU so few voxels that `width` values for each stay in its cache."""
    size = max(1, (CACHE_VALUES if x_BNC.device.type == "cpu" else 2**27) // width)
    return [(b, slice(n, n + size)) for b in range(len(x_BNC)) for n in range(0, x_BNC.shape[1], size)]


class _ChunkedFFN(torch.autograd.Function):
    """total + gelu(x W1^T + b1) W2 + b2 in chunks that stay in cache; the backward keeps x and recomputes."""

    @staticmethod
    def forward(ctx, total_BNC, x_BNC, weight1_KC, bias1_K, weight2_BKC, bias2_BC):
        ctx.save_for_backward(x_BNC, weight1_KC, bias1_K, weight2_BKC)
        ctx.mark_dirty(total_BNC)
        for b, n in _chunks(x_BNC, len(bias1_K)):
            hidden_nK = F.gelu(torch.addmm(bias1_K, x_BNC[b, n], weight1_KC.T))
            total_BNC[b, n].add_(bias2_BC[b]).addmm_(hidden_nK, weight2_BKC[b])
        return total_BNC

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BNC):
        x_BNC, weight1_KC, bias1_K, weight2_BKC = saved = ctx.saved_tensors
        exact, grad_x_BNC = torch.promote_types(x_BNC.dtype, torch.float32), torch.empty_like(x_BNC)
        grad1_KC, grad_bias1_K, grad2_BKC = (torch.zeros_like(weight, dtype=exact) for weight in saved[1:])
        for b, n in _chunks(x_BNC, len(bias1_K)):
            x_nC, grad_nC = x_BNC[b, n], grad_BNC[b, n]
            hidden_nK = torch.addmm(bias1_K, x_nC, weight1_KC.T)
            grad2_BKC[b] += F.gelu(hidden_nK).T @ grad_nC
            grad_nK = torch.ops.aten.gelu_backward(grad_nC @ weight2_BKC[b].T, hidden_nK)
            grad1_KC += grad_nK.T @ x_nC
            grad_bias1_K += grad_nK.sum(0)
            torch.mm(grad_nK, weight1_KC, out=grad_x_BNC[b, n])
        return grad_BNC, grad_x_BNC, grad1_KC, grad_bias1_K, grad2_BKC, grad_BNC.sum(1)
