"""What a result was made from: checksums of scan, lesions, reference, model and its card, and the settings.

Two runs with the same fingerprint give the same result, whatever the files' dates say; where it differs,
`differences` says in which part. Only what lies beside a file and is read with it (side-car, detached voxels)
counts besides it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from drmc import __version__
from drmc.dicom.catalog import Catalog
from drmc.imaging.formats import image_kind, stem
from drmc.pet import sidecars

PARTS = {
    "scan": "the scan's files changed",
    "lesions": "lesions changed",
    "reference": "reference changed",
    "organs": "organs changed",
    "model": "model changed",
    "card": "the model's card changed",
    "settings": "settings changed",
    "version": "made by another version of drmc",
}


class Model(Protocol):
    """What a result knows of its model."""

    @property
    def sha256(self) -> str:
        """The checksum of the weights."""

    @property
    def card_sha256(self) -> str | None:
        """The checksum of the card, whose profiles and calibration the result has; None if not known."""


def of_files(paths: Iterable[Path], catalog: Catalog) -> str:
    """SHA-256 over the names and contents of files, in the order of their names.

    A file that cannot be read counts as such. A file whose checksum the catalog has is not read again.
    """
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        if not path.is_file():  # a named pipe may be waited for for ever; the reader refuses it
            digest.update(os.fsencode(path.name) + b"\0no file\n")
            continue
        try:
            content = catalog.sha256(path)
        except OSError as error:
            content = f"not read: {error.errno}"
        digest.update(os.fsencode(path.name) + b"\0" + content.encode() + b"\n")
    return digest.hexdigest()


def files_of(path: Path, catalog: Catalog) -> list[Path]:
    """The files that are read for a scan or a segmentation.

    They are the DICOM files of a folder, or of the folder of one DICOM file; an image with its side-car and
    its detached voxels; all files of any other folder.
    """
    if path.is_dir():
        found = catalog.dicom_files(path)
        return found or [Path(root) / name for root, _, names in os.walk(path) for name in names]
    if image_kind(path) is None:
        return catalog.dicom_files(path.parent) if catalog.is_dicom(path) else [path]
    card, _ = sidecars.find(path, stem(path))
    # The header file of a pair (.nhdr, .mhd) names its voxels; they lie beside it under the same name.
    pair = path.suffix.lower() in (".nhdr", ".mhd")
    voxels = (
        [file for file in path.parent.glob(f"{_literal(stem(path))}.*") if file.is_file()] if pair else []
    )
    return [path, *([card] if card else []), *voxels]


def of_run(
    scan: Path,
    lesions: str | os.PathLike[str] | None,
    reference: str | os.PathLike[str] | None,
    model: Model,
    settings: Mapping[str, Any],
    catalog: Catalog,
    organs: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """The fingerprint of a run: a value under each of PARTS, None for what was not given.

    `settings`: plain values of all options that change the result; `catalog`: what was read of DICOM files
    before.
    """

    def of(path: str | os.PathLike[str] | None, one_file: bool) -> str | None:
        if path is None:
            return None
        path = Path(path)
        return of_files([path] if one_file and path.is_file() else files_of(path, catalog), catalog)

    return {
        "scan": of(scan, False),
        "lesions": of(lesions, True),
        "reference": of(reference, False),
        "organs": of(organs, True),
        "model": model.sha256,
        "card": model.card_sha256,
        "settings": dict(settings),
        "version": __version__,
    }


def differences(earlier: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """In which parts a fingerprint differs from an earlier one, in words; empty where it is the same."""
    if not isinstance(earlier, Mapping):
        return ["made without a fingerprint"]
    found = []
    for part, text in PARTS.items():
        before, after = earlier.get(part), now.get(part)
        if before == after or (part == "card" and earlier.get("model") != now.get("model")):
            continue
        if part == "settings" and isinstance(before, Mapping) and isinstance(after, Mapping):
            keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
            text += f" ({', '.join(keys)})"
        found.append(text)
    return found


def _literal(text: str) -> str:
    """A name in a glob pattern that stands for itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
