"""The model registry: weight files, their cards and checksums.

A model is two files in one folder: NAME.pt, the weights with what is needed to build the network, and
NAME.json, the card: what it was trained on, what it reached, and the SHA-256 of the weight file. Finding a
model checks that sum. Weights are only ever read as tensors (`weights_only=True`), so that a file cannot
bring code. A third file, NAME.evaluation.json, may hold all figures of an evaluation
(`drmc.models.evaluation`); finding models does not read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from drmc.errors import InputError
from drmc.files import atomic_path, check_regular, write_json
from drmc.models.card import (
    DENOISE,
    ORGANS,
    ModelEntry,
    card_path,
    read_bytes,
    read_card,
    sha256_of,
    verified,
)
from drmc.models.evaluation import evaluation_path, read_evaluation
from drmc.models.weights import load_any_network

SHIPPED = Path(__file__).resolve().with_name("data")
"""Package data: in the wheel, in the installed extension and in the source tree."""


def user_folder() -> Path:
    """The folder for a user's own models on this platform; it need not exist."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "DRMC" / "models"


def model_folders() -> list[Path]:
    """Folders that are searched for models, in order: those of $DRMC_MODELS, the user's, the shipped one."""
    named = [Path(part) for part in os.environ.get("DRMC_MODELS", "").split(os.pathsep) if part]
    return [*named, user_folder(), SHIPPED]


def list_models() -> list[ModelEntry]:
    """All models of `model_folders()`, sorted by name; the first folder that has a name wins.

    A card that cannot be read is replaced by {"problem": reason}. Checksums are not compared, so that a
    damaged model is listed as well.
    """
    entries: dict[str, ModelEntry] = {}
    for folder in model_folders():
        for path in sorted(folder.glob("*.pt")) if folder.is_dir() else []:
            if path.stem not in entries and not path.name.startswith("."):
                try:
                    card = read_card(path)
                except InputError as error:
                    card = {"problem": str(error)}
                entries[path.stem] = ModelEntry(path.stem, path, card, sha256_of(path))
    return sorted(entries.values(), key=lambda entry: entry.name)


def preferred_model(models: Sequence[ModelEntry], task: str = DENOISE) -> ModelEntry | None:
    """The default model for a task of those that `list_models` found, None without any."""
    folders, models = model_folders(), [entry for entry in models if entry.task == task]
    preference = lambda entry: (entry.card.get("default") is not True, folders.index(entry.path.parent))
    return min(models, key=preference, default=None)


def find_model(name_or_path: str | os.PathLike[str] | None = None, *, task: str | None = None) -> ModelEntry:
    """Finds a model and verifies its checksum.

    Args:
        name_or_path: the name of an installed model, or the path of a weight file or a card. None: the model
            whose card says `"default": true`, else any; the folder that is searched first wins.
        task: what the model is to compute. None: any; without a name one that denoises.

    Returns:
        The model; its card is {} if it has none.

    Raises:
        InputError: there is no such model, its card cannot be read, the card's checksum is not the file's, or
            the card says that the model is of another task.
    """
    if name_or_path is None:
        preferred = preferred_model(list_models(), task or DENOISE)
        if preferred is None:
            what = "no model of organs" if task == ORGANS else "no model"
            raise InputError(
                f"{what} is installed: put one (.pt and .json) into {user_folder()} or name it by --model"
            )
        return verified(preferred)
    found = _named_model(name_or_path)
    if task is not None and found.card and found.task != task:
        does = {DENOISE: "denoises", ORGANS: "labels organs"}
        raise InputError(
            f"{found.path}: is a model that {does.get(found.task, found.task)}, not one that {does[task]}: "
            f"{'use it with drmc segment, or ' if found.task == ORGANS else ''}name another by --model"
        )
    return found


def _named_model(name_or_path: str | os.PathLike[str]) -> ModelEntry:
    path = Path(name_or_path)
    if path.suffix == ".json":
        path = path.with_suffix(".pt")
    check_regular(path)
    if path.is_file():
        return verified(ModelEntry(path.stem, path, read_card(path), sha256_of(path)))
    models = list_models()
    for entry in models:
        if entry.name == str(name_or_path):
            return verified(entry)
    known = ", ".join(entry.name for entry in models) or "none"
    raise InputError(
        f"model {str(name_or_path)!r}: no such file and no model of that name; installed: {known}"
    )


def add_model(path: str | os.PathLike[str]) -> ModelEntry:
    """Copies a weight file with its card and evaluation into `user_folder()`, not as the default model.

    Args:
        path: the weight file (NAME.pt) or its card (NAME.json). A model without a card gets one.

    Returns:
        The copy.

    Raises:
        InputError: it cannot be loaded, card or evaluation belong to other weights, another model of that
            name is there already, or the folder cannot be written.
    """
    entry = find_model(Path(path))
    network, tile = load_any_network(entry)
    evaluation = read_evaluation(entry) if evaluation_path(entry.path).is_file() else None
    target = user_folder() / f"{entry.name}.pt"
    if target.exists() and sha256_of(target) != entry.sha256:
        raise InputError(
            f"{target}: another model of this name is there: rename {entry.path.name} and its card"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with atomic_path(target) as temporary:
                temporary.write_bytes(read_bytes(entry.path))
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
        write_json(card_path(target), card)
        if evaluation is not None:
            write_json(evaluation_path(target), evaluation)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror}): make its folder writable"
        ) from error
    return ModelEntry(entry.name, target, card, entry.sha256)
