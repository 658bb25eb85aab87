"""What a step minimizes: the loss of the patches, alone or with an adversarial term.

Axes as in `drmc.networks.drmc`; images in network units (SUV / 20).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.critics import Critic
    from drmc.training.processes import Processes
    from drmc.training.strategies.base import Site, Slot

PATCHES = "patches"
"""The name of a site's critic of patches."""
MEAN_CUBE = 8
"""Edge in voxels (16 mm on the network's grid) of the cubes of `mean_error`."""


@dataclass
class Batch:
    """Patches of a step.

    Attributes:
        slots: the slot of each.
        low_BCDHW: low dose.
        wanted_BCDHW: target minus low dose.
        weights: weight of each voxel in the loss, None: 1.
    """

    slots: list[Slot]
    low_BCDHW: Tensor
    wanted_BCDHW: Tensor
    weights: Sequence[Tensor | None]


@dataclass
class Outcome:
    """What a backward pass returns.

    Attributes:
        per_slot: the loss of each patch, without adversarial terms.
        gates_BLM: the gates of each patch.
        measures: sums over patches of what is logged of critics, see `Objective.measures`.
        finite: whether the gradients of critics were finite.
    """

    per_slot: Tensor
    gates_BLM: Tensor
    measures: dict[str, float] = field(default_factory=dict)
    finite: bool = True


def charbonnier(
    residual: Tensor, target: Tensor, epsilon: float, margin: int = 0, weight: Tensor | None = None
) -> Tensor:
    """Charbonnier loss (equation 3): mean over voxels of weight * sqrt((residual - target)^2 + epsilon^2).

    Args:
        residual: (..., z, y, x) in network units (SUV / 20).
        target: the same shape and units.
        epsilon: in network units.
        margin: voxels at each face of the last three axes that are left out.
        weight: the same shape, None: 1.
    """
    inner = _inner(residual, margin)
    loss = torch.sqrt((residual - target)[inner] ** 2 + epsilon**2)
    return (loss if weight is None else loss * weight[inner]).mean()


def absolute(residual: Tensor, target: Tensor, margin: int = 0, weight: Tensor | None = None) -> Tensor:
    """Mean over voxels of weight * |residual - target|; arguments as of `charbonnier`."""
    inner = _inner(residual, margin)
    loss = (residual - target)[inner].abs()
    return (loss if weight is None else loss * weight[inner]).mean()


def mean_error(
    residual: Tensor, target: Tensor, epsilon: float, margin: int = 0, weight: Tensor | None = None
) -> Tensor:
    """Charbonnier loss of the mean error over cubes of `MEAN_CUBE` voxels: what is wrong with sums of uptake.

    Weights of lesions draw an estimate upward wherever there might be one; this keeps its mean where it
    belongs. Every cube counts with the least weight of the patch, that of voxels outside of lesions.

    Args:
        residual: (z, y, x) in network units (SUV / 20).
        target: the same shape and units.
        epsilon: in network units.
        margin: voxels at each face that are left out.
        weight: the same shape, None: 1.
    """
    inner = _inner(residual, margin)
    error = F.avg_pool3d((residual - target)[inner][None], min(MEAN_CUBE, *residual[inner].shape))
    loss = torch.sqrt(error**2 + epsilon**2).mean()
    return loss if weight is None else loss * weight[inner].amin()


def _inner(residual: Tensor, margin: int) -> tuple[EllipsisType | slice, ...]:
    cut = [slice(margin, n - margin) for n in residual.shape[-3:]] if margin else []
    return (..., *cut)


class Objective:
    """The loss of the patches alone; others derive from it.

    Attributes:
        measures: names of what is logged of critics: sums over patches, of which `judged` counts the patches.
    """

    measures: tuple[str, ...] = ()

    def __init__(self, config: TrainingConfig, processes: Processes):
        self.config, self.processes = config, processes
        self.compute_dtype = torch.bfloat16 if config.precision == "bf16" else None

    def losses(self, residual_BCDHW: Tensor, batch: Batch) -> Tensor:
        """The loss of each patch."""
        config = self.config
        found = []
        for residual, wanted, weight in zip(residual_BCDHW, batch.wanted_BCDHW, batch.weights, strict=True):
            if config.loss == "l1":
                found.append(absolute(residual, wanted, config.loss_margin, weight))
            else:
                found.append(charbonnier(residual, wanted, config.charbonnier, config.loss_margin, weight))
            if config.mean_weight:
                error = mean_error(residual[0], wanted[0], config.charbonnier, config.loss_margin, weight)
                found[-1] = found[-1] + config.mean_weight * error
        return torch.stack(found)

    def share(self, site: Site) -> int:
        """Number of patches of a step of the site, over which the loss is the mean."""
        return len(site.centers) * self.config.patches_per_center

    def backward(self, site: Site, batch: Batch, step: int, rate: float) -> Outcome:
        """Adds the patches' gradients to those of the site's network; critics take their step.

        Args:
            site: the site.
            batch: patches of it.
            step: steps before this one.
            rate: learning rate of the step.
        """
        residual_BCDHW, gates_BLM = site.network(batch.low_BCDHW, self.compute_dtype)
        per_slot = self.losses(residual_BCDHW, batch)
        (per_slot.sum() / self.share(site)).backward()
        return Outcome(per_slot.detach(), gates_BLM.detach())

    def without_patches(self, site: Site, step: int, rate: float) -> bool:
        """Takes part in what the processes of a site exchange, in one that has no patches of it.

        Returns:
            Whether the gradients of critics were finite.
        """
        return True

    def after_site(self, site: Site, step: int) -> None:
        """What processes exchange after the step of a site, whoever took it; all processes call it."""


class Adversarial(Objective):
    """Loss + `adversarial_weight` x cross-entropy of a critic that takes the estimate for the full dose.

    In each step the critic learns first, from the same patches: full dose to 1, estimate to 0. Its gradients
    are summed over the processes, so that their number does not matter. Before `adversarial_start` steps
    there is the loss alone.
    """

    measures = ("judged", "critic_loss", "critic_real", "critic_fake", "loss_to_adversarial")

    def backward(self, site: Site, batch: Batch, step: int, rate: float) -> Outcome:
        """The critic's step, then the network's gradients from both terms."""
        if step < self.config.adversarial_start:
            return super().backward(site, batch, step, rate)
        residual_BCDHW, gates_BLM = site.network(batch.low_BCDHW, self.compute_dtype)
        per_slot, count = self.losses(residual_BCDHW, batch), self.share(site)
        critic, low_BCDHW = site.critics[PATCHES], batch.low_BCDHW
        estimate_BCDHW = (low_BCDHW + residual_BCDHW).detach().requires_grad_()
        critic.optimizer.zero_grad(set_to_none=False)
        real = critic.module(low_BCDHW, low_BCDHW + batch.wanted_BCDHW).flatten(1)
        fake = critic.module(low_BCDHW, estimate_BCDHW.detach()).flatten(1)
        critic_loss = (to_label(real, 1) + to_label(fake, 0)) / 2
        (critic_loss.sum() / count).backward()
        finite = self._step(site, critic, rate)
        judged = critic.module(low_BCDHW, estimate_BCDHW).flatten(1)
        fooled = self.config.adversarial_weight * to_label(judged, 1).sum() / count
        # Only gradients of the estimate: none reaches the critic.
        (of_critic,) = torch.autograd.grad(fooled, estimate_BCDHW)
        (of_loss,) = torch.autograd.grad(per_slot.sum() / count, residual_BCDHW, retain_graph=True)
        residual_BCDHW.backward(of_loss + of_critic)
        ratios = of_loss.flatten(1).norm(dim=1) / of_critic.flatten(1).norm(dim=1).clamp_min(1e-30)
        measures = {
            "judged": float(len(real)),
            "critic_loss": float(critic_loss.detach().sum()),
            "critic_real": float((real > 0).float().mean(1).sum()),
            "critic_fake": float((fake < 0).float().mean(1).sum()),
            "loss_to_adversarial": float(ratios.sum()),
        }
        return Outcome(per_slot.detach(), gates_BLM.detach(), measures, finite)

    def without_patches(self, site: Site, step: int, rate: float) -> bool:
        """Adds nothing to the critic's gradients, and takes its step."""
        if step < self.config.adversarial_start:
            return True
        critic = site.critics[PATCHES]
        critic.optimizer.zero_grad(set_to_none=False)
        return self._step(site, critic, rate)

    def _step(self, site: Site, critic: Critic, rate: float) -> bool:
        """The critic's step, with the gradients of all processes; False if they are not finite."""
        if site.owner is None:
            self.processes.sum_gradients(list(critic.module.parameters()))
        if finite := math.isfinite(critic.gradient_norm()):
            critic.step(rate)
        return finite


def to_label(logits: Tensor, label: int) -> Tensor:
    """Cross-entropy of each patch's logits (B, n) with the label 0 or 1, mean over n."""
    labels = torch.full_like(logits, float(label))
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)


def critic_record(sums: dict[str, float]) -> dict[str, dict[str, float]]:
    """What is logged of critics, means over the patches that were judged, NaN if none were.

    `critic_loss`; `critic_real` and `critic_fake`, the shares of the logits with the right sign;
    `loss_to_adversarial`, the ratio of the norms of both terms' gradients at the network's output of a patch.
    {} without critics.
    """
    if not sums:
        return {}
    count = sums.pop("judged")
    return {"critic": {key: value / count if count else math.nan for key, value in sums.items()}}
