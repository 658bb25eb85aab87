"""A part of a panel, with .ui files of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import vtk

from DRMCCoreLib.panel.observing import Observing

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
"""The .ui files of the sections that several panels show."""


class Section(Observing):
    """Shows and changes some of the parameters; sections share only these and the panel.

    `ui`: the widgets of its .ui files by name; `parameters`: the parameter node that is shown, or None.
    """

    uiName = ""  # Resources/UI/<uiName>.ui, shown in the panel; empty for none
    advancedUiName = ""  # the same, shown in the panel's section Advanced
    resources: Path | None = None  # the folder Resources with the .ui file; None: that of the panel's module

    def __init__(self, panel):
        from DRMCCoreLib.panel.fittedheight import (
            FittedHeight,  # Qt is not there where the module is a library
        )

        Observing.__init__(self)
        self.panel = panel
        self.parameters = None
        self._guiTag = None
        self.ui = SimpleNamespace()
        self._heights = []
        for name, layout in ((self.uiName, panel.layout), (self.advancedUiName, panel.advancedLayout)):
            if not name:
                continue
            file = f"UI/{name}.ui"
            path = str(self.resources / file) if self.resources else panel.resourcePath(file)
            widget = slicer.util.loadUI(path)
            layout.addWidget(widget)
            self._heights.append(FittedHeight(widget))
            vars(self.ui).update(vars(slicer.util.childWidgetVariables(widget)))
            widget.setMRMLScene(slicer.mrmlScene)
        self.setup()

    def setup(self) -> None:
        """Connects the widgets, once."""

    def enter(self) -> None:
        """Called each time the user opens the module, before the parameters are shown."""

    def onParametersChanged(self) -> None:
        """Shows the parameters (never None here); called at each change of the parameter node."""

    def onRunChanged(self) -> None:
        """Called when a run has started (`panel.job`) or ended (None); `parameters` may be None."""

    def whyNotApply(self) -> str:
        """Why a run cannot start, as a sentence for the user; empty if this section has no objection."""
        return ""

    def runArguments(self) -> dict[str, Any]:
        """This section's arguments of the run that the panel's logic starts."""
        return {}

    def takeResults(self, job, parameters) -> None:
        """Stores the nodes of a successful run in the parameters that it was started with."""

    def setParameters(self, parameters) -> None:
        """Connects another parameter node, or none; the panel calls `onParametersChanged` afterwards."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._onModified)

    def cleanup(self) -> None:
        """Called once, when the module's panel goes away."""
        self.setParameters(None)
        self.removeObservers()

    def _onModified(self, caller, event) -> None:
        self.onParametersChanged()
