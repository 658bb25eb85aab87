"""The objectives of FL-MRCM: latent features of different centers are made hard to tell apart.

P. Guo et al., CVPR 2021. A critic for each pair of a source and the target learns to tell their latent
features apart; the network is then trained with the codes of source and target exchanged. What was chosen:
docs/comparison.md. Axes as in `drmc.networks.drmc`; z_BK latent features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from drmc.networks.latent import recorded_latents
from drmc.training.objectives import Batch, Objective, Outcome

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.critics import Critic
    from drmc.training.processes import Processes
    from drmc.training.strategies.base import Site, Slot

SOURCE, TARGET = (1.0, 0.0), (0.0, 1.0)
"""The codes that critics learn."""
Target = Callable[[int], str]
"""The target's center in a step, from the number of steps before it."""


def to_code(logits_B2: Tensor, code: tuple[float, float]) -> Tensor:
    """Binary cross-entropy of both logits of each patch with a code, mean over the two: (B)."""
    wanted_B2 = logits_B2.new_tensor(code).expand_as(logits_B2)
    return F.binary_cross_entropy_with_logits(logits_B2, wanted_B2, reduction="none").mean(1)


def learn(critic: Critic, source_BK: Tensor, target_BK: Tensor) -> dict[str, float]:
    """Gives a critic the gradients of its loss; returns the sums to log, over the source's patches."""
    critic.optimizer.zero_grad(set_to_none=False)
    of_source_B2, of_target_B2 = critic.module(source_BK), critic.module(target_BK)
    loss = (to_code(of_source_B2, SOURCE).mean() + to_code(of_target_B2, TARGET).mean()) / 2
    loss.backward()
    count = len(source_BK)
    return {
        "judged": float(count),
        "critic_loss": count * float(loss.detach()),
        "critic_source": count * float((of_source_B2[:, 0] > of_source_B2[:, 1]).float().mean()),
        "critic_target": count * float((of_target_B2[:, 1] > of_target_B2[:, 0]).float().mean()),
    }


class Aligned(Objective):
    """Loss + `alignment_weight` x adversarial term, where sites share nothing but the target's features.

    In each step the target steps first, with the loss alone, and its latent features reach the other sites.
    Each of them trains its critic of this target, then its network. Features go one way: no gradient returns
    to the target.
    """

    measures = ("judged", "critic_loss", "critic_source", "critic_target")

    def __init__(self, config: TrainingConfig, processes: Processes, target: Target, features: int):
        super().__init__(config, processes)
        self.target = target
        self.sent_BK = torch.zeros(config.patches_per_center, features, device=processes.device)

    def backward(self, site: Site, batch: Batch, step: int, rate: float) -> Outcome:
        """The critic's step, then the network's gradients from both terms; of the target from the loss."""
        if step < self.config.adversarial_start:
            return super().backward(site, batch, step, rate)
        with recorded_latents(site.network) as parts:
            residual_BCDHW, gates_BLM = site.network(batch.low_BCDHW, self.compute_dtype)
        per_slot, z_BK = self.losses(residual_BCDHW, batch), torch.cat(parts, 1)
        outcome = Outcome(per_slot.detach(), gates_BLM.detach())
        loss = per_slot.sum() / self.share(site)
        if site.name == self.target(step):
            self.sent_BK = z_BK.detach()
            loss.backward()
            return outcome
        critic = site.critics[self.target(step)]
        alone_BK = z_BK.detach()
        outcome.measures = learn(critic, alone_BK, self.sent_BK)
        if finite := math.isfinite(critic.gradient_norm()):
            critic.step(rate)
        outcome.finite = finite
        alone_BK.requires_grad_()
        # Half: the other half is the target's, which does not depend on this network.
        confused = self.config.alignment_weight * to_code(critic.module(alone_BK), TARGET).mean() / 2
        (of_critic_BK,) = torch.autograd.grad(confused, alone_BK)
        torch.autograd.backward([loss, z_BK], [None, of_critic_BK])
        return outcome

    def after_site(self, site: Site, step: int) -> None:
        """The target's latent features reach all processes."""
        if step >= self.config.adversarial_start and site.name == self.target(step):
            assert site.owner is not None
            self.processes.broadcast_([self.sent_BK], site.owner)


class AlignedTogether(Objective):
    """The same term for one network and all centers at once, as the paper's "Mix" mode.

    Each step has one target; every other center is a source, with a critic of its own for each target. The
    network's gradients come from the features of both. Every process trains all critics, on the features of
    all patches.
    """

    measures = Aligned.measures

    def __init__(
        self,
        config: TrainingConfig,
        processes: Processes,
        target: Target,
        features: int,
        slots: Sequence[Slot],
    ):
        super().__init__(config, processes)
        self.target, self.features, self.slots = target, features, list(slots)
        self.rows = {c: [n for n, slot in enumerate(self.slots) if slot[0] == c] for c in config.centers}

    def backward(self, site: Site, batch: Batch, step: int, rate: float) -> Outcome:
        """The critics' steps, then the network's gradients from both terms."""
        if step < self.config.adversarial_start:
            return super().backward(site, batch, step, rate)
        with recorded_latents(site.network) as parts:
            residual_BCDHW, gates_BLM = site.network(batch.low_BCDHW, self.compute_dtype)
        per_slot, z_BK = self.losses(residual_BCDHW, batch), torch.cat(parts, 1)
        loss = per_slot.sum() / self.share(site)
        alone_BK = z_BK.detach()
        measures, finite = self._learn(site, alone_BK, batch.slots, step, rate)
        alone_BK.requires_grad_()
        (of_critics_BK,) = torch.autograd.grad(self._confused(site, alone_BK, batch.slots, step), alone_BK)
        torch.autograd.backward([loss, z_BK], [None, of_critics_BK])
        # Every process has the same measures: this one's part.
        part = len(batch.slots) / len(self.slots)
        measures = {key: part * value for key, value in measures.items()}
        return Outcome(per_slot.detach(), gates_BLM.detach(), measures, finite)

    def without_patches(self, site: Site, step: int, rate: float) -> bool:
        """Trains the critics on the features of the other processes."""
        if step < self.config.adversarial_start:
            return True
        none_BK = torch.zeros(0, self.features, device=self.processes.device)
        return self._learn(site, none_BK, [], step, rate)[1]

    def _pairs(self, site: Site, step: int) -> list[tuple[str, Critic]]:
        """Each source and its critic of the step's target."""
        target = self.target(step)
        sources = [center for center in self.config.centers if center != target]
        return [(source, site.critics[pair_name(source, target)]) for source in sources]

    def _learn(
        self, site: Site, z_BK: Tensor, slots: Sequence[Slot], step: int, rate: float
    ) -> tuple[dict[str, float], bool]:
        """Steps of the critics on all patches of the step; what is logged, and whether all were finite."""
        all_BK = torch.zeros(len(self.slots), self.features, device=self.processes.device)
        all_BK[[self.slots.index(slot) for slot in slots]] = z_BK
        self.processes.sum_(all_BK)
        measures, finite = dict.fromkeys(self.measures, 0.0), True
        for source, critic in self._pairs(site, step):
            found = learn(critic, all_BK[self.rows[source]], all_BK[self.rows[self.target(step)]])
            measures = {key: measures[key] + value for key, value in found.items()}
            finite &= math.isfinite(critic.gradient_norm())
        if finite:
            for _, critic in self._pairs(site, step):
                critic.step(rate)
        return measures, finite

    def _confused(self, site: Site, z_BK: Tensor, slots: Sequence[Slot], step: int) -> Tensor:
        """The adversarial term: mean over sources, of the source's and the target's with codes exchanged.

        A sum over this process's patches, so that the processes' gradients add up to that of the mean.
        """
        pairs, target = self._pairs(site, step), self.target(step)
        each = self.config.alignment_weight / (2 * len(pairs) * self.config.patches_per_center)
        total = z_BK.new_zeros(())
        for source, critic in pairs:
            logits_B2 = critic.module(z_BK)
            for center, code in ((source, TARGET), (target, SOURCE)):
                mine = [n for n, slot in enumerate(slots) if slot[0] == center]
                total = total + each * to_code(logits_B2[mine], code).sum()
        return total


def pair_name(source: str, target: str) -> str:
    """The name of a critic among those of one site."""
    return f"{source} > {target}"
