"""What the panel of DRMC Denoise shows, kept in the scene."""

from typing import Annotated

from drmc.pages.windows import DEFAULT_WINDOW
from drmc.pet.strength import FULL
from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTextNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from DRMCDenoiseLib.comparison import MODES, OFF

FIXED, PERCIST = METHODS = ("SUV", "PERCIST")  # thresholds of lesion candidates

# what a preset keeps: the settings that are the same for every scan
PRESET_PARAMETERS = (
    *("model", "device", "outputFolder", "writeDICOM", "strength", "virtualSpots"),
    *("fade", "windowSUV", "heat", "rotate", "candidateMethod", "candidateSUV"),
)


@parameterNodeWrapper
class DRMCDenoiseParameterNode:
    """What the panel shows, kept in the scene.

    `model`: name of an installed model, empty for the default one. `outputFolder` empty: no files are kept.
    `voxels`: "" as the volume says, "SUV", or "factor": `suvFactor` is then the SUV of one unit.
    `acceptRule`: reference-time rule, empty for automatic. `headerValues`: header values by hand, one
    KEYWORD=VALUE a line. `strength`: share of the residual that is added. `virtualSpots`: measure what is
    kept of virtual spots, with a second run of the network. `allFrames`: of a sequence, not the one shown
    alone. `ctVolume`: under the slices of the reading layout. `heat`: PET-Heat there in place of inverted
    gray. `rotate`: its projections turn. `organs`, `organTable`: a segmentation of organs, and their SUV
    before and after. `candidateMethod`, `candidateSUV`: the threshold of lesion
    candidates. `batchInput`, `batchOutput`, `batchLesions`: the folders of a batch.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    lesions: vtkMRMLSegmentationNode
    outputVolume: vtkMRMLScalarVolumeNode
    referenceVolume: vtkMRMLScalarVolumeNode
    lesionTable: vtkMRMLTableNode
    report: vtkMRMLTextNode
    outputFolder: str = ""
    writeDICOM: bool = False
    routingTable: vtkMRMLTableNode
    routingRegion: str = ""  # a lesion's name, empty for the body
    voxels: str = ""
    suvFactor: str = ""
    acceptRule: str = ""
    headerValues: str = ""
    allFrames: bool = True
    model: str = ""
    device: Annotated[str, Choice(["auto", "cpu", "cuda", "mps"])] = "auto"
    strength: Annotated[float, WithinRange(0.0, 1.0)] = FULL
    virtualSpots: bool = False
    compareMode: Annotated[str, Choice(MODES)] = OFF
    fade: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    windowSUV: Annotated[float, WithinRange(0.1, 1000.0)] = DEFAULT_WINDOW
    ctVolume: vtkMRMLScalarVolumeNode
    organs: vtkMRMLSegmentationNode
    organTable: vtkMRMLTableNode
    heat: bool = False
    rotate: bool = True
    candidateMethod: Annotated[str, Choice(METHODS)] = FIXED
    candidateSUV: Annotated[float, WithinRange(0.1, 1000.0)] = 4.0
    batchInput: str = ""
    batchOutput: str = ""
    batchLesions: str = ""
