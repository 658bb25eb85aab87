"""Apply, Cancel, and what a run says while it works."""

from __future__ import annotations

from typing import Any

from drmc.errors import CancelledError, DRMCError, InputError
from slicer.i18n import tr as _

from .section import Section


class RunSection(Section):
    """The output volume, the button, the progress and the notices."""

    uiName = "DRMCDenoiseRun"
    _shown = None  # the run whose outcome is shown

    def setup(self) -> None:
        self.ui.applyButton.clicked.connect(self.onApplyButton)
        self.ui.cancelButton.clicked.connect(self.onCancelButton)
        self._showProgress(0, 0, None)

    def onParametersChanged(self) -> None:
        self._checkCanApply()

    def onRunChanged(self) -> None:
        job, self._shown = self.panel.job, self.panel.job or self._shown
        self._showProgress(0, 0, None)
        if job is not None:
            job.progress.connect(self._showProgress)
            job.message.connect(self.ui.logTextEdit.appendPlainText)
            self.ui.statusLabel.setText(_("Reading the scan and loading the model..."))
        elif self._shown is not None:
            self._showOutcome(self._shown)
        self._checkCanApply()

    def whyNotApply(self) -> str:
        parameters = self.parameters
        output, volume = parameters.outputVolume, parameters.inputVolume
        if output and volume and output.GetID() == volume.GetID():
            return _("Choose an output volume other than the input")
        return ""

    def runArguments(self) -> dict[str, Any]:
        return {"outputVolume": self.parameters.outputVolume}

    def takeResults(self, job, parameters) -> None:
        parameters.outputVolume = job.outputVolume

    def onApplyButton(self) -> None:
        """Starts a run."""
        self.ui.logTextEdit.clear()
        try:
            self.panel.startRun()
        except DRMCError as error:
            self.ui.statusLabel.setText(str(error))

    def onCancelButton(self) -> None:
        """Asks the run to stop."""
        job = self.panel.job
        if job is not None:
            job.progress.disconnect(self._showProgress)
            self.ui.statusLabel.setText(_("Canceling..."))
            job.cancel()

    def _showOutcome(self, job) -> None:
        if job.error is None:
            seconds, device = job.summary["seconds"]["total"], job.summary["device"]
            self.ui.statusLabel.setText(_("Done in {s:.0f} s on {device}.").format(s=seconds, device=device))
        elif isinstance(job.error, CancelledError):
            self.ui.statusLabel.setText(_("Canceled; the scene is as it was."))
        else:
            self.ui.statusLabel.setText(str(job.error))
            if not isinstance(job.error, InputError):
                self.ui.logTextEdit.appendPlainText(job.log)

    def _checkCanApply(self) -> None:
        isRunning = self.panel.job is not None
        reason = _("A volume is being denoised") if isRunning else self.panel.whyNotApply()
        self.ui.applyButton.setEnabled(not reason)
        self.ui.applyButton.setToolTip(reason or _("Denoise the input volume"))
        self.ui.cancelButton.setEnabled(isRunning)

    def _showProgress(self, done: int, total: int, secondsLeft: float | None) -> None:
        isRunning = self.panel.job is not None
        self.ui.progressBar.setRange(0, total if isRunning else 1)
        self.ui.progressBar.setValue(done)
        if isRunning and total:
            left = "" if secondsLeft is None else _(", {seconds:.0f} s left").format(seconds=secondsLeft)
            self.ui.statusLabel.setText(_("Tile {done} of {total}").format(done=done, total=total) + left)
