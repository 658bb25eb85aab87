"""The lesions of a scan as a DICOM Segmentation object (PS3.3 A.51): BINARY, one segment per lesion.

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

from drmc.dicom.completion import code_item
from drmc.dicom.header import value_of
from drmc.dicom.references import Instance
from drmc.errors import InputError
from drmc.files import atomic_path
from drmc.imaging.geometry import Geometry
from drmc.measures import mtv
from drmc.pet.dicom_writing import LONGEST_LO, SOURCE_IMAGE
from drmc.report import dicom_document
from drmc.report.structured_report import tracking_uid
from drmc.segments.segment import Segment
from drmc.texts import shown

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
DESCRIPTION = "DRMC lesions - Research use"
SERIES_NUMBER_STEP = 3000  # behind the structured report
MOST_SEGMENTS = 65535  # SegmentNumber has the value representation US

# CID 7150 (category) and CID 7151 (type) of PS3.16.
_LESION = (("49755003", "SCT", "Morphologically Altered Structure"), ("52988006", "SCT", "Lesion"))
_LIVER = (("123037004", "SCT", "Anatomical Structure"), ("10200004", "SCT", "Liver"))
_SEGMENTATION = ("113076", "DCM", "Segmentation")  # CID 7203
# A segmentation file does not record how its segments were made: by hand, at a threshold or by an algorithm.
_ALGORITHM_TYPE, _ALGORITHM_NAME = "SEMIAUTOMATIC", "Not recorded in the segmentation file"


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


def write(path: str | os.PathLike[str], slices: Slices, segments: Sequence[Segment], *, series: str) -> None:
    """Writes the object, atomically.

    Args:
        path: the file.
        slices: those of the source series.
        segments: at least one, on the grid of the scan; they may overlap.
        series: SeriesInstanceUID of the source, for the tracking UIDs, which are those of the structured
            report.

    Raises:
        InputError: there are no segments, or more than DICOM can number.
    """
    if not 0 < len(segments) <= MOST_SEGMENTS:
        raise InputError(
            f"{path}: a DICOM segmentation has 1 to {MOST_SEGMENTS} segments, not {len(segments)}"
        )
    document = _document(slices, segments, series)
    with atomic_path(Path(path)) as temporary:
        document.save_as(temporary, enforce_file_format=True)


def _document(slices: Slices, segments: Sequence[Segment], series: str) -> Dataset:
    header = slices.headers[0]
    ds = dicom_document.started(
        header,
        sop_class=SEGMENTATION_STORAGE,
        modality="SEG",
        description=DESCRIPTION,
        series_number_step=SERIES_NUMBER_STEP,
    )
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentLabel, ds.ContentDescription = "LESIONS", "Segments measured by DRMC. Research use only."
    ds.ContentCreatorName = None
    ds.FrameOfReferenceUID = value_of(header, "FrameOfReferenceUID") or generate_uid()
    ds.PositionReferenceIndicator = value_of(header, "PositionReferenceIndicator")
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "BINARY"
    liver = mtv.liver_of(segments, None)
    ds.SegmentSequence = DicomSequence(
        _segment(number, segment, segment is liver, series) for number, segment in enumerate(segments, 1)
    )
    organization = str(generate_uid())
    _set_dimensions(ds, organization)
    ds.SharedFunctionalGroupsSequence = DicomSequence([_shared_groups(slices)])
    frames, masks = _frames(slices, segments)
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    ds.ReferencedSeriesSequence = DicomSequence([_referenced(slices, segments)])
    _set_pixels(ds, masks)
    return ds


def _segment(number: int, segment: Segment, is_liver: bool, series: str) -> Dataset:
    category, kind = _LIVER if is_liver else _LESION
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = shown(segment.name)[:LONGEST_LO] or f"Segment {number}"
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = _ALGORITHM_TYPE, _ALGORITHM_NAME
    item.SegmentedPropertyCategoryCodeSequence = DicomSequence([code_item(*category)])
    item.SegmentedPropertyTypeCodeSequence = DicomSequence([code_item(*kind)])
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
