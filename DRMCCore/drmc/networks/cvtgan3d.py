"""3D CVT-GAN: a generator of convolutional vision transformers.

P. Zeng et al., "3D CVT-GAN: A 3D convolutional vision transformer-GAN for PET reconstruction", MICCAI 2022,
LNCS 13436:516-526, as its group released it. What was chosen: docs/comparison.md. Its critic is in
`drmc.training.critics`. Axes as in `drmc.networks.drmc`; h heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.levels import Upsample, above, linear, spread_cubes
from drmc.networks.plain import NORMS, Normalization, PlainNetwork, PlainSettings
from drmc.networks.tokens import Space, convolve

SLOPE = 0.2  # of LeakyReLU below 0


@dataclass(frozen=True)
class CVTGAN3DConfig(PlainSettings):
    """The settings of a generator; the defaults have 7,130,513 parameters, `width` 64 as released 28,288,801.

    Attributes:
        width: channels at half resolution; each level below has twice as many. Even.
        norm: of convolutions and of the projections in attention: "instance", "batch" as released, or
            "layer", see `drmc.networks.plain.Normalization`.
        dropout: of two of the stages as released, 0 = none.
        final_activation: whether the last layer is followed by a LeakyReLU as released, which makes a
            negative residual smaller.
        residual: whether the output is added to the image, as released.
    """

    width: int = 32
    norm: str = "instance"
    dropout: float = 0.2
    final_activation: bool = True
    residual: bool = True

    kind = "cvtgan3d"

    def __post_init__(self) -> None:
        self._check(("width",), {"norm": NORMS})
        self._check_flags("final_activation", "residual")
        if self.width % 2:
            raise ValueError(f"width must be even, not {self.width}")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float):
            raise ValueError(f"dropout must be a number, not {self.dropout!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    @property
    def one_batch(self) -> bool:
        """With batch statistics or dropout."""
        return self.norm == "batch" or self.dropout > 0

    def check_patch(self, edge: int) -> None:
        """Keys of the lowest level have half its sizes; raises ValueError if that is one voxel."""
        if self.norm != "layer":
            self._check_coarsest(edge, math.ceil(math.ceil(edge / 16) / 2))

    @property
    def features_per_voxel(self) -> float:
        """The finest features have half the resolution of the tile; two maps of them meet on the way up."""
        return self.width / 4


def halved(space: Space) -> Space:
    """The grid after a 3x3x3 convolution of stride 2: half of each size, rounded up."""
    D, H, W = space
    return -(-D // 2), -(-H // 2), -(-W // 2)


def convolution(x_BNC: Tensor, layer: nn.Conv3d, space: Space) -> Tensor:
    """Applies a 3x3x3 convolution in the dtype of x."""
    low = x_BNC.dtype
    bias = None if layer.bias is None else layer.bias.to(low)
    return convolve(x_BNC, layer.weight.to(low), space, layer.groups, bias, layer.stride[0])


class Projection(nn.Module):
    """Depth-wise 3x3x3 convolution, normalization, then a linear map."""

    def __init__(self, channels: int, stride: int, norm: str):
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.norm = Normalization(channels, norm)
        self.map = nn.Linear(channels, channels, bias=False)

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of the grid that the stride leaves."""
        return linear(self.norm(convolution(x_BNC, self.conv, space)), self.map)


class Attention(nn.Module):
    """Attention whose keys and values have half the resolution of its queries.

    The scores are divided by the root of all channels, not of those of a head.
    """

    def __init__(self, channels: int, heads: int, norm: str, dropout: float):
        super().__init__()
        self.heads, self.scale = heads, channels**-0.5
        self.query, self.key, self.value = (Projection(channels, stride, norm) for stride in (1, 2, 2))
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of the same grid."""
        q_BhNc, k_BhNc, v_BhNc = (
            projection(x_BNC, space).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        exact = self.out.weight.dtype
        scores_BhNN = (q_BhNc @ k_BhNc.mT).to(exact) * self.scale
        mixed_BhNc = scores_BhNN.softmax(-1).to(v_BhNc.dtype) @ v_BhNc
        return self.dropout(linear(mixed_BhNc.transpose(1, 2).flatten(2), self.out))


class TransformerBlock(nn.Module):
    """Attention and a perceptron of four times the channels, each on normalized tokens and added to them."""

    def __init__(self, channels: int, heads: int, norm: str, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = Normalization(channels, "layer"), Normalization(channels, "layer")
        self.attention = Attention(channels, heads, norm, dropout)
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of the same grid."""
        x_BNC = x_BNC + self.attention(self.norm1(x_BNC), space)
        wide_BNF = self.dropout(F.gelu(linear(self.norm2(x_BNC), self.widen)))
        return x_BNC + self.dropout(linear(wide_BNF, self.narrow))


class Stage(nn.Module):
    """A convolution to half or twice the resolution, normalization over channels, then transformer blocks."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        depth: int,
        heads: int,
        norm: str,
        dropout: float = 0.0,
        up: bool = False,
    ):
        super().__init__()
        self.embed: nn.Conv3d | Upsample
        if up:
            self.embed = Upsample(channels_in, channels)
        else:
            self.embed = nn.Conv3d(channels_in, channels, 3, 2, 1)
        self.norm = Normalization(channels, "layer")
        self.blocks = nn.ModuleList(TransformerBlock(channels, heads, norm, dropout) for _ in range(depth))

    def forward(self, x_BNC: Tensor, space: Space) -> tuple[Tensor, Space]:
        """Tokens of the new grid, and its shape."""
        if isinstance(self.embed, Upsample):
            x_BNC, space = self.embed(x_BNC, space), above(space)
        else:
            x_BNC, space = convolution(x_BNC, self.embed, space), halved(space)
        x_BNC = self.norm(x_BNC)
        for block in self.blocks:
            x_BNC = block(x_BNC, space)
        return x_BNC, space


class Residual(nn.Module):
    """A 3x3x3 convolution, dropout of whole channels, LeakyReLU and normalization, beside a linear map."""

    def __init__(self, channels_in: int, channels: int, norm: str, dropout: float = 0.0):
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels, 3, 1, 1)
        self.norm = Normalization(channels, norm)
        self.beside = nn.Linear(channels_in, channels)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x_BNC: Tensor, space: Space) -> Tensor:
        """Tokens of the same grid."""
        y_BNC = convolution(x_BNC, self.conv, space)
        y_BNC = self.dropout(y_BNC.transpose(1, 2)).transpose(1, 2)
        return self.norm(F.leaky_relu(y_BNC, SLOPE)) + linear(x_BNC, self.beside)


class CVTGAN3D(PlainNetwork):
    """A convolution and three stages down, residual blocks, two stages and transposed convolutions up."""

    config: CVTGAN3DConfig

    multiple = 16

    def __init__(self, config: CVTGAN3DConfig | None = None):
        super().__init__()
        self.config = config = config or CVTGAN3DConfig()
        w, norm, dropout = config.width, config.norm, config.dropout
        self.head = nn.Conv3d(1, w, 3, 2, 1)
        self.norm = Normalization(w, norm)
        self.down = nn.ModuleList(
            [
                Stage(w, 2 * w, 1, 2, norm),
                Stage(2 * w, 4 * w, 2, 4, norm, dropout),
                Stage(4 * w, 8 * w, 2, 4, norm),
            ]
        )
        self.residual = nn.ModuleList(
            [
                Residual(8 * w, 8 * w, norm),
                Residual(8 * w, 4 * w, norm, dropout),
                Residual(4 * w, 2 * w, norm),
            ]
        )
        self.up = nn.ModuleList(
            [Stage(8 * w, 4 * w, 2, 4, norm, up=True), Stage(4 * w, 2 * w, 1, 4, norm, up=True)]
        )
        self.widen = Upsample(2 * w, w)
        self.merge = nn.Conv3d(2 * w, w, 3, 1, 1)
        self.narrow = nn.Conv3d(w, w // 2, 3, 1, 1)
        self.tail = nn.ConvTranspose3d(w // 2, 1, 2, 2)

    @property
    def latent_layers(self) -> list[nn.Module]:
        """The residual block of the lowest level."""
        return [self.residual[0]]

    def estimate(self, x_BCDHW: Tensor, dtype: torch.dtype) -> Tensor:
        """Down and up the levels."""
        D, H, W = x_BCDHW.shape[2:]
        space: Space = (D, H, W)
        x_BNC = convolution(x_BCDHW.flatten(2).transpose(1, 2).to(dtype), self.head, space)
        x_BNC, space = self.norm(F.leaky_relu(x_BNC, SLOPE)), halved(space)
        passed = []
        for down in self.down:
            passed.append(x_BNC)
            x_BNC, space = down(x_BNC, space)
        x_BNC = self.residual[0](x_BNC, space)
        for up, residual in zip(self.up, self.residual[1:], strict=True):
            x_BNC, space = up(x_BNC, space)
            x_BNC = residual(torch.cat([passed.pop(), x_BNC], 2), space)
        x_BNC, space = self.widen(x_BNC, space), above(space)
        x_BNC = torch.cat([passed.pop(), x_BNC], 2)
        for layer in (self.merge, self.narrow):
            x_BNC = convolution(x_BNC, layer, space)
        assert isinstance(self.tail, nn.ConvTranspose3d) and self.tail.bias is not None
        y_BN8 = x_BNC.to(self.tail.weight.dtype) @ self.tail.weight.flatten(1) + self.tail.bias
        y_BN1 = spread_cubes(y_BN8.unflatten(2, (8, 1)), space)
        if self.config.final_activation:
            y_BN1 = F.leaky_relu(y_BN1, SLOPE)
        return y_BN1.transpose(1, 2).view_as(x_BCDHW)
