"""A model's weight file with the card beside it, and its checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.files import write_json

if TYPE_CHECKING:
    import numpy as np

DENOISE, ORGANS = "denoise", "organs"
"""Tasks of models, the key `task` of a card; a card without it is of a model that denoises."""


@dataclass(frozen=True)
class ModelEntry:
    """A weight file that was found; `card` is {} if it has none, `sha256` is computed from the file."""

    name: str
    path: Path
    card: dict[str, Any]
    sha256: str

    @property
    def task(self) -> str:
        """What the model computes: DENOISE or ORGANS."""
        return str(self.card.get("task") or DENOISE)

    @property
    def card_sha256(self) -> str:
        """The checksum of the card's content, whatever its form."""
        return hashlib.sha256(json.dumps(self.card, sort_keys=True).encode()).hexdigest()


def card_numbers(values: np.ndarray | float) -> np.ndarray:
    """The values with the seven significant digits that a card has, since a card is text and stays small."""
    import numpy as np  # models are listed without it

    return np.vectorize(lambda value: float(f"{value:.7g}"), otypes=[float])(values)


def earlier_trainings(training: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (name, training facts) of the models that a training began from, the most recent one first.

    Args:
        training: the facts under `training` in a card.
    """
    begun = training.get("initial_weights")
    while isinstance(begun, Mapping):
        facts = begun.get("training")
        facts = facts if isinstance(facts, Mapping) else {}
        yield str(begun.get("name")), facts
        begun = facts.get("initial_weights")


def trained_centers(card: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The centers of a model's training and of those that it began from; None where its card has none."""
    training = card.get("training")
    if not isinstance(training, Mapping):
        return None
    found: dict[str, Any] = {}
    for facts in (training, *(facts for _, facts in earlier_trainings(training))):
        patients = facts.get("patients")
        found |= patients if isinstance(patients, dict) else {}
    return tuple(found) or None


def check_card(entry: ModelEntry) -> None:
    """Refuses a card that cannot be written, before the work whose result it is to hold.

    Raises:
        InputError: the folder of the model cannot be written.
    """
    folder = card_path(entry.path).parent
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"{folder}: cannot be written, so the card of {entry.name} cannot be changed: copy both "
            "into a folder of your own, and name the model there"
        )


def add_to_card(entry: ModelEntry, facts: Mapping[str, Any]) -> Path:
    """Sets facts in the card beside the weight file, atomically.

    Returns:
        The card's path.

    Raises:
        ValueError: a fact is one that follows from the weights.
        InputError: the card cannot be read or does not belong to the weights.
    """
    own = {"name", "sha256", "parameters", "tile", "kind", "config"}
    if mistaken := sorted(own & set(facts)):
        raise ValueError(f"'{mistaken[0]}' follows from the weights")
    path = card_path(entry.path)
    write_json(path, {**verified(entry).card, **facts})
    return path


def verified(entry: ModelEntry) -> ModelEntry:
    """The entry itself, if its card belongs to its weight file.

    Raises:
        InputError: the card could not be read, or names another checksum than the file's.
    """
    if "problem" in entry.card:
        raise InputError(entry.card["problem"])
    expected = entry.card.get("sha256")
    if expected is not None and expected != entry.sha256:
        raise InputError(
            f"{entry.path}: its SHA-256 is {entry.sha256}, "
            f"the card {card_path(entry.path).name} says {expected}: "
            "get the weight file again, or the card that belongs to it"
        )
    return entry


def card_path(path: Path) -> Path:
    """The path of a weight file's card."""
    return path.with_suffix(".json")


def read_card(path: Path) -> dict[str, Any]:
    """The card of a weight file, {} if it has none.

    Raises:
        InputError: the card cannot be read.
    """
    beside = card_path(path)
    if not beside.is_file():
        return {}
    try:
        card = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{beside}: the model's card cannot be read ({error}): restore it, or remove it"
        ) from error
    if not isinstance(card, dict):
        raise InputError(f"{beside}: the model's card is not a JSON object: restore it, or remove it")
    return card


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
