"""What the panel of DRMC Segment shows, kept in the scene."""

from typing import Annotated

from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTextNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

NONE, PERCIST, BLOOD_POOL, FIXED = METHODS = ("none", "PERCIST", "blood pool", "SUV")

# what a preset keeps: the settings that are the same for every scan
PRESET_PARAMETERS = (
    *("model", "device", "outputFolder", "writeDICOM", "uncorrected"),
    *("thresholdMethod", "thresholdSUV", "countPhysiological", "showOrgans"),
)


@parameterNodeWrapper
class DRMCSegmentParameterNode:
    """What the panel shows, kept in the scene.

    `model`: name of an installed model of organs, empty for the default one. `outputFolder` empty: no files
    are kept. `voxels`, `suvFactor`, `acceptRule`, `headerValues`: what the user states of the SUV, as in DRMC
    Denoise. `uncorrected`: the scan has no correction for attenuation. `thresholdMethod`, `thresholdSUV`: of
    the uptake that is listed. `countPhysiological`: show and count what is marked as physiological, too.
    `allFrames`: of the shared section on the input, always off: a run takes the frame that is shown.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    lesions: vtkMRMLSegmentationNode
    outputSegmentation: vtkMRMLSegmentationNode
    organTable: vtkMRMLTableNode
    uptake: vtkMRMLSegmentationNode
    uptakeTable: vtkMRMLTableNode
    report: vtkMRMLTextNode
    outputFolder: str = ""
    writeDICOM: bool = False
    voxels: str = ""
    suvFactor: str = ""
    acceptRule: str = ""
    headerValues: str = ""
    uncorrected: bool = False
    allFrames: bool = False
    model: str = ""
    device: Annotated[str, Choice(["auto", "cpu", "cuda", "mps"])] = "auto"
    thresholdMethod: Annotated[str, Choice(METHODS)] = PERCIST
    thresholdSUV: Annotated[float, WithinRange(0.1, 1000.0)] = 4.0
    countPhysiological: bool = False
    showOrgans: bool = True
