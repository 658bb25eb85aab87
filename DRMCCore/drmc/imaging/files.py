"""Reading and writing images that are not DICOM: float32 arrays (z, y, x)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from drmc.errors import DRMCError, InputError, NotFiniteError
from drmc.files import atomic_path, is_full_disk, plain_path
from drmc.imaging.geometry import Geometry
from drmc.imaging.integrity import check_grid, check_written, image_reader, itk_reason
from drmc.paths import AnyPath


def read_image(path: str | AnyPath, *, is_whole: bool = False) -> sitk.Image:
    """Reads a scalar 3-D image from a NIfTI, NRRD or MetaImage file, in its own pixel type.

    Args:
        path: the file.
        is_whole: whether it was read before, so that its voxels need no check, which takes longer than to
            read them.

    Raises:
        InputError: the file is missing, damaged, of another format, or not one scalar real-valued 3-D image.
    """
    path = Path(path) if isinstance(path, str) else path
    with image_reader(path, "an image", is_whole=is_whole) as reader:
        _read_information(reader, path)
        image = reader.Execute()
    while image.GetDimension() > 3:
        image = sitk.Extract(image, [*image.GetSize()[:-1], 0], [0] * image.GetDimension())
    check_grid(image, path)
    return image


def read_image_header(path: AnyPath) -> sitk.ImageFileReader:
    """Reads the header of such an image, with its size and its text fields, and no voxel.

    Raises:
        InputError: as `read_image`, except for what only the voxels show.
    """
    with image_reader(path, "an image", is_whole=True) as reader:
        _read_information(reader, path)
        return reader


def _read_information(reader: sitk.ImageFileReader, path: AnyPath) -> None:
    reader.ReadImageInformation()
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path} has {reader.GetNumberOfComponents()} values per voxel: use a scalar image")
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise InputError(f"{path} has complex values: use a real-valued image")
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        shown = "x".join(map(str, size))
        raise InputError(f"{path} is {len(size)}-D ({shown}): use one 3-D image, such as a single frame")
    if min(size) < 1:
        raise InputError(f"{path} is empty ({'x'.join(map(str, size))}): use an image with voxels")


def finite_float32(array: np.ndarray, path: AnyPath) -> np.ndarray:
    """The array as contiguous float32; `path` is for the message.

    Raises:
        NotFiniteError: a voxel is NaN or infinite, or does not fit into float32.
    """
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, dtype=np.float32)
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise NotFiniteError(f"{path} has {bad} voxels that are NaN or infinite: repair the image first")
    return array


def write_image(
    path: str | Path, array: np.ndarray, geometry: Geometry, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a float32 image atomically, in the format of the file ending (.nii.gz, .nii, .nrrd, .mha).

    Args:
        path: the file.
        array: the image (z, y, x).
        geometry: its grid.
        metadata: text fields for formats that have them (NRRD, MetaImage).

    Raises:
        InputError: the ending is another one, or the folder cannot be written.
        OSError: the disk is full.
        DRMCError: ITK cannot write the file.
    """
    path = Path(path)
    if not path.name.endswith((".nii.gz", ".nii", ".nrrd", ".mha")):
        raise InputError(f"{path} cannot be written: use the ending .nii.gz, .nii, .nrrd or .mha")
    _write(path, geometry.to_image(np.asarray(array, dtype=np.float32)), metadata or {})


def write_labels(path: Path, labels: np.ndarray, geometry: Geometry, metadata: Mapping[str, str]) -> None:
    """Writes labels (z, y, x) atomically, in their own integer type, in the format of the file ending.

    `metadata` and errors are as for `write_image`.
    """
    _write(path, geometry.to_image(labels), metadata)


def _write(path: Path, image: sitk.Image, metadata: Mapping[str, str]) -> None:
    for key, value in metadata.items():
        image.SetMetaData(str(key), str(value))
    try:
        with atomic_path(path) as temporary, plain_path(temporary) as plain:
            writer = sitk.ImageFileWriter()
            writer.SetUseCompression(path.suffix != ".nii")
            writer.SetFileName(str(plain))
            writer.Execute(image)
            check_written(temporary)
    except OSError as error:
        if is_full_disk(error):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise InputError(
            f"{path} cannot be written ({error.strerror}): choose a folder that can be"
        ) from None
    except RuntimeError as error:
        raise DRMCError(
            f"{path} could not be written ({itk_reason(error)}): check whether the disk is full"
        ) from None
