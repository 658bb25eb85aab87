"""Reading a PET series from DICOM files: which belong together, where slices lie, what headers say.

Classic PET, one slice per file, and multi-frame PET (`drmc.dicom.enhanced`). Nothing that identifies a
patient leaves this file: no names, IDs or birth dates go into messages, notices or header facts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from drmc.dicom.catalog import Catalog
from drmc.dicom.choice import PET_CLASSES, Group, choose
from drmc.dicom.decode import ALWAYS_LOSSY
from drmc.dicom.enhanced import ENHANCED_PET_CLASS, SYNONYMS, frames_of_series
from drmc.dicom.finding import folder_files
from drmc.dicom.header import (
    Header,
    number_of,
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
from drmc.paths import AnyPath, part, plain

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


_NO_METHOD = ("NONE", "NO", "OFF")
"""What manufacturers write as AttenuationCorrectionMethod where there was none."""


@dataclass
class SeriesHeaders:
    """One PET series as its headers describe it, everything in slice order.

    Attributes:
        geometry: where the voxels lie.
        slices: header facts of each slice, for `drmc.suv.rules.decide`.
        header: facts for reports; none identifies the patient.
        notices: what the reader of a report should know of the series.
        files: one for each slice, or those of the multi-frame image.
        synonyms: what the elements that the SUV rules name are called in this series.
        frame_of_reference: FrameOfReferenceUID (0020,0052).
        uid: SeriesInstanceUID (0020,000E).
    """

    geometry: Geometry
    slices: list[dict[str, Any]]
    header: dict[str, Any]
    notices: list[str]
    files: list[Path]
    synonyms: dict[str, str]
    frame_of_reference: str | None
    uid: str | None
    _path: AnyPath
    _loaded: list[tuple[AnyPath, Dataset]]

    def read_voxels(self, catalog: Catalog) -> np.ndarray:
        """Rescaled values, float32 (z, y, x); every file is read once.

        Raises InputError where pixel data are damaged or cannot be decoded, or values are not finite.
        """
        array = np.empty(self.geometry.shape, np.float32)
        slices: dict[AnyPath, list[int]] = {}
        for z, (file, _) in enumerate(self._loaded):
            slices.setdefault(file, []).append(z)
        with np.errstate(over="ignore"):
            for file, indices in slices.items():
                stored = stored_values(file, catalog, len(indices), *self.geometry.shape[1:])
                for z in indices:
                    header = self._loaded[z][1]
                    array[z] = rescaled(file, stored[frame_number(header) - 1], header)
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(
                f"{self._path} has {bad} voxels that are NaN or infinite: check RescaleSlope (0028,1053)"
            )
        return array


def read_series_headers(
    path: AnyPath,
    catalog: Catalog,
    series_uid: str | None = None,
    series_description: str | None = None,
) -> SeriesHeaders:
    """Reads the headers of the PET series of a folder, or of the series that one file belongs to.

    Of several series the only attenuation-corrected one is taken, or the one with this UID, or the only one
    whose description holds this text (drmc.dicom.choice). The slices are sorted by position along their
    normal, whatever the files' order.

    Raises:
        InputError: there is no such series, or it is not one static, complete volume.
    """
    whole = path if path.is_dir() else path.parent
    groups, notices = _scan(path, whole, catalog)
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
    notices += [*more, *_series_notices(group, loaded)]
    first = group.loaded[0][1]
    return SeriesHeaders(
        geometry,
        [slice_facts(header) for _, header in loaded],
        _reported(loaded, geometry),
        notices,
        list(dict.fromkeys(plain(file) for file, _ in loaded)),
        SYNONYMS if group.sop_class == ENHANCED_PET_CLASS else {},
        text_of(value_of(first, "FrameOfReferenceUID")) or None,
        text_of(value_of(first, "SeriesInstanceUID")) or None,
        path,
        loaded,
    )


@dataclass
class PETSeries(SeriesHeaders):
    """One PET series with its voxels, `array` float32 (z, y, x) of rescaled values."""

    array: np.ndarray


def read_pet_series(
    path: str | Path, series_uid: str | None = None, series_description: str | None = None
) -> PETSeries:
    """Reads headers and voxels of a PET series; arguments and errors as of `read_series_headers`."""
    catalog = Catalog()
    headers = read_series_headers(Path(path), catalog, series_uid, series_description)
    return PETSeries(**vars(headers), array=headers.read_voxels(catalog))


def _series_notices(group: Group, loaded: list[tuple[AnyPath, Dataset]]) -> list[str]:
    """Notices on missing slices, lossy compression, and a header that contradicts itself on attenuation."""
    notices = []
    announced = number_of(value_of(loaded[0][1], "NumberOfSlices"))
    if announced and int(announced) != len(loaded):
        notices.append(
            f"NumberOfSlices (0054,0081) announces {int(announced)} slices, {len(loaded)} are here and "
            "touch: cropped?"
        )
    lossy = [uid for _, header in group.loaded if (uid := transfer_syntax(header)) in ALWAYS_LOSSY]
    if lossy or any(text_of(value_of(header, "LossyImageCompression")) == "01" for _, header in loaded):
        how = f"by {lossy[0].name} (0002,0010)" if lossy else "(0028,2110)"
        notices.append(f"the pixel data were compressed with loss {how}: SUV figures may differ from it")
    method = text_of(value_of(loaded[0][1], "AttenuationCorrectionMethod"))
    if group.is_corrected and method.upper() in _NO_METHOD:
        notices.append(
            "CorrectedImage (0028,0051) has ATTN, but AttenuationCorrectionMethod (0054,1101) is "
            f"{method!r}: if the image was not corrected for attenuation, its SUV is wrong"
        )
    return notices


def _scan(path: AnyPath, whole: AnyPath, catalog: Catalog) -> tuple[list[Group], list[str]]:
    """Groups the DICOM files of the folder `whole` by series."""
    if catalog.is_media_directory(plain(path)):
        raise InputError(
            f"{path} is the directory of a medium (DICOMDIR), no image: choose the folder of a PET series"
        )
    if not path.is_dir() and not catalog.is_dicom(plain(path)):
        raise InputError(f"{path} is no DICOM, NIfTI, NRRD or MetaImage file: choose a PET scan")
    folder = plain(whole)
    groups: dict[str, Group] = {}
    others = 0
    for file in folder_files(folder):
        header = _image_header(part(whole, file), catalog)
        if header is None:
            others += 1
        else:
            uid = text_of(value_of(header.dataset, "SeriesInstanceUID"))
            groups.setdefault(uid, Group(uid, [])).loaded.append((part(whole, file), header.dataset))
    if groups:
        notices = [f"{others} files that are no DICOM images were ignored"] if others else []
        return list(groups.values()), notices
    if others:
        raise InputError(
            f"{whole} holds no DICOM image ({others} other files): choose a folder with a PET series"
        )
    inside = sum(p.is_dir() for p in folder.iterdir())
    hint = f"holds only {inside} sub-folders: choose the one with the PET series"
    raise InputError(f"{whole} {hint if inside else 'is empty: choose a folder with a PET series'}")


def _image_header(file: AnyPath, catalog: Catalog) -> Header | None:
    """The header of a DICOM image, None for any other file; InputError where it is truncated or damaged."""
    if not catalog.is_dicom(plain(file)):
        if file.suffix.lower() == ".dcm" and file.stat().st_size < 132:
            raise InputError(f"{file} is truncated ({file.stat().st_size} bytes): copy the series again")
        return None
    if catalog.is_media_directory(plain(file)):
        return None
    header = catalog.header(file)
    if "DirectoryRecordSequence" in header.dataset:
        return None
    uid, modality = (text_of(value_of(header.dataset, key)) for key in ("SeriesInstanceUID", "Modality"))
    if not uid or not modality:
        raise InputError(
            f"{file} is truncated or damaged: it lacks SeriesInstanceUID (0020,000E) or Modality "
            "(0008,0060); copy the series again"
        )
    # Whatever is missing was written after the point where the file ends.
    if text_of(value_of(header.dataset, "SOPClassUID")) in PET_CLASSES and not header.is_whole:
        raise InputError(
            f"{file} is truncated: its {header.size} bytes end before the pixel data (7FE0,0010) do; copy "
            "the series again"
        )
    return header


def _check_kind(group: Group, path: AnyPath) -> None:
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


def _check_same(loaded: list[tuple[AnyPath, Dataset]], keywords: tuple[str, ...] = _SAME) -> None:
    """One kind of image on one matrix; static slices."""
    first = loaded[0][1]
    for keyword in keywords:
        expected = value_of(first, keyword)
        for path, header in loaded:
            value = value_of(header, keyword)
            if value != expected and not _close(value, expected):
                raise InputError(
                    f"{keyword} {tag_of(keyword)} differs within the series ({slice_label(path, header)}: "
                    f"{value}, {slice_label(*loaded[0])}: {expected}): keep one series per folder"
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


def _reported(loaded: list[tuple[AnyPath, Dataset]], geometry: Geometry) -> dict[str, Any]:
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
