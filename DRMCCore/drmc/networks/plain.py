"""What networks of plain layers have in common, which other authors compare with.

They see the image itself instead of cubes of its voxels, and may return an estimate instead of a residual.
Axes as in `drmc.networks.drmc`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.protocol import ResidualNetwork, Settings
from drmc.networks.tokens import fill_behind

NORMS = ("instance", "batch", "layer")
MOMENTUM = 0.1  # of the running statistics, PyTorch's default


class PlainSettings(Settings):
    """Settings of a network of plain layers; each kind has the field `residual`.

    `residual`: whether the last layer's output is added to the image, or is the estimate itself.
    """

    residual: bool

    @property
    def voxel_unshuffle(self) -> int:
        """One: every voxel is read by itself."""
        return 1

    def _check_flags(self, *names: str) -> None:
        for name in names:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}")

    def _check_coarsest(self, edge: int, coarsest: int) -> None:
        """Raises ValueError if the coarsest normalized grid of a tile has one voxel."""
        if coarsest < 2:
            raise ValueError(
                f"a patch of {edge} voxels leaves {self.kind} one value to normalize over at its lowest "
                "level: use larger patches, fewer levels, or another norm"
            )


class PlainNetwork(ResidualNetwork):
    """A network whose layers from image to image are `estimate`; its sizes are multiples of `multiple`."""

    config: PlainSettings

    def estimate(self, x_BCDHW: Tensor, dtype: torch.dtype) -> Tensor:
        """The last layer's output, in the dtype and shape of x_BCDHW.

        Args:
            x_BCDHW: (B, 1, D, H, W) in network units, each size a multiple of `multiple`.
            dtype: dtype of the products over voxels.
        """
        raise NotImplementedError

    def forward(self, x_BCDHW: Tensor, compute_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """As of every network (`ResidualNetwork.forward`), without gates.

        Raises:
            ValueError: the shape is another one, or a tile leaves a normalization one value.
        """
        self._check_shape(x_BCDHW)
        exact = self.head.weight.dtype
        x_BCDHW = x_BCDHW.to(exact)
        D, H, W = x_BCDHW.shape[2:]
        estimate_BCDHW = self.estimate(fill_behind(x_BCDHW, self.multiple), compute_dtype or exact).to(exact)
        residual_BCDHW = estimate_BCDHW[:, :, :D, :H, :W]
        if not self.config.residual:
            residual_BCDHW = residual_BCDHW - x_BCDHW
        return residual_BCDHW, x_BCDHW.new_zeros(len(x_BCDHW), 0, 0)


class Normalization(nn.Module):
    """Normalization with a scale and an offset for each channel, of tokens (B, N, C) or images.

    Over the voxels of each tile ("instance"), over the voxels of all tiles of a batch, and in evaluation by
    running statistics ("batch"), or over the channels of each voxel ("layer"). Statistics have the dtype of
    the parameters, the result has that of the input.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, kind: str):
        super().__init__()
        self.kind, self.eps = kind, 1e-5
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "batch":
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The normalized x.

        Raises:
            ValueError: there is one value to normalize over.
        """
        low, x = x.dtype, x.to(self.weight.dtype)
        tokens = x.ndim == 3
        if self.kind == "layer":
            y = x if tokens else x.movedim(1, -1)
            y = F.layer_norm(y, self.weight.shape, self.weight, self.bias, self.eps)
            return (y if tokens else y.movedim(-1, 1)).to(low)
        if self.kind == "instance":
            return instance_norm(x, (self.weight, self.bias), self.eps).to(low)
        if self.training:
            _refuse_one_value(x.numel() // len(self.weight))
        y = x.flatten(0, 1) if tokens else x
        running, learned = (self.mean, self.variance), (self.weight, self.bias)
        y = F.batch_norm(y, *running, *learned, self.training, MOMENTUM, self.eps)
        return y.view_as(x).to(low)


def instance_norm(x: Tensor, learned: tuple[Tensor, Tensor] | None = None, eps: float = 1e-5) -> Tensor:
    """Normalizes over the voxels of each tile's channel.

    Args:
        x: (B, N, C) or (B, C, D, H, W).
        learned: scale and offset of each channel, None for none.
        eps: is added to the variance.

    Raises:
        ValueError: a tile has one voxel.
    """
    weight_C, bias_C = learned or (None, None)
    if x.ndim == 5:
        _refuse_one_value(math.prod(x.shape[2:]))
        return F.instance_norm(x, weight=weight_C, bias=bias_C, eps=eps)
    _refuse_one_value(x.shape[1])
    variance_B1C, mean_B1C = torch.var_mean(x, 1, correction=0, keepdim=True)
    y_BNC = (x - mean_B1C) / (variance_B1C + eps).sqrt()
    return y_BNC if weight_C is None or bias_C is None else torch.addcmul(bias_C, y_BNC, weight_C)


def _refuse_one_value(count: int) -> None:
    if count < 2:
        raise ValueError("one value to normalize over: use larger tiles, fewer levels, or another norm")
