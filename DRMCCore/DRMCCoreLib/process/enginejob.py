"""A run of the engine on a volume of the scene, from its files to its results in the scene."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer
from drmc.errors import CanceledError, DRMCError, InputError

from DRMCCoreLib.process.runner import CANCELLED, Job, Process
from DRMCCoreLib.process.signals import Signal

_LONG_NAMES = {"accept_rule": "--accept-suv"}  # where the option is called otherwise


class EngineJob:
    """A run under way. The scene changes only at the very end, and only if all went well.

    After `finished`: `summary` (as summary.json), or `error` (InputError: refused, CanceledError, DRMCError:
    failed). A subclass has a `start` that calls `launch`, and `_bringIntoScene`.
    """

    resultNodes: tuple[str, ...] = ()  # attributes with the nodes that get the results, None for a new one
    counted = ""  # what progress counts
    work = ""  # for the log, such as denoising

    def __init__(self, inputVolume, *, process: Process | None = None):
        self.progress = Signal()  # done, total, seconds left or None
        self.message = Signal()  # a notice of the engine
        self.finished = Signal()  # this job
        self.inputVolume = inputVolume
        self.summary: dict[str, Any] = {}
        self.error: DRMCError | None = None
        self._process = process
        self._job: Job | None = None
        self._scratch: Path | None = None
        self._startTime = 0.0

    def launch(self, makeCommand: Callable[[], list[str]]) -> None:
        """Makes the folder for the run's files and starts the engine; returns at once.

        `makeCommand` writes the input there and gives the command line. Raises InputError for nodes that are
        refused before the engine starts, DRMCError where the input cannot be written.
        """
        if self._job is not None:
            raise RuntimeError("a job runs once")
        logging.info(f"DRMC: {self.work} of '{self.inputVolume.GetName()}' started")
        self._startTime = time.time()
        self._scratch = Path(tempfile.mkdtemp(prefix="DRMC-", dir=slicer.app.temporaryPath))
        try:
            self._job = Job(makeCommand(), process=self._process)
            self._job.progress.connect(self.progress.emit)
            self._job.event.connect(self._onEvent)
            self._job.finished.connect(self._onFinished)
            self._job.start()
        except (OSError, RuntimeError) as error:
            self._removeScratch()
            raise DRMCError(f"the engine's input cannot be written: {error}") from error
        except BaseException:
            self._removeScratch()
            raise

    def isRunning(self) -> bool:
        """Whether the engine is at work."""
        return self._job is not None and self._job.isRunning()

    def cancel(self) -> None:
        """Asks the engine to stop; `finished` follows within two seconds."""
        if self._job is not None:
            self._job.cancel()

    def end(self) -> None:
        """Ends the engine now and waits until it is gone."""
        if self._job is not None:
            self._job.end()

    def wait(self, idle: Callable[[], Any] | None = None) -> None:
        """Waits for the end, calling `idle` a few times a second; raises `error` if there is one."""
        if self._job is not None:
            self._job.wait(idle=idle)
        if self.error is not None:
            raise self.error

    @property
    def log(self) -> str:
        """The last lines of the engine's log."""
        return "" if self._job is None else self._job.log

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        """Puts the results into the scene. Raises CanceledError where what they belong to has gone."""
        raise NotImplementedError

    def _onEvent(self, event: dict[str, Any]) -> None:
        if event["event"] == "notice":
            self.message.emit(event["message"])

    def _onFinished(self, job: Job) -> None:
        try:
            if job.cancelRequested or job.exitCode == CANCELLED:
                raise CanceledError()
            if job.exitCode:
                kind = InputError if job.exitCode == InputError.exit_code else DRMCError
                raise kind(job.message)
            forgetRemoved(self, self.resultNodes)
            self._bringIntoScene(job.result["summary"])
        except DRMCError as error:
            self.error = error
        except Exception as error:
            self.error = DRMCError(f"the engine's results cannot be read: {error}")
            self.error.__cause__ = error
        finally:
            self._removeScratch()
        logging.info(f"DRMC: {self.error or 'done'} ({time.time() - self._startTime:.1f} s)")
        self.finished.emit(self)

    def _removeScratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def forgetRemoved(owner: Any, names: tuple[str, ...]) -> None:
    """Sets attributes to None whose nodes have left the scene: what they are given would be lost."""
    for name in names:
        node = getattr(owner, name)
        if node is not None and not slicer.mrmlScene.IsNodePresent(node):
            setattr(owner, name, None)


def optionList(options: Mapping[str, Any], headerValues: Mapping[str, str]) -> list[Any]:
    """Options of a command by their names in the engine, and header values, as arguments.

    None and False are left out, True stands for an option without a value.
    """
    byHand = [part for item in headerValues.items() for part in ("--header", "=".join(item))]
    given = [
        part
        for name, value in options.items()
        if value is not None and value is not False
        for part in (
            _LONG_NAMES.get(name, f"--{name.replace('_', '-')}"),
            *(() if value is True else (value,)),
        )
    ]
    return [*byHand, *given]


def made(folder: Path) -> Path:
    """The folder, made now."""
    folder.mkdir()
    return folder
