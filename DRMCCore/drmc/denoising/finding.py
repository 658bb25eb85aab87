"""What is a scan and what is a batch, which scans a folder holds, and which files go with them.

A file is a scan, and so is a folder with DICOM files directly in it. Any other folder is the one PET series
below it, however deep (CT and image files beside it do not count), or, without any DICOM PET, the one image
file below it; if there are several, it is a batch. The DICOMDIR of a patient CD is no scan and stands for its
folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from drmc import files
from drmc.dicom.catalog import Catalog, FolderContent
from drmc.dicom.finding import without_doubles
from drmc.errors import InputError
from drmc.imaging.formats import image_kind, stem

SEGMENTATION_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".dcm")


def is_batch(path: Path, catalog: Catalog | None = None) -> bool:
    """Whether `path` is a folder that holds several scans (see the head of this file)."""
    catalog = catalog or Catalog()
    path = of_medium(path, catalog)
    return path.is_dir() and not catalog.has_dicom(path) and len(_scans_below(path, catalog)) > 1


def find_scans(folder: Path, pattern: str | None = None) -> dict[str, Path]:
    """The scans of a batch folder by name, in the order of their names.

    Every visible subfolder that holds anything is one scan, every image file directly in the folder too
    (segmentations `*.seg.nrrd` are not). With `pattern` (a glob such as `*/*/low_drf012.nii.gz`) exactly
    what matches it. The name is the path below the folder, without the image ending and with `_` between
    its parts. What is there twice, by a link, is one scan.

    Raises:
        InputError: the folder does not exist or is a single scan, or nothing matches the pattern.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    catalog = Catalog()
    folder = of_medium(folder, catalog)
    if not folder.is_dir() or catalog.has_dicom(folder):
        raise InputError(
            f"{folder}: is one scan, not a folder of scans: leave out --batch, --match and --resume"
        )
    if pattern is not None:
        if not Path(pattern).parts or ".." in Path(pattern).parts or Path(pattern).is_absolute():
            raise InputError(
                f"--match {pattern}: must be a pattern below the input folder, such as '*/pet.nii.gz'"
            )
        try:
            matching = sorted(path for path in folder.glob(pattern) if path.is_dir() or _is_image(path))
        except ValueError as error:  # such as '**x'
            raise InputError(
                f"--match {pattern}: is no pattern ({error}): write one such as '*/pet.nii.gz'"
            ) from None
        if not matching:
            raise InputError(f"--match {pattern}: there is no such scan below {folder}: correct the pattern")
        paths = without_doubles(matching)
    else:
        paths = [
            path
            for path in _visible(folder)
            if (path.is_dir() and any(_files_below(path))) or (path.is_file() and _is_image(path))
        ]
    paths = [path for path in paths if not _leads_back(path, folder)]
    scans: dict[str, Path] = {}
    for path in paths:
        parts = path.relative_to(folder).parts
        name = whole = "_".join((*parts[:-1], scan_name(path)))
        count = 1
        while name in scans:  # a.nii and a.nrrd, or a/b and a_b
            count += 1
            name = f"{whole}-{count}"
        scans[name] = path
    return scans


def find_scan(path: Path, catalog: Catalog | None = None) -> Path:
    """The scan that a path means: itself, or the only scan below a folder without DICOM files of its own.

    Raises InputError if the path does not exist or there are several.
    """
    files.check_regular(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    catalog = catalog or Catalog()
    path = of_medium(path, catalog)
    if path.is_file() or catalog.has_dicom(path):
        return path
    found = _scans_below(path, catalog)
    if len(found) > 1:
        names = ", ".join(str(scan.relative_to(path)) for scan in found[:2])
        raise InputError(f"{path}: holds several scans ({names}, ...): name one of them")
    return found[0] if found else path


def scan_name(path: Path, catalog: Catalog | None = None) -> str:
    """A scan's name: its file name without the image ending, or its folder's name."""
    absolute = Path(os.path.abspath(of_medium(path, catalog or Catalog())))
    return (absolute.name if absolute.is_dir() else stem(absolute)) or "scan"


def passed_over(path: Path, scan: Path, catalog: Catalog | None = None) -> list[str]:
    """A notice of the PET series below a folder that were not taken, where `scan` was (`find_scan`)."""
    catalog = catalog or Catalog()
    path = of_medium(path, catalog)
    if not path.is_dir() or path == scan or scan.is_file():
        return []
    others = [
        str(found.relative_to(path))
        for found in _walk_scans(path, catalog)
        if found.is_dir() and found != scan and catalog.look(found).pet
    ]
    if not others:
        return []
    return [
        f"the only attenuation-corrected PET series of this study was taken; passed over: {', '.join(others)}"
    ]


def _scans_below(folder: Path, catalog: Catalog) -> list[Path]:
    """The PET series below a folder; without any, the image files; without these, any DICOM.

    The reader of the last says why it is no scan. A series without correction for attenuation, or a
    projection, does not count beside a corrected one of the same study. Stops at the second PET series that
    counts: nobody needs to know more than that there are several.
    """
    pet: list[tuple[Path, FolderContent]] = []
    images: list[Path] = []
    others: list[Path] = []
    for scan in _walk_scans(folder, catalog):
        if scan.is_file():
            images.append(scan)
            continue
        content = catalog.look(scan)
        if content.pet:
            pet.append((scan, content))
        else:
            others.append(scan)
        if sum(content.counts for _, content in pet) > 1:
            break
    studies = {content.study for _, content in pet if content.counts} - {""}  # unnamed ones may be any
    found = [scan for scan, content in pet if content.counts or content.study not in studies]
    return found or images or others


def _walk_scans(folder: Path, catalog: Catalog, seen: set[str] | None = None) -> Iterator[Path]:
    """DICOM folders and image files below a folder, by name; DICOM folders are not entered.

    A folder that several links lead to, or that holds a link to itself, counts once.
    """
    seen = {os.path.realpath(folder)} if seen is None else seen
    for path in _visible(folder):
        if path.is_dir():
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            if catalog.has_dicom(path):
                yield path
            else:
                yield from _walk_scans(path, catalog, seen)
        elif _is_image(path):
            yield path


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, by name, links to what is there already left out."""
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: this folder cannot be read ({error.strerror})") from error
    return without_doubles(found)


def _leads_back(path: Path, folder: Path) -> bool:
    """Whether a path is a link to a folder above, or to what can be seen in the folder anyway."""
    if not path.is_symlink() or not path.is_dir():
        return False
    real, above = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if real == above or real in above.parents:
        return True
    return above in real.parents and not any(part.startswith(".") for part in real.relative_to(above).parts)


def of_medium(path: Path, catalog: Catalog) -> Path:
    """The folder of a medium (a patient CD) that its DICOMDIR stands for; any other path is itself."""
    return path.parent if path.is_file() and catalog.is_media_directory(path) else path


def _files_below(folder: Path) -> Iterator[Path]:
    return (
        Path(root) / name for root, _, names in os.walk(folder) for name in names if not name.startswith(".")
    )


def _is_image(path: Path) -> bool:
    return path.is_file() and image_kind(path) is not None and not path.name.lower().endswith(".seg.nrrd")


def companions(
    where: str | os.PathLike[str] | None, scans: dict[str, Path], option: str
) -> dict[str, Path | None]:
    """For every scan of a batch the file that goes with it, None without one."""
    if where is None:
        return dict.fromkeys(scans)
    text = os.fspath(where)
    found: dict[str, Path | None] = {}
    if "{name}" in text or "{folder}" in text:
        for name, path in scans.items():
            candidate = Path(text.replace("{name}", name).replace("{folder}", str(path.parent)))
            found[name] = candidate if candidate.exists() else None
    elif Path(text).is_dir():
        for name in scans:
            candidates = [Path(text) / f"{name}{ending}" for ending in SEGMENTATION_ENDINGS] + [
                Path(text) / name
            ]
            found[name] = next((candidate for candidate in candidates if candidate.exists()), None)
    else:
        raise InputError(
            f"{option} {text}: for a batch give a folder, or a pattern with {{name}} or {{folder}}"
        )
    if not any(found.values()):
        raise InputError(
            f"{option} {text}: nothing there has the name of a scan (the first scan is {next(iter(scans))})"
        )
    return found
