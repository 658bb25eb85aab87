"""Organs: their table, where they are, and the table again after they were corrected by hand."""

from __future__ import annotations

from typing import Any

import slicer
from drmc.errors import DRMCError
from DRMCCoreLib.nodes.jump import jumpTo
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.panel.tables import copyTable, saveTable
from DRMCCoreLib.words.wording import inPanelWords
from slicer.i18n import tr as _

from DRMCSegmentLib.organtable import fillOrganTable, readOrgans
from DRMCSegmentLib.results import WARNINGS_ATTRIBUTE, keptJSON


class OrganSection(Section):
    """The organ table of the segmentation; what the segmentation shows; measuring it again."""

    uiName = "DRMCSegmentOrgans"
    _shown: tuple[Any, ...] | None = None  # which table is shown, so that it is filled once

    def setup(self) -> None:
        ui = self.ui
        ui.organTableWidget.cellClicked.connect(self.onRowChosen)
        ui.organTableWidget.cellActivated.connect(self.onRowChosen)
        ui.show3DButton.clicked.connect(self.onShow3D)
        ui.measureButton.clicked.connect(self.onMeasureAgain)
        ui.editButton.clicked.connect(self.onEdit)
        ui.copyButton.clicked.connect(self.onCopy)
        ui.saveButton.clicked.connect(self.onSave)
        self._say("")

    def onParametersChanged(self) -> None:
        self._show()

    def onRunChanged(self) -> None:
        if self.parameters is not None:
            self._show()

    def runArguments(self) -> dict[str, Any]:
        return {"organTable": self.parameters.organTable}

    def takeResults(self, job, parameters) -> None:
        parameters.organTable = job.organTable

    def onRowChosen(self, row: int, column: int) -> None:
        """Goes to the middle of an organ."""
        node = self.parameters.outputSegmentation
        organs = list(readOrgans(self.parameters.organTable))
        if node is None or row >= len(organs):
            return
        segmentID = node.GetSegmentation().GetSegmentIdBySegmentName(organs[row])
        center = node.GetSegmentCenterRAS(segmentID) if segmentID else None
        if center is not None:
            jumpTo(tuple(center))

    def onShow3D(self) -> None:
        """Makes surfaces of the organs and shows them in 3D, or hides them."""
        node = self.parameters.outputSegmentation
        isShown = not isShownIn3D(node)
        if isShown:
            node.CreateClosedSurfaceRepresentation()
        node.GetDisplayNode().SetVisibility3D(isShown)
        self._show()

    def onEdit(self) -> None:
        """Opens Segment Editor on the organs."""
        from DRMCCoreLib.nodes.segmentations import openSegmentEditor  # SimpleITK is not needed before

        openSegmentEditor(self.parameters.outputSegmentation, self.parameters.inputVolume)

    def onMeasureAgain(self) -> None:
        """Measures the organs as they are in the segmentation now, without a model."""
        try:
            self.panel.startRun(segmentation=self.parameters.outputSegmentation)
        except DRMCError as error:
            self._say(inPanelWords(str(error)))

    def onCopy(self) -> None:
        """Puts the raw numbers on the clipboard, for a spreadsheet."""
        self._say(copyTable(self.parameters.organTable))

    def onSave(self) -> None:
        """Writes the raw numbers to a CSV file."""
        message = saveTable(self.parameters.organTable, self.ui.saveButton)
        if message:
            self._say(message)

    def _show(self) -> None:
        parameters, ui = self.parameters, self.ui
        node, table = parameters.outputSegmentation, parameters.organTable
        hasOrgans = node is not None and node.GetSegmentation().GetNumberOfSegments() > 0
        isRunning = self.panel.job is not None
        for one in (ui.show3DButton, ui.editButton):
            one.setEnabled(hasOrgans)
        ui.measureButton.setEnabled(hasOrgans and parameters.inputVolume is not None and not isRunning)
        ui.measureButton.setToolTip(
            _("Measure the organs as they are now, after corrections in Segment Editor; needs no model.")
        )
        ui.show3DButton.setText(_("Hide 3D") if hasOrgans and isShownIn3D(node) else _("Show 3D"))
        self._showOrgans()
        self._showWarnings(keptJSON(node, WARNINGS_ATTRIBUTE, []))
        shown = (table and table.GetID(), table and table.GetTable() and table.GetTable().GetMTime())
        if shown == self._shown:
            return
        self._shown = shown
        organs = readOrgans(table)
        fillOrganTable(ui.organTableWidget, organs)
        for one in (ui.organTableWidget, ui.copyButton, ui.saveButton):
            one.setVisible(bool(organs))
        ui.noOrgansLabel.setVisible(not organs)

    def _showOrgans(self) -> None:
        """Shows or hides the organs in the slice views, as the parameter says."""
        node = self.parameters.outputSegmentation if self.parameters is not None else None
        display = node.GetDisplayNode() if node is not None else None
        if display is not None and bool(display.GetVisibility2D()) != self.parameters.showOrgans:
            display.SetVisibility2D(self.parameters.showOrgans)

    def _showWarnings(self, warnings: list[str]) -> None:
        self.ui.warningsLabel.setText("\n".join(warnings))
        self.ui.warningsLabel.setVisible(bool(warnings))

    def _say(self, text: str) -> None:
        self.ui.organMessageLabel.setText(text)
        self.ui.organMessageLabel.setVisible(bool(text))


def isShownIn3D(segmentationNode) -> bool:
    """Whether a segmentation has surfaces that are shown."""
    surfaces = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    display = segmentationNode.GetDisplayNode()
    hasSurfaces = segmentationNode.GetSegmentation().ContainsRepresentation(surfaces)
    return hasSurfaces and display is not None and bool(display.GetVisibility3D())
