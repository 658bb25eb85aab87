"""`slicer.app` over Qt, and the parent widget in which Slicer shows a module."""

from __future__ import annotations

import tempfile

from PySide6 import QtCore, QtWidgets

from . import core
from .pythonqt import Connection, qtClass
from .widgets import qMRMLWidget


class _Signals(QtCore.QObject):
    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    moduleAboutToBeUnloaded = QtCore.Signal(str)


class _Connectable(core.Listed):
    """An object of the application with signals."""

    def connect(self, signature: str, slot) -> bool:
        name = signature.partition("(")[0]
        if name not in core.members(self._name).signals:
            print(f"{self._name}.connect: there is no signal {signature}")
            return False
        return getattr(self, name).connect(slot)

    def disconnect(self, signature: str, slot) -> bool:
        return getattr(self, signature.partition("(")[0]).disconnect(slot)


class _ModuleManager(_Connectable):
    _name = "slicer.app.moduleManager()"

    def __init__(self, signals: _Signals):
        self.moduleAboutToBeUnloaded = Connection(signals.moduleAboutToBeUnloaded)


class Application(_Connectable, core.Application):
    """`slicer.app` of a Slicer in testing mode, without main window."""

    def __init__(self, scene, logic):
        self._application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        super().__init__(scene, logic)
        # The settings of whoever runs this are theirs.
        self._settings = tempfile.TemporaryDirectory()
        settings = QtCore.QSettings
        settings.setDefaultFormat(settings.Format.IniFormat)
        settings.setPath(settings.Format.IniFormat, settings.Scope.UserScope, self._settings.name)
        self._signals = _Signals()
        self._manager = _ModuleManager(self._signals)
        self.startupCompleted = Connection(self._signals.startupCompleted)
        self.aboutToQuit = Connection(self._signals.aboutToQuit)

    def moduleManager(self) -> _ModuleManager:
        return self._manager

    def clipboard(self):
        return QtWidgets.QApplication.clipboard()

    def processEvents(self) -> None:
        self._application.processEvents()

    def setOverrideCursor(self, cursor) -> None:
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()


class ModulePanel(qMRMLWidget):
    """The parent that Slicer gives a module's widget."""

    def __init__(self):
        super().__init__()
        self.isEntered = False
        self.setLayout(qtClass("QVBoxLayout")())
