"""Which files of a folder are DICOM images, by what they hold; nothing here needs pydicom."""

from __future__ import annotations

import enum
import os
import stat
from pathlib import Path
from typing import BinaryIO

from drmc.errors import InputError

_START = 1024  # bytes that say what a file is
_FIRST_ELEMENTS = (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00")
# MediaStorageSOPClassUID (0002,0002) of Media Storage Directory Storage (PS3.4 I), as the file meta group has
# it.
_MEDIA_DIRECTORY = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"


class FileKind(enum.Enum):
    """What a file is, by its first bytes. A DICOMDIR names the images of a medium and is no image."""

    OTHER = "other"
    DICOM = "dicom"
    MEDIA_DIRECTORY = "media directory"


def kind_of(file: BinaryIO) -> FileKind:
    """What an open file is. DICOM begins with its preamble or, as old files do, with group 0002 or 0008."""
    start = file.read(_START)
    has_preamble = start[128:132] == b"DICM"
    if (has_preamble or start[:2] == b"\x02\x00") and _MEDIA_DIRECTORY in start:
        return FileKind.MEDIA_DIRECTORY
    old = start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:4] in _FIRST_ELEMENTS
    return FileKind.DICOM if has_preamble or old else FileKind.OTHER


def file_kind(path: str | os.PathLike[str]) -> FileKind:
    """What a file is; OTHER where it is no regular file or cannot be read."""
    try:
        with open_regular(path) as file:
            return kind_of(file)
    except OSError:
        return FileKind.OTHER


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file for reading.

    Raises OSError where it cannot be read, or is no regular file: reading a pipe may never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{os.fspath(path)} is no regular file")
    return open(path, "rb")


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as DICOM does."""
    return file_kind(path) is not FileKind.OTHER


def is_media_directory(path: str | os.PathLike[str]) -> bool:
    """Whether a file is the DICOMDIR of a medium, such as a patient CD (PS3.10 8)."""
    return file_kind(path) is FileKind.MEDIA_DIRECTORY


def has_dicom(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder itself has a DICOM file other than the directory of a medium."""
    return any(file_kind(file) is FileKind.DICOM for file in folder_files(Path(folder)))


def folder_files(folder: Path) -> list[Path]:
    """The visible regular files of a folder, by name, without links to others of them."""
    try:
        files = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None
    return without_doubles(files)


def without_doubles(paths: list[Path]) -> list[Path]:
    """The paths in their order, without links to others of them or to what an earlier link leads to."""
    if not any(path.is_symlink() for path in paths):
        return paths
    seen = {os.path.realpath(path) for path in paths if not path.is_symlink()}
    kept = []
    for path in paths:
        real = os.path.realpath(path)
        if not path.is_symlink() or real not in seen:
            kept.append(path)
            seen.add(real)
    return kept
