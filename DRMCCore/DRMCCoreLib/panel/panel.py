"""What the panels of all modules do when scenes are closed and loaded, and when nodes go away."""

from __future__ import annotations

import sys

import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget

from DRMCCoreLib.panel.observing import Observing

FIRST, LAST = 1.0, -1.0  # observers of a higher priority are called earlier


class Panel(ScriptedLoadableModuleWidget, Observing):
    """A module's panel that shows a parameter node of the scene, and none while the scene is being replaced.

    Node selectors fill their lists anew when an import or a closing has ended, lose their choice with that
    and would write that loss into a parameter node they are connected to. So it is disconnected before
    anything happens, and connected after all selectors have been filled. `nodeParameters`: names of the
    parameters that hold a node which no other may replace: a selector goes on to the neighbor of a node that
    is deleted.
    """

    nodeParameters: tuple[str, ...] = ()

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        Observing.__init__(self)
        self.isSetUp = False
        self._parameterNode = None

    def initializeParameterNode(self) -> None:
        """Shows the parameter node that the scene has for this panel."""
        raise NotImplementedError

    def setParameterNode(self, parameterNode) -> None:
        """Connects the panel to a parameter node, or to none."""
        raise NotImplementedError

    def observeScene(self) -> None:
        """Follows the scene from now on; for `setup` to call when all widgets are there."""
        self.isSetUp = True
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose, priority=FIRST)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport, priority=FIRST)
        for event in (scene.EndCloseEvent, scene.EndImportEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self.onSceneReplaced, priority=LAST)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved, priority=FIRST)

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user opens another module; what is under way goes on."""
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Reloads the libraries and the engine too: Slicer itself executes only the module's file again.

        But for the engine's errors: the other modules catch them by the classes that they have imported.
        """
        own = {"drmc", "DRMCCoreLib", f"{self.moduleName}Lib"}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            if name != "drmc.errors":
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """The parameter node loses its content."""
        self.setParameterNode(None)

    def onSceneStartImport(self, caller, event) -> None:
        """The parameter node gets its content before the nodes are there to which it refers."""
        self.setParameterNode(None)

    def onSceneReplaced(self, caller, event) -> None:
        """The scene is closed or loaded; loading closes it first, and both lie in one batch."""
        scene = slicer.mrmlScene
        isUnderWay = scene.IsClosing() or scene.IsImporting() or scene.IsBatchProcessing()
        if self._parameterNode is None and self.parent.isEntered and not isUnderWay:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node) -> None:
        """A node that goes away is chosen no longer, before a selector chooses another in its place."""
        for name in self.nodeParameters if self._parameterNode is not None else ():
            if getattr(self._parameterNode, name) is node:
                setattr(self._parameterNode, name, None)
