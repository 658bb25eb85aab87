"""What one site does of a federated strategy: it steps its own network, and the mean comes from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

from drmc.training.strategies.base import Site, Slot
from drmc.training.strategies.federated_averaging import FederatedAveraging
from drmc.training.strategies.federated_transfer import FederatedTransfer

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.processes import Processes


class _OneCenter(FederatedAveraging):
    """The part of one center; its draws and steps are those that it has when all are trained together."""

    def __init__(self, config: TrainingConfig, center: str):
        super().__init__(config)
        self.center = center

    @property
    def site_centers(self) -> dict[str, tuple[str, ...]]:
        """The one site."""
        return {self.center: (self.center,)}

    @property
    def step_slots(self) -> list[Slot]:
        """Those of the center."""
        return [slot for slot in super().step_slots if slot[0] == self.center]

    def in_order(self, step: int, sites: Sequence[Site]) -> list[tuple[int, Site]]:
        """The one site, with its number among all."""
        return [(self.config.centers.index(self.center), sites[0])]

    def after_step(self, step: int, sites: Sequence[Site], processes: Processes) -> None:
        """Nothing: the mean is taken by the server, between rounds."""

    def end_rounds(self, sites: Sequence[Site]) -> None:
        """The sites have the mean after the last round."""


class AveragingMember(_OneCenter):
    """The part of one center in federated averaging."""


class TransferMember(_OneCenter, FederatedTransfer):
    """The part of one center in federated transfer learning."""

    def end_rounds(self, sites: Sequence[Site]) -> None:
        """Keeps the mean, which is the model for unknown centers."""
        self.general = deepcopy(sites[0].average)


def member_strategy(config: TrainingConfig, center: str) -> _OneCenter:
    """The part of a center in the strategy of the configuration."""
    return (TransferMember if config.strategy == "ftl" else AveragingMember)(config, center)
