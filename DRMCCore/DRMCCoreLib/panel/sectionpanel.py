"""A panel made of sections, with one run at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import slicer
from slicer.i18n import tr as _

from DRMCCoreLib.panel.panel import Panel
from DRMCCoreLib.panel.section import Section


class SectionPanel(Panel):
    """Builds its sections, connects them to the shown parameter node, and starts runs with their arguments.

    `Logic`: the class of the module's logic, with `getParameterNode` and `process`; `ParameterNode`: the
    class that wraps a MRML node; `Sections`: classes in the order in which they are shown; what they have for
    the few lies in a last section, Advanced, that starts closed. `job`: the run under way, or None.
    """

    Logic: type
    ParameterNode: type
    Sections: tuple[type[Section], ...] = ()

    def __init__(self, parent=None) -> None:
        Panel.__init__(self, parent)
        self.logic = None
        self.advancedButton = self.advancedLayout = None
        self.job = None
        self.sections: list[Section] = []
        self._shownNode = None  # the MRML node behind the one that was shown last
        self._runParameterNode = None  # the one whose parameters the run under way has

    def setup(self) -> None:
        """Builds the panel when the module is opened for the first time."""
        Panel.setup(self)
        import ctk  # the module file is imported where there is no Qt, too
        import qt

        self.logic = self.Logic()
        self.advancedButton = ctk.ctkCollapsibleButton()
        self.advancedButton.text = _("Advanced")
        self.advancedLayout = qt.QVBoxLayout(self.advancedButton)
        self.sections = [Shown(self) for Shown in self.Sections]
        self.ui = SimpleNamespace(**{k: v for section in self.sections for k, v in vars(section.ui).items()})
        self.ui.advancedCollapsibleButton = self.advancedButton
        self.layout.addWidget(self.advancedButton)
        self.advancedButton.collapsed = True
        self.layout.addStretch(1)
        self.observeScene()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Ends a run that is under way, when the application closes or the module is reloaded."""
        if self.job is not None:
            self.job.end()
        for section in self.sections:
            section.cleanup()
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        for section in self.sections:
            section.enter()
        Panel.enter(self)

    def onSceneStartClose(self, caller, event) -> None:
        """A run whose nodes go away is ended."""
        if self.job is not None:
            self.job.end()
        Panel.onSceneStartClose(self, caller, event)

    def initializeParameterNode(self) -> None:
        """Shows the parameter node that was shown last, or the scene's own."""
        # getParameterNode restores the node's attribute, which closing a scene removes.
        own = self.logic.getParameterNode().parameterNode
        self.showParameterNode(self._shownNode if slicer.mrmlScene.IsNodePresent(self._shownNode) else own)

    def showParameterNode(self, node) -> None:
        """Shows another of the scene's parameter sets; the scene's own if None."""
        parameterNode = self.ParameterNode(node) if node else self.logic.getParameterNode()
        self._shownNode = parameterNode.parameterNode
        self.setParameterNode(parameterNode)

    def setParameterNode(self, parameterNode) -> None:
        """Connects the sections to a parameter node, or to none."""
        self._parameterNode = parameterNode
        for section in self.sections:
            section.setParameters(parameterNode)
        for section in self.sections if parameterNode else ():
            section.onParametersChanged()

    def onReadinessChanged(self) -> None:
        """For a section to call when anything else than a parameter changes the result of `whyNotApply`."""
        for section in self.sections if self._parameterNode is not None else ():
            section.onParametersChanged()

    def verdict(self) -> str:
        """What the last run has shown, in a sentence; empty before."""
        return ""

    def openAdvanced(self, button) -> None:
        """Opens one of the collapsible buttons under Advanced."""
        for one in (self.advancedButton, button):
            one.collapsed = False

    def whyNotApply(self) -> str:
        """Why a run cannot start, in a sentence; empty if it can."""
        if self._parameterNode is None:
            return _("The scene is being closed")
        return next((reason for section in self.sections if (reason := section.whyNotApply())), "")

    def startRun(self, **changes: Any):
        """Starts a run with the arguments of all sections; returns its job. Raises DRMCError if refused.

        `changes`: arguments in place of the sections', or besides.
        """
        arguments = {key: value for section in self.sections for key, value in section.runArguments().items()}
        self.job = job = self.logic.process(**{**arguments, **changes}, waitForCompletion=False)
        self._runParameterNode = self._parameterNode
        job.finished.connect(self._onFinished)
        self._onRunChanged()
        if not job.isRunning():  # the engine could not be started at all
            self._onFinished(job)
        return job

    def _onFinished(self, job) -> None:
        self.job = None
        try:
            for section in self.sections if job.error is None else ():
                section.takeResults(job, self._runParameterNode)  # which may not be shown any more
        finally:
            self._onRunChanged()

    def _onRunChanged(self) -> None:
        for section in self.sections:
            section.onRunChanged()
