"""The U-Net of FL-MRCM in three dimensions.

P. Guo et al., "Multi-institutional collaborations for improving deep learning-based magnetic resonance image
reconstruction using federated learning", CVPR 2021, whose code has this network in two dimensions. What was
chosen in three: docs/comparison.md. Axes as in `drmc.networks.drmc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.levels import Upsample, above, below, gather_cubes
from drmc.networks.plain import PlainNetwork, PlainSettings, instance_norm
from drmc.networks.tokens import Space, convolve, convolve_in_slabs

SLOPE = 0.2  # of LeakyReLU below 0
LATENT = 2
"""Cells along each axis in which the lowest level is averaged for the latent features."""


@dataclass(frozen=True)
class UNet3DConfig(PlainSettings):
    """The settings of a U-Net; the defaults have 5,643,201 parameters, `width` 32 as published 22,571,905.

    Attributes:
        width: channels of the finest level; each level below has twice as many.
        pools: levels below the finest.
        residual: whether the output is added to the image; published without.
    """

    width: int = 16
    pools: int = 4
    residual: bool = True

    kind = "unet3d"

    def __post_init__(self) -> None:
        self._check(("width", "pools"), {})
        self._check_flags("residual")

    @property
    def widths(self) -> list[int]:
        """Channels of each level, finest first."""
        return [self.width * 2**level for level in range(self.pools + 1)]

    def check_patch(self, edge: int) -> None:
        """The lowest level is normalized; raises ValueError if it has one voxel."""
        self._check_coarsest(edge, -(-edge // 2**self.pools))

    @property
    def features_per_voxel(self) -> float:
        """Two maps of the finest level meet on the way up."""
        return 2 * self.width


class Unit(nn.Module):
    """Twice a 3x3x3 convolution without bias, normalization over the tile without scale, and LeakyReLU."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.first = nn.Conv3d(channels_in, channels, 3, padding=1, bias=False)
        self.second = nn.Conv3d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of the same grid."""
        for layer in (self.first, self.second):
            x_BNC = activated(convolve(x_BNC, layer.weight.to(x_BNC.dtype), space))
        return x_BNC


class UNet3D(PlainNetwork):
    """Units and mean pooling down the levels; transposed convolutions and units on the way up."""

    config: UNet3DConfig

    def __init__(self, config: UNet3DConfig | None = None):
        super().__init__()
        self.config = config = config or UNet3DConfig()
        self.multiple = 2**config.pools
        widths = config.widths
        self.head = nn.Conv3d(1, widths[0], 3, padding=1, bias=False)  # with `second` the first unit
        self.second = nn.Conv3d(widths[0], widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(Unit(width // 2, width) for width in widths[1:])
        self.up = nn.ModuleList(Upsample(2 * width, width, bias=False) for width in widths[-2::-1])
        self.merge = nn.ModuleList(Unit(2 * width, width) for width in widths[-2::-1])
        self.tail = nn.Conv3d(widths[0], 1, 1)

    @property
    def latent_layers(self) -> list[nn.Module]:
        """The way up from the lowest level."""
        return [self.up[0]]

    def latent(self, inputs: tuple[Any, ...]) -> Tensor:
        """Means of the lowest level over 2 x 2 x 2 cells, which overlap where its sizes are odd: (B, 8 C)."""
        x_BNC, space = inputs
        x_BDHWC = x_BNC.to(torch.promote_types(x_BNC.dtype, torch.float32)).unflatten(1, space)
        for axis, size in enumerate(space, 1):
            edges = [(k * size // LATENT, -(-(k + 1) * size // LATENT)) for k in range(LATENT)]
            cells = [x_BDHWC.narrow(axis, first, end - first) for first, end in edges]
            x_BDHWC = torch.cat([cell.mean(axis, keepdim=True) for cell in cells], axis)
        return x_BDHWC.movedim(4, 1).flatten(1)

    def estimate(self, x_BCDHW: Tensor, dtype: torch.dtype) -> Tensor:
        """Down and up the levels."""
        D, H, W = x_BCDHW.shape[2:]
        space: Space = (D, H, W)
        x_BNC = convolve_in_slabs(x_BCDHW.flatten(2).transpose(1, 2), self.head, space).to(dtype)
        x_BNC = activated(x_BNC)
        x_BNC = activated(convolve(x_BNC, self.second.weight.to(dtype), space))
        passed = []
        for down in self.down:
            passed.append(x_BNC)
            x_BNC, space = gather_cubes(x_BNC, space).mean(2), below(space)
            x_BNC = down(x_BNC, space)
        for up, merge in zip(self.up, self.merge, strict=True):
            x_BNC, space = activated(up(x_BNC, space)), above(space)
            x_BNC = merge(torch.cat([x_BNC, passed.pop()], 2), space)
        assert isinstance(self.tail, nn.Conv3d)
        y_BN1 = F.linear(x_BNC.to(self.tail.weight.dtype), self.tail.weight.flatten(1), self.tail.bias)
        return y_BN1.transpose(1, 2).view_as(x_BCDHW)


def activated(x_BNC: Tensor) -> Tensor:
    """Normalization over the tile in float32 or finer, and LeakyReLU, in the dtype of x."""
    exact = torch.promote_types(x_BNC.dtype, torch.float32)
    return F.leaky_relu(instance_norm(x_BNC.to(exact)), SLOPE).to(x_BNC.dtype)
