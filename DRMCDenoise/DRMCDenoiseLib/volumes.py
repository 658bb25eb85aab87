"""A volume node as the engine's input.

Where the node still holds exactly what its file or DICOM series holds, the engine gets that source: the SUV decision,
the numbers and the messages are then those of the command line, bit for bit. Otherwise it gets the node's voxels in
their own units, with a side-car JSON that says what they are.
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

from . import geometry
from .names import fileName

SUV_CODE = ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")
SUV_QUANTITY = ("126400", "DCM", "Standardized Uptake Value")
IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
SUV_FACTOR_ATTRIBUTE = "DRMC.SUVFactor"


@dataclass
class EngineInput:
    """What the engine is to read for a node; `isSource` says that it is the node's own file or series."""

    path: Path
    name: str
    isSource: bool = False


def engineInput(volumeNode, folder: Path, suv: str | float | None = None) -> EngineInput:
    """Makes the node ready for the engine; what has to be written goes into `folder`.

    `suv` says what the voxels are where the node does not: "SUV" (they are SUVbw), or the SUVbw of one unit. Without it
    the order is: the node's own units if they are SUVbw, the node's DICOM series or file, the node's units.
    Raises InputError for a node that cannot be denoised.
    """
    name = volumeNode.GetName() or "volume"
    _check(volumeNode, name)
    if suv is None:
        suv = _declaredSUV(volumeNode, name)
    if suv is None:
        source = _dicomSource(volumeNode, name, folder) or _fileSource(volumeNode, name)
        if source is not None:
            return source
    path = folder / f"{fileName(name)}.mha"  # the one form that keeps a geometry to the last bit
    try:
        sitk.WriteImage(geometry.imageFromNode(volumeNode), str(path))
    except ValueError as error:
        raise InputError(f"'{name}': {error}") from error
    sidecar = _sidecar(suv, name, declaredUnits(volumeNode))
    if sidecar:
        files.write_json(path.with_suffix(".json"), sidecar)
    return EngineInput(path, name)


def declaredUnits(volumeNode) -> str | None:
    """The code of the node's voxel units, e.g. `{SUVbw}g/ml` or `Bq/ml`; None if the node does not say."""
    units = volumeNode.GetVoxelValueUnits()
    return None if units is None else units.GetCodeValue() or None


def _check(volumeNode, name: str) -> None:
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
    if units is not None and re.fullmatch(r"\{?SUV(bw)?\}?(g/ml)?|g/ml", units, re.IGNORECASE):
        return "SUV"
    if units is not None and not re.fullmatch(r"bq/ml", units, re.IGNORECASE):
        raise InputError(
            f"'{name}' is in {units}: give a volume in SUVbw ({SUV_CODE[0]}) or Bq/ml, or say what it is"
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


def _fileSource(volumeNode, name: str) -> EngineInput | None:
    """The file that the node was loaded from, if it still holds the node's voxels."""
    storage = volumeNode.GetStorageNode()
    path = Path(storage.GetFullNameFromFileName() or "") if storage is not None else None
    if path is None or not path.is_file() or not path.name.lower().endswith(IMAGE_ENDINGS):
        return None
    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    if image.GetDimension() != 3:
        return None
    matrix = geometry.imageMatrix(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    array = geometry.onNodeGrid(sitk.GetArrayFromImage(image), matrix, volumeNode)
    own = slicer.util.arrayFromVolume(volumeNode)
    if array is None or not np.array_equal(array, own.astype(np.float32, copy=False), equal_nan=True):
        return None
    return EngineInput(path, name, isSource=True)


def _dicomSource(volumeNode, name: str, folder: Path) -> EngineInput | None:
    """The node's DICOM files, if Slicer's database knows them all and the node still holds what they hold."""
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    paths = [
        Path(path)
        for path in (database.fileForInstance(uid) for uid in uids)
        if path and Path(path).is_file()
    ]
    if len(paths) != len(uids):
        return None
    from drmc.volume import read_volume

    series = _seriesFolder(paths, folder / fileName(name))
    source = EngineInput(series, name, isSource=series.parent != folder)
    volume = read_volume(source.path)
    g = volume.geometry
    array = geometry.onNodeGrid(
        volume.array, geometry.imageMatrix(g.spacing, g.origin, g.direction), volumeNode
    )
    own = slicer.util.arrayFromVolume(volumeNode)
    # Slicer's reader may have rounded to whole Bq/ml; an edited voxel differs by more.
    tolerance = 1e-3 * float(np.abs(volume.array).max())
    if array is None or np.abs(array - own).max() > tolerance:
        raise InputError(
            f"'{name}' no longer holds what its DICOM files hold, so their SUV factor may not apply: "
            "load the series again, or say what the voxels are"
        )
    return source


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


def suvPerUnit(volumeNode) -> float | None:
    """SUVbw of one unit of the node, as far as the node itself says; None where only its files would tell."""
    try:
        declared = _declaredSUV(volumeNode, volumeNode.GetName())
    except InputError:
        return None
    return 1.0 if declared == "SUV" else declared
