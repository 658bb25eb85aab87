"""Slicer's main window as scripts see it: modules are selected by name, one at a time, with views."""

from __future__ import annotations

import sys

import slicer
from PySide6 import QtWidgets

from . import closeWidget, openWidget, sampledata, views
from .application import ModulePanel
from .pythonqt import qtClass

MODULE_PANEL = 415, 640  # pixels


class SampleDataWidget:
    """The panel of Sample Data: a button for each source, which its own downloader follows."""

    def __init__(self):
        self.parent = ModulePanel()
        for sources in slicer.modules.sampleDataSources.values():
            for source in sources:
                self._addButton(source)

    def _addButton(self, source) -> None:
        import qt

        button = qt.QPushButton(source.sampleName)
        button.setObjectName(f"{source.sampleName}PushButton")
        button.clicked.connect(lambda: source.customDownloader(source))
        QtWidgets.QWidget.layout(self.parent).addWidget(button)


class MainWindow:
    """While it is open, `slicer.util` knows a main window; closed, all is as before."""

    def __init__(self):
        self._widgets: dict[str, object] = {}
        self._selected = ""
        self._kept = {
            name: getattr(slicer.util, name) for name in ("mainWindow", "selectModule", "getModuleWidget")
        }
        self._window, self._area = qtClass("QWidget")(), qtClass("QScrollArea")()
        self._area.setObjectName("ScrollArea")  # of the module panel, as high as in a window of 1,000 pixels
        self._area.setParent(self._window)
        self._area.setWidgetResizable(True)
        self._area.setFixedSize(*MODULE_PANEL)
        slicer.util.mainWindow = lambda: self._window
        slicer.util.selectModule = self._select
        slicer.util.getModuleWidget = lambda name: self._widgets[name]
        slicer.modules.sampleDataSources = {}
        sys.modules["SampleData"] = sampledata.module()
        slicer.app._signals.startupCompleted.emit()
        views.openViews()

    def _select(self, name: str) -> None:
        """Leaves the present module and enters another, whose panel is set up when it is entered first."""
        if name == self._selected:
            return
        left = self._widgets.get(self._selected)
        self._area.takeWidget()
        if left is not None and hasattr(left, "exit"):
            left.parent.isEntered = False
            left.exit()
        self._selected = name
        if name in self._widgets:
            entered = self._widgets[name]
            if hasattr(entered, "enter"):
                entered.parent.isEntered = True
                entered.enter()
        else:
            self._widgets[name] = (
                SampleDataWidget() if name == "SampleData" else openWidget(sys.modules[name], name)
            )

        self._area.setWidget(self._widgets[name].parent)
        self._window.show()

    def close(self) -> None:
        self._area.takeWidget()
        for name, widget in self._widgets.items():
            if name != "SampleData":
                closeWidget(widget)
        views.closeViews()
        for name, function in self._kept.items():
            setattr(slicer.util, name, function)
        del slicer.modules.sampleDataSources, sys.modules["SampleData"]
