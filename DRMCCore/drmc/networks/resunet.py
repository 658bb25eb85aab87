"""A residual U-Net without routing: the comparison without experts at the same reach and cost.

Residual units as in nnU-Net (Isensee et al., Nature Methods 2021), on cubes of voxels. Axes as in
`drmc.networks.drmc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.levels import Upsample, below, gather_cubes, linear
from drmc.networks.protocol import ResidualNetwork, Settings
from drmc.networks.tokens import Space, convolve

SLOPE = 0.01  # of LeakyReLU below 0


@dataclass(frozen=True)
class ResUNetConfig(Settings):
    """The settings of a residual U-Net; the defaults have 2,430,536 parameters.

    Attributes:
        widths: channels of each level, finest first.
        units: residual units of each level.
        norm: "layer", over the channels of each voxel, or "instance", over the voxels of each channel of a
            tile, which removes the mean uptake of the tile.
        voxel_unshuffle: as in `drmc.networks.drmc.NetworkConfig`.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    units: tuple[int, ...] = (2, 2, 2)
    norm: str = "layer"
    voxel_unshuffle: int = 2

    kind = "resunet"

    def __post_init__(self) -> None:
        self._check(("voxel_unshuffle",), {"norm": ("layer", "instance")})
        self._check_lists("widths", "units")
        if len(self.units) != len(self.widths):
            raise ValueError(f"units must name {len(self.widths)} levels as widths, not {len(self.units)}")

    @property
    def features_per_voxel(self) -> float:
        """That of the finest level; the lower ones have a quarter and less."""
        return self.widths[0] / self.voxel_unshuffle**3


class Convolution(nn.Module):
    """3x3x3 convolution without bias, then normalization with a scale and an offset for each channel."""

    def __init__(self, channels_in: int, channels: int, norm: str, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm, self.across = nn.LayerNorm(channels), norm == "instance"

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """The tokens of the convolution's output, on the grid that `stride` leaves."""
        low = x_BNC.dtype
        x_BNC = convolve(x_BNC, self.conv.weight.to(low), space, stride=self.conv.stride[0])
        weight_C, bias_C = self.norm.weight.to(low), self.norm.bias.to(low)
        if not self.across:
            return F.layer_norm(x_BNC, self.norm.normalized_shape, weight_C, bias_C, self.norm.eps)
        exact_BNC = x_BNC.to(self.norm.weight.dtype)
        variance_B1C, mean_B1C = torch.var_mean(exact_BNC, 1, correction=0, keepdim=True)
        return ((exact_BNC - mean_B1C) / (variance_B1C + self.norm.eps).sqrt()).to(low) * weight_C + bias_C


class ResidualUnit(nn.Module):
    """Two convolutions beside a shortcut; with `stride` 2 the shortcut is the mean of each cube of tokens."""

    def __init__(self, channels_in: int, channels: int, norm: str, stride: int):
        super().__init__()
        self.stride = stride
        self.first = Convolution(channels_in, channels, norm, stride)
        self.second = Convolution(channels, channels, norm)
        if channels_in != channels or stride > 1:
            self.shortcut = nn.Linear(channels_in, channels, bias=False)

    def forward(self, x_BNC: Tensor, space: Space) -> tuple[Tensor, Space]:
        """The tokens after the unit and their shape."""
        y_BNC = F.leaky_relu(self.first(x_BNC, space), SLOPE)
        if self.stride > 1:
            x_BNC, space = gather_cubes(x_BNC, space).mean(2), below(space)
        if hasattr(self, "shortcut"):
            x_BNC = linear(x_BNC, self.shortcut)
        return F.leaky_relu(self.second(y_BNC, space) + x_BNC, SLOPE), space


class ResUNet(ResidualNetwork):
    """Residual units down the levels; a transposed and a plain convolution per level on the way up."""

    def __init__(self, config: ResUNetConfig | None = None):
        super().__init__()
        self.config = config = config or ResUNetConfig()
        self.multiple = config.voxel_unshuffle * 2 ** (len(config.widths) - 1)
        cube, widths, norm = config.voxel_unshuffle**3, config.widths, config.norm
        self.head = nn.Conv3d(cube, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        above = widths[0]
        for level, (width, count) in enumerate(zip(widths, config.units, strict=True)):
            strides = [2 if level and unit == 0 else 1 for unit in range(count)]
            inputs = [above, *[width] * (count - 1)]
            units = (ResidualUnit(C, width, norm, s) for C, s in zip(inputs, strides, strict=True))
            self.levels.append(nn.ModuleList(units))
            above = width
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(Upsample(C_below, C) for C, C_below in pairs)
        self.merge = nn.ModuleList(Convolution(2 * C, C, norm) for C, _ in pairs)
        self.tail = nn.Conv3d(widths[0], cube, 3, padding=1)

    @property
    def latent_layers(self) -> list[nn.Module]:
        """The way up from the lowest level."""
        return list(self.up[:1])

    def body(self, x_BNC: Tensor, space: Space) -> tuple[Tensor, list[Tensor]]:
        """Down and up the levels; there are no gates."""
        passed: list[tuple[Tensor, Space]] = []
        for units in self.levels:
            assert isinstance(units, nn.ModuleList)
            for unit in units:
                x_BNC, space = unit(x_BNC, space)
            passed.append((x_BNC, space))
        passed.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x_BNC = up(x_BNC, space)
            above_BNC, space = passed.pop()
            x_BNC = F.leaky_relu(merge(torch.cat([x_BNC, above_BNC], 2), space), SLOPE)
        return x_BNC, []
