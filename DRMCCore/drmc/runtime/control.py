"""Progress, cancel and stage times: the interface of long-running work to its caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drmc.errors import CanceledError

Progress = Callable[[int, int, "float | None"], None]
"""Called as (done, total, seconds left or None)."""
Cancel = Callable[[], bool]
"""Called between steps of the work; True stops it."""


def raise_if_canceled(cancel: Cancel | None) -> None:
    """Stops the work if the caller's `cancel` returns True.

    Raises:
        CanceledError: it did.
    """
    if cancel is not None and cancel():
        raise CanceledError()


class Stopwatch:
    """Seconds by stage, summed if a stage is entered several times: `with clock("read"): ...`."""

    def __init__(self, *stages: str):
        self.seconds = dict.fromkeys(stages, 0.0)
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """A context whose duration counts for a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def so_far(self) -> dict[str, float]:
        """Seconds by stage, and in total since the stopwatch was created, to the millisecond."""
        stages = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        return {**stages, "total": round(time.perf_counter() - self._started, 3)}
