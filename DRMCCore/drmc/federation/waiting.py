"""How `stop` reaches a `start` that waits: there is no job yet which the server could end.

They meet in the lead's kit. A `start` that waits holds a lock on a file there. `stop` sees that and writes a
mark beside it; who removes the mark has decided: `start`, which then stops, or `stop`, which goes to the
server for the job that has begun.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from types import TracebackType

from drmc.errors import CanceledError
from drmc.files import write_json
from drmc.locks import try_lock
from drmc.runtime.control import Cancel

STOPPED_TEXT = "the run was stopped by 'drmc federate stop'; 'start' continues it"
_LOCK, _MARK = ".waiting", "stop.json"
_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 60.0  # a question to a server that is just ending takes that long


class Waiting:
    """Whether a `start` is to stop: it was canceled or, while it waits, `stop` has asked with the same kit.

    A context manager for the whole command, which waits from its beginning until `end`.
    """

    def __init__(self, kit: Path, canceled: Cancel):
        self._kit, self._canceled = Path(kit), canceled
        self._handle: int | None = None
        self._asked = False

    def __enter__(self) -> Waiting:
        """Begins to wait."""
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._asked and isinstance(error, CanceledError):
            raise CanceledError(STOPPED_TEXT) from None

    def __call__(self) -> bool:
        """Whether to stop."""
        self._asked = self._asked or (self._handle is not None and _removed(self._kit / _MARK))
        return self._asked or self._canceled()

    def begin(self) -> None:
        """There is no job: from now on `stop` asks this command."""
        if self._handle is not None or _is_held(self._kit / _LOCK):
            return
        _removed(self._kit / _MARK)  # of a `stop` that was killed
        with contextlib.suppress(OSError):  # of a kit that cannot be written: it cannot be asked
            handle = os.open(self._kit / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            if try_lock(handle):
                self._handle = handle
            else:
                os.close(handle)

    def end(self) -> None:
        """There is a job, which `stop` ends at the server."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def stop_waiting(kit: Path) -> bool:
    """Asks the `start` that waits with this kit to stop.

    Args:
        kit: the lead's.

    Returns:
        Whether it did; False where none waits, or its job has begun meanwhile.
    """
    lock, mark = Path(kit) / _LOCK, Path(kit) / _MARK
    if not _is_held(lock):
        return False
    try:
        write_json(mark, {"stop": True})
        end = time.monotonic() + _ANSWER_SECONDS
        while mark.exists() and _is_held(lock) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
    except OSError:  # of a kit that cannot be written
        return False
    except BaseException:
        _removed(mark)
        raise
    return not _removed(mark)


def _is_held(path: Path) -> bool:
    """Whether a running process has locked a file."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return try_lock(handle) is False
    finally:
        os.close(handle)


def _removed(path: Path) -> bool:
    """Removes a file; whether it was there, for one of those who try."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
