"""The weights as they travel: float32 arrays by name, of the network and of its moving average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from drmc.errors import DRMCError

if TYPE_CHECKING:
    from drmc.networks.protocol import ResidualNetwork
    from drmc.training.strategies.base import Site

Arrays = dict[str, np.ndarray]
NETWORK, AVERAGE = "network", "average"


def named(network: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """What is averaged of a network, by name: parameters and floating-point buffers."""
    buffers = ((name, b) for name, b in network.named_buffers() if b.is_floating_point())
    return {f"{prefix}.{name}": tensor for name, tensor in (*network.named_parameters(), *buffers)}


def tensors_of(site: Site) -> dict[str, torch.Tensor]:
    """The tensors of a site that travel, by name."""
    return {**named(site.network, NETWORK), **named(site.average, AVERAGE)}


def arrays_of(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Copies of the tensors' values."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def take(arrays: Arrays, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Copies arrays into the tensors of the same names.

    Raises:
        DRMCError: they do not fit, see `check_arrays`.
    """
    check_arrays(arrays, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, source)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))


def check_arrays(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Checks arrays that came from elsewhere.

    Args:
        arrays: what came.
        shapes: the shape of each array that is expected.
        source: who sent them, for messages.

    Raises:
        DRMCError: one is missing, unknown, of another form, or not finite.
    """
    if differing := sorted(set(arrays) ^ set(shapes)):
        raise DRMCError(f"{source}: sent another network than the plan's ({differing[0]})")
    for name, array in arrays.items():
        right = isinstance(array, np.ndarray) and array.dtype == np.float32 and array.shape == shapes[name]
        if not right:
            raise DRMCError(f"{source}: {name} is not an array of float32 and shape {shapes[name]}")
        if not np.isfinite(array).all():
            raise DRMCError(f"{source}: {name} has values that are not finite")


def average_model(arrays: Arrays, network: ResidualNetwork) -> ResidualNetwork:
    """The network with the moving average's weights."""
    kept = {name: array for name, array in arrays.items() if name.startswith(f"{AVERAGE}.")}
    take(kept, named(network, AVERAGE), "the weights")
    return network.eval()
