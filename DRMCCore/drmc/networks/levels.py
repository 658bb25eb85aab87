"""Between the levels of a U-shaped network: convolutions over 2 x 2 x 2 cubes of tokens, as matrix products.

Axes as in `drmc.networks.drmc`. The sizes of a level must be even if there is one below it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.tokens import Space


def below(space: Space) -> Space:
    """The shape of the level below: half of each size."""
    D, H, W = space
    return D // 2, H // 2, W // 2


def above(space: Space) -> Space:
    """The shape of the level above: twice each size."""
    D, H, W = space
    return 2 * D, 2 * H, 2 * W


def gather_cubes(x_BNC: Tensor, space: Space) -> Tensor:
    """(B, N, C) -> (B, N / 8, 8, C), the tokens of each cube of 2 x 2 x 2.

    Token (2 d + i, 2 h + j, 2 w + k) is number (i 2 + j) 2 + k of cube (d, h, w).
    """
    (D, H, W), C = below(space), x_BNC.shape[2]
    x_BDiHjWkC = x_BNC.view(-1, D, 2, H, 2, W, 2, C)
    return x_BDiHjWkC.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, D * H * W, 8, C)


def spread_cubes(x_BN8C: Tensor, space: Space) -> Tensor:
    """The inverse of `gather_cubes`; `space` is the shape of the cubes' level."""
    (D, H, W), C = space, x_BN8C.shape[3]
    x_BDHWijkC = x_BN8C.view(-1, D, H, W, 2, 2, 2, C)
    return x_BDHWijkC.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, 8 * D * H * W, C)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Applies the layer in the dtype of `x`."""
    return F.linear(x, layer.weight.to(x.dtype), None if layer.bias is None else layer.bias.to(x.dtype))


class Downsample(nn.Module):
    """2x2x2 convolution of stride 2; its weight is (c_out, 8 c_in), c_in varying fastest."""

    def __init__(self, channels: int, channels_below: int):
        super().__init__()
        self.map = nn.Linear(8 * channels, channels_below)

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of shape `space` to those of the level below."""
        return linear(gather_cubes(x_BNC, space).flatten(2), self.map)


class Upsample(nn.Module):
    """Transposed 2x2x2 convolution of stride 2; its weight is (8 c_out, c_in), c_out varying fastest."""

    def __init__(self, channels_below: int, channels: int, bias: bool = True):
        super().__init__()
        self.map = nn.Linear(channels_below, 8 * channels, bias=False)
        bound = channels_below**-0.5  # each output voxel is a sum over that many values
        self.bias_C = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if bias else None

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of shape `space` to those of the level above."""
        x_BN8C = linear(x_BNC, self.map).unflatten(2, (8, -1))
        if self.bias_C is not None:
            x_BN8C = x_BN8C + self.bias_C.to(x_BNC.dtype)
        return spread_cubes(x_BN8C, space)
