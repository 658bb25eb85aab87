"""Enhanced PET and Legacy Converted Enhanced PET: the frames of a file as headers of classic slices.

A frame says by its functional groups (DICOM PS3.3 A.56, A.72, C.7.6.16, C.8.22) what a classic slice says by
elements of its own. Each frame becomes the header of a classic slice with the same facts, so that geometry,
checks and SUV rules are those of the classic series. What an Enhanced PET image says in other words:

    slope, intercept, Units   Real World Value Mapping (0040,9096) with UCUM units of CID 84
    AcquisitionDateTime       FrameAcquisitionDateTime (0018,9074)
    ActualFrameDuration       FrameAcquisitionDuration (0018,9220), ms
    FrameReferenceTime        FrameReferenceDateTime (0018,9151) - DecayCorrectionDateTime (0018,9701)
    CorrectedImage            DecayCorrected (0018,9758), AttenuationCorrected (0018,9759), ...: YES or NO
    DecayCorrection           DecayCorrected (0018,9758) and DecayCorrectionDateTime (0018,9701)
    DecayFactor               PET Frame Correction Factors (0018,9736)
    RadionuclideTotalDose     the same element, but in MBq (C.8.22.4)

A legacy converted image keeps the classic elements that have no place in it in the Unassigned Shared
(0020,9170) and Per-Frame (0020,9171) Converted Attributes Sequences; they win over what the converter made of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import ne
from typing import Any

from pydicom.dataset import Dataset

from drmc.dicom.header import items_of, number_of, tag_of, text_of, texts_of, value_of
from drmc.errors import InputError
from drmc.paths import AnyPath
from drmc.suv.limits import SAME_TIME_S
from drmc.suv.times import parse_datetime, parse_offset

ENHANCED_PET_CLASS = "1.2.840.10008.5.1.4.1.1.130"
LEGACY_PET_CLASS = "1.2.840.10008.5.1.4.1.1.128.1"
MULTI_FRAME_CLASSES = {
    ENHANCED_PET_CLASS: "Enhanced PET",
    LEGACY_PET_CLASS: "Legacy Converted Enhanced PET",
}
# What the SUV rules call an element -> what stands for it in an Enhanced PET image.
SYNONYMS = {
    "Units (0054,1001)": "MeasurementUnitsCodeSequence (0040,08EA)",
    "SUVType (0054,1006)": "MeasurementUnitsCodeSequence (0040,08EA)",
    "RescaleIntercept (0028,1052)": "RealWorldValueIntercept (0040,9224)",
    "RescaleSlope (0028,1053)": "RealWorldValueSlope (0040,9225)",
    "AcquisitionTime (0008,0032)": "FrameAcquisitionDateTime (0018,9074)",
    "ActualFrameDuration (0018,1242)": "FrameAcquisitionDuration (0018,9220)",
    "FrameReferenceTime (0054,1300)": "FrameReferenceDateTime (0018,9151)",
    "CorrectedImage (0028,0051)": "the corrections (0018,9758) to (0018,9768)",
    "DecayCorrection (0054,1102)": "DecayCorrected (0018,9758)",
}

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelData")
# The flags of the Enhanced PET Corrections module with their terms in CorrectedImage (C.8.22.6).
_CORRECTIONS = {
    "DecayCorrected": "DECY",
    "AttenuationCorrected": "ATTN",
    "ScatterCorrected": "SCAT",
    "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN",
    "PatientMotionCorrected": "PMOT",
    "CountLossNormalizationCorrected": "CLN",
    "RandomsCorrected": "RAN",
    "NonUniformRadialSamplingCorrected": "RADL",
    "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}
# UCUM codes of CID 84 (today's form, and that of older images) -> Units (0054,1001) and SUVType (0054,1006).
# In order of preference where a frame offers several: activity first, as in most classic series.
_UNITS: dict[str, tuple[str, str | None]] = {
    "Bq/ml": ("BQML", None),
    "g/ml{SUVbw}": ("GML", "BW"),
    "{SUVbw}g/ml": ("GML", "BW"),
    "g/ml{SUVlbm}": ("GML", "LBM"),
    "{SUVlbm}g/ml": ("GML", "LBM"),
    "g/ml{SUVlbm(James128)}": ("GML", "LBMJAMES128"),
    "{SUVlbm(James128)}g/ml": ("GML", "LBMJAMES128"),
    "g/ml{SUVlbm(Janma)}": ("GML", "LBMJANMA"),
    "{SUVlbm(Janma)}g/ml": ("GML", "LBMJANMA"),
    "g/ml{SUVibw}": ("GML", "IBW"),
    "{SUVibw}g/ml": ("GML", "IBW"),
    "cm2/ml{SUVbsa}": ("CM2ML", "BSA"),
    "{SUVbsa}cm2/ml": ("CM2ML", "BSA"),
    "{counts}": ("CNTS", None),
    "{counts}/s": ("CPS", None),
    "{propcounts}": ("PROPCNTS", None),
    "{propcounts}/s": ("PROPCPS", None),
    "/cm": ("1CM", None),
}
# Image flavors (FrameType value 3, C.8.16.1.3) that are no static volume.
_NOT_STATIC = {
    "CARDIAC_GATED",
    "CARDRESP_GATED",
    "RESP_GATED",
    "DYNAMIC",
    "FLUOROSCOPY",
    "LOCALIZER",
    "MOTION",
    "NON_PARALLEL",
}
# What these say where they say anything.
_ONLY = {
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "CardiacSynchronizationTechnique": "NONE",
    "CountsSource": "EMISSION",
}
_MAPPING = "RealWorldValueMappingSequence"
_EXPORT = "export the series as classic PET, one slice per file"


def frames_of_series(loaded: Sequence[tuple[AnyPath, Dataset]]) -> list[tuple[AnyPath, Dataset]]:
    """The frames of a series of multi-frame files, each with its file and the header of a classic slice.

    ReferencedFrameNumber (0008,1160) of each is its number in the file, from 1. Several files are one image
    only as the parts of one concatenation. Raises InputError where the frames are no single static volume.
    """
    _check_concatenation(loaded)
    frames = [(path, frame) for path, header in loaded for frame in _frames(path, header)]
    _check_one_volume(loaded[0][0], [frame for _, frame in frames])
    _set_reference_times([frame for _, frame in frames])
    for _, frame in frames:
        if text_of(value_of(frame, "SOPClassUID")) == ENHANCED_PET_CLASS:
            _put(frame, "NumberOfSlices", len(frames))  # all that were announced are here
    return frames


def first_frame(path: AnyPath, header: Dataset) -> Dataset:
    """The first frame alone, unchecked, to describe a series; the file's header where it has none to read."""
    groups = items_of(header, "PerFrameFunctionalGroupsSequence")
    try:
        return _Image(path, header).frame(groups[0], 1) if groups else header
    except InputError:
        return header


def _frames(path: AnyPath, header: Dataset) -> list[Dataset]:
    groups = items_of(header, "PerFrameFunctionalGroupsSequence")
    announced = number_of(value_of(header, "NumberOfFrames"))
    if not groups or announced != len(groups):
        raise InputError(
            f"{path} has {len(groups)} items of PerFrameFunctionalGroupsSequence (5200,9230) for "
            f"NumberOfFrames (0028,0008) {announced or 0:g}: it is damaged, copy or export the series again"
        )
    image = _Image(path, header)
    return [image.frame(group, number) for number, group in enumerate(groups, start=1)]


class _Image:
    """One multi-frame image: what all its frames share."""

    def __init__(self, path: AnyPath, header: Dataset):
        self.path = path
        self.enhanced = text_of(value_of(header, "SOPClassUID")) == ENHANCED_PET_CLASS
        self.base = Dataset()
        self.base.update(header)
        for keyword in _GROUPS:
            if keyword in self.base:
                del self.base[keyword]
        self.shared = next(iter(items_of(header, "SharedFunctionalGroupsSequence")), Dataset())

    def frame(self, group: Dataset, number: int) -> Dataset:
        """The header of a classic slice that says what this frame says."""

        def macro(keyword: str) -> Dataset:
            found = items_of(group, keyword) or items_of(self.shared, keyword)
            return found[0] if found else Dataset()

        view = Dataset()
        view.update(self.base)
        classic = _converted(view, self.shared, group)
        view.ReferencedFrameNumber = number
        for source, keywords in (
            ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
            ("PlanePositionSequence", ("ImagePositionPatient",)),
            ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
        ):
            for keyword in keywords:
                _put(view, keyword, value_of(macro(source), keyword))
        content = macro("FrameContentSequence")
        self._times(view, classic, content)
        if "DecayFactor" not in classic:
            _put(view, "DecayFactor", value_of(macro("PETFrameCorrectionFactorsSequence"), "DecayFactor"))
        kind = macro("PETFrameTypeSequence")
        for target, source in (
            ("ImageType", "FrameType"),
            ("VolumetricProperties", "VolumetricProperties"),
            ("VolumeBasedCalculationTechnique", "VolumeBasedCalculationTechnique"),
        ):
            _put(view, target, value_of(kind, source) or value_of(view, target))
        for keyword in ("StackID", "TemporalPositionIndex"):
            _put(view, keyword, value_of(content, keyword))
        _put(
            view,
            "TemporalPositionTimeOffset",
            value_of(macro("TemporalPositionSequence"), "TemporalPositionTimeOffset"),
        )
        if self.enhanced:
            _set_corrections(view)
        if "Units" in classic:
            transformation = macro("PixelValueTransformationSequence")
            for keyword in ("RescaleSlope", "RescaleIntercept"):
                _put(view, keyword, value_of(transformation, keyword))
        else:
            mappings = items_of(group, _MAPPING) or items_of(self.shared, _MAPPING)
            self._set_units(view, mappings, macro("PixelValueTransformationSequence"))
        return view

    def _times(self, view: Dataset, classic: set[str], content: Dataset) -> None:
        started = value_of(content, "FrameAcquisitionDateTime")
        if text_of(started) and "AcquisitionTime" not in classic:
            # What the image says of its acquisition as a whole gives way to what the frame says.
            for keyword in ("AcquisitionDate", "AcquisitionTime"):
                _put(view, keyword, None)
            _put(view, "AcquisitionDateTime", started)
        if "ActualFrameDuration" not in classic:
            _put(view, "ActualFrameDuration", value_of(content, "FrameAcquisitionDuration"))
        _put(view, "FrameReferenceDateTime", value_of(content, "FrameReferenceDateTime"))

    def _set_units(self, view: Dataset, mappings: list[Dataset], transformation: Dataset) -> None:
        """Units and slope from the mapping to real-world values; without one the unit stays unknown."""
        by_unit: dict[str, list[Dataset]] = {}
        for mapping in mappings:
            for code in items_of(mapping, "MeasurementUnitsCodeSequence"):
                # Codes of more than 16 characters stand in LongCodeValue (0008,0119).
                named = text_of(value_of(code, "CodeValue")) or text_of(value_of(code, "LongCodeValue"))
                by_unit.setdefault(named, []).append(mapping)
        unit = next((known for known in _UNITS if known in by_unit), next(iter(by_unit), None))
        if unit is None:
            for keyword in ("RescaleSlope", "RescaleIntercept"):
                _put(view, keyword, value_of(transformation, keyword))
            for keyword in ("Units", "SUVType"):
                _put(view, keyword, None)
            return
        chosen = by_unit[unit]
        slope = number_of(value_of(chosen[0], "RealWorldValueSlope"))
        if len(chosen) > 1 or slope is None or slope < 0:
            raise InputError(
                f"{self.path}: RealWorldValueMappingSequence (0040,9096) has {len(chosen)} mappings to "
                f"{unit}, or one without a positive RealWorldValueSlope (0040,9225): only one straight line "
                "is read; " + _EXPORT
            )
        units, suv_type = _UNITS.get(unit, (unit.upper(), None))
        for keyword, value in (
            ("Units", units),
            ("SUVType", suv_type),
            ("RescaleSlope", slope),
            ("RescaleIntercept", number_of(value_of(chosen[0], "RealWorldValueIntercept"))),
        ):
            _put(view, keyword, value)


def _put(view: Dataset, keyword: str, value: Any) -> None:
    """Sets an element to a plain value, or takes it away.

    Numbers become FD and texts LO whatever the element's VR is: a DS would cut the slope of 64 bits to 16
    characters, and what a file says is judged by the rules, not here.
    """
    if value is None:
        if keyword in view:
            del view[keyword]
        return
    first = value[0] if isinstance(value, list) and value else value
    view.add_new(keyword, "FD" if isinstance(first, (int, float)) else "LO", value)


def _converted(view: Dataset, shared: Dataset, group: Dataset) -> set[str]:
    """Puts the classic elements of a legacy converted image into the header; the keywords with a value."""
    items = [
        *items_of(shared, "UnassignedSharedConvertedAttributesSequence"),
        *items_of(group, "UnassignedPerFrameConvertedAttributesSequence"),
    ]
    # Private elements belong to the creators beside them, not to those of the file.
    private = {tag >> 16 for item in items for tag in item.keys() if tag >> 16 & 1}
    for tag in [tag for tag in view.keys() if tag >> 16 in private]:
        del view[tag]
    found: set[str] = set()
    for item in items:
        view.update(item)
        found |= {key for key in item.dir() if text_of(value_of(item, key))}
    return found


# ---------------------------------------------------------------------------------------- decay and times


def _set_corrections(view: Dataset) -> None:
    """CorrectedImage and DecayCorrection from the flags of the Enhanced PET Corrections module (C.8.22.6)."""
    flags = {keyword: text_of(value_of(view, keyword)).upper() for keyword in _CORRECTIONS}
    _put(view, "CorrectedImage", [_CORRECTIONS[k] for k, flag in flags.items() if flag == "YES"] or None)
    decay = {"YES": "START", "NO": "NONE"}.get(flags["DecayCorrected"])
    if decay == "START":
        # The classic header has a word of its own for an image that is corrected to the injection.
        reference = _moment(view, value_of(view, "DecayCorrectionDateTime"))
        injected = [
            _moment(view, value_of(item, "RadiopharmaceuticalStartDateTime"))
            for item in items_of(view, "RadiopharmaceuticalInformationSequence")
        ]
        if reference is not None and len(injected) == 1 and injected[0] is not None:
            decay = "ADMIN" if abs(reference - injected[0]) <= SAME_TIME_S else decay
    _put(view, "DecayCorrection", decay)


def _set_reference_times(frames: Sequence[Dataset]) -> None:
    """FrameReferenceTime, ms, from FrameReferenceDateTime.

    It counts from the decay-correction time where there is one. An image that is not decay-corrected counts
    from its first frame, as a classic series does.
    """
    starts = [_moment(frame, value_of(frame, "AcquisitionDateTime")) for frame in frames]
    known = [start for start in starts if start is not None]
    for frame in frames:
        if number_of(value_of(frame, "FrameReferenceTime")) is not None:
            continue
        if text_of(value_of(frame, "DecayCorrection")).upper() == "NONE":
            zero = min(known, default=None)
        else:
            zero = _moment(frame, value_of(frame, "DecayCorrectionDateTime"))
        reference = _moment(frame, value_of(frame, "FrameReferenceDateTime"))
        if zero is not None and reference is not None:
            _put(frame, "FrameReferenceTime", round((reference - zero) * 1000.0, 3))


def _moment(view: Dataset, text: Any) -> float | None:
    """Seconds of a DT on the scanner's clock: shifted only where both state their offset from UTC.

    Without TimezoneOffsetFromUTC (0008,0201) the clock is that of the frame's acquisition.
    """
    try:
        found = parse_datetime(text)
        zone = parse_offset(value_of(view, "TimezoneOffsetFromUTC"))
        acquired = parse_datetime(value_of(view, "AcquisitionDateTime"))
    except ValueError:
        return None
    if found is None:
        return None
    if zone is None and acquired is not None:
        zone = acquired[1]
    seconds, offset = found
    return seconds if offset is None or zone is None else seconds - offset + zone


# ---------------------------------------------------------------------------------------- one static volume


def _check_concatenation(loaded: Sequence[tuple[AnyPath, Dataset]]) -> None:
    """Several files must be all the parts of one concatenation (0020,9161), and one file no part of any."""
    folder = loaded[0][0].parent
    whole = {text_of(value_of(header, "ConcatenationUID")) for _, header in loaded}
    if whole == {""} and len(loaded) == 1:
        return
    if len(whole) > 1 or "" in whole:
        raise InputError(
            f"{folder} holds {len(loaded)} multi-frame images of one series (ConcatenationUID (0020,9161) "
            "does not join them): choose one, in a folder of its own"
        )
    parts = sorted(number_of(value_of(header, "InConcatenationNumber")) or 0.0 for _, header in loaded)
    total = max(number_of(value_of(header, "InConcatenationTotalNumber")) or 0.0 for _, header in loaded)
    if parts != [float(n + 1) for n in range(len(loaded))] or total not in (0.0, len(loaded)):
        raise InputError(
            f"{folder} has only parts {', '.join(f'{part:g}' for part in parts)} of a concatenation of "
            f"{total:g} (InConcatenationNumber (0020,9162)): copy the whole series"
        )


def _check_one_volume(path: AnyPath, frames: Sequence[Dataset]) -> None:
    """Refuses what is no single static stack of slices."""
    for keyword, what in (
        ("StackID", "holds several stacks"),
        ("TemporalPositionIndex", "is dynamic, with several temporal positions"),
        ("TemporalPositionTimeOffset", "is dynamic, with several temporal positions"),
    ):
        values = sorted({text_of(value_of(frame, keyword)) for frame in frames} - {""})
        if len(values) > 1:
            raise InputError(
                f"{path} {what} ({keyword} {tag_of(keyword)} has {len(values)} values): export one static "
                "volume"
            )
    for number, frame in enumerate(frames, start=1):
        wrong: dict[str, tuple[list[str], Callable[[str], bool]]] = {
            "FrameType": (texts_of(value_of(frame, "ImageType"))[2:3], _NOT_STATIC.__contains__),
            **{
                keyword: (texts_of(value_of(frame, keyword)), partial(ne, only))
                for keyword, only in _ONLY.items()
            },
        }
        for keyword, (values, refused) in wrong.items():
            if any(map(refused, values)):
                raise InputError(
                    f"{path}: {keyword} {tag_of(keyword)} of frame {number} is {values[0]}, no slice of a "
                    "static emission volume: choose a series of such slices"
                )
