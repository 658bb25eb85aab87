"""Series that can be written, and the denoised series of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from drmc.pet.dicom_writing import Equipment, plan_series, write_series
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume

from support.engine import synthetic_dicom

EQUIPMENT = Equipment("tiny", "0123456789abcdef" * 4)

SHAPE = (5, 6, 7)

# What a valid series has besides what the SUV needs.
VALID = {
    "PatientName": "Muster^Secret",
    "PatientBirthDate": "19330317",
    "PatientID": "SECRET-4711",
    "AccessionNumber": "ACC-SECRET-12",
    "ReferringPhysicianName": "",
    "StudyDate": "20240229",
    "StudyTime": "100000",
    "StudyID": "1",
    "SeriesNumber": 4,
    "SeriesDescription": "PET AC",
    "BodyPartExamined": "WHOLEBODY",
    "PatientPosition": "FFP",
    "PositionReferenceIndicator": "",
    "CountsSource": "EMISSION",
    "NumberOfSlices": SHAPE[0],
    "ImageIndex": lambda i: i + 1,
    "DecayFactor": 1.0158,
}

SIEMENS = {"Manufacturer": "SIEMENS", "SiemensDecayCorrectionDateTime": "20240229105500"}

GE = {"Manufacturer": "GE MEDICAL SYSTEMS", "GEScanDateTime": "20240229105500.00"}

PHILIPS = {"Manufacturer": "Philips", "Units": "CNTS"}

VENDORS = {
    "plain": {},
    "siemens": SIEMENS,
    "ge": GE,
    "philips bq": {
        **PHILIPS,
        "Units": "BQML",
        "PhilipsSUVScaleFactor": 5e-4,
        "PhilipsActivityConcentrationScaleFactor": 1.8,
    },
    "admin": {"DecayCorrection": "ADMIN"},
    "none": {
        "DecayCorrection": "NONE",
        "CorrectedImage": ["ATTN"],
        "AcquisitionTime": "11{:02d}00".format,
        "DecayFactor": None,
    },
    "gml": {"Units": "GML"},
    "gml lbm": {"Units": "GML", "SUVType": "LBMJANMA"},
    "cm2ml": {"Units": "CM2ML", "SUVType": "BSA"},
    "late series time": {"SeriesTime": "120000", "AcquisitionTime": "110000", "FrameReferenceTime": 148000.0},
    "zone": {"TimezoneOffsetFromUTC": "-0500"},
    "cropped": {"NumberOfSlices": 90},
}  # fmt: skip


def source(folder: Path, array: np.ndarray | None = None, **header: object) -> PETVolume:
    """A series on disk, valid but for what `header` says, as it is read."""
    accept = header.pop("accept_rule", None)
    synthetic_dicom.write_series(folder, array, **{**VALID, **header})
    return read_volume(folder, accept_rule=accept)


def denoised(volume: PETVolume, seed: int = 1) -> PETVolume:
    """The volume with other values: negative ones, an all-zero slice, peaks of all heights."""
    array = volume.array * np.random.default_rng(seed).uniform(-0.2, 1.3, volume.array.shape)
    array *= 10.0 ** -np.arange(len(array))[:, None, None]
    array[min(2, len(array) - 1)] = 0.0
    return replace(volume, array=array.astype(np.float32))


def written(volume: PETVolume, folder: Path) -> tuple[PETVolume, list[pydicom.Dataset]]:
    """The volume written to a new folder, read back, and its headers in slice order."""
    write_series(folder, volume, plan_series(volume), EQUIPMENT)
    again = read_volume(folder)
    return again, [pydicom.dcmread(file) for file in again.dicom_files]


def within_half_a_step(again: PETVolume, headers: list[pydicom.Dataset], expected: np.ndarray) -> bool:
    """Whether every voxel is as near as the slice's slope allows (and float32 on reading)."""
    slopes = np.array([float(ds.RescaleSlope) for ds in headers])[:, None, None]
    off = np.abs(again.array.astype(np.float64) - expected)
    return bool(np.all(off <= slopes * 0.5 * (1 + 1e-6) + 6e-8 * np.abs(expected)))
