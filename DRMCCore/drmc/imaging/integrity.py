"""Checks of NIfTI, NRRD and MetaImage files: damage that ITK would silently repair is refused."""

from __future__ import annotations

import errno
import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError, NotFiniteError
from drmc.files import check_regular, plain_path
from drmc.imaging import nifti_header
from drmc.imaging.formats import MHA, NIFTI, NRRD, image_kind
from drmc.paths import AnyPath

# Named explicitly, because ITK does not recognize endings in upper case.
_IMAGE_IO = {NIFTI: "NiftiImageIO", NRRD: "NrrdImageIO", MHA: "MetaImageIO"}
ORTHONORMAL_TOLERANCE = 1e-3  # of the products of two directions; text headers have no more digits
RESAMPLE = (
    "save it again with an orthonormal affine (NIfTI: sform and qform), or resample it onto a grid that is "
    "not sheared (3D Slicer: harden the transform)"
)


@contextmanager
def image_reader(path: AnyPath, what: str, *, is_whole: bool = False) -> Iterator[sitk.ImageFileReader]:
    """Yields an ITK reader for an image file, after the checks that its format allows.

    Args:
        path: the file.
        what: what it should be, for messages ("an image").
        is_whole: whether its voxels need no check, because it had one or nobody reads them.

    Raises:
        InputError: the file does not exist, is truncated, contradicts itself (two transforms), or ITK cannot
            read it.
        NotFiniteError: a NIfTI file has voxels that are NaN or infinite.
    """
    check_regular(path)
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "it does not exist"
        raise InputError(f"{path} cannot be read: {reason}, check the path of the image")
    if not is_whole:
        _check_whole(path)
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with plain_path(Path(path)) as plain:
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(plain))
            reader.SetImageIO(_IMAGE_IO.get(image_kind(path) or "", ""))
            yield reader
    except RuntimeError as error:
        reason = itk_reason(error)
        if "orthonormal" in reason or "determinant is 0" in str(error):
            raise InputError(f"{path}: its affine is not orthonormal (sheared axes): {RESAMPLE}") from None
        raise InputError(
            f"{path} cannot be read as {what} ({reason}): it is damaged, copy it again"
        ) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


def check_grid(image: sitk.Image, path: AnyPath) -> None:
    """Checks the first three axes of an image; `path` is for messages.

    Raises:
        InputError: spacing, origin or directions are not finite, a spacing is not above 0, or the directions
            are not orthonormal (unit vectors at right angles) to ORTHONORMAL_TOLERANCE.
    """
    numbers = (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())
    if not all(math.isfinite(v) for v in numbers) or min(image.GetSpacing()) <= 0:
        raise InputError(f"{path} has no valid geometry (spacing {image.GetSpacing()}): correct its header")
    axes = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (axes, axes))[:3, :3]
    product = direction.T @ direction - np.eye(len(direction))
    if np.abs(product).max() > ORTHONORMAL_TOLERANCE:
        worst = np.unravel_index(np.abs(product).argmax(), product.shape)
        fault = (
            f"the direction of axis {worst[0] + 1} has the length {math.sqrt(1 + product[worst]):.6g}"
            if worst[0] == worst[1]
            else f"axes {min(worst) + 1} and {max(worst) + 1} are "
            f"{math.degrees(math.acos(np.clip(product[worst], -1, 1))):.4g} degrees apart"
        )
        raise InputError(f"{path}: its affine is not orthonormal ({fault}): {RESAMPLE}")


def check_written(path: Path) -> None:
    """Checks that an image file that was just written is complete.

    ITK's NIfTI writer does not report a full disk.

    Raises:
        OSError: a part is missing; the error number is that of a full disk.
    """
    try:
        with plain_path(path) as plain:
            _check_whole(plain)
    except NotFiniteError:
        pass  # the file is complete
    except InputError:
        raise OSError(errno.ENOSPC, "not all of it could be written, as on a full disk", str(path)) from None


def itk_reason(error: Exception) -> str:
    """The last line of an ITK error, without the file names of its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1].split("):", 1)[-1] if lines else ""
    return text.removeprefix("sitk::ERROR:").strip()[:120] or "unknown reason"


_DAMAGED = (EOFError, OSError, ValueError, KeyError, IndexError, struct.error, zlib.error)


def _check_whole(path: AnyPath) -> None:
    """Refuses files that ITK would silently repair.

    It fills the missing end of a truncated NIfTI or compressed NRRD, and sets NaN voxels of a NIfTI to 0.
    """
    checks = {NIFTI: _check_nifti, NRRD: _check_nrrd, MHA: _check_metaimage}
    kind = image_kind(path)
    try:
        if path.stat().st_size == 0:
            raise EOFError("0 bytes")
        if kind is not None:
            checks[kind](path)
    except _DAMAGED as error:
        reason = str(error) if isinstance(error, (EOFError, OSError)) else "its header is not valid"
        raise InputError(
            f"{path} cannot be read: it is truncated or damaged ({reason}), copy it again"
        ) from None


def _expect(have: int, need: int) -> None:
    if have < need:
        raise EOFError(f"{have} bytes of voxels where its header needs {need}")


def _check_nifti(path: AnyPath) -> None:
    with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
        start = file.read(540)
        order = next((o for o in "<>" if struct.unpack_from(f"{o}i", start)[0] in (348, 540)), None)
        if order is None:
            raise EOFError("no NIfTI header")
        if struct.unpack_from(f"{order}i", start)[0] == 348:
            dimensions = struct.unpack_from(f"{order}8h", start, 40)
            kind, bits = struct.unpack_from(f"{order}2h", start, 70)
            offset = int(struct.unpack_from(f"{order}f", start, 108)[0])
        else:
            kind, bits = struct.unpack_from(f"{order}2h", start, 12)
            dimensions = struct.unpack_from(f"{order}8q", start, 16)
            offset = struct.unpack_from(f"{order}q", start, 168)[0]
        needed = math.prod(max(n, 0) for n in dimensions[1 : dimensions[0] + 1]) * bits // 8
        nifti_header.check_transforms(path, start, order)
        floats = {16: f"{order}f4", 64: f"{order}f8"}.get(kind)
        file.seek(offset)
        have = bad = 0
        while block := file.read(1 << 22):
            if floats is not None:
                data = block[: max(min(len(block), needed - have), 0)]
                data = data[: len(data) // (bits // 8) * (bits // 8)]
                bad += int(np.count_nonzero(~np.isfinite(np.frombuffer(data, floats))))
            have += len(block)
        _expect(have, needed)
        if bad:
            raise NotFiniteError(f"{path} has {bad} voxels that are NaN or infinite: repair the image first")


# Bytes per voxel by the names that NRRD and MetaImage use.
_BYTES = {
    **dict.fromkeys(("char", "uchar", "signed char", "unsigned char", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "signed short", "unsigned short", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "signed int", "unsigned int", "int32", "uint32", "float"), 4),
    "double": 8,
}


def _check_nrrd(path: AnyPath) -> None:
    with open(path, "rb") as file:
        lines: list[str] = []
        while (line := file.readline(1 << 20).strip()) and len(lines) < 100_000:
            lines.append(line.decode("latin-1"))
        fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line and ":=" not in line)
        width = _BYTES.get(fields["type"].strip())
        if "data file" in fields or "datafile" in fields or width is None:
            return
        needed = math.prod(int(n) for n in fields["sizes"].split()) * width
        encoding = fields["encoding"].strip()
        if encoding in ("gzip", "gz"):
            with gzip.open(file) as stream:
                have = 0
                while block := stream.read(1 << 22):
                    have += len(block)
            _expect(have, needed)
        elif encoding == "raw":
            _expect(path.stat().st_size - file.tell(), needed)


def _check_metaimage(path: AnyPath) -> None:
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    match = re.search(rb"ElementDataFile\s*=\s*(\S+)[ \t]*\r?\n?", start)
    if match is None:
        raise EOFError("its header does not end")
    lines = start[: match.start()].decode("latin-1").splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    width = _BYTES.get(fields["ElementType"].removeprefix("MET_").lower())
    if match[1] != b"LOCAL" or width is None:
        return
    needed = math.prod(int(n) for n in fields["DimSize"].split()) * width
    needed *= int(fields.get("ElementNumberOfChannels", "1"))
    if fields.get("CompressedData", "False").lower() == "true":
        needed = int(fields["CompressedDataSize"])
    _expect(path.stat().st_size - match.end(), needed)
