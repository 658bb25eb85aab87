"""What is measured: one tile, or one training step on a patch, by the engine or by the oracle.

Speed does not depend on the weights: networks are new ones, from a fixed seed, so that a workload is a
handful of settings that a fresh process can build again. Axes as in `drmc.networks.drmc`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from drmc.benchmark.oracle import Oracle
from drmc.networks.drmc import DRMC, NetworkConfig, Router
from drmc.runtime.precision import float32_products

SEED = 20230801
LEARNING_RATE, CHARBONNIER = 1e-4, 1e-3  # of the paper; they cost the same at any value
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass(frozen=True)
class Workload:
    """One computation.

    kind: "tile" (inference) or "training" (forward, backward and Adam's step on one patch).
    side: "product" (`drmc.networks.drmc`) or "oracle" (equations 1 and 2, expert by expert).
    edge: voxels along each edge of the tile.   precision: "fp32", "bf16", for the oracle also "fp64".
    open_gates: experts open in every bank; None: as a new network's routers have it.
    """

    kind: str
    side: str
    config: NetworkConfig
    edge: int
    precision: str
    device: str = "cpu"
    open_gates: int | None = None

    def of_edge(self, edge: int) -> Workload:
        """The same on a tile of another size."""
        return replace(self, edge=edge)


def measurable_open_gates(config: NetworkConfig) -> list[int]:
    """Numbers of open gates per bank that are measured: all, and one where a router can close the others."""
    if config.gate == "relu":
        return sorted({config.experts, 1}, reverse=True)
    return [min(2, config.experts) if config.gate == "top2" else config.experts]


def new_network(config: NetworkConfig, open_gates: int | None = None) -> DRMC:
    """A network of the fixed seed; with `open_gates` its routers open that many experts for every tile."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = DRMC(config)
    if open_gates is not None and config.gate != "none":
        with torch.no_grad():
            for router in (module for module in network.modules() if isinstance(module, Router)):
                router.outer.weight.zero_()
                router.outer.bias.fill_(-1.0)
                router.outer.bias[:open_gates] = 1 / open_gates
    return network


def prepare(work: Workload) -> tuple[DRMC | Oracle, Callable[[], tuple[Tensor, Tensor]]]:
    """The network and a function that computes once: residual (1, 1, D, H, W) and gates (1, L, M)."""
    product = new_network(work.config, work.open_gates)
    network: DRMC | Oracle = product
    if work.side == "oracle":
        network = Oracle(work.config)
        network.load_state_dict(product.authors_state_dict())
    dtype, device = DTYPES[work.precision], torch.device(work.device)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    network = network.to(device, exact).train(work.kind == "training")
    x_BCDHW, target_BCDHW = inputs(work)

    def forward() -> tuple[Tensor, Tensor]:
        if work.side == "product":
            return network(x_BCDHW, dtype if dtype != exact else None)
        with torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext():
            return network(x_BCDHW)

    def tile() -> tuple[Tensor, Tensor]:
        # As the denoiser runs it on CUDA: repeatable, and float32 without TF32's rounding.
        with torch.inference_mode(), float32_products(device, deterministic=True):
            return forward()

    if work.kind == "tile":
        return network, tile
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)

    def step() -> tuple[Tensor, Tensor]:
        with float32_products(device, deterministic=False):
            optimizer.zero_grad(set_to_none=True)
            residual_BCDHW, gates_BLM = forward()
            error_BCDHW = residual_BCDHW.to(exact) - target_BCDHW
            torch.sqrt(error_BCDHW**2 + CHARBONNIER**2).mean().backward()
            optimizer.step()
        return residual_BCDHW.detach(), gates_BLM.detach()

    return network, step


def inputs(work: Workload) -> tuple[Tensor, Tensor]:
    """The tile in SUV/20 and the residual to learn, both (1, 1, D, H, W); float32, or float64 for "fp64"."""
    exact = torch.float64 if work.precision == "fp64" else torch.float32
    draw = torch.Generator().manual_seed(SEED)
    x_BCDHW, target_BCDHW = (
        (scale * torch.rand((1, 1, *3 * (work.edge,)), generator=draw)).to(work.device, exact)
        for scale in (0.1, 0.01)  # SUV 0 to 2, and noise of a tenth of it
    )
    return x_BCDHW, target_BCDHW


def gradient(network: DRMC | Oracle) -> Tensor:
    """All gradients that the last step left, in the order of the authors' names: the same for both sides."""
    if isinstance(network, Oracle):
        named = {name: _grad(parameter) for name, parameter in network.named_parameters()}
    else:
        if not isinstance(network.config, NetworkConfig):
            raise TypeError(f"no oracle of networks of kind {network.config.kind}")
        like = DRMC(network.config)  # the authors' names and shapes are a linear view of ours
        with torch.no_grad():
            for own, parameter in zip(like.parameters(), network.parameters(), strict=True):
                own.copy_(_grad(parameter))
        named = like.authors_state_dict()
    return torch.cat([named[name].flatten().cpu().double() for name in sorted(named)])


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise ValueError("a parameter has no gradient: take a training step first")
    return parameter.grad


def multiply_adds(config: NetworkConfig, edge: int, open_gates: int) -> int:
    """Multiply-adds of one tile in the engine's form.

    Gram matrix, map, depth-wise kernel, projection and FFN. Those over the voxels alone: the algebra of
    C x C matrices is smaller by the number of voxels.
    """
    C, fold = config.channels, getattr(config, "voxel_unshuffle", 1) ** 3
    attention = C * C + open_gates * (C * C + 27 * C + C * C)
    ffn = open_gates * 2 * config.ffn_ratio * C * C
    return edge**3 // fold * (config.blocks * (attention + ffn) + 2 * 27 * fold * C)
