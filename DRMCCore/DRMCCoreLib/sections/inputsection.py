"""What is denoised, and how its voxels become SUV."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from DRMCCoreLib.nodes.sequences import sequenceOf
from DRMCCoreLib.nodes.suvunits import SUV_FACTOR_ATTRIBUTE, declaredUnits
from DRMCCoreLib.panel.section import RESOURCES, Section
from DRMCCoreLib.sections.inspection import InspectionState, SUVInspection
from DRMCCoreLib.words import headerfields, suvtexts
from DRMCCoreLib.words.wording import inPanelWords

DEBOUNCE_MILLISECONDS = 300
AUTO, IN_SUV, BY_FACTOR = "", "SUV", "factor"


class InputSection(Section):
    """The input volume, the SUV decision of a run, and what the user states where a header does not.

    `isSUVNeeded`: whether a run is refused without SUV. `offersFrames`: whether a run can do all frames of a
    sequence.
    """

    isSUVNeeded = True
    offersFrames = True
    uiName = "DRMCCoreInput"
    advancedUiName = "DRMCCoreSUV"
    resources = RESOURCES
    _question = None  # what the present answer is about
    _observed = None  # the input node that is observed

    def setup(self) -> None:
        import qt  # the module file is imported where there is no Qt, too

        self._inspection = SUVInspection()
        self._inspection.changed.connect(self._onInspected)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(DEBOUNCE_MILLISECONDS)
        self._timer.timeout.connect(self._ask)
        self._fields = headerfields.HeaderFields(self.ui.headerGroupBox.layout(), self.onHeaderEdited)
        for text, data in (
            (_("as the volume says"), AUTO),
            (_("SUV by body weight (g/ml)"), IN_SUV),
            (_("another unit, SUV by a factor"), BY_FACTOR),
        ):
            self.ui.voxelsComboBox.addItem(text, data)
        self.ui.voxelsComboBox.currentIndexChanged.connect(self.onVoxelsChosen)
        self.ui.factorLineEdit.editingFinished.connect(self.onVoxelsChosen)
        self.ui.ruleComboBox.currentIndexChanged.connect(self.onRuleChosen)

    def cleanup(self) -> None:
        self._timer.stop()
        self._inspection.end()
        Section.cleanup(self)

    def setParameters(self, parameters) -> None:
        if parameters is None:
            if self._timer.isActive() or self._inspection.state is InspectionState.ASKING:
                self._question = None
                self._inspection.forget()
            self._timer.stop()
            self._observe(None)
        Section.setParameters(self, parameters)

    def onParametersChanged(self) -> None:
        """Chooses a first volume, shows the parameters, and asks the engine about the SUV."""
        parameters = self.parameters
        if not parameters.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None:
                parameters.inputVolume = first  # comes back here
                return
        self._observe(parameters.inputVolume)
        _choose(self.ui.voxelsComboBox, parameters.voxels)
        if self.ui.factorLineEdit.text != parameters.suvFactor:
            self.ui.factorLineEdit.setText(parameters.suvFactor)
        self._fields.setValues(parameters.headerValues)
        self._checkQuestion()
        self._show()

    def whyNotApply(self) -> str:
        if not self.parameters.inputVolume:
            return _("Choose an input volume")
        isRefused = self.isSUVNeeded and self._inspection.state is InspectionState.REFUSED
        return self._mistake() or (inPanelWords(self._inspection.message) if isRefused else "")

    def runArguments(self) -> dict[str, Any]:
        node = self.parameters.inputVolume
        frames = {"allFrames": True} if self._frames() and self.parameters.allFrames else {}
        return {"inputVolume": node, **frames, **self._suvArguments()}

    # ---- what the user does

    def onVoxelsChosen(self) -> None:
        """The user has stated what the voxels are."""
        if self.parameters is not None:
            combo = self.ui.voxelsComboBox
            self.parameters.voxels = str(combo.itemData(combo.currentIndex) or "")
            self.parameters.suvFactor = self.ui.factorLineEdit.text.strip()

    def onRuleChosen(self) -> None:
        """The user has chosen the reference time."""
        if self.parameters is not None:
            combo = self.ui.ruleComboBox
            self.parameters.acceptRule = str(combo.itemData(combo.currentIndex) or "")

    def onHeaderEdited(self) -> None:
        """The user has given a header value by hand, or taken one back."""
        if self.parameters is not None:
            self.parameters.headerValues = self._fields.values()

    def _frames(self) -> int:
        """How many frames the sequence has that the input shows a frame of; 0 without a sequence."""
        volume = self.parameters.inputVolume if self.offersFrames else None
        sequence = sequenceOf(volume) if volume else None
        return 0 if sequence is None else sequence.GetNumberOfDataNodes()

    # ---- asking the engine

    def _suvArguments(self) -> dict[str, Any]:
        """The arguments of `process` on the SUV: only what the user has stated."""
        parameters = self.parameters
        if parameters.voxels == IN_SUV:
            return {"suv": "SUV"}
        if parameters.voxels == BY_FACTOR:
            return {"suv": _positive(parameters.suvFactor)}
        given = headerfields.checked(parameters.headerValues)
        return {"acceptRule": parameters.acceptRule or None, "headerValues": given or None}

    def _mistake(self) -> str:
        """What is wrong with the user's statements, as a sentence; empty if nothing is."""
        parameters = self.parameters
        if parameters.voxels == BY_FACTOR and _positive(parameters.suvFactor) is None:
            return _("Say what SUV one unit of the voxels is: a positive number")
        return headerfields.mistake(parameters.headerValues) if parameters.voxels == AUTO else ""

    def _checkQuestion(self) -> None:
        """Asks again, a little later, if anything has changed on which the answer rests."""
        parameters, node = self.parameters, self.parameters.inputVolume
        choices = (parameters.voxels, parameters.suvFactor, parameters.acceptRule, parameters.headerValues)
        question = None if not node else (*_stateOf(node), *choices)
        if question == self._question:
            return
        self._question = question
        self._timer.stop()
        self._inspection.forget()
        if node and not self._mistake():
            self._timer.start()

    def _ask(self) -> None:
        if self.parameters is not None and self.parameters.inputVolume and not self._mistake():
            self._inspection.ask(self.parameters.inputVolume, **self._suvArguments())

    def _onInspected(self) -> None:
        if self.parameters is not None:
            if self.isSUVNeeded and self._inspection.state is InspectionState.REFUSED:
                self.panel.openAdvanced(self.ui.suvCollapsibleButton)  # there it can be corrected
            self._show()
            self.panel.onReadinessChanged()

    def _observe(self, node) -> None:
        if node is self._observed:
            return
        if self._observed is not None:
            self.removeObserver(self._observed, self._observed.ImageDataModifiedEvent, self._onNodeModified)
            self.removeObserver(self._observed, vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
        self._observed = node
        if node is not None:
            self.addObserver(node, node.ImageDataModifiedEvent, self._onNodeModified)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNodeModified)

    def _onNodeModified(self, caller, event) -> None:
        if self.parameters is not None and self.parameters.inputVolume is caller:
            self._checkQuestion()

    # ---- showing

    def _show(self) -> None:
        inspection, mistake = self._inspection, self._mistake()
        message = inPanelWords(inspection.message)
        isKnown = inspection.state is InspectionState.KNOWN
        details = suvtexts.detailsText(inspection.decision) if isKnown else ""
        if not self.parameters.inputVolume:
            line = ""
        elif mistake:
            line = mistake
        elif isKnown:
            isByHand = self.parameters.voxels == BY_FACTOR
            line = suvtexts.oneLine(inspection.decision, isByHand=isByHand)
        elif inspection.state is InspectionState.REFUSED and not self.isSUVNeeded:
            line = _("No SUV: volumes, and uptake relative to the body")
            details = escape(message)
        elif inspection.state is InspectionState.REFUSED and inspection.unitsAreUnknown:
            line, details = _("Unknown units: say under SUV details what the voxels are"), escape(message)
        elif inspection.state in (InspectionState.REFUSED, InspectionState.FAILED):
            line = message
        else:
            line = _("Looking at the volume...")
        self.ui.suvLabel.setText(line)
        self.ui.suvLabel.setToolTip(message or line)
        self.ui.suvDetailsLabel.setText(details)
        self.ui.suvDetailsLabel.setVisible(bool(details))
        frames = self._frames()
        self.ui.allFramesCheckBox.setVisible(frames > 0)
        self.ui.allFramesCheckBox.setText(_("all {n} frames of the sequence").format(n=frames))
        self._showChoices()

    def _showChoices(self) -> None:
        byFactor, isAuto = self.parameters.voxels == BY_FACTOR, self.parameters.voxels == AUTO
        for widget in (self.ui.factorLabel, self.ui.factorLineEdit):
            widget.setVisible(byFactor)
        values = self._inspection.headerValues
        hasHeader = bool(values or self.parameters.headerValues)
        if self._inspection.state is not InspectionState.ASKING:  # else the fields would flicker
            self._fields.setStated(values)
            self.ui.headerGroupBox.setVisible(isAuto and hasHeader)
            self._fillRules(isAuto)

    def _fillRules(self, isAuto: bool) -> None:
        combo, candidates = self.ui.ruleComboBox, self._inspection.candidates
        wasBlocked = combo.blockSignals(True)
        combo.clear()
        combo.addItem(_("automatic"), "")
        for candidate in candidates:
            combo.addItem(": ".join(suvtexts.candidateWords(candidate)), candidate["rule"])
        words = self._inspection.acceptable
        if words:
            combo.addItem(
                _("take it so: {words}").format(words=words), _joined(self.parameters.acceptRule, words)
            )
        _choose(combo, self.parameters.acceptRule)
        combo.blockSignals(wasBlocked)
        for widget in (self.ui.ruleLabel, combo):
            widget.setVisible(isAuto and bool(candidates or words or self.parameters.acceptRule))


def _choose(combo, data: str) -> None:
    """Shows the item with this data; one that is not there is added, so that nothing is chosen silently."""
    index = combo.findData(data)
    if index < 0:
        combo.addItem(data, data)
        index = combo.findData(data)
    if combo.currentIndex != index:
        combo.setCurrentIndex(index)


def _joined(accepted: str, words: str) -> str:
    """What was accepted before, and these words."""
    return ",".join(dict.fromkeys(part for part in f"{accepted},{words}".split(",") if part))


def _positive(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if number > 0 and math.isfinite(number) else None


def _stateOf(node) -> tuple[Any, ...]:
    """What of a volume node the engine's answer rests on, cheap to compare."""
    image, storage = node.GetImageData(), node.GetStorageNode()
    transform = node.GetParentTransformNode()
    return (
        node.GetID(),
        node.GetName(),
        None if image is None else image.GetMTime(),
        declaredUnits(node),
        None if storage is None else storage.GetFileName(),
        None if transform is None else (transform.GetID(), transform.GetTransformToWorldMTime()),
        tuple(node.GetSpacing()),
        node.GetAttribute("DICOM.instanceUIDs"),
        node.GetAttribute(SUV_FACTOR_ATTRIBUTE),
    )
