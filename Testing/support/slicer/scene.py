"""Images and MRML nodes for the tests of the modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SUV = "{SUVbw}g/ml"


def phantom(shape=(12, 24, 22), seed: int = 0) -> np.ndarray:
    """A noisy ellipsoid of SUV 2 with a hot sphere, float32 (z, y, x)."""
    middle = (np.array(shape) - 1) / 2
    grid = (np.indices(shape) - middle[:, None, None, None]) / (middle[:, None, None, None] + 0.5)
    array = 2.0 * (np.hypot(grid[1], grid[2]) < 0.8) + 6.0 * (np.linalg.norm(grid, axis=0) < 0.35)
    return (array + np.random.default_rng(seed).normal(0, 0.3, shape)).astype(np.float32)


def oblique() -> np.ndarray:
    """IJK to RAS, 4 x 4: anisotropic voxels, turned about two axes."""
    a, b = 0.3, -0.2
    aboutZ = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    aboutX = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = aboutZ @ aboutX * np.array([3.1, 2.7, 4.25])
    matrix[:3, 3] = [-41.5, 17.25, 803.125]
    return matrix


def loadVolume(slicer, path: Path):
    logic = slicer.modules.volumes.logic()
    return logic.AddArchetypeVolume(str(path), path.name.partition(".")[0])


def loadSeries(slicer, files: list[Path], name: str = "DICOM PET"):
    """A DICOM series, loaded with ITK as Slicer does."""
    import vtk

    names = vtk.vtkStringArray()
    for path in files:
        names.InsertNextValue(str(path))
    return slicer.modules.volumes.logic().AddArchetypeScalarVolume(str(files[0]), name, 0, names)


def volumeNode(slicer, array, matrix=None, name="PET", units=None):
    node = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, name=name)
    if units is not None:
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(units, "UCUM", units)
        node.SetVoxelValueUnits(entry)
    return node


def segmentationNode(slicer, volume, masks: dict[str, np.ndarray], name="Lesions"):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for segment, mask in masks.items():
        identifier = segmentation.GetSegmentation().AddEmptySegment("", segment)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), segmentation, identifier, volume
        )
    return segmentation


def matrixOf(slicer, node) -> np.ndarray:
    from DRMCCoreLib.nodes import geometry

    return geometry.nodeMatrix(node)


def nodeIDs(slicer) -> set[str]:
    scene = slicer.mrmlScene
    return {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}


class Database:
    """What the modules ask of slicer.dicomDatabase."""

    isOpen = True

    def __init__(self, files: list[Path]):
        self.files: dict[str, str] = {}
        self.series: dict[str, list[str]] = {}
        for path in files:
            self.add(path)

    def add(self, path: Path) -> None:
        """Takes a file, as an indexer does."""
        from pydicom import dcmread

        header = dcmread(path, stop_before_pixels=True)
        self.files[str(header.SOPInstanceUID)] = str(path)
        self.series.setdefault(str(header.SeriesInstanceUID), []).append(str(path))

    def filesForSeries(self, uid: str) -> tuple[str, ...]:
        return tuple(self.series.get(uid, ()))

    def removeSeries(self, uid: str) -> bool:
        return self.series.pop(uid, None) is not None

    def fileForInstance(self, uid: str) -> str:
        return self.files.get(uid, "")


def pair(slicer, factor: float = 1.0):
    """An original and a smoother volume on a straight grid about the origin, 2 mm, with their SUV factor."""
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = -20.0
    original = phantom((20, 20, 20))
    denoised = (original + phantom((20, 20, 20), seed=1)) / 2
    units = SUV if factor == 1 else "Bq/ml"
    nodes = [
        volumeNode(slicer, array / np.float32(factor), matrix, name, units)
        for array, name in ((original, "PET"), (denoised, "PET denoised"))
    ]
    nodes[1].SetAttribute("DRMC.SUVFactor", repr(factor))
    nodes[1].SetNodeReferenceID("DRMC.Input", nodes[0].GetID())
    return nodes


def readVolume(one):
    """What the engine reads for a node."""
    from drmc.pet.reading import read_volume

    return read_volume(one.path, voxels=one.voxels, label=one.label)
