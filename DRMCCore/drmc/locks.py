"""Locks on files that the system releases when their process ends, however it ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = ".part-"  # prefix of the name of a file that is being written
# Without this a file that a process has open can be neither replaced nor removed (Windows).
OPEN_FILES_CAN_MOVE = fcntl is not None


def try_lock(handle: int) -> bool | None:
    """Locks an open file until it is closed.

    Returns:
        True if it is locked now, False if another process has locked it, None if the file system has no locks
        (some network file systems).
    """
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK) else None
    return True


def is_free(path: Path) -> bool:
    """Whether no running process has locked a file.

    True if there is no such file; False if the file system has no locks, because then it is not known.
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return try_lock(handle) is True
    finally:
        os.close(handle)


def still_there(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False
