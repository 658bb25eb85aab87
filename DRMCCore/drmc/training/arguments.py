"""What the command line of `drmc train` asks for: a configuration file or a dataset, and what differs."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.datasets.manifest import MANIFEST
from drmc.errors import InputError
from drmc.files import read_json_object, write_json
from drmc.training.launch import PRESETS, dataset_configuration

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig


@dataclass(frozen=True)
class Asked:
    """A training as it is asked for.

    Attributes:
        content: the values of its configuration; paths may be relative to `folder`.
        folder: what they are relative to.
        where: what messages call it.
        new_file: where the configuration of a dataset is kept, which is not there yet; None: nowhere.
        dataset: the folder of such a dataset, since that of the file need not exist yet.
        notes: what the user should know of the centers of a dataset, a sentence each.
    """

    content: dict[str, Any]
    folder: Path
    where: str
    new_file: Path | None = None
    dataset: Path | None = None
    notes: tuple[str, ...] = ()

    def config(self) -> TrainingConfig:
        """The configuration. Raises InputError where a value is not allowed."""
        from drmc.training.config import TrainingConfig, resolved

        dataset = {} if self.dataset is None else {"dataset": str(self.dataset.resolve())}
        return TrainingConfig.from_dict(resolved({**self.content, **dataset}, self.folder), self.where)

    def keep(self) -> Path | None:
        """Writes the new configuration of a dataset and returns its path; None where there is none to write.

        Of several processes the first writes it.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.new_file is None or os.environ.get("RANK", "0") != "0":
            return None
        try:
            self.new_file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.new_file, self.content)
        except OSError as error:
            raise InputError(
                f"{self.new_file} cannot be written ({error.strerror}): name another folder with -o"
            ) from None
        return self.new_file


def asked(arguments: argparse.Namespace) -> Asked:
    """Reads the configuration file or the dataset that is named, changed by the further arguments.

    Raises:
        InputError: it cannot be read, or arguments contradict each other.
    """
    path: Path | None = arguments.config
    if path is not None and (path.is_dir() or path.name == MANIFEST):
        return _of_dataset(path if path.is_dir() else path.parent, arguments)
    if path is None and arguments.dataset is None and not arguments.set:
        raise InputError("give a dataset or a configuration; see drmc train --help")
    content = {} if path is None else read_json_object(path)
    folder = Path.cwd() if path is None else path.resolve().parent
    return Asked(_changed(content, arguments), folder, str(path or "drmc train"))


def repeated(arguments: argparse.Namespace) -> list[str]:
    """The arguments that change a configuration, for another command line of the same training."""
    found = []
    for name in ("preset", "dataset", "output"):
        if (value := getattr(arguments, name)) is not None:
            found += [f"--{name}", value]
    for text in arguments.set:
        found += ["--set", text]
    return found


def _of_dataset(dataset: Path, arguments: argparse.Namespace) -> Asked:
    """A training of a dataset: the configuration in its run's folder, else a new one for that folder."""
    if arguments.dataset is not None:
        raise InputError(f"--dataset {arguments.dataset}: {dataset} is named as the dataset already")
    run = None if arguments.output is None else Path(arguments.output)
    file, content, left_out = dataset_configuration(dataset, arguments.preset or PRESETS[0], run)
    notes = [f"center {c} is left out: it needs patients for training and for validation" for c in left_out]
    if file.exists():
        kept = read_json_object(file)
        known = kept.get("centers")
        notes += [
            f"center {center} is none of {file}: a new run, with another -o FOLDER, would train on it"
            for center in content["centers"]
            if not isinstance(known, list) or not any(fnmatchcase(center, str(name)) for name in known)
        ]
        # The dataset that is named, not the one that the file names: it may have moved, or be another one.
        kept["dataset"] = str(dataset.resolve())
        return Asked(_changed(kept, arguments), file.parent, str(file), notes=tuple(notes))
    content = _with_settings(content, arguments.set)
    return Asked(content, file.parent, f"{dataset}", file, dataset, tuple(notes))


def _changed(content: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    for key in ("preset", "dataset", "output"):
        if (value := getattr(arguments, key)) is not None:
            content[key] = value if key == "preset" else str(Path(value).resolve())
    return _with_settings(content, arguments.set)


def _with_settings(content: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    from drmc.training.config import resolved

    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write KEY=VALUE")
        try:
            value = json.loads(value)
        except ValueError:
            pass  # it stays a text
        *parents, last = key.split(".")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {text}: '{parent}' has no parts")
        place[last] = value if parents else resolved({last: value}, Path.cwd())[last]
    return content
