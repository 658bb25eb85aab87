"""The frames of a DICOM Segmentation: their stored values, and the grid that they are slices of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from drmc.dicom.decode import decompressed_frames
from drmc.dicom.header import number_of, transfer_syntax, value_of
from drmc.dicom.pixels import BIG_ENDIAN, NATIVE_SYNTAXES
from drmc.dicom.stack import SHEAR_TOLERANCE_MM, STEP_TOLERANCE, plane_axes
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.paths import AnyPath
from drmc.segments.grid import ALIGNMENT_TOLERANCE

SAME_PLANE_MM = 0.01  # frames nearer to each other than this lie on one slice
LARGEST_FRAME = 1 << 26  # pixels
MOST_SLICES = 1 << 16  # from the first frame to the last
_PARTS = range(1, 11)  # candidates for the slice step: the smallest gap divided by each of these


@dataclass
class Frames:
    """The positions of an object's frames.

    `slice_index` of each frame, and the grid that they are slices of: its origin and spacing (x, y, z) in mm
    and the directions of its axes (3, 3), LPS.
    """

    slice_index: np.ndarray
    origin: np.ndarray
    spacing: tuple[float, float, float]
    direction: np.ndarray


def stored_frames(dataset: Dataset, path: AnyPath, count: int) -> Iterator[np.ndarray]:
    """Yields the stored values (rows, columns) of each of `count` frames.

    One frame at a time: a whole-body segmentation with many segments does not fit into memory.

    Raises:
        InputError: the pixel data are damaged.
    """
    rows, columns = (int(number_of(value_of(dataset, key)) or 0) for key in ("Rows", "Columns"))
    bits = int(number_of(value_of(dataset, "BitsAllocated")) or 0)
    data = dataset.get("PixelData")
    if not 0 < rows * columns <= LARGEST_FRAME or bits not in (1, 8, 16) or not isinstance(data, bytes):
        raise InputError(
            f"{path}: frames of {rows} x {columns} pixels of {bits} bits (Rows (0028,0010), Columns "
            "(0028,0011), BitsAllocated (0028,0100), PixelData (7FE0,0010)) do not fit a segmentation: it is "
            "damaged, export it again"
        )
    syntax = transfer_syntax(dataset)
    if syntax and syntax not in NATIVE_SYNTAXES:
        yield from decompressed_frames(path, dataset, syntax, (count, rows, columns))
        return
    size = rows * columns * bits  # of a frame, in bits; frames of single bits have no padding (PS3.5 8.1.1)
    if len(data) * 8 < count * size:
        raise InputError(
            f"{path}: its frames cannot be decoded: {len(data)} bytes of PixelData (7FE0,0010) where {count} "
            f"frames of {rows} x {columns} pixels need {-(-count * size // 8)}: it is truncated or damaged, "
            "copy it again"
        )
    order = ">" if syntax == BIG_ENDIAN else "<"
    for frame in range(count):
        start, stop = frame * size, (frame + 1) * size
        if bits == 1:
            packed = np.frombuffer(data, np.uint8)[start // 8 : -(-stop // 8)]
            values = np.unpackbits(packed, bitorder="little")[start % 8 :][:size]
        else:
            values = np.frombuffer(data, f"{order}u{bits // 8}", rows * columns, start // 8)
        yield values.reshape(rows, columns)


def functional_group(dataset: Dataset, frame: Dataset, name: str) -> Dataset:
    """A functional group of a frame: its own, else the shared one, else an empty dataset."""
    for owner in (frame, *(dataset.get("SharedFunctionalGroupsSequence") or [])):
        if owner.get(name):
            return owner[name][0]
    return Dataset()


def grid_of_frames(
    dataset: Dataset, path: AnyPath, per_frame: list[Dataset], scan: Geometry, drawn_on_scan: bool
) -> tuple[Frames, list[str]]:
    """The grid that the frames are slices of, and notices; empty slices need no frame.

    The slice step is SpacingBetweenSlices (0018,0088). If that is missing or contradicts the positions of the
    frames, it is the step of the scan, if the frames lie on its slices; else SliceThickness (0018,0050), else
    the largest step that the positions allow. A segmentation that was drawn on the scan has the scan's step,
    whatever its header says.

    Args:
        dataset: the Segmentation object.
        path: its file, for messages.
        per_frame: the items of PerFrameFunctionalGroupsSequence (5200,9230).
        scan: the grid of the scan.
        drawn_on_scan: whether the object references the scan's series; frames with the scan's pixels count as
            drawn on it too.

    Raises:
        InputError: the frames are not slices of one grid.
    """

    def all_frames(sequence: str, keyword: str, tag: str, length: int) -> np.ndarray:
        return np.array(
            [
                _numbers(functional_group(dataset, item, sequence), keyword, tag, length, path)
                for item in per_frame
            ]
        )

    orientations = all_frames("PlaneOrientationSequence", "ImageOrientationPatient", "(0020,0037)", 6)
    positions = all_frames("PlanePositionSequence", "ImagePositionPatient", "(0020,0032)", 3)
    in_plane = all_frames("PixelMeasuresSequence", "PixelSpacing", "(0028,0030)", 2)
    turned = np.abs(orientations - orientations[0]).max() > 1e-4
    if turned or np.abs(in_plane - in_plane[0]).max() > 1e-4 or in_plane.min() <= 0:
        raise InputError(
            f"{path}: ImageOrientationPatient (0020,0037) or PixelSpacing (0028,0030) differs between "
            "frames: convert it in 3D Slicer to one grid"
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
    step_of_scan = _step_of_scan(positions, normal, scan)
    same_pixels = np.abs(in_plane[0][::-1] / np.asarray(scan.spacing[:2]) - 1).max() < 1e-3
    shape = tuple(int(number_of(value_of(dataset, key)) or 0) for key in ("Rows", "Columns"))
    on_scan = drawn_on_scan or (same_pixels and shape == tuple(scan.shape[1:]))
    measures = functional_group(dataset, per_frame[0], "PixelMeasuresSequence")
    slice_index, step, notices = _slices(along, measures, path, step_of_scan, on_scan)
    spacing = (float(in_plane[0, 1]), float(in_plane[0, 0]), step)
    return Frames(slice_index, first, spacing, np.column_stack([row, column, normal])), notices


def _numbers(group: Dataset, keyword: str, tag: str, length: int, path: AnyPath) -> np.ndarray:
    try:
        numbers = np.array(value_of(group, keyword), dtype=float)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (length,) or not np.isfinite(numbers).all():
        raise InputError(f"{path}: a frame without {keyword} {tag} has no place in a scan: export it again")
    return numbers


def _step_of_scan(positions: np.ndarray, normal: np.ndarray, scan: Geometry) -> float | None:
    """The scan's slice step [mm] if all frames lie on its slices (continued endlessly), else None."""
    axis = np.reshape(scan.direction, (3, 3))[:, 2]
    if abs(axis @ normal) < 1 - 1e-4:
        return None
    slices = (positions - np.asarray(scan.origin)) @ axis / scan.spacing[2]
    on_slices = np.abs(slices - np.round(slices)).max() <= ALIGNMENT_TOLERANCE
    return float(scan.spacing[2]) if on_slices else None


def _slices(
    along: np.ndarray, measures: Dataset, path: AnyPath, step_of_scan: float | None, on_scan: bool
) -> tuple[np.ndarray, float, list[str]]:
    """The slice index of every frame, the slice step and notices, from positions `along` the normal [mm]."""
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) > SAME_PLANE_MM
    plane = np.empty(len(along), dtype=int)
    plane[order] = np.cumsum(new)
    positions = along[order][np.concatenate([[True], new[1:]])]
    gaps = np.diff(positions)
    between, thickness = (
        number_of(value_of(measures, key)) for key in ("SpacingBetweenSlices", "SliceThickness")
    )
    # The smallest gap is the step unless every second slice is empty, and the header is not always right.
    steps = [between, step_of_scan, thickness, *(gaps.min() / part for part in _PARTS if gaps.size)]
    if on_scan and step_of_scan is not None:
        steps.insert(0, step_of_scan)
    for step in steps:
        found = _counted(positions, gaps, step)
        if found is not None:
            break
    else:
        raise InputError(
            f"{path}: its frames are not slices at even steps (ImagePositionPatient (0020,0032), "
            "SpacingBetweenSlices (0018,0088)): convert it in 3D Slicer to one grid"
        )
    index, mean = found
    if index[-1] >= MOST_SLICES:
        raise InputError(
            f"{path}: its frames are up to {positions[-1] - positions[0]:.4g} mm apart in steps of "
            f"{mean:.4g} mm (ImagePositionPatient (0020,0032)): it is damaged, export it again"
        )
    stated = _counted(positions, gaps, between)
    if stated is None or abs(stated[1] - mean) <= STEP_TOLERANCE * mean:
        return index[plane], mean, []
    notice = (
        f"SpacingBetweenSlices (0018,0088) of {path.name} is {between:g} mm, but its frames lie on the "
        f"scan's slices, {mean:.4g} mm apart: each is taken as one of them"
    )
    return index[plane], mean, [notice]


def _counted(positions: np.ndarray, gaps: np.ndarray, step: float | None) -> tuple[np.ndarray, float] | None:
    """The slice index of each plane and the mean step, if the planes are whole multiples of `step` apart."""
    if step is None or step <= 0:
        return None
    counts = np.round(gaps / step)
    if (counts < 1).any() or (np.abs(gaps - counts * step) > STEP_TOLERANCE * step).any():
        return None
    index = np.concatenate([[0.0], np.cumsum(counts)])
    mean = float(positions[-1] - positions[0]) / index[-1] if gaps.size else float(step)
    if np.abs(positions - positions[0] - index * mean).max() > 0.5 * mean:
        return None
    return index.astype(int), mean
