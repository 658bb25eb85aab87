"""Which files of a folder are DICOM images, by what they hold; nothing here needs pydicom."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from drmc.errors import InputError

_FIRST_ELEMENTS = (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00")
# MediaStorageSOPClassUID (0002,0002) of Media Storage Directory Storage (PS3.4 I), as the file meta group has it.
_MEDIA_DIRECTORY = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"


def is_dicom(path: str | Path) -> bool:
    """Whether a file begins as DICOM does: with its preamble or, as old files do, with group 0002 or 0008."""
    start = _start(path, 132)
    return start[128:] == b"DICM" or (
        start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:4] in _FIRST_ELEMENTS
    )


def is_media_directory(path: str | Path) -> bool:
    """Whether a file is the DICOMDIR of a medium, such as a patient CD (PS3.10 8): it names images and is none."""
    start = _start(path, 1024)
    return (start[128:132] == b"DICM" or start[:2] == b"\x02\x00") and _MEDIA_DIRECTORY in start


def has_dicom(folder: str | Path) -> bool:
    """Whether a folder itself, not its sub-folders, holds a DICOM file other than the directory of a medium."""
    return any(is_dicom(file) and not is_media_directory(file) for file in folder_files(Path(folder)))


def dicom_files(folder: str | Path) -> list[Path]:
    """The DICOM files of a folder itself, by name, without the directory of a medium."""
    return [file for file in folder_files(Path(folder)) if is_dicom(file) and not is_media_directory(file)]


def folder_files(folder: Path) -> list[Path]:
    """The visible regular files of a folder, by name; one that is also there under another name, by a link, once."""
    try:
        files = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None
    return without_doubles(files)


def without_doubles(paths: list[Path]) -> list[Path]:
    """The paths in their order without links to what is there already, under its own name or by an earlier link."""
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


def _start(path: str | Path, size: int) -> bytes:
    """The first bytes of a regular file; none of what is no such file or cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
