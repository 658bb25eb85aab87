"""One denoising from node to node: writes the engine's input, runs the engine, loads its results."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from drmc.errors import CanceledError, DRMCError, InputError
from DRMCCoreLib.nodes.volumes import engineInput
from DRMCCoreLib.panel.reports import showReport
from DRMCCoreLib.process.runner import CANCELLED, Job, Process, engineCommand
from DRMCCoreLib.process.signals import Signal
from slicer.i18n import tr as _

from DRMCDenoiseLib import keptresidual, results
from DRMCDenoiseLib.lesions import lesionFile
from DRMCDenoiseLib.routingnodes import showRouting


class DenoiseJob:
    """A denoising under way. The scene changes only at the very end, and only if all went well.

    After `finished`: `outputVolume`, `lesionTable` (None without lesions), `routingTable`, `report` and
    `summary` (as summary.json), or `error` (InputError: refused, CanceledError, DRMCError: failed).
    """

    counted = "tile"  # what progress counts

    def __init__(self, inputVolume, outputVolume=None, *, process: Process | None = None):
        self.progress = Signal()  # done, total, seconds left or None
        self.message = Signal()  # a notice of the engine
        self.finished = Signal()  # this job
        self.inputVolume = inputVolume
        self.outputVolume = outputVolume
        self.lesionTable = None
        self.report = None
        self.routingTable = None
        self.summary: dict[str, Any] = {}
        self.error: DRMCError | None = None
        self._placeNode = inputVolume  # which lies where lesions are drawn and says what the voxels are
        self._label: str | None = None  # what messages call the input, where it is not the node's own name
        self._process = process
        self._job: Job | None = None
        self._scratch: Path | None = None
        self._startTime = 0.0
        self._reading: dict[str, Any] | None = None  # how the scan was read, where the residual is kept
        self._output: Path | None = None

    def start(
        self,
        *,
        lesions=None,
        lesionTable=None,
        report=None,
        routingTable=None,
        reference=None,
        suv: str | float | None = None,
        headerValues: dict[str, str] | None = None,
        outputFolder=None,
        keepResidual: bool = False,
        **options: str | float | bool | None,
    ) -> None:
        """Writes the input and starts the engine; returns at once.

        `headerValues`: by DICOM keyword, in the place of the header's (drmc.suv.manual). `options` are
        options of `drmc denoise` by their long names (`model`, `device`, `accept_rule`, ...); None is left
        out, True stands for an option without a value. `outputFolder` keeps what the engine writes
        (report.html, lesions.csv, ...); `keepResidual` keeps the residual in the scene, and there. Raises
        InputError for nodes that are refused before the engine starts, DRMCError where the input cannot be
        written.
        """
        if self._job is not None:
            raise RuntimeError("a denoising runs once")
        if options.get("dicom") and outputFolder is None:
            raise InputError("the DICOM series needs a place: give an outputFolder")
        logging.info(f"DRMC: denoising of '{self.inputVolume.GetName()}' started")
        self._startTime = time.time()
        self.lesionTable, self.routingTable, self.report = lesionTable, routingTable, report
        if keepResidual:
            options["keep_residual"] = True
            self._reading = {
                "suv": suv,
                "headerValues": headerValues,
                "accept_rule": options.get("accept_rule"),
            }
        self._scratch = Path(tempfile.mkdtemp(prefix="DRMC-", dir=slicer.app.temporaryPath))
        try:
            command = self._command(lesions, reference, suv, headerValues or {}, outputFolder, options)
            self._job = Job(command, process=self._process)
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

    def _command(
        self, lesions, reference, suv, headerValues, outputFolder, options: dict[str, Any]
    ) -> list[str]:
        assert self._scratch is not None
        folder = _made(self._scratch / "input")
        scan = engineInput(self.inputVolume, folder, suv, proxy=self._placeNode, label=self._label)
        passed = scan.options()
        self._output = self._scratch / "output" if outputFolder is None else Path(outputFolder)
        if lesions is not None:
            marked = lesionFile(lesions, self._placeNode, _made(self._scratch / "lesions"))
            options["lesions"] = marked.path
            passed += marked.options("lesions")
        if reference is not None:
            full = engineInput(reference, _made(self._scratch / "reference"))
            options["reference"] = full.path
            passed += full.options("reference")
        byHand = [part for item in headerValues.items() for part in ("--header", "=".join(item))]
        extra = [
            part
            for name, value in options.items()
            if value is not None and value is not False
            for part in (f"--{name.replace('_', '-')}", *(() if value is True else (value,)))
        ]
        fixed = ("--format", "nrrd", "--progress", "json", "--cancel-on-eof")
        return engineCommand("denoise", scan.path, "-o", self._output, *passed, *byHand, *extra, *fixed)

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

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        if not slicer.mrmlScene.IsNodePresent(self.inputVolume):
            raise CanceledError("the input volume was removed from the scene meanwhile")
        array = results.readDenoised(self._output / "denoised.nrrd", self.inputVolume)
        lesions = self._output / "lesions.csv"
        table = results.readLesionTable(lesions) if "lesions.csv" in summary["outputs"] else None
        page = (self._output / "report.html").read_text(encoding="utf-8")
        self.summary = summary
        self.outputVolume = results.showDenoised(array, self.inputVolume, self.outputVolume, summary)
        self._keepResidual()
        self.report = showReport(
            page, self.report, _("{name} report (DRMC)").format(name=self.inputVolume.GetName())
        )
        if table is not None:
            self.lesionTable = results.showLesionTable(table, self.lesionTable, self.inputVolume)
        self.routingTable = showRouting(summary, self.routingTable, self.inputVolume)

    def _keepResidual(self) -> None:
        if self._reading is None:
            keptresidual.forget(self.outputVolume)
        else:
            assert self._output is not None
            residual = results.readDenoised(self._output / "residual.nrrd", self.inputVolume)
            description = self._output / "residual.json"
            keptresidual.keep(self.outputVolume, self.inputVolume, residual, description, self._reading)

    def _removeScratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
