"""Organs before and after: does denoising keep the mean of the liver?"""

from __future__ import annotations

from typing import Any

import slicer
from drmc.errors import DRMCError
from DRMCCoreLib.nodes.names import STRENGTH_ATTRIBUTE
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.words.wording import inPanelWords
from slicer.i18n import tr as _

from DRMCDenoiseLib.organtable import REFERENCES_ATTRIBUTE, fillChangeTable, keptText, readChanges


class OrganSection(Section):
    """A segmentation of organs (DRMC Segment), a button, and the table of their SUV before and after."""

    advancedUiName = "DRMCDenoiseOrgans"
    _job = None
    _problem = ""
    _shown: tuple[Any, ...] | None = None  # which table is shown, so that it is filled once

    def setup(self) -> None:
        self.ui.measureOrgansButton.clicked.connect(self.onMeasure)

    def cleanup(self) -> None:
        self._end()
        super().cleanup()

    def setParameters(self, parameters) -> None:
        if slicer.mrmlScene.IsClosing():
            self._end()
        super().setParameters(parameters)

    def onParametersChanged(self) -> None:
        self._show()

    def onRunChanged(self) -> None:
        if self.panel.job is not None:
            self._end()
        if self.parameters is not None:
            self._show()

    def runArguments(self) -> dict[str, Any]:
        return {"organs": self.parameters.organs, "organTable": self.parameters.organTable}

    def takeResults(self, job, parameters) -> None:
        # Numbers of an earlier run must not stand beside this one's images.
        parameters.organTable = job.organTable if "organs.csv" in job.summary["outputs"] else None

    def onMeasure(self) -> None:
        """Measures the organs in the input and in the denoised volume as it is."""
        parameters, self._problem = self.parameters, ""
        try:
            job = self.panel.logic.measureOrgans(
                parameters.outputVolume,
                parameters.organs,
                organTable=parameters.organTable,
                lesions=parameters.lesions,
                reference=parameters.referenceVolume,
                waitForCompletion=False,
            )
        except DRMCError as error:
            self._problem = inPanelWords(str(error))
        else:
            self._job = job
            job.finished.connect(lambda done: self._onMeasured(done, parameters))
            if not job.isRunning():  # the engine could not be started at all
                self._onMeasured(job, parameters)
        self._show()

    def _onMeasured(self, job, parameters) -> None:
        if job is not self._job:
            return  # it was ended
        self._job = None
        if job.error is None:
            parameters.organTable = job.organTable
        else:
            self._problem = inPanelWords(str(job.error))
        if self.parameters is not None:
            self._show()

    def _end(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.end()

    def _whyNot(self) -> str:
        from DRMCDenoiseLib.keptresidual import keptOf

        parameters = self.parameters
        if parameters.organs is None:
            return _("Choose a segmentation of organs, such as one of DRMC Segment")
        if parameters.outputVolume is None or keptOf(parameters.outputVolume) is None:
            return _("Denoise first: the run keeps what is needed")
        return ""

    def _show(self) -> None:
        ui, reason, isRunning = self.ui, self._whyNot(), self._job is not None
        ui.measureOrgansButton.setEnabled(not reason and not isRunning and self.panel.job is None)
        ui.measureOrgansButton.setToolTip(
            reason or _("Measure every segment in the input and in the denoised volume, as it is now.")
        )
        table = self.parameters.organTable
        rows = readChanges(table)
        ui.organChangeLabel.setText(self._sentence(table, rows))
        ui.organChangeLabel.setVisible(bool(ui.organChangeLabel.text))
        shown = (table and table.GetID(), table and table.GetTable() and table.GetTable().GetMTime())
        if shown != self._shown:
            self._shown = shown
            fillChangeTable(ui.organChangeTableWidget, rows)
            ui.organChangeTableWidget.setVisible(bool(rows))

    def _sentence(self, table, rows) -> str:
        from DRMCDenoiseLib.keptresidual import keptOf, strengthOf

        if self._job is not None:
            return _("Measuring...")
        if self._problem or not rows:
            return self._problem
        kept = table.GetAttribute(STRENGTH_ATTRIBUTE)
        output = self.parameters.outputVolume
        if kept and output is not None and keptOf(output) is not None and float(kept) != strengthOf(output):
            return _("The table is of strength {strength}: measure again.").format(
                strength=f"{float(kept):g}"
            )
        told = (keptText(rows), table.GetAttribute(REFERENCES_ATTRIBUTE))
        return "\n".join(text for text in told if text)
