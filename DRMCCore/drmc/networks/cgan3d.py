"""3D-cGAN: the generator of a conditional GAN, a U-Net of 4x4x4 convolutions of stride 2.

Y. Wang et al., "3D conditional generative adversarial networks for high-quality PET image estimation at low
dose", NeuroImage 174:550-562, 2018. What of it is certain and what was chosen: docs/comparison.md. Its critic
is in `drmc.training.critics`. Axes as in `drmc.networks.drmc`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.plain import NORMS, Normalization, PlainNetwork, PlainSettings

SLOPE = 0.2  # of LeakyReLU below 0, on the way down


@dataclass(frozen=True)
class CGAN3DConfig(PlainSettings):
    """The settings of a generator; the defaults have 6,167,649 parameters.

    The published size, `depth` 6 and `width` 64, has 116,934,849.

    Attributes:
        depth: number of convolutions down, and of transposed ones up.
        width: channels after the first convolution; each further one doubles them, up to 8 `width`.
        norm: "instance", "batch" as published, or "layer", see `drmc.networks.plain.Normalization`.
        residual: whether the output is added to the image; published without.
    """

    depth: int = 4
    width: int = 32
    norm: str = "instance"
    residual: bool = True

    kind = "cgan3d"

    def __post_init__(self) -> None:
        self._check(("depth", "width"), {"norm": NORMS})
        self._check_flags("residual")
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, not {self.depth}")

    @property
    def widths(self) -> list[int]:
        """Channels of each level, finest first."""
        return [self.width * min(2**level, 8) for level in range(self.depth)]

    @property
    def one_batch(self) -> bool:
        """With batch statistics."""
        return self.norm == "batch"

    def check_patch(self, edge: int) -> None:
        """The lowest level but one is normalized; raises ValueError if it has one voxel."""
        if self.norm != "layer":
            self._check_coarsest(edge, 2 * -(-edge // 2**self.depth))

    @property
    def features_per_voxel(self) -> float:
        """The finest features have half the resolution of the tile; two maps of them meet on the way up."""
        return self.width / 4


class Down(nn.Module):
    """LeakyReLU, 4x4x4 convolution of stride 2, normalization except in the lowest level."""

    def __init__(self, channels_in: int, channels: int, norm: str | None):
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels, 4, 2, 1, bias=norm is None)
        self.norm = Normalization(channels, norm) if norm else nn.Identity()

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Half of each size."""
        return self.norm(convolve4(F.leaky_relu(x_BCDHW, SLOPE), self.conv))


class Up(nn.Module):
    """ReLU, transposed 4x4x4 convolution of stride 2, normalization."""

    def __init__(self, channels_in: int, channels: int, norm: str):
        super().__init__()
        self.conv = nn.ConvTranspose3d(channels_in, channels, 4, 2, 1, bias=False)
        self.norm = Normalization(channels, norm)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Twice each size."""
        return self.norm(convolve4(F.relu(x_BCDHW), self.conv))


class CGAN3D(PlainNetwork):
    """Convolutions down to the lowest level, transposed ones up, with a skip connection on each level."""

    config: CGAN3DConfig

    def __init__(self, config: CGAN3DConfig | None = None):
        super().__init__()
        self.config = config = config or CGAN3DConfig()
        self.multiple = 2**config.depth
        widths, norm = config.widths, config.norm
        self.head = nn.Conv3d(1, widths[0], 4, 2, 1)
        self.down = nn.ModuleList(
            Down(widths[level - 1], widths[level], norm if level < config.depth - 1 else None)
            for level in range(1, config.depth)
        )
        inputs = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        self.up = nn.ModuleList(Up(C, width, norm) for C, width in zip(inputs, widths[-2::-1], strict=True))
        self.tail = nn.ConvTranspose3d(2 * widths[0], 1, 4, 2, 1)

    @property
    def latent_layers(self) -> list[nn.Module]:
        """The way up from the lowest level."""
        return [self.up[0]]

    def estimate(self, x_BCDHW: Tensor, dtype: torch.dtype) -> Tensor:
        """Down and up the levels."""
        x_BCDHW = convolve4(x_BCDHW.to(dtype), self.head)
        passed = []
        for down in self.down:
            passed.append(x_BCDHW)
            x_BCDHW = down(x_BCDHW)
        for up in self.up:
            x_BCDHW = torch.cat([passed.pop(), up(x_BCDHW)], 1)
        assert isinstance(self.tail, nn.ConvTranspose3d)
        return convolve4(F.relu(x_BCDHW), self.tail)


def convolve4(x_BCDHW: Tensor, layer: nn.Conv3d | nn.ConvTranspose3d) -> Tensor:
    """Applies the layer, of kernel 4, stride 2 and padding 1, in the dtype of x."""
    low = x_BCDHW.dtype
    if low == torch.bfloat16 and x_BCDHW.device.type == "cpu":
        # oneDNN's gradients of kernels are wrong in bfloat16 where an image has few planes (torch 2.13).
        return convolve4(x_BCDHW.float(), layer).to(low)
    apply = F.conv3d if isinstance(layer, nn.Conv3d) else F.conv_transpose3d
    bias = None if layer.bias is None else layer.bias.to(low)
    return apply(x_BCDHW, layer.weight.to(low), bias, stride=2, padding=1)
