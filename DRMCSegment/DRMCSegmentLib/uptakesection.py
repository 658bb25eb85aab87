"""PERCIST's references, uptake above a threshold, and its total with and without what is physiological."""

from __future__ import annotations

from typing import Any

from drmc.errors import DRMCError
from DRMCCoreLib.nodes.jump import jumpTo, worldPoint
from DRMCCoreLib.nodes.names import INPUT_REFERENCE
from DRMCCoreLib.panel.section import Section
from DRMCCoreLib.panel.tables import number
from slicer.i18n import tr as _

from DRMCSegmentLib.parameters import BLOOD_POOL, FIXED, PERCIST
from DRMCSegmentLib.results import LESIONS_ATTRIBUTE, REFERENCES_ATTRIBUTE, UPTAKE_ATTRIBUTE, keptJSON
from DRMCSegmentLib.uptaketable import fillUptakeTable, readUptake, setMarkedShown, totalsText


class UptakeSection(Section):
    """The threshold of a run, its references, and the parts above it; nothing is ever taken away."""

    uiName = "DRMCSegmentUptake"
    _shown: tuple[Any, ...] | None = None  # which table is shown, so that it is filled once
    _marks: tuple[Any, ...] | None = None  # of which parts the marked ones are shown or hidden already

    def setup(self) -> None:
        ui = self.ui
        ui.uptakeTableWidget.cellClicked.connect(self.onRowChosen)
        ui.uptakeTableWidget.cellActivated.connect(self.onRowChosen)
        ui.liverButton.clicked.connect(lambda: self.onGoToReference("liver"))
        ui.bloodPoolButton.clicked.connect(lambda: self.onGoToReference("blood_pool"))
        ui.drawButton.clicked.connect(self.onDraw)
        ui.takeButton.clicked.connect(self.onTakeAsLesions)
        self._say("")

    def onParametersChanged(self) -> None:
        self._show()

    def onRunChanged(self) -> None:
        if self.parameters is not None:
            self._show()

    def runArguments(self) -> dict[str, Any]:
        parameters = self.parameters
        thresholds = {PERCIST: "percist", BLOOD_POOL: "blood-pool", FIXED: parameters.thresholdSUV}
        return {
            "threshold": thresholds.get(parameters.thresholdMethod),
            "uptake": parameters.uptake,
            "uptakeTable": parameters.uptakeTable,
        }

    def takeResults(self, job, parameters) -> None:
        # Numbers of an earlier run must not stand beside this one's organs.
        parameters.uptake, parameters.uptakeTable = job.uptake, job.uptakeTable
        if not job.summary["uptake"]:
            parameters.uptake = parameters.uptakeTable = None
        self._marks = None

    def onRowChosen(self, row: int, column: int) -> None:
        """Goes to the hottest voxel of a part."""
        rows, volume = readUptake(self.parameters.uptakeTable), self.parameters.inputVolume
        if row < len(rows) and volume is not None:
            jumpTo(worldPoint([rows[row][f"suv_max_{axis}_mm"] for axis in "xyz"], volume))

    def onGoToReference(self, name: str) -> None:
        """Goes to the middle of a reference region."""
        one = self._references().get(name)
        if one is not None and self.parameters.inputVolume is not None:
            jumpTo(worldPoint(one["center_lps_mm"], self.parameters.inputVolume))

    def onDraw(self) -> None:
        """Opens Segment Editor on the lesions, limited to voxels at or above the threshold."""
        from DRMCCoreLib.nodes.segmentations import (  # SimpleITK is not needed before
            newSegmentation,
            openSegmentEditor,
        )

        from DRMCSegmentLib.handover import drawingThreshold

        parameters = self.parameters
        try:
            least = drawingThreshold(parameters.outputSegmentation, parameters.inputVolume)
        except DRMCError as error:
            self._say(str(error))
            return
        if parameters.lesions is None:
            parameters.lesions = newSegmentation(parameters.inputVolume)
        openSegmentEditor(parameters.lesions, parameters.inputVolume, least)
        self._say(
            _(
                "Segment Editor draws in voxels of {least} or more only (Masking, editable intensity range)."
            ).format(least=number(least))
        )

    def onTakeAsLesions(self) -> None:
        """Copies the parts that are shown into a new segmentation of lesions."""
        from DRMCSegmentLib.handover import lesionsOfUptake  # SimpleITK is not needed before

        parameters = self.parameters
        node = lesionsOfUptake(parameters.uptake, parameters.inputVolume, parameters.countPhysiological)
        parameters.lesions = node
        count = node.GetSegmentation().GetNumberOfSegments()
        self._say(
            _("{count} parts are in '{name}': delete what is no lesion.").format(
                count=count, name=node.GetName()
            )
        )

    def _references(self) -> dict[str, Any]:
        return keptJSON(self.parameters.outputSegmentation, REFERENCES_ATTRIBUTE, {})

    def _show(self) -> None:
        parameters, ui = self.parameters, self.ui
        organs, uptake, table = parameters.outputSegmentation, parameters.uptake, parameters.uptakeTable
        ui.thresholdSUVSpinBox.setVisible(parameters.thresholdMethod == FIXED)
        references = self._references()
        ui.referencesLabel.setText(referencesText(references))
        ui.referencesLabel.setVisible(bool(references))
        for name, one in (("liver", ui.liverButton), ("blood_pool", ui.bloodPoolButton)):
            one.setVisible(name in references)
        found = keptJSON(organs, UPTAKE_ATTRIBUTE, None)
        ui.totalsLabel.setText(totalsText(found, parameters.countPhysiological))
        ui.lesionMarksLabel.setText(marksText(keptJSON(organs, LESIONS_ATTRIBUTE, [])))
        for one in (ui.totalsLabel, ui.lesionMarksLabel):
            one.setVisible(bool(one.text))
        isOfVolume = self._isOfVolume(organs)
        ui.drawButton.setEnabled(bool(found) and isOfVolume)
        hasParts = uptake is not None and uptake.GetSegmentation().GetNumberOfSegments() > 0
        ui.takeButton.setEnabled(hasParts and isOfVolume)
        ui.countPhysiologicalCheckBox.setEnabled(bool(found))
        marks = (uptake.GetID(), parameters.countPhysiological) if hasParts else None
        if hasParts and marks != self._marks:  # not at each change: a user may have hidden others
            setMarkedShown(uptake, parameters.countPhysiological)
        self._marks = marks
        shown = (table and table.GetID(), table and table.GetTable() and table.GetTable().GetMTime())
        if shown == self._shown:
            return
        self._shown = shown
        rows = readUptake(table)
        fillUptakeTable(ui.uptakeTableWidget, rows)
        ui.uptakeTableWidget.setVisible(bool(rows))

    def _isOfVolume(self, organs) -> bool:
        """Whether the organs, and with them threshold and parts, are those of the input volume."""
        volume = self.parameters.inputVolume
        if organs is None or volume is None:
            return False
        return organs.GetNodeReferenceID(INPUT_REFERENCE) == volume.GetID()

    def _say(self, text: str) -> None:
        self.ui.uptakeMessageLabel.setText(text)
        self.ui.uptakeMessageLabel.setVisible(bool(text))


def referencesText(references: dict[str, Any]) -> str:
    """The reference regions in words, a line each."""
    names = {"liver": _("Liver, sphere of 3 cm"), "blood_pool": _("Blood pool, descending aorta")}
    lines = []
    for key, one in references.items():
        text = _("{name}: SUVmean {mean}, SD {sd}").format(
            name=names[key], mean=number(one["suv_mean"]), sd=number(one["suv_sd"])
        )
        if one.get("threshold_suv") is not None:
            text += _(", PERCIST threshold SUV {suv}").format(suv=number(one["threshold_suv"]))
        if one.get("sul_mean") is not None:
            text += _(", SULmean {sul}").format(sul=number(one["sul_mean"]))
        lines.append(text)
    return "\n".join(lines)


def marksText(lesions: list[dict[str, Any]]) -> str:
    """The lesions that lie in an organ with physiological uptake; empty if none does."""
    return "\n".join(f"{one['name']}: {one['note']}" for one in lesions if one["note"])
