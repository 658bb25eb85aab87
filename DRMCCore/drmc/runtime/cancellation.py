"""Requests to stop a command: signals and the end of input."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_PIECE = 4096  # bytes that are read at once
_PAUSE_SECONDS = 0.1


class Cancellation:
    """Whether to stop: True after SIGINT, SIGTERM, SIGHUP or, if enabled, the end of input.

    A context manager that handles these signals. The first signal only sets the flag, so that work stops
    where it can stop cleanly; a second one raises KeyboardInterrupt. Outside the main thread signals are
    not handled.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._handlers: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self._requested.is_set()

    def __enter__(self) -> Cancellation:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
                number = getattr(signal, name, None)
                # Signals that the caller ignores stay ignored: nohup keeps a run alive that way.
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._handlers.clear()

    def on_end_of_input(self) -> None:
        """Makes the end of standard input a request to stop: the parent closed the pipe, or died."""
        threading.Thread(target=self._wait_for_end_of_input, daemon=True, name="drmc-cancel-on-eof").start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()

    def _wait_for_end_of_input(self) -> None:
        # The descriptor, not sys.stdin: a thread that has its lock at exit would abort the interpreter.
        try:
            while os.read(0, _wait_for_input()):
                pass
        except OSError:
            pass
        self._requested.set()


def _bytes_in_pipe() -> int:
    """On Windows: how many bytes standard input has, found without waiting; as many as one likes if no pipe.

    Raises BrokenPipeError at its end.
    """
    import _winapi
    import msvcrt

    try:
        handle = msvcrt.get_osfhandle(0)  # type: ignore[attr-defined]
        return int(_winapi.PeekNamedPipe(handle)[0])  # type: ignore[attr-defined]
    except BrokenPipeError:
        raise
    except OSError:  # a file or a console
        return _PIECE


_bytes_waiting: Callable[[], int] | None = _bytes_in_pipe if sys.platform == "win32" else None


def _wait_for_input() -> int:
    """How many bytes to read now; on Windows only what is there already, after waiting for it.

    A read that waits on a pipe holds up every other use of the pipe there, and libraries that are loaded
    meanwhile look at standard input: `import torch` would not return (numpy issue 24290, cpython 78961).
    """
    while _bytes_waiting is not None:
        count = _bytes_waiting()
        if count:
            return min(count, _PIECE)
        time.sleep(_PAUSE_SECONDS)
    return _PIECE
