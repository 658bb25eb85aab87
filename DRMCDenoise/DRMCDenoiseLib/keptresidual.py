"""The residual that a run has left in the scene, for the denoised volume at another strength.

Beside the denoised volume lie a volume with the residual at full strength, in the scan's own units, and a
text with what else the network gave (drmc.denoising.kept_residual). Both are saved with the scene.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from drmc.errors import DRMCError
from drmc.pet.strength import add_residual
from DRMCCoreLib.nodes.names import INPUT_REFERENCE, INTENDED_USE, STRENGTH_ATTRIBUTE
from DRMCCoreLib.nodes.suvunits import copyUnits
from slicer.i18n import tr as _

REFERENCE, RUN_REFERENCE = "DRMC.KeptResidual", "DRMC.KeptRun"
_ARGUMENTS = "DRMC.Arguments"  # how the run has read the scan, where its voxels alone do not suffice
_READING = "DRMC.Reading"  # how the run has read the scan, from its source


@dataclass(frozen=True)
class Kept:
    """The nodes of a denoised volume: the scan, the residual, and the text about the run."""

    original: Any
    residual: Any
    run: Any

    @property
    def arguments(self) -> dict[str, Any]:
        """How to read the scan as the run did, for `DenoiseJob.start`."""
        text = self.run.GetAttribute(_ARGUMENTS)
        if text:
            return json.loads(text)
        return {"suv": float(json.loads(self.run.GetText())["scan"]["suv"]["factor"])}

    @property
    def reading(self) -> dict[str, Any]:
        """How to read the scan from its source, for `DenoiseJob.start`; {} in scenes of earlier versions."""
        return json.loads(self.run.GetAttribute(_READING) or "{}")


def keptOf(outputVolume) -> Kept | None:
    """What a run has kept of a denoised volume; None where there is nothing or the scan is gone."""
    if outputVolume is None or outputVolume.GetImageData() is None:
        return None
    original, residual = (outputVolume.GetNodeReference(name) for name in (INPUT_REFERENCE, REFERENCE))
    run = None if residual is None else residual.GetNodeReference(RUN_REFERENCE)
    if original is None or run is None or not run.GetText():
        return None
    sizes = {
        node.GetImageData().GetDimensions() if node.GetImageData() else None
        for node in (outputVolume, original, residual)
    }
    return Kept(original, residual, run) if len(sizes) == 1 and None not in sizes else None


def strengthOf(outputVolume) -> float | None:
    """The strength of a denoised volume, None where it does not say."""
    text = outputVolume.GetAttribute(STRENGTH_ATTRIBUTE)
    return float(text) if text else None


def keep(
    outputVolume, inputVolume, residual: np.ndarray, description: Path, arguments: dict[str, Any]
) -> None:
    """Keeps the residual (k, j, i) and the file about the run beside the denoised volume.

    `arguments`: how the run has read the scan. They are kept where the scan's voxels with one SUV factor do
    not give the same: where the engine has read other voxels from the source than Slicer has (rounded by its
    reader), or the factor differs from slice to slice.
    """
    earlier = outputVolume.GetNodeReference(REFERENCE)
    name = _("{name} residual at strength 1 (DRMC)").format(name=inputVolume.GetName())
    node = earlier or _newNode("vtkMRMLScalarVolumeNode", name)
    run = node.GetNodeReference(RUN_REFERENCE) or _newNode("vtkMRMLTextNode", f"{name}, run")
    with slicer.util.NodeModify(node):
        node.CopyOrientation(inputVolume)
        slicer.util.updateVolumeFromArray(node, residual)
        copyUnits(outputVolume, node)
    node.SetAndObserveTransformNodeID(inputVolume.GetTransformNodeID())
    node.SetAttribute(*INTENDED_USE)
    node.SetNodeReferenceID(RUN_REFERENCE, run.GetID())
    outputVolume.SetNodeReferenceID(REFERENCE, node.GetID())
    text = description.read_text(encoding="utf-8")
    run.SetText(text)
    isExact = json.loads(text)["scan"]["suv"]["factor_per_slice"] is None and all(
        np.array_equal(now.view(np.uint32), slice_.astype(np.float32).view(np.uint32))
        for now, slice_ in zip(
            _slices(inputVolume, node, strengthOf(outputVolume)),
            slicer.util.arrayFromVolume(outputVolume),
            strict=True,
        )
    )
    run.SetAttribute(_READING, json.dumps(arguments))
    run.SetAttribute(_ARGUMENTS, None if isExact else json.dumps(arguments))


def forget(outputVolume) -> None:
    """Removes what an earlier run has kept, whose residual is not that of the voxels any more."""
    residual = outputVolume.GetNodeReference(REFERENCE)
    if residual is not None:
        for node in (residual.GetNodeReference(RUN_REFERENCE), residual):
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)


def showStrength(outputVolume, strength: float) -> None:
    """Makes the denoised volume at another strength: scan + strength x residual, in place.

    A whole body takes a fraction of a second. Raises DRMCError where no residual was kept.
    """
    from DRMCDenoiseLib.results import labelStrength  # SimpleITK is not needed before

    kept = keptOf(outputVolume)
    if kept is None:
        raise DRMCError(f"'{outputVolume.GetName()}' has no residual of its run: denoise again")
    voxels = slicer.util.arrayFromVolume(outputVolume)
    for k, changed in enumerate(_slices(kept.original, kept.residual, strength)):
        voxels[k] = changed
    with slicer.util.NodeModify(outputVolume):
        outputVolume.SetAttribute(STRENGTH_ATTRIBUTE, repr(float(strength)))
        labelStrength(outputVolume, strength)
    slicer.util.arrayFromVolumeModified(outputVolume)


def _slices(inputVolume, residualNode, strength: float | None):
    original, residual = (slicer.util.arrayFromVolume(node) for node in (inputVolume, residualNode))
    for k in range(len(original)):  # a slice stays in the cache
        yield add_residual(original[k].astype(np.float32, copy=False), residual[k], strength)


def _newNode(className: str, name: str):
    return slicer.mrmlScene.AddNewNodeByClass(className, slicer.mrmlScene.GenerateUniqueName(name))
