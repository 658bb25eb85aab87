"""A training of the queue: its configuration from that of the reproduction, and the existing loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from drmc.errors import DRMCError, InputError
from drmc.files import write_json
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.reproduction.config import ReproductionConfig
from drmc.reproduction.states import DONE, TRAININGS, training_state
from drmc.training.checkpoint import CHECKPOINT
from drmc.training.config import TrainingConfig
from drmc.training.loop import train

PLAN = "plan.json"
_SET_HERE = ("dataset", "output", "name", "centers", "steps", "kept_steps")
_SCALED = {"warmup_steps": 0, "adversarial_start": 0, "validate_every": 1}
"""Settings in steps that follow the number of steps, unless they are given; with their smallest values."""
_MAY_CHANGE = {
    *("dataset", "output", "prepared", "initial_weights", "threads", "checkpoint_every", "card", "form"),
    *("slots_at_once", "accept_changed_data", "kept_steps"),
}
_FROM = "@"


def training_config(config: ReproductionConfig, name: str) -> TrainingConfig:
    """The configuration of a training: all patches of it are `share` x `patches`.

    Raises:
        InputError: a setting is wrong, or the training that it begins with is not done.
    """
    values = {**config.training, **config.trainings[name]}
    share = values.pop("share", 1.0)
    if fixed := [key for key in _SET_HERE if key in values]:
        raise InputError(f"'{fixed[0]}' follows from the reproduction: leave it out")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(f"share = {share!r}: must be above 0 and at most 1")
    output = Path(config.output)
    values = {"prepared": str(output / "prepared"), **values, "dataset": config.dataset}
    values |= {"output": str(output / TRAININGS / name), "name": name, "centers": list(config.known_centers)}
    if general := general_of(config, name):
        found = training_state(config, general)
        if found["state"] != DONE or "" not in found["models"]:
            raise InputError(f"begins with the training {general}, which is not done")
        values["initial_weights"] = str(output / found["models"][""])
    base = TrainingConfig.from_dict(values)
    steps = round(config.patches * share / (len(base.centers) * base.patches_per_center))
    if steps < 1:
        raise InputError(f"{config.patches} patches are less than one step")
    changes: dict[str, Any] = {
        key: max(least, round(getattr(base, key) * steps / base.steps))
        for key, least in _SCALED.items()
        if key not in values
    }
    figure = config.figure_1b
    if figure is not None and figure.training == name:
        changes["kept_steps"] = tuple(sorted({max(1, round(part * steps)) for part in figure.shares}))
    return replace(base, steps=steps, **changes)


def general_of(config: ReproductionConfig, name: str) -> str:
    """The training whose model a training begins with, "" for a new network."""
    weights = {**config.training, **config.trainings[name]}.get("initial_weights")
    return weights.removeprefix(_FROM) if isinstance(weights, str) and weights.startswith(_FROM) else ""


def run_training(config: ReproductionConfig, name: str, report: Callable[[float], None]) -> dict[str, Any]:
    """Trains or resumes, and returns the facts of the training's state.

    Raises:
        InputError: the configuration is wrong, or another than that of the folder.
        DRMCError: the training fails, or was stopped.
    """
    plan = training_config(config, name)
    folder = Path(plan.output)
    _check_plan(folder, plan)
    state = training_state(config, name)
    if state["state"] == DONE:
        return {key: value for key, value in state.items() if key not in ("state", "message")}

    def show(record: Mapping[str, Any]) -> None:
        report(min(1.0, float(record.get("step") or 0) / plan.steps))

    if train(plan, report=show).name == CHECKPOINT:
        raise DRMCError("stopped before its last step: start again to go on")
    return _facts(config, name, plan)


def _check_plan(folder: Path, plan: TrainingConfig) -> None:
    """Writes what is trained into the folder, or refuses a folder of another training."""
    mine = {key: value for key, value in plan.to_dict().items() if key not in _MAY_CHANGE}
    file = folder / PLAN
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, mine)
        return
    if changed := [key for key in mine if before.get(key) != mine[key]]:
        key = changed[0]
        raise InputError(
            f"{folder}: was trained with another '{key}' ({before.get(key)}, now {mine[key]}): choose "
            "another output, or delete that folder"
        )


def _facts(config: ReproductionConfig, name: str, plan: TrainingConfig) -> dict[str, Any]:
    folder, output = Path(plan.output), Path(config.output)
    place = lambda path: path.relative_to(output).as_posix()
    endings = {"": "", **{center: f"-{center}" for center in plan.centers}}
    files = {center: folder / f"{name}{ending}.pt" for center, ending in endings.items()}
    models = {center: path for center, path in files.items() if path.is_file()}
    kept = {str(step): folder / f"{name}-step{step}.pt" for step in plan.kept_steps}
    entry = find_model(next(iter(models.values())))
    facts = entry.card["training"]
    return {
        "models": {center: place(path) for center, path in models.items()},
        "kept": {step: place(path) for step, path in kept.items() if path.is_file()},
        "general": general_of(config, name),
        "parameters": sum(p.numel() for p in load_network(entry)[0].parameters()),
        "kind": plan.network.kind,
        "strategy": plan.strategy,
        "patch": plan.patch,
        **{key: facts[key] for key in ("steps", "patches", "seconds", "hardware")},
    }
