"""What server and site say to each other through NVIDIA FLARE: arrays, numbers, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from drmc.federation.arrays import Arrays

PLAN, ABOUT, NUMBERS = "drmc_plan", "drmc_about", "drmc_numbers"
FAILED = "failed"
LEDGER = "exchange.jsonl"


def question(arrays: Arrays, about: Mapping[str, Any], plan: str) -> FLModel:
    """A task of the server: weights, the facts of the task, and the fingerprint of the plan."""
    return FLModel(params_type=ParamsType.FULL, params=dict(arrays), meta={PLAN: plan, ABOUT: dict(about)})


def asked(shareable: Shareable) -> tuple[Arrays, dict[str, Any], str]:
    """Weights, facts and fingerprint of a task."""
    model = FLModelUtils.from_shareable(shareable)
    return dict(model.params or {}), dict(model.meta.get(ABOUT, {})), str(model.meta.get(PLAN, ""))


def reply(arrays: Arrays, numbers: Mapping[str, float]) -> Shareable:
    """What a site sends back."""
    plain = {str(key): float(value) for key, value in numbers.items()}
    model = FLModel(params_type=ParamsType.FULL, params=dict(arrays), meta={NUMBERS: plain})
    return FLModelUtils.to_shareable(model)


def replied(model: FLModel) -> tuple[str, Arrays, dict[str, float]]:
    """Who sent it, the weights and the numbers."""
    numbers = {str(key): float(value) for key, value in dict(model.meta.get(NUMBERS, {})).items()}
    return str(model.meta.get("client_name", "?")), dict(model.params or {}), numbers


class Ledger:
    """A site's list of everything that it received and sent, a JSON line each, in its output folder."""

    def __init__(self, folder: Path):
        self._path = Path(folder) / LEDGER

    def note(self, direction: str, task: str, arrays: Arrays, values: Mapping[str, Any]) -> None:
        """Adds a message: `direction` "received" or "sent"."""
        record = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "direction": direction,
            "task": task,
            "arrays": {name: list(array.shape) for name, array in arrays.items()},
            "bytes": sum(array.nbytes for array in arrays.values()),
            "values": dict(values),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
