"""A residual U-Net that gives every voxel the scores of organ classes.

Residual units with instance normalization (Isensee et al., Nature Methods 2021). With `voxel_unshuffle` 2 the
finest features are those of cubes of 2 x 2 x 2 voxels, whose labels they predict one by one: a third of the
time of the same network on voxels. Axes: B patches, C channels, K classes, D, H, W voxels along z, y, x.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.protocol import Settings

SLOPE = 0.01  # of LeakyReLU below 0
_SLICES = 8  # of cubes, of which single voxels are scored at a time
COARSEST_SUPERVISED = 4
"""Edge in voxels of the coarsest features that are trained to predict labels themselves."""


@dataclass(frozen=True)
class OrganUNetConfig(Settings):
    """The settings of a U-Net of organs; the defaults have 4.7 million parameters.

    Attributes:
        classes: labels, background included.
        inputs: channels of the input.
        widths: channels of each level, finest first.
        units: residual units of each level on the way down.
        voxel_unshuffle: edge of the cubes of voxels that the head reads as channels.
    """

    classes: int = 32
    inputs: int = 4
    widths: tuple[int, ...] = (32, 64, 128, 192)
    units: tuple[int, ...] = (1, 1, 1, 1)
    voxel_unshuffle: int = 2

    kind = "organ_unet"
    task = "organs"

    def __post_init__(self) -> None:
        self._check(("classes", "inputs", "voxel_unshuffle"), {})
        self._check_lists("widths", "units")
        if len(self.units) != len(self.widths):
            raise ValueError(f"units must name {len(self.widths)} levels as widths, not {len(self.units)}")

    @property
    def multiple(self) -> int:
        """Sizes of an input are multiples of it."""
        return self.voxel_unshuffle * 2 ** (len(self.widths) - 1)

    @property
    def features_per_voxel(self) -> float:
        """That of the finest level; the lower ones have a quarter and less."""
        return self.widths[0] / self.voxel_unshuffle**3

    def check_patch(self, edge: int) -> None:
        """Checks that a patch can be halved at every level and leaves several values to normalize over.

        Raises:
            ValueError: it cannot.
        """
        if edge % self.multiple or edge < 2 * self.multiple:
            raise ValueError(f"must be a multiple of {self.multiple}, at least {2 * self.multiple}")


def gather(x_BCDHW: Tensor, k: int) -> Tensor:
    """(B, C, k D, k H, k W) -> (B, C k^3, D, H, W): the voxels of a cube become channels."""
    B, C, D, H, W = x_BCDHW.shape
    cubes = x_BCDHW.view(B, C, D // k, k, H // k, k, W // k, k)
    return cubes.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(B, C * k**3, D // k, H // k, W // k)


def spread(x_BCDHW: Tensor, k: int) -> Tensor:
    """The inverse of `gather`."""
    B, C, D, H, W = x_BCDHW.shape
    cubes = x_BCDHW.view(B, C // k**3, k, k, k, D, H, W)
    return cubes.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(B, C // k**3, k * D, k * H, k * W)


class Convolution(nn.Module):
    """3x3x3 convolution without bias, then instance normalization with a scale and an offset per channel."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """The normalized output in the dtype of the input; statistics have the dtype of the parameters."""
        low = x_BCDHW.dtype
        x_BCDHW = F.conv3d(x_BCDHW, self.conv.weight.to(low), None, self.conv.stride, 1)
        return F.instance_norm(x_BCDHW.to(self.weight.dtype), weight=self.weight, bias=self.bias).to(low)


class ResidualUnit(nn.Module):
    """Two convolutions beside a shortcut; with `stride` 2 the shortcut is the mean of each cube of voxels."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        super().__init__()
        self.first = Convolution(channels_in, channels, stride)
        self.second = Convolution(channels, channels)
        self.stride = stride
        self.shortcut = nn.Conv3d(channels_in, channels, 1, bias=False) if channels_in != channels else None

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """The features after the unit."""
        y_BCDHW = F.leaky_relu(self.first(x_BCDHW), SLOPE)
        if self.stride > 1:
            x_BCDHW = gather(x_BCDHW, 2).unflatten(1, (-1, 8)).mean(2)
        if self.shortcut is not None:
            x_BCDHW = F.conv3d(x_BCDHW, self.shortcut.weight.to(x_BCDHW.dtype))
        return F.leaky_relu(self.second(y_BCDHW) + x_BCDHW, SLOPE)


class OrganUNet(nn.Module):
    """Residual units down the levels; a transposed convolution and a unit per level on the way up."""

    def __init__(self, config: OrganUNetConfig | None = None):
        super().__init__()
        self.config = config = config or OrganUNetConfig()
        k, widths = config.voxel_unshuffle, config.widths
        self.head = nn.Conv3d(config.inputs * k**3, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        above = widths[0]
        for level, (width, count) in enumerate(zip(widths, config.units, strict=True)):
            units = []
            for unit in range(count):
                units.append(ResidualUnit(above, width, 2 if level and unit == 0 else 1))
                above = width
            self.levels.append(nn.Sequential(*units))
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose3d(C_below, C, 2, 2, bias=False) for C, C_below in pairs)
        self.merge = nn.ModuleList(ResidualUnit(2 * C, C) for C, _ in pairs)
        self.tail = nn.Conv3d(widths[0], config.classes * k**3, 1)
        self.deep = nn.ModuleDict(
            {
                str(level): nn.Conv3d(width, config.classes, 1)
                for level, width in enumerate(widths[:-1])
                if level and k * 2**level <= COARSEST_SUPERVISED
            }
        )

    def forward(self, x_BCDHW: Tensor, compute_dtype: torch.dtype | None = None) -> list[Tensor]:
        """Scores of every class, before softmax.

        Args:
            x_BCDHW: (B, inputs, D, H, W); D, H, W multiples of `OrganUNetConfig.multiple`.
            compute_dtype: dtype of the convolutions, e.g. torch.bfloat16; None: that of the parameters,
                which statistics and scores always have.

        Returns:
            (B, K, D, H, W); in training then those of coarser cubes, (B, K, D / s, H / s, W / s), by
            ascending edge s.

        Raises:
            ValueError: a size is no multiple.
        """
        if any(n % self.config.multiple for n in x_BCDHW.shape[2:]):
            raise ValueError(f"sizes must be multiples of {self.config.multiple}, not {tuple(x_BCDHW.shape)}")
        exact = self.head.weight.dtype
        low = compute_dtype or exact
        assert self.head.bias is not None
        x_BCDHW = gather(x_BCDHW.to(exact), self.config.voxel_unshuffle).to(low)
        x_BCDHW = F.conv3d(x_BCDHW, self.head.weight.to(low), self.head.bias.to(low), padding=1)
        passed = []
        for units in self.levels:
            x_BCDHW = units(x_BCDHW)
            passed.append(x_BCDHW)
        passed.pop()
        coarse = []
        for up, merge in zip(self.up, self.merge, strict=True):
            assert isinstance(up, nn.ConvTranspose3d)
            x_BCDHW = F.conv_transpose3d(x_BCDHW, up.weight.to(low), stride=2)
            level = len(passed) - 1
            x_BCDHW = merge(torch.cat([x_BCDHW, passed.pop()], 1))
            if self.training and str(level) in self.deep:
                coarse.append(_scores(self.deep[str(level)], x_BCDHW))
        return [self._fine(x_BCDHW), *reversed(coarse)]

    def _fine(self, x_BCDHW: Tensor) -> Tensor:
        """Scores of single voxels; without gradients a few slices at a time, since nothing is larger."""
        k = self.config.voxel_unshuffle
        if torch.is_grad_enabled():
            return spread(_scores(self.tail, x_BCDHW), k)
        B, _, D, H, W = x_BCDHW.shape
        dtype = self.tail.weight.dtype
        fine = x_BCDHW.new_empty((B, self.config.classes, k * D, k * H, k * W), dtype=dtype)
        for first in range(0, D, _SLICES):
            part = spread(_scores(self.tail, x_BCDHW[:, :, first : first + _SLICES]), k)
            fine[:, :, k * first : k * first + part.shape[2]] = part
        return fine


def _scores(layer: nn.Module, x_BCDHW: Tensor) -> Tensor:
    """A 1x1x1 convolution in the dtype of the features, its scores in that of the parameters."""
    assert isinstance(layer, nn.Conv3d) and layer.bias is not None
    low, exact = x_BCDHW.dtype, layer.weight.dtype
    scores = F.conv3d(x_BCDHW, layer.weight.to(low)).to(exact)
    return scores.add_(layer.bias.view(-1, 1, 1, 1))  # in place: nothing in the network is larger
