"""Classic PET series with any header, for what no public data shows; and the same header facts without files.

`write_series` writes one file per slice; `header_facts` gives the mappings that `drmc.suv.decide` takes. Both
start from the same plain F-18 FDG scan: 70 kg, 1.75 m, 370 MBq at 10:00:00, START-corrected to 11:00:00, one
bed of 300 s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

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
    """One mapping per slice; an override is a value, None to leave the key out, or a function of the slice
    index."""
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
    **overrides: Any,
) -> list[Path]:
    """Writes one classic PET series and returns its files in ascending slice order.

    `array` (z, y, x): rescaled values, by default random below 20,000; every slice gets its own RescaleSlope
    unless that is overridden. `spacing` (x, y) mm; `positions`: the slice step in mm, or the distance of
    slice i along the normal. Overrides: DICOM keywords (those of the isotope go into its sequence) and the
    names of private values, each a value, None to leave it out, or a function of the slice index.
    `private_block`: None writes block 10 without a creator.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(7).uniform(0.0, 20_000.0, (slices, rows, columns))
    slices, rows, columns = array.shape
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    uids = {key: generate_uid() for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    files = []
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
