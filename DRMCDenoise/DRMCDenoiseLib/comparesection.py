"""Original and denoised volume in the views, at one click."""

from __future__ import annotations

import slicer
import vtk
from drmc.errors import DRMCError
from drmc.pages.windows import DEFAULT_WINDOW, WINDOWS, window_of_tracer
from DRMCCoreLib.nodes.names import INPUT_REFERENCE
from DRMCCoreLib.nodes.suvunits import suvPerUnit
from DRMCCoreLib.panel.section import Section
from slicer.i18n import tr as _

from DRMCDenoiseLib import comparison, reading
from DRMCDenoiseLib.projections import projectionsOf

FLICKER_MILLISECONDS = 500
EXCHANGE_KEY = "X"


class CompareSection(Section):
    """How the original and the denoised volume are compared, their window and colors.

    What is chosen is kept in the parameters; the views follow them, also after a scene was loaded.
    """

    uiName = "DRMCDenoiseCompare"

    def setup(self) -> None:
        import qt  # not where the module is only a library

        self._shown: tuple | None = None  # mode, original and denoised volume of the comparison in the views
        self._isInViews = False  # a comparison of ours is in the views, also while the module is left
        self._look: tuple | None = None  # CT and colors that the reading layout shows
        self._rotation: reading.Rotation | None = None
        self._observed: list[tuple] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(FLICKER_MILLISECONDS)
        self._timer.timeout.connect(self._onFlicker)
        self._layers: dict[str, tuple] = {}  # what lies in each view
        self._layersTimer = qt.QTimer()
        self._layersTimer.setSingleShot(True)
        self._layersTimer.setInterval(0)
        self._layersTimer.timeout.connect(self._onNodeChanged)
        self._isDenoisedOnTop = False
        self._isExchanged = False
        self._buttons = {
            comparison.OFF: self.ui.compareOffButton,
            comparison.READING: self.ui.compareReadingButton,
            comparison.OVERLAY: self.ui.compareOverlayButton,
            comparison.SIDE_BY_SIDE: self.ui.compareSideBySideButton,
            comparison.FLICKER: self.ui.compareFlickerButton,
            comparison.RESIDUAL: self.ui.compareResidualButton,
        }
        self._toolTips = {mode: button.toolTip for mode, button in self._buttons.items()}
        for mode, button in self._buttons.items():
            button.clicked.connect(lambda *ignored, mode=mode: self.onModeButton(mode))
        self._windowButtons = {top: getattr(self.ui, f"window{top:.0f}Button") for top in WINDOWS}
        for top, button in self._windowButtons.items():
            button.clicked.connect(lambda *ignored, top=top: self.onWindowButton(top))
        self.ui.grayButton.clicked.connect(lambda *ignored: self.onColorButton(False))
        self.ui.heatButton.clicked.connect(lambda *ignored: self.onColorButton(True))
        self._shortcut = None
        if slicer.util.mainWindow() is not None:
            self._shortcut = qt.QShortcut(qt.QKeySequence(EXCHANGE_KEY), slicer.util.mainWindow())
            self._shortcut.activated.connect(self.onExchange)
            self._shortcut.setEnabled(False)

    def onModeButton(self, mode: str) -> None:
        """The user has chosen a way to compare."""
        if self.parameters is None:
            return
        self._stop()  # the same mode again puts the views right again
        original, _denoised = self._volumes()
        if mode == comparison.READING and self.parameters.ctVolume is None and original is not None:
            self.parameters.ctVolume = reading.findCT(original)
        self.parameters.compareMode = mode
        self.onParametersChanged()

    def onWindowButton(self, top: float) -> None:
        """The user has chosen one of the usual windows."""
        if self.parameters is not None:
            self.parameters.windowSUV = top

    def onColorButton(self, isHeat: bool) -> None:
        """The user has chosen the colors of the reading layout."""
        if self.parameters is not None:
            self.parameters.heat = isHeat
            self._showColors()  # a checkable button that was clicked twice

    def onExchange(self) -> None:
        """The user wants the other volume at the same place: what differs moves."""
        if self._shown is None:
            return
        mode, original, denoised = self._shown
        self._isExchanged = not self._isExchanged
        if mode == comparison.READING:
            reading.setFusion(original, denoised, *self._look, self._isExchanged)
        elif mode == comparison.SIDE_BY_SIDE:
            comparison.exchange(original, denoised, self._isExchanged)
        elif mode == comparison.FLICKER:
            self._timer.stop()
            self._onFlicker()
        elif mode == comparison.OVERLAY:
            self.parameters.fade = 0.0 if self.parameters.fade >= 0.5 else 1.0
        self._layers = comparison.layers()

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
        isReading = not reason and mode == comparison.READING
        for widget in (self.ui.fadeLabel, self.ui.fadeSlider):
            widget.setVisible(mode != comparison.READING)
        self.ui.fadeSlider.setEnabled(not reason and mode == comparison.OVERLAY)
        for name in ("colorsLabel", "grayButton", "heatButton", "rotateCheckBox", "ctLabel", "ctSelector"):
            getattr(self.ui, name).setVisible(isReading)
        self._showColors()
        hasSUV = denoised is not None and suvPerUnit(denoised) is not None
        for widget in (self.ui.windowSpinBox, *self._windowButtons.values()):
            widget.setEnabled(hasSUV and mode != comparison.OFF)
        for top, button in self._windowButtons.items():
            button.setChecked(top == self.parameters.windowSUV)
        text = error or ("" if reason else self._description(mode, hasSUV))
        self.ui.compareLabel.setText(text)
        self.ui.compareLabel.setVisible(bool(text))

    def takeResults(self, job, parameters) -> None:
        """The window of another tracer, unless the user has chosen one."""
        facts = job.summary.get("suv", {}).get("facts", {})
        if parameters.windowSUV == DEFAULT_WINDOW:
            parameters.windowSUV = window_of_tracer(facts.get("tracer"))

    def setParameters(self, parameters) -> None:
        """Without parameters (module left, scene closing) what moves stops; closing restores the views."""
        if parameters is None:
            self._stop()
            if slicer.mrmlScene.IsClosing():
                self._end()
        super().setParameters(parameters)

    def cleanup(self) -> None:
        super().cleanup()
        self._timer.timeout.disconnect(self._onFlicker)
        self._layersTimer.timeout.disconnect(self._onNodeChanged)
        if self._shortcut is not None:
            self._shortcut.activated.disconnect(self.onExchange)
            self._shortcut.setParent(None)
            self._shortcut.deleteLater()
            self._shortcut = None

    def _volumes(self) -> tuple:
        """The volume that was denoised, and the denoised one; (None, None) where there is no pair."""
        denoised = self.parameters.outputVolume
        original = denoised and (denoised.GetNodeReference(INPUT_REFERENCE) or self.parameters.inputVolume)
        if not original or original.GetID() == denoised.GetID():
            return None, None
        return (original, denoised) if original.GetImageData() and denoised.GetImageData() else (None, None)

    def _show(self, mode: str, original, denoised) -> None:
        fade, window = self.parameters.fade, self.parameters.windowSUV
        wanted = (mode, original, denoised)
        look = (self.parameters.ctVolume, self.parameters.heat)
        if mode == comparison.OFF:
            self._end()
        elif wanted != self._shown:
            self._stop()
            makers = comparison.showComparison(
                original, denoised, mode, fade=fade, windowSUV=window, ctVolume=look[0], isHeat=look[1]
            )
            self._isInViews, self._shown, self._window, self._look = True, wanted, window, look
            self._layers = comparison.layers()
            self._observe(original, denoised)
            if mode == comparison.FLICKER:
                self._timer.start()
            if makers and slicer.app.layoutManager() is not None:
                self._rotation = reading.Rotation(makers)
            if self._shortcut is not None:
                self._shortcut.setEnabled(mode != comparison.RESIDUAL)
        elif mode == comparison.OVERLAY:
            comparison.setFade(denoised, fade)
        elif mode == comparison.READING and look != self._look:
            self._look = look
            reading.setFusion(original, denoised, *look, self._isExchanged)
            self._layers = comparison.layers()
        if self._shown is not None and window != self._window:
            self._window = window
            comparison.setWindow(original, denoised, window)
        if self._rotation is not None and self.parameters.rotate != self._rotation.isTurning:
            (self._rotation.start if self.parameters.rotate else self._rotation.stop)()

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
        mode, original, denoised = self._shown
        self._shown = None
        self._timer.stop()
        self._layersTimer.stop()
        if self._rotation is not None:
            self._rotation.end()
            self._rotation = None
        if self._shortcut is not None:
            self._shortcut.setEnabled(False)
        for observation in self._observed:
            self.removeObserver(*observation)
        self._observed = []
        if mode == comparison.FLICKER:
            comparison.setFade(denoised, 1.0)
        if self._isExchanged and not slicer.mrmlScene.IsClosing():
            if mode == comparison.READING:
                reading.setFusion(original, denoised, *self._look)
            elif mode == comparison.SIDE_BY_SIDE:
                comparison.exchange(original, denoised, False)
        self._isExchanged = False
        self._look = None  # it holds the CT

    def _observe(self, *volumeNodes) -> None:
        for node in volumeNodes:
            # Voxels changed in place modify the node, others its image data.
            self._observed += [
                (node, vtk.vtkCommand.ModifiedEvent, self._onImageModified),
                (node, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onImageModified),
            ]
        self._observed += [
            (display, vtk.vtkCommand.ModifiedEvent, self._onDisplayModified) for display in self._displays()
        ]
        self._imageTimes = self._modifiedTimes()
        for observation in self._observed:
            self.addObserver(*observation)

    def _displays(self) -> list:
        """The display nodes that have one window: of both volumes and of their projections."""
        nodes = [*self._shown[1:], *(projectionsOf(node) for node in self._shown[1:])]
        displays = [node.GetDisplayNode() for node in nodes if node is not None]
        return [display for display in displays if display is not None]

    def _onFlicker(self) -> None:
        self._isDenoisedOnTop = not self._isDenoisedOnTop
        if self._shown is not None:
            comparison.setFade(self._shown[2], float(self._isDenoisedOnTop))

    def _modifiedTimes(self) -> list[int]:
        images = [node.GetImageData() for node in self._shown[1:]]
        return [0 if image is None else image.GetMTime() for image in images]

    def _onNodeChanged(self) -> None:
        """A volume has another name: the selectors of linked views then choose one volume for all of them."""
        if self._shown is not None and self._shown[0] in (comparison.READING, comparison.SIDE_BY_SIDE):
            comparison.putBack(self._layers)

    def _onImageModified(self, caller, event) -> None:
        self._layersTimer.start()
        times = self._modifiedTimes()
        if times == self._imageTimes or 0 in times:
            return
        self._imageTimes = times
        try:
            comparison.refreshResidual(*self._shown[1:])
        except DRMCError as error:
            self.ui.compareLabel.setText(str(error))
            self.ui.compareLabel.setVisible(True)
        if self._rotation is not None:
            self._rotation.refresh(self._shown[1:].index(caller))

    def _onDisplayModified(self, caller, event) -> None:
        """A window that the user has changed in a view is that of the other volume too."""
        if caller.GetAutoWindowLevel():
            return  # nobody has chosen it, and it would not stay what another is set to
        for other in self._displays():
            if (other.GetWindow(), other.GetLevel()) != (caller.GetWindow(), caller.GetLevel()):
                other.SetWindowLevel(caller.GetWindow(), caller.GetLevel())

    def _showColors(self) -> None:
        self.ui.grayButton.setChecked(not self.parameters.heat)
        self.ui.heatButton.setChecked(self.parameters.heat)

    def _description(self, mode: str, hasSUV: bool) -> str:
        """The content of the views, in words; empty where the views say it themselves."""
        upTo = _(", up to {top:.3g} SUV").format(top=comparison.residualTop(self.parameters.windowSUV))
        text = {
            comparison.OFF: "",
            comparison.READING: _("Original above (O), denoised below (D); key X exchanges them."),
            comparison.OVERLAY: _("Original in gray, denoised in PET-Heat over it."),
            comparison.SIDE_BY_SIDE: _("Above the original, below denoised; key X exchanges them."),
            comparison.FLICKER: _("Original and denoised take turns; key X takes them in your own time."),
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
