"""Image file formats by the endings of their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

NIFTI, NRRD, MHA = "nifti", "nrrd", "mha"
_KINDS = {
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".nrrd": NRRD,
    ".nhdr": NRRD,
    ".mha": MHA,
    ".mhd": MHA,
}
IMAGE_ENDINGS = tuple(_KINDS)


def image_kind(path: str | os.PathLike[str]) -> str | None:
    """The format by the ending of the name: "nifti", "nrrd", "mha", or None for any other."""
    name = Path(path).name.lower()
    return next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), None)


def stem(path: str | os.PathLike[str], endings: Sequence[str] = IMAGE_ENDINGS) -> str:
    """The file's name without the longest of `endings` that it has (`.nii.gz` is one ending)."""
    name = Path(path).name
    for ending in sorted(endings, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(name).stem
