"""Federated transfer learning: federated averaging, after which each center continues alone from the mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from drmc.errors import InputError
from drmc.networks.protocol import ResidualNetwork
from drmc.training.strategies.base import Site, mean_model
from drmc.training.strategies.federated_averaging import FederatedAveraging

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.processes import Processes


class FederatedTransfer(FederatedAveraging):
    """Averaging for `federated_steps` (0 = half the steps); then each center continues alone.

    The mean at that step is the model for unknown centers.
    """

    name = "ftl"

    def __init__(self, config: TrainingConfig):
        super().__init__(config)
        self.general: ResidualNetwork | None = None  # the mean at the end of the rounds
        self._ended: int | None = None  # a step of a resumed run after the rounds

    def check(self) -> None:
        """Checks that steps remain after the rounds.

        Raises:
            InputError: none do.
        """
        if not 0 < self.last_round < self.config.steps:
            raise InputError(
                f"federated_steps = {self.config.federated_steps}: must be less than steps "
                f"({self.config.steps})"
            )

    @property
    def last_round(self) -> int:
        """The step after which each center continues alone; rounds that have ended do not begin again."""
        wanted = self.config.federated_steps or self.config.steps // 2
        return wanted if self._ended is None else min(wanted, self._ended)

    def frozen(self, site: Site, step: int) -> list[torch.Tensor]:
        """Nothing in the rounds; after them all but the decoder, on request."""
        return super().frozen(site, step) if step >= self.last_round else []

    def after_step(self, step: int, sites: Sequence[Site], processes: Processes) -> None:
        """As federated averaging; the mean at the end of the rounds is kept."""
        super().after_step(step, sites, processes)
        if step == self.last_round:
            self.general = mean_model(sites)

    def models(self, sites: Sequence[Site]) -> dict[str, ResidualNetwork]:
        """The mean at the end of the rounds and each center's own model.

        Before the end of the rounds, the present mean for all.
        """
        if self.general is None:
            mean = mean_model(sites)
            return {"": mean, **{site.name: mean for site in sites}}
        return {"": self.general, **{site.name: site.average for site in sites}}

    def state(self) -> dict[str, Any]:
        """The mean at the end of the rounds, as `general`, once there is one."""
        return {} if self.general is None else {"general": self.general.state_dict()}

    def load(self, state: dict[str, Any], sites: Sequence[Site]) -> None:
        """Restores `state`; a checkpoint within the rounds has no mean yet.

        Raises:
            InputError: with the present number of steps the rounds would have ended before.
        """
        self.general = self._ended = None
        if "general" in state:
            self.general = mean_model(sites)
            self.general.load_state_dict(state["general"])
            self._ended = state["step"]
        elif state["step"] > self.last_round:
            raise InputError(
                f"steps = {self.config.steps}: the rounds of ftl would have ended at step {self.last_round}, "
                f"but the run is at step {state['step']} of them: raise steps to {2 * state['step']} or more"
            )
