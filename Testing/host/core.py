"""slicer-core's MRML scene with the logics that the tests need, as Slicer starts them. Needs no Qt."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import slicer
import vtk

LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
}


def makeScene():
    """The scene, the application logic, and the logics of modules by name."""
    verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(
        vtk.vtkLogger.VERBOSITY_OFF
    )  # it misses terminology files that are not in the wheel
    scene = slicer.vtkMRMLScene()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    cache = slicer.vtkCacheManager()
    folder = tempfile.mkdtemp(prefix="slicer-stand-in-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    cache.SetRemoteCacheDirectory(folder)
    manager = slicer.vtkDataIOManager()
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetModuleLogic("Colors", logic.GetColorLogic())
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    logics = {}
    for name, className in LOGICS.items():
        logics[name] = getattr(slicer, className)()
        logics[name].SetMRMLScene(scene)
        logics[name].SetMRMLApplicationLogic(logic)
        logic.SetModuleLogic(name, logics[name])
    vtk.vtkLogger.SetStderrVerbosity(verbosity)
    return scene, logic, logics


API = json.loads((Path(__file__).parent / "pythonqt_api.json").read_text(encoding="utf-8"))


class Members(NamedTuple):
    """What a class offers, its base classes' members included."""

    name: str
    properties: frozenset[str]
    methods: frozenset[str]
    signals: frozenset[str]
    values: frozenset[str]


@cache
def members(name: str) -> Members:
    """The members of a class by its name in pythonqt_api.json, e.g. `qt.QLabel`."""
    own = API["classes"][name]
    base = members(own["inherits_members_of"]) if "inherits_members_of" in own else None
    parts = []
    for index, key in enumerate(("properties", "methods", "signals", "enum_values"), start=1):
        parts.append(frozenset(own.get(key, ())) | (base[index] if base else frozenset()))
    return Members(name, *parts)


def refuse(name: str, member: str) -> AttributeError:
    """The error for a member that the real class does not have."""
    return AttributeError(f"{name} has no '{member}' in a real Slicer (pythonqt_api.json)")


class Listed:
    """An object of the application; what is not in the list raises AttributeError."""

    _name = ""

    def __getattr__(self, name: str):
        listed = members(self._name)
        if name in listed.properties | listed.methods | listed.signals | listed.values:
            raise NotImplementedError(f"the stand-in does not offer {self._name}.{name} yet")
        raise refuse(self._name, name)


class Application(Listed):
    """`slicer.app` in testing mode, without main window and without Qt."""

    _name = "slicer.app"
    applicationName = "Slicer"
    revision = "0"

    def __init__(self, scene, logic):
        self._scene, self._logic = scene, logic
        self._options = SimpleNamespace(runPythonAndExit=True)
        self._exitCode: int | None = None
        self._layoutManager = None  # host.views gives one
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-stand-in-")
        self.temporaryPath = self._folder.name

    def testingEnabled(self) -> bool:
        return True

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._logic

    def layoutManager(self):
        return self._layoutManager

    def coreIOManager(self):
        from .files import CoreIOManager

        return CoreIOManager()

    def connect(self, signature: str, slot) -> bool:
        return True  # nothing is emitted without Qt

    def processEvents(self) -> None:
        pass

    def commandOptions(self) -> SimpleNamespace:
        return self._options

    def exit(self, code: int = 0) -> None:
        self._exitCode = code
