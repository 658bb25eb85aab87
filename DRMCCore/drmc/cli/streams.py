"""What a command keeps off standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keeps the libraries' warnings off standard error, where one line must say it all."""
    silence = logging.NullHandler()
    logging.getLogger().addHandler(silence)  # else Python prints warnings that no handler takes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(silence)


@contextlib.contextmanager
def without_native_text() -> Iterator[None]:
    """Keeps what libraries in C and C++ (ITK on a damaged file) print past Python off standard error.

    File descriptor 2 goes nowhere meanwhile, and sys.stderr to a copy of it.
    """
    python_stderr = sys.stderr
    try:
        python_stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):  # no standard error at all
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        if _descriptor(python_stderr) == 2:
            sys.stderr = open(
                os.dup(kept), "w", encoding=python_stderr.encoding, errors="backslashreplace", buffering=1
            )
        yield
    finally:
        if sys.stderr is not python_stderr:
            with contextlib.suppress(OSError):
                sys.stderr.close()
            sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)


def _descriptor(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
