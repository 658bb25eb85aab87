"""AdamW, with Muon's update for stacks of matrices.

Muon (K. Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks") replaces the momentum
of a matrix by the nearest matrix with orthonormal rows or columns, so that all its directions are learned at
the same rate. After LayerNorm the experts' maps are badly scaled for AdamW: few directions carry the mean,
many the contrast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch

MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic of the source above
_ITERATIONS = 5


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Nearly U V^T of the singular value decomposition U S V^T of each matrix (..., rows, columns).

    Singular values of the result lie between about 0.7 and 1.2, which is accurate enough for the direction of
    a step. A matrix of zeros stays zero.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class MuonAdamW(torch.optim.AdamW):
    """AdamW whose groups with `matrices` take Muon's step instead.

    `matrices=True`: stacks (..., rows, columns) or depth-wise kernels (..., channels, 3, 3, 3), read as
    channels x 27. `matrices="whole"`: one matrix each; a kernel (out, in, 3, 3, 3) is read as out x 27 in,
    that of a transposed convolution (in, out, 4, 4, 4) as in x 64 out.
    The root mean square of a step is 0.2 lr, about that of AdamW (J. Liu et al., 2025, arXiv:2502.16982).
    """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; parameters of `matrices` groups lose their gradient.

        Args:
            closure: computes the loss and the gradients anew, as in all of PyTorch's optimizers.

        Returns:
            What the closure returned, None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("matrices"):
                for parameter in group["params"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])  # as AdamW's
                    self._muon(parameter, group["lr"], whole=group["matrices"] == "whole")
                    parameter.grad = None  # AdamW skips it
        super().step()
        return loss

    def _muon(self, parameter: torch.Tensor, rate: float, *, whole: bool) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)  # AdamW needs it when a state is loaded
            state["momentum"] = torch.zeros_like(parameter)
        state["step"] += 1
        momentum = state["momentum"].mul_(MOMENTUM).add_(parameter.grad)
        ahead = parameter.grad + MOMENTUM * momentum  # Nesterov
        matrices = ahead.flatten(1) if whole else ahead.flatten(-3) if parameter.ndim == 5 else ahead
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        parameter.sub_(rate * scale * orthogonalized(matrices).view_as(parameter))
