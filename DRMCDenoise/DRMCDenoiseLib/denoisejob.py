"""One denoising from node to node: writes the engine's input, runs the engine, loads its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from drmc.errors import CanceledError, InputError
from DRMCCoreLib.nodes.segmentations import lesionFile
from DRMCCoreLib.nodes.volumes import engineInput
from DRMCCoreLib.panel.reports import showReport
from DRMCCoreLib.process.enginejob import EngineJob, made, optionList
from DRMCCoreLib.process.runner import Process, engineCommand
from slicer.i18n import tr as _

from DRMCDenoiseLib import keptresidual, results
from DRMCDenoiseLib.routingnodes import showRouting


class DenoiseJob(EngineJob):
    """A denoising under way.

    After `finished`: `outputVolume`, `lesionTable` (None without lesions), `organTable` (None without
    organs), `routingTable`, `report` and `summary` (as summary.json), or `error` (InputError: refused,
    CanceledError, DRMCError: failed).
    """

    resultNodes = ("outputVolume", "lesionTable", "organTable", "report", "routingTable")
    counted = "tile"
    work = "denoising"

    def __init__(self, inputVolume, outputVolume=None, *, process: Process | None = None):
        EngineJob.__init__(self, inputVolume, process=process)
        self.outputVolume = outputVolume
        self.lesionTable = None
        self.organTable = None
        self.report = None
        self.routingTable = None
        self._placeNode = inputVolume  # which lies where lesions are drawn and says what the voxels are
        self._label: str | None = None  # what messages call the input, where it is not the node's own name
        self._reading: dict[str, Any] | None = None  # how the scan was read, where the residual is kept
        self._output: Path | None = None

    def start(
        self,
        *,
        lesions=None,
        lesionTable=None,
        organs=None,
        organTable=None,
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
        if options.get("dicom") and outputFolder is None:
            raise InputError("the DICOM series needs a place: give an outputFolder")
        self.lesionTable, self.organTable = lesionTable, organTable
        self.routingTable, self.report = routingTable, report
        if keepResidual:
            options["keep_residual"] = True
            self._reading = {
                "suv": suv,
                "headerValues": headerValues,
                "accept_rule": options.get("accept_rule"),
            }
        marked = {"lesions": lesions, "organs": organs}
        self.launch(lambda: self._command(marked, reference, suv, headerValues or {}, outputFolder, options))

    def _command(
        self, marked: dict[str, Any], reference, suv, headerValues, outputFolder, options: dict[str, Any]
    ) -> list[str]:
        assert self._scratch is not None
        folder = made(self._scratch / "input")
        scan = engineInput(self.inputVolume, folder, suv, proxy=self._placeNode, label=self._label)
        passed = scan.options()
        self._output = self._scratch / "output" if outputFolder is None else Path(outputFolder)
        for name, node in marked.items():
            if node is not None:
                segments = lesionFile(node, self._placeNode, made(self._scratch / name))
                options[name] = segments.path
                passed += segments.options(name)
        if reference is not None:
            full = engineInput(reference, made(self._scratch / "reference"))
            options["reference"] = full.path
            passed += full.options("reference")
        fixed = ("--format", "nrrd", "--progress", "json", "--cancel-on-eof")
        given = optionList(options, headerValues)
        return engineCommand("denoise", scan.path, "-o", self._output, *passed, *given, *fixed)

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        if not slicer.mrmlScene.IsNodePresent(self.inputVolume):
            raise CanceledError("the input volume was removed from the scene meanwhile")
        array = results.readDenoised(self._output / "denoised.nrrd", self.inputVolume)
        tables = results.readTables(self._output, summary)
        page = (self._output / "report.html").read_text(encoding="utf-8")
        self.summary = summary
        self.outputVolume = results.showDenoised(array, self.inputVolume, self.outputVolume, summary)
        self._keepResidual()
        self.report = showReport(
            page, self.report, _("{name} report (DRMC)").format(name=self.inputVolume.GetName())
        )
        self._showTables(tables)
        self.routingTable = showRouting(summary, self.routingTable, self.inputVolume)

    def _showTables(self, tables: results.Tables) -> None:
        if tables.lesions is not None:
            self.lesionTable = results.showLesionTable(tables.lesions, self.lesionTable, self.inputVolume)
        if tables.organs is not None:
            self.organTable = results.showOrganTable(
                tables.organs, self.organTable, self.inputVolume, self.summary
            )

    def _keepResidual(self) -> None:
        if self._reading is None:
            keptresidual.forget(self.outputVolume)
        else:
            assert self._output is not None
            residual = results.readDenoised(self._output / "residual.nrrd", self.inputVolume)
            description = self._output / "residual.json"
            keptresidual.keep(self.outputVolume, self.inputVolume, residual, description, self._reading)
