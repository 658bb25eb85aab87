"""The model that all sites have made together, as a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drmc
from drmc.federation.arrays import Arrays, average_model
from drmc.federation.plan import numbers_of, rounds
from drmc.training.strategies.registry import make_strategy
from drmc.training.tasks.registry import make_task
from drmc.training.watch import public_settings

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig


def write_common_model(
    config: TrainingConfig, output: Path, arrays: Arrays, about: Mapping[str, Any]
) -> Path:
    """Writes the model of all sites with its card, the same at the server and at every site.

    Args:
        config: what all sites have in common.
        output: the folder.
        arrays: the weights.
        about: `weights` ("best" or "last"), `weights_step`, `simulated`, `patients.CENTER`, and
            `validation_psnr` and `validation_gain` where they are known.

    Returns:
        The weight file.
    """
    task = make_task(config)
    steps = rounds(config)[-1].last
    known = {key: about[key] for key in ("validation_psnr", "validation_gain") if key in about}
    slots = len(make_strategy(config).step_slots)
    facts = {
        "simulated": bool(about["simulated"]),
        "strategy": config.strategy,
        "patients": {center: int(count) for center, count in numbers_of(about, "patients").items()},
        "steps": steps,
        "patches": steps * slots,
        "weights": about["weights"],
        "weights_step": int(about["weights_step"]),
        "federated_rounds": len(rounds(config)),
        "configuration": public_settings(config),
        "version": drmc.__version__,
        **known,
    }
    path = Path(output) / f"{config.name}.pt"
    network = average_model(arrays, make_task(config).initial_network())
    task.save(path, network, {**config.card, "name": config.name, "training": facts})
    return path
