"""Runs the pieces of an evaluation, one after the other or in several processes, and shows their progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Protocol

import torch

from drmc.denoising.staging import sweep_files
from drmc.errors import InputError
from drmc.runtime.progress import Reporter, duration
from drmc.runtime.threads import limit_threads
from drmc.runtime.workers import run_in_processes

Share = Callable[[float], None]


class Task(Protocol):
    """A piece of work; `store` is the file that keeps its result, `threads` what it may use."""

    @property
    def name(self) -> str:
        """Name for people."""

    @property
    def store(self) -> Path:
        """The file of its results."""

    @property
    def threads(self) -> int:
        """Threads that it may use in a process of its own."""

    def run(self, share: Share) -> Any:
        """The result; `share` is told what part is done."""


def run_task(task: Task, share: Share) -> Any:
    """Runs a task in this process with as many threads as it may have."""
    if parent_process() is not None:  # else networks would take all cores in every one of the workers
        limit_threads(task.threads)
    return task.run(share)


class TaskRunner:
    """Runs tasks of an output folder; `total` is the number of all of them, for the progress."""

    def __init__(self, output: Path, reporter: Reporter | None, workers: int):
        """Makes the output folder.

        Raises:
            InputError: it cannot be made, or there are no workers.
        """
        if workers < 1:
            raise InputError(f"--workers {workers}: at least 1")
        self.output, self.reporter, self.workers = output, reporter, workers
        self.threads = max(1, torch.get_num_threads() // workers)
        self.total = self._done = 0
        self._start = time.monotonic()
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output} cannot be made ({error.strerror}): choose another output") from None

    def __call__(self, tasks: Sequence[Task]) -> list[Any]:
        """Their results in their order."""
        results: list[Any] = [None] * len(tasks)
        shares, before = [0.0] * len(tasks), self._done
        began = [0.0] * len(tasks)

        def progress(index: int, share: float) -> None:
            began[index] = began[index] or time.monotonic()
            shares[index] = max(shares[index], min(share, 0.999))
            self._report_progress(before + sum(shares))

        def finished(index: int, result: Any) -> None:
            results[index] = result
            shares[index] = 1.0
            self._done += 1
            seconds = time.monotonic() - (began[index] or time.monotonic())
            if self.reporter is not None:
                self.reporter.outcome(
                    tasks[index].name, "done", f"{duration(seconds)} ({self._done}/{self.total})"
                )
            self._report_progress(before + sum(shares))

        try:
            if self.workers == 1 or len(tasks) < 2:
                for index, task in enumerate(tasks):
                    finished(index, run_task(task, partial(progress, index)))
            else:
                run_in_processes(run_task, tasks, self.workers, progress=progress, finished=finished)
        except BaseException:
            for folder in {task.store.parent for task in tasks}:
                sweep_files(folder)  # of workers that were killed
            raise
        return results

    def _report_progress(self, done: float) -> None:
        if self.reporter is None:
            return
        seconds = time.monotonic() - self._start
        left = seconds * (self.total - done) / done if done > 0.01 * self.total else None
        self.reporter.progress(min(done, self.total), self.total, left, "piece")
