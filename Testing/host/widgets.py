"""The stand-in's own widgets: the ctk and qMRML classes of the panels, as far as the tests need them."""

from __future__ import annotations

import functools
from typing import Any

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .plots import PLOTS
from .pythonqt import offered, raw

HEADER_HEIGHT = 22
Strings = "QStringList"


def plain(kind: str | type, name: str, default: Any) -> QtCore.Property:
    """A property that a .ui file may set and that nothing else depends on."""
    return QtCore.Property(
        kind,
        lambda self: getattr(self, f"_{name}", default),
        lambda self, value: setattr(self, f"_{name}", value),
    )


@offered("ctk.ctkCollapsibleButton")
class ctkCollapsibleButton(QtWidgets.QWidget):
    """A titled section that folds: then its children are hidden, and it is as high as its title."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self._unfolded: list[QtWidgets.QWidget] = []  # what was shown when it was folded
        raw(self).setContentsMargins(0, HEADER_HEIGHT, 0, 0)

    def setText(self, text: str) -> None:
        self._text = text
        raw(self).update()

    def _setCollapsed(self, collapsed: bool) -> None:
        if bool(collapsed) == self._collapsed:
            return
        self._collapsed = bool(collapsed)
        raw(self).setMaximumHeight(HEADER_HEIGHT if self._collapsed else 16777215)
        if self._collapsed:
            children = [one for one in raw(self).children() if isinstance(one, QtWidgets.QWidget)]
            self._unfolded = [one for one in children if not QtWidgets.QWidget.isHidden(one)]
        for one in self._unfolded:
            QtWidgets.QWidget.setVisible(one, not self._collapsed)
        raw(self).contentsCollapsed.emit(self._collapsed)

    def mousePressEvent(self, event) -> None:
        if event.position().y() <= HEADER_HEIGHT:
            self._setCollapsed(not self._collapsed)

    def paintEvent(self, event) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(0, 0, raw(self).width(), HEADER_HEIGHT, raw(self).palette().button())
        painter.drawText(8, 16, ("\u25b8 " if self._collapsed else "\u25be ") + self._text)
        painter.end()

    text = QtCore.Property(str, lambda self: self._text, setText)
    collapsedHeight = plain(int, "collapsedHeight", 10)
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _setCollapsed)


@offered("ctk.ctkPathLineEdit")
class ctkPathLineEdit(QtWidgets.QWidget):
    """A line edit with a path."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        self._edit.textChanged.connect(raw(self).currentPathChanged.emit)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        pass

    currentPath = QtCore.Property(str, lambda self: self._edit.text(), setCurrentPath)
    nameFilters = plain(Strings, "nameFilters", [])
    settingKey = plain(str, "settingKey", "")
    filters = plain(int, "filters", 0)


@offered("ctk.ctkSliderWidget")
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box beside it, both for a float."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._spin = QtWidgets.QDoubleSpinBox()
        self._slider.valueChanged.connect(self._onSlider)
        self._spin.valueChanged.connect(self._onSpin)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        raw(self).setFocusProxy(self._slider)
        self._onRange()

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)
        self._onRange()

    def _setMinimum(self, value: float) -> None:
        self._spin.setMinimum(value)
        self._onRange()

    def _setMaximum(self, value: float) -> None:
        self._spin.setMaximum(value)
        self._onRange()

    def _onRange(self) -> None:
        scale = 10 ** self._spin.decimals()
        self._slider.setRange(round(self._spin.minimum() * scale), round(self._spin.maximum() * scale))

    def _onSlider(self, value: int) -> None:
        self._spin.setValue(value / 10 ** self._spin.decimals())

    def _onSpin(self, value: float) -> None:
        before = self._slider.blockSignals(True)
        self._slider.setValue(round(value * 10 ** self._spin.decimals()))
        self._slider.blockSignals(before)
        raw(self).valueChanged.emit(value)

    value = QtCore.Property(float, lambda self: self._spin.value(), setValue)
    decimals = QtCore.Property(int, lambda self: self._spin.decimals(), setDecimals)
    minimum = QtCore.Property(float, lambda self: self._spin.minimum(), _setMinimum)
    maximum = QtCore.Property(float, lambda self: self._spin.maximum(), _setMaximum)
    singleStep = plain(float, "singleStep", 1.0)
    pageStep = plain(float, "pageStep", 1.0)


@offered("slicer.qMRMLWidget")
class qMRMLWidget(QtWidgets.QWidget):
    """A widget that passes its scene to the widgets inside it."""

    mrmlSceneChanged = QtCore.Signal(object)

    def mrmlScene(self):
        return getattr(self, "_scene", None)

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        raw(self).mrmlSceneChanged.emit(scene)


def _whileAlive(slot):
    """Decorator: a widget that Qt has deleted ignores the events of the scene."""

    @functools.wraps(slot)
    def called(self, *arguments):
        return slot(self, *arguments) if shiboken6.isValid(self) else None

    return called


@offered("slicer.qMRMLNodeComboBox")
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A choice of the scene's nodes of some classes, and of none where that is allowed.

    Signals come when they come in Slicer: rows follow each node that is added, removed or renamed, and all
    are taken away and put back, so that the choice is lost, when an import or the closing of a scene has
    ended. While a scene is imported no node can be chosen that it brings. Where the chosen row goes away, its
    neighbor is chosen.
    """

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._rows, self._index, self._observations = None, [], -1, []
        self._watched: dict[str, tuple] = {}
        self._combo = QtWidgets.QComboBox()
        self._combo.activated.connect(self._choose)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)

    nodeTypes = plain(Strings, "nodeTypes", [])
    showChildNodeTypes = plain(bool, "showChildNodeTypes", True)
    showHidden = plain(bool, "showHidden", False)
    noneEnabled = plain(bool, "noneEnabled", False)
    noneDisplay = plain(str, "noneDisplay", "")
    addEnabled = plain(bool, "addEnabled", True)
    removeEnabled = plain(bool, "removeEnabled", True)
    editEnabled = plain(bool, "editEnabled", False)
    renameEnabled = plain(bool, "renameEnabled", False)
    baseName = plain(str, "baseName", "")
    selectNodeUponCreation = plain(bool, "selectNodeUponCreation", True)
    currentNodeID = QtCore.Property(
        str,
        lambda self: "" if self.currentNode() is None else self.currentNode().GetID(),
        lambda self, value: self.setCurrentNodeID(value),
    )

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        for tag in self._observations:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._observations = [
            scene.AddObserver(event, slot)
            for event, slot in (
                (scene.NodeAddedEvent, self._onNodeAdded),
                (scene.NodeAboutToBeRemovedEvent, self._onNodeRemoved),
                (scene.EndImportEvent, self._onSceneReplaced),
                (scene.EndCloseEvent, self._onSceneReplaced),
            )
        ]
        self._fill()

    def nodeCount(self) -> int:
        return len(self._rows)

    def currentNode(self):
        return self._nodeAt(self._index)

    def setCurrentNode(self, node) -> None:
        self.setCurrentNodeID("" if node is None else node.GetID())

    def setCurrentNodeID(self, nodeID: str) -> None:
        if nodeID in self._rows:
            self._choose(self._rows.index(nodeID) + self._first())
        else:
            self._choose(0 if self._first() else -1)

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        """Only nodes of that class that have the attribute are offered; a new node gets it."""
        self._attributes = [*getattr(self, "_attributes", []), (nodeType, name, value)]
        if self._scene is not None:
            self._fill()

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        pass

    def addNode(self, *_):
        node = self._scene.CreateNodeByClass(self._nodeTypes[0])
        node.UnRegister(None)
        for nodeType, name, value in getattr(self, "_attributes", []):
            if node.IsA(nodeType):
                node.SetAttribute(name, value or "")
        node.SetName(self._scene.GenerateUniqueName(getattr(self, "_baseName", "") or node.GetNodeTagName()))
        node = self._scene.AddNode(node)
        self.setCurrentNode(node)
        return node

    # ---- which nodes are offered

    def _isOfType(self, node) -> bool:
        children = getattr(self, "_showChildNodeTypes", True)
        return any(
            node.IsA(one) if children else node.GetClassName() == one
            for one in getattr(self, "_nodeTypes", [])
        )

    def _fits(self, node) -> bool:
        return (
            self._isOfType(node)
            and (getattr(self, "_showHidden", False) or not node.GetHideFromEditors())
            and all(
                node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
                for nodeType, name, value in getattr(self, "_attributes", [])
                if node.IsA(nodeType)
            )
        )

    def _sceneNodes(self) -> list:
        nodes = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in nodes if self._isOfType(node)]

    # ---- what the scene does

    @vtk.calldata_type(vtk.VTK_OBJECT)
    @_whileAlive
    def _onNodeAdded(self, caller, event, node) -> None:
        if not self._scene.IsImporting() and self._isOfType(node):
            self._watch(node)
            self._onNodeModified(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    @_whileAlive
    def _onNodeRemoved(self, caller, event, node) -> None:
        if not self._scene.IsClosing() and node.GetID() in self._rows:
            self._removeRow(node.GetID())

    @_whileAlive
    def _onSceneReplaced(self, caller, event) -> None:
        present = self._scene.IsNodePresent  # a selector of Slicer keeps no other node alive
        self._watched = {key: kept for key, kept in self._watched.items() if present(kept[0])}
        self._rows = []
        self._onRowsRemoved(self._index)
        self._fill()

    def _watch(self, node) -> None:
        if node.GetID() not in self._watched or self._watched[node.GetID()][0] is not node:
            tag = node.AddObserver(
                vtk.vtkCommand.ModifiedEvent, lambda caller, _event: self._onNodeModified(caller)
            )
            self._watched[node.GetID()] = node, tag

    @_whileAlive
    def _onNodeModified(self, node) -> None:
        """The node is offered from now on, or no longer, or has another name."""
        if self._scene.IsClosing() or self._scene.IsImporting() or not self._scene.IsNodePresent(node):
            return
        if self._fits(node) and node.GetID() not in self._rows:
            wasEmpty, chosen = not self._count(), self.currentNode()
            self._rows = [
                one.GetID() for one in self._sceneNodes() if one.GetID() in (*self._rows, node.GetID())
            ]
            if wasEmpty:
                self._choose(0)
            elif chosen is not None:
                self._index = self._rows.index(chosen.GetID()) + self._first()
            self._show()
        elif node.GetID() in self._rows and not self._fits(node):
            self._removeRow(node.GetID())
        elif node.GetID() in self._rows:
            row = self._rows.index(node.GetID()) + self._first()
            if self._combo.itemText(row) != node.GetName():
                self._show()
                if row == self._index:
                    self._emit()

    def _fill(self) -> None:
        for node in self._sceneNodes():
            self._watch(node)
            self._onNodeModified(node)
        if self._index < 0 and self._first():
            self._index = 0
        self._show()

    def _removeRow(self, nodeID: str) -> None:
        row = self._rows.index(nodeID) + self._first()
        self._rows.remove(nodeID)
        if row == self._index:
            self._onRowsRemoved(row)
        elif row < self._index:
            self._index -= 1
            self._emit()
        self._show()

    def _onRowsRemoved(self, row: int) -> None:
        """The chosen row is gone: QComboBox takes its neighbor, whatever that is."""
        self._show()
        if row >= 0:
            self._index = min(self._count() - 1, row)
            self._emit()
        if self.currentNode() is None:
            self._choose(0 if self._first() else -1)

    # ---- rows: none, the nodes, a separator and the actions

    def _first(self) -> int:
        """The row of the first node."""
        return 1 if getattr(self, "_noneEnabled", False) else 0

    def _count(self) -> int:
        actions = sum(
            getattr(self, f"_{name}Enabled", default)
            for name, default in (("add", True), ("remove", True), ("edit", False), ("rename", False))
        )
        return self._first() + len(self._rows) + (actions + 1 if actions else 0)

    def _nodeAt(self, index: int):
        row = index - self._first()
        return self._scene.GetNodeByID(self._rows[row]) if 0 <= row < len(self._rows) else None

    def _show(self) -> None:
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        if self._first():
            self._combo.addItem(getattr(self, "_noneDisplay", "") or "None")
        for nodeID in self._rows:
            self._combo.addItem(self._scene.GetNodeByID(nodeID).GetName())
        self._combo.setCurrentIndex(self._index)
        self._combo.blockSignals(blocked)

    def _choose(self, index: int) -> None:
        if index != self._index:
            self._index = index
            self._show()
            self._emit()

    def _emit(self) -> None:
        node = self.currentNode()
        if node is None and self._index != (0 if self._first() else -1):
            if self._rows:  # an action's row: the last node is chosen in its place
                self._choose(len(self._rows) - 1 + self._first())
            return
        raw(self).currentNodeChanged.emit(node)


@offered("slicer.qMRMLTableView")
class qMRMLTableView(QtWidgets.QWidget):
    """The cells of a table node."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._table = QtWidgets.QTableWidget()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        raw(self).mrmlSceneChanged.emit(scene)

    def mrmlTableNode(self):
        return getattr(self, "_node", None)

    def setMRMLTableNode(self, node) -> None:
        self._node = node
        table = None if node is None else node.GetTable()
        rows, columns = (0, 0) if table is None else (table.GetNumberOfRows(), table.GetNumberOfColumns())
        self._table.clear()
        self._table.setRowCount(rows)
        self._table.setColumnCount(columns)
        self._table.setHorizontalHeaderLabels([table.GetColumnName(column) for column in range(columns)])
        for column in range(columns):
            for row in range(rows):
                cell = QtWidgets.QTableWidgetItem(table.GetValue(row, column).ToString())
                self._table.setItem(row, column, cell)

    transposed = plain(bool, "transposed", False)
    firstRowLocked = plain(bool, "firstRowLocked", False)
    firstColumnLocked = plain(bool, "firstColumnLocked", False)


CTK = {
    "ctkCollapsibleButton": ctkCollapsibleButton,
    "ctkPathLineEdit": ctkPathLineEdit,
    "ctkSliderWidget": ctkSliderWidget,
}
SLICER = {
    **PLOTS,
    "qMRMLWidget": qMRMLWidget,
    "qMRMLNodeComboBox": qMRMLNodeComboBox,
    "qMRMLTableView": qMRMLTableView,
}
assert slicer.vtkMRMLScene  # the scene and its nodes are the real ones
