"""The part of the panel that shows the progress of a training: curves, validation, figures."""

from __future__ import annotations

from drmc.training.history import History
from DRMCCoreLib.panel.chartview import ChartView
from slicer.i18n import tr as _

from DRMCTrainingLib.charts import gainChart, lossChart, removePanelCharts
from DRMCTrainingLib.texts import durationText, figuresText, validationText


class ProgressView:
    """Fills the widgets of `ui` from a run's history."""

    def __init__(self, ui):
        self._ui = ui
        layout = ui.curvesView.layout()
        self.lossView = ChartView(layout, _("The loss of each center appears here."))
        self.gainView = ChartView(layout, _("The gain over the low dose appears here."))

    def show(self, history: History) -> None:
        """Shows all records."""
        self.lossView.showChart(lossChart(history, forPanel=True))
        self.gainView.showChart(gainChart(history, forPanel=True))
        self._ui.validationLabel.setText(validationText(history))
        self._ui.figuresLabel.setText(figuresText(history))

    def cleanup(self) -> None:
        """Removes what the panel has added to the scene."""
        for view in (self.lossView, self.gainView):
            view.showChart(None)
        removePanelCharts()

    def showStep(self, history: History) -> str:
        """Moves the progress bar; returns the step and the time left as a text."""
        self._ui.progressBar.setRange(0, max(1, history.steps))
        self._ui.progressBar.setValue(min(history.step, history.steps))
        if not history.steps:
            return ""
        text = _("Step {step} of {steps}").format(step=history.step, steps=history.steps)
        left = history.seconds_left()
        return text if left is None else text + _(", {duration} left").format(duration=durationText(left))
