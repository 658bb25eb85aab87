"""`slicer.app.coreIOManager()`: reads the kinds of files that the tests load, with the real storage nodes."""

from __future__ import annotations

import typing
from pathlib import Path

import slicer

from . import core

KINDS = {
    "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
}


class ScriptedFileReader:
    """The parent that Slicer gives a scripted reader."""

    def __init__(self):
        self.loadedNodes: list[str] = []
        self._messages = slicer.vtkMRMLMessageCollection()
        self._reader: typing.Any = None

    def userMessages(self):
        return self._messages

    def _load(self, properties: dict, loaded) -> bool:
        self.loadedNodes = []
        if self._reader.canLoadFileConfidence(properties["fileName"]) <= 0 or not self._reader.load(
            properties
        ):
            return False
        for nodeID in self.loadedNodes if loaded is not None else ():
            loaded.AddItem(slicer.mrmlScene.GetNodeByID(nodeID))
        return True


class CoreIOManager(core.Listed):
    """Reads volumes and segmentations, and what the scripted readers of modules know."""

    _name = "slicer.app.coreIOManager()"
    _readers: typing.ClassVar[dict[str, typing.Any]] = {}  # by their type of file

    @classmethod
    def _register(cls, readerClass) -> None:
        """What Slicer does with the class MODULEFileReader of a module's file."""
        parent = ScriptedFileReader()
        parent._reader = readerClass(parent)
        cls._readers[parent._reader.fileType()] = parent

    def fileType(self, path: str) -> str:
        """The type whose reader is the most confident."""
        kinds = {kind: one._reader.canLoadFileConfidence(path) for kind, one in self._readers.items()}
        kinds["SegmentationFile" if path.endswith(".seg.nrrd") else "VolumeFile"] = 0.5
        return max(kinds, key=kinds.get)

    def saveNodes(self, fileType: str, properties: dict, messages=None) -> bool:
        """Saves the scene with all its data, as a bundle."""
        if fileType != "SceneFile" or not properties["fileName"].endswith(".mrb"):
            raise NotImplementedError(f"the stand-in does not save {properties['fileName']}")
        return bool(slicer.mrmlScene.WriteToMRB(properties["fileName"], None))

    def loadNodes(self, fileType: str, properties: dict, loaded=None, messages=None) -> bool:
        if fileType == "SceneFile":
            return bool(slicer.mrmlScene.ReadFromMRB(properties["fileName"], True))
        if fileType in self._readers:
            return self._readers[fileType]._load(properties, loaded)
        className, storageName = KINDS[fileType]
        path = Path(properties["fileName"])
        storage = slicer.mrmlScene.AddNewNodeByClass(storageName)
        storage.SetFileName(str(path))
        name = properties.get("name", path.name.partition(".")[0])
        node = slicer.mrmlScene.AddNewNodeByClass(className, slicer.mrmlScene.GenerateUniqueName(name))
        node.SetAndObserveStorageNodeID(storage.GetID())
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            slicer.mrmlScene.RemoveNode(storage)
            return False
        node.CreateDefaultDisplayNodes()
        if loaded is not None:
            loaded.AddItem(node)
        return True
