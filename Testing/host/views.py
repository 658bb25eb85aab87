"""Slicer's layout manager over the real layout and slice logics; `slicer.app` has one while views are open.

A view that a layout makes is not at rest at once, as in Slicer: when events are next processed it gets its
size, and the slider of its controller sets the offset to 0, which the application broadcasts to the views
that are linked by then.
"""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore

from . import core

SIZE = 256  # pixels of a slice view's edge
SIZE_OF_MANY = (180, 140)  # pixels where a layout has more than four views


class OffsetSlider(core.Listed):
    """The slider of a slice view, with its spin box."""

    _name = "ctk.ctkSliderWidget"
    visible = True

    def setVisible(self, isVisible: bool) -> None:
        self.visible = isVisible


class SliceController(core.Listed):
    """The bar of a slice view."""

    _name = "slicer.qMRMLSliceControllerWidget"

    def __init__(self):
        self._slider = OffsetSlider()

    def sliceOffsetSlider(self):
        return self._slider


class SliceWidget(core.Listed):
    """What `sliceWidget(name)` gives."""

    _name = 'slicer.app.layoutManager().sliceWidget("Red")'

    def __init__(self, logic):
        self._logic, self._controller = logic, SliceController()

    def sliceController(self):
        return self._controller

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()


class LayoutManager(core.Listed):
    """`slicer.app.layoutManager()`: makes the views of the current layout, each with its logic."""

    _name = "slicer.app.layoutManager()"
    plotViewCount = 0  # the stand-in's layouts have slice views only

    def __init__(self, scene, applicationLogic):
        self._layoutLogic = slicer.vtkMRMLLayoutLogic()
        self._layoutLogic.SetMRMLScene(scene)
        self._scene, self._collection = scene, vtk.vtkCollection()
        self._sliceLogics: dict = {}
        self._sliceWidgets: dict[str, SliceWidget] = {}
        self._applicationLogic = applicationLogic
        applicationLogic.SetSliceLogics(self._collection)
        self._tag = self._layoutLogic.GetLayoutNode().AddObserver(
            vtk.vtkCommand.ModifiedEvent, self._makeViews
        )
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def layoutLogic(self):
        return self._layoutLogic

    @property
    def layout(self) -> int:
        return self._layoutLogic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._layoutLogic.GetLayoutNode().SetViewArrangement(layout)
        self._makeViews()

    def sliceViewNames(self) -> tuple:
        shown = self._layoutLogic.GetViewNodes()
        nodes = [shown.GetItemAsObject(index) for index in range(shown.GetNumberOfItems())]
        return tuple(node.GetLayoutName() for node in nodes if node.IsA("vtkMRMLSliceNode"))

    def sliceWidget(self, name: str) -> SliceWidget | None:
        if name not in self._sliceLogics:
            return None
        return self._sliceWidgets.setdefault(name, SliceWidget(self._sliceLogics[name]))

    def mrmlSliceLogics(self):
        return self._collection

    def resetSliceViews(self) -> None:
        for logic in self._sliceLogics.values():
            logic.FitSliceToBackground()

    def _makeViews(self, *_) -> None:
        names = self.sliceViewNames()
        made = [name for name in names if name not in self._sliceLogics]
        if len(names) > 4:
            QtCore.QTimer.singleShot(0, lambda: self._comeToRest(names, made))
        for name in names:
            if name not in self._sliceLogics:
                nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
                node = next(one for one in nodes if one.GetLayoutName() == name)
                node.SetDimensions(SIZE, SIZE, 1)
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._applicationLogic)
                logic.SetMRMLScene(self._scene)
                logic.SetSliceNode(node)
                self._sliceLogics[name] = logic
                self._collection.AddItem(logic)

    def _comeToRest(self, names, made) -> None:
        if slicer.app._layoutManager is not self:
            return
        for name in names:
            self._sliceLogics[name].ResizeSliceNode(*SIZE_OF_MANY)
        for name in made:
            logic = self._sliceLogics[name]
            logic.StartSliceOffsetInteraction()
            logic.SetSliceOffset(0.0)
            logic.EndSliceOffsetInteraction()

    def _close(self) -> None:
        self._layoutLogic.GetLayoutNode().RemoveObserver(self._tag)
        for logic in self._sliceLogics.values():
            logic.SetSliceNode(None)
            logic.SetMRMLScene(None)
        self._applicationLogic.SetSliceLogics(vtk.vtkCollection())
        for className in ("vtkMRMLSliceCompositeNode", "vtkMRMLSliceNode", "vtkMRMLSliceDisplayNode"):
            for node in slicer.util.getNodesByClass(className):
                self._scene.RemoveNode(node)
        self._layoutLogic.SetMRMLScene(None)


def openViews() -> LayoutManager:
    """From now on Slicer has views (Four-Up); `closeViews` takes them away again."""
    slicer.app._layoutManager = LayoutManager(slicer.mrmlScene, slicer.app.applicationLogic())
    return slicer.app._layoutManager


def closeViews() -> None:
    """Without views again, as with --no-main-window."""
    manager, slicer.app._layoutManager = slicer.app._layoutManager, None
    if manager is not None:
        manager._close()
