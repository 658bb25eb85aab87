"""The gradients of a network's loss on patches of each center, by groups of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from drmc.errors import InputError
from drmc.networks.drmc import Block, RoutedNetwork
from drmc.networks.protocol import ResidualNetwork
from drmc.training.objectives import absolute, charbonnier
from drmc.training.sampler import PatchSampler

ALL = "all parameters"


@dataclass(frozen=True)
class Loss:
    """The loss of a patch, as in `drmc.training.config.TrainingConfig`."""

    loss: str = "charbonnier"
    charbonnier: float = 1e-3
    loss_margin: int = 0

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> Loss:
        """That of a training's configuration; what it does not say is the default."""
        names = ("loss", "charbonnier", "loss_margin")
        return cls(**{name: configuration[name] for name in names if name in configuration})

    def __call__(self, residual: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Mean over the patches, without adversarial terms."""
        if self.loss == "l1":
            return absolute(residual, wanted, self.loss_margin)
        return charbonnier(residual, wanted, self.charbonnier, self.loss_margin)


def parameter_groups(network: ResidualNetwork, blocks: Sequence[int] = ()) -> dict[str, list[nn.Parameter]]:
    """The groups of a network: of each block both banks, each with all experts, and its routers; and all.

    Args:
        network: the network; one without blocks of banks has the group of all parameters only.
        blocks: numbers of the blocks, from 1; none: every block.

    Raises:
        InputError: there is no such block.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    own = network.blocks if isinstance(network, RoutedNetwork) else ()
    if beyond := [number for number in blocks if not 1 <= number <= len(own)]:
        raise InputError(f"block {beyond[0]}: the network has {len(own)} blocks, which count from 1")
    for number, block in enumerate(own, 1):
        assert isinstance(block, Block)
        if not blocks or number in blocks:
            groups[f"block {number} attention"] = list(block.attention.parameters())
            groups[f"block {number} ffn"] = list(block.ffn.parameters())
            routers = [*block.router1.parameters(), *block.router2.parameters()]
            if routers:
                groups[f"block {number} routers"] = routers
    return {**groups, ALL: list(network.parameters())}


class NetworkGradients:
    """The gradient of one patch: its loss at the network's weights, which stay as they are.

    Batch `b` of a center is the patch that the sampler draws in step `b`. The network is in evaluation mode:
    no dropout, and running statistics where it has some.
    """

    def __init__(
        self,
        network: ResidualNetwork,
        sampler: PatchSampler,
        groups: Mapping[str, Sequence[nn.Parameter]],
        loss: Loss,
    ):
        self.network, self.sampler, self.groups, self.loss = network.eval(), sampler, groups, loss

    def patches(self, center: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Low dose, and target minus low dose, (1, 1, z, y, x) in network units."""
        patch = self.sampler.draw(batch, self.sampler.centers[center], 0)
        parameter = next(self.network.parameters())
        low, target = (
            torch.from_numpy(np.ascontiguousarray(image))[None, None].to(parameter)
            for image in (patch.low, patch.target)
        )
        return low, target - low

    def value(self, center: int, batch: int) -> torch.Tensor:
        """The loss of a batch."""
        low_BCDHW, wanted_BCDHW = self.patches(center, batch)
        return self.loss(self.network(low_BCDHW)[0], wanted_BCDHW)

    def __call__(self, center: int, batch: int) -> list[np.ndarray]:
        """The gradient as a vector for each group; 0 for a parameter that the loss does not depend on."""
        parameters = list(self.network.parameters())
        with torch.enable_grad():
            found = torch.autograd.grad(self.value(center, batch), parameters, allow_unused=True)
        gradients = {
            id(p): torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
        }
        return [
            torch.cat([gradients[id(p)].flatten() for p in group]).double().cpu().numpy()
            for group in self.groups.values()
        ]
