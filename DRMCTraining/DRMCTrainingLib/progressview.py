"""The part of the panel that shows how a training goes: curves, validation, figures."""

from __future__ import annotations

from drmc.training.history import History, gains, series
from slicer.i18n import tr as _

from DRMCTrainingLib.curveswidget import COLORS, Curve, CurvesWidget
from DRMCTrainingLib.texts import durationText, figuresText, validationText


class ProgressView:
    """Fills the widgets of `ui` from a run's history."""

    def __init__(self, ui):
        self._ui = ui
        self.lossCurves = CurvesWidget(
            _("Loss"), _("network units"), _("The loss of each center appears here."), logarithmic=True
        )
        self.gainCurves = CurvesWidget(
            _("Gain of validation PSNR"), "dB", _("The gain over the low dose appears here.")
        )
        for curves in (self.lossCurves, self.gainCurves):
            ui.curvesView.layout().addWidget(curves)

    def show(self, history: History) -> None:
        """Draws everything anew."""
        centers = history.centers
        color = {center: COLORS[number % len(COLORS)] for number, center in enumerate(centers)}
        self.lossCurves.setCurves(
            [Curve(center, series(history.progress, "loss", center), color[center]) for center in centers]
        )
        self.gainCurves.setCurves(_gainCurves(history, color))
        self._ui.validationLabel.setText(validationText(history))
        self._ui.figuresLabel.setText(figuresText(history))

    def showStep(self, history: History) -> str:
        """Moves the progress bar; returns the step and the time left as a text."""
        self._ui.progressBar.setRange(0, max(1, history.steps))
        self._ui.progressBar.setValue(min(history.step, history.steps))
        if not history.steps:
            return ""
        said = _("Step {step} of {steps}").format(step=history.step, steps=history.steps)
        left = history.seconds_left()
        return said if left is None else said + _(", {duration} left").format(duration=durationText(left))


def _gainCurves(history: History, color: dict[str, str]) -> list[Curve]:
    """Gain over the low dose, which is the line at 0, for each center; that of the best Gaussian dashed."""
    records = history.validation
    curves = [Curve(center, gains(records, "psnr", "psnr_low", center), color[center]) for center in color]
    steps = [one[0] for curve in curves for one in curve.points]
    if steps:
        curves.append(Curve(_("low dose"), [(min(steps), 0.0), (max(steps), 0.0)], "#808080", dashed=True))
    for center in color:
        points = gains(records, "psnr_gaussian", "psnr_low", center)
        curves.append(Curve(_("best Gaussian"), points, color[center], dashed=True))
    return curves
