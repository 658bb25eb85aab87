"""The latent features of a network, which strategies align between centers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drmc.networks.protocol import ResidualNetwork


@contextmanager
def recorded_latents(network: ResidualNetwork) -> Iterator[list[Tensor]]:
    """Records the latent features of a forward pass.

    The list receives (B, K) of each of the network's `latent_layers`, in their order of computation; their
    gradients reach only what computes them.
    """
    parts: list[Tensor] = []

    def record(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        parts.append(network.latent(inputs))

    hooks = [layer.register_forward_pre_hook(record) for layer in network.latent_layers]
    try:
        yield parts
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def latent_size(network: ResidualNetwork, edge: int) -> int:
    """Number K of latent features of a tile of `edge` voxels, 0 for a network without latent features."""
    training, device = network.training, next(network.parameters()).device
    with recorded_latents(network.eval()) as parts:
        network(torch.zeros(1, 1, edge, edge, edge, device=device))
    network.train(training)
    return sum(part.shape[1] for part in parts)
