"""The stand-in's own widgets: the ctk and qMRML classes that the panels use, as far as the tests need them."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

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
    """A titled section that folds."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._text, self._collapsed = "", False
        raw(self).setContentsMargins(0, HEADER_HEIGHT, 0, 0)

    def setText(self, text: str) -> None:
        self._text = text
        raw(self).update()

    def _setCollapsed(self, collapsed: bool) -> None:
        self._collapsed = bool(collapsed)
        raw(self).setMaximumHeight(HEADER_HEIGHT if self._collapsed else 16777215)
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
    """A widget that hands its scene to the widgets inside it."""

    mrmlSceneChanged = QtCore.Signal(object)

    def mrmlScene(self):
        return getattr(self, "_scene", None)

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        raw(self).mrmlSceneChanged.emit(scene)


@offered("slicer.qMRMLNodeComboBox")
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A choice of the scene's nodes of some classes, and of none where that is allowed."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._nodeID, self._observations = None, "", []
        self._combo = QtWidgets.QComboBox()
        self._combo.activated.connect(self._onActivated)
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
        str, lambda self: self._nodeID, lambda self, value: self.setCurrentNodeID(value)
    )

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        for tag in self._observations:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._observations = [
            scene.AddObserver(event, self._onSceneChanged)
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
        ]
        self._refresh()

    def nodeCount(self) -> int:
        return len(self._nodes())

    def currentNode(self):
        return self._scene.GetNodeByID(self._nodeID) if self._scene is not None and self._nodeID else None

    def setCurrentNode(self, node) -> None:
        self._choose("" if node is None else node.GetID())

    def setCurrentNodeID(self, nodeID: str) -> None:
        self._choose(nodeID or "")

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        """Only nodes of that class that have the attribute are offered; a new node gets it."""
        self._attributes = [*getattr(self, "_attributes", []), (nodeType, name, value)]
        self._refresh()

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

    def _nodes(self) -> list:
        if self._scene is None:
            return []
        found = []
        for index in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(index)
            children = getattr(self, "_showChildNodeTypes", True)
            fits = any(
                node.IsA(one) if children else node.GetClassName() == one
                for one in getattr(self, "_nodeTypes", [])
            )
            for nodeType, name, value in getattr(self, "_attributes", []):
                if node.IsA(nodeType):
                    fits = (
                        fits
                        and node.GetAttribute(name) is not None
                        and value in (None, node.GetAttribute(name))
                    )
            if fits and (getattr(self, "_showHidden", False) or not node.GetHideFromEditors()):
                found.append(node)
        return found

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onSceneChanged(self, caller, event, node=None) -> None:
        self._refresh()

    def _refresh(self) -> None:
        nodes = self._nodes()
        self._combo.clear()
        if getattr(self, "_noneEnabled", False) or not nodes:
            self._combo.addItem(getattr(self, "_noneDisplay", "") or "None", "")
        for node in nodes:
            self._combo.addItem(node.GetName(), node.GetID())
        known = {node.GetID() for node in nodes}
        wanted = self._nodeID if self._nodeID in known else ""
        if not wanted and nodes and not getattr(self, "_noneEnabled", False):
            wanted = nodes[0].GetID()
        self._choose(wanted)

    def _choose(self, nodeID: str) -> None:
        if nodeID and self._combo.findData(nodeID) < 0 and nodeID in {one.GetID() for one in self._nodes()}:
            self._nodeID = nodeID  # its attributes fit by now
            self._refresh()
            return
        self._combo.setCurrentIndex(max(0, self._combo.findData(nodeID)))
        if nodeID != self._nodeID:
            self._nodeID = nodeID
            raw(self).currentNodeChanged.emit(self.currentNode())

    def _onActivated(self, index: int) -> None:
        self._choose(self._combo.itemData(index) or "")


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
    "qMRMLWidget": qMRMLWidget,
    "qMRMLNodeComboBox": qMRMLNodeComboBox,
    "qMRMLTableView": qMRMLTableView,
}
assert slicer.vtkMRMLScene  # the scene and its nodes are the real ones
