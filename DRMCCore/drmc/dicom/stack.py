"""Slices by position: their order, their step and the grid that they make."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from drmc.dicom.header import number_of, tag_of, text_of, value_of
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry, triple
from drmc.imaging.integrity import ORTHONORMAL_TOLERANCE
from drmc.paths import AnyPath

STEP_TOLERANCE = 0.10  # of the median slice step; more is a gap
SHEAR_TOLERANCE_MM = 0.1  # slices may be shifted in their plane by this much


def frame_number(header: Dataset) -> int:
    """Which frame of its file a slice is, from 1; a classic slice is the only one."""
    return int(number_of(value_of(header, "ReferencedFrameNumber")) or 1)


def slice_label(path: AnyPath, header: Dataset) -> str:
    """A slice in messages: its file's name, and the frame in a multi-frame file."""
    return path.name + (f" frame {frame_number(header)}" if "ReferencedFrameNumber" in header else "")


_TIMES = ("AcquisitionTime", "AcquisitionDateTime", "FrameReferenceTime")


def vector_of(path: AnyPath, ds: Dataset, keyword: str, length: int) -> np.ndarray:
    """The `length` numbers of an element, float64; InputError where they are missing or damaged."""
    value = value_of(ds, keyword)
    numbers = [number_of(v) for v in value] if isinstance(value, list) else []
    if len(numbers) != length or any(n is None for n in numbers):
        raise InputError(
            f"{path}: {keyword} {tag_of(keyword)} is missing or damaged: export the series again"
        )
    return np.array(numbers)


def plane_axes(orientation: np.ndarray, path: AnyPath) -> tuple[np.ndarray, np.ndarray]:
    """The unit vectors of a row and a column, at right angles, of ImageOrientationPatient (0020,0037) (6,).

    Raises InputError where their lengths or their angle are off by more than ORTHONORMAL_TOLERANCE.
    """
    row, column = orientation[:3], orientation[3:]
    if np.abs([row @ row - 1, column @ column - 1, row @ column]).max() > ORTHONORMAL_TOLERANCE:
        raise InputError(
            f"{path}: ImageOrientationPatient (0020,0037) is no pair of unit vectors at right angles "
            f"(lengths {np.linalg.norm(row):.6g} and {np.linalg.norm(column):.6g}, product "
            f"{row @ column:.4g}), so its axes are not orthonormal: export it again, or resample it onto a "
            "grid that is not sheared"
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def stacked(
    loaded: list[tuple[AnyPath, Dataset]],
) -> tuple[list[tuple[AnyPath, Dataset]], Geometry, list[str]]:
    """The slices in ascending position along their normal, and the grid they make."""
    path, first = loaded[0]
    orientation = vector_of(path, first, "ImageOrientationPatient", 6)
    row, column = plane_axes(orientation, path)
    normal = np.cross(row, column)
    positions = []
    for p, ds in loaded:
        if np.max(np.abs(vector_of(p, ds, "ImageOrientationPatient", 6) - orientation)) > 1e-4:
            raise InputError(
                f"{p}: ImageOrientationPatient (0020,0037) differs within the series: keep one series per "
                "folder"
            )
        positions.append(vector_of(p, ds, "ImagePositionPatient", 3))
    along = np.array([q @ normal for q in positions])
    order = np.argsort(along, kind="stable")
    loaded = [loaded[i] for i in order]
    places = np.array(positions)[order]
    along = along[order]
    notices: list[str] = []
    if len(loaded) > 1:
        step, notices = _step(loaded, along)
        shift = places - places[0]
        shear = np.max(np.linalg.norm(shift - np.outer(shift @ normal, normal), axis=1))
        if shear > SHEAR_TOLERANCE_MM:
            raise InputError(
                f"{path.parent}: slices are shifted against each other in their plane by up to {shear:.2f} "
                "mm (ImagePositionPatient (0020,0032)): resample the series first"
            )
    else:
        step = number_of(value_of(first, "SliceThickness")) or 0.0
        if step <= 0:
            raise InputError(
                f"{path}: one slice without SliceThickness (0018,0050): write it into the header"
            )
        notices.append(f"the series has one slice; its thickness {step:g} mm is taken as the slice step")
    spacing = vector_of(path, first, "PixelSpacing", 2)
    if spacing.min() <= 0:
        raise InputError(f"{path}: PixelSpacing (0028,0030) is not positive: export the series again")
    rows, columns = (int(number_of(value_of(first, k)) or 0) for k in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise InputError(
            f"{path}: Rows (0028,0010) or Columns (0028,0011) is missing: export the series again"
        )
    geometry = Geometry(
        (len(loaded), rows, columns),
        (float(spacing[1]), float(spacing[0]), float(step)),
        triple(places[0]),
        tuple(float(v) + 0.0 for v in np.column_stack([row, column, normal]).ravel()),
    )
    return loaded, geometry, notices


def _step(loaded: list[tuple[AnyPath, Dataset]], along: np.ndarray) -> tuple[float, list[str]]:
    steps = np.diff(along)
    median = float(np.median(steps))
    folder = loaded[0][0].parent
    same = np.flatnonzero(steps <= max(1e-3, 0.01 * median))
    if same.size:
        a, b = loaded[same[0]], loaded[same[0] + 1]
        times = [[text_of(value_of(ds, key)) for key in _TIMES] for _, ds in (a, b)]
        what = "a dynamic or gated stack" if times[0] != times[1] else "duplicated slices"
        raise InputError(
            f"{folder}: {same.size} positions hold several images ({slice_label(*a)} and {slice_label(*b)}; "
            f"ImagePositionPatient (0020,0032)): {what}; keep one image per position"
        )
    off = np.abs(steps - median) > STEP_TOLERANCE * median
    if off.any():
        worst = int(np.argmax(np.abs(steps - median)))
        raise InputError(
            f"{folder}: slices are missing: the step after {slice_label(*loaded[worst])} is "
            f"{steps[worst]:.3f} mm, the usual one {median:.3f} mm (ImagePositionPatient (0020,0032)); copy "
            "the whole series"
        )
    notices = []
    mean = float((along[-1] - along[0]) / (len(along) - 1))
    if np.max(np.abs(steps - median)) > 0.001 * median:
        drift = float(np.max(np.abs(along - (along[0] + mean * np.arange(len(along))))))
        if drift > 0.5 * median:
            raise InputError(
                f"{folder}: slice positions differ from an even grid by up to {drift:.2f} mm "
                "(ImagePositionPatient (0020,0032)); resample the series to even steps first"
            )
        notices.append(
            f"irregular slice steps {steps.min():.4g} to {steps.max():.4g} mm: mean {mean:.5g} mm used as "
            f"spacing, positions differ from the grid by up to {drift:.2g} mm"
        )
    return mean, notices
