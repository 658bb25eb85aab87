"""Lesions before and after."""

from __future__ import annotations

import json
from typing import Any

import slicer
from drmc.errors import DRMCError, InputError
from DRMCCoreLib.nodes.jump import crosshairPoint, jumpTo, worldPoint
from DRMCCoreLib.nodes.names import COMPARISON_ATTRIBUTE, INPUT_REFERENCE
from DRMCCoreLib.nodes.suvunits import suvPerUnit
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.panel.tables import copyTable, number, saveTable
from DRMCCoreLib.words.wording import inPanelWords
from slicer.i18n import tr as _

from DRMCDenoiseLib.focitable import fillFociTable, fociText, loweredFoci
from DRMCDenoiseLib.lesiontable import (
    fillLesionTable,
    intervalNotes,
    readLesions,
    suvLines,
)
from DRMCDenoiseLib.parameters import FIXED
from DRMCDenoiseLib.spotstable import spotsText, virtualSpots

FIXED_SUV = {"suv25Button": 2.5, "suv40Button": 4.0}


class LesionSection(Section):
    """The segmentation that is measured, and the table of its segments."""

    uiName = "DRMCDenoiseLesions"
    advancedUiName = "DRMCDenoiseSpots"
    _shown: tuple[Any, ...] | None = None  # which table is shown, so that it is filled once
    _search = None  # for candidates, under way
    _shownFoci: dict[str, Any] | None = None  # as _shown

    def setup(self) -> None:
        from DRMCDenoiseLib.lesioncolumns import SpreadColumns  # Qt is not there where this is a library

        ui = self.ui
        self._columns = SpreadColumns(ui.lesionTableWidget)
        ui.fractionButton.clicked.connect(lambda: self.onAddHotSpot(None))
        for name, suv in FIXED_SUV.items():
            getattr(ui, name).clicked.connect(lambda checked=False, suv=suv: self.onAddHotSpot(suv))
        ui.lesionTableWidget.cellClicked.connect(self.onRowChosen)
        ui.lesionTableWidget.cellActivated.connect(self.onRowChosen)
        ui.fociTableWidget.cellClicked.connect(self.onFocusChosen)
        ui.fociTableWidget.cellActivated.connect(self.onFocusChosen)
        ui.volumesCheckBox.toggled.connect(self.onVolumesChosen)
        ui.copyButton.clicked.connect(self.onCopy)
        ui.candidatesButton.clicked.connect(self.onFindCandidates)
        ui.saveButton.clicked.connect(self.onSave)
        self._say("")

    def cleanup(self) -> None:
        self._endSearch()
        super().cleanup()

    def setParameters(self, parameters) -> None:
        if slicer.mrmlScene.IsClosing():
            self._endSearch()
        super().setParameters(parameters)

    def onParametersChanged(self) -> None:
        self._show()

    def onRunChanged(self) -> None:
        if self.parameters is not None:
            self._show()

    def runArguments(self) -> dict[str, Any]:
        return {name: getattr(self.parameters, name) for name in ("lesionTable", "virtualSpots")}

    def takeResults(self, job, parameters) -> None:
        # Numbers of an earlier run must not stand beside this one's images.
        parameters.lesionTable = job.lesionTable if "lesions.csv" in job.summary["outputs"] else None

    def onAddHotSpot(self, suv: float | None) -> None:
        """Adds a segment by threshold at the crosshair; `suv` None: at 41 % of its SUVmax."""
        from DRMCCoreLib.nodes.segmentations import newSegmentation  # SimpleITK is not needed before

        from DRMCDenoiseLib.hotspot import addHotSpot

        volume, node = self.parameters.inputVolume, self.parameters.lesions
        isNew = node is None
        try:
            node = newSegmentation(volume) if isNew else node
            factor = self._suvPerUnit()
            found = addHotSpot(volume, node, crosshairPoint(), suvPerUnit=factor, suv=suv)
        except InputError as error:
            if isNew:
                slicer.mrmlScene.RemoveNode(node)
            self._say(_("No segment added: {reason}").format(reason=error))
            return
        self.parameters.lesions = node
        message = _("Added '{name}': {count} voxels.").format(name=found.name, count=found.voxels)
        if found.isCut:
            message += _(
                " It reaches the edge of the 12 cm box that was looked at: check it in Segment Editor."
            )
        self._say(message)

    def onFindCandidates(self) -> None:
        """Looks for lesion candidates in the denoised volume, or in the input before there is one."""
        from DRMCDenoiseLib.candidates import CandidateSearch

        self._endSearch()
        parameters = self.parameters
        volume = (self._isOutputOfInput() and parameters.outputVolume) or parameters.inputVolume
        self._search = CandidateSearch(
            lambda found, message: self._onCandidates(volume, parameters, found, message)
        )
        try:
            self._search.start(volume, **self._searchArguments(volume))
        except DRMCError as error:
            self._search = None
            self._say(inPanelWords(str(error)))
            return
        self._say(_("Looking for candidates..."))
        self._show()

    def _searchArguments(self, volume) -> dict[str, Any]:
        """Threshold and SUV of a search."""
        from DRMCDenoiseLib.candidates import findLiver

        parameters, arguments = self.parameters, {}
        if volume is parameters.inputVolume:  # a denoised volume knows its own SUV
            stated = {key: value for one in self.panel.sections for key, value in one.runArguments().items()}
            arguments = {name: stated.get(name) for name in ("acceptRule", "headerValues")}
            arguments["voxels"] = stated.get("suv")
        if parameters.candidateMethod == FIXED:
            return {**arguments, "suv": parameters.candidateSUV}
        liver, point = findLiver(parameters.lesions, parameters.organs), crosshairPoint()
        if liver is None and point is None:
            raise InputError(
                _("PERCIST needs the liver: put the crosshair into it, or make a segment called liver")
            )
        return {**arguments, "liver": liver, "pointRAS": point}

    def _onCandidates(self, volume, parameters, found: dict[str, Any] | None, message: str) -> None:
        from DRMCDenoiseLib.candidates import foundText

        search, self._search = self._search, None
        if found is None:
            self._say(_("No candidates: {reason}").format(reason=inPanelWords(message)))
        elif search is not None and slicer.mrmlScene.IsNodePresent(volume):
            if found["candidates"]:
                parameters.lesions = search.takeInto(parameters.lesions, volume)
            self._say(foundText(found, volume.GetName(), search.liverNode))
        if self.parameters is not None:
            self._show()

    def _endSearch(self) -> None:
        search, self._search = self._search, None
        if search is not None:
            search.end()
            self._say("")

    def onRowChosen(self, row: int, column: int) -> None:
        """Goes to the SUVmax of a lesion, in the denoised image."""
        stages = list(readLesions(self.parameters.lesionTable).values())[row]
        numbers = stages.get("denoised") or next(iter(stages.values()))
        place = [numbers.get(f"suv_max_{axis}_mm") for axis in "xyz"]
        volume = self.parameters.lesionTable.GetNodeReference(INPUT_REFERENCE) or self.parameters.inputVolume
        if volume is not None and None not in place:
            jumpTo(worldPoint(place, volume))

    def onFocusChosen(self, row: int, column: int) -> None:
        """Goes to a focus that was lowered by more than noise explains."""
        output = self.parameters.outputVolume
        focus = loweredFoci(output)["foci"][row]
        volume = output.GetNodeReference(INPUT_REFERENCE) or output
        jumpTo(worldPoint([focus[f"{axis}_mm"] for axis in "xyz"], volume))

    def onVolumesChosen(self, hasVolumes: bool) -> None:
        """Shows the volumes of the lesions in place of their SUVs."""
        from DRMCDenoiseLib.lesioncolumns import chooseColumns

        chooseColumns(self.ui.lesionTableWidget, hasVolumes)
        self.ui.repeatabilityLabel.setText(
            _("\u2020 The threshold of the volume follows SUVmax.")
            if hasVolumes
            else _("\u25b2 change beyond that of noise alone.")
        )

    def onCopy(self) -> None:
        """Puts the raw numbers on the clipboard, for a spreadsheet."""
        self._say(copyTable(self.parameters.lesionTable))

    def onSave(self) -> None:
        """Writes the raw numbers to a CSV file."""
        message = saveTable(self.parameters.lesionTable, self.ui.saveButton)
        if message:
            self._say(message)

    def _show(self) -> None:
        parameters, ui = self.parameters, self.ui
        node, output = parameters.lesionTable, parameters.outputVolume
        hasVolume = parameters.inputVolume is not None
        for name in ("fractionButton", *FIXED_SUV):
            getattr(ui, name).setEnabled(hasVolume)
        ui.candidatesButton.setEnabled(hasVolume and self._search is None)
        ui.candidateSUVSpinBox.setVisible(parameters.candidateMethod == FIXED)
        ui.comparisonLabel.setText(
            comparisonText(output.GetAttribute(COMPARISON_ATTRIBUTE) if output else None)
        )
        ui.comparisonLabel.setVisible(bool(ui.comparisonLabel.text))
        self._showFoci(loweredFoci(output))
        ui.spotsLabel.setText(spotsText(virtualSpots(output)))
        ui.spotsLabel.setVisible(bool(ui.spotsLabel.text))
        shown = (node and node.GetID(), node and node.GetTable() and node.GetTable().GetMTime())
        if shown == self._shown:
            return
        self._shown = shown
        lesions = readLesions(node)
        fillLesionTable(ui.lesionTableWidget, lesions, intervalNotes(node))
        ui.lesionSUVLabel.setText("\n".join(suvLines(node)))
        ui.lesionSUVLabel.setVisible(bool(ui.lesionSUVLabel.text))
        for name in (
            *("lesionTableWidget", "repeatabilityLabel", "copyButton", "saveButton"),
            "volumesCheckBox",
        ):
            getattr(ui, name).setVisible(bool(lesions))
        self.onVolumesChosen(ui.volumesCheckBox.checked)
        ui.noLesionsLabel.setVisible(not lesions)

    def _showFoci(self, found: dict[str, Any]) -> None:
        if found == self._shownFoci:
            return
        self._shownFoci = found
        ui = self.ui
        fillFociTable(ui.fociTableWidget, found)
        ui.fociLabel.setText(fociText(found))
        for widget in (ui.fociLabel, ui.fociTableWidget):
            widget.setVisible(bool(found))

    def _suvPerUnit(self) -> float | None:
        """SUV of one unit of the input volume, by itself or by the run that made the output."""
        volume, output = self.parameters.inputVolume, self.parameters.outputVolume
        return suvPerUnit(volume) or (suvPerUnit(output) if self._isOutputOfInput() else None)

    def _isOutputOfInput(self) -> bool:
        """Whether the denoised volume is that of the input volume."""
        volume, output = self.parameters.inputVolume, self.parameters.outputVolume
        return (
            output is not None
            and output.GetImageData() is not None
            and output.GetNodeReferenceID(INPUT_REFERENCE) == volume.GetID()
        )

    def _say(self, text: str) -> None:
        self.ui.lesionMessageLabel.setText(text)
        self.ui.lesionMessageLabel.setVisible(bool(text))


def comparisonText(attribute: str | None) -> str:
    """The comparison with the full-dose volume, kept in the output volume, in one line."""
    found = json.loads(attribute) if attribute else {}
    parts = []
    for key, label, factor, unit in (
        ("B_mean", _("error of SUVmean"), 100, " %"),
        ("B_max", _("of SUVmax"), 100, " %"),
        ("psnr", "PSNR", 1, " dB"),
        ("ssim", "SSIM", 1, ""),
    ):
        before, after = (found.get(key, {}).get(stage) for stage in ("original", "denoised"))
        if before is not None or after is not None:
            shown = [
                number(None) if value is None else f"{factor * value:.{3 if key == 'ssim' else 1}f}"
                for value in (before, after)
            ]
            parts.append(f"{label} {shown[0]} \u2192 {shown[1]}{unit}")
    return _("Against full dose: {numbers}").format(numbers=", ".join(parts)) if parts else ""
