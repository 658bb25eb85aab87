"""Writes a denoised scan as a DICOM PET series that a viewer loads beside the original, with the same SUV.

All that the SUV rests on (dates, times, dose, patient, decay correction and the private reference times)
stays as the source has it, or as it was given by hand, and so do study, frame of reference, positions and
orientation. Series and instance UIDs, series number, description and derivation are new; the moment of
processing goes only into (0008,0012/0013) InstanceCreation and (0008,0023/0033) Content. Pixels are signed 16
bit, each slice with its own RescaleSlope (0028,1053), so that negative voxels stay and every voxel is within
half a slope step. Module: DICOM PS3.3 C.8.9.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from drmc import __version__
from drmc.dicom import completion
from drmc.dicom.catalog import Catalog
from drmc.dicom.choice import PET_CLASS
from drmc.dicom.header import DEEPEST, PRIVATE, slice_facts, value_of
from drmc.dicom.references import Instance, instance_of
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.files import atomic_path
from drmc.paths import AnyPath
from drmc.pet.strength import FULL, strength_text
from drmc.pet.volume import PETVolume
from drmc.suv import manual, wording
from drmc.suv.limits import SSF_AGREES_PERCENT
from drmc.suv.rules import decide
from drmc.suv.tags import TAGS
from drmc.suv.times import parse_offset
from drmc.texts import RESEARCH_USE

SLICE_NAME = "IM{:04d}.dcm"
DESCRIPTION = "DRMC denoised - Research use"
PARTIAL_DESCRIPTION = "DRMC denoised, strength {:.3g} - Research use"
LONGEST_LO, LONGEST_ST, LONGEST_LT = 64, 1024, 10_240  # characters of the value representations LO, ST and LT
LARGEST = 32767  # stored value of the largest magnitude of a slice
SERIES_NUMBER_STEP = 1000  # the new series stands behind the study's own
_PHILIPS_SUV, _PHILIPS_BQ = "PhilipsSUVScaleFactor", "PhilipsActivityConcentrationScaleFactor"

# CID 7203, CID 7202 and CID 7005 of DICOM PS3.16. CID 7203 has no noise reduction: smoothing is the nearest.
SMOOTHING = ("113087", "DCM", "Smoothing")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
MODIFYING_EQUIPMENT = ("109103", "DCM", "Modifying Equipment")

# What describes the old pixels, their encoding or their file, or is written anew.
_DROPPED = (
    "NumberOfFrames",
    "PlanarConfiguration",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "RescaleType",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "RealWorldValueMappingSequence",
    "IconImageSequence",
    "AlternateRepresentationSequence",
    "PixelDataProviderURL",
    "InstanceCreatorUID",
    "MACParametersSequence",
    "EncryptedAttributesSequence",
)
_DROPPED_GROUPS = (0x0002, 0x0004, 0x5000, 0x6000, 0x7FE0, 0xFFFA, 0xFFFC)  # also 50xx curves, 60xx overlays


@dataclass(frozen=True)
class SeriesPlan:
    """What is written: `units` (0054,1001) of the series, `gain` from the scan's units to them, notices."""

    units: str
    gain: float = 1.0
    notices: list[str] = field(default_factory=list)
    converted: bool = False  # from counts; their gain may happen to be 1


@dataclass(frozen=True)
class Equipment:
    """What made the image: the model's name, the SHA-256 of its weights, and the strength."""

    model: str
    sha256: str
    strength: float = FULL

    @property
    def description(self) -> str:
        """The end of the series description."""
        return DESCRIPTION if self.strength == FULL else PARTIAL_DESCRIPTION.format(self.strength)

    @property
    def derivation(self) -> str:
        """For people, in plain ASCII: every character set of DICOM holds it."""
        text = (
            f"Noise reduced by DRMC {__version__}, model {self.model} (SHA-256 {self.sha256[:16]}), "
            f"strength {strength_text(self.strength)}. {RESEARCH_USE}"
        )
        return text.encode("ascii", "replace").decode()


def refuse_image_file(path: AnyPath, kind: str | None) -> None:
    """InputError where the scan is an image file (`kind`: "nifti", ...) and so has no DICOM header."""
    if kind is not None:
        raise InputError(
            f"{path}: a {kind} file has no DICOM header to write a series with: use --format nifti or nrrd, "
            "or give the DICOM series"
        )


def plan_series(volume: PETVolume, catalog: Catalog | None = None) -> SeriesPlan:
    """How the scan goes back to DICOM; reads headers only, and those not that the catalog has.

    Counts (Units CNTS, Philips) become Bq/ml by their factor (7053,xx09) where it exists and the header's
    times then give the same SUV as the SUV factor (7053,xx00), else SUVbw. Raises InputError for a scan that
    is no classic PET series.
    """
    files = volume.dicom_files
    if volume.kind != "dicom" or not files:
        refuse_image_file(volume.named_source, volume.kind)
    catalog = catalog or Catalog()
    sop_class = str(value_of(catalog.header(files[0]).dataset, "SOPClassUID") or "").strip()
    if sop_class != PET_CLASS or len(set(files)) != len(volume.array):
        raise InputError(
            f"{volume.named_source}: DICOM is written for classic PET (one slice a file) only, this has "
            f"SOPClassUID (0008,0016) {sop_class}: use --format nifti or nrrd"
        )
    if volume.units != "CNTS":
        plan = SeriesPlan(volume.units)
    else:
        facts = [slice_facts(catalog.header(file).dataset) for file in files]
        plan = _plan_counts(manual.override(facts, volume.given))
    if not volume.given:
        return plan
    notice = f"the DICOM series carries the values given by hand: {', '.join(volume.given)}"
    return replace(plan, notices=[*plan.notices, notice])


def _comments(volume: PETVolume) -> str:
    """Factor, rule and warnings of the SUV of the scan, in plain ASCII, for ImageComments (0020,4000)."""
    decision = volume.suv.to_dict()
    parts = [f"{wording.one_line(decision, volume.units)} (of the original series)."]
    parts += [f"SUV warning: {text}." for text in wording.warning_lines(decision)]
    return _ascii(" ".join(parts))


def _plan_counts(facts: list[dict[str, Any]]) -> SeriesPlan:
    to_suv, to_bq = (_factor(facts[0].get(key)) for key in (_PHILIPS_SUV, _PHILIPS_BQ))
    group = "the Philips group 7053, whose factors are for counts, is not written"
    why = f"no factor to Bq/ml {TAGS[_PHILIPS_BQ]}"
    if to_bq is not None:
        apart = 0.0 if to_suv is None else _percent_apart(facts, to_suv / to_bq)
        if abs(apart) <= SSF_AGREES_PERCENT:
            notice = f"counts were written as Bq/ml (BQML) by {TAGS[_PHILIPS_BQ]}; {group}"
            if to_suv is not None:
                notice += f"; by the header's times the SUV is {apart:+.2g} % of that by the SUV factor"
            return SeriesPlan("BQML", to_bq, [notice], True)
        why = f"in Bq/ml the header's times do not give the SUV of the factor {TAGS[_PHILIPS_SUV]}"
    if to_suv is None:  # cannot be: then there was no SUV either
        raise InputError(f"counts have neither Philips factor {TAGS[_PHILIPS_SUV]}: use --format nifti")
    notice = f"counts were written as SUVbw (Units GML): {why}; {group}"
    return SeriesPlan("GML", to_suv, [notice], True)


def _percent_apart(facts: list[dict[str, Any]], suv_per_bq: float) -> float:
    """By how many percent the SUVbw that is decided from Bq/ml differs; infinite where none is."""
    written = [{**one, "Units": "BQML", _PHILIPS_SUV: None, _PHILIPS_BQ: None} for one in facts]
    try:
        decision = decide(written)
    except InputError:
        return math.inf
    ratios = [100.0 * (f / suv_per_bq - 1.0) for f in decision.factor_per_slice or (decision.factor,)]
    return max(ratios, key=abs)


def _factor(value: Any) -> float | None:
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


# ---------------------------------------------------------------------------------------- the series


def write_series(
    folder: Path,
    volume: PETVolume,
    plan: SeriesPlan,
    equipment: Equipment,
    cancel: Callable[[], bool] | None = None,
    catalog: Catalog | None = None,
) -> list[Instance]:
    """Writes the volume into a new folder, one file per slice, in the scan's slice order.

    `volume`: the denoised scan in the scan's own units, with the source's files; `catalog`: what was read of
    these before. Returns the new instance of each slice. Raises CanceledError between slices, and DRMCError
    where a header cannot be written.
    """
    folder.mkdir()
    catalog = catalog or Catalog()
    comments = f"{_comments(volume)} Denoised at strength {strength_text(equipment.strength)}."
    series_uid = generate_uid()
    written: list[Instance] = []
    for z, source in enumerate(volume.dicom_files):
        if cancel is not None and cancel():
            raise CanceledError()
        header = catalog.header(source).dataset
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd values, which are the source's
            try:
                ds = _kept(header, plan)
                _set_given(ds, volume.given)
                _identify(ds, header, series_uid, equipment, volume.given)
                earlier = _line(value_of(header, "ImageComments"))
                ds.ImageComments = f"{earlier} {comments}".strip()[-LONGEST_LT:]
                completion.complete(ds, z, len(volume.array))
                _set_pixels(ds, volume.array[z].astype(np.float64) * plan.gain, plan)
                with atomic_path(folder / SLICE_NAME.format(z + 1)) as path:
                    _save(ds, path)
                written.append(instance_of(ds))
            except OSError:
                raise
            except Exception as error:
                raise DRMCError(
                    f"{source}: its header cannot be written again ({type(error).__name__}: {error}): use "
                    "--format nifti or nrrd"
                ) from error
    return written


def _kept(header: Dataset, plan: SeriesPlan) -> Dataset:
    """The source's header without what no longer holds, and with the private values that the SUV rests on."""
    ds = public_copy(header)
    for keyword in _DROPPED:
        if keyword in ds:
            del ds[keyword]
    for tag in [tag for tag in ds.keys() if _is_dropped(tag)]:
        del ds[tag]
    facts = slice_facts(header)
    for key, (group, element, creator) in PRIVATE.items():
        counts = group == 0x7053
        if facts[key] is None or (counts and plan.converted):
            continue
        block = ds.private_block(group, _cased(creator), create=True)
        block.add_new(element, "DS" if counts else "DT", facts[key])
    return ds


def _set_given(ds: Dataset, given: Mapping[str, str]) -> None:
    """Writes the values given by hand where the SUV rules look for them, so that the SUV is the same."""
    injections = ds.get("RadiopharmaceuticalInformationSequence")
    for keyword, text in given.items():
        place = ds
        if keyword in manual.OF_THE_INJECTION:
            if not injections:
                ds.RadiopharmaceuticalInformationSequence = injections = Sequence([Dataset()])
            place = injections[0]
        if keyword in place:
            del place[keyword]
        if text:
            setattr(place, keyword, text)


def _cased(creator: str) -> str:
    """Creators are compared in capitals; this one is written otherwise."""
    return "Philips PET Private Group" if creator.startswith("PHILIPS") else creator


def _is_dropped(tag: Any) -> bool:
    group, element = tag >> 16, tag & 0xFFFF
    palette = group == 0x0028 and 0x1101 <= element <= 0x1223
    repeating = group & 0xFF00 if group >> 8 in (0x50, 0x60) else group
    return palette or repeating in _DROPPED_GROUPS


def public_copy(dataset: Dataset, depth: int = 0) -> Dataset:
    """A copy without private elements and group lengths, at every depth.

    Beyond DEEPEST nothing is copied, because each depth costs as much memory again. A value that its VR
    forbids goes on as the bytes that it is (VR UN), so that whoever could read the source reads the same.
    """
    public = Dataset()
    for tag in dataset.keys():
        if tag.is_private or tag.element == 0 or tag.group == 0x7FE0:
            continue
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                if depth >= DEEPEST:
                    continue
                items = [public_copy(item, depth + 1) for item in element.value]
                element = DataElement(tag, "SQ", Sequence(items))
            else:
                element = copy(element)  # setting a value would change the source's own element
        except Exception:
            raw = dataset.get_item(tag).value
            if not isinstance(raw, bytes) or dictionary_VR(tag) == "SQ":
                continue
            element = DataElement(tag, "UN", raw)
        public[tag] = element
    return public


def _identify(
    ds: Dataset, header: Dataset, series_uid: str, equipment: Equipment, given: Mapping[str, str]
) -> None:
    """What makes it an image of its own: UIDs, names, where it comes from, what made it and when."""
    now = now_of(ds)
    ds.SeriesInstanceUID = series_uid
    ds.SOPInstanceUID = generate_uid()
    ds.SOPClassUID = PET_CLASS
    ds.SeriesNumber = series_number(header, SERIES_NUMBER_STEP)
    ours = equipment.description
    earlier = _line(value_of(header, "SeriesDescription"))[: LONGEST_LO - len(ours) - 1].strip()
    ds.SeriesDescription = f"{earlier} {ours}".strip()
    # Value 2 of classic PET is always PRIMARY (PS3.3 C.8.9.4.1.1).
    ds.ImageType = ["DERIVED", "PRIMARY"]
    before = _line(value_of(header, "DerivationDescription"))
    by_hand = f" Given by hand for the SUV: {', '.join(given)}." if given else ""
    ds.DerivationDescription = f"{before} {equipment.derivation}{by_hand}".strip()[-LONGEST_ST:]
    ds.DerivationCodeSequence = [*ds.get("DerivationCodeSequence", []), completion.code_item(*SMOOTHING)]
    # The slice at the same place; its neighbors, which a 3-D network also sees, are the rest of that series.
    reference = Dataset()
    reference.ReferencedSOPClassUID = PET_CLASS
    reference.ReferencedSOPInstanceUID = value_of(header, "SOPInstanceUID")
    reference.PurposeOfReferenceCodeSequence = [completion.code_item(*SOURCE_IMAGE)]
    ds.SourceImageSequence = [reference]
    maker = Dataset()
    maker.PurposeOfReferenceCodeSequence = [completion.code_item(*MODIFYING_EQUIPMENT)]
    maker.Manufacturer = "DRMC"
    maker.ManufacturerModelName = _ascii(equipment.model)[:LONGEST_LO]
    maker.SoftwareVersions = [f"drmc {__version__}", f"SHA-256 {equipment.sha256[:16]}"]
    maker.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f") + (now.strftime("%z") if now.tzinfo else "")
    maker.ContributionDescription = equipment.derivation
    ds.ContributingEquipmentSequence = [*ds.get("ContributingEquipmentSequence", []), maker]
    ds.InstanceCreationDate = ds.ContentDate = now.strftime("%Y%m%d")
    ds.InstanceCreationTime = ds.ContentTime = now.strftime("%H%M%S.%f")


def series_number(header: Dataset, step: int) -> int:
    """The number of a new series: `step` above the source's, unless that is too large already."""
    number = _factor(value_of(header, "SeriesNumber")) or 0
    return int(number) + step if number < 1e9 else int(number)


def now_of(ds: Dataset) -> datetime:
    """The present by the series' clock: in its zone (0008,0201) where it states one, else local time."""
    try:
        offset = parse_offset(value_of(ds, "TimezoneOffsetFromUTC"))
    except ValueError:
        offset = None
    return datetime.now() if offset is None else datetime.now(timezone(timedelta(seconds=offset)))


def _line(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return " ".join(text.split())


def _ascii(text: str) -> str:
    return text.replace("\\", "/").encode("ascii", "replace").decode()


# ---------------------------------------------------------------------------------------- pixels


def slope_of(values: np.ndarray) -> float:
    """The RescaleSlope of a slice as a DICOM decimal string (16 characters) has it; always positive."""
    largest = float(np.max(np.abs(values), initial=0.0))
    return float(format_number_as_ds(largest / LARGEST)) if largest > 0 else 1.0


def _set_pixels(ds: Dataset, values: np.ndarray, plan: SeriesPlan) -> None:
    """`values` float64 (rows, columns) in the plan's units."""
    slope = slope_of(values)
    stored = np.clip(np.rint(values / slope), -LARGEST, LARGEST).astype("<i2")
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.RescaleIntercept = "0"
    ds.RescaleSlope = format_number_as_ds(slope)
    ds.add_new("SmallestImagePixelValue", "SS", int(stored.min()))
    ds.add_new("LargestImagePixelValue", "SS", int(stored.max()))
    ds.add_new("PixelData", "OW", stored.tobytes())
    ds.Units = plan.units
    if not plan.converted:
        return
    if plan.units == "GML":
        ds.SUVType = "BW"
    elif "SUVType" in ds:
        del ds.SUVType
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in ds:
            _scale(ds, keyword, plan.gain)


def _scale(ds: Dataset, keyword: str, gain: float) -> None:
    """A window moves with the units of the values that it shows."""
    value = value_of(ds, keyword)
    values = value if isinstance(value, list) else [value]
    numbers = [number for v in values if (number := _factor(v)) is not None]
    if len(numbers) < len(values):
        del ds[keyword]
    else:
        setattr(ds, keyword, [format_number_as_ds(number * gain) for number in numbers])


def _save(ds: Dataset, path: Path) -> None:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)


def is_series(folder: Path, slices: int | None = None) -> bool:
    """Whether a folder has nothing but slices of this writer, by their names, `slices` of them if given."""
    names = {path.name for path in folder.iterdir()} - {".DS_Store", "Thumbs.db"}
    return names == {SLICE_NAME.format(z + 1) for z in range(slices or len(names))}
