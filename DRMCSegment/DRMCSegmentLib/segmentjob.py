"""One run of `drmc segment` from node to node: writes the engine's input, runs it, loads its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from drmc.errors import CanceledError, InputError
from DRMCCoreLib.nodes.segmentations import lesionFile
from DRMCCoreLib.nodes.tables import showTable
from DRMCCoreLib.nodes.volumes import engineInput
from DRMCCoreLib.panel.reports import showReport
from DRMCCoreLib.process.enginejob import EngineJob, made, optionList
from DRMCCoreLib.process.runner import Process, engineCommand
from slicer.i18n import tr as _

from DRMCSegmentLib import results


class SegmentJob(EngineJob):
    """Organs of a volume under way.

    After `finished`: `outputSegmentation`, `organTable`, `uptake` and `uptakeTable` (None without a
    threshold), `report` and `summary` (as summary.json), or `error` (InputError: refused, CanceledError,
    DRMCError: failed).
    """

    resultNodes = ("outputSegmentation", "organTable", "uptake", "uptakeTable", "report")
    counted = "slab"
    work = "organs"

    def __init__(self, inputVolume, outputSegmentation=None, *, process: Process | None = None):
        EngineJob.__init__(self, inputVolume, process=process)
        self.outputSegmentation = outputSegmentation
        self.organTable = self.uptake = self.uptakeTable = self.report = None
        self._output: Path | None = None
        self._measured = None  # the segmentation node that is measured and stays as it is

    def start(
        self,
        *,
        segmentation=None,
        lesions=None,
        organTable=None,
        uptake=None,
        uptakeTable=None,
        report=None,
        suv: str | float | None = None,
        headerValues: dict[str, str] | None = None,
        outputFolder=None,
        writeDICOM: bool = False,
        **options: str | float | bool | None,
    ) -> None:
        """Writes the input and starts the engine; returns at once.

        The nodes get the results, or new ones if None. `options` are options of `drmc segment` by their
        names (`model`, `device`, `threshold`, ...). Raises InputError for nodes that are refused before the
        engine starts, DRMCError where the input cannot be written.
        """
        if writeDICOM and outputFolder is None:
            raise InputError("the DICOM segmentation needs a place: give an outputFolder")
        self.organTable, self.uptake, self.uptakeTable, self.report = organTable, uptake, uptakeTable, report
        options["dicom_seg"] = writeDICOM
        if segmentation is not None:
            options |= {"model": None, "device": None, "precision": None}
            isNode = hasattr(segmentation, "IsA") and segmentation.IsA("vtkMRMLSegmentationNode")
            self._measured = segmentation if isNode else None
        self.launch(
            lambda: self._command(segmentation, lesions, suv, headerValues or {}, outputFolder, options)
        )

    def _command(
        self, segmentation, lesions, suv, headerValues, outputFolder, options: dict[str, Any]
    ) -> list[str]:
        assert self._scratch is not None
        scan = engineInput(self.inputVolume, made(self._scratch / "input"), suv)
        passed = scan.options()
        self._output = self._scratch / "output" if outputFolder is None else Path(outputFolder)
        for name, node in (("segmentation", segmentation), ("lesions", lesions)):
            if node is not None:
                given = lesionFile(node, self.inputVolume, made(self._scratch / name))
                options[name] = given.path
                passed += given.options(name)
        fixed = ("--progress", "json", "--cancel-on-eof")
        given = optionList(options, headerValues)
        return engineCommand("segment", scan.path, "-o", self._output, *passed, *given, *fixed)

    def _bringIntoScene(self, summary: dict[str, Any]) -> None:
        if not slicer.mrmlScene.IsNodePresent(self.inputVolume):
            raise CanceledError("the input volume was removed from the scene meanwhile")
        assert self._output is not None
        names, volume = summary["outputs"], self.inputVolume
        if self._measured is not None and not slicer.mrmlScene.IsNodePresent(self._measured):
            raise CanceledError("the segmentation was removed from the scene meanwhile")
        organs = results.readSegments(self._output / results.ORGANS)
        organRows = results.readOrganTable(self._output / results.ORGAN_TABLE)
        found = self._output / results.UPTAKE
        uptake = results.readSegments(found) if results.UPTAKE in names else None
        hasTable = results.UPTAKE_TABLE in names
        uptakeRows = results.readUptakeTable(self._output / results.UPTAKE_TABLE) if hasTable else None
        page = (self._output / "report.html").read_text(encoding="utf-8")
        self.summary = summary
        if self._measured is None:
            self.outputSegmentation = results.showOrgans(organs, volume, self.outputSegmentation, summary)
        else:  # what else the user has in it stays
            self.outputSegmentation = results.describe(self._measured, volume, summary)
        name = volume.GetName()
        self.organTable = showTable(
            organRows, self.organTable, _("{name} organs table (DRMC)").format(name=name), volume
        )
        if uptakeRows is not None:
            self.uptakeTable = showTable(
                uptakeRows, self.uptakeTable, _("{name} uptake table (DRMC)").format(name=name), volume
            )
            self.uptake = results.showUptake(uptake, volume, self.uptake, summary)
        self.report = showReport(page, self.report, _("{name} organs report (DRMC)").format(name=name))
