"""PET series with any header, for what no public data shows; and the same header facts without files.

`write_series` writes a classic series, one file per slice, or the same scan as one multi-frame file (Enhanced
PET or Legacy Converted Enhanced PET, `synthetic_enhanced`); VENDORS are headers as the vendors write them;
`header_facts` gives the mappings that `drmc.suv.rules.decide` takes. Both
start from the same plain F-18 FDG scan: 70 kg, 1.75 m, 370 MBq at 10:00:00, START-corrected to 11:00:00, one
bed of 300 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from support.engine.synthetic_enhanced import enhanced, legacy_converted

PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
# What must never show up in a message, a notice or an output.
SECRETS = ("Mustermann^Secret", "SECRET-4711", "19330317", "ACC-SECRET-12")

DEFAULTS: dict[str, Any] = {
    "Manufacturer": "Synthetic",
    "ManufacturerModelName": "Phantom",
    "SeriesDate": "20240229",
    "SeriesTime": "110000",
    "AcquisitionDate": "20240229",
    "AcquisitionTime": "110000",
    "PatientSex": "F",
    "PatientSize": 1.75,
    "PatientWeight": 70.0,
    "ActualFrameDuration": 300000,
    "FrameReferenceTime": 149605.0,
    "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"],
    "SeriesType": ["STATIC", "IMAGE"],
    "Units": "BQML",
    "DecayCorrection": "START",
    "RescaleIntercept": 0.0,
    "Radiopharmaceutical": "FDG",
    "RadiopharmaceuticalStartTime": "100000",
    "RadiopharmaceuticalStartDateTime": "20240229100000",
    "RadionuclideTotalDose": 3.7e8,
    "RadionuclideHalfLife": 6586.2,
    "RadionuclideCodeValue": "C-111A1",
    "RadionuclideCodeMeaning": "^18^Fluorine",
}
# The same scan, corrected to 11:00:00, as the vendors' headers say it (reference/pet-quantification.md, 0 to
# 3).
VENDORS: dict[str, dict[str, Any]] = {
    "Philips counts": {
        "Manufacturer": "Philips Medical Systems",
        "ManufacturerModelName": "Ingenuity TF PET/CT",
        "Units": "CNTS",
        "PhilipsSUVScaleFactor": "0.000728",
        "PhilipsActivityConcentrationScaleFactor": "2.63447",  # by dose, weight and times the same SUV
    },
    "Philips activity scale only": {
        "Manufacturer": "Philips Medical Systems",
        "Units": "CNTS",
        "PhilipsSUVScaleFactor": "0.0",
        "PhilipsActivityConcentrationScaleFactor": "1.3",
    },
    "Philips Bq/ml": {
        "Manufacturer": "Philips Medical Systems",
        "AcquisitionTime": "110001",
        "ActualFrameDuration": 120_700,
        "FrameReferenceTime": 1_328_700.0,
        "PhilipsSUVScaleFactor": "0.000276336",
        "PhilipsActivityConcentrationScaleFactor": "1.0",
    },
    "United Imaging uEXPLORER": {
        "Manufacturer": "UIH",
        "ManufacturerModelName": "uEXPLORER",
        "RadionuclideHalfLife": 6588.0,
        "ActualFrameDuration": 180_000,
        "FrameReferenceTime": 89_858.0,
        "ReconstructionMethod": "3D iterative TOF PSF",
    },
    "Siemens Quadra": {
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Biograph128_Vision Quadra Edge",
        "ReconstructionMethod": "WB PSF+TOF 4i5s RD85",
        "DecayFactor": "1.01587",
        "TimezoneOffsetFromUTC": "+0100",
    },
    "Siemens private time": {
        "Manufacturer": "SIEMENS",
        "SeriesTime": "113000",
        "SiemensDecayCorrectionDateTime": "20240229110000.00",
    },
    "Siemens continuous bed motion": {
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Biograph128_Vision 600",
        "AcquisitionTime": "110001.350",
        "ActualFrameDuration": lambda i: 74_000 + 700 * i,
        # 1.35 s, and then until the activity of the frame is its mean.
        "FrameReferenceTime": lambda i: round(
            1350.0 + 500 * (74.0 + 0.7 * i) * (1 - math.log(2) / 6586.2 * (74 + 0.7 * i) / 12), 3
        ),
    },
    "Siemens beds with their own times": {
        "Manufacturer": "SIEMENS",
        "SeriesTime": "113000",
        "AcquisitionTime": lambda i: f"11{20 - 5 * i:02d}00",
        "FrameReferenceTime": lambda i: 149_605.0 + 300_000.0 * (4 - i),
    },
    "GE private time": {
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "SeriesTime": "113000",
        "ActualFrameDuration": 240_000,
        "FrameReferenceTime": lambda i: 243_000.0 * i,
        "GEScanDateTime": "20240229110000.00",
    },
    "GE beds with one time": {
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "ActualFrameDuration": 240_000,
        "FrameReferenceTime": lambda i: 243_000.0 * i,
    },
    "corrected to the injection": {"DecayCorrection": "ADMIN", "FrameReferenceTime": 3_749_605.0},
    "not decay-corrected": {
        "DecayCorrection": "NONE",
        "CorrectedImage": ["NORM", "ATTN", "SCAT"],
        "AcquisitionTime": lambda i: f"11{5 * i:02d}00",
        "FrameReferenceTime": lambda i: 149_605.0 + 300_000.0 * i,
    },
    "stored SUVbw": {"Units": "GML", "SUVType": "BW"},
    "stored lean SUV": {"Units": "GML", "SUVType": "LBMJANMA"},
    "stored SUVbsa": {"Units": "CM2ML", "SUVType": "BSA"},
}
REFERENCE_TIME = "20240229110000"  # to which they are all corrected, but for the injection at 10:00:00
_ISOTOPE = (
    "Radiopharmaceutical",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
)
# name -> (group, element, VR, creator)
_PRIVATE = {
    "GEScanDateTime": (0x0009, 0x0D, "DT", "GEMS_PETD_01"),
    "GEAdministrationDateTime": (0x0009, 0x3B, "DT", "GEMS_PETD_01"),
    "SiemensDecayCorrectionDateTime": (0x0071, 0x22, "DT", "SIEMENS MED PT"),
    "PhilipsSUVScaleFactor": (0x7053, 0x00, "DS", "Philips PET Private Group"),
    "PhilipsActivityConcentrationScaleFactor": (0x7053, 0x09, "DS", "Philips PET Private Group"),
}
_FACTS_ONLY = ("RadionuclideCodeValue", "RadionuclideCodeMeaning", "RadiopharmaceuticalItems", *_PRIVATE)


def header_facts(slices: int = 3, **overrides: Any) -> list[dict[str, Any]]:
    """One mapping per slice; an override: a value, None to omit the key, or a function of the slice index."""
    facts = []
    for index in range(slices):
        values = {key: _at(value, index) for key, value in {**DEFAULTS, **overrides}.items()}
        facts.append({key: value for key, value in values.items() if value is not None})
    return facts


def write_series(
    folder: str | Path,
    array: np.ndarray | None = None,
    *,
    slices: int = 5,
    rows: int = 6,
    columns: int = 7,
    spacing: tuple[float, float] = (4.0, 5.0),
    positions: Callable[[int], float] | float = 3.0,
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    names: Callable[[int], str] = "IM{:04d}.dcm".format,
    rle: bool = False,
    private_block: int | None = 0x11,
    injections: int = 1,
    signed: bool = True,
    form: str = "classic",
    reference_time: str = REFERENCE_TIME,
    change: Callable[[Dataset], None] | None = None,
    **overrides: Any,
) -> list[Path]:
    """Writes one PET series and returns its files in ascending slice order.

    `array` (z, y, x): rescaled values, by default random below 20,000; every slice gets its own RescaleSlope
    unless that is overridden. `spacing` (x, y) mm; `positions`: the slice step in mm, or the distance of
    slice i along the normal. Overrides: DICOM keywords (those of the isotope go into its sequence) and the
    names of private values, each a value, None to leave it out, or a function of the slice index.
    `private_block`: None writes block 10 without a creator. `form`: "enhanced" and "legacy" write one
    multi-frame file instead, `change` is then done to it before it is saved; `reference_time` becomes the
    DecayCorrectionDateTime of an enhanced image that is START-corrected.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(7).uniform(0.0, 20_000.0, (slices, rows, columns))
    slices, rows, columns = array.shape
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    uids = {key: generate_uid() for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    written: list[Dataset] = []
    for index in range(slices):
        values = {key: _at(value, index) for key, value in {**DEFAULTS, **uids, **overrides}.items()}
        distance = positions(index) if callable(positions) else positions * index
        position = np.array(origin) + distance * np.cross(row, column)
        ds = _identified(values.pop("SOPClassUID", PET_CLASS))
        ds.Modality = "PT"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.InstanceNumber = index + 1
        ds.ImagePositionPatient = [round(float(v), 6) for v in position]
        ds.ImageOrientationPatient = list(orientation)
        ds.PixelSpacing = [spacing[1], spacing[0]]
        ds.SliceThickness = 3.0
        ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, int(signed)
        highest = 32767 if signed else 65535
        peak = float(np.max(np.abs(array[index]))) or 1.0
        slope = values.pop("RescaleSlope", float(f"{peak / highest * 1.0001:.9g}"))
        if slope is not None:
            ds.RescaleSlope = slope
        stored = np.rint(array[index] / (slope or 1.0))
        ds.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        isotopes = [Dataset() for _ in range(injections)]
        for item in isotopes:
            for key in _ISOTOPE:
                if values.get(key) is not None:
                    setattr(item, key, values[key])
            if values.get("RadionuclideCodeValue") is not None:
                code = Dataset()
                code.CodeValue, code.CodingSchemeDesignator = values["RadionuclideCodeValue"], "SRT"
                code.CodeMeaning = values.get("RadionuclideCodeMeaning") or ""
                item.RadionuclideCodeSequence = Sequence([code])
        if isotopes:
            ds.RadiopharmaceuticalInformationSequence = Sequence(isotopes)
        for key, (group, element, vr, creator) in _PRIVATE.items():
            if values.get(key) is not None:
                block = 0x10 if private_block is None else private_block
                if private_block is not None:
                    ds.add_new((group, block), "LO", creator)
                ds.add_new((group, block << 8 | element), vr, values[key])
        for key, value in values.items():
            if key not in _ISOTOPE and key not in _FACTS_ONLY:
                if value is not None:
                    setattr(ds, key, value)
                elif key in ds:
                    del ds[key]
        written.append(ds)
    if form != "classic":
        whole = legacy_converted(written) if form == "legacy" else enhanced(written, reference_time)
        if change is not None:
            change(whole)
        written = [whole]
    files = []
    for index, ds in enumerate(written):
        if rle:
            ds.compress(RLELossless)
        path = folder / names(index)
        ds.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _identified(sop_class: str) -> Dataset:
    """An empty instance that carries a patient's identity, as real files do."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.AccessionNumber = SECRETS
    return ds


def rewrite(path: Path, **changes: Any) -> None:
    """Changes elements of a file in place; None removes one."""
    ds = pydicom.dcmread(path)
    for key, value in changes.items():
        if value is None:
            del ds[key]
        else:
            setattr(ds, key, value)
    ds.save_as(path)


def _at(value: Any, index: int) -> Any:
    return value(index) if callable(value) else value
