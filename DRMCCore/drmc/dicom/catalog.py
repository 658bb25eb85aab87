"""What a run has read of DICOM files, so that it opens each at most twice: for header and pixel data."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from drmc.dicom.finding import FileKind, folder_files, kind_of, open_regular
from drmc.errors import InputError
from drmc.paths import AnyPath, plain

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from drmc.dicom.header import Header

_CHUNK = 1 << 20


@dataclass(frozen=True)
class FolderContent:
    """What a folder of DICOM files holds.

    Attributes:
        pet: whether there is PET.
        counts: whether any of it is corrected for attenuation and no projection, or leaves that to its
            reader.
        study: StudyInstanceUID (0020,000D) of the PET that decided it; "" where unknown.
    """

    pet: bool
    counts: bool
    study: str = ""


@dataclass
class _Record:
    """What the first opening of a file has shown: its kind, and the header of DICOM or how it is damaged."""

    kind: FileKind
    header: Header | None = None
    damage: str = ""


class Catalog:
    """The DICOM files of one run.

    The first question about a file opens it once and keeps what it is and its header without pixel data;
    values of private elements of more than a few kilobytes are left out. `elements` or `opened` opens it
    again. With `checksums` that opening also makes the SHA-256 of the whole file, so that nothing has to be
    read a third time. A catalog does not notice files that change while it lives.
    """

    def __init__(self, *, checksums: bool = False):
        self._checksums = checksums
        self._records: dict[Path, _Record] = {}
        self._contents: dict[Path, FolderContent] = {}
        self._sha256: dict[Path, str] = {}

    def is_dicom(self, path: Path) -> bool:
        """Whether a file begins as DICOM does."""
        return self._record(path).kind is not FileKind.OTHER

    def is_media_directory(self, path: Path) -> bool:
        """Whether a file is the DICOMDIR of a medium."""
        return self._record(path).kind is FileKind.MEDIA_DIRECTORY

    def has_dicom(self, folder: Path) -> bool:
        """Whether a folder itself has a DICOM file other than the directory of a medium."""
        return any(self._record(path).kind is FileKind.DICOM for path in folder_files(folder))

    def dicom_files(self, folder: Path) -> list[Path]:
        """The DICOM files of a folder itself, by name, without the directory of a medium."""
        return [path for path in folder_files(folder) if self._record(path).kind is FileKind.DICOM]

    def header(self, path: AnyPath) -> Header:
        """The header of a DICOM file; InputError where it cannot be read."""
        from drmc.dicom.header import unreadable

        record = self._record(plain(path))
        if record.header is None and not record.damage:  # dropped
            record = self._records[plain(path)] = _read(plain(path))
        if record.header is None:
            raise unreadable(path, record.damage or "no DICOM file")
        return record.header

    def elements(self, path: AnyPath, keywords: Sequence[str]) -> Dataset:
        """The elements `keywords`, such as PixelData; InputError where the file cannot be read."""
        from drmc.dicom.header import read_elements, unreadable

        try:
            with self.opened(path) as file:
                return read_elements(file, keywords)
        except Exception as error:
            raise unreadable(path, type(error).__name__) from None

    @contextmanager
    def opened(self, path: AnyPath) -> Iterator[BinaryIO]:
        """The file, open at its start, for the one time that it is read whole. Raises OSError."""
        with open_regular(path) as file:
            if self._checksums:
                self._sha256[plain(path)] = _sha256_of(file)
                file.seek(0)
            yield file

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file, in hexadecimal; of one that was read whole without opening it again.

        Raises OSError where the file cannot be read.
        """
        if path not in self._sha256:
            with open(path, "rb") as file:
                self._sha256[path] = _sha256_of(file)
        return self._sha256[path]

    def look(self, folder: Path) -> FolderContent:
        """What a folder of DICOM files holds; looks no further than to the first PET that counts.

        A damaged file counts: its reader will say how. Of a folder without PET no header is kept.
        """
        if folder not in self._contents:
            found = self._contents[folder] = self._look(folder)
            if not found.pet:
                self._drop_headers(path for path in self._records if path.parent == folder)
        return self._contents[folder]

    def split(self, folder: Path) -> Catalog:
        """Moves what is known of the files below a folder into a catalog of their own."""
        taken = Catalog(checksums=self._checksums)
        for path in [path for path in self._records if folder in path.parents]:
            taken._records[path] = self._records.pop(path)
        return taken

    def forget_headers(self) -> None:
        """Drops all headers, which need memory; what the files are stays, and so do the checksums."""
        self._drop_headers(self._records)

    def _drop_headers(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._records[path].header = None

    def _record(self, path: Path) -> _Record:
        if path not in self._records:
            self._records[path] = _read(path)
        return self._records[path]

    def _look(self, folder: Path) -> FolderContent:
        from drmc.dicom.choice import is_projection
        from drmc.dicom.header import text_of, texts_of, value_of

        pet = None
        for path in self.dicom_files(folder):
            try:
                header = self.header(path).dataset
            except InputError:
                return FolderContent(True, True)
            if text_of(value_of(header, "Modality")) not in ("PT", ""):
                continue
            corrected = texts_of(value_of(header, "CorrectedImage"))
            study = text_of(value_of(header, "StudyInstanceUID"))
            # A multi-frame image says elsewhere how it was corrected, and its reader looks there.
            projected = is_projection(texts_of(value_of(header, "ImageType")))
            if not projected and (not corrected or "ATTN" in corrected):
                return FolderContent(True, True, study)
            pet = pet or FolderContent(True, False, study)
        return pet or FolderContent(False, False)


def _read(path: Path) -> _Record:
    """The first opening of a file."""
    try:
        with open_regular(path) as file:
            kind = kind_of(file)
            if kind is not FileKind.DICOM:
                return _Record(kind)
            from drmc.dicom.header import read_header  # pydicom is needed for DICOM only

            file.seek(0)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return _Record(kind, read_header(file))
            except Exception as error:
                return _Record(kind, damage=type(error).__name__)
    except OSError:
        return _Record(FileKind.OTHER)


def _sha256_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
