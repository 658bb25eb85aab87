"""A tiny model of organs, and the labeled torso in the scene, for the tests of DRMC Segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.engine.labeled_torso import GEOMETRY, labeled_torso, write_torso
from support.slicer.scene import loadVolume, segmentationNode

MODEL = "tinyorgans"


def writeOrganModel(folder: Path) -> None:
    """Writes a model of organs with random weights, the only one of the folder; torch is needed."""
    import torch
    from drmc.models.weights import save_model
    from drmc.networks.organ_unet import OrganUNet

    from support.engine.small_organs import TINY_UNET

    with torch.random.fork_rng():
        torch.manual_seed(4)
        save_model(folder / f"{MODEL}.pt", OrganUNet(TINY_UNET), 16, {"task": "organs", "title": "Tiny"})


def loadTorso(slicer, folder: Path):
    """The torso as a volume of a file, the paths of its files, and its organs as a segmentation."""
    paths = write_torso(folder)
    volume = loadVolume(slicer, paths["scan"])
    organs = segmentationNode(slicer, volume, onNode(volume, labeled_torso()[1]), "Organs")
    return volume, paths, organs


def onNode(volume, masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks of the engine's grid in the order of the node's voxels."""
    from DRMCCoreLib.nodes import geometry

    matrix = geometry.imageMatrix(GEOMETRY.spacing, GEOMETRY.origin, GEOMETRY.direction)
    return {name: geometry.onNodeGrid(mask.astype(np.uint8), matrix, volume) for name, mask in masks.items()}
