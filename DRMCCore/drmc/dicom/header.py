"""What DICOM headers say: elements as plain values, and the facts of one PET slice for the SUV rules.

Nothing that identifies a patient leaves this file: no names, IDs or birth dates are among the facts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from drmc.errors import InputError

UNDEFINED_LENGTH = 0xFFFFFFFF  # of an element that ends with a delimiter (PS3.5 7.1.1)
DEEPEST = 16  # sequences in sequences; the standard's objects have no more than half of that
_DEFER = 4096  # bytes; longer values, the pixel data, stay on the disk until they are asked for

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


def read_dataset(path: Path, only: list[str] | None = None, *, deferred: bool = True) -> Dataset:
    """The header with its long values, such as the pixel data, left on the disk until they are asked for.

    Or else the elements `only` (keywords), read whole; or all before the pixel data, where not `deferred`.
    """
    options: dict[str, Any] = {"defer_size": _DEFER} if deferred else {"stop_before_pixels": True}
    if only is not None:
        options = {"specific_tags": only}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = pydicom.dcmread(path, **options)
            except InvalidDicomError:
                dataset = pydicom.dcmread(path, force=True, **options)
            return _inflated(path) if only is None and deferred and is_deflated(dataset) else dataset
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as DICOM ({type(error).__name__}): it is truncated or damaged; copy the "
            "series again"
        ) from None


def is_deflated(dataset: Dataset) -> bool:
    """Whether a file's data set is compressed as a whole (PS3.5 A.5), so that no place in the file is an element's."""
    return transfer_syntax(dataset) == DeflatedExplicitVRLittleEndian


def transfer_syntax(dataset: Dataset) -> UID:
    """TransferSyntaxUID (0002,0010) of a file that was read, an empty one where it does not say."""
    return UID(text_of(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")))


def _inflated(path: Path) -> Dataset:
    """The header of a deflated file: nothing of it can be left on the disk, so its pixel data are emptied."""
    dataset = pydicom.dcmread(path)
    pixels: Any = dataset.get_item("PixelData")
    if pixels is not None:
        if len(pixels.value) < pixels.length != UNDEFINED_LENGTH:
            raise EOFError("the pixel data are not whole")
        dataset.add_new("PixelData", "OW", b"")
    return dataset


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
    """A value as a finite number, None where it is none."""
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
