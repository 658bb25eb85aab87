"""What a run starts from: the network, a new one or a model's, and its optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from drmc.errors import InputError
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.drmc import AttentionBank, FFNBank, Router
from drmc.networks.protocol import ResidualNetwork
from drmc.networks.registry import build
from drmc.training.muon import MuonAdamW

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig


def initial_model(config: TrainingConfig) -> ModelEntry | None:
    """The model that the run starts from, None for a new network.

    Raises:
        InputError: there is no such model, or it is damaged.
    """
    return find_model(config.initial_weights) if config.initial_weights else None


def initial_network(config: TrainingConfig) -> ResidualNetwork:
    """The network before the first step: that of `initial_weights`, or a new one from the seed.

    Raises:
        InputError: the weights belong to another network than the configuration's.
    """
    network = _initial_weights(config)
    for router in (module for module in network.modules() if isinstance(module, Router)):
        router.reopens = config.reopen_gates
    return network


def _initial_weights(config: TrainingConfig) -> ResidualNetwork:
    if entry := initial_model(config):
        network = load_network(entry)[0]
        wanted, found = ({"kind": s.kind, **s.to_dict()} for s in (config.network, network.config))
        if differing := [key for key in wanted if wanted[key] != found.get(key)]:
            raise InputError(
                f"network: {differing[0]} = {wanted[differing[0]]} is not that of initial_weights "
                f"{config.initial_weights} ({found.get(differing[0])}): leave it out, or start anew"
            )
        return network
    torch.manual_seed(config.seed)
    network = build(config.network.kind, config.network)
    with torch.no_grad():
        network.head.weight.mul_(config.head_gain)
        if config.averaging_start:
            for bank in (module for module in network.modules() if isinstance(module, AttentionBank)):
                bank.depthwise_MC333.mul_(0.3).add_(1 / 27)
        if config.identity_start:  # the residual is zero
            for parameter in network.tail.parameters():
                parameter.zero_()
    return network


def make_optimizer(network: ResidualNetwork, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of a network.

    Each of its groups has a `rate`, its factor on the learning rate, and the `names` of its parameters.
    """
    groups = _parameter_groups(network, config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.learning_rate)
    return MuonAdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))


def _parameter_groups(network: ResidualNetwork, config: TrainingConfig) -> list[dict]:
    """Groups of parameters with the same settings.

    Matrices and kernels have weight decay, vectors have none. The tail and, with Muon, the inner matrices
    have rates of their own.
    """
    inner = _inner_matrices(network) if config.optimizer == "muon" else {}
    groups: dict[tuple, dict] = {}
    for name, parameter in network.named_parameters():
        if name in inner:
            rate, matrices = config.muon_rate, inner[name]
        else:
            rate, matrices = config.tail_rate if name.startswith("tail.") else 1.0, False
        decay = config.weight_decay if _is_weight(name, parameter) else 0.0
        settings = {"rate": rate, "matrices": matrices, "weight_decay": decay}
        group = groups.setdefault((rate, matrices, decay), {"params": [], "names": [], **settings})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _is_weight(name: str, parameter: torch.Tensor) -> bool:
    """Whether it is a matrix or kernel; a bank's biases and temperatures are stacked vectors and numbers."""
    return parameter.ndim > 1 and not name.rpartition(".")[2].startswith(("bias", "temperature"))


def _inner_matrices(network: ResidualNetwork) -> dict[str, bool | str]:
    """By name, what Muon updates and how it reads it (`drmc.training.muon`).

    These are the maps and kernels of banks, and the weights of convolutions and linear maps between head and
    tail. Routers are not among them: they are small, and single rows of them matter.
    """
    found: dict[str, bool | str] = {}
    routers = (module for module in network.modules() if isinstance(module, Router))
    apart = {layer for part in (network.head, network.tail, *routers) for layer in part.modules()}
    for place, module in network.named_modules():
        if isinstance(module, AttentionBank | FFNBank):
            found |= {f"{place}.{name}": True for name, p in module.named_parameters() if p.ndim >= 3}
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.Linear) and module not in apart:
            found[f"{place}.weight"] = "whole"
    return found
