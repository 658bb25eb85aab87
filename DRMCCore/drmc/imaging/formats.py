"""Image file formats by the endings of their names."""

from __future__ import annotations

from pathlib import Path

NIFTI, NRRD, MHA = "nifti", "nrrd", "mha"
_ENDINGS = {
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".nrrd": NRRD,
    ".nhdr": NRRD,
    ".mha": MHA,
    ".mhd": MHA,
}


def image_kind(path: str | Path) -> str | None:
    """ "nifti", "nrrd" or "mha" by the ending of the name; None for any other."""
    name = Path(path).name.lower()
    return next((kind for ending, kind in _ENDINGS.items() if name.endswith(ending)), None)


def stem(path: str | Path) -> str:
    """The file's name without the ending of its format (`.nii.gz` is one ending)."""
    name = Path(path).name
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(name).stem
