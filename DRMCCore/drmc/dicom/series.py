"""Reading a PET series from DICOM files: which belong together, where slices lie, what headers say.

Classic PET, one slice per file, and multi-frame PET (`drmc.dicom.enhanced`). Nothing that identifies a patient leaves this file: no names, IDs or
birth dates go into messages, notices or header facts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from drmc.dicom.choice import PET_CLASSES, Group, choose
from drmc.dicom.decode import ALWAYS_LOSSY
from drmc.dicom.enhanced import ENHANCED_PET_CLASS, SYNONYMS, frames_of_series
from drmc.dicom.finding import folder_files, is_dicom, is_media_directory
from drmc.dicom.header import (
    UNDEFINED_LENGTH,
    is_deflated,
    number_of,
    read_dataset,
    slice_facts,
    tag_of,
    text_of,
    texts_of,
    transfer_syntax,
    value_of,
)
from drmc.dicom.pixels import rescaled, stored_values
from drmc.dicom.stack import frame_number, slice_label, stacked
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry

# What reports show, by keyword.
_REPORTED = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "software": "SoftwareVersions",
    "reconstruction": "ReconstructionMethod",
    "filter": "ConvolutionKernel",
    "attenuation_correction": "AttenuationCorrectionMethod",
    "scatter_correction": "ScatterCorrectionMethod",
    "randoms_correction": "RandomsCorrectionMethod",
    "series_type": "SeriesType",
    "image_type": "ImageType",
    "body_part": "BodyPartExamined",
    "patient_position": "PatientPosition",
    "decay_correction": "DecayCorrection",
    "units": "Units",
}


@dataclass
class PETSeries:
    """One PET series, everything in slice order.

    `array` float32 (z, y, x) of rescaled values; `slices` one mapping of header facts each, for `suv.decide`;
    `header` facts for reports; `files` one per slice, or those of the multi-frame image; `synonyms` what the
    elements that the SUV rules name are called in this series; `frame_of_reference` (0020,0052) and `uid` (0020,000E).
    """

    array: np.ndarray
    geometry: Geometry
    slices: list[dict[str, Any]]
    header: dict[str, Any]
    notices: list[str]
    files: list[Path]
    synonyms: dict[str, str] = field(default_factory=dict)
    frame_of_reference: str | None = None
    uid: str | None = None


def read_pet_series(
    path: str | Path, series_uid: str | None = None, series_description: str | None = None
) -> PETSeries:
    """Reads the PET series of a folder, or the series that one file belongs to.

    Of several series the only attenuation-corrected one is taken, or the one with this UID, or the only one whose
    description holds this text (drmc.dicom.choice).
    Sorts the slices by position along their normal, whatever the files' order, and rescales each by its own
    slope. Raises InputError where there is no such series, or it is not one static, complete volume.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    groups, notices = _scan(path, folder)
    if not path.is_dir():
        mine = next((g for g in groups if any(os.path.samefile(file, path) for file, _ in g.loaded)), None)
        if mine is None:
            raise InputError(f"{path} is no DICOM image: choose a PET series")
        if series_uid is not None and series_uid.strip() != mine.uid:
            raise InputError(f"{path} belongs to series {mine.uid}, not to {series_uid}: choose one of them")
        series_uid = mine.uid
    group, more = choose(groups, series_uid, path, series_description)
    notices += more
    _check_kind(group, path)
    loaded = group.loaded
    if group.multi_frame:
        _check_same(loaded, ("SOPClassUID", "Rows", "Columns"))
        loaded = frames_of_series(loaded)
    _check_same(loaded)
    loaded, geometry, more = stacked(loaded)
    notices += more
    array = _voxels(loaded, geometry)
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(f"{path} has {bad} voxels that are NaN or infinite: check RescaleSlope (0028,1053)")
    announced = number_of(value_of(loaded[0][1], "NumberOfSlices"))
    if announced and int(announced) != len(loaded):
        notices.append(
            f"NumberOfSlices (0054,0081) announces {int(announced)} slices, {len(loaded)} are here and "
            "touch: cropped?"
        )
    lossy = [uid for _, header in group.loaded if (uid := transfer_syntax(header)) in ALWAYS_LOSSY]
    if lossy or any(text_of(value_of(header, "LossyImageCompression")) == "01" for _, header in loaded):
        said = f"by {lossy[0].name} (0002,0010)" if lossy else "(0028,2110)"
        notices.append(f"the pixel data were compressed with loss {said}: SUV figures may differ from it")
    first = group.loaded[0][1]
    return PETSeries(
        array,
        geometry,
        [slice_facts(header) for _, header in loaded],
        _reported(loaded, geometry),
        notices,
        list(dict.fromkeys(file for file, _ in loaded)),
        SYNONYMS if group.sop_class == ENHANCED_PET_CLASS else {},
        text_of(value_of(first, "FrameOfReferenceUID")) or None,
        text_of(value_of(first, "SeriesInstanceUID")) or None,
    )


def _voxels(loaded: list[tuple[Path, Dataset]], geometry: Geometry) -> np.ndarray:
    """Rescaled values, float32 (z, y, x); every file is read once."""
    array = np.empty(geometry.shape, np.float32)
    slices: dict[Path, list[int]] = {}
    for z, (file, _) in enumerate(loaded):
        slices.setdefault(file, []).append(z)
    with np.errstate(over="ignore"):
        for file, indices in slices.items():
            stored = stored_values(file, len(indices), *geometry.shape[1:])
            for z in indices:
                header = loaded[z][1]
                array[z] = rescaled(file, stored[frame_number(header) - 1], header)
    return array


def _scan(path: Path, folder: Path) -> tuple[list[Group], list[str]]:
    """Groups the DICOM files of a folder by series."""
    if is_media_directory(path):
        raise InputError(
            f"{path} is the directory of a medium (DICOMDIR), no image: choose the folder of a PET series"
        )
    if not path.is_dir() and not is_dicom(path):
        raise InputError(f"{path} is no DICOM, NIfTI, NRRD or MetaImage file: choose a PET scan")
    groups: dict[str, Group] = {}
    others = 0
    for file in folder_files(folder):
        header = read_dataset(file) if is_dicom(file) else None
        if header is None:
            if file.suffix.lower() == ".dcm" and file.stat().st_size < 132:
                raise InputError(f"{file} is truncated ({file.stat().st_size} bytes): copy the series again")
            others += 1
        elif "DirectoryRecordSequence" in header:
            others += 1
        else:
            uid = text_of(value_of(header, "SeriesInstanceUID"))
            if not uid or not text_of(value_of(header, "Modality")):
                raise InputError(
                    f"{file} is truncated or damaged: it lacks SeriesInstanceUID (0020,000E) or Modality "
                    "(0008,0060); copy the series again"
                )
            if text_of(value_of(header, "SOPClassUID")) in PET_CLASSES:
                _check_whole(file, header)
            groups.setdefault(uid, Group(uid, [])).loaded.append((file, header))
    if groups:
        notices = [f"{others} files that are no DICOM images were ignored"] if others else []
        return list(groups.values()), notices
    if others:
        raise InputError(
            f"{folder} holds no DICOM image ({others} other files): choose a folder with a PET series"
        )
    inside = sum(p.is_dir() for p in folder.iterdir())
    hint = f"holds only {inside} sub-folders: choose the one with the PET series"
    raise InputError(f"{folder} {hint if inside else 'is empty: choose a folder with a PET series'}")


def _check_whole(path: Path, header: Dataset) -> None:
    """Refuses a file that ends before its pixel data do: whatever is missing was written after that point."""
    pixels = header.get_item("PixelData", keep_deferred=True)
    if pixels is not None and is_deflated(header):
        return  # its reader has seen them whole
    size = path.stat().st_size
    length = getattr(pixels, "length", 0)
    start = getattr(pixels, "value_tell", 0)
    if pixels is None or (length != UNDEFINED_LENGTH and start + length > size):
        raise InputError(
            f"{path} is truncated: its {size} bytes end before the pixel data (7FE0,0010) do; copy the "
            "series again"
        )


def _check_kind(group: Group, path: Path) -> None:
    if group.modality != "PT":
        raise InputError(
            f"{path} holds a {group.modality} series (Modality (0008,0060), {len(group.loaded)} images), not "
            "PT: choose the folder of the PET series"
        )
    if group.sop_class not in PET_CLASSES:
        raise InputError(
            f"{path} is no PET image storage (SOPClassUID (0008,0016) {group.sop_class}): choose the "
            "original PET series"
        )


_SAME = ("SOPClassUID", "Modality", "Rows", "Columns", "PixelSpacing", "FrameOfReferenceUID", "SeriesType")


def _check_same(loaded: list[tuple[Path, Dataset]], keywords: tuple[str, ...] = _SAME) -> None:
    """One kind of image on one matrix; static slices."""
    first = loaded[0][1]
    for keyword in keywords:
        expected = value_of(first, keyword)
        for path, header in loaded:
            value = value_of(header, keyword)
            if value != expected and not _close(value, expected):
                raise InputError(
                    f"{keyword} {tag_of(keyword)} differs within the series ({slice_label(path, header)}: {value}, "
                    f"{slice_label(*loaded[0])}: {expected}): keep one series per folder"
                )
    types = texts_of(value_of(first, "SeriesType"))
    if types and types[0] in ("DYNAMIC", "GATED"):
        raise InputError(
            f"SeriesType (0054,1000) is {types[0]}: such series are not denoised, choose a static one"
        )
    if "REPROJECTION" in types:
        raise InputError(
            "SeriesType (0054,1000) is REPROJECTION: choose the series of slices, not of projections"
        )


def _close(value: Any, expected: Any) -> bool:
    """Whether two lists of numbers differ only in their last digits."""
    if not isinstance(value, list) or not isinstance(expected, list) or len(value) != len(expected):
        return False
    pairs = [(number_of(a), number_of(b)) for a, b in zip(value, expected, strict=True)]
    return all(a is not None and b is not None and abs(a - b) <= 1e-4 * abs(b) for a, b in pairs)


def _reported(loaded: list[tuple[Path, Dataset]], geometry: Geometry) -> dict[str, Any]:
    """Facts for reports: none of them identifies the patient."""
    first = loaded[0][1]
    header: dict[str, Any] = {}
    for name, keyword in _REPORTED.items():
        value = value_of(first, keyword)
        if value not in (None, "", []):
            header[name] = value
    tracer = text_of(slice_facts(first).get("Radiopharmaceutical"))
    if tracer:
        header["tracer"] = tracer
    durations = [number_of(value_of(h, "ActualFrameDuration")) for _, h in loaded]
    known = [d / 1000.0 for d in durations if d is not None]
    if known:
        header["frame_duration_s"] = sorted({min(known), max(known)})
    header["slices"] = geometry.shape[0]
    header["matrix"] = [geometry.shape[2], geometry.shape[1]]
    header["spacing_mm"] = list(geometry.spacing)
    return header
