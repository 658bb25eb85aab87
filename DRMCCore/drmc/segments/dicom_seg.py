"""DICOM Segmentation objects: every segment as a label image on the object's own grid.

Frames may come in any order, empty slices may have no frame, segments may overlap. The types BINARY,
FRACTIONAL and LABELMAP (SegmentationType (0062,0001)) are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from drmc.dicom.header import items_of, text_of, value_of
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.imaging.masks import bounding_box
from drmc.paths import AnyPath
from drmc.segments.dicom_seg_frames import Frames, functional_group, grid_of_frames, stored_frames

LARGEST_SEGMENT = 1 << 30  # voxels of the box around a segment


@dataclass
class _Piece:
    """The marked pixels of one frame: slice, corner (row, column) of their bounding box, mask in that box."""

    slice_index: int
    row: int
    column: int
    mask: np.ndarray


def read_segmentation(
    dataset: Dataset,
    path: AnyPath,
    geometry: Geometry,
    frame_of_reference: str | None = None,
    series_uid: str | None = None,
) -> tuple[list[tuple[str, sitk.Image]], list[str]]:
    """Name (SegmentLabel (0062,0005)) and label image of every segment, and notices.

    The images hold 0 and 1 and are cropped to the segment; that of an empty segment is one voxel, 0.

    Args:
        dataset: the Segmentation object.
        path: its file, for messages.
        geometry: the grid of the scan.
        frame_of_reference: FrameOfReferenceUID (0020,0052) of the scan.
        series_uid: SeriesInstanceUID (0020,000E) of the scan.

    Raises:
        InputError: the object is damaged, has no segments or no frames, its frames are not slices of one
            grid, or its frame of reference is not that of the scan and its only referenced series (0008,1115)
            is not `series_uid` either.
    """
    of_scan, notices = _check_reference(dataset, path, frame_of_reference, series_uid)
    names = _names(dataset)
    if not names:
        raise InputError(
            f"{path}: the segmentation has no segments (SegmentSequence (0062,0002)): choose another file"
        )
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if not per_frame:
        raise InputError(
            f"{path}: the segmentation has no frames (PerFrameFunctionalGroupsSequence (5200,9230)): it is "
            "empty, choose another file"
        )
    frames, more = grid_of_frames(dataset, path, per_frame, geometry, of_scan)
    notices += more
    kind = text_of(value_of(dataset, "SegmentationType")).upper()
    pieces: dict[int, list[_Piece]] = {number: [] for number in names}
    stored = zip(frames.slice_index.tolist(), stored_frames(dataset, path, len(per_frame)), strict=True)
    if kind == "LABELMAP":
        for place, values in stored:
            for number in np.unique(values).tolist():
                if number in pieces:
                    pieces[number] += _piece(place, values == number)
    elif kind in ("BINARY", "FRACTIONAL"):
        least = 1
        if kind == "FRACTIONAL":
            highest = int(value_of(dataset, "MaximumFractionalValue") or 255)
            least = -(-highest // 2)
            notices.append(
                f"{path.name} is a FRACTIONAL segmentation: voxels with at least half of its "
                f"MaximumFractionalValue (0062,000E) {highest} count"
            )
        numbers = [_segment_number(dataset, path, item) for item in per_frame]
        for number, (place, values) in zip(numbers, stored, strict=True):
            names.setdefault(number, f"Segment {number}")
            pieces.setdefault(number, []).extend(_piece(place, values >= least))
    else:
        raise InputError(
            f"{path}: SegmentationType (0062,0001) is {kind or 'missing'}: export it as BINARY, FRACTIONAL "
            "or LABELMAP"
        )
    return [(name, _image(pieces[number], frames, name, path)) for number, name in names.items()], notices


def _check_reference(
    dataset: Dataset, path: AnyPath, frame_of_reference: str | None, series_uid: str | None
) -> tuple[bool, list[str]]:
    """Whether the object references only the scan's series, and notices on its frame of reference."""
    own_frame = text_of(value_of(dataset, "FrameOfReferenceUID"))
    series = {
        text_of(value_of(one, "SeriesInstanceUID")) for one in items_of(dataset, "ReferencedSeriesSequence")
    }
    of_scan = series == {series_uid}
    if not frame_of_reference or own_frame in ("", frame_of_reference):
        return of_scan, []
    if not of_scan:
        raise InputError(
            f"{path}: the segmentation has another FrameOfReferenceUID (0020,0052) than the scan: it was "
            "drawn on an image in another position; register it to the scan in 3D Slicer"
        )
    notice = (
        f"{path.name} has another FrameOfReferenceUID (0020,0052) than the scan, but the series that it "
        "references (0008,1115) is the scan's: taken as drawn on it"
    )
    return of_scan, [notice]


def _names(dataset: Dataset) -> dict[int, str]:
    """Name by SegmentNumber (0062,0004), in the order of the file; 0 is a label map's background."""
    names = {}
    for item in dataset.get("SegmentSequence") or []:
        number = int(value_of(item, "SegmentNumber") or 0)
        texts = [str(value_of(item, key) or "").strip() for key in ("SegmentLabel", "SegmentDescription")]
        if number > 0:
            names[number] = next(filter(None, texts), f"Segment {number}")
    return names


def _segment_number(dataset: Dataset, path: AnyPath, frame: Dataset) -> int:
    group = functional_group(dataset, frame, "SegmentIdentificationSequence")
    number = value_of(group, "ReferencedSegmentNumber")
    if not isinstance(number, int):
        raise InputError(
            f"{path}: a frame without ReferencedSegmentNumber (0062,000B): it is damaged, export it again"
        )
    return number


def _piece(slice_index: int, mask: np.ndarray) -> list[_Piece]:
    """The marked pixels of a mask (row, column); an empty list for an empty mask."""
    box = bounding_box(mask)
    if box is None:
        return []
    return [_Piece(slice_index, box[0].start, box[1].start, mask[box].copy())]


def _image(pieces: list[_Piece], frames: Frames, name: str, path: AnyPath) -> sitk.Image:
    """The pieces of a segment as an image of the box around them."""
    if not pieces:
        pieces = [_Piece(0, 0, 0, np.zeros((1, 1), dtype=bool))]
    corners = np.array([(p.slice_index, p.row, p.column) for p in pieces])
    ends = np.array(
        [(p.slice_index + 1, p.row + p.mask.shape[0], p.column + p.mask.shape[1]) for p in pieces]
    )
    low, size = corners.min(axis=0), ends.max(axis=0) - corners.min(axis=0)
    if np.prod(size.astype(float)) > LARGEST_SEGMENT:
        raise InputError(
            f"{path}: segment '{name}' spans {' x '.join(map(str, size))} voxels (slices, rows, columns), "
            "more than any scan has: it is damaged, export it again"
        )
    mask = np.zeros(size, dtype=np.uint8)
    for piece, (z, y, x) in zip(pieces, corners - low, strict=True):
        mask[z, y : y + piece.mask.shape[0], x : x + piece.mask.shape[1]] |= piece.mask
    grid = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    grid.SetSpacing(frames.spacing)
    grid.SetOrigin([float(v) for v in frames.origin])
    grid.SetDirection([float(v) for v in frames.direction.ravel()])
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(grid.GetSpacing())
    image.SetDirection(grid.GetDirection())
    image.SetOrigin(grid.TransformIndexToPhysicalPoint([int(v) for v in low[::-1]]))
    return image
