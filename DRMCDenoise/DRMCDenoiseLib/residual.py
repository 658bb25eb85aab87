"""The network's residual as a volume: denoised minus original, in SUV where the factor is known."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from drmc.errors import InputError
from drmc.pages.colors import diverging_color
from DRMCCoreLib.nodes.names import INTENDED_USE
from DRMCCoreLib.nodes.suvdisplay import showWindow
from DRMCCoreLib.nodes.suvunits import copyUnits, setSUVUnits, suvPerUnit
from slicer.i18n import tr as _

REFERENCE = "DRMC.Residual"  # from the denoised volume to its residual
_MARK = "DRMC.IsResidual"
_COLORS, _COLOR_NAME = 256, "DRMC residual"


def residualOf(outputVolume):
    """The residual's volume node, or None."""
    return outputVolume.GetNodeReference(REFERENCE)


def updateResidual(inputVolume, outputVolume):
    """Computes denoised minus original into the residual's node and returns it.

    The node states its units: SUV, or those of the denoised volume if its SUV factor is not known. It is made
    on demand, lies on the output's grid and is not saved with the scene. It is computed in place, slice by
    slice: a whole body of 200 x 200 x 550 voxels takes about a tenth of a second.

    Raises:
        InputError: The volumes are not on the same grid.
    """
    original, denoised = (slicer.util.arrayFromVolume(node) for node in (inputVolume, outputVolume))
    if original.shape != denoised.shape:
        raise InputError(
            f"'{inputVolume.GetName()}' and '{outputVolume.GetName()}' are not on the same grid: "
            "choose the volume that was denoised"
        )
    node = residualOf(outputVolume) or _newNode(inputVolume, outputVolume)
    factor = suvPerUnit(outputVolume)
    if factor is not None:
        setSUVUnits(node)
    else:
        copyUnits(outputVolume, node)
    image = node.GetImageData()
    if image is None or image.GetDimensions() != outputVolume.GetImageData().GetDimensions():
        image = vtk.vtkImageData()
        image.SetDimensions(outputVolume.GetImageData().GetDimensions())
        image.AllocateScalars(vtk.VTK_FLOAT, 1)
        node.SetAndObserveImageData(image)
    node.CopyOrientation(outputVolume)
    node.SetAndObserveTransformNodeID(outputVolume.GetTransformNodeID())
    residual = slicer.util.arrayFromVolume(node)
    for k in range(len(residual)):  # a slice stays in the cache between the two passes
        np.subtract(denoised[k], original[k], out=residual[k], dtype=np.float32, casting="unsafe")
        if factor not in (None, 1):
            residual[k] *= np.float32(factor)
    slicer.util.arrayFromVolumeModified(node)
    return node


def showResidualWindow(node, top: float) -> None:
    """Shows the residual from -top to top SUV: blue below 0, white at 0, red above."""
    showWindow(node, -top, top, _divergingColors().GetID())


def removeResiduals() -> None:
    """Removes every residual of the scene, with its display and the colors."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    residuals = [node for node in nodes if node.GetAttribute(_MARK)]
    colors = [slicer.mrmlScene.GetFirstNodeByName(_COLOR_NAME)]
    for node in [*residuals, *(one.GetDisplayNode() for one in residuals), *colors]:
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def _newNode(inputVolume, outputVolume):
    name = _("{name} residual (DRMC)").format(name=inputVolume.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name)
    )
    node.SetSaveWithScene(False)
    node.SetAttribute(_MARK, "yes")
    node.SetAttribute(*INTENDED_USE)
    outputVolume.SetNodeReferenceID(REFERENCE, node.GetID())
    node.CreateDefaultDisplayNodes()  # before there are voxels: finding a window in them takes long
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetSaveWithScene(False)
    return node


def _divergingColors():
    """The color table of the report's residual pictures, symmetric about white."""
    node = slicer.mrmlScene.GetFirstNodeByName(_COLOR_NAME)
    if node is None:
        node = slicer.vtkMRMLColorTableNode()
        node.SetName(_COLOR_NAME)
        node.SetTypeToUser()
        node.SetSaveWithScene(False)
        node.SetNumberOfColors(_COLORS)
        level = np.linspace(-1, 1, _COLORS)
        level[_COLORS // 2 - 1 : _COLORS // 2 + 1] = 0  # an unchanged voxel falls on either of the two
        for index, (red, green, blue) in enumerate(diverging_color(level, 1.0) / 255.0):
            node.SetColor(index, f"{level[index]:+.2f}", red, green, blue, 1.0)
        slicer.mrmlScene.AddNode(node)
    return node
