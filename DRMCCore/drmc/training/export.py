"""Writes the models of a finished run with their cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

import drmc
from drmc.datasets.manifest import is_simulated
from drmc.files import write_json
from drmc.runtime import hardware
from drmc.training.checkpoint import read_checkpoint
from drmc.training.config import FOLDERS
from drmc.training.start import initial_model
from drmc.training.watch import public_settings

if TYPE_CHECKING:
    from drmc.training.trainer import Trainer


def export(trainer: Trainer) -> Path:
    """Writes the run's models with their cards.

    Returns:
        The weight file of the model for every center, or the folder if there is no such model.
    """
    config, steps, taken = trainer.config, trainer.step, "last"
    if config.export == "best" and (found := read_checkpoint(Path(config.output), best=True)):
        trainer.load(found[1])
        taken = "best"
    paths = write_models(trainer, {"weights": taken, "weights_step": trainer.step}, steps=steps)
    blank = {**config.to_dict(), **dict.fromkeys(FOLDERS, ""), "watched_centers": []}
    write_json(Path(config.output) / "config.json", blank)
    return paths.get("", Path(config.output))


def write_models(
    trainer: Trainer, about: dict, ending: str = "", *, steps: int | None = None
) -> dict[str, Path]:
    """Writes the models that the trainer has now.

    Args:
        trainer: the trainer; with several processes it must be shared.
        about: facts of these weights, for their cards.
        ending: of the files' names.
        steps: steps of the run; None: those that were taken.

    Returns:
        The weight files by center, "" for the model of every center.
    """
    config, paths = trainer.config, {}
    facts = {**_facts(trainer, trainer.step if steps is None else steps), **about}
    for center, model in trainer.models().items():
        name = (f"{config.name}-{center}" if center else config.name) + ending
        figures = trainer.task.figures(trainer.measured, center) if trainer.measured else {}
        card = {**config.card, "name": name, "training": {**facts, **figures}}
        paths[center] = Path(config.output) / f"{name}.pt"
        trainer.task.save(paths[center], model, card)
    return paths


def _facts(trainer: Trainer, steps: int) -> dict:
    config, entry = trainer.config, initial_model(trainer.config)
    begun = {}
    if entry:  # with its own training facts, since the patients of both count
        earlier = {"training": entry.card["training"]} if "training" in entry.card else {}
        begun = {"initial_weights": {"name": entry.name, "sha256": entry.sha256, **earlier}}
    return {
        "simulated": is_simulated(Path(config.dataset)),
        "strategy": config.strategy,
        **begun,
        "patients": trainer.patients,
        "data_sha256": trainer.data,
        "steps": steps,
        "patches": steps * len(config.centers) * config.patches_per_center,
        "seconds": round(trainer.seconds),
        "skipped_steps": trainer.skipped,
        **({"warnings": trainer.warnings} if trainer.warnings else {}),
        "hardware": hardware.describe(trainer.device),
        "processes": trainer.world,
        "threads_per_process": torch.get_num_threads(),
        "configuration": public_settings(config),
        "version": drmc.__version__,
    }
