"""FL-MRCM: federated averaging whose sites align their latent features with those of a target center.

P. Guo et al., "Multi-institutional collaborations for improving deep learning-based magnetic resonance image
reconstruction using federated learning", CVPR 2021; and the "Mix" mode of Yang et al., MICCAI 2023, in which
the constraint that data stay at their site is dropped. docs/comparison.md says what was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drmc.errors import InputError
from drmc.networks.latent import latent_size
from drmc.networks.protocol import ResidualNetwork
from drmc.training.alignment import Aligned, AlignedTogether, pair_name
from drmc.training.critics import NONE, Critic, LatentCritic, make_critic
from drmc.training.objectives import Objective
from drmc.training.strategies.base import OneSite, Site, Strategy
from drmc.training.strategies.federated_averaging import FederatedAveraging

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.processes import Processes


class _Alignment(Strategy):
    """What both modes have in common: targets, and a critic for each source and target."""

    def __init__(self, config: TrainingConfig):
        super().__init__(config)
        self.features = 0
        """Number of latent features of a patch, known when the sites are made."""

    def check(self) -> None:
        """Checks the settings of the alignment.

        Raises:
            InputError: there is one center, the target is none of the centers, there is another critic, or
                a step is computed in parts.
        """
        config = self.config
        if len(config.centers) < 2:
            raise InputError(f"strategy = {self.name}: aligns centers, and needs at least two of them")
        if config.target_center and config.target_center not in config.centers:
            raise InputError(
                f"target_center = {config.target_center!r}: must be a center of the run, or empty"
            )
        if config.critic != NONE:
            raise InputError(f"critic = {config.critic}: must be none with {self.name}, which has its own")
        if config.slots_at_once:
            raise InputError(
                f"slots_at_once = {config.slots_at_once}: must be 0 with {self.name}, which needs all"
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The centers that are targets, in turn."""
        return (self.config.target_center,) if self.config.target_center else self.config.centers

    def _critics(self, network: ResidualNetwork, pairs: Sequence[tuple[str, str]]) -> list[Critic]:
        """A new critic for each pair of a source and a target.

        Raises:
            InputError: the network has no latent features.
        """
        config, centers = self.config, self.config.centers
        if not self.features:
            self.features = latent_size(network, config.patch)
        if not self.features:
            raise InputError(
                f"strategy = {self.name}: {config.network.kind} has no level below the finest to align"
            )
        device, make = next(network.parameters()).device, lambda: LatentCritic(self.features)
        keys = [(centers.index(source), centers.index(target)) for source, target in pairs]
        return [make_critic(make, config, device, *key) for key in keys]


class FLMRCM(_Alignment, FederatedAveraging):
    """Federated averaging with alignment; in a round all sites have one target, every center in turn.

    With `target_center` the target is always that one, as published.
    """

    name = "flmrcm"

    def target(self, step: int) -> str:
        """The target after `step` steps."""
        return self.targets[step // self.config.round_steps % len(self.targets)]

    def in_order(self, step: int, sites: Sequence[Site]) -> list[tuple[int, Site]]:
        """The target first, whose features the others need."""
        target = self.target(step)
        return sorted(enumerate(sites), key=lambda numbered: numbered[1].name != target)

    def critics(self, number: int, name: str, network: ResidualNetwork) -> dict[str, Critic]:
        """One for each target that is not the site itself, by the target's name."""
        targets = [target for target in self.targets if target != name]
        return dict(zip(targets, self._critics(network, [(name, t) for t in targets]), strict=True))

    def objective(self, processes: Processes) -> Objective:
        """The loss with alignment."""
        return Aligned(self.config, processes, self.target, self.features)


class FLMRCMMix(_Alignment, OneSite):
    """One network, a slot for each center, and alignment of all centers with a target, each in turn."""

    name = "flmrcm_mix"

    def target(self, step: int) -> str:
        """The target after `step` steps."""
        return self.targets[step % len(self.targets)]

    def critics(self, number: int, name: str, network: ResidualNetwork) -> dict[str, Critic]:
        """One for each ordered pair of centers."""
        centers = self.config.centers
        pairs = [(source, target) for target in self.targets for source in centers if source != target]
        names = [pair_name(*pair) for pair in pairs]
        return dict(zip(names, self._critics(network, pairs), strict=True))

    def objective(self, processes: Processes) -> Objective:
        """The loss with alignment."""
        return AlignedTogether(self.config, processes, self.target, self.features, self.step_slots)
