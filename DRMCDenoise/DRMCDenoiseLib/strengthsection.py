"""The strength of the denoising: of the next run, and of the volume that is shown."""

from __future__ import annotations

from typing import Any

import slicer
from drmc.errors import DRMCError
from drmc.pet.strength import FULL, PRESETS, strength_text
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.words.wording import inPanelWords
from slicer.i18n import tr as _

from DRMCDenoiseLib.keptresidual import keptOf, showStrength, strengthOf

_LEAST_STEP = 0.01  # of the slider
DELAY_MILLISECONDS = 300  # from the last move of the slider to the numbers


class StrengthSection(Section):
    """The share of the residual that is added, by slider or by name.

    The shown volume follows at once, its lesion table, comparison and report in a child process without the
    network. A volume that is chosen, or comes with a scene, brings its own strength with it.
    """

    uiName = "DRMCDenoiseStrength"

    def setup(self) -> None:
        import qt  # not where the module is only a library

        self._followed = None  # the denoised volume whose strength is shown
        self._job = None  # which makes the numbers
        self._jobParameters = None
        self._problem = ""
        self._numbersTimer = qt.QTimer()
        self._numbersTimer.setSingleShot(True)
        self._numbersTimer.setInterval(DELAY_MILLISECONDS)
        self._numbersTimer.timeout.connect(self._startNumbers)
        combo = self.ui.strengthComboBox
        names = {"low": _("Low"), "standard": _("Standard"), "high": _("High (default)")}
        combo.addItems([f"{names[name]}: {value:g}" for name, value in PRESETS.items()])
        combo.activated.connect(self.onPresetChosen)

    def cleanup(self) -> None:
        self._end()
        Section.cleanup(self)

    def setParameters(self, parameters) -> None:
        if parameters is None and self._numbersTimer.active and not slicer.mrmlScene.IsClosing():
            self._startNumbers()  # the module is left before they have begun
        elif parameters is None and slicer.mrmlScene.IsClosing():
            self._end()
        self._followed = None
        super().setParameters(parameters)

    def onParametersChanged(self) -> None:
        output = self.parameters.outputVolume
        kept = keptOf(output)
        own = None if kept is None else strengthOf(output)
        isNew, self._followed = output is not self._followed, output
        # A slider that has fewer digits than a script's strength does not change the volume.
        isOther = own is not None and abs(own - self.parameters.strength) > _LEAST_STEP / 2
        if isOther and self.panel.job is None:
            if isNew:
                self.parameters.strength = own  # which comes back here
                return
            self._change(output)
        self._show()

    def onRunChanged(self) -> None:
        if self.panel.job is not None:
            self._end()
        self.ui.strengthSlider.setEnabled(self.panel.job is None)
        self.ui.strengthComboBox.setEnabled(self.panel.job is None)
        if self.parameters is not None:
            self.onParametersChanged()

    def runArguments(self) -> dict[str, Any]:
        return {"strength": self.parameters.strength, "keepResidual": True}

    def onPresetChosen(self, index: int) -> None:
        """The user has chosen a strength by its name."""
        if self.parameters is not None:
            self.parameters.strength = list(PRESETS.values())[index]

    def _change(self, output) -> None:
        """The shown volume at the strength of the slider; its numbers follow."""
        self._problem = ""
        showStrength(output, self.parameters.strength)
        self._endJob()
        self._numbersTimer.start()

    def _startNumbers(self) -> None:
        self._numbersTimer.stop()
        parameters = self.parameters
        if parameters is None or keptOf(parameters.outputVolume) is None:
            return
        output = parameters.outputVolume
        try:
            self._job = self.panel.logic.changeStrength(
                output,
                strengthOf(output),
                lesions=parameters.lesions,
                lesionTable=parameters.lesionTable,
                organs=parameters.organs,
                organTable=parameters.organTable,
                report=parameters.report,
                reference=parameters.referenceVolume,
                waitForCompletion=False,
            )
        except DRMCError as error:
            self._problem = str(error)
        else:
            self._jobParameters = parameters
            self._job.finished.connect(self._onNumbers)
            if not self._job.isRunning():  # the engine could not be started at all
                self._onNumbers(self._job)
        self._show()

    def _onNumbers(self, job) -> None:
        if job is not self._job:
            return  # it was ended for the next one
        self._job = None
        if job.error is None:
            self._jobParameters.report = job.report
            self._jobParameters.lesionTable = (
                job.lesionTable if "lesions.csv" in job.summary["outputs"] else None
            )
            if "organs.csv" in job.summary["outputs"]:  # else the section says of which strength its table is
                self._jobParameters.organTable = job.organTable
        else:
            self._problem = str(job.error)
        if self.parameters is not None:
            self.panel.onReadinessChanged()

    def _endJob(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.end()

    def _end(self) -> None:
        self._numbersTimer.stop()
        self._endJob()

    def _show(self) -> None:
        if self.parameters is None:
            return
        strength, output = self.parameters.strength, self.parameters.outputVolume
        values = list(PRESETS.values())
        combo = self.ui.strengthComboBox
        wasBlocked = combo.blockSignals(True)
        combo.setCurrentIndex(values.index(strength) if strength in values else -1)
        combo.blockSignals(wasBlocked)
        self.ui.strengthLabel.setText(self._sentence(strength, output))
        # A volume at the strength of the slider needs no words beside it.
        isPlain = self._isSettled() and output is not None and strengthOf(output) == strength
        self.ui.strengthLabel.setVisible(bool(self.ui.strengthLabel.text) and not isPlain)

    def _isSettled(self) -> bool:
        """Whether the numbers are of the volume as it is shown, and nothing went wrong."""
        return self._job is None and not self._numbersTimer.active and not self._problem

    def _sentence(self, strength: float, output) -> str:
        if self._problem:
            return _("The numbers are not of this strength: {reason}").format(
                reason=inPanelWords(self._problem)
            )
        if output is None or keptOf(output) is None:
            return _("For the next run.") if strength != FULL else ""
        text = _("'{name}' is at strength {strength}.").format(
            name=output.GetName(), strength=strength_text(strengthOf(output))
        )
        if not self._isSettled():
            return text + " " + _("Table, comparison and report follow...")
        return text
