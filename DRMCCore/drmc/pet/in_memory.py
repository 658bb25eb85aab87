"""A scan that another program holds in memory, such as a volume node of Slicer.

The program may have loaded the scan from a file or a DICOM series, whose header says more than its voxels do, and may
have changed it since. It writes its voxels as they are now to an image file and says in a JSON beside it, NAME.held.json,
where it thinks that they are from; `resolve` compares the two, so that the program itself need not read the source.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from drmc import files
from drmc.errors import InputError

ENDING = ".held.json"
# Slicer's DICOM reader may have rounded to whole Bq/ml; an edited voxel differs by more (of the largest value).
ROUNDED = 1e-3


def write_held(path: Path, voxels: Path, source: Path) -> None:
    """Says that the image file `voxels` is held by a program and may still be what `source` is; `path` ends in ENDING."""
    files.write_json(path, {"voxels": str(voxels), "source": str(source)})


def resolve(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The scan that stands for a path: of a held one its source, if that still has the same voxels, else its voxels.

    Any other path is returned as it is. Raises InputError for voxels that differ from those of their DICOM series:
    then nobody knows what they are.
    """
    if not os.fspath(path).endswith(ENDING):
        return path
    said = files.read_json_object(path)
    voxels, source = Path(said["voxels"]), Path(said["source"])
    from drmc.imaging.formats import image_kind

    if source.is_dir() or image_kind(source) is None:
        if not _same_as_series(voxels, source):
            raise InputError(
                f"{voxels} no longer holds what its DICOM files hold, so their SUV factor may not apply: "
                "load the series again, or say what the voxels are"
            )
        return source
    return source if _same_as_image(voxels, source) else voxels


def _same_as_image(voxels: Path, source: Path) -> bool:
    import SimpleITK as sitk

    from drmc.imaging.files import read_image
    from drmc.imaging.geometry import Geometry

    try:
        image = read_image(source)
    except InputError:  # not what was loaded, whatever it is
        return False
    array, own = _on_one_grid(
        voxels, sitk.GetArrayFromImage(image).astype(np.float32), Geometry.from_image(image)
    )
    return array is not None and np.array_equal(array, own, equal_nan=True)


def _same_as_series(voxels: Path, source: Path) -> bool:
    from drmc.dicom.series import read_pet_series

    series = read_pet_series(source)
    array, own = _on_one_grid(voxels, series.array, series.geometry)
    tolerance = ROUNDED * float(np.abs(series.array).max())
    return array is not None and bool(np.abs(array - own).max() <= tolerance)


def _on_one_grid(voxels: Path, array, geometry) -> tuple[np.ndarray | None, np.ndarray]:
    """The source's array on the grid of the held voxels (None if that is another grid), and these."""
    import SimpleITK as sitk

    from drmc.imaging.geometry import Geometry, turned

    held = sitk.ReadImage(str(voxels), sitk.sitkFloat32)
    own = sitk.GetArrayFromImage(held)
    to_held = np.linalg.inv(Geometry.from_image(held).matrix) @ geometry.matrix
    return turned(array, to_held, own.shape), own
