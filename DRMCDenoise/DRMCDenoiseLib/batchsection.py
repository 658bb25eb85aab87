"""A folder of scans, denoised one after the other in a child process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from DRMCCoreLib.panel.desktop import openInDesktop
from DRMCCoreLib.panel.pathedit import PathEdit
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.process.runner import CANCELLED, Job, engineCommand
from DRMCCoreLib.words.wording import inPanelWords
from slicer.i18n import tr as _

COHORT_PAGE = "cohort.html"
STEPS = 1000  # of the progress bar


class BatchSection(Section):
    """The folders, one button that starts and cancels, the progress, and the page of all scans.

    The batch depends on no node: it goes on while the scene changes, and ends with Slicer.
    """

    advancedUiName = "DRMCDenoiseBatch"
    _job: Job | None = None
    _output: Path | None = None  # of the last batch

    def setup(self) -> None:
        ui = self.ui
        self._edits = [
            PathEdit(ui.batchInputPathLineEdit, "batchInput"),
            PathEdit(ui.batchOutputPathLineEdit, "batchOutput"),
            PathEdit(ui.batchLesionsPathLineEdit, "batchLesions"),
        ]
        ui.batchButton.clicked.connect(self.onStart)
        ui.cohortButton.clicked.connect(self.onOpenCohortPage)
        ui.batchProgressBar.setRange(0, STEPS)
        ui.batchLabel.setVisible(False)
        self._show()

    def cleanup(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.end()
        super().cleanup()

    def setParameters(self, parameters) -> None:
        if parameters is None:
            for edit in self._edits:
                edit.show(None)
        super().setParameters(parameters)

    def onParametersChanged(self) -> None:
        for edit in self._edits:
            edit.show(self.parameters)
        self._show()

    def onStart(self) -> None:
        """Starts the batch; while one is under way, asks it to stop."""
        if self._job is not None:
            self._say(_("Canceling..."))
            self.ui.batchButton.setEnabled(False)
            self._job.cancel()
            return
        self._outcomes: Counter[str] = Counter()
        self._scan, self._index, self._count, self._left = "", 1, 1, None
        self._output = Path(self.parameters.batchOutput)
        try:
            self._job = Job(self._command())
        except RuntimeError as error:
            self._say(str(error))
            return
        self._job.event.connect(self._onEvent)
        self._job.finished.connect(self._onFinished)
        self._say(_("Looking for scans and loading the model..."))
        self._job.start()
        self._show()

    def onOpenCohortPage(self) -> None:
        """Opens the page of all scans in the browser."""
        openInDesktop(self._cohortPage())

    def _command(self) -> list[str]:
        """`drmc denoise` with the choices of the panel; scans that are complete there already are left."""
        parameters = self.parameters
        command = ["denoise", parameters.batchInput, "-o", parameters.batchOutput, "--batch", "--resume"]
        command += ["--device", parameters.device, "--strength", str(parameters.strength)]
        command += ["--lesions", parameters.batchLesions] if parameters.batchLesions else []
        command += ["--model", parameters.model] if parameters.model else []
        command += ["--dicom"] if parameters.writeDICOM else []
        command += ["--spots"] if parameters.virtualSpots else []
        return engineCommand(*command, "--format", "nrrd", "--progress", "json", "--cancel-on-eof")

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "scan":
            self._scan, self._index, self._count = event["name"], event["index"], event["count"]
            self._showProgress(0.0)
        elif kind == "progress" and event["total"]:
            self._showProgress(event["done"] / event["total"])
        elif kind == "batch":
            self._left = event["seconds_left"]
        elif kind == "outcome":
            self._outcomes[event["outcome"]] += 1

    def _showProgress(self, part: float) -> None:
        """`part`: how much of the present scan is done."""
        if self._job is None or self._job.cancelRequested:
            return
        self.ui.batchProgressBar.setValue(int(STEPS * (self._index - 1 + part) / self._count))
        text = _("Scan {index} of {count}: {name}, {percent:.0f} % done").format(
            index=self._index, count=self._count, name=self._scan, percent=100 * part
        )
        if self._left is not None:
            text += _(", {minutes:.0f} min left for the batch").format(minutes=self._left / 60)
        self._say(text)

    def _onFinished(self, job: Job) -> None:
        if job is not self._job:
            return  # it was ended with the panel
        self._job = None
        if not self._outcomes and job.exitCode and job.exitCode != CANCELLED:
            self._say(inPanelWords(job.message))
        else:
            self._say(self._sentence(isCanceled=job.exitCode == CANCELLED))
        self._show()

    def _sentence(self, *, isCanceled: bool) -> str:
        counts = self._outcomes
        text = _("{done} done, {refused} refused, {failed} failed").format(
            done=counts["done"], refused=counts["refused"], failed=counts["failed"]
        )
        if counts["skipped"]:
            text += _(", {skipped} complete already").format(skipped=counts["skipped"])
        return _("Canceled: {text}. Start goes on.").format(text=text) if isCanceled else f"{text}."

    def _whyNotStart(self) -> str:
        if self.parameters is None:
            return _("The scene is being closed")
        if not self.parameters.batchInput or not self.parameters.batchOutput:
            return _("Choose the folder of the scans, and one for the results")
        return ""

    def _cohortPage(self) -> Path | None:
        return None if self._output is None else self._output / COHORT_PAGE

    def _show(self) -> None:
        ui, isRunning, page = self.ui, self._job is not None, self._cohortPage()
        reason = "" if isRunning else self._whyNotStart()
        ui.batchButton.setText(_("Cancel batch") if isRunning else _("Start batch"))
        ui.batchButton.setEnabled(not reason)
        ui.batchButton.setToolTip(
            reason
            or _(
                "Model, device, strength, DICOM series and virtual spots are those of the panel. Scans with "
                "a complete result are left."
            )
        )
        ui.cohortButton.setEnabled(not isRunning and page is not None and page.is_file())
        ui.batchProgressBar.setVisible(isRunning)
        if not isRunning:
            ui.batchProgressBar.setValue(0)

    def _say(self, text: str) -> None:
        self.ui.batchLabel.setText(text)
        self.ui.batchLabel.setVisible(bool(text))
