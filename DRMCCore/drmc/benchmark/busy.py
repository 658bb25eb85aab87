"""Processes that do nothing but keep the cores busy: a machine on which other programs run.

Without PyTorch, so that each of them starts at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from multiprocessing import get_context, parent_process
from typing import Any

from drmc.errors import DRMCError
from drmc.runtime.workers import end_processes

START_SECONDS = 120.0  # on a machine that is busy already


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """Runs `count` busy processes inside the `with` block, and ends them however it is left.

    Each keeps one core busy. They end with this process too, even if it is killed.

    Yields:
        Their process ids, once all of them compute.

    Raises:
        DRMCError: one of them does not start.
    """
    context = get_context("spawn")
    ready = context.Barrier(count + 1)
    processes = []
    try:
        for _ in range(count):
            process = context.Process(target=_compute, args=(ready,), daemon=True)
            processes.append(process)
            process.start()
        try:
            ready.wait(START_SECONDS)
        except threading.BrokenBarrierError:
            raise DRMCError(f"the {count} processes that keep the cores busy did not start") from None
        yield [process.pid for process in processes if process.pid is not None]
    finally:
        end_processes(processes)


def _compute(ready: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process itself
    parent = parent_process()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait(START_SECONDS)
        while parent is not None and parent.is_alive():
            sum(range(200_000))  # a few milliseconds
