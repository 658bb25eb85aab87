"""Critics (discriminators): networks of the training alone, in its checkpoints but in no weight file.

Those of patches tell full-dose patches from a network's estimates, given the low dose; one of latent features
tells the centers of two patches apart. Sources: docs/comparison.md. They return logits. Axes as in
`drmc.networks.drmc`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmc.networks.cvtgan3d import Stage, convolution, halved
from drmc.networks.plain import Normalization
from drmc.networks.tokens import Space, fill_behind

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig

NONE = "none"
SLOPE = 0.2  # of LeakyReLU below 0
_CELL = 16
"""Voxels along each axis that a critic of patches reduces to one."""


@dataclass
class Critic:
    """A critic and its optimizer."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint stores."""
        return {"network": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.module.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def copied_state(self) -> dict[str, Any]:
        """`state` with tensors of its own, which later steps do not change."""
        return deepcopy(self.state())

    def gradient_norm(self) -> float:
        """Norm of the gradients of all parameters."""
        return float(torch.nn.utils.clip_grad_norm_(self.module.parameters(), math.inf))

    def step(self, rate: float) -> None:
        """Takes a step at this learning rate, times the group's `rate`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()


class CGANCritic(nn.Module):
    """Four 4x4x4 convolutions of stride 2, then a linear map of all features to one logit for the patch."""

    def __init__(self, edge: int, width: int, norm: str):
        super().__init__()
        widths = [2, *(width * 2**level for level in range(4))]
        self.convs = nn.ModuleList(
            nn.Conv3d(C_in, C, 4, 2, 1, bias=level == 0) for level, (C_in, C) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(Normalization(C, norm) for C in widths[2:])
        self.out = nn.Linear(widths[-1] * math.ceil(edge / _CELL) ** 3, 1)

    def forward(self, low_BCDHW: Tensor, full_BCDHW: Tensor) -> Tensor:
        """(B, 1) of pairs of low dose and full dose or estimate, (B, 1, D, H, W) in network units."""
        x_BCDHW = fill_behind(torch.cat([low_BCDHW, full_BCDHW], 1), _CELL)
        for level, conv in enumerate(self.convs):
            x_BCDHW = conv(x_BCDHW)
            x_BCDHW = F.leaky_relu(self.norms[level - 1](x_BCDHW) if level else x_BCDHW, SLOPE)
        return self.out(x_BCDHW.flatten(1))


class CVTCritic(nn.Module):
    """Three convolutions and two transformer stages; every value of the last map is a logit."""

    def __init__(self, width: int, norm: str):
        super().__init__()
        widths, strides = [2, width, 2 * width, 4 * width], (2, 1, 2)
        self.convs = nn.ModuleList(
            nn.Conv3d(C_in, C, 3, stride, 1)
            for C_in, C, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nn.ModuleList(Normalization(C, norm) for C in widths[1:])
        self.dropout = nn.Dropout1d(0.2)  # of whole channels, after the third convolution
        self.stages = nn.ModuleList(
            [Stage(4 * width, 8 * width, 1, 2, norm), Stage(8 * width, 8 * width, 1, 2, norm, dropout=0.3)]
        )

    def forward(self, low_BCDHW: Tensor, full_BCDHW: Tensor) -> Tensor:
        """(B, 8 width, D / 16, H / 16, W / 16) of pairs as those of `CGANCritic`."""
        x_BCDHW = fill_behind(torch.cat([low_BCDHW, full_BCDHW], 1), _CELL)
        D, H, W = x_BCDHW.shape[2:]
        space: Space = (D, H, W)
        x_BNC = x_BCDHW.flatten(2).transpose(1, 2)
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            assert isinstance(conv, nn.Conv3d)
            x_BNC = convolution(x_BNC, conv, space)
            space = halved(space) if conv.stride[0] == 2 else space
            if number == 2:
                x_BNC = self.dropout(x_BNC.transpose(1, 2)).transpose(1, 2)
            x_BNC = norm(F.leaky_relu(x_BNC, SLOPE))
        for stage in self.stages:
            x_BNC, space = stage(x_BNC, space)
        return x_BNC.transpose(1, 2).unflatten(2, space)


CRITICS: dict[str, Callable[[TrainingConfig], nn.Module]] = {
    "cgan3d": lambda config: CGANCritic(config.patch, config.critic_width or 64, critic_norm(config)),
    "cvtgan3d": lambda config: CVTCritic(config.critic_width or 8, critic_norm(config)),
}


def critic_norm(config: TrainingConfig) -> str:
    """The critic is normalized as the network it judges, over each patch where that has no choice."""
    return getattr(config.network, "norm", "instance")


def check_critic(config: TrainingConfig) -> None:
    """Checks that every normalization of the critic sees several values.

    Raises:
        ValueError: one does not.
    """
    coarsest = math.ceil(config.patch / _CELL)
    if config.critic == "cvtgan3d":
        coarsest = math.ceil(coarsest / 2)  # the keys of its last attention
    if config.critic != NONE and critic_norm(config) != "layer" and coarsest < 2:
        raise ValueError(
            f"leaves the critic {config.critic} one value to normalize over at its lowest level: use larger "
            "patches or another norm"
        )


def needs_one_batch(config: TrainingConfig) -> bool:
    """Whether a patch's gradients depend on the other patches of its batch, or on chance."""
    batch = config.critic != NONE and critic_norm(config) == "batch"
    return config.network.one_batch or batch or config.critic == "cvtgan3d"  # which has dropout


def make_critic(
    make: Callable[[], nn.Module], config: TrainingConfig, device: torch.device, *key: int
) -> Critic:
    """A new critic, whose weights depend on the run's seed and `key` alone, and its optimizer.

    Args:
        make: makes the module, with PyTorch's initial weights.
        config: the configuration.
        device: where it computes.
        *key: numbers that tell this critic from others of the run.
    """
    words = np.random.SeedSequence([config.seed, *key, 1]).generate_state(1, np.uint32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(words[0]))
        module = make().to(device).train()
    group = {"params": list(module.parameters()), "rate": config.critic_rate}
    return Critic(module, critic_optimizer([group], config))


def critic_optimizer(groups: list[dict], config: TrainingConfig) -> torch.optim.Optimizer:
    """That of the network without weight decay; AdamW where the network has Muon."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.learning_rate)
    betas = config.beta1, config.beta2
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, weight_decay=0.0)


class LatentCritic(nn.Module):
    """Tells the centers of latent features apart: two maps to two logits, of the source and of the target."""

    def __init__(self, features: int):
        super().__init__()
        self.wide, self.out = nn.Linear(features, 256), nn.Linear(256, 2)

    def forward(self, z_BK: Tensor) -> Tensor:
        """(B, 2)."""
        return F.leaky_relu(self.out(F.leaky_relu(self.wide(z_BK), SLOPE)), SLOPE)
