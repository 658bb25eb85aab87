"""Segmentations: as files in the scan's frame for the engine, new for a volume, and in Segment Editor."""

from __future__ import annotations

import os
from pathlib import Path

import slicer
from drmc.errors import InputError
from slicer.i18n import tr as _

from DRMCCoreLib.nodes import geometry
from DRMCCoreLib.nodes.names import fileName
from DRMCCoreLib.nodes.volumes import EngineInput

_LIMIT = "DRMC.Limit"  # of Segment Editor's parameters: their mask is one of ours


def lesionFile(lesions, volumeNode, folder: Path) -> EngineInput:
    """The file with the lesions of `volumeNode`, written into `folder` unless `lesions` is a file already.

    A segmentation keeps its segments' names, and segments that overlap; one that has only surfaces is put on
    the volume's grid. Where its parent transform is not the volume's, it is moved into the volume's frame; an
    acquisition transform (geometry.acquisitionTransform) counts for none. Raises InputError if there is
    nothing to measure.
    """
    if isinstance(lesions, (str, os.PathLike)):
        return EngineInput(Path(lesions))
    name = lesions.GetName() or "lesions"
    if lesions.IsA("vtkMRMLLabelMapVolumeNode"):
        return EngineInput(_writeLabelMap(lesions, volumeNode, folder / f"{fileName(name)}.nrrd"), name)
    if lesions.IsA("vtkMRMLSegmentationNode"):
        return EngineInput(
            _writeSegmentation(lesions, volumeNode, folder / f"{fileName(name)}.seg.nrrd"), name
        )
    raise InputError(f"'{name}' holds no lesions: choose a segmentation or a label map")


def _writeSegmentation(segmentationNode, volumeNode, path: Path) -> Path:
    segmentation = segmentationNode.GetSegmentation()
    if segmentation is None or segmentation.GetNumberOfSegments() == 0:
        raise InputError(f"'{segmentationNode.GetName()}' has no segment: draw one or choose no segmentation")
    copy = slicer.vtkMRMLSegmentationNode()
    copy.GetSegmentation().DeepCopy(segmentation)
    copy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    copy.CreateBinaryLabelmapRepresentation()
    copy.SetSourceRepresentationToBinaryLabelmap()
    transform = geometry.betweenFrames(segmentationNode, volumeNode, volumeNode)
    if transform is not None:
        copy.ApplyTransform(transform)
    return _write(copy, slicer.vtkMRMLSegmentationStorageNode(), path)


def _writeLabelMap(labelNode, volumeNode, path: Path) -> Path:
    if labelNode.GetImageData() is None:
        raise InputError(f"'{labelNode.GetName()}' holds no image: choose a label map with lesions")
    if geometry.betweenFrames(labelNode, volumeNode, volumeNode) is not None:
        raise InputError(
            f"'{labelNode.GetName()}' is not under the same transform as '{volumeNode.GetName()}': import it "
            "into a segmentation (module Segmentations) and choose that"
        )
    try:
        geometry.imageFromNode(labelNode)
    except ValueError as error:
        raise InputError(f"'{labelNode.GetName()}': {error}") from error
    copy = slicer.vtkMRMLLabelMapVolumeNode()
    copy.CopyOrientation(labelNode)
    copy.SetAndObserveImageData(labelNode.GetImageData())
    return _write(copy, slicer.vtkMRMLVolumeArchetypeStorageNode(), path)


def _write(node, storage, path: Path) -> Path:
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise InputError(f"{path}: the lesions cannot be written there: is the disk full?")
    return path


def newSegmentation(volumeNode, name: str = ""):
    """An empty segmentation on the volume's grid and under its transform, for lesions unless it is named."""
    name = name or _("Lesions of {volume}").format(volume=volumeNode.GetName())
    name = slicer.mrmlScene.GenerateUniqueName(name)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return node


def openSegmentEditor(segmentationNode, volumeNode, least: float | None = None) -> None:
    """Sets the segmentation and its volume in the module Segment Editor, and shows it in a main window.

    `least`: what is drawn is limited to voxels of at least this value, in the volume's own unit. Without it
    the limit of an earlier call ends: it would silently hold for other segments, too.
    """
    tag, className = "SegmentEditor", "vtkMRMLSegmentEditorNode"
    editor = slicer.mrmlScene.GetSingletonNode(tag, className)
    if editor is None:
        editor = slicer.mrmlScene.CreateNodeByClass(className)
        editor.UnRegister(None)
        editor.SetSingletonTag(tag)
        editor = slicer.mrmlScene.AddNode(editor)
    editor.SetAndObserveSegmentationNode(segmentationNode)
    editor.SetAndObserveSourceVolumeNode(volumeNode)
    if least is not None:
        editor.SetSourceVolumeIntensityMask(True)
        top = float(volumeNode.GetImageData().GetScalarRange()[1])
        editor.SetSourceVolumeIntensityMaskRange(least, max(least, top))
        editor.SetAttribute(_LIMIT, "yes")
    elif editor.GetAttribute(_LIMIT):
        editor.SetSourceVolumeIntensityMask(False)
        editor.SetAttribute(_LIMIT, None)
    if slicer.app.layoutManager() is not None:
        slicer.util.selectModule("SegmentEditor")
