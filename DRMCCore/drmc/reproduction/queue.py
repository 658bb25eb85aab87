"""The queue: each piece in a worker process, its state on disk, the page written again after each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from drmc.errors import DRMCError
from drmc.reproduction.config import ReproductionConfig
from drmc.reproduction.pieces import run_piece
from drmc.reproduction.states import DONE, FAILED, Piece, queue_of, write_state
from drmc.reproduction.writing import write_pages
from drmc.runtime.progress import Reporter, duration
from drmc.runtime.workers import run_in_processes


def run_queue(
    config: ReproductionConfig, reporter: Reporter | None = None, only: Sequence[str] = ()
) -> list[tuple[Piece, str]]:
    """Does everything that is missing; a piece that fails is recorded, and the others are done.

    Args:
        config: what is reproduced.
        reporter: shows the progress.
        only: names of trainings; none: all.

    Returns:
        The pieces that failed, with their messages; the evaluation counts by its last time.
    """
    tasks = [
        piece for piece in queue_of(config) if piece.kind != "training" or not only or piece.name in only
    ]
    run = _Run(config, tasks, reporter)
    while run.left:
        try:
            work = [(config, piece) for piece in run.left]
            run_in_processes(run_piece, work, 1, progress=run.progress, finished=run.finished)
        except DRMCError as error:  # the worker was killed, most likely for lack of memory
            run.finished(0, {"state": FAILED, "message": str(error)})
    return [(piece, message) for piece, message in run.failures.items()]


class _Run:
    def __init__(self, config: ReproductionConfig, tasks: Sequence[Piece], reporter: Reporter | None):
        self.config, self.left, self._reporter = config, list(tasks), reporter
        self._total, self._began = len(tasks), time.monotonic()
        self.failures: dict[Piece, str] = {}

    def progress(self, _index: int, share: float) -> None:
        """Shows the share of the present piece."""
        if self._reporter is not None and self.left:
            done = self._total - len(self.left)
            self._reporter.progress(done + min(share, 0.999), self._total, None, "piece")

    def finished(self, _index: int, state: dict[str, Any]) -> None:
        """Records what became of the present piece, and writes the page."""
        piece = self.left.pop(0)
        self.failures.pop(piece, None)
        if state["state"] != DONE:
            self.failures[piece] = state["message"]
        if self._reporter is not None:
            seconds = duration(state.get("piece_seconds", 0.0))
            text = state["message"] if state["state"] != DONE else seconds
            self._reporter.outcome(piece.title, state["state"], text)
        try:
            write_state(self.config, piece, state)
            write_pages(self.config)
        except OSError as error:  # a full disk: the queue goes on, and the next start sees what is missing
            self.notice(f"{self.config.output}: cannot be written ({error}): make room and start again")
        except Exception as error:  # hours of training are worth more than a page, which can be made again
            self.notice(f"the page cannot be made: {type(error).__name__}: {error}")

    def notice(self, text: str) -> None:
        """One line for the user."""
        if self._reporter is not None:
            self._reporter.notice(text)
