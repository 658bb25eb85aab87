"""All frames of a sequence denoised one after the other, each in a child process of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drmc.errors import CanceledError, DRMCError, InputError
from DRMCCoreLib.nodes import volumes
from DRMCCoreLib.nodes.sequences import sequenceOf
from DRMCCoreLib.process.enginejob import forgetRemoved
from DRMCCoreLib.process.signals import Signal

from DRMCDenoiseLib import results
from DRMCDenoiseLib.denoisejob import DenoiseJob
from DRMCDenoiseLib.sequenceresults import showDenoised


class SequenceJob:
    """As DenoiseJob, for the sequence whose frame the input volume shows; progress counts frames.

    The result is a sequence with the same index values in the same browser, `outputVolume` its proxy. The
    scene changes only at the very end, and only if all frames went well.
    """

    counted = "frame"

    def __init__(self, inputVolume, outputVolume=None):
        self.progress = Signal()  # frames done, frames in all, seconds left or None
        self.message = Signal()
        self.finished = Signal()
        self.inputVolume = inputVolume
        self.outputVolume = outputVolume
        self.lesionTable = None
        self.organTable = None  # of many frames: organs.csv of each frame in the output folder
        self.routingTable = self.report = None  # not of many frames
        self.summary: dict[str, Any] = {}
        self.error: DRMCError | None = None
        self._sequence = sequenceOf(inputVolume)
        self._frame: _FrameJob | None = None
        self._done: list[_FrameJob] = []
        self._arguments: dict[str, Any] = {}
        self._cancelRequested = False
        self._startTime = 0.0

    def start(self, *, lesionTable=None, outputFolder=None, **arguments: Any) -> None:
        """Starts the first frame; returns at once. The arguments are those of `DenoiseJob.start`."""
        name = self.inputVolume.GetName()
        if self._sequence is None:
            raise InputError(
                f"'{name}' is no frame of a sequence: choose a volume that a sequence browser shows"
            )
        if arguments.get("reference") is not None:
            raise InputError(f"'{name}' is a sequence: leave out the reference, or choose one frame")
        volumes.checkNode(self.inputVolume)
        self.lesionTable, self._arguments = lesionTable, {**arguments, "keepResidual": False}
        self._folder = None if outputFolder is None else Path(outputFolder)
        self._startTime = time.time()
        self._next()

    def isRunning(self) -> bool:
        """Whether a frame is at work."""
        return self._frame is not None

    def cancel(self) -> None:
        """Asks the frame under way to stop; `finished` follows within two seconds."""
        self._cancelRequested = True
        if self._frame is not None:
            self._frame.cancel()

    def end(self) -> None:
        """Ends the engine now and waits until it is gone."""
        self._cancelRequested = True
        if self._frame is not None:
            self._frame.end()

    def wait(self, idle: Callable[[], Any] | None = None) -> None:
        """Waits for the end, calling `idle` a few times a second; raises `error` if there is one."""
        while self._frame is not None:
            frame = self._frame
            if frame.isRunning():
                frame.waitForEnd(idle)
        if self.error is not None:
            raise self.error

    @property
    def log(self) -> str:
        """The last lines of the engine's log for the frame that failed."""
        return self._done[-1].log if self._done else ""

    def _next(self) -> None:
        index, count = len(self._done), self._sequence.GetNumberOfDataNodes()
        frame = _FrameJob(self._sequence.GetNthDataNode(index), self.inputVolume, index, count)
        frame.message.connect(self.message.emit)
        frame.progress.connect(
            lambda done, total, left: self._reportProgress(index, count, done / max(total, 1))
        )
        frame.finished.connect(self._onFrame)
        folder = None if self._folder is None else self._folder / f"frame{index + 1:04d}"
        if folder is not None:
            folder.parent.mkdir(parents=True, exist_ok=True)
        self._frame = frame
        try:
            frame.start(**dict(self._arguments), outputFolder=folder)
        except BaseException:
            self._frame = None
            raise

    def _reportProgress(self, index: int, count: int, part: float) -> None:
        share = (index + part) / count
        elapsed = time.time() - self._startTime
        self.progress.emit(index, count, elapsed * (1 - share) / share if share > 0 else None)

    def _onFrame(self, frame: _FrameJob) -> None:
        self._frame = None
        self._done.append(frame)
        count = self._sequence.GetNumberOfDataNodes()
        try:
            if frame.error is not None:
                raise frame.error
            if self._cancelRequested:
                raise CanceledError()
            if len(self._done) < count:
                self.message.emit(f"frame {len(self._done)} of {count} is done")
                self._reportProgress(len(self._done), count, 0.0)
                self._next()
                return
            self._bringIntoScene()
        except DRMCError as error:
            self.error = error
        except Exception as error:
            self.error = DRMCError(f"the engine's results cannot be read: {error}")
            self.error.__cause__ = error
        logging.info(f"DRMC: {self.error or f'{count} frames done'} ({time.time() - self._startTime:.1f} s)")
        self.finished.emit(self)

    def _bringIntoScene(self) -> None:
        if sequenceOf(self.inputVolume) is not self._sequence:
            raise CanceledError("the sequence was removed from the scene meanwhile")
        forgetRemoved(self, ("outputVolume", "lesionTable"))
        self.summary = _summed([frame.summary for frame in self._done])
        self.outputVolume = showDenoised(
            self.inputVolume,
            self.outputVolume,
            [frame.array for frame in self._done],
            [frame.summary for frame in self._done],
        )
        tables = [frame.table for frame in self._done if frame.table is not None]
        if tables:
            names = [self._sequence.GetNthIndexValue(index) for index in range(len(tables))]
            table = results.joinedTables(tables, names)
            self.lesionTable = results.showLesionTable(table, self.lesionTable, self.inputVolume)


class _FrameJob(DenoiseJob):
    """One frame, with results kept out of the scene: `array` (k, j, i), `table` (None without lesions)."""

    def __init__(self, dataNode, proxyNode, index: int, count: int):
        DenoiseJob.__init__(self, dataNode)
        self._placeNode = proxyNode
        self._label = f"{proxyNode.GetName()}, frame {index + 1} of {count}"
        self.array = self.table = None

    def waitForEnd(self, idle) -> None:
        """Waits without raising."""
        try:
            self.wait(idle)
        except DRMCError:
            pass  # `finished` says it

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        self.array = results.readDenoised(self._output / "denoised.nrrd", self.inputVolume)
        if "lesions.csv" in summary["outputs"]:
            self.table = results.readLesionTable(self._output / "lesions.csv")
        self.summary = summary


def _summed(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """The last frame's summary with the seconds and tiles of all."""
    last = summaries[-1]
    seconds = {key: sum(one["seconds"].get(key, 0.0) for one in summaries) for key in last["seconds"]}
    tiles = {**last["tiles"], "count": sum(one["tiles"]["count"] for one in summaries)}
    return {**last, "seconds": seconds, "tiles": tiles, "frames": len(summaries)}
