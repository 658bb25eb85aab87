"""Worker processes that the parent can end at once: tasks go in, progress and results come out.

The executors of the standard library cannot stop a task that runs, and say of a worker that the system has killed for
want of memory only that the pool is broken. Here each worker has a pipe of its own: its end of file tells of its death,
a cancel kills it, and a worker whose parent is gone ends by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from drmc.errors import DRMCError

_HELD = ("SIGINT", "SIGTERM")  # the parent's: it ends its workers itself


def run_in_processes(
    function: Callable[[Any, Callable[[float], None]], Any],
    tasks: Sequence[Any],
    workers: int,
    *,
    progress: Callable[[int, float], None],
    finished: Callable[[int, Any], None],
) -> None:
    """Runs `function(task, report)` for every task in up to `workers` processes of their own.

    `function` is one that can be imported; it may call `report(share)`, share 0..1. `progress(index, share)` and
    `finished(index, result)` are called in this process. An exception of a task, of a callback or of a signal ends all
    workers at once and is raised; DRMCError where a worker has died.
    """
    context = get_context("spawn")
    waiting = deque(enumerate(tasks))
    processes: list[BaseProcess] = []
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    try:
        for _ in range(min(workers, len(tasks))):
            ours, theirs = context.Pipe()
            child = context.Process(target=_serve, args=(function, theirs), daemon=True)
            processes.append(child)
            with _signals_held():
                child.start()
            theirs.close()
            running[ours] = (_hand_over(waiting, ours), child)
        while running:
            for ready in wait(list(running)):
                pipe = cast("Connection", ready)
                index, process = running[pipe]
                try:
                    said, value = pipe.recv()
                except (EOFError, OSError):
                    process.join(5)
                    raise DRMCError(_death(process.exitcode, len(processes))) from None
                if said == "progress":
                    progress(index, value)
                elif said == "failed":
                    raise value
                else:
                    finished(index, value)
                    if waiting:
                        running[pipe] = (_hand_over(waiting, pipe), process)
                    else:
                        pipe.close()
                        del running[pipe]
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
        for process in processes:
            if process.pid is not None:
                process.join()


def _hand_over(waiting: deque, pipe: Connection) -> int:
    index, task = waiting.popleft()
    with contextlib.suppress(OSError):  # a worker that is dead already: the end of its pipe tells
        pipe.send(task)
    return index


def _death(exit_code: int | None, workers: int) -> str:
    fewer = "fewer --workers" if workers > 1 else "a smaller case, or a computer with more memory"
    if exit_code is not None and exit_code < 0:
        name = next((s.name for s in signal.Signals if s == -exit_code), f"signal {-exit_code}")
        cause = "most likely for want of memory" if -exit_code == 9 else "by a fault or by hand"
        return (
            f"the system ended a worker process ({name}), {cause}: the finished cases are kept, try {fewer}"
        )
    return (
        f"a worker process ended by itself (exit code {exit_code}): the finished cases are kept, try {fewer}"
    )


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Starts a process with the terminal's signals held back until it has chosen to ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its own start would release them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in _HELD])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(function: Callable[[Any, Callable[[float], None]], Any], pipe: Connection) -> None:
    for name in _HELD:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [getattr(signal, name) for name in _HELD])
    threading.Thread(target=_end_with_parent, daemon=True, name="drmc-end-with-parent").start()
    with contextlib.suppress(EOFError, OSError):  # the parent has no more tasks, or is gone
        while True:
            task = pipe.recv()
            try:
                answer = ("done", function(task, lambda share: pipe.send(("progress", share))))
            except DRMCError as error:
                answer = ("failed", error)
            except Exception as error:  # others may not survive the pipe
                if os.environ.get("DRMC_DEBUG") == "1":
                    traceback.print_exc()
                answer = ("failed", DRMCError(f"{type(error).__name__}: {error}"))
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)
