"""Checkpoints of a run, the last few and the best one.

Each is written completely or not at all. A run only continues from a checkpoint that was made with the same
settings and images.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import torch

import drmc
from drmc.errors import InputError
from drmc.files import atomic_path
from drmc.training.config import FOLDERS, TrainingConfig

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
KEPT_CHECKPOINTS = 3
FORMAT = 2
_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError)
# Settings that do not change the remaining steps. Images are compared by their content instead.
_MAY_CHANGE = {
    *(
        "steps",
        "form",
        "checkpoint_every",
        "validate_every",
        "threads",
        "card",
        "export",
        "half_weights",
    ),
    "kept_steps",
    *FOLDERS,
    *("validation_tiles", "slots_at_once", "watched_centers", "accept_changed_data"),
}


def write_checkpoint(output: Path, state: dict, *, best: bool = False) -> None:
    """Writes `state` as the newest checkpoint and keeps some earlier ones, or as the best one.

    If the process is killed at any moment, one of the files is a complete newest checkpoint.

    Args:
        output: the folder of the run.
        state: tensors and plain values.
        best: whether it replaces the best checkpoint instead.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = output / (BEST if best else CHECKPOINT)
    # Through memory: PyTorch's writer reports a full disk as an internal fault.
    buffer = io.BytesIO()
    torch.save({**state, "format": FORMAT, "version": drmc.__version__}, buffer)
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            os.fsync(file.fileno())
        if not best:  # only when the new one is on the disk
            older = _names(output)
            for source, target in reversed(list(pairwise(older))):
                if source.is_file():
                    os.replace(source, target)


def read_checkpoint(
    output: Path, *, best: bool = False, up_to: int | None = None
) -> tuple[Path, dict] | None:
    """Reads the newest readable checkpoint, or the best one, on the CPU.

    Args:
        output: the folder of the run.
        best: whether to read the best checkpoint instead.
        up_to: the last step that it may be of, None: any.

    Returns:
        The file and its state; None if there is no checkpoint, or a best one that cannot be read.

    Raises:
        InputError: it was written by a version of drmc with another format, or no checkpoint can be read.
    """
    damaged, others = [], False
    for path in [output / BEST] if best else _names(output):
        if path.is_file():
            try:
                _check_sums(path)
                state = torch.load(path, map_location="cpu", weights_only=True)
            except _DAMAGED:
                damaged.append(path)
                continue  # by a crash of the machine or its disk: the one before it is used
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise InputError(
                    f"{path}: a checkpoint of another version of drmc, which this one ({drmc.__version__}) "
                    "does not read: finish the run with that version, or choose another output folder"
                )
            if up_to is None or state["step"] <= up_to:
                return path, state
            others = True
    if damaged and not (others or best):  # a start at step 0 would overwrite what a copy may still restore
        raise InputError(
            f"{damaged[0]}: cannot be read, nor can another checkpoint of the run: restore the folder, or "
            "move it away to start anew"
        )
    return None


def _check_sums(path: Path) -> None:
    """Raises BadZipFile where a file of PyTorch is not whole; PyTorch does not look at its check sums."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile


def check_same_run(
    path: Path, state: dict, config: TrainingConfig, data: str, groups: list[list[str]]
) -> None:
    """Checks that a checkpoint belongs to this run.

    Args:
        path: the checkpoint, for messages.
        state: its content.
        config: the configuration of this run.
        data: the fingerprint of this run's images.
        groups: the parameters' names in the optimizer's groups.

    Raises:
        InputError: settings, images or the order of parameters differ.
    """
    blank = TrainingConfig(dataset="", output="").to_dict()
    saved, mine = {**blank, **json.loads(state["config"])}, config.to_dict()
    for values in (saved, mine):  # a model's file may have moved
        values["initial_weights"] = Path(values["initial_weights"]).name
        values["network"] = {
            "kind": "drmc",
            **values["network"],
        }  # files of early versions do not name the kind
    changed = [key for key in mine if mine[key] != saved[key] and key not in _MAY_CHANGE]
    if changed:
        raise InputError(
            f"{path}: made with another '{changed[0]}' ({saved[changed[0]]}, now {mine[changed[0]]}); "
            "choose another output folder or restore the configuration"
        )
    if state["data"] != data and not config.accept_changed_data:
        raise InputError(
            f"{path}: the images in {config.dataset} are not those that this run started with: restore "
            'them, choose another output folder, or set "accept_changed_data": true'
        )
    if state["groups"] != groups:
        raise InputError(
            f"{path}: drmc {state['version']} ordered the parameters in another way than this version "
            f"({drmc.__version__}): finish the run with that version, or choose another output folder"
        )


def _names(output: Path) -> list[Path]:
    path = output / CHECKPOINT
    return [path, *(path.with_suffix(f".{k}.pt") for k in range(1, KEPT_CHECKPOINTS))]
