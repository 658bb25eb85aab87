"""Lesions before and after."""

from __future__ import annotations

from typing import Any

from .section import Section


class LesionSection(Section):
    """The segmentation that is measured, and the table of its segments."""

    uiName = "DRMCDenoiseLesions"

    def onParametersChanged(self) -> None:
        self.ui.lesionTableView.setMRMLTableNode(self.parameters.lesionTable)

    def runArguments(self) -> dict[str, Any]:
        return {"lesions": self.parameters.lesions, "lesionTable": self.parameters.lesionTable}

    def takeResults(self, job, parameters) -> None:
        parameters.lesionTable = job.lesionTable or parameters.lesionTable
