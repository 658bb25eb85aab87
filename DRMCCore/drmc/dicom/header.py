"""What DICOM headers say: elements as plain values, and the facts of one PET slice for the SUV rules.

Nothing that identifies a patient leaves this file: no names, IDs or birth dates are among the facts.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, PersonName

from drmc.errors import InputError
from drmc.paths import AnyPath

UNDEFINED_LENGTH = 0xFFFFFFFF  # of an element that ends with a delimiter (PS3.5 7.1.1)
DEEPEST = 16  # sequences in sequences; the standard's objects have no more than half of that
_DEFER = 4096  # bytes; longer values of private elements stay on the disk
_FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA, _PIXEL_DATA = 0x7FE00008, 0x7FE00009, 0x7FE00010

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
    "DecayCorrected",
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
PRIVATE = {
    "GEScanDateTime": (0x0009, 0x0D, "GEMS_PETD_01"),
    "GEAdministrationDateTime": (0x0009, 0x3B, "GEMS_PETD_01"),
    "SiemensDecayCorrectionDateTime": (0x0071, 0x22, "SIEMENS MED PT"),
    "PhilipsSUVScaleFactor": (0x7053, 0x00, "PHILIPS PET PRIVATE GROUP"),
    "PhilipsActivityConcentrationScaleFactor": (0x7053, 0x09, "PHILIPS PET PRIVATE GROUP"),
}


@dataclass(frozen=True)
class Header:
    """The header of a DICOM file as the catalog keeps it.

    Attributes:
        dataset: all elements before the pixel data; long values of private ones, and of all in what is no
            PET, are left on the disk.
        has_pixels: whether PixelData (7FE0,0010) begins before the file ends.
        is_whole: whether the file goes on at least to the end of its pixel data, where their length says.
        size: bytes of the file.
    """

    dataset: Dataset
    has_pixels: bool
    is_whole: bool
    size: int


def read_header(file: BinaryIO) -> Header:
    """The header of an open file, without its pixel data.

    Raises whatever pydicom does where the file is damaged.
    """
    pixels: list[tuple[str | None, int]] = []  # VR and length, once the pixel data are reached

    def at_pixels(tag: Any, vr: str | None, length: int) -> bool:
        if tag == _PIXEL_DATA:
            pixels.append((vr, length))
        return tag in (_FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA, _PIXEL_DATA)

    size = os.fstat(file.fileno()).st_size
    try:
        dataset = read_partial(file, at_pixels, defer_size=_DEFER)
    except InvalidDicomError:
        file.seek(0)
        pixels.clear()
        dataset = read_partial(file, at_pixels, defer_size=_DEFER, force=True)
    if is_deflated(dataset):
        file.seek(0)
        return _read_deflated(file, size)
    start = file.tell()
    _read_deferred(file, dataset)
    if not pixels:
        return Header(dataset, False, False, size)
    vr, length = pixels[-1]
    # PS3.5 7.1.2: an explicit VR of bytes or words has its length in 32 bits after two reserved bytes.
    value = start + (12 if vr is not None and vr in EXPLICIT_VR_LENGTH_32 else 8)
    return Header(dataset, True, length == UNDEFINED_LENGTH or value + length <= size, size)


def _read_deferred(file: BinaryIO, dataset: Dataset) -> None:
    """Reads the long values of a PET image's public elements, which were left on the disk."""
    if text_of(value_of(dataset, "Modality")) != "PT":
        return  # such as contours, which may be large
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and element.value is None and element.length:
            if not tag.is_private:
                file.seek(element.value_tell)
                dataset[tag] = element._replace(value=file.read(element.length))


def _read_deflated(file: BinaryIO, size: int) -> Header:
    """The header of a deflated file: no place in the file is an element's, so that it is read whole."""
    dataset = pydicom.dcmread(file)
    pixels: Any = dataset.get_item("PixelData")
    if pixels is not None:
        if len(pixels.value) < pixels.length != UNDEFINED_LENGTH:
            raise EOFError("the pixel data are not whole")
        del dataset["PixelData"]
    return Header(dataset, pixels is not None, pixels is not None, size)


def read_elements(file: BinaryIO, keywords: Sequence[str]) -> Dataset:
    """The elements with these keywords of an open file.

    Raises whatever pydicom does where the file is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(file, specific_tags=list(keywords))
        except InvalidDicomError:
            file.seek(0)
            return pydicom.dcmread(file, force=True, specific_tags=list(keywords))


def unreadable(path: AnyPath, reason: str) -> InputError:
    """The refusal of a DICOM file that pydicom could not read."""
    return InputError(
        f"{path} cannot be read as DICOM ({reason}): it is truncated or damaged; copy the series again"
    )


def is_deflated(dataset: Dataset) -> bool:
    """Whether a file's data set is compressed as a whole (PS3.5 A.5)."""
    return transfer_syntax(dataset) == DeflatedExplicitVRLittleEndian


def transfer_syntax(dataset: Dataset) -> UID:
    """TransferSyntaxUID (0002,0010) of a file that was read, an empty one where it does not say."""
    return UID(text_of(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")))


def value_of(dataset: Dataset, key: Any) -> Any:
    """An element's value as str, number, list of them, or None; what its VR forbids comes as text."""
    tag: Any = pydicom.datadict.tag_for_keyword(key) if isinstance(key, str) else key
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
    if isinstance(value, PersonName):  # which is no str, and would be taken apart into letters below
        return str(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [_plain(v) for v in value]
    return str(value)


def text_of(value: Any) -> str:
    """A value, or the first of a list, as stripped text; "" where absent."""
    if isinstance(value, list):
        value = value[0] if value else None
    return "" if value is None else str(value).strip(" \0")


def texts_of(value: Any) -> list[str]:
    """All values as stripped text in upper case, empty ones left out."""
    items = value if isinstance(value, list) else [value]
    return [t for t in (text_of(item).upper() for item in items) if t]


def number_of(value: Any) -> float | None:
    """A value as a finite number, None for anything else."""
    try:
        number = float(text_of(value))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def slice_facts(dataset: Dataset) -> dict[str, Any]:
    """The header facts of one slice as `suv.decide` wants them."""
    facts = {key: value_of(dataset, key) for key in _SUV_KEYWORDS}
    items = items_of(dataset, "RadiopharmaceuticalInformationSequence")
    facts["RadiopharmaceuticalItems"] = len(items)
    if items:
        facts.update({key: value_of(items[0], key) for key in _ISOTOPE_KEYWORDS})
        codes = items_of(items[0], "RadionuclideCodeSequence")
        if codes:
            facts["RadionuclideCodeValue"] = value_of(codes[0], "CodeValue")
            facts["RadionuclideCodeMeaning"] = value_of(codes[0], "CodeMeaning")
        tracers = items_of(items[0], "RadiopharmaceuticalCodeSequence")
        if tracers and not text_of(facts["Radiopharmaceutical"]):
            facts["Radiopharmaceutical"] = value_of(tracers[0], "CodeMeaning")
    without = []
    blocks = _private_blocks(dataset)
    for key in PRIVATE:
        facts[key], creator = _private(dataset, key, blocks)
        if facts[key] is not None and not creator:
            without.append(key)
    facts["PrivateWithoutCreator"] = without
    return facts


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or damaged."""
    try:
        return [item for item in dataset[keyword].value if isinstance(item, Dataset)]
    except Exception:
        return []


def _private_blocks(dataset: Dataset) -> dict[int, dict[str, int]]:
    """Per private group the block that each creator (in upper case) owns."""
    blocks: dict[int, dict[str, int]] = {}
    groups = {group for group, _, _ in PRIVATE.values()}
    for tag in dataset.keys():
        group, element = tag >> 16, tag & 0xFFFF
        if group in groups and 0x10 <= element <= 0xFF:
            blocks.setdefault(group, {}).setdefault(text_of(value_of(dataset, tag)).upper(), element)
    return blocks


def _private(dataset: Dataset, key: str, blocks: dict[int, dict[str, int]]) -> tuple[Any, bool]:
    """A private value, and whether its block has its creator; without any, block 10 is accepted."""
    group, element, creator = PRIVATE[key]
    if creator in blocks.get(group, {}):
        return value_of(dataset, group << 16 | blocks[group][creator] << 8 | element), True
    if 0x10 in blocks.get(group, {}).values():
        return None, False
    return value_of(dataset, group << 16 | 0x1000 | element), False


def tag_of(keyword: str) -> str:
    """The tag of a keyword for messages, as "(0028,1053)"."""
    tag = pydicom.datadict.tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
