"""One training in child processes: checks first, then torchrun; followed, stopped with a checkpoint, ended.

    run = TrainingRun(Launch(Path("training.json"), processes=4))
    run.event.connect(print)
    run.start()
    run.wait()

Starting it again goes on from the last checkpoint.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drmc.training.history import LOG, History
from drmc.training.launch import STOP_FILE, Launch
from DRMCCoreLib.process.runner import Job, Process, childEnvironment, engineCommand, pythonExecutable
from DRMCCoreLib.process.signals import Signal

GRACE_SECONDS = 60.0  # after a second request to stop
CLOSE_SECONDS = 20.0  # that closing Slicer waits for the checkpoint
REFUSED_CODE = 2


class RunState(enum.Enum):
    """Where a run is; it goes through these from top to bottom."""

    IDLE = "idle"
    CHECKING = "checking"
    TRAINING = "training"
    STOPPING = "stopping"
    FINISHED = "finished"


class TrainingRun:
    """Checks a launch and, unless `checkOnly`, trains.

    After `finished`: `exitCode` (0 done or stopped with a checkpoint, 1 failed, 2 refused, 130 ended
    without), `message` (one line where the code is not 0) and `stopped` (by request, before the last step).
    After the checks: `checks` (level, text), `output` (the run's folder, "" where the configuration cannot be
    read), `step`, `steps`.
    """

    def __init__(
        self, launch: Launch, *, checkOnly: bool = False, createProcess: Callable[[], Process] | None = None
    ):
        self.event = Signal()  # every JSON object, as dict
        self.text = Signal()  # every other line
        self.changed = Signal()  # the run: another state
        self.finished = Signal()  # the run
        self.launch, self.checkOnly = launch, checkOnly
        self.state = RunState.IDLE
        self.checks: list[tuple[str, str]] = []
        self.output = ""
        self.step = self.steps = 0
        self.history = History()
        self.exitCode: int | None = None
        self.message = ""
        self.stopRequested = False
        self._createProcess = createProcess
        self._refusal = ""
        self._jobs: list[Job] = []  # kept: a process must not be destroyed while it emits `finished`

    def start(self) -> None:
        """Starts the checks; returns at once."""
        launch = self.launch
        where = [] if launch.node_rank is None else ["--node-rank", launch.node_rank]
        where += ["--rendezvous", launch.endpoint] if launch.endpoint else []
        command = engineCommand(
            *("train", launch.config, "--check", "--processes", launch.processes),
            *("--nodes", launch.nodes, *where, "--progress", "json"),
        )
        self._startJob(RunState.CHECKING, command, {}, self._onChecked)

    def isRunning(self) -> bool:
        """Whether the run has been started and has not finished."""
        return self.state not in (RunState.IDLE, RunState.FINISHED)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by request before its last step."""
        return self.stopRequested and not (self.steps and self.history.step >= self.steps)

    def stop(self) -> None:
        """Requests a checkpoint after the current step; a second request ends the run after a minute.

        The request is a file in the output folder, which also reaches processes of Windows and on other
        machines.
        """
        if not self.isRunning():
            return
        again, self.stopRequested = self.stopRequested, True
        if self.state is RunState.CHECKING or again or not self._writeStopFile():
            self._jobs[-1].cancel()
        self._enter(RunState.STOPPING)

    def end(self, seconds: float = CLOSE_SECONDS) -> None:
        """Stops, waits at most `seconds` for the checkpoint, and ends the processes; for closing Slicer."""
        if not self.isRunning():
            return
        self.stopRequested = True
        if self.state is not RunState.CHECKING:
            self._writeStopFile()
        self._jobs[-1].cancel()
        self.wait(seconds=seconds)
        if self.isRunning():
            self._jobs[-1].end()

    def wait(self, *, seconds: float | None = None, idle: Callable[[], Any] | None = None) -> bool:
        """Waits at most `seconds` for the end, calling `idle` meanwhile; True if the run has finished."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.isRunning():  # the job changes from the checks to the training
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._jobs[-1].wait(seconds=left, idle=idle)
        return True

    def _startJob(self, state: RunState, command, environment, onFinished) -> None:
        process = None if self._createProcess is None else self._createProcess()
        job = Job(command, process=process, graceSeconds=GRACE_SECONDS, environment=environment)
        job.event.connect(self._onEvent)
        job.text.connect(self.text.emit)
        job.finished.connect(onFinished)
        self._jobs.append(job)
        self._enter(state)
        job.start()

    def _writeStopFile(self) -> bool:
        try:
            (Path(self.output) / STOP_FILE).touch()
        except OSError:  # the folder is not there yet, or cannot be written any more
            return False
        return True

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "check":
            self.checks.append((str(event.get("level", "")), str(event.get("text", ""))))
        elif kind == "error" and event.get("exit_code") == REFUSED_CODE and not self._refusal:
            self._refusal = str(event.get("message", ""))
            if self.state is RunState.TRAINING:  # torchrun would try again what is refused each time
                self._jobs[-1].cancel()
        else:
            self.history.add(event)
        self.event.emit(event)

    def _onChecked(self, job: Job) -> None:
        self.output = str(job.result.get("output", ""))
        self.step, self.steps = int(job.result.get("step", 0)), int(job.result.get("steps", 0))
        if self.output:
            log = Path(self.output) / LOG
            self.history = History.read(log) if log.is_file() else History()
        if job.exitCode or self.checkOnly or self.stopRequested:
            self._finish(job)
            return
        python = pythonExecutable()
        command = self.launch.command(python, progress="json")
        self._startJob(RunState.TRAINING, command, self.launch.environment(python), self._onTrained)

    def _onTrained(self, job: Job) -> None:
        self._finish(job)

    def _finish(self, job: Job) -> None:
        self.exitCode, self.message = job.exitCode, job.message if job.exitCode else ""
        if self._refusal:
            self.exitCode, self.message = REFUSED_CODE, self._refusal
        self._enter(RunState.FINISHED)
        self.finished.emit(self)

    def _enter(self, state: RunState) -> None:
        self.state = state
        self.changed.emit(self)


def shellLine(launch: Launch) -> str:
    """The command as a line for any shell, with the environment variables that it needs."""
    return launch.shell_line(pythonExecutable(), {"PYTHONPATH": childEnvironment()["PYTHONPATH"]})
