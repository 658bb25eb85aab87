"""Writes the models of a finished run with their cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import drmc
from drmc.datasets.manifest import is_simulated
from drmc.files import write_json
from drmc.runtime import hardware
from drmc.training.checkpoint import read_checkpoint
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
    facts = {**_facts(trainer, steps), "weights": taken, "weights_step": trainer.step}
    paths = {}
    for center, model in trainer.models().items():
        name = f"{config.name}-{center}" if center else config.name
        card = {
            **config.card,
            "name": name,
            "training": {**facts, **trainer.task.figures(trainer.measured, center)},
        }
        paths[center] = Path(config.output) / f"{name}.pt"
        trainer.task.save(paths[center], model, card)
    blank = replace(config, dataset="", output="", watched_dataset="", watched_centers=())
    write_json(Path(config.output) / "config.json", blank.to_dict())
    return paths.get("", Path(config.output))


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
        "hardware": hardware.describe(trainer.device),
        "processes": trainer.world,
        "threads_per_process": torch.get_num_threads(),
        "configuration": public_settings(config),
        "version": drmc.__version__,
    }
