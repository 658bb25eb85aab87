"""A network compared with the literal oracle of equations 1 and 2: residual, gates and gradients."""

from __future__ import annotations

import torch
from drmc.benchmark.oracle import Oracle
from drmc.networks.drmc import DRMC
from torch import Tensor

GATE_BIASES = {"open": [0.5, 0.4, 0.3], "mixed": [0.1, 0.0, -9.0], "closed": [-9.0, -9.0, -9.0]}


def tile(*shape, dtype=torch.float64, seed=1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def oracle_of(network: DRMC) -> Oracle:
    oracle = Oracle(network.config).double()
    oracle.load_state_dict(network.authors_state_dict())
    return oracle


def relative(found: Tensor, expected: Tensor) -> float:
    """Greatest difference over greatest value; a value that should be 0 counts in full."""
    largest = expected.abs().max().item()
    return ((found - expected).abs().max() / (largest or 1)).item()


def relative_norm(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def assert_equals_oracle(
    network: DRMC,
    x: Tensor,
    tolerance: float = 1e-10,
    *,
    oracle_of=oracle_of,
    state_of=DRMC.authors_state_dict,
) -> Tensor:
    """Residual, gates and the gradients of the input and of every parameter; returns the gates.

    `oracle_of`: the literal network with the parameters of another; `state_of`: these under the oracle's
    names, a linear view.
    """
    literal = oracle_of(network)
    probe, gate_probe = tile(*x.shape, seed=2), tile(len(x), *network.config.gates_shape, seed=3)
    gradients, results = [], []
    for model in (network, literal):
        own_x = x.clone().requires_grad_()
        residual, gates = model(own_x)
        loss = (residual * probe).sum() + (gates * gate_probe).sum()
        *of_parameters, of_x = torch.autograd.grad(
            loss, [*model.parameters(), own_x], materialize_grads=True, allow_unused=True
        )
        if model is network:  # under the oracle's names too: the mapping is linear
            like = type(network)(network.config).double()
            with torch.no_grad():
                for parameter, gradient in zip(like.parameters(), of_parameters, strict=True):
                    parameter.copy_(gradient)
            named = state_of(like)
        else:
            named = dict(zip(dict(model.named_parameters()), of_parameters, strict=True))
        gradients.append(named | {"x": of_x})
        results.append((residual, gates))
    (residual, gates), (expected_residual, expected_gates) = results
    assert residual.shape == x.shape and gates.shape == gate_probe.shape
    assert relative(residual, expected_residual) < tolerance
    assert relative(gates, expected_gates) < tolerance
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        assert relative(gradients[0][name], expected) < tolerance, name
    network.eval()
    with torch.no_grad():  # the path that skips closed experts
        residual, gates = network(x)
    assert relative(residual, expected_residual) < tolerance and relative(gates, expected_gates) < tolerance
    return gates
