"""Progress of a command, for people and for programs.

A reporter receives scans, the count of whatever a command counts (`counting`), and notices.
`TerminalProgress` writes lines for people (standard error), `JsonProgress` JSON lines for programs (standard
output):

    {"event": "scan", "name": ..., "index": 1, "count": 20}               a batch starts its next scan
    {"event": "progress", "done": 3, "total": 28, "seconds_left": 41.2}   done may be fractional
    {"event": "notice", "message": ...}
    {"event": "outcome", "scan": ..., "outcome": "done", "message": ...}  a batch has ended a scan
    {"event": "batch", "done": 3, "total": 20, "seconds_left": 3900.0}    of all scans of a batch
    {"event": "result", ...}                                              the command is done
    {"event": "error", "message": ..., "exit_code": 2}                    it has ended without a result;
                                                                          more fields for a refused SUV
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from drmc.texts import raw_stream, shown


class TerminalProgress:
    """Progress for people: one updating line on a terminal, a line every 10 % anywhere else."""

    def __init__(self, stream: TextIO):
        self._stream = stream = raw_stream(stream)
        # The stream of a host program (Slicer's console) may have no isatty.
        self._updates = getattr(stream, "isatty", lambda: False)()
        self._scan = ""
        self._decile = 0
        self._line_is_open = False

    def scan(self, name: str, index: int, count: int) -> None:
        """A batch starts scan `index` (from 1) of `count`."""
        self._scan = f"[{index}/{count}] {shown(name)}: "
        self._decile = 0

    def progress(self, done: float, total: int, seconds_left: float | None, counted: str) -> None:
        """Reports `done` of `total` of what is `counted`.

        Args:
            done: count, with fractions.
            total: count of all.
            seconds_left: an estimate, None while there is none.
            counted: singular noun, in the user's words.
        """
        percent = int(100 * done // max(total, 1))
        text = f"{self._scan}{percent:3d} %, {int(done)} of {total} {counted}s"
        if seconds_left is not None and done < total:
            text += f", {duration(seconds_left)} left"
        if self._updates:
            width = shutil.get_terminal_size().columns - 1
            bar = f"[{'#' * (percent // 5):<20}] "
            self._stream.write("\r\x1b[K" + (bar + text)[:width])
            self._line_is_open = True
        elif percent // 10 > self._decile or done == total:
            self._decile = percent // 10
            self._stream.write(text + "\n")
        self._stream.flush()

    def notice(self, message: str) -> None:
        """Reports what the user should know; the work continues."""
        self.clear()
        self._stream.write(f"{self._scan}note: {shown(message)}\n")
        self._stream.flush()

    def outcome(self, scan: str, outcome: str, message: str) -> None:
        """A batch has ended a scan or patient; `outcome`: done, skipped, refused, failed or cancelled."""
        self.clear()
        prefix = self._scan or f"{shown(scan)}: "  # scans in parallel have no `scan` event before
        self._stream.write(f"{prefix}{outcome}" + (f": {shown(message)}" if message else "") + "\n")
        self._stream.flush()

    def batch(self, done: float, total: int, seconds_left: float | None) -> None:
        """Reports that `done` of `total` scans of a batch have ended; `seconds_left`: None while unknown."""
        if seconds_left is None or done >= total or not float(done).is_integer():
            return
        self.clear()
        self._stream.write(f"{int(done)} of {total} scans, {duration(seconds_left)} left for the batch\n")
        self._stream.flush()

    def result(self, **fields: Any) -> None:
        """The command is done; it prints its result itself."""
        self.clear()

    def error(self, message: str, exit_code: int, **details: Any) -> None:
        """The command has ended without a result; the caller prints the line."""
        self.clear()

    def clear(self) -> None:
        """Removes the updating line, so that other text starts on a new one."""
        if self._line_is_open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._line_is_open = False


class JsonProgress:
    """Progress for programs: one JSON object a line, flushed at once."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def scan(self, name: str, index: int, count: int) -> None:
        """A batch starts scan `index` (from 1) of `count`."""
        self._write("scan", name=name, index=index, count=count)

    def progress(self, done: float, total: int, seconds_left: float | None, counted: str) -> None:
        """Reports `done` of `total`; `seconds_left` is an estimate, null while there is none."""
        left = None if seconds_left is None else round(float(seconds_left), 1)
        whole = float(done).is_integer()
        self._write(
            "progress", done=int(done) if whole else round(done, 3), total=int(total), seconds_left=left
        )

    def notice(self, message: str) -> None:
        """Reports what the user should know; the work continues."""
        self._write("notice", message=message)

    def outcome(self, scan: str, outcome: str, message: str) -> None:
        """A batch has ended a scan or patient; `outcome`: done, skipped, refused, failed or cancelled."""
        self._write("outcome", scan=scan, outcome=outcome, message=message)

    def batch(self, done: float, total: int, seconds_left: float | None) -> None:
        """Reports that `done` of `total` scans of a batch have ended, with fractions."""
        left = None if seconds_left is None else round(float(seconds_left), 1)
        self._write("batch", done=round(float(done), 3), total=int(total), seconds_left=left)

    def result(self, **fields: Any) -> None:
        """The command is done."""
        self._write("result", **fields)

    def error(self, message: str, exit_code: int, **details: Any) -> None:
        """The command has ended without a result; `details` as in DRMCError."""
        self._write("error", message=message, exit_code=exit_code, **details)

    def _write(self, event: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
        self._stream.flush()


Reporter = TerminalProgress | JsonProgress


class ProgressObserver(Protocol):
    """What can be told how much is done: a `Reporter`, or the observer of a batch."""

    def progress(self, done: float, total: int, seconds_left: float | None, counted: str) -> None:
        """As of TerminalProgress."""


def counting(observer: ProgressObserver, counted: str) -> Callable[[float, int, float | None], None]:
    """What the work of a command calls between its steps, for a reporter that says what they are.

    Args:
        observer: which is told.
        counted: what a step is for the user, a singular noun: tile, slab, patient.
    """
    return lambda done, total, seconds_left: observer.progress(done, total, seconds_left, counted)


def add_progress_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--progress text|json` to a command."""
    parser.add_argument(
        "--progress",
        choices=("text", "json"),
        default="text",
        help="json: one JSON object a line on standard output, the last with the result",
    )


def duration(seconds: float) -> str:
    """A duration for people: `48 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def table_lines(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table for a terminal, with right-aligned columns.

    The first one, of names, and those without a title, of remarks, are left-aligned.
    """
    cells = [[shown(text) for text in row] for row in cells]
    widths = [max(len(row[column]) for row in [titles, *cells]) for column in range(len(titles))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 or not titles[column] else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [titles, *cells]
    ]
