"""The segments of a scan as a DICOM Segmentation object (PS3.3 A.51): BINARY, one of its segments for each.

Lesions unless it is said what else they are.

Frames that would be empty are left out. Each frame has the position of the slice that it lies on and
references that slice. Written on pydicom alone, because Slicer's Python has no highdicom.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from drmc.dicom.cielab import dicom_color
from drmc.dicom.completion import code_item
from drmc.dicom.header import value_of
from drmc.dicom.references import Instance
from drmc.errors import InputError
from drmc.files import atomic_path
from drmc.imaging.geometry import Geometry
from drmc.measures import mtv
from drmc.organs.table import DICOM_CATEGORY
from drmc.pet.dicom_writing import LONGEST_LO, SOURCE_IMAGE
from drmc.report import dicom_document
from drmc.report.structured_report import tracking_uid
from drmc.segments.segment import Segment
from drmc.texts import shown

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
MOST_SEGMENTS = 65535  # SegmentNumber has the value representation US

Code = tuple[str, str, str]
"""Value, scheme and meaning."""


@dataclass(frozen=True)
class SegmentKind:
    """What a segment is.

    Attributes:
        category: SegmentedPropertyCategoryCodeSequence (0062,0003), of CID 7150.
        kind: SegmentedPropertyTypeCodeSequence (0062,000F), of CID 7151.
        side: its modifier, of CID 244; None for an organ in the middle.
        color: red, green and blue for display, 0 to 1; None: the viewer's choice.
    """

    category: Code
    kind: Code
    side: Code | None = None
    color: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Content:
    """What an object holds, and how its segments were made.

    Attributes:
        description: SeriesDescription (0008,103E).
        label: ContentLabel (0070,0080).
        text: ContentDescription (0070,0081).
        series_number_step: how far its series number is above that of the source.
        algorithm_type: SegmentAlgorithmType (0062,0008).
        algorithm_name: SegmentAlgorithmName (0062,0009).
    """

    description: str
    label: str
    text: str
    series_number_step: int
    algorithm_type: str
    algorithm_name: str


LESIONS = Content(
    "DRMC lesions - Research use",
    "LESIONS",
    "Segments measured by DRMC. Research use only.",
    3000,  # behind the structured report
    # A segmentation file does not record how its segments were made: by hand, at a threshold or by an
    # algorithm.
    "SEMIAUTOMATIC",
    "Not recorded in the segmentation file",
)
_LESION = SegmentKind(("49755003", "SCT", "Morphologically Altered Structure"), ("52988006", "SCT", "Lesion"))
_LIVER = SegmentKind((DICOM_CATEGORY[0], "SCT", DICOM_CATEGORY[1]), ("10200004", "SCT", "Liver"))
_SEGMENTATION = ("113076", "DCM", "Segmentation")  # CID 7203


@dataclass(frozen=True)
class Slices:
    """The slices of the source series, in the scan's order.

    Attributes:
        instances: the instance of each slice.
        headers: the header of each slice; a single one where one file has all slices.
        geometry: the scan's grid.
    """

    instances: Sequence[Instance]
    headers: Sequence[Dataset]
    geometry: Geometry

    def position(self, z: int) -> list[str]:
        """ImagePositionPatient (0020,0032) of a slice."""
        if len(self.headers) == len(self.instances):
            return _decimals(value_of(self.headers[z], "ImagePositionPatient"))
        return _decimals((self.geometry.matrix @ [0, 0, z, 1])[:3])

    def orientation(self) -> list[str]:
        """ImageOrientationPatient (0020,0037)."""
        if len(self.headers) == len(self.instances):
            return _decimals(value_of(self.headers[0], "ImageOrientationPatient"))
        direction = np.reshape(self.geometry.direction, (3, 3))
        return _decimals((*direction[:, 0], *direction[:, 1]))


def write(
    path: str | os.PathLike[str],
    slices: Slices,
    segments: Sequence[Segment],
    *,
    series: str,
    kinds: Sequence[SegmentKind] | None = None,
    content: Content = LESIONS,
) -> None:
    """Writes the object, atomically.

    Args:
        path: the file.
        slices: those of the source series.
        segments: at least one, on the grid of the scan; they may overlap.
        series: SeriesInstanceUID of the source, for the tracking UIDs, which are those of the structured
            report.
        kinds: what each segment is; None: lesions, and a liver where one is called so.
        content: what the object holds.

    Raises:
        InputError: there are no segments, or more than DICOM can number.
    """
    if not 0 < len(segments) <= MOST_SEGMENTS:
        raise InputError(
            f"{path}: a DICOM segmentation has 1 to {MOST_SEGMENTS} segments, not {len(segments)}"
        )
    if kinds is None:
        liver = mtv.liver_of(segments, None)
        kinds = [_LIVER if segment is liver else _LESION for segment in segments]
    document = _document(slices, segments, kinds, content, series)
    with atomic_path(Path(path)) as temporary:
        document.save_as(temporary, enforce_file_format=True)


def _document(
    slices: Slices, segments: Sequence[Segment], kinds: Sequence[SegmentKind], content: Content, series: str
) -> Dataset:
    header = slices.headers[0]
    ds = dicom_document.started(
        header,
        sop_class=SEGMENTATION_STORAGE,
        modality="SEG",
        description=content.description,
        series_number_step=content.series_number_step,
    )
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentLabel, ds.ContentDescription = content.label, content.text
    ds.ContentCreatorName = None
    ds.FrameOfReferenceUID = value_of(header, "FrameOfReferenceUID") or generate_uid()
    ds.PositionReferenceIndicator = value_of(header, "PositionReferenceIndicator")
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "BINARY"
    ds.SegmentSequence = DicomSequence(
        _segment(number, segment, kind, content, series)
        for number, (segment, kind) in enumerate(zip(segments, kinds, strict=True), 1)
    )
    organization = str(generate_uid())
    _set_dimensions(ds, organization)
    ds.SharedFunctionalGroupsSequence = DicomSequence([_shared_groups(slices)])
    frames, masks = _frames(slices, segments)
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    ds.ReferencedSeriesSequence = DicomSequence([_referenced(slices, segments)])
    _set_pixels(ds, masks)
    return ds


def _segment(number: int, segment: Segment, what: SegmentKind, content: Content, series: str) -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = shown(segment.name)[:LONGEST_LO] or f"Segment {number}"
    item.SegmentAlgorithmType = content.algorithm_type
    item.SegmentAlgorithmName = content.algorithm_name[:LONGEST_LO]
    item.SegmentedPropertyCategoryCodeSequence = DicomSequence([code_item(*what.category)])
    kind = code_item(*what.kind)
    if what.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = DicomSequence([code_item(*what.side)])
    item.SegmentedPropertyTypeCodeSequence = DicomSequence([kind])
    if what.color is not None:
        item.RecommendedDisplayCIELabValue = dicom_color(what.color)
    item.TrackingID, item.TrackingUID = shown(segment.name), tracking_uid(series, segment.name)
    return item


def _set_dimensions(ds: Dataset, organization: str) -> None:
    """The frames are ordered by segment, then by position."""
    item = Dataset()
    item.DimensionOrganizationUID = organization
    ds.DimensionOrganizationSequence = DicomSequence([item])
    indices = []
    for keyword, group, label in (
        ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Segment"),
        ("ImagePositionPatient", "PlanePositionSequence", "Position"),
    ):
        index = Dataset()
        index.DimensionOrganizationUID = organization
        index.DimensionIndexPointer, index.FunctionalGroupPointer = Tag(keyword), Tag(group)
        index.DimensionDescriptionLabel = label
        indices.append(index)
    ds.DimensionIndexSequence = DicomSequence(indices)


def _shared_groups(slices: Slices) -> Dataset:
    spacing = slices.geometry.spacing
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.SliceThickness = measures.SpacingBetweenSlices = _decimals([spacing[2]])[0]
    measures.PixelSpacing = _decimals((spacing[1], spacing[0]))
    orientation.ImageOrientationPatient = slices.orientation()
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    return shared


def _frames(slices: Slices, segments: Sequence[Segment]) -> tuple[list[Dataset], list[np.ndarray]]:
    """The functional groups and the mask (rows, columns) of every frame that is not empty."""
    frames, masks = [], []
    for number, segment in enumerate(segments, 1):
        for z in range(segment.box[0].start, segment.box[0].stop):
            inside = segment.inside[z - segment.box[0].start]
            if inside.any():
                mask = np.zeros(segment.shape[1:], dtype=bool)
                mask[segment.box[1:]] = inside
                masks.append(mask)
                frames.append(_frame(slices, number, z))
    return frames, masks


def _frame(slices: Slices, number: int, z: int) -> Dataset:
    content, place, of, derived, frame = (Dataset() for _ in range(5))
    content.DimensionIndexValues = [number, z + 1]
    place.ImagePositionPatient = slices.position(z)
    of.ReferencedSegmentNumber = number
    source = slices.instances[z].item()
    source.PurposeOfReferenceCodeSequence = DicomSequence([code_item(*SOURCE_IMAGE)])
    source.SpatialLocationsPreserved = "YES"
    derived.DerivationCodeSequence = DicomSequence([code_item(*_SEGMENTATION)])
    derived.SourceImageSequence = DicomSequence([source])
    frame.FrameContentSequence = DicomSequence([content])
    frame.PlanePositionSequence = DicomSequence([place])
    frame.SegmentIdentificationSequence = DicomSequence([of])
    frame.DerivationImageSequence = DicomSequence([derived])
    return frame


def _referenced(slices: Slices, segments: Sequence[Segment]) -> Dataset:
    """The source series, with the slices that any segment lies on."""
    lie_on = sorted(
        {
            z + segment.box[0].start
            for segment in segments
            for z in np.flatnonzero(segment.inside.any(axis=(1, 2))).tolist()
        }
    )
    item = Dataset()
    item.SeriesInstanceUID = slices.instances[0].series
    found = dict.fromkeys(slices.instances[z] for z in lie_on)
    item.ReferencedInstanceSequence = DicomSequence(one.item() for one in found)
    return item


def _decimals(values: Iterable[float]) -> list[str]:
    """Numbers as decimal strings of DICOM, which have at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def _set_pixels(ds: Dataset, masks: Sequence[np.ndarray]) -> None:
    """Frames of single bits follow each other without padding (PS3.5 8.1.1)."""
    ds.NumberOfFrames = len(masks)
    ds.Rows, ds.Columns = masks[0].shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    packed = np.packbits(np.concatenate([mask.ravel() for mask in masks]), bitorder="little").tobytes()
    ds.add_new("PixelData", "OB", packed + b"\0" * (len(packed) % 2))
