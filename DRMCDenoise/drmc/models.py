"""The model registry: weight files, their cards and checksums.

A model is two files beside each other: NAME.pt, the weights with what is needed to build the network, and
NAME.json, the card: what it was trained on, what it reached, and the SHA-256 of the weight file. Finding a
model checks that sum. Weights are only ever read as tensors (`weights_only=True`): a file cannot bring code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.files import atomic_path, check_regular, write_json

if TYPE_CHECKING:
    from drmc.network import ResidualNetwork

FORMAT = 1
DRMC_KIND = "drmc"
"""The kind of network in a weight file that names none (`drmc.networks.KINDS`)."""
AUTHORS_TILE = 64
"""Tile edge of the authors' training, for checkpoints of their code."""


@dataclass(frozen=True)
class ModelEntry:
    """A weight file that was found. `card` is {} where there is none; `sha256` is the file's own."""

    name: str
    path: Path
    card: dict[str, Any]
    sha256: str


def user_folder() -> Path:
    """Where a user's own models belong on this platform; the folder need not exist."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "DRMC" / "models"


def model_folders() -> list[Path]:
    """Folders searched for models, the first wins: those of $DRMC_MODELS, the user's, the one shipped."""
    named = [Path(part) for part in os.environ.get("DRMC_MODELS", "").split(os.pathsep) if part]
    here = Path(__file__).resolve()
    shipped = [here.parents[level] / "Resources" / "Models" for level in (2, 1)]
    return [*named, user_folder(), *shipped]


def list_models() -> list[ModelEntry]:
    """All models of `model_folders()` by name; a card that cannot be read is replaced by {"problem": why}.

    Checksums are not compared here, so that a damaged model can be listed.
    """
    entries: dict[str, ModelEntry] = {}
    for folder in model_folders():
        for path in sorted(folder.glob("*.pt")) if folder.is_dir() else []:
            if path.stem not in entries and not path.name.startswith("."):
                try:
                    card = _read_card(path)
                except InputError as error:
                    card = {"problem": str(error)}
                entries[path.stem] = ModelEntry(path.stem, path, card, _sha256(path))
    return sorted(entries.values(), key=lambda entry: entry.name)


def preferred_model(models: Sequence[ModelEntry]) -> ModelEntry | None:
    """The default one of `list_models()`, None where that is empty."""
    folders = model_folders()
    preference = lambda entry: (entry.card.get("default") is not True, folders.index(entry.path.parent))
    return min(models, key=preference, default=None)


def find_model(name_or_path: str | os.PathLike[str] | None = None) -> ModelEntry:
    """The model of that name, or at that path (with or without a card), or the default one, verified.

    The default is the model whose card says `"default": true`, else any; the folder that is searched first wins.
    Raises InputError: there is none, its card cannot be read, or the card's checksum is not the file's.
    """
    if name_or_path is None:
        models = list_models()
        if not models:
            raise InputError(
                f"no model is installed: put one (.pt and .json) into {user_folder()} or name it by --model"
            )
        return _verified(preferred_model(models))
    path = Path(name_or_path)
    if path.suffix == ".json":
        path = path.with_suffix(".pt")
    check_regular(path)
    if path.is_file():
        return _verified(ModelEntry(path.stem, path, _read_card(path), _sha256(path)))
    models = list_models()
    for entry in models:
        if entry.name == str(name_or_path):
            return _verified(entry)
    known = ", ".join(entry.name for entry in models) or "none"
    raise InputError(
        f"model {str(name_or_path)!r}: no such file and no model of that name; installed: {known}"
    )


def load_network(entry: ModelEntry) -> tuple[ResidualNetwork, int]:
    """Builds the network of a weight file, on the CPU; returns it with the edge of its tiles in voxels.

    Read are files of `save_model`, and checkpoints of the authors' code (a state_dict, tile 64).
    Raises InputError: the file changed since it was found, is no weight file, or does not fit the network.
    """
    import torch

    from drmc.network import DRMC
    from drmc.networks import build

    content = _read(entry.path)
    if (now := hashlib.sha256(content).hexdigest()) != entry.sha256:
        raise InputError(
            f"{entry.path}: has changed since it was found ({entry.sha256} then, {now} now): try again"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is refused below, in one line
            stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file can make the reader fail in any way
        raise InputError(
            f"{entry.path}: is no weight file ({type(error).__name__} on reading it as PyTorch weights): "
            "give a .pt file made by drmc train, or a checkpoint of the authors' code"
        ) from error
    if not isinstance(stored, Mapping):
        raise InputError(
            f"{entry.path}: holds a {type(stored).__name__}, not a model: give a .pt file made by drmc train"
        )
    try:
        if "format" not in stored:
            return DRMC.from_authors_checkpoint(stored), AUTHORS_TILE
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}, this version of drmc reads {FORMAT}: update drmc")
        tile = stored["tile"]
        if not isinstance(tile, int) or isinstance(tile, bool) or tile < 8:
            raise ValueError(f"tile {tile!r} must be an integer of 8 or more")
        network = build(stored.get("kind", DRMC_KIND), stored["config"])
        network.load_state_dict(stored["state_dict"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{entry.path}: is no model of drmc: {reason}") from error
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        raise InputError(
            f"{entry.path}: holds weights that are not finite numbers: train again, or use another model"
        )
    return network, tile


def save_model(
    path: str | os.PathLike[str], network: ResidualNetwork, tile: int, card: Mapping[str, Any] | None = None
) -> ModelEntry:
    """Writes the weight file `path` (NAME.pt) and its card (NAME.json beside it), each atomically.

    The same weights give the same bytes, hence the same checksum. `name`, `sha256`, `parameters`, `tile`, `kind` and
    `config` of the card are filled in from the network; the rest is taken as given.
    """
    import torch

    path = Path(path)
    if path.suffix != ".pt":
        raise InputError(f"{path}: the name of a weight file must end in .pt")
    state = {
        key: value.detach().to("cpu", torch.float32).contiguous().clone()
        for key, value in network.state_dict().items()
    }
    kind = network.config.kind
    stored = {"format": FORMAT, "config": network.config.to_dict(), "tile": int(tile), "state_dict": state}
    if kind != DRMC_KIND:  # so that files of DRMC stay the same to the byte
        stored["kind"] = kind
    # Through memory: written to a path, the archive would contain the temporary file's name.
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    content = buffer.getvalue()
    full_card = {
        "name": path.stem,
        "title": path.stem,
        **(card or {}),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "tile": int(tile),
        "kind": kind,
        "config": network.config.to_dict(),
    }
    full_card["name"] = path.stem
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    write_json(path.with_suffix(".json"), full_card)
    return ModelEntry(path.stem, path, full_card, full_card["sha256"])


def earlier_trainings(training: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, training facts) of the models that a training of a card began from, the last one first."""
    begun = training.get("initial_weights")
    while isinstance(begun, Mapping):
        facts = begun.get("training")
        facts = facts if isinstance(facts, Mapping) else {}
        yield str(begun.get("name")), facts
        begun = facts.get("initial_weights")


def add_to_card(entry: ModelEntry, facts: Mapping[str, Any]) -> Path:
    """Sets facts in the card beside the weight file, atomically; what the weights say themselves stays.

    Returns the card's path.
    """
    own = {"name", "sha256", "parameters", "tile", "kind", "config"}
    if mistaken := sorted(own & set(facts)):
        raise ValueError(f"'{mistaken[0]}' follows from the weights")
    path = _card_path(entry.path)
    write_json(path, {**_verified(entry).card, **facts})
    return path


def add_model(path: str | os.PathLike[str]) -> ModelEntry:
    """Copies a weight file and its card (NAME.pt, NAME.json; either may be named) into `user_folder()`.

    The copy is made only of a model that can be loaded; a card is written where there is none. It is not the default
    model. Raises InputError where it is no model, or another one of that name is there already.
    """
    entry = find_model(Path(path))
    network, tile = load_network(entry)
    target = user_folder() / f"{entry.name}.pt"
    if target.exists() and _sha256(target) != entry.sha256:
        raise InputError(
            f"{target}: another model of this name is there: rename {entry.path.name} and its card"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with atomic_path(target) as temporary:
                temporary.write_bytes(_read(entry.path))
        card = {
            "title": entry.name,
            **entry.card,
            "name": entry.name,
            "default": False,
            "sha256": entry.sha256,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "tile": tile,
            "kind": network.config.kind,
            "config": network.config.to_dict(),
        }
        write_json(_card_path(target), card)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror}): make its folder writable"
        ) from error
    return ModelEntry(entry.name, target, card, entry.sha256)


def _verified(entry: ModelEntry) -> ModelEntry:
    if "problem" in entry.card:
        raise InputError(entry.card["problem"])
    expected = entry.card.get("sha256")
    if expected is not None and expected != entry.sha256:
        raise InputError(
            f"{entry.path}: its SHA-256 is {entry.sha256}, "
            f"the card {_card_path(entry.path).name} says {expected}: "
            "get the weight file again, or the card that belongs to it"
        )
    return entry


def _card_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_card(path: Path) -> dict[str, Any]:
    card_path = _card_path(path)
    if not card_path.is_file():
        return {}
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{card_path}: the model's card cannot be read ({error}): restore it, or remove it"
        ) from error
    if not isinstance(card, dict):
        raise InputError(f"{card_path}: the model's card is no JSON object: restore it, or remove it")
    return card


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
