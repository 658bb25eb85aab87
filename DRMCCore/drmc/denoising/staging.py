"""Folders and files that a run is writing; the next run removes those of a run that was killed.

Results are written into a hidden folder beside their place, `.OUT.part-XXXX`, which holds a lock for as long
as the run lives; single files into `.part-XXXX-NAME` (`files.atomic_path`). The system takes the lock of a
process away however it ends, so that a leftover is known by it, on whatever machine and without any clock.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from drmc.errors import InputError, OutputInUseError
from drmc.files import is_full_disk
from drmc.locks import PART, is_free, still_there, try_lock

OWNER = "owner.lock"


def check_output_folder(output: Path, inputs: Sequence[Path] = ()) -> None:
    """Refuses an output folder that cannot be written, is a file, or is (or lies in) an input folder.

    Raises:
        InputError: it is refused.
        OSError: the disk is full.
    """
    if os.path.lexists(output) and not output.is_dir():
        raise InputError(f"{output}: the output must be a folder, but this is a file: choose another with -o")
    resolved = Path(os.path.realpath(output))
    for path in inputs:
        real = Path(os.path.realpath(path))
        if path.is_dir() and (resolved == real or real in resolved.parents):
            raise InputError(f"{output}: the output folder lies in the input {path}: choose another with -o")
    ancestor = nearest_folder(output)
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".drmc-", dir=ancestor))
    except OSError as error:
        if is_full_disk(error):
            raise
        raise InputError(
            f"{output}: the output folder cannot be written ({error.strerror}): choose another with -o"
        ) from error


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest folder above it that is there; InputError where none can be made in it."""
    path = Path(os.path.abspath(path))
    while not path.exists():
        if path.is_symlink():
            raise InputError(
                f"{path}: is a link that leads nowhere, so no folder can be made in it: correct it"
            )
        path = path.parent
    if not path.is_dir():
        raise InputError(f"{path}: is a file, so no folder can be made in it: choose another with -o")
    return path


class Claim:
    """One run's claim on an output folder, from `take` to the end of the context.

    Training and evaluation, which write into the folder itself, use it too. The context leaves no trace but
    the results: the staging folder goes, and after a failure so do the folders that were made for it.
    """

    def __init__(self, output: Path):
        self.output = output
        self.staging: Path | None = None
        self._lock: int | None = None
        self._made: list[Path] = []

    def take(self) -> Path:
        """Makes the staging folder and sweeps the leftovers of runs that were killed.

        Raises:
            InputError: the output is a file, or cannot be written.
            OutputInUseError: another run that lives has the same output folder.
        """
        check_output_folder(self.output)
        missing = [folder for folder in (self.output, *self.output.parents) if not folder.exists()]
        self._made = missing
        for folder in reversed(missing[1:]):
            folder.mkdir(exist_ok=True)
        inside = self.output if self.output.is_dir() else self.output.parent
        while self._lock is None:
            # From Python 3.12 on mkdtemp returns an absolute path, which `_others` would not recognize.
            self.staging = inside / Path(tempfile.mkdtemp(prefix=self._prefix, dir=inside)).name
            self._lock = self._own(self.staging / OWNER)
        staging = self.staging
        assert staging is not None  # made with the lock
        for other in self._others():
            if is_free(other / OWNER):
                shutil.rmtree(other, ignore_errors=True)
            elif _age(other) <= _age(staging):
                raise OutputInUseError(
                    f"{self.output}: another run is writing there ({_owner_text(other)}): wait for it, or "
                    "choose another output folder"
                )
        if self.output.is_dir():
            sweep_files(self.output)
        return staging

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self.staging is not None:
            shutil.rmtree(self.staging, ignore_errors=True)
        for folder in self._made if kind is not None else ():
            with contextlib.suppress(OSError):
                folder.rmdir()

    @property
    def _prefix(self) -> str:
        return f".{Path(os.path.realpath(self.output)).name}.part-"

    def _own(self, path: Path) -> int | None:
        """The lock on a file in the new staging folder; None where another run has just removed that."""
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None
        if try_lock(lock) is False or not still_there(lock, path):
            os.close(lock)
            return None
        owner = {
            "process": os.getpid(),
            "computer": platform.node(),
            "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        os.write(lock, json.dumps(owner).encode())
        return lock

    def _others(self) -> list[Path]:
        """The staging folders of other runs for the same output."""
        found = []
        for folder in {self.output, self.output.parent}:
            if folder.is_dir():
                found += [
                    path
                    for path in sorted(folder.iterdir())
                    if path.name.startswith(self._prefix) and _is_own_folder(path) and path != self.staging
                ]
        return found


def sweep_files(folder: Path) -> None:
    """Removes the half-written files (`files.atomic_path`) that killed runs have left in a folder."""
    for path in folder.glob(f"{PART}*"):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode) and is_free(path):
                path.unlink()


def _is_own_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _age(folder: Path) -> tuple[float, str]:
    """What orders staging folders: when their lock file was written, and of equal ones the name.

    A run whose file is empty still has to look for others, and will then find them.
    """
    try:
        found = (folder / OWNER).stat()
    except OSError:
        return math.inf, folder.name
    return found.st_mtime_ns if found.st_size else math.inf, folder.name


def _owner_text(folder: Path) -> str:
    """Whose staging folder it is, for a message."""
    try:
        owner: dict[str, Any] = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return f"process {owner['process']} on {owner['computer']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name
