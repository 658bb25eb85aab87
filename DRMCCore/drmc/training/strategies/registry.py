"""The strategies by their names in configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drmc.training.strategies.base import Strategy
from drmc.training.strategies.federated_averaging import FederatedAveraging
from drmc.training.strategies.federated_transfer import FederatedTransfer
from drmc.training.strategies.flmrcm import FLMRCM, FLMRCMMix
from drmc.training.strategies.joint import Joint
from drmc.training.strategies.mixed import Mixed
from drmc.training.strategies.specialist import Specialist

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (Joint, Mixed, Specialist, FederatedAveraging, FederatedTransfer, FLMRCM, FLMRCMMix)
}


def make_strategy(config: TrainingConfig) -> Strategy:
    """The strategy that the configuration names, at the start of its run."""
    return STRATEGIES[config.strategy](config)
