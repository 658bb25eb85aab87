"""The voxels of one file: stored integers, native of any width or compressed, and their rescaling."""

from __future__ import annotations

import math

import numpy as np
from pydicom.dataset import Dataset

from drmc.dicom.catalog import Catalog
from drmc.dicom.decode import decompressed
from drmc.dicom.header import number_of, transfer_syntax, value_of
from drmc.errors import InputError
from drmc.paths import AnyPath

NATIVE_SYNTAXES = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
}
BIG_ENDIAN = "1.2.840.10008.1.2.2"
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
    "PixelData",
]


def rescaled(path: AnyPath, stored: np.ndarray, header: Dataset) -> np.ndarray:
    """Stored values of one slice rescaled, float64.

    By its RescaleSlope (0028,1053) and RescaleIntercept (0028,1052); InputError without a positive slope.
    """
    slope, intercept = (number_of(value_of(header, key)) for key in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or slope < 0 or (slope == 0 and stored.any()):
        raise InputError(
            f"{path}: RescaleSlope (0028,1053) is missing or not positive: export the series again"
        )
    return stored.astype(np.float64) * slope + (intercept or 0.0)


def stored_values(path: AnyPath, catalog: Catalog, frames: int, rows: int, columns: int) -> np.ndarray:
    """Stored integers of the `frames` slices that a file holds, (frames, rows, columns).

    Raises InputError where the pixel data are truncated, damaged or of a form that cannot be read.
    """
    ds = catalog.elements(path, _PIXEL_KEYWORDS)
    shape = (frames, rows, columns)

    def number(keyword: str, default: int) -> int:
        value = number_of(value_of(ds, keyword))
        return default if value is None else int(value)

    if number("SamplesPerPixel", 1) != 1 or number("NumberOfFrames", 1) != frames:
        raise InputError(
            f"{path}: SamplesPerPixel (0028,0002) is not 1 or NumberOfFrames (0028,0008) not {frames}: "
            "export the series again"
        )
    data = _pixel_bytes(ds)
    if not data:
        raise InputError(f"{path} has no pixel data (7FE0,0010): it is truncated, copy the series again")
    syntax = transfer_syntax(ds)
    if syntax and syntax not in NATIVE_SYNTAXES:
        values = decompressed(path, ds, syntax, shape)
        return _without_unused_bits(values, number("BitsStored", 8 * values.itemsize))
    bits = number("BitsAllocated", 0)
    used = number("BitsStored", bits)
    if bits not in (8, 16, 32) or not 0 < used <= bits or number("HighBit", used - 1) != used - 1:
        raise InputError(
            f"{path}: BitsAllocated (0028,0100), BitsStored (0028,0101) or HighBit (0028,0102) is not that "
            "of an image: export the series again"
        )
    size = "x".join(map(str, shape[1:] if frames == 1 else shape))
    expected = math.prod(shape) * bits // 8
    if len(data) not in (expected, expected + expected % 2):
        word = "truncated" if len(data) < expected else "damaged"
        raise InputError(
            f"{path} is {word}: {len(data)} bytes of pixel data where {size} voxels of {bits} "
            f"bits need {expected}; copy the series again"
        )
    order = ">" if syntax == BIG_ENDIAN else "<"
    signed = "i" if number("PixelRepresentation", 0) == 1 else "u"
    values = np.frombuffer(data, f"{order}{signed}{bits // 8}", math.prod(shape)).reshape(shape)
    return _without_unused_bits(values, used)


def _without_unused_bits(values: np.ndarray, used: int) -> np.ndarray:
    """The bits above the `used` ones may hold anything: shifts them out, and the sign in."""
    unused = 8 * values.itemsize - used
    return (values << unused) >> unused if 0 < unused < 8 * values.itemsize else values


def _pixel_bytes(ds: Dataset) -> bytes | None:
    """The bytes of PixelData, None without any."""
    try:
        data = ds["PixelData"].value
    except Exception:
        return None
    return bytes(data) if isinstance(data, (bytes, bytearray)) else None
