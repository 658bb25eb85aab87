"""Federated averaging: each center learns on its own, and every few steps the networks become their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drmc.networks.protocol import ResidualNetwork
from drmc.training.strategies.base import Site, SitePerCenter, average_sites, mean_model, share_sites

if TYPE_CHECKING:
    from drmc.training.processes import Processes


class FederatedAveraging(SitePerCenter):
    """McMahan et al., AISTATS 2017, with local optimizers whose state stays at the site.

    A round has `round_steps` steps; the last one ends with the last step, even if it is shorter.
    """

    name = "fedavg"

    @property
    def last_round(self) -> int:
        """The step after which the sites are averaged for the last time."""
        return self.config.steps

    def ends_round(self, step: int) -> bool:
        """Whether the sites are averaged after `step` steps."""
        last = self.last_round
        return step <= last and (step % self.config.round_steps == 0 or step == last)

    def after_step(self, step: int, sites: Sequence[Site], processes: Processes) -> None:
        """At the end of a round the sites become their mean, in all processes."""
        if self.ends_round(step):
            share_sites(sites, processes, optimizers=False)
            average_sites(sites)

    def models(self, sites: Sequence[Site]) -> dict[str, ResidualNetwork]:
        """The mean of the sites' moving averages, for every center."""
        return {"": mean_model(sites)}
