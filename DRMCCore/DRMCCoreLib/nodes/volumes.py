"""A volume node as the engine's input.

Where the node still has exactly the voxels of its file or DICOM series, the engine takes that source: the SUV
decision and the numbers are then those of the command line, bit for bit. Otherwise it takes the node's voxels
in their own units, with a side-car JSON that says what they are. Which of the two it is the engine finds out
itself (drmc.pet.in_memory): reading a series takes too long for Slicer's process.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
from drmc import files
from drmc.errors import DRMCError, InputError
from drmc.imaging.formats import IMAGE_ENDINGS
from drmc.suv.plausibility import percentile_in_body

from DRMCCoreLib.nodes import geometry
from DRMCCoreLib.nodes.names import fileName
from DRMCCoreLib.nodes.suvunits import SUV_FACTOR_ATTRIBUTE, declaredUnits, isSUV

_SAMPLES = 100_000  # voxels that suffice for a percentile, so that Slicer does not pause


@dataclass(frozen=True)
class EngineInput:
    """What the engine is to read for a node.

    Attributes:
        path: the node's own file or series, or a temporary file.
        label: what the engine's messages call it; None where it is a file that the user has named.
        voxels: the node's voxels, which the engine compares with those of `path`; None where there is nothing
            to compare.
    """

    path: Path
    label: str | None = None
    voxels: Path | None = None

    def options(self, of: str = "") -> list[str]:
        """The options beside the path; `of`: "" for the scan, "reference" or "lesions"."""
        prefix = f"--{of}-" if of else "--"
        named = (("voxels", self.voxels), ("label", self.label))
        return [f"{prefix}{name}={value}" for name, value in named if value is not None]


def engineInput(
    volumeNode, folder: Path, suv: str | float | None = None, *, proxy=None, label: str | None = None
) -> EngineInput:
    """Makes the node ready for the engine; what has to be written goes into `folder`.

    `suv` says what the voxels are where the node does not: "SUV" (they are SUVbw), or the SUVbw of one unit.
    Without it the order is: the node's own units if they are SUVbw, the node's DICOM series or file, the
    node's units. Reads no file of the scan. `proxy`: for a frame of a sequence, the node that says what its
    voxels are (the data nodes of a sequence do not keep their units). `label`: what messages call it; the
    node's name by default. Raises InputError for a node that cannot be denoised.
    """
    name = volumeNode.GetName() or "volume"
    source, sidecar = _described(volumeNode, folder, suv, proxy or volumeNode)
    path = folder / f"{fileName(name)}.mha"  # the one form that keeps a geometry to the last bit
    sitk.WriteImage(geometry.imageFromNode(volumeNode), str(path))
    if sidecar:
        files.write_json(path.with_suffix(".json"), sidecar)
    label = name if label is None else label
    return EngineInput(path, label) if source is None else EngineInput(source, label, path)


def headerInput(volumeNode, folder: Path, suv: str | float | None = None) -> EngineInput:
    """As `engineInput` for a question that the header answers: no voxel is written, and none compared.

    A node without a source becomes a header without voxels. Raises DRMCError where the question would need a
    copy of the series.
    """
    name = volumeNode.GetName() or "volume"
    source, sidecar = _described(volumeNode, folder, suv, volumeNode, mayCopy=False)
    if source is not None:
        return EngineInput(source, name)
    path = folder / f"{fileName(name)}.mhd"
    size = " ".join(map(str, volumeNode.GetImageData().GetDimensions()))
    lines = ("ObjectType = Image", "NDims = 3", f"DimSize = {size}", "ElementType = MET_FLOAT")
    path.write_text("\n".join((*lines, "ElementDataFile = none.raw", "")), encoding="ascii")
    if sidecar:
        files.write_json(path.with_suffix(".json"), sidecar)
    return EngineInput(path, name)


def bodyPercentile(volumeNode) -> float | None:
    """The 99.9th percentile of a sample of the node's voxels in the body; None without a body."""
    array = slicer.util.arrayFromVolume(volumeNode)
    step = max(1, math.ceil((array.size / _SAMPLES) ** (1.0 / 3.0)))
    sample = np.ascontiguousarray(array[::step, ::step, ::step], dtype=np.float32)
    return percentile_in_body(sample, [step * one for one in volumeNode.GetSpacing()[::-1]])


def _described(
    volumeNode, folder: Path, suv: str | float | None, unitsNode, *, mayCopy: bool = True
) -> tuple[Path | None, dict[str, object]]:
    """The node's file or series, None without one, and the content of the side-car of its voxels.

    `unitsNode` says what the voxels are. Raises InputError for a node that cannot be denoised.
    """
    name = volumeNode.GetName() or "volume"
    checkNode(volumeNode)
    isByUser = suv is not None  # who is taken at his word; a node may be wrong
    if suv is None:
        suv = _declaredSUV(unitsNode, name)
    source = None
    if suv is None:
        source = _dicomSource(volumeNode, folder / fileName(name), mayCopy) or _fileSource(volumeNode)
    try:
        geometry.gridOf(volumeNode)
    except ValueError as error:
        raise InputError(f"'{name}': {error}") from error
    sidecar = _sidecar(suv, name, declaredUnits(unitsNode))
    if isByUser:
        sidecar["SUVAccepted"] = ["SUV"]
    return source, sidecar


def checkNode(volumeNode) -> None:
    """Raises InputError for a node that cannot be denoised, by what is quick to see."""
    name = volumeNode.GetName() or "volume"
    image = volumeNode.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise InputError(f"'{name}' holds no image: choose a PET volume")
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            f"'{name}' holds {image.GetNumberOfScalarComponents()} values per voxel: choose a scalar PET "
            "volume"
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
        shown = volumeNode.GetVoxelValueUnits().GetCodeMeaning() or units
        raise InputError(f"'{name}' is in {shown}: give a volume in SUVbw or Bq/ml, or say what it is")
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


def _dicomSource(volumeNode, staged: Path, mayCopy: bool) -> Path | None:
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
    return _seriesFolder(paths, staged, mayCopy) if len(paths) == len(uids) else None


def _seriesFolder(paths: list[Path], staged: Path, mayCopy: bool) -> Path:
    """A folder with exactly these files: their own if it has nothing else, else `staged` with links."""
    parents = {path.parent for path in paths}
    if len(parents) == 1:
        parent = parents.pop()
        if {path.name for path in paths} == {
            entry.name for entry in parent.iterdir() if not entry.name.startswith(".")
        }:
            return parent
    staged.mkdir()
    for number, path in enumerate(paths):
        _link(path, staged / f"{number:05d}.dcm", mayCopy)
    return staged


def _link(path: Path, target: Path, mayCopy: bool) -> None:
    """Links a file; copies it where no kind of link can be made (another disk on Windows).

    Raises DRMCError where it must not be copied.
    """
    for make in (os.link, os.symlink):
        try:
            make(path, target)
            return
        except OSError:
            continue
    if not mayCopy:
        raise DRMCError(
            f"{path} cannot be linked to from {target.parent}: the SUV is decided when the run starts"
        )
    shutil.copyfile(path, target)
