"""DICOM Segmentation objects: every segment as a label image on the object's own grid.

Frames may come in any order, empty slices have none, segments may overlap. BINARY, FRACTIONAL and LABELMAP
(SegmentationType (0062,0001)) are read.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from .dicom import SHEAR_TOLERANCE_MM, STEP_TOLERANCE, plane_axes
from .dicom_header import value_of
from .errors import InputError
from .segments import bounding_box

SAME_PLANE_MM = 0.01  # frames nearer to each other than this lie on one slice


@dataclass
class _Frames:
    """Where the frames of an object lie: `slice_index` of each, and the grid that they are slices of."""

    slice_index: np.ndarray
    origin: np.ndarray
    spacing: tuple[float, float, float]
    direction: np.ndarray


def read_segmentation(
    dataset: Dataset, path: Path, frame_of_reference: str | None = None
) -> tuple[list[tuple[str, sitk.Image]], list[str]]:
    """Name (SegmentLabel (0062,0005)) and label image of every segment, and notices.

    The images hold 0 and 1 and are cropped to the segment; an empty one holds one voxel, 0. Raises InputError
    where the object is damaged or has no segments or frames, where its frames are no slices of one grid, and
    where `frame_of_reference`, the scan's, is not its own.
    """
    own_frame = str(value_of(dataset, "FrameOfReferenceUID") or "").strip()
    if frame_of_reference and own_frame not in ("", frame_of_reference):
        raise InputError(
            f"{path}: the segmentation has another FrameOfReferenceUID (0020,0052) than the scan: it was drawn "
            "on an image in another position; register it to the scan in 3D Slicer"
        )
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
    pixels = _pixels(dataset, path, len(per_frame))
    frames = _frames(dataset, path, per_frame)
    kind = str(value_of(dataset, "SegmentationType") or "").strip().upper()
    notices = []
    if kind == "LABELMAP":
        marked = {number: (np.arange(len(pixels)), number) for number in names}
    elif kind in ("BINARY", "FRACTIONAL"):
        numbers = np.array([_segment_number(dataset, path, item) for item in per_frame])
        least = 1
        if kind == "FRACTIONAL":
            highest = int(value_of(dataset, "MaximumFractionalValue") or 255)
            least = -(-highest // 2)
            notices.append(
                f"{path.name} is a FRACTIONAL segmentation: voxels with at least half of its "
                f"MaximumFractionalValue (0062,000E) {highest} count"
            )
        names |= {int(number): f"Segment {number}" for number in numbers if int(number) not in names}
        marked = {number: (np.flatnonzero(numbers == number), least) for number in names}
    else:
        raise InputError(
            f"{path}: SegmentationType (0062,0001) is {kind or 'missing'}: export it as BINARY, FRACTIONAL or "
            "LABELMAP"
        )
    images = []
    for number, (of_segment, value) in marked.items():
        mask = np.zeros((int(frames.slice_index.max()) + 1, *pixels.shape[1:]), dtype=np.uint8)
        for frame in of_segment:
            here = pixels[frame] == value if kind == "LABELMAP" else pixels[frame] >= value
            mask[frames.slice_index[frame]] |= here
        images.append((names[number], _cropped(mask, frames)))
    return images, notices


def _names(dataset: Dataset) -> dict[int, str]:
    """Name by SegmentNumber (0062,0004), in the order of the file; 0 is a label map's background."""
    names = {}
    for item in dataset.get("SegmentSequence") or []:
        number = int(value_of(item, "SegmentNumber") or 0)
        texts = [str(value_of(item, key) or "").strip() for key in ("SegmentLabel", "SegmentDescription")]
        if number > 0:
            names[number] = next(filter(None, texts), f"Segment {number}")
    return names


def _pixels(dataset: Dataset, path: Path, frames: int) -> np.ndarray:
    """The stored values of all frames (frame, row, column)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = dataset.pixel_array
        return pixels.reshape(frames, int(dataset.Rows), int(dataset.Columns))
    except Exception as error:
        raise InputError(
            f"{path}: its {frames} frames (PixelData (7FE0,0010)) cannot be decoded ({type(error).__name__}): "
            "it is truncated or damaged, copy it again, or its compression needs pylibjpeg"
        ) from None


def _group(dataset: Dataset, frame: Dataset, name: str) -> Dataset:
    """A functional group of a frame: its own, else the one that all frames share, else an empty one."""
    for owner in (frame, *(dataset.get("SharedFunctionalGroupsSequence") or [])):
        if owner.get(name):
            return owner[name][0]
    return Dataset()


def _segment_number(dataset: Dataset, path: Path, frame: Dataset) -> int:
    number = value_of(_group(dataset, frame, "SegmentIdentificationSequence"), "ReferencedSegmentNumber")
    if not isinstance(number, int):
        raise InputError(
            f"{path}: a frame without ReferencedSegmentNumber (0062,000B): it is damaged, export it again"
        )
    return number


def _numbers(group: Dataset, keyword: str, tag: str, length: int, path: Path) -> np.ndarray:
    try:
        numbers = np.array(value_of(group, keyword), dtype=float)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (length,) or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: a frame without {keyword} {tag}: it is no slice of a scan, export it again"
        )
    return numbers


def _frames(dataset: Dataset, path: Path, per_frame: list[Dataset]) -> _Frames:
    """The grid whose slices the frames are; empty slices need have none."""

    def all_frames(sequence: str, keyword: str, tag: str, length: int) -> np.ndarray:
        return np.array(
            [_numbers(_group(dataset, item, sequence), keyword, tag, length, path) for item in per_frame]
        )

    orientations = all_frames("PlaneOrientationSequence", "ImageOrientationPatient", "(0020,0037)", 6)
    positions = all_frames("PlanePositionSequence", "ImagePositionPatient", "(0020,0032)", 3)
    in_plane = all_frames("PixelMeasuresSequence", "PixelSpacing", "(0028,0030)", 2)
    turned = np.abs(orientations - orientations[0]).max() > 1e-4
    if turned or np.abs(in_plane - in_plane[0]).max() > 1e-4 or in_plane.min() <= 0:
        raise InputError(
            f"{path}: ImageOrientationPatient (0020,0037) or PixelSpacing (0028,0030) differs between frames: "
            "convert it in 3D Slicer to one grid"
        )
    row, column = plane_axes(orientations[0], path)
    normal = np.cross(row, column)
    along = positions @ normal
    first = positions[np.argmin(along)]
    shift = positions - first
    if np.abs(shift - np.outer(shift @ normal, normal)).max() > SHEAR_TOLERANCE_MM:
        raise InputError(
            f"{path}: its frames are shifted against each other in their plane (ImagePositionPatient "
            "(0020,0032)): convert it in 3D Slicer to one grid"
        )
    slice_index, step = _slices(along, _group(dataset, per_frame[0], "PixelMeasuresSequence"), path)
    spacing = (float(in_plane[0, 1]), float(in_plane[0, 0]), step)
    return _Frames(slice_index, first, spacing, np.column_stack([row, column, normal]))


def _slices(along: np.ndarray, measures: Dataset, path: Path) -> tuple[np.ndarray, float]:
    """The slice of every frame and the slice step, from the frames' distances `along` the normal (mm)."""
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) > SAME_PLANE_MM
    plane = np.empty(len(along), dtype=int)
    plane[order] = np.cumsum(new)
    positions = along[order][np.concatenate([[True], new[1:]])]
    gaps = np.diff(positions)
    between, thickness = (value_of(measures, key) for key in ("SpacingBetweenSlices", "SliceThickness"))
    # The smallest gap is the step unless every second slice is empty; the stated one is not always true.
    for step in (between, gaps.min() if gaps.size else thickness):
        if not isinstance(step, float) or step <= 0:
            continue
        counts = np.round(gaps / step)
        if (counts < 1).any() or (np.abs(gaps - counts * step) > STEP_TOLERANCE * step).any():
            continue
        index = np.concatenate([[0.0], np.cumsum(counts)])
        mean = float(positions[-1] - positions[0]) / index[-1] if gaps.size else float(step)
        if np.abs(positions - positions[0] - index * mean).max() <= 0.5 * mean:
            return index.astype(int)[plane], mean
    raise InputError(
        f"{path}: its frames are no slices at even steps (ImagePositionPatient (0020,0032), "
        "SpacingBetweenSlices (0018,0088)): convert it in 3D Slicer to one grid"
    )


def _cropped(mask: np.ndarray, frames: _Frames) -> sitk.Image:
    """The mask (slice, row, column) as an image of its bounding box."""
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(frames.spacing)
    image.SetOrigin([float(v) for v in frames.origin])
    image.SetDirection([float(v) for v in frames.direction.ravel()])
    box = bounding_box(mask) or (slice(0, 1),) * 3
    return image[box[::-1]]
