"""Original and denoised volume in the slice views, at one click."""

from __future__ import annotations

import slicer
import vtk
from drmc.errors import DRMCError
from DRMCCoreLib.nodes.suvunits import suvPerUnit
from DRMCCoreLib.panel.section import Section
from slicer.i18n import tr as _

from DRMCDenoiseLib import comparison

FLICKER_MILLISECONDS = 500


class CompareSection(Section):
    """How the original and the denoised volume are compared, the fade, and the window of both.

    What is chosen is kept in the parameters; the views follow them, also after a scene was loaded.
    """

    uiName = "DRMCDenoiseCompare"

    def setup(self) -> None:
        import qt  # not where the module is only a library

        self._shown: tuple | None = None  # mode, original and denoised volume of the comparison in the views
        self._isInViews = False  # a comparison of ours is in the views, also while the module is left
        self._observed: list[tuple] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(FLICKER_MILLISECONDS)
        self._timer.timeout.connect(self._onFlicker)
        self._isDenoisedOnTop = False
        self._buttons = {
            comparison.OFF: self.ui.compareOffButton,
            comparison.OVERLAY: self.ui.compareOverlayButton,
            comparison.SIDE_BY_SIDE: self.ui.compareSideBySideButton,
            comparison.FLICKER: self.ui.compareFlickerButton,
            comparison.RESIDUAL: self.ui.compareResidualButton,
        }
        self._toolTips = {mode: button.toolTip for mode, button in self._buttons.items()}
        for mode, button in self._buttons.items():
            button.clicked.connect(lambda *ignored, mode=mode: self.onModeButton(mode))

    def onModeButton(self, mode: str) -> None:
        """The user has chosen a way to compare."""
        if self.parameters is not None:
            self._stop()  # the same mode again puts the views right again
            self.parameters.compareMode = mode
            self.onParametersChanged()

    def onParametersChanged(self) -> None:
        mode, (original, denoised) = self.parameters.compareMode, self._volumes()
        reason = "" if denoised is not None else _("Denoise a volume first: there is nothing to compare yet.")
        error = ""
        if reason:
            self._end()
        else:
            try:
                self._show(mode, original, denoised)
            except DRMCError as problem:
                error = str(problem)
        for one, button in self._buttons.items():
            button.setEnabled(not reason)
            button.setToolTip(reason or self._toolTips[one])
            button.setChecked(one == mode)
        self.ui.fadeSlider.setEnabled(not reason and mode == comparison.OVERLAY)
        hasSUV = denoised is not None and suvPerUnit(denoised) is not None
        self.ui.windowSpinBox.setEnabled(hasSUV and mode != comparison.OFF)
        self.ui.compareLabel.setText(error or reason or self._description(mode, hasSUV))

    def setParameters(self, parameters) -> None:
        """Without parameters (module left, scene closing) the flicker stops; closing restores the views."""
        if parameters is None:
            self._stop()
            if slicer.mrmlScene.IsClosing():
                self._end()
        super().setParameters(parameters)

    def cleanup(self) -> None:
        super().cleanup()
        self._timer.timeout.disconnect(self._onFlicker)

    def _volumes(self) -> tuple:
        """The volume that was denoised, and the denoised one; (None, None) where there is no pair."""
        from DRMCDenoiseLib.results import INPUT_REFERENCE  # SimpleITK is not needed before

        denoised = self.parameters.outputVolume
        original = denoised and (denoised.GetNodeReference(INPUT_REFERENCE) or self.parameters.inputVolume)
        if not original or original.GetID() == denoised.GetID():
            return None, None
        return (original, denoised) if original.GetImageData() and denoised.GetImageData() else (None, None)

    def _show(self, mode: str, original, denoised) -> None:
        fade, window = self.parameters.fade, self.parameters.windowSUV
        wanted = (mode, original, denoised)
        if mode == comparison.OFF:
            self._end()
        elif wanted != self._shown:
            self._stop()
            comparison.showComparison(original, denoised, mode, fade=fade, windowSUV=window)
            self._isInViews, self._shown, self._window = True, wanted, window
            self._observe(original, denoised)
            if mode == comparison.FLICKER:
                self._timer.start()
        elif mode == comparison.OVERLAY:
            comparison.setFade(denoised, fade)
        if self._shown is not None and window != self._window:
            self._window = window
            comparison.setWindow(original, denoised, window)

    def _end(self) -> None:
        """The comparison is over: the views go back."""
        self._stop()
        if self._isInViews:
            self._isInViews = False
            comparison.endComparison()

    def _stop(self) -> None:
        """The views stay, and are no longer updated; a flicker leaves the denoised volume on top."""
        if self._shown is None:
            return
        mode, _original, denoised = self._shown
        self._shown = None
        self._timer.stop()
        for observation in self._observed:
            self.removeObserver(*observation)
        self._observed = []
        if mode == comparison.FLICKER:
            comparison.setFade(denoised, 1.0)

    def _observe(self, *volumeNodes) -> None:
        for node in volumeNodes:
            # Voxels changed in place modify the node, others its image data.
            self._observed += [
                (node, vtk.vtkCommand.ModifiedEvent, self._onImageModified),
                (node, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onImageModified),
                (node.GetDisplayNode(), vtk.vtkCommand.ModifiedEvent, self._onDisplayModified),
            ]
        self._imageTimes = self._modifiedTimes()
        for observation in self._observed:
            self.addObserver(*observation)

    def _onFlicker(self) -> None:
        self._isDenoisedOnTop = not self._isDenoisedOnTop
        if self._shown is not None:
            comparison.setFade(self._shown[2], float(self._isDenoisedOnTop))

    def _modifiedTimes(self) -> list[int]:
        images = [node.GetImageData() for node in self._shown[1:]]
        return [0 if image is None else image.GetMTime() for image in images]

    def _onImageModified(self, caller, event) -> None:
        times = self._modifiedTimes()
        if times == self._imageTimes or 0 in times:
            return
        self._imageTimes = times
        try:
            comparison.refreshResidual(*self._shown[1:])
        except DRMCError as error:
            self.ui.compareLabel.setText(str(error))

    def _onDisplayModified(self, caller, event) -> None:
        """A window that the user has changed in a view is that of the other volume too."""
        for node in self._shown[1:]:
            other = node.GetDisplayNode()
            if (other.GetWindow(), other.GetLevel()) != (caller.GetWindow(), caller.GetLevel()):
                other.SetWindowLevel(caller.GetWindow(), caller.GetLevel())

    def _description(self, mode: str, hasSUV: bool) -> str:
        """The content of the views, in words."""
        upTo = _(", up to {top:.3g} SUV").format(top=comparison.residualTop(self.parameters.windowSUV))
        text = {
            comparison.OFF: _("The views are as you left them."),
            comparison.OVERLAY: _("Original in gray, denoised in PET-Heat over it."),
            comparison.SIDE_BY_SIDE: _("Above the original, below denoised; they move and zoom together."),
            comparison.FLICKER: _("Original and denoised take turns; leaving the module stops it."),
            comparison.RESIDUAL: _(
                "Denoised minus original: blue is lower, white unchanged, red higher{upTo}."
            ).format(upTo=upTo if hasSUV else ""),
        }[mode]
        if hasSUV or mode == comparison.OFF:
            return text
        return (
            text
            + " "
            + _("No single SUV factor is known: values are in the volume's own units, in its own window.")
        )
