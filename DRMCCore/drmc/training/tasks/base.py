"""The interface of tasks, and the task of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from drmc.datasets.manifest import Case

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.objectives import Objective
    from drmc.training.processes import Processes
    from drmc.training.strategies.base import Slot

Cases = Mapping[str, Sequence[Case]]
"""Cases by center."""
Scores = dict[str, dict[str, float]]
"""Measure -> center -> value."""


class Sampler(Protocol):
    """Draws patches; those of step t are determined by (seed, t, center, slot) alone."""

    def draw(self, step: int, center: str, slot: int) -> Any:
        """One patch, of whatever form `Task.batch` takes."""


class HeldOut(Protocol):
    """Held-out cases on which any network can be measured."""

    def measure(self, network: Any) -> Scores:
        """Scores of a network, or of several by center."""


class Task:
    """What a run trains its networks for; `name` is the task in a model's card.

    Attributes:
        config: the configuration.
    """

    name: ClassVar[str]
    kept: ClassVar[tuple[str, ...]]
    """Measures of a validation that a checkpoint stores, for the card."""
    probe: ClassVar[int] = 32
    """Edge in voxels of a patch whose time and memory scale with the volume to those of larger ones."""

    def __init__(self, config: TrainingConfig):
        self.config = config

    def check(self) -> None:
        """Checks that the configuration's other settings fit this task.

        Raises:
            InputError: they do not.
        """

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Size of a patch (z, y, x) in voxels."""
        return (self.config.patch,) * 3

    def initial_network(self) -> Any:
        """The network before the first step: that of `initial_weights`, or a new one from the seed.

        Raises:
            InputError: the weights belong to another network than the configuration's.
        """
        raise NotImplementedError

    def example(self, edge: int) -> torch.Tensor:
        """A patch of random values with that edge, as the network takes it."""
        raise NotImplementedError

    def fingerprint(self, *splits: dict[str, list[Case]]) -> str:
        """SHA-256 over all that a run reads of these cases."""
        raise NotImplementedError

    def sampler(self, cases: dict[str, list[Case]], pooled: bool) -> Sampler:
        """The training patches.

        Args:
            cases: of every center of the run, empty for centers without draws.
            pooled: whether every slot draws from the patients of all centers.

        Raises:
            InputError: a case cannot be read or lacks what the task needs.
        """
        raise NotImplementedError

    def batch(self, slots: list[Slot], drawn: list[Any], device: torch.device) -> Any:
        """The patches of these slots as the objective takes them; it has `slots`."""
        raise NotImplementedError

    def objective(self, processes: Processes) -> Objective:
        """The loss of the patches."""
        raise NotImplementedError

    def held_out(self, cases: dict[str, list[Case]]) -> HeldOut:
        """Cases to validate on.

        Raises:
            InputError: a case cannot be read or lacks what the task needs.
        """
        raise NotImplementedError

    def gain(self, scores: Scores) -> float:
        """What of a validation is to grow, for the choice of the best checkpoint."""
        raise NotImplementedError

    def figures(self, measured: Scores, center: str) -> dict[str, Any]:
        """What the card says of the last validation.

        Args:
            measured: the measures in `kept`.
            center: the center that a model is for, "" for all.
        """
        raise NotImplementedError

    def save(self, path: Path, network: Any, card: Mapping[str, Any]) -> None:
        """Writes a model with its card."""
        raise NotImplementedError
