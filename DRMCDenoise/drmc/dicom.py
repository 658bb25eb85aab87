"""Reading a PET series from DICOM files: which belong together, where slices lie, what headers say.

Classic PET (one slice per file) only. Nothing that identifies a patient leaves this file: no names, IDs or
birth dates go into messages, notices or header facts.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from drmc.errors import InputError
from drmc.volume import Geometry

PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
_MULTI_FRAME_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET",
}
_NATIVE_SYNTAXES = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
}
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_DEFER = 4096  # bytes; longer values, the pixel data, stay on the disk until they are asked for

STEP_TOLERANCE = 0.10  # of the median slice step; more is a gap
SHEAR_TOLERANCE_MM = 0.1  # slices may be shifted in their plane by this much

# What the SUV rules read, one plain value each, keyed by DICOM keyword.
_SUV_KEYWORDS = (
    "Manufacturer",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "TimezoneOffsetFromUTC",
    "PatientSex",
    "PatientSize",
    "PatientWeight",
    "ActualFrameDuration",
    "DecayCorrectionDateTime",
    "CorrectedImage",
    "RescaleIntercept",
    "RescaleSlope",
    "NumberOfSlices",
    "Units",
    "SUVType",
    "DecayCorrection",
    "FrameReferenceTime",
    "DecayFactor",
)
_ISOTOPE_KEYWORDS = (
    "Radiopharmaceutical",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
)
# name -> group, element in the private block, private creator in upper case
_PRIVATE = {
    "GEScanDateTime": (0x0009, 0x0D, "GEMS_PETD_01"),
    "GEAdministrationDateTime": (0x0009, 0x3B, "GEMS_PETD_01"),
    "SiemensDecayCorrectionDateTime": (0x0071, 0x22, "SIEMENS MED PT"),
    "PhilipsSUVScaleFactor": (0x7053, 0x00, "PHILIPS PET PRIVATE GROUP"),
    "PhilipsActivityConcentrationScaleFactor": (0x7053, 0x09, "PHILIPS PET PRIVATE GROUP"),
}
# What the pixel values need, besides the header that is read first.
_PIXEL_KEYWORDS = [
    "SamplesPerPixel",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "PixelData",
]
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
    """One classic PET series, everything in slice order.

    `array` float32 (z, y, x) of rescaled values; `slices` one mapping of header facts each, for `suv.decide`;
    `header` facts for reports; `files` one per slice.
    """

    array: np.ndarray
    geometry: Geometry
    slices: list[dict[str, Any]]
    header: dict[str, Any]
    notices: list[str]
    files: list[Path]


@dataclass
class _Group:
    """The files of one SeriesInstanceUID with their headers (no pixel data)."""

    uid: str
    loaded: list[tuple[Path, Dataset]]

    @property
    def modality(self) -> str:
        return _text(value_of(self.loaded[0][1], "Modality")).upper()

    @property
    def sop_class(self) -> str:
        return _text(value_of(self.loaded[0][1], "SOPClassUID"))

    def line(self) -> str:
        """What a person needs to choose among series, without free text that could name somebody."""
        facts = [self.modality, f"{len(self.loaded)} images"]
        if self.modality == "PT":
            first = self.loaded[0][1]
            corrected = "ATTN" in _texts(value_of(first, "CorrectedImage"))
            facts.append("attenuation-corrected" if corrected else "not attenuation-corrected")
            facts += [t for t in (_text(value_of(first, k)) for k in ("Units", "ReconstructionMethod")) if t]
        return f"{self.uid} ({', '.join(facts)})"


def read_pet_series(path: str | Path, series_uid: str | None = None) -> PETSeries:
    """Reads the PET series of a folder, or the series that one file belongs to.

    Sorts the slices by position along their normal, whatever the files' order, and rescales each by its own
    slope. Raises InputError where there is no such series, or it is not one static, complete, classic PET.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    groups, notices = _scan(path, folder)
    if not path.is_dir():
        mine = next((g for g in groups if any(file == path for file, _ in g.loaded)), None)
        if mine is None:
            raise InputError(f"{path} is no DICOM image: choose a PET series")
        if series_uid is not None and series_uid.strip() != mine.uid:
            raise InputError(f"{path} belongs to series {mine.uid}, not to {series_uid}: choose one of them")
        series_uid = mine.uid
    group, more = _choose(groups, series_uid, path)
    notices += more
    _check_kind(group, path)
    _check_same(group.loaded)
    loaded, geometry, more = _sorted(group.loaded)
    notices += more
    array = np.empty(geometry.shape, np.float32)
    with np.errstate(over="ignore"):
        for z, (file, _) in enumerate(loaded):
            array[z] = _values(file, _read(file, pixels=True), geometry.shape[1:])
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(f"{path} has {bad} voxels that are NaN or infinite: check RescaleSlope (0028,1053)")
    announced = _number(value_of(loaded[0][1], "NumberOfSlices"))
    if announced and int(announced) != len(loaded):
        notices.append(
            f"NumberOfSlices (0054,0081) announces {int(announced)} slices, {len(loaded)} are here and "
            "touch: cropped?"
        )
    slices = [slice_facts(header) for _, header in loaded]
    return PETSeries(
        array, geometry, slices, _reported(loaded, geometry), notices, [file for file, _ in loaded]
    )


# ---------------------------------------------------------------------------------------- finding files


def is_dicom(path: str | Path) -> bool:
    """Whether a file begins as DICOM does: with its preamble or, as old files do, with group 0002 or 0008."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or (
        start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:4] in _FIRST_ELEMENTS
    )


_FIRST_ELEMENTS = (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00")


def has_dicom(folder: str | Path) -> bool:
    """Whether a folder itself, not its sub-folders, holds a DICOM file."""
    return any(is_dicom(file) for file in _files(Path(folder)))


def dicom_files(folder: str | Path) -> list[Path]:
    """The DICOM files of a folder itself, by name."""
    return [file for file in _files(Path(folder)) if is_dicom(file)]


def frame_of_reference(path: str | Path) -> str | None:
    """FrameOfReferenceUID (0020,0052) of a DICOM file, None where it has none."""
    return _text(value_of(_read(Path(path)), "FrameOfReferenceUID")) or None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None


def _scan(path: Path, folder: Path) -> tuple[list[_Group], list[str]]:
    """Groups the DICOM files of a folder by series."""
    if not path.is_dir() and not is_dicom(path):
        raise InputError(f"{path} is no DICOM, NIfTI, NRRD or MetaImage file: choose a PET scan")
    groups: dict[str, _Group] = {}
    others = 0
    for file in _files(folder):
        header = _read(file) if is_dicom(file) else None
        if header is None:
            if file.suffix.lower() == ".dcm" and file.stat().st_size < 132:
                raise InputError(f"{file} is truncated ({file.stat().st_size} bytes): copy the series again")
            others += 1
        elif "DirectoryRecordSequence" in header:
            others += 1
        else:
            uid = _text(value_of(header, "SeriesInstanceUID"))
            if not uid or not _text(value_of(header, "Modality")):
                raise InputError(
                    f"{file} is truncated or damaged: it lacks SeriesInstanceUID (0020,000E) or Modality "
                    "(0008,0060); copy the series again"
                )
            if _text(value_of(header, "SOPClassUID")) == PET_CLASS:
                _check_whole(file, header)
            groups.setdefault(uid, _Group(uid, [])).loaded.append((file, header))
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
    pixels = header.get_item("PixelData")
    size = path.stat().st_size
    length = getattr(pixels, "length", 0)
    start = getattr(pixels, "value_tell", 0)
    if pixels is None or (length != _UNDEFINED_LENGTH and start + length > size):
        raise InputError(
            f"{path} is truncated: its {size} bytes end before the pixel data (7FE0,0010) do; copy the "
            "series again"
        )


def _choose(groups: list[_Group], series_uid: str | None, path: Path) -> tuple[_Group, list[str]]:
    listing = "; ".join(g.line() for g in groups[:8]) + (
        f"; {len(groups) - 8} more" if len(groups) > 8 else ""
    )
    if series_uid is not None:
        for group in groups:
            if group.uid == series_uid.strip():
                return group, []
        raise InputError(f"{path} has no series {series_uid}: choose one of {listing}")
    pet = [g for g in groups if g.modality == "PT" and g.sop_class == PET_CLASS]
    if len(pet) > 1:
        raise InputError(
            f"{path} holds {len(pet)} PET series: choose one by its UID (--series UID) of {listing}"
        )
    if not pet:
        multi = [g for g in groups if g.sop_class in _MULTI_FRAME_CLASSES]
        if multi or len(groups) == 1:
            return (multi or groups)[0], []
        raise InputError(
            f"{path} holds no PET series (Modality (0008,0060) PT) but {listing}: choose the folder of the "
            "PET series"
        )
    ignored = Counter(g.modality for g in groups if g is not pet[0])
    if not ignored:
        return pet[0], []
    listed = ", ".join(f"{count} {modality}" for modality, count in sorted(ignored.items()))
    return pet[0], [f"other series in the folder were ignored: {listed}"]


def _check_kind(group: _Group, path: Path) -> None:
    if group.sop_class in _MULTI_FRAME_CLASSES:
        raise InputError(
            f"{path} is {_MULTI_FRAME_CLASSES[group.sop_class]} (SOPClassUID (0008,0016)), which is not "
            "read: export the series as classic PET, one slice per file"
        )
    if group.modality != "PT":
        raise InputError(
            f"{path} holds a {group.modality} series (Modality (0008,0060), {len(group.loaded)} images), not "
            "PT: choose the folder of the PET series"
        )
    if group.sop_class != PET_CLASS:
        raise InputError(
            f"{path} is no PET image storage (SOPClassUID (0008,0016) {group.sop_class}): choose the "
            "original PET series"
        )


# ---------------------------------------------------------------------------------------- reading one file


def _read(path: Path, pixels: bool = False) -> Dataset:
    """The header, its pixel data left on the disk; or with `pixels` the pixel data and what they need."""
    options = {"specific_tags": _PIXEL_KEYWORDS} if pixels else {"defer_size": _DEFER}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return pydicom.dcmread(path, **options)
            except InvalidDicomError:
                return pydicom.dcmread(path, force=True, **options)
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as DICOM ({type(error).__name__}): it is truncated or damaged; copy the "
            "series again"
        ) from None


def value_of(dataset: Dataset, key: Any) -> Any:
    """An element's value as str, number, list of them, or None; what its VR forbids comes as text."""
    tag = pydicom.datadict.tag_for_keyword(key) if isinstance(key, str) else key
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _plain(dataset[tag].value)
    except KeyError:
        return None
    except Exception:
        try:
            return _plain(dataset.get_item(tag).value)
        except Exception:
            return None


def _plain(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [_plain(v) for v in value]
    return str(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else None
    return "" if value is None else str(value).strip(" \0")


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [t for t in (_text(item).upper() for item in items) if t]


def _number(value: Any) -> float | None:
    try:
        number = float(_text(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def slice_facts(dataset: Dataset) -> dict[str, Any]:
    """The header facts of one slice as `suv.decide` wants them."""
    facts = {key: value_of(dataset, key) for key in _SUV_KEYWORDS}
    items = _items(dataset, "RadiopharmaceuticalInformationSequence")
    facts["RadiopharmaceuticalItems"] = len(items)
    if items:
        facts.update({key: value_of(items[0], key) for key in _ISOTOPE_KEYWORDS})
        codes = _items(items[0], "RadionuclideCodeSequence")
        if codes:
            facts["RadionuclideCodeValue"] = value_of(codes[0], "CodeValue")
            facts["RadionuclideCodeMeaning"] = value_of(codes[0], "CodeMeaning")
        tracers = _items(items[0], "RadiopharmaceuticalCodeSequence")
        if tracers and not _text(facts["Radiopharmaceutical"]):
            facts["Radiopharmaceutical"] = value_of(tracers[0], "CodeMeaning")
    without = []
    blocks = _private_blocks(dataset)
    for key in _PRIVATE:
        facts[key], creator = _private(dataset, key, blocks)
        if facts[key] is not None and not creator:
            without.append(key)
    facts["PrivateWithoutCreator"] = without
    return facts


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        return [item for item in dataset[keyword].value if isinstance(item, Dataset)]
    except Exception:
        return []


def _private_blocks(dataset: Dataset) -> dict[int, dict[str, int]]:
    """Per private group the block that each creator (in upper case) owns."""
    blocks: dict[int, dict[str, int]] = {}
    groups = {group for group, _, _ in _PRIVATE.values()}
    for tag in dataset.keys():
        group, element = tag >> 16, tag & 0xFFFF
        if group in groups and 0x10 <= element <= 0xFF:
            blocks.setdefault(group, {}).setdefault(_text(value_of(dataset, tag)).upper(), element)
    return blocks


def _private(dataset: Dataset, key: str, blocks: dict[int, dict[str, int]]) -> tuple[Any, bool]:
    """A private value, and whether its block has its creator; without any, block 10 is accepted."""
    group, element, creator = _PRIVATE[key]
    if creator in blocks.get(group, {}):
        return value_of(dataset, group << 16 | blocks[group][creator] << 8 | element), True
    if 0x10 in blocks.get(group, {}).values():
        return None, False
    return value_of(dataset, group << 16 | 0x1000 | element), False


# ---------------------------------------------------------------------------------------- the series


_SAME = ("SOPClassUID", "Modality", "Rows", "Columns", "PixelSpacing", "FrameOfReferenceUID", "SeriesType")


def _check_same(loaded: list[tuple[Path, Dataset]]) -> None:
    """One kind of image on one matrix; static slices."""
    first = loaded[0][1]
    for keyword in _SAME:
        expected = value_of(first, keyword)
        for path, header in loaded:
            value = value_of(header, keyword)
            if value != expected and not _close(value, expected):
                raise InputError(
                    f"{keyword} {_tag(keyword)} differs within the series ({path.name}: {value}, "
                    f"{loaded[0][0].name}: {expected}): keep one series per folder"
                )
    types = _texts(value_of(first, "SeriesType"))
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
    pairs = [(_number(a), _number(b)) for a, b in zip(value, expected, strict=True)]
    return all(a is not None and b is not None and abs(a - b) <= 1e-4 * abs(b) for a, b in pairs)


def _tag(keyword: str) -> str:
    tag = pydicom.datadict.tag_for_keyword(keyword)
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _vector(path: Path, ds: Dataset, keyword: str, length: int) -> np.ndarray:
    value = value_of(ds, keyword)
    numbers = [_number(v) for v in value] if isinstance(value, list) else []
    if len(numbers) != length or any(n is None for n in numbers):
        raise InputError(f"{path}: {keyword} {_tag(keyword)} is missing or damaged: export the series again")
    return np.array(numbers)


def _sorted(
    loaded: list[tuple[Path, Dataset]],
) -> tuple[list[tuple[Path, Dataset]], Geometry, list[str]]:
    """The slices in ascending position along their normal, and the grid they make."""
    path, first = loaded[0]
    orientation = _vector(path, first, "ImageOrientationPatient", 6)
    row, column = orientation[:3], orientation[3:]
    if abs(row @ row - 1) > 1e-3 or abs(column @ column - 1) > 1e-3 or abs(row @ column) > 1e-3:
        raise InputError(
            f"{path}: ImageOrientationPatient (0020,0037) is no pair of unit vectors at right angles: export "
            "again"
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
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
        step = _number(value_of(first, "SliceThickness")) or 0.0
        if step <= 0:
            raise InputError(
                f"{path}: one slice without SliceThickness (0018,0050): write it into the header"
            )
        notices.append(f"the series has one slice; its thickness {step:g} mm is taken as the slice step")
    spacing = _vector(path, first, "PixelSpacing", 2)
    if spacing.min() <= 0:
        raise InputError(f"{path}: PixelSpacing (0028,0030) is not positive: export the series again")
    rows, columns = (int(_number(value_of(first, k)) or 0) for k in ("Rows", "Columns"))
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
        times = [
            _text(value_of(ds, "AcquisitionTime")) + _text(value_of(ds, "FrameReferenceTime"))
            for _, ds in (a, b)
        ]
        what = "a dynamic or gated stack" if times[0] != times[1] else "duplicated slices"
        raise InputError(
            f"{folder}: {same.size} positions hold several images ({a[0].name} and {b[0].name}; "
            f"ImagePositionPatient (0020,0032)): {what}; keep one image per position"
        )
    off = np.abs(steps - median) > STEP_TOLERANCE * median
    if off.any():
        worst = int(np.argmax(np.abs(steps - median)))
        raise InputError(
            f"{folder}: slices are missing: the step after {loaded[worst][0].name} is {steps[worst]:.3f} mm, "
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


def _values(path: Path, ds: Dataset, shape: tuple[int, int]) -> np.ndarray:
    """Rescaled values of one slice, float64 (rows, columns)."""
    slope, intercept = _number(value_of(ds, "RescaleSlope")), _number(value_of(ds, "RescaleIntercept"))
    stored = _stored(path, ds, shape)
    if slope is None or slope < 0 or (slope == 0 and stored.any()):
        raise InputError(
            f"{path}: RescaleSlope (0028,1053) is missing or not positive: export the series again"
        )
    return stored.astype(np.float64) * slope + (intercept or 0.0)


def _stored(path: Path, ds: Dataset, shape: tuple[int, int]) -> np.ndarray:
    """Stored integers of one slice (rows, columns)."""

    def number(keyword: str, default: int) -> int:
        value = _number(value_of(ds, keyword))
        return default if value is None else int(value)

    if number("SamplesPerPixel", 1) != 1 or number("NumberOfFrames", 1) != 1:
        raise InputError(
            f"{path}: SamplesPerPixel (0028,0002) or NumberOfFrames (0028,0008) is not 1: export as classic "
            "PET"
        )
    data = _pixel_bytes(ds)
    if not data:
        raise InputError(f"{path} has no pixel data (7FE0,0010): it is truncated, copy the series again")
    syntax = _text(getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID", ""))
    if syntax and syntax not in _NATIVE_SYNTAXES:
        return _decompressed(path, ds, syntax, shape)
    bits = number("BitsAllocated", 0)
    used = number("BitsStored", bits)
    if bits not in (8, 16, 32) or not 0 < used <= bits or number("HighBit", used - 1) != used - 1:
        raise InputError(
            f"{path}: BitsAllocated (0028,0100), BitsStored (0028,0101) or HighBit (0028,0102) is not that "
            "of an image: export the series again"
        )
    expected = shape[0] * shape[1] * bits // 8
    if len(data) not in (expected, expected + expected % 2):
        word = "truncated" if len(data) < expected else "damaged"
        raise InputError(
            f"{path} is {word}: {len(data)} bytes of pixel data where {shape[0]}x{shape[1]} voxels of {bits} "
            f"bits need {expected}; copy the series again"
        )
    order = ">" if syntax == _BIG_ENDIAN else "<"
    signed = "i" if number("PixelRepresentation", 0) == 1 else "u"
    values = np.frombuffer(data, f"{order}{signed}{bits // 8}", shape[0] * shape[1]).reshape(shape)
    # The bits above those stored may hold anything: shift them out, and the sign in.
    return values if used == bits else (values << (bits - used)) >> (bits - used)


def _pixel_bytes(ds: Dataset) -> bytes | None:
    """The bytes of PixelData, None where there are none."""
    try:
        data = ds["PixelData"].value
    except Exception:
        return None
    return data if isinstance(data, (bytes, bytearray)) else None


def _decompressed(path: Path, ds: Dataset, syntax: str, shape: tuple[int, int]) -> np.ndarray:
    """Stored integers of a compressed slice, by whatever decoders pydicom finds installed."""
    name = pydicom.uid.UID(syntax).name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = ds.pixel_array
    except Exception as error:
        raise InputError(
            f"{path}: pixel data compressed as {name} cannot be decoded ({type(error).__name__}): it is "
            "truncated, or no decoder is installed; decompress the series (gdcmconv --raw), or install "
            "pylibjpeg and its plugins"
        ) from None
    if values.shape != shape:
        raise InputError(
            f"{path} is damaged: {name} decodes to {values.shape}, not {shape}; copy the series again"
        )
    return values


def _reported(loaded: list[tuple[Path, Dataset]], geometry: Geometry) -> dict[str, Any]:
    """Facts for reports: none of them identifies the patient."""
    first = loaded[0][1]
    header: dict[str, Any] = {}
    for name, keyword in _REPORTED.items():
        value = value_of(first, keyword)
        if value not in (None, "", []):
            header[name] = value
    tracer = _text(slice_facts(first).get("Radiopharmaceutical"))
    if tracer:
        header["tracer"] = tracer
    durations = [_number(value_of(h, "ActualFrameDuration")) for _, h in loaded]
    known = [d / 1000.0 for d in durations if d is not None]
    if known:
        header["frame_duration_s"] = sorted({min(known), max(known)})
    header["slices"] = geometry.shape[0]
    header["matrix"] = [geometry.shape[2], geometry.shape[1]]
    header["spacing_mm"] = list(geometry.spacing)
    return header
