"""Worker processes that the parent can end at once.

The executors of the standard library cannot stop a running task, and report a worker that was killed for lack
of memory only as a broken pool. Here each worker has its own pipe: its end of file reports the worker's
death, a cancel kills the worker, and a worker whose parent has ended ends too.
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

_PARENT_SIGNALS = ("SIGINT", "SIGTERM")  # ignored in workers: the parent ends them itself


def run_in_processes(
    function: Callable[[Any, Callable[[float], None]], Any],
    tasks: Sequence[Any],
    workers: int,
    *,
    progress: Callable[[int, float], None],
    finished: Callable[[int, Any], None],
) -> None:
    """Runs `function(task, report)` for every task in worker processes.

    An exception of a task, of a callback or of a signal ends all workers at once and is raised.

    Args:
        function: an importable function; it may call `report(fraction)`, 0 to 1.
        tasks: arguments of the function.
        workers: the largest number of processes.
        progress: called in this process as `progress(index, fraction)`.
        finished: called in this process as `finished(index, result)`.

    Raises:
        DRMCError: a worker has died, or a task has failed with another exception than a DRMCError.
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
            with _signals_blocked():
                child.start()
            theirs.close()
            running[ours] = (_send_next_task(waiting, ours), child)
        while running:
            for ready in wait(list(running)):
                pipe = cast("Connection", ready)
                index, process = running[pipe]
                try:
                    event, value = pipe.recv()
                except (EOFError, OSError):
                    process.join(5)
                    raise DRMCError(_exit_message(process.exitcode, len(processes))) from None
                if event == "progress":
                    progress(index, value)
                elif event == "failed":
                    raise value
                else:
                    finished(index, value)
                    if waiting:
                        running[pipe] = (_send_next_task(waiting, pipe), process)
                    else:
                        pipe.close()
                        del running[pipe]
    finally:
        end_processes(processes)


def end_processes(processes: Sequence[BaseProcess]) -> None:
    """Kills those of the processes that have been started, and waits for their ends."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.kill()
    for process in started:
        process.join()


def _send_next_task(waiting: deque, pipe: Connection) -> int:
    index, task = waiting.popleft()
    with contextlib.suppress(OSError):  # a dead worker is noticed by the end of its pipe
        pipe.send(task)
    return index


def _exit_message(exit_code: int | None, workers: int) -> str:
    fewer = "fewer --workers" if workers > 1 else "a smaller case, or a computer with more memory"
    if exit_code is not None and exit_code < 0:
        name = next((s.name for s in signal.Signals if s == -exit_code), f"signal {-exit_code}")
        cause = "most likely for lack of memory" if -exit_code == 9 else "by a fault or a user"
        return (
            f"the system ended a worker process ({name}), {cause}: the finished cases are kept, try {fewer}"
        )
    return (
        f"a worker process ended by itself (exit code {exit_code}): the finished cases are kept, try {fewer}"
    )


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started here has the terminal's signals blocked until it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its own start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in _PARENT_SIGNALS])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(function: Callable[[Any, Callable[[float], None]], Any], pipe: Connection) -> None:
    for name in _PARENT_SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [getattr(signal, name) for name in _PARENT_SIGNALS])
    threading.Thread(target=_end_with_parent, daemon=True, name="drmc-end-with-parent").start()
    with contextlib.suppress(EOFError, OSError):  # the parent has no more tasks, or has ended
        while True:
            task = pipe.recv()
            try:
                answer = ("done", function(task, lambda fraction: pipe.send(("progress", fraction))))
            except DRMCError as error:
                answer = ("failed", error)
            except Exception as error:  # others may not be picklable
                if os.environ.get("DRMC_DEBUG") == "1":
                    traceback.print_exc()
                answer = ("failed", DRMCError(f"{type(error).__name__}: {error}"))
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)
