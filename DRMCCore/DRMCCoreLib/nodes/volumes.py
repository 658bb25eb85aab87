"""A volume node as the engine's input.

Where the node still holds exactly what its file or DICOM series holds, the engine takes that source: the SUV decision,
the numbers and the messages are then those of the command line, bit for bit. Otherwise it takes the node's voxels in
their own units, with a side-car JSON that says what they are. Which of the two it is the engine finds out itself
(drmc.pet.in_memory): reading a series takes too long for Slicer's process.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
from drmc import files
from drmc.errors import InputError
from drmc.imaging.formats import IMAGE_ENDINGS
from drmc.pet import in_memory

from DRMCCoreLib.nodes import geometry
from DRMCCoreLib.nodes.names import fileName
from DRMCCoreLib.nodes.suvunits import SUV_CODE, SUV_FACTOR_ATTRIBUTE, declaredUnits, isSUV


@dataclass
class EngineInput:
    """What the engine is to read for a node; `isSource` says that it is the node's own file.

    Where it is not, messages must name neither `path` nor the JSON beside it, nor the other `temporary` files.
    """

    path: Path
    name: str
    isSource: bool = False
    temporary: tuple[Path, ...] = ()


def engineInput(volumeNode, folder: Path, suv: str | float | None = None, *, proxy=None) -> EngineInput:
    """Makes the node ready for the engine; what has to be written goes into `folder`.

    `suv` says what the voxels are where the node does not: "SUV" (they are SUVbw), or the SUVbw of one unit. Without it
    the order is: the node's own units if they are SUVbw, the node's DICOM series or file, the node's units. Reads no
    file of the scan. `proxy`: for a frame of a sequence, the node that says what its voxels are (the data
    nodes of a sequence do not keep their units).
    Raises InputError for a node that cannot be denoised.
    """
    name = volumeNode.GetName() or "volume"
    checkNode(volumeNode)
    isSaid = suv is not None  # by the user, who is taken at his word; a node may be wrong
    if suv is None:
        suv = _declaredSUV(proxy or volumeNode, name)
    source = None
    if suv is None:
        source = _dicomSource(volumeNode, folder / fileName(name)) or _fileSource(volumeNode)
    path = folder / f"{fileName(name)}.mha"  # the one form that keeps a geometry to the last bit
    try:
        sitk.WriteImage(geometry.imageFromNode(volumeNode), str(path))
    except ValueError as error:
        raise InputError(f"'{name}': {error}") from error
    sidecar = _sidecar(suv, name, declaredUnits(proxy or volumeNode))
    if isSaid:
        sidecar["SUVAccepted"] = ["SUV"]
    if sidecar:
        files.write_json(path.with_suffix(".json"), sidecar)
    if source is None:
        return EngineInput(path, name)
    pointer = folder / f"{fileName(name)}{in_memory.ENDING}"
    in_memory.write_held(pointer, path, source)
    staged = (source,) if source.parent == folder else ()
    return EngineInput(pointer, name, temporary=(path, path.with_suffix(".json"), *staged))


def nodeNames(one: EngineInput) -> dict[str, str]:
    """What messages are to say in the place of each temporary file."""
    files = () if one.isSource else (one.path, one.path.with_suffix(".json"), *one.temporary)
    return {str(path): f"{one.name}.json" if path.suffix == ".json" else one.name for path in files}


def inWordsOfTheScene(message: str, names: dict[str, str]) -> str:
    """A message of the engine with the nodes' names in the place of temporary files."""
    for path, name in names.items():
        message = message.replace(path, f"'{name}'")
    return message


def checkNode(volumeNode) -> None:
    """Raises InputError for a node that cannot be denoised, by what is quick to see."""
    name = volumeNode.GetName() or "volume"
    image = volumeNode.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise InputError(f"'{name}' holds no image: choose a PET volume")
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            f"'{name}' holds {image.GetNumberOfScalarComponents()} values per voxel: choose a scalar PET volume"
        )
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"'{name}' is a label map: choose the PET volume itself")
    try:
        geometry.checkTransform(volumeNode)
    except ValueError as error:
        raise InputError(f"'{name}': {error}") from error


def _declaredSUV(volumeNode, name: str) -> str | float | None:
    """What the node itself says of its voxels: "SUV", a factor that an earlier run left, or nothing."""
    units = declaredUnits(volumeNode)
    if isSUV(units):
        return "SUV"
    if units is not None and not re.fullmatch(r"bq/ml", units, re.IGNORECASE):
        meaning = volumeNode.GetVoxelValueUnits().GetCodeMeaning()
        said = units if meaning in (None, "", units) else f"{meaning} ({units})"
        raise InputError(
            f"'{name}' is in {said}: give a volume in SUVbw ({SUV_CODE[0]}) or Bq/ml, or say what it is"
        )
    factor = volumeNode.GetAttribute(SUV_FACTOR_ATTRIBUTE)
    return float(factor) if factor else None


def _sidecar(suv: str | float | None, name: str, units: str | None) -> dict[str, object]:
    if isinstance(suv, str):
        if suv.upper() not in ("SUV", "SUVBW"):
            raise InputError(
                f"'{name}': suv={suv!r} is not understood: give \"SUV\" or the SUVbw of one unit"
            )
        return {"Units": "SUV"}
    if suv is not None:
        if not (np.isfinite(suv) and suv > 0):
            raise InputError(f"'{name}': the SUV factor {suv} is not a positive number")
        return {"Units": "Bq/mL", "SUVFactor": float(suv)}
    return {"Units": "Bq/mL"} if units else {}


def _fileSource(volumeNode) -> Path | None:
    """The file that the node was loaded from."""
    storage = volumeNode.GetStorageNode()
    path = Path(storage.GetFullNameFromFileName() or "") if storage is not None else None
    if path is None or not path.is_file() or not path.name.lower().endswith(IMAGE_ENDINGS):
        return None
    return path


def _dicomSource(volumeNode, staged: Path) -> Path | None:
    """The folder of the node's DICOM files, if Slicer's database knows them all."""
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    paths = [
        Path(path)
        for path in (database.fileForInstance(uid) for uid in uids)
        if path and Path(path).is_file()
    ]
    return _seriesFolder(paths, staged) if len(paths) == len(uids) else None


def _seriesFolder(paths: list[Path], staged: Path) -> Path:
    """A folder with exactly these files: their own if it holds nothing else, else `staged` with links to them."""
    parents = {path.parent for path in paths}
    if len(parents) == 1:
        parent = parents.pop()
        if {path.name for path in paths} == {
            entry.name for entry in parent.iterdir() if not entry.name.startswith(".")
        }:
            return parent
    staged.mkdir()
    for number, path in enumerate(paths):
        target = staged / f"{number:05d}.dcm"
        try:
            os.link(path, target)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(path, target)
    return staged
