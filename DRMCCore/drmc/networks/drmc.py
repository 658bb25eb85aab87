"""The DRMC network (Yang et al., MICCAI 2023, section 2): one denoiser for all centers by dynamic routing.

It has exactly the parameters of the authors' network, evaluated in an algebraically equal form in which the
experts of a bank share their work: queries, keys, values and per-expert outputs are never materialized. Read
it from the top.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.authors import authors_config, authors_views
from drmc.networks.protocol import ResidualNetwork, Settings
from drmc.networks.tokens import ChunkedFFN, FactoredConvolution, Space, convolve, gram, normalize, spare_like

FEW_TOKENS = 24  # times C: up to this many tokens a bank's factors train faster than its folded kernel
Experts = slice | list[int]  # which experts of a bank


ROUTER_CHOICES = {
    "gate": ("relu", "softmax", "top2", "none"),
    "router_init": ("one_over_experts", "official"),
}


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The settings of a DRMC network; the defaults are the paper's, with 539,487 parameters.

    Attributes:
        channels: channels of a token.
        blocks: routing blocks, each with an attention bank and an FFN bank.
        experts: experts of each bank.
        heads: attention heads of an expert.
        hidden: width of a router's hidden state.
        ffn_ratio: hidden width of an FFN expert as a multiple of the channels.
        use_hidden: whether a router also sees the hidden state H of the previous one (False: the ablation
            "w/o H").
        gate: "relu" (the paper's), "softmax", "top2" (softmax over the two largest logits, the others closed)
            or "none" (no router, every expert open; with experts=1, blocks=15 the paper's generalist
            baseline).
        router_init: "one_over_experts" starts a router's last bias at 1/M, so that no expert starts closed;
            "official" keeps PyTorch's default, as the authors do.
        voxel_unshuffle: k; the head reads cubes of k x k x k voxels as channels and the tail writes them back
            (1: the paper's network). With k = 2 a token stands for 8 voxels, and every layer reaches twice as
            far.
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

    kind = "drmc"

    def __post_init__(self) -> None:
        counts = "channels", "blocks", "experts", "heads", "hidden", "ffn_ratio", "voxel_unshuffle"
        self._check(counts, ROUTER_CHOICES)
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")

    @property
    def gates_shape(self) -> tuple[int, int]:
        """(L, M), two banks per block."""
        return 2 * self.blocks, self.experts

    @property
    def features_per_voxel(self) -> float:
        """The channels of a token over the voxels that it stands for."""
        return self.channels / self.voxel_unshuffle**3


def _weight(*shape: int, fan_in: int) -> nn.Parameter:
    """A parameter with PyTorch's default for convolutions and linear maps: uniform in +-1 / sqrt(fan_in)."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))


class ReopeningReLU(torch.autograd.Function):
    """ReLU whose gradient also opens what is closed: below 0 it passes where it would raise the value.

    ReLU's gradient is 0 there, so that an expert whose gate was closed for all patches once stays closed.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """As ReLU."""
        ctx.save_for_backward(logits)
        return logits.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient where the gate is open, or would be by its descent."""
        (logits,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * ((logits > 0) | (gradient < 0))


class Router(nn.Module):
    """Equation 1: gates = ReLU(MLP([GAP(X), H])); its hidden activation is the H of the next router.

    `reopens`: whether training may open closed gates again, see `ReopeningReLU`. It changes no value.
    """

    reopens = False

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.gate, self.use_hidden, self.experts = config.gate, config.use_hidden, config.experts
        if self.gate != "none":
            self.inner = nn.Linear(config.channels + config.hidden * config.use_hidden, config.hidden)
            self.outer = nn.Linear(config.hidden, config.experts)
            if config.router_init == "one_over_experts":
                nn.init.constant_(self.outer.bias, 1 / config.experts)

    def forward(self, mean_BC: Tensor, hidden_BR: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Gates (B, M) and hidden state (B, R) from the mean token and the previous router's hidden state."""
        if self.gate == "none":
            return mean_BC.new_ones(len(mean_BC), self.experts), None
        seen = [mean_BC] if hidden_BR is None or not self.use_hidden else [mean_BC, hidden_BR]
        hidden_BR = F.gelu(self.inner(torch.cat(seen, 1)))
        logits_BM = self.outer(hidden_BR)
        if self.gate == "relu":
            relu = ReopeningReLU.apply if self.reopens else F.relu
            return relu(logits_BM), hidden_BR
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
        """The maps A Wv of the open experts, (B, M, C, C), from the Gram matrix alone.

        Scores are computed in the dtype of the Gram matrix.
        """
        Wq_MCC, Wk_MCC, Wv_MCC = self.qkv_M3CC[opened].unbind(1)
        Wq_MCC, Wk_MCC = Wq_MCC.to(gram_BCC.dtype), Wk_MCC.to(gram_BCC.dtype)
        M, C, h = len(Wq_MCC), gram_BCC.shape[1], self.heads
        qG_BMCC, kG_BMCC = Wq_MCC @ gram_BCC[:, None], Wk_MCC @ gram_BCC[:, None]
        square_q, square_k = (qG_BMCC * Wq_MCC).sum(-1), (kG_BMCC * Wk_MCC).sum(-1)
        norm_q = square_q.clamp_min(1e-24).sqrt().view(-1, M, h, C // h, 1)  # max(|q|, 1e-12)
        norm_k = square_k.clamp_min(1e-24).sqrt().view(-1, M, h, 1, C // h)
        scores_BMhcc = qG_BMCC.view(-1, M, h, C // h, C) @ Wk_MCC.view(M, h, C // h, C).transpose(2, 3)
        scores_BMhcc = (scores_BMhcc / norm_q / norm_k).to(Wv_MCC.dtype)
        scores_BMhcc = scores_BMhcc * self.temperature_Mh[opened][:, :, None, None]
        return (torch.softmax(scores_BMhcc, -1) @ Wv_MCC.view(M, h, C // h, C)).view(-1, M, C, C)

    def forward(
        self,
        total_BNC: Tensor,
        x_BNC: Tensor,
        gates_BM: Tensor,
        opened: Experts,
        space: Space,
        form: str,
    ) -> Tensor:
        """Adds the output for normalized tokens x on a grid `space` to total, which may be overwritten."""
        C, low = x_BNC.shape[2], x_BNC.dtype
        exact_BNC = x_BNC.to(gates_BM.dtype)  # a product of bfloat16 would be rounded to it
        map_BKC = self.maps(gram(exact_BNC), opened).flatten(1, 2)
        depthwise_K27 = self.depthwise_MC333[opened].flatten(0, 1).flatten(1)
        out_BCK = (self.project_MCC[opened] * gates_BM[:, opened, None, None]).transpose(1, 2).flatten(2)
        if form == "dense":
            kernels = _folded(map_BKC, depthwise_K27, out_BCK).to(low)
            tiles = zip(x_BNC.split(1), kernels, strict=True)
            return total_BNC + torch.cat([convolve(x_1NC, kernel, space) for x_1NC, kernel in tiles])
        by_kernel = torch.is_grad_enabled() and x_BNC.shape[1] > FEW_TOKENS * C
        kernel_BCC333 = _folded(map_BKC, depthwise_K27, out_BCK).to(low) if by_kernel else None
        factors = map_BKC.to(low), depthwise_K27.view(-1, 1, 3, 3, 3).to(low), out_BCK.to(low)
        return FactoredConvolution.apply(total_BNC, x_BNC, kernel_BCC333, *factors, space)


def _folded(map_BKC: Tensor, depthwise_K27: Tensor, out_BCK: Tensor) -> Tensor:
    """A whole attention bank as one 3x3x3 convolution per tile, (B, C, C, 3, 3, 3)."""
    C = map_BKC.shape[2]
    kernel_BKC27 = map_BKC[..., None] * depthwise_K27[:, None]
    return (out_BCK @ kernel_BKC27.flatten(2)).view(-1, C, C, 3, 3, 3)


class FFNBank(nn.Module):
    """Equation 2 for FFN experts: sum over m of gate_m (W2_m gelu(W1_m x + b1_m) + b2_m), in one go."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        C, M, width = config.channels, config.experts, config.ffn_ratio * config.channels
        self.weight1_MFC, self.bias1_MF = _weight(M, width, C, fan_in=C), _weight(M, width, fan_in=C)
        self.weight2_MCF, self.bias2_MC = _weight(M, C, width, fan_in=width), _weight(M, C, fan_in=width)

    def forward(self, total_BNC: Tensor, x_BNC: Tensor, gates_BM: Tensor, opened: Experts) -> Tensor:
        """Adds the output for normalized tokens x to total, which is overwritten."""
        gates_BM = gates_BM[:, opened]
        weight1_KC, bias1_K = self.weight1_MFC[opened].flatten(0, 1), self.bias1_MF[opened].flatten()
        weight2_BKC = (self.weight2_MCF[opened] * gates_BM[..., None, None]).transpose(2, 3).flatten(1, 2)
        weights = weight1_KC, bias1_K, weight2_BKC, gates_BM @ self.bias2_MC[opened]
        return ChunkedFFN.apply(total_BNC, x_BNC, *(weight.to(x_BNC.dtype) for weight in weights))


class Block(nn.Module):
    """Dynamic routing block: x = attention(LN x) + beta x, then x = FFN(LN x) + gamma x; a router each."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.channels), nn.LayerNorm(config.channels)
        self.skip1_C, self.skip2_C = (nn.Parameter(torch.ones(config.channels)) for _ in range(2))
        self.attention, self.ffn = AttentionBank(config), FFNBank(config)
        self.router1, self.router2 = Router(config), Router(config)

    def _route(
        self,
        x_BNC: Tensor,
        hidden_BR: Tensor | None,
        spare_BNC: Tensor | None,
        norm: nn.LayerNorm,
        skip_C: Tensor,
        router: Router,
    ) -> tuple[Tensor, Tensor, Tensor, Experts, Tensor | None]:
        """LN x, skip x, gates, the experts to evaluate, new H.

        In training all experts are evaluated, so that every parameter has a gradient in every process.
        """
        y_BNC, mean_BC, x_BNC = normalize(x_BNC, norm, skip_C, spare_BNC)
        gates_BM, hidden_BR = router(mean_BC, hidden_BR)
        if self.training or torch.is_grad_enabled():
            return y_BNC, x_BNC, gates_BM, slice(None), hidden_BR
        return y_BNC, x_BNC, gates_BM, (gates_BM > 0).any(0).nonzero().flatten().tolist(), hidden_BR

    def forward(
        self, x_BNC: Tensor, hidden_BR: Tensor | None, space: Space, form: str, spare_BNC: Tensor | None
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Tokens and H after the block, and its gates.

        A spare tensor like x, only without gradients, is overwritten, and x is too.
        """
        route1, route2 = (self.norm1, self.skip1_C, self.router1), (self.norm2, self.skip2_C, self.router2)
        y_BNC, x_BNC, gates1_BM, opened, hidden_BR = self._route(x_BNC, hidden_BR, spare_BNC, *route1)
        if opened:
            x_BNC = self.attention(x_BNC, y_BNC, gates1_BM, opened, space, form)
        y_BNC, x_BNC, gates2_BM, opened, hidden_BR = self._route(x_BNC, hidden_BR, spare_BNC, *route2)
        if opened:
            x_BNC = self.ffn(x_BNC, y_BNC, gates2_BM, opened)
        return x_BNC, hidden_BR, [gates1_BM, gates2_BM]


class RoutedNetwork(ResidualNetwork):
    """A network of routing blocks in the order in which they are computed; H passes through all routers.

    Attributes:
        form: how attention banks are computed: "depthwise" (in factors), "dense" (a folded convolution per
            tile), or "auto", the faster one, which is depthwise wherever it was measured. They differ by
            rounding only.
    """

    def __init__(self, config: Settings, blocks: Sequence[NetworkConfig]):
        super().__init__()
        self.config, self.form = config, "auto"
        first, cube = blocks[0], config.voxel_unshuffle**3
        self.head = nn.Conv3d(cube, first.channels, 3, padding=1)
        self.blocks = nn.ModuleList(map(Block, blocks))
        self.tail = nn.Conv3d(first.channels, cube, 3, padding=1)
        if first.use_hidden and first.gate != "none":
            self.hidden_R = nn.Parameter(torch.ones(first.hidden))

    def start(self, x_BNC: Tensor) -> Tensor | None:
        """The H of the first router, (B, R), None for routers without H.

        Raises:
            ValueError: `form` is unknown.
        """
        if self.form not in ("auto", "depthwise", "dense"):
            raise ValueError(
                f"{type(self).__name__}.form must be auto, depthwise or dense, not {self.form!r}"
            )
        return self.hidden_R.expand(len(x_BNC), -1) if hasattr(self, "hidden_R") else None


class DRMC(RoutedNetwork):
    """The paper's network: all routing blocks at one resolution."""

    def __init__(self, config: NetworkConfig | None = None):
        config = config or NetworkConfig()
        super().__init__(config, [config] * config.blocks)

    @property
    def latent_layers(self) -> list[nn.Module]:
        """The middle block and the last one."""
        count = len(self.blocks)
        return [self.blocks[number] for number in sorted({(count - 1) // 2, count - 1})]

    @property
    def decoder(self) -> list[nn.Module]:
        """The last two blocks and the tail."""
        return [*self.blocks[-2:], self.tail]

    def body(self, x_BNC: Tensor, space: Space) -> tuple[Tensor, list[Tensor]]:
        """The blocks in turn."""
        gates, hidden_BR, spare_BNC = [], self.start(x_BNC), spare_like(x_BNC)
        for block in self.blocks:
            x_BNC, hidden_BR, block_gates = block(x_BNC, hidden_BR, space, self.form, spare_BNC)
            gates += block_gates
        return x_BNC, gates

    def authors_state_dict(self) -> dict[str, Tensor]:
        """The parameters under the authors' names, in their shapes, sharing memory; by default 195."""
        return dict(authors_views(self))

    @classmethod
    def from_authors_checkpoint(cls, source: str | os.PathLike | Mapping, gate: str = "relu") -> DRMC:
        """The network of a checkpoint of the authors' code, of any size.

        Args:
            source: path of the checkpoint, or its state_dict. A prefix "module." (DataParallel) is removed.
            gate: the routers' activation, which a checkpoint does not contain.

        Raises:
            ValueError: the file cannot be read as weights, or does not have exactly their keys and shapes.
        """
        if not isinstance(source, Mapping):
            try:
                source = torch.load(source, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
                raise ValueError(f"{source}: no weight file that PyTorch reads safely: {error}") from error
        if not isinstance(source, Mapping) or not all(isinstance(value, Tensor) for value in source.values()):
            raise ValueError("a checkpoint of the authors' network must be a flat dictionary of tensors")
        state = {key.removeprefix("module."): value for key, value in source.items()}
        network = cls(NetworkConfig.from_dict({**authors_config(state), "gate": gate}))
        views = network.authors_state_dict()
        for key in [*views, *state]:
            found, expected = (tuple(d[key].shape) if key in d else "absent" for d in (state, views))
            if found != expected:
                raise ValueError(f"authors' checkpoint: {key} has shape {found}, expected {expected}")
            views[key].copy_(state[key])
        return network
