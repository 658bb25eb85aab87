"""How the user stops a command: signals and the end of input."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Cancellation:
    """Whether the user asked to stop: `cancel()` is True after SIGINT, SIGTERM, SIGHUP or, if asked for,
    end of input.

    A context manager that holds the signals meanwhile. The first signal only sets the flag, so that work
    stops where it can stop cleanly; a second one raises KeyboardInterrupt. Outside the main thread
    signals are left alone.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._handlers: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked.is_set()

    def __enter__(self) -> Cancellation:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
                number = getattr(signal, name, None)
                # What the caller has set to be ignored stays ignored: nohup keeps a run alive that way.
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._handlers.clear()

    def on_end_of_input(self) -> None:
        """From now on the end of standard input is a request to stop: the parent closed the pipe, or died."""
        threading.Thread(target=self._wait_for_end_of_input, daemon=True, name="drmc-cancel-on-eof").start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()

    def _wait_for_end_of_input(self) -> None:
        # The descriptor, not sys.stdin: a thread that holds its lock at exit would abort the interpreter.
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        self._asked.set()
