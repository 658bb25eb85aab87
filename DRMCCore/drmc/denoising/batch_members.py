"""Processes that work on one batch: which of them live, and who may write their common table.

A member holds the lock of a hidden file in the output folder for as long as it lives; the system takes the
lock away however the process ends, and the next batch sweeps the file (`staging.sweep_files`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from drmc import files, locks

_MEMBER = "batch.member"
_LONGEST_WAIT_S = 60.0  # for the table; whoever holds it writes some small files


class Member:
    """This process as a member of the batch in an output folder, while the context lasts."""

    def __init__(self, output: Path):
        self._output = output
        self._handle: int | None = None
        self._path: Path | None = None
        self._others = False

    def __enter__(self) -> Member:
        self._handle, self._path = files.locked_part(self._output / _MEMBER)
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def has_others(self) -> bool:
        """Whether another process has worked on this batch at any time since this one began."""
        if not self._others:
            found = self._output.glob(f"{locks.PART}*-{_MEMBER}")
            self._others = any(path != self._path and not locks.is_free(path) for path in found)
        return self._others


@contextlib.contextmanager
def table_lock(output: Path) -> Iterator[None]:
    """Only one process at a time reads, merges and writes the tables of a batch."""
    path = output / f"{locks.PART}batch.lock"
    handle = _wait_for(path)
    try:
        yield
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(handle)


def _wait_for(path: Path) -> int | None:
    """The lock of a file; None where no locks are kept, or nobody gives it back."""
    until = time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < until:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        got = locks.try_lock(handle)
        if got and locks.still_there(handle, path):
            return handle
        os.close(handle)
        if got is None:
            return None
        time.sleep(0.02)
    return None
