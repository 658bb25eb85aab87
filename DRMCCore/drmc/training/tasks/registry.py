"""The tasks by the kinds of networks that they train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drmc.training.tasks.base import Task
from drmc.training.tasks.denoising import Denoising
from drmc.training.tasks.organs import Organs

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig

TASKS: dict[str, type[Task]] = {task.name: task for task in (Denoising, Organs)}


def make_task(config: TrainingConfig) -> Task:
    """The task of a configuration, which follows from its network."""
    return TASKS[config.network.task](config)
