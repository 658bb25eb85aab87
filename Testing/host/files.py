"""`slicer.app.coreIOManager()`: reads the kinds of files that the tests load, with the real storage nodes."""

from __future__ import annotations

from pathlib import Path

import slicer

from . import core

KINDS = {
    "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
}


class CoreIOManager(core.Listed):
    """Reads volumes and segmentations."""

    _name = "slicer.app.coreIOManager()"

    def loadNodes(self, fileType: str, properties: dict, loaded=None, messages=None) -> bool:
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
