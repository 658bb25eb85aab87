"""Apply, Cancel, the progress and messages of a run, and its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.texts import RESEARCH_USE
from slicer.i18n import tr as _

from DRMCCoreLib.panel import reports
from DRMCCoreLib.panel.desktop import openInDesktop
from DRMCCoreLib.panel.pathedit import PathEdit
from DRMCCoreLib.panel.section import RESOURCES, Section
from DRMCCoreLib.words.wording import inPanelWords


class RunSection(Section):
    """The output volume, the one button that starts and cancels, the progress, the notices and the report.

    `outputName`: the parameter with the node that gets the result, which must not be the input.
    """

    outputName = "outputVolume"
    uiName = "DRMCCoreRun"
    advancedUiName = "DRMCCoreFiles"
    resources = RESOURCES
    _shown = None  # the run whose outcome is shown
    _inputID = ""  # of the volume that the status line speaks of

    def setup(self) -> None:
        self.ui.applyButton.clicked.connect(self.onApplyButton)
        self._folderEdit = PathEdit(self.ui.outputFolderPathLineEdit, "outputFolder")
        self.ui.openReportButton.clicked.connect(self.onOpenReportButton)
        self.ui.saveReportButton.clicked.connect(self.onSaveReportButton)
        self.ui.savePDFButton.clicked.connect(self.onSavePDFButton)
        self._showProgress(0, 0, None)
        self._showReport(None)

    def setParameters(self, parameters) -> None:
        if parameters is None:
            self._folderEdit.show(None)
            if slicer.mrmlScene.IsClosing():  # the next scene gives its volumes the same IDs
                self._shown, self._inputID = None, ""
        super().setParameters(parameters)

    def onParametersChanged(self) -> None:
        self._folderEdit.show(self.parameters)
        self._showReport(self.parameters.report)
        self._showVerdict()
        volume = self.parameters.inputVolume
        inputID = volume.GetID() if volume else ""
        if self.panel.job is None and inputID != self._inputID:
            self._inputID = inputID
            self._shown = None
            self.ui.statusLabel.setText(RESEARCH_USE)
        self._checkCanApply()

    def onRunChanged(self) -> None:
        job, self._shown = self.panel.job, self.panel.job or self._shown
        self._showProgress(0, 0, None)
        if job is not None:
            job.progress.connect(self._showProgress)
            job.message.connect(self._log)
            self.ui.statusLabel.setText(_("Reading the scan and loading the model..."))
        elif self._shown is not None:
            self._showOutcome(self._shown)
        self._showVerdict()
        self._checkCanApply()

    def whyNotApply(self) -> str:
        parameters = self.parameters
        output, volume = getattr(parameters, self.outputName), parameters.inputVolume
        if output and volume and output.GetID() == volume.GetID():
            return _("Choose an output volume other than the input")
        if parameters.writeDICOM and not parameters.outputFolder:
            return _("Choose the folder that is to keep the DICOM series, or write none")
        return ""

    def runArguments(self) -> dict[str, Any]:
        parameters = self.parameters
        return {
            self.outputName: getattr(parameters, self.outputName),
            "outputFolder": parameters.outputFolder or None,
            "writeDICOM": parameters.writeDICOM,
            "report": parameters.report,
        }

    def takeResults(self, job, parameters) -> None:
        setattr(parameters, self.outputName, getattr(job, self.outputName))
        parameters.report = job.report

    def whatItDoes(self) -> str:
        """What Apply does, for its tool tip."""
        return _("Denoise the input volume")

    def onApplyButton(self) -> None:
        """Starts a run; while one is under way, asks it to stop."""
        if self.panel.job is not None:
            self._cancel()
            return
        self.ui.logTextEdit.clear()
        try:
            self.panel.startRun()
        except DRMCError as error:
            self.ui.statusLabel.setText(inPanelWords(str(error)))

    def onOpenReportButton(self) -> None:
        """Opens the report in the browser."""
        openInDesktop(reports.temporaryFile(self.parameters.report))

    def onSaveReportButton(self) -> None:
        """Writes the report where the user says."""
        self._saveReport(reports.askWhere(self.ui.saveReportButton, self.parameters.report), reports.save)

    def onSavePDFButton(self) -> None:
        """Writes the report as PDF where the user says."""
        path = reports.askWhere(self.ui.savePDFButton, self.parameters.report, isPDF=True)
        self._saveReport(path, reports.savePDF)

    def _saveReport(self, path: str, save: Callable[[Any, Path], None]) -> None:
        if not path:
            return
        try:
            save(self.parameters.report, Path(path))
        except OSError as error:
            self.ui.statusLabel.setText(
                _("{path}: the report cannot be written ({reason})").format(path=path, reason=error.strerror)
            )
        else:
            self.ui.statusLabel.setText(_("The report was saved as {path}").format(path=path))

    def _log(self, message: str) -> None:
        self.ui.logTextEdit.appendPlainText(inPanelWords(message))

    def _cancel(self) -> None:
        job = self.panel.job
        job.progress.disconnect(self._showProgress)
        self.ui.statusLabel.setText(_("Canceling..."))
        self.ui.applyButton.setText(_("Canceling..."))
        self.ui.applyButton.setEnabled(False)
        job.cancel()

    def _showOutcome(self, job) -> None:
        if job.error is None:
            self.ui.statusLabel.setText(doneText(job.summary))
        elif isinstance(job.error, CanceledError):
            self.ui.statusLabel.setText(_("Canceled; the scene is as it was."))
        else:
            self.ui.statusLabel.setText(inPanelWords(str(job.error)))
            if not isinstance(job.error, InputError):
                self.ui.logTextEdit.appendPlainText(job.log)

    def _showVerdict(self) -> None:
        text = self.panel.verdict() if self.panel.job is None else ""
        self.ui.verdictLabel.setText(text)
        self.ui.verdictLabel.setVisible(bool(text))

    def _showReport(self, node) -> None:
        for button, tip in (
            (self.ui.openReportButton, _("Show the report of the last run in the browser.")),
            (self.ui.saveReportButton, _("Save the report of the last run as a page of its own.")),
            (self.ui.savePDFButton, _("Save the report of the last run as PDF.")),
        ):
            button.setEnabled(node is not None)
            button.setToolTip(tip if node is not None else _("There is no report before the first run."))

    def _checkCanApply(self) -> None:
        if self.panel.job is not None:
            self.ui.applyButton.setText(_("Cancel"))
            self.ui.applyButton.setToolTip(_("Stop; the scene stays as it is."))
            self.ui.applyButton.setEnabled(True)
            return
        reason = self.panel.whyNotApply()
        self.ui.applyButton.setText(_("Apply"))
        self.ui.applyButton.setToolTip(reason or self.whatItDoes())
        self.ui.applyButton.setEnabled(not reason)

    def _showProgress(self, done: int, total: int, secondsLeft: float | None) -> None:
        isRunning = self.panel.job is not None
        self.ui.progressBar.setVisible(isRunning)
        self.ui.progressBar.setRange(0, total if isRunning else 1)
        self.ui.progressBar.setValue(done)
        if isRunning and total:
            left = "" if secondsLeft is None else _(", {seconds:.0f} s left").format(seconds=secondsLeft)
            text = _countedWords()[self.panel.job.counted].format(done=done, total=total)
            self.ui.statusLabel.setText(text + left)


def doneText(summary: dict[str, Any]) -> str:
    """How long a run took, and on which device if a network was computed."""
    seconds, device = summary["seconds"]["total"], summary["device"]
    if not device:
        return _("Done in {s:.0f} s.").format(s=seconds)
    return _("Done in {s:.0f} s on {device}.").format(s=seconds, device=device)


def _countedWords() -> dict[str, str]:
    return {
        "tile": _("Tile {done} of {total}"),
        "frame": _("{done} of {total} frames done"),
        "slab": _("Slab {done} of {total}"),
    }
