"""Reading a PET series from DICOM files: which belong together, where slices lie, what headers say.

Classic PET, one slice per file, and multi-frame PET (`drmc.dicom_enhanced`). Nothing that identifies a patient leaves this file: no names, IDs or
birth dates go into messages, notices or header facts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from drmc.dicom_choice import PET_CLASSES, Group, choose
from drmc.dicom_decode import ALWAYS_LOSSY
from drmc.dicom_enhanced import ENHANCED_PET_CLASS, SYNONYMS, frames_of_series
from drmc.dicom_folder import folder_files, is_dicom, is_media_directory
from drmc.dicom_header import (
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
from drmc.dicom_pixels import rescaled, stored_values
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.imaging.integrity import ORTHONORMAL_TOLERANCE

STEP_TOLERANCE = 0.10  # of the median slice step; more is a gap
SHEAR_TOLERANCE_MM = 0.1  # slices may be shifted in their plane by this much

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
    elements that the SUV rules name are called in this series.
    """

    array: np.ndarray
    geometry: Geometry
    slices: list[dict[str, Any]]
    header: dict[str, Any]
    notices: list[str]
    files: list[Path]
    synonyms: dict[str, str] = field(default_factory=dict)


def read_pet_series(
    path: str | Path, series_uid: str | None = None, series_description: str | None = None
) -> PETSeries:
    """Reads the PET series of a folder, or the series that one file belongs to.

    Of several series the only attenuation-corrected one is taken, or the one with this UID, or the only one whose
    description holds this text (drmc.dicom_choice).
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
    loaded, geometry, more = _sorted(loaded)
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
    return PETSeries(
        array,
        geometry,
        [slice_facts(header) for _, header in loaded],
        _reported(loaded, geometry),
        notices,
        list(dict.fromkeys(file for file, _ in loaded)),
        SYNONYMS if group.sop_class == ENHANCED_PET_CLASS else {},
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
                array[z] = rescaled(file, stored[_frame_number(header) - 1], header)
    return array


def _frame_number(header: Dataset) -> int:
    """Which frame of its file a slice is, from 1; a classic slice is the only one."""
    return int(number_of(value_of(header, "ReferencedFrameNumber")) or 1)


def _place(path: Path, header: Dataset) -> str:
    return path.name + (f" frame {_frame_number(header)}" if "ReferencedFrameNumber" in header else "")


# ---------------------------------------------------------------------------------------- finding files


def frame_of_reference(path: str | Path) -> str | None:
    """FrameOfReferenceUID (0020,0052) of a DICOM file, None where it has none."""
    return _uid(path, "FrameOfReferenceUID")


def series_uid(path: str | Path) -> str | None:
    """SeriesInstanceUID (0020,000E) of a DICOM file, None where it has none."""
    return _uid(path, "SeriesInstanceUID")


def _uid(path: str | Path, keyword: str) -> str | None:
    return text_of(value_of(read_dataset(Path(path), [keyword]), keyword)) or None


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


# ---------------------------------------------------------------------------------------- the series


_TIMES = ("AcquisitionTime", "AcquisitionDateTime", "FrameReferenceTime")
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
                    f"{keyword} {tag_of(keyword)} differs within the series ({_place(path, header)}: {value}, "
                    f"{_place(*loaded[0])}: {expected}): keep one series per folder"
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


def _vector(path: Path, ds: Dataset, keyword: str, length: int) -> np.ndarray:
    value = value_of(ds, keyword)
    numbers = [number_of(v) for v in value] if isinstance(value, list) else []
    if len(numbers) != length or any(n is None for n in numbers):
        raise InputError(
            f"{path}: {keyword} {tag_of(keyword)} is missing or damaged: export the series again"
        )
    return np.array(numbers)


def plane_axes(orientation: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The unit vectors of a row and a column, at right angles, of ImageOrientationPatient (0020,0037) (6,).

    Raises InputError where their lengths or their angle are off by more than ORTHONORMAL_TOLERANCE.
    """
    row, column = orientation[:3], orientation[3:]
    if np.abs([row @ row - 1, column @ column - 1, row @ column]).max() > ORTHONORMAL_TOLERANCE:
        raise InputError(
            f"{path}: ImageOrientationPatient (0020,0037) is no pair of unit vectors at right angles (lengths "
            f"{np.linalg.norm(row):.6g} and {np.linalg.norm(column):.6g}, product {row @ column:.4g}), so its axes are "
            "not orthonormal: export it again, or resample it onto a grid that is not sheared"
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _sorted(
    loaded: list[tuple[Path, Dataset]],
) -> tuple[list[tuple[Path, Dataset]], Geometry, list[str]]:
    """The slices in ascending position along their normal, and the grid they make."""
    path, first = loaded[0]
    orientation = _vector(path, first, "ImageOrientationPatient", 6)
    row, column = plane_axes(orientation, path)
    normal = np.cross(row, column)
    positions = []
    for p, ds in loaded:
        if np.max(np.abs(_vector(p, ds, "ImageOrientationPatient", 6) - orientation)) > 1e-4:
            raise InputError(
                f"{p}: ImageOrientationPatient (0020,0037) differs within the series: keep one series per "
                "folder"
            )
        positions.append(_vector(p, ds, "ImagePositionPatient", 3))
    along = np.array([q @ normal for q in positions])
    order = np.argsort(along, kind="stable")
    loaded = [loaded[i] for i in order]
    positions = np.array(positions)[order]
    along = along[order]
    notices = []
    if len(loaded) > 1:
        step, notices = _step(loaded, along)
        shift = positions - positions[0]
        shear = np.max(np.linalg.norm(shift - np.outer(shift @ normal, normal), axis=1))
        if shear > SHEAR_TOLERANCE_MM:
            raise InputError(
                f"{path.parent}: slices are shifted against each other in their plane by up to {shear:.2f} "
                "mm (ImagePositionPatient (0020,0032)): resample the series first"
            )
    else:
        step = number_of(value_of(first, "SliceThickness")) or 0.0
        if step <= 0:
            raise InputError(
                f"{path}: one slice without SliceThickness (0018,0050): write it into the header"
            )
        notices.append(f"the series has one slice; its thickness {step:g} mm is taken as the slice step")
    spacing = _vector(path, first, "PixelSpacing", 2)
    if spacing.min() <= 0:
        raise InputError(f"{path}: PixelSpacing (0028,0030) is not positive: export the series again")
    rows, columns = (int(number_of(value_of(first, k)) or 0) for k in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise InputError(
            f"{path}: Rows (0028,0010) or Columns (0028,0011) is missing: export the series again"
        )
    geometry = Geometry(
        (len(loaded), rows, columns),
        (float(spacing[1]), float(spacing[0]), float(step)),
        tuple(float(v) for v in positions[0]),
        tuple(float(v) + 0.0 for v in np.column_stack([row, column, normal]).ravel()),
    )
    return loaded, geometry, notices


def _step(loaded: list[tuple[Path, Dataset]], along: np.ndarray) -> tuple[float, list[str]]:
    steps = np.diff(along)
    median = float(np.median(steps))
    folder = loaded[0][0].parent
    same = np.flatnonzero(steps <= max(1e-3, 0.01 * median))
    if same.size:
        a, b = loaded[same[0]], loaded[same[0] + 1]
        times = [[text_of(value_of(ds, key)) for key in _TIMES] for _, ds in (a, b)]
        what = "a dynamic or gated stack" if times[0] != times[1] else "duplicated slices"
        raise InputError(
            f"{folder}: {same.size} positions hold several images ({_place(*a)} and {_place(*b)}; "
            f"ImagePositionPatient (0020,0032)): {what}; keep one image per position"
        )
    off = np.abs(steps - median) > STEP_TOLERANCE * median
    if off.any():
        worst = int(np.argmax(np.abs(steps - median)))
        raise InputError(
            f"{folder}: slices are missing: the step after {_place(*loaded[worst])} is {steps[worst]:.3f} mm, "
            f"the usual one {median:.3f} mm (ImagePositionPatient (0020,0032)); copy the whole series"
        )
    notices = []
    mean = float((along[-1] - along[0]) / (len(along) - 1))
    if np.max(np.abs(steps - median)) > 0.001 * median:
        drift = float(np.max(np.abs(along - (along[0] + mean * np.arange(len(along))))))
        if drift > 0.5 * median:
            raise InputError(
                f"{folder}: slice positions differ from an even grid by up to {drift:.2f} mm "
                "(ImagePositionPatient (0020,0032)); resample the series to even steps first"
            )
        notices.append(
            f"irregular slice steps {steps.min():.4g} to {steps.max():.4g} mm: mean {mean:.5g} mm used as "
            f"spacing, positions differ from the grid by up to {drift:.2g} mm"
        )
    return mean, notices


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
