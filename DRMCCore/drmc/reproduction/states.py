"""What became of each piece of the queue: a small file for each, written when the piece ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmc.files import jsonable, write_json
from drmc.reproduction.config import ReproductionConfig

DONE, FAILED, WAITING = "done", "failed", "waiting"
FOLDER = "pieces"
TRAININGS = "trainings"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Piece:
    """A piece of the queue.

    Attributes:
        kind: patients, training, interference, routing or evaluation.
        name: of a training; of patients the number of the cohort.
    """

    kind: str
    name: str = ""

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.kind} {self.name}".strip()

    @property
    def file(self) -> str:
        """Name of its state."""
        return f"{self.kind}-{self.name}.json" if self.name else f"{self.kind}.json"


def queue_of(config: ReproductionConfig) -> list[Piece]:
    """All pieces in their order."""
    found = [Piece("patients", str(number)) for number in range(1, len(config.patients) + 1)]
    for name in config.trainings:
        found.append(Piece("training", name))
        if config.figure_1b and config.figure_1b.training == name:
            found.append(Piece("interference"))
        if config.figure_3b == name:
            found.append(Piece("routing"))
        if config.evaluate == "each":
            found.append(Piece("evaluation"))
    return found if config.evaluate == "each" else [*found, Piece("evaluation")]


def read_state(config: ReproductionConfig, piece: Piece) -> dict[str, Any]:
    """The state of a piece; waiting where there is none, or none that can be read."""
    try:
        found = json.loads((Path(config.output) / FOLDER / piece.file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) and "state" in found else {"state": WAITING}


def write_state(config: ReproductionConfig, piece: Piece, state: Mapping[str, Any]) -> None:
    """Writes the state of a piece, atomically.

    Raises:
        OSError: it cannot be written.
    """
    folder = Path(config.output) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / piece.file, jsonable(dict(state)))


def training_state(config: ReproductionConfig, name: str) -> dict[str, Any]:
    """The state of a training, done only where its weight files are there.

    Of a training that is done: `models` (weight files by center, "" for every center, relative to the
    output), `kept` (those of earlier steps by step), `parameters`, `steps`, `patches`, `seconds`, `kind`,
    `strategy` and `general` (the training whose model serves centers without one of their own).
    """
    found = read_state(config, Piece("training", name))
    files = [*found.get("models", {}).values(), *found.get("kept", {}).values()]
    if found["state"] == DONE and not all((Path(config.output) / file).is_file() for file in files):
        return {"state": WAITING}
    return found
