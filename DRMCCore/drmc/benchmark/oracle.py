"""The network written literally from equations 1 and 2 of the paper: the reference of the engine.

Tests compare outputs and gradients with it, `drmc benchmark` the time and the memory that the engine saves.
Slow and memory-hungry on purpose. Modules carry the names and shapes of the authors' code, so that
`state_dict()` has exactly the keys of one of their checkpoints. Only the meaning of the settings is shared
with `drmc.networks.drmc`. Features are (B, C, D, H, W), gates (B, M, 1, 1, 1), hidden activations
(B, R, 1, 1, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from drmc.networks.drmc import NetworkConfig


class Routing(nn.Module):
    """Equation 1: W = ReLU(MLP([GAP(X), H])); the hidden activation is the next router's H."""

    def __init__(self, channels: int, hidden: int, experts: int, gate: str, use_hidden: bool):
        super().__init__()
        self.gate, self.use_hidden = gate, use_hidden
        self.conv1 = nn.Conv3d(channels + (hidden if use_hidden else 0), hidden, 1)
        self.conv3 = nn.Conv3d(hidden, experts, 1)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gates of the experts and the hidden activation."""
        pooled = F.adaptive_avg_pool3d(x, 1)
        if self.use_hidden:
            if hidden is None:
                raise ValueError("this router needs the hidden activation of the router before it")
            pooled = torch.cat([pooled, hidden], dim=1)
        hidden = F.gelu(self.conv1(pooled))
        logits = self.conv3(hidden)
        if self.gate == "relu":
            return torch.relu(logits), hidden
        if self.gate == "top2" and logits.shape[1] > 2:
            second_largest = logits.sort(dim=1, descending=True).values[:, 1:2]
            logits = torch.where(logits >= second_largest, logits, -torch.inf)
        powers = torch.exp(logits - logits.amax(dim=1, keepdim=True))
        return powers / powers.sum(dim=1, keepdim=True), hidden


class AttentionExpert(nn.Module):
    """Attention over the channels of a head, depth-wise 3x3x3 convolution, 1x1x1 projection; no biases."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv3d(channels, 3 * channels, 1, bias=False)
        self.dwconv = nn.Conv3d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.project_out = nn.Conv3d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        heads = len(self.temperature)
        q, k, v = (
            part.reshape(len(x), heads, x.shape[1] // heads, -1) for part in self.qkv(x).chunk(3, dim=1)
        )
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = torch.softmax(self.temperature * (q @ k.transpose(-2, -1)), dim=-1)
        return self.project_out(self.dwconv((attention @ v).reshape(x.shape)))


class FFNExpert(nn.Module):
    """Two-layer perceptron of every voxel, with GELU."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv3d(channels, width, 1), nn.Conv3d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class Bank(nn.Module):
    """Equation 2: the sum of the experts' outputs, each times its gate."""

    experts_name: str
    routing: Routing  # no such attribute: every expert counts in full

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features of the same shape, the hidden activation for the next router, and the gates (B, M)."""
        experts = getattr(self, self.experts_name)
        if hasattr(self, "routing"):
            gates, hidden = self.routing(x, hidden)
        else:
            gates = x.new_ones(len(x), len(experts), 1, 1, 1)
        mixed = sum(gates[:, m : m + 1] * expert(x) for m, expert in enumerate(experts))
        return mixed, hidden, gates.flatten(1)


class AttentionBank(Bank):
    """The attention experts of a block and their router."""

    experts_name = "att_experts"

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.att_experts = nn.ModuleList(
            AttentionExpert(config.channels, config.heads) for _ in range(config.experts)
        )
        add_routing(self, config)


class FFNBank(Bank):
    """The FFN experts of a block and their router."""

    experts_name = "mpl_experts"  # the authors' spelling

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.mpl_experts = nn.ModuleList(
            FFNExpert(config.channels, config.ffn_ratio * config.channels) for _ in range(config.experts)
        )
        add_routing(self, config)


def add_routing(bank: Bank, config: NetworkConfig) -> None:
    """Adds its router to a bank, unless the network has none."""
    if config.gate != "none":
        bank.routing = Routing(config.channels, config.hidden, config.experts, config.gate, config.use_hidden)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of every voxel."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        mean = x.mean(dim=1, keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=1, keepdim=True)
        shape = (1, -1, 1, 1, 1)
        normalized = (x - mean) / torch.sqrt(variance + 1e-5)
        return normalized * self.norm.weight.view(shape) + self.norm.bias.view(shape)


class Block(nn.Module):
    """x = attention bank(norm1(x)) + beta x; x = FFN bank(norm2(x)) + gamma x."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1, config.channels, 1, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, config.channels, 1, 1, 1))
        self.norm1, self.norm2 = ChannelNorm(config.channels), ChannelNorm(config.channels)
        self.attention, self.mlp = AttentionBank(config), FFNBank(config)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Features of the same shape, the hidden activation, and the gates of both banks, each (B, M)."""
        mixed, hidden, attention_gates = self.attention(self.norm1(x), hidden)
        x = mixed + self.beta * x
        mixed, hidden, ffn_gates = self.mlp(self.norm2(x), hidden)
        return mixed + self.gamma * x, hidden, [attention_gates, ffn_gates]


class Oracle(nn.Module):
    """The whole network: (B, 1, D, H, W) -> residual of the same shape, gates (B, 2 blocks, experts).

    With voxel_unshuffle = k every k-th voxel of each axis is a channel, from each of the k^3 first voxels.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        if config.use_hidden and config.gate != "none":
            self.hidden = nn.Parameter(torch.ones(1, config.hidden, 1, 1, 1))
        self.k = config.voxel_unshuffle
        self.firsts = [(i, j, m) for i in range(self.k) for j in range(self.k) for m in range(self.k)]
        self.head_conv = nn.Conv3d(len(self.firsts), config.channels, 3, padding=1)
        self.body = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.tail_conv = nn.Conv3d(config.channels, len(self.firsts), 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Residual of the shape of x, and the gates (B, 2 blocks, M)."""
        hidden = self.hidden.repeat(len(x), 1, 1, 1, 1) if hasattr(self, "hidden") else None
        wanted, k, gates = x.shape, self.k, []
        filled = x.new_zeros(len(x), 1, *(-(-n // k) * k for n in wanted[2:]))
        filled[..., : wanted[2], : wanted[3], : wanted[4]] = x
        x = self.head_conv(torch.cat([filled[..., a::k, b::k, c::k] for a, b, c in self.firsts], dim=1))
        for block in self.body:
            x, hidden, block_gates = block(x, hidden)
            gates += block_gates
        residual = torch.zeros_like(filled)
        for channel, (a, b, c) in zip(self.tail_conv(x).split(1, dim=1), self.firsts, strict=True):
            residual[..., a::k, b::k, c::k] = channel
        return residual[..., : wanted[2], : wanted[3], : wanted[4]], torch.stack(gates, dim=1)
