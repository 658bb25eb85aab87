"""Runs the engine in a child process: start, follow, cancel. All modules and the batch script use it.

    job = Job(engineCommand("denoise", "scan.nrrd", "-o", "out", "--progress", "json", "--cancel-on-eof"))
    job.progress.connect(lambda done, total, secondsLeft: ...)
    job.finished.connect(lambda job: print(job.exitCode, job.result or job.message))
    job.start()

The engine reports its progress in JSON lines on standard output (drmc/runtime/progress.py); standard error is
for people. Canceling closes the child's standard input, sends SIGTERM to every process of its tree, and kills
what is left of the tree after `graceSeconds`. With a Qt event loop the signals are emitted by themselves;
without one, call `wait`.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from DRMCCoreLib.process import processtree
from DRMCCoreLib.process.processes import createProcess
from DRMCCoreLib.process.signals import Signal

ENGINE_FOLDER = Path(__file__).resolve().parents[2]
CANCELLED = 130
_KEPT_LINES = 40
_running: set[Job] = set()  # a job without another reference would be destroyed, and its child with it


class Process(Protocol):
    """A child process: `QtProcess`, `PlainProcess`, or a test's own."""

    outputLine: Signal  # text
    errorLine: Signal  # text
    tick: Signal  # a few times a second while the child runs and somebody waits or a Qt event loop runs
    finished: Signal  # exit code, once, after the last line

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Starts the command with `environment` added to this process's own."""

    def processId(self) -> int:
        """The operating system's id of the child, 0 while there is none."""

    def isRunning(self) -> bool:
        """Whether the child has been started and `finished` has not been emitted."""

    def closeInput(self) -> None:
        """Ends the child's standard input."""

    def pump(self, seconds: float) -> None:
        """Waits until the child has ended, `seconds` at most; its output is emitted meanwhile."""


class JobState(enum.Enum):
    """Where a job is; it goes through these from top to bottom, CANCEL_REQUESTED only when canceled."""

    IDLE = "idle"
    RUNNING = "running"
    CANCEL_REQUESTED = "cancel requested"
    FINISHED = "finished"


class Job:
    """One run of a command that speaks the engine's JSON lines.

    After `finished`: `exitCode` (0 done, 1 failed, 2 refused, 130 canceled), `result` (the fields of the
    result event, {} without one) and `message` (why there is no result; one line). A job that was done before
    the request to cancel reached it has exit code 0 and `cancelRequested`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        process: Process | None = None,
        graceSeconds: float = 1.0,
        environment: dict[str, str] | None = None,
    ):
        self.progress = Signal()  # done, total, seconds left or None
        self.event = Signal()  # every JSON object, as dict
        self.text = Signal()  # every other line of either stream
        self.finished = Signal()  # the job
        self.command = list(command)
        self.state = JobState.IDLE
        self.exitCode: int | None = None
        self.result: dict[str, Any] = {}
        self.message = ""
        self.cancelRequested = False
        self._graceSeconds = graceSeconds
        self._environment = {**childEnvironment(), **(environment or {})}
        self._lastLines: list[str] = []
        self._endAt: float | None = None
        self._tree: set[processtree.RunningProcess] = set()
        self._process = createProcess() if process is None else process
        self._process.outputLine.connect(self._onOutputLine)
        self._process.errorLine.connect(self._onText)
        self._process.tick.connect(self._onTick)
        self._process.finished.connect(self._onFinished)

    def start(self) -> None:
        """Starts the command; returns at once."""
        if self.state is not JobState.IDLE:
            raise RuntimeError("a job runs once")
        self.state = JobState.RUNNING
        _running.add(self)
        self._process.start(self.command, self._environment)

    def isRunning(self) -> bool:
        """Whether the job has been started and has not finished."""
        return self.state in (JobState.RUNNING, JobState.CANCEL_REQUESTED)

    def cancel(self) -> None:
        """Asks the child to stop; what is left of its tree after the grace time is ended. Returns at once."""
        if self.state is not JobState.RUNNING:
            return
        self.state, self.cancelRequested = JobState.CANCEL_REQUESTED, True
        self._endAt = time.monotonic() + self._graceSeconds
        self._tree = processtree.processTree(self._process.processId())
        self._process.closeInput()
        processtree.askToStop(self._tree)

    def end(self) -> None:
        """Ends the child's whole tree now, without grace, and waits until it is gone: for closing Slicer."""
        if not self.isRunning():
            return
        self.state, self.cancelRequested = JobState.CANCEL_REQUESTED, True
        self._endAt = 0.0
        self._onTick()
        self.wait(seconds=5.0)

    def wait(self, *, seconds: float | None = None, idle: Callable[[], Any] | None = None) -> bool:
        """Waits at most `seconds` for the end, calling `idle` meanwhile; True if the job has finished."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.isRunning():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._process.pump(0.1)
            if idle is not None:
                idle()
        return True

    def _onOutputLine(self, line: str) -> None:
        try:
            event = json.loads(line) if line.startswith("{") else None
        except ValueError:
            event = None
        if not isinstance(event, dict) or "event" not in event:
            self._onText(line)
            return
        if event["event"] == "progress" and "done" in event:
            self.progress.emit(event["done"], event.get("total", 0), event.get("seconds_left"))
        elif event["event"] == "result":
            self.result = {key: value for key, value in event.items() if key != "event"}
        elif event["event"] == "error":
            self.message = str(event.get("message", ""))
        self.event.emit(event)

    def _onText(self, line: str) -> None:
        if line.strip():
            self._lastLines = [*self._lastLines[1 - _KEPT_LINES :], line]
        self.text.emit(line)

    def _onTick(self) -> None:
        if self.isRunning() and self._endAt is not None and time.monotonic() >= self._endAt:
            self._endAt = time.monotonic() + 1.0
            processtree.endTree(self._process.processId(), self._tree)

    def _onFinished(self, exitCode: int) -> None:
        if self.cancelRequested:
            processtree.endTree(0, self._tree)
            exitCode = exitCode and CANCELLED
        self.exitCode = exitCode
        if exitCode == CANCELLED:
            self.message = self.message or "canceled"
        elif exitCode:
            self.message = self.message or (
                self._lastLines[-1] if self._lastLines else f"ended with exit code {exitCode}"
            )
        self.state = JobState.FINISHED
        _running.discard(self)
        self.finished.emit(self)

    @property
    def log(self) -> str:
        """The last lines that are not JSON, for an error report."""
        return "\n".join(self._lastLines)


def engineCommand(*arguments: object) -> list[str]:
    """The command line of `drmc ARGUMENTS` with this program's Python."""
    return [pythonExecutable(), "-m", "drmc", *map(str, arguments)]


def pythonExecutable() -> str:
    """Python with Slicer's packages: PythonSlicer inside Slicer, this interpreter elsewhere."""
    if Path(sys.executable or "").name.lower().startswith("python"):
        return sys.executable
    found = shutil.which("PythonSlicer")
    if found is None:
        raise RuntimeError("PythonSlicer was not found: Slicer's installation is incomplete")
    return found


def childEnvironment() -> dict[str, str]:
    """Environment variables to add for a child: the engine's folder, UTF-8, unbuffered output."""
    earlier = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([str(ENGINE_FOLDER), *([earlier] if earlier else [])]),
        "PYTHONSAFEPATH": "1",  # a folder with a torch.py in it must not take torch's place
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
