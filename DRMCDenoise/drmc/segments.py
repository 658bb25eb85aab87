"""Segmentations: label images, Slicer's `.seg.nrrd` files, DICOM SEG and RTSTRUCT as masks on a scan's grid.

Masks are (z, y, x) bool. A segmentation whose voxels lie on the scan's voxels (to a tenth of a voxel: DICOM
slice positions are irregular, NIfTI spacing is nominal), whatever its extent and axis order, is taken over
voxel by voxel. Any other grid that overlaps the scan is resampled by nearest neighbor, and a notice says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError, NothingMarkedError
from drmc.files import check_regular
from drmc.imaging.integrity import check_grid, image_reader
from drmc.texts import shown

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry

ALIGNMENT_TOLERANCE = 0.1  # voxels: largest distance between a voxel of the segmentation and one of the scan
MAXIMUM_LABELS = 2000  # more distinct values than this is an image, not a segmentation
_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


class Segment:
    """One named mask (z, y, x), kept cropped to its bounding box so that many segments fit in memory.

    `box` is the bounding box as three slices into the full array, `inside` the bool mask in that box, `shape`
    the full shape. An empty mask is refused (InputError).
    """

    __slots__ = ("box", "inside", "name", "shape")

    def __init__(self, name: str, mask: np.ndarray):
        mask = np.asarray(mask)
        if mask.ndim != 3:
            raise InputError(f"segment '{name}': a mask has the axes (z, y, x), this one has {mask.ndim}")
        mask = mask != 0
        box = bounding_box(mask)
        if box is None:
            raise NothingMarkedError(f"segment '{name}' is empty: no voxel of the scan lies in it")
        self.name = name
        self.shape = mask.shape
        self.box = box
        self.inside = mask[self.box].copy()

    @property
    def mask(self) -> np.ndarray:
        """The mask on the full grid, bool (z, y, x)."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.box] = self.inside
        return mask

    @property
    def voxels(self) -> int:
        """Number of voxels in the segment."""
        return int(np.count_nonzero(self.inside))

    def __repr__(self) -> str:
        return f"Segment({self.name!r}, {self.voxels} voxels of {self.shape})"


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box with all marked voxels of a mask of any number of axes, one slice per axis; None where it is
    empty."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not used.size:
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


@dataclass(frozen=True)
class _Entry:
    """Where a segment lies in a file: which layer, which label value."""

    name: str
    layer: int
    label: int


def read_segments(
    path: str | os.PathLike[str],
    geometry: Geometry,
    frame_of_reference: str | None = None,
    series_uid: str | None = None,
) -> tuple[list[Segment], list[str]]:
    """Reads the segments of a file onto the grid of `geometry`.

    Takes label images (NIfTI, NRRD, MHA; every value but 0 is a segment, named after the file, with the value
    appended where there are several; a fourth axis holds layers), Slicer's `.seg.nrrd`, whose layers may
    overlap, and a DICOM SEG or RTSTRUCT, as its file or as a folder that holds exactly one; where
    `frame_of_reference` (the scan's FrameOfReferenceUID) is given, it must be theirs, unless they name the scan
    otherwise, such as by its `series_uid` (SeriesInstanceUID). Returns the segments in
    the order of the file and the notices for the reader. Raises InputError where the file is no segmentation,
    where nothing of it lies in the scan, and where a segment that lies in the scan loses all its voxels by
    resampling.
    """
    path = Path(path)
    check_regular(path)
    notices: list[str] = []
    if _is_dicom(path):
        from drmc.dicom_segments import read_dicom_segments  # pydicom is needed for DICOM only

        named, notices = read_dicom_segments(path, geometry, frame_of_reference, series_uid)
        layers = [image for _, image in named]
        entries = _unique_names(_Entry(name, layer, 1) for layer, (name, _) in enumerate(named))
        labels = [_labels(layer, path) for layer in layers]
    else:
        image = _read(path)
        layers = _layers(image, path)
        labels = [_labels(layer, path) for layer in layers]
        entries = _entries(image, path, labels)
    if not entries:
        raise NothingMarkedError(
            f"{path}: the segmentation is empty; give one with at least one marked voxel"
        )

    elsewhere = None if _is_dicom(path) else _elsewhere(layers[0], geometry)
    first = layers[0]
    aligned = all(_is_aligned(layer, geometry) for layer in layers)
    contained = [_contains(layer, geometry) for layer in layers]
    file_ml = float(np.prod(first.GetSpacing())) / 1000.0
    scan_ml = float(np.prod(geometry.spacing)) / 1000.0

    segments: list[Segment] = []
    empty: list[str] = []
    outside: list[str] = []
    changes: list[str] = []
    resampled: dict[int, tuple[tuple[slice, ...], np.ndarray]] = {}
    for entry in entries:
        voxels = labels[entry.layer].get(entry.label, 0)
        if voxels == 0:
            empty.append(entry.name)
            continue
        lost = 0
        if not contained[entry.layer]:
            lost = _voxels_outside(layers[entry.layer], entry.label, geometry)
        if lost == voxels:
            outside.append(entry.name)
            continue
        if entry.layer not in resampled:
            resampled[entry.layer] = _resample(layers[entry.layer], geometry)
        box, values = resampled[entry.layer]
        mask = np.zeros(geometry.shape, dtype=bool)
        mask[box] = values == entry.label
        if not mask.any():
            raise NothingMarkedError(
                f"{path}: segment '{entry.name}' ({voxels * file_ml:.3g} ml) holds no voxel center of the "
                "scan's grid; draw it on the scan itself"
            )
        segment = Segment(entry.name, mask)
        segments.append(segment)
        if lost:
            notices.append(
                f"segment '{entry.name}': {lost * file_ml:.2f} of {voxels * file_ml:.2f} ml lie outside the "
                "scan and do not count"
            )
        changes.append(f"{entry.name} {voxels * file_ml:.2f} -> {segment.voxels * scan_ml:.2f} ml")
    if not segments:
        if outside:
            raise NothingMarkedError(
                f"{path}: the segmentation does not overlap the scan; "
                + (elsewhere or "is it of another patient or series?")
            )
        raise NothingMarkedError(
            f"{path}: the segmentation is empty; give one with at least one marked voxel"
        )
    if not aligned:
        spacing = " x ".join(f"{s:.4g}" for s in first.GetSpacing())
        more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
        notices.insert(
            0,
            f"the segmentation {path.name} is on another grid (voxels of {spacing} mm) than the "
            f"scan: resampled by nearest neighbor; volumes {', '.join(changes[:4])}{more}",
        )
    if elsewhere:
        notices.insert(0, f"the segmentation {path.name}: {elsewhere}")
    if empty:
        notices.append(f"empty in {path.name} and left out: {', '.join(empty)}")
    if outside:
        notices.append(f"outside the scan and left out: {', '.join(outside)}")
    return segments, notices


def _is_dicom(path: Path) -> bool:
    """Whether a file is to be read as DICOM; its name need not say so. A folder can hold nothing else."""
    if path.is_dir() or path.suffix.lower() == ".dcm":
        return path.exists()
    if path.name.lower().endswith(_ENDINGS):
        return False
    from drmc.dicom.finding import is_dicom

    return is_dicom(path)


def _read(path: Path) -> sitk.Image:
    if not path.exists():
        raise InputError(f"{path}: there is no such segmentation file")
    with image_reader(path, "a segmentation") as reader:
        image = reader.Execute()
    check_grid(image, path)
    return image


def _layers(image: sitk.Image, path: Path) -> list[sitk.Image]:
    """The scalar 3-D label images of a file; Slicer puts segments that overlap into different layers."""
    if image.GetDimension() == 4:
        volumes = [image[:, :, :, index] for index in range(image.GetSize()[3])]
    elif image.GetDimension() == 3:
        volumes = [image]
    else:
        raise InputError(f"{path}: a segmentation is a 3-D image, this one has {image.GetDimension()} axes")
    layers = []
    for volume in volumes:
        count = volume.GetNumberOfComponentsPerPixel()
        if count == 1:
            layers.append(volume)
        else:
            layers.extend(sitk.VectorIndexSelectionCast(volume, index) for index in range(count))
    return layers


def _labels(layer: sitk.Image, path: Path) -> dict[int, int]:
    """Label value -> number of voxels in this layer, without 0."""
    array = sitk.GetArrayViewFromImage(layer)
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InputError(f"{path}: a segmentation holds whole numbers, not {layer.GetPixelIDTypeAsString()}")
    marked = array[array != 0]
    values, counts = np.unique(marked, return_counts=True)
    bad = values[~(np.isfinite(values) & (values == np.round(values)) & (values > 0))]
    if bad.size:
        raise InputError(
            f"{path}: holds the value {bad[0]:.6g}; a segmentation holds whole numbers from 0 on (is this "
            "the image itself?)"
        )
    if values.size > MAXIMUM_LABELS:
        raise InputError(
            f"{path}: holds {values.size} different values; this is an image, not a segmentation"
        )
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _entries(image: sitk.Image, path: Path, labels: list[dict[int, int]]) -> list[_Entry]:
    keys = set(image.GetMetaDataKeys())
    indices = sorted(
        {int(match.group(1)) for key in keys if (match := re.fullmatch(r"Segment(\d+)_(?:ID|Name)", key))}
    )

    def value(index: int, key: str, default: str) -> str:
        name = f"Segment{index}_{key}"
        return image.GetMetaData(name).strip() if name in keys else default

    # Files of Slicer before 4.11 have one layer per segment and neither of the two keys.
    one_layer_each = len(labels) == len(indices) > 1
    entries: list[_Entry] = []
    for position, index in enumerate(indices):
        name = value(index, "Name", "") or value(index, "ID", "") or f"Segment {index}"
        try:
            layer = int(value(index, "Layer", str(position if one_layer_each else 0)))
            label = int(value(index, "LabelValue", "1"))
        except ValueError as error:
            raise InputError(f"{path}: Segment{index}_Layer or _LabelValue is not a whole number") from error
        if not 0 <= layer < len(labels):
            raise InputError(
                f"{path}: Segment{index}_Layer is {layer}, but the file has {len(labels)} layers"
            )
        entries.append(_Entry(name, layer, label))
    named = {(entry.layer, entry.label) for entry in entries}
    rest = [
        (layer, label)
        for layer, present in enumerate(labels)
        for label in sorted(present)
        if (layer, label) not in named
    ]
    stem = _stem(path)
    if len(rest) == 1 and not entries:
        entries.append(_Entry(stem, *rest[0]))
    else:
        several = len({label for _, label in rest}) < len(rest)
        entries.extend(
            _Entry(f"{stem}_{layer + 1}_{label}" if several else f"{stem}_{label}", layer, label)
            for layer, label in rest
        )
    return _unique_names(entries)


def _stem(path: Path) -> str:
    for ending in _ENDINGS:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)]
    return path.stem


def _unique_names(entries: Iterable[_Entry]) -> list[_Entry]:
    """Rows of the lesion table are found by name: a second 'Lesion' becomes 'Lesion (2)'."""
    used: set[str] = set()
    unique = []
    for entry in entries:
        base = shown(entry.name)  # no bytes that are no text, nothing that a terminal obeys
        name, number = base, 2
        while name in used:
            name, number = f"{base} ({number})", number + 1
        used.add(name)
        unique.append(_Entry(name, entry.layer, entry.label))
    return unique


def _index_transform(source: sitk.Image, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(A, b): a voxel index (x, y, z) of `source` lies at the continuous index A i + b of the scan."""
    to_point = np.reshape(source.GetDirection(), (3, 3)) * np.asarray(source.GetSpacing())
    to_index = np.linalg.inv(np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing))
    return to_index @ to_point, to_index @ (np.asarray(source.GetOrigin()) - np.asarray(geometry.origin))


def _corners(source: sitk.Image, geometry: Geometry) -> np.ndarray:
    """Continuous scan indices (8, 3), (x, y, z), of the centers of the corner voxels of `source`."""
    matrix, offset = _index_transform(source, geometry)
    ends = [(0, size - 1) for size in source.GetSize()]
    corners = np.array([(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=float)
    return corners @ matrix.T + offset


def _is_aligned(source: sitk.Image, geometry: Geometry) -> bool:
    """Whether every voxel of `source` lies on a voxel of the scan's (endless) grid, to a tenth of a voxel."""
    matrix, offset = _index_transform(source, geometry)
    steps = np.round(matrix)
    if not (np.abs(steps).sum(axis=0) == 1).all() or not (np.abs(steps).sum(axis=1) == 1).all():
        return False
    # An affine difference is largest at a corner.
    ends = [(0, size - 1) for size in source.GetSize()]
    corners = np.array([(x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=float)
    difference = corners @ (matrix - steps).T + offset - np.round(offset)
    return bool(np.abs(difference).max() <= ALIGNMENT_TOLERANCE)


def _elsewhere(source: sitk.Image, geometry: Geometry) -> str | None:
    """What to tell of a segmentation that has the scan's shape but does not lie where the scan does; else None."""
    if tuple(source.GetSize()) != tuple(geometry.shape[::-1]):
        return None
    if _is_aligned(source, geometry) and _contains(source, geometry):
        return None
    matrix, offset = _index_transform(source, geometry)
    corners = np.array([(0, 0, 0), np.asarray(source.GetSize()) - 1], dtype=float)
    apart = corners @ matrix.T + offset - corners
    if np.abs(apart).max() <= 0.5:
        return None
    apart = apart * np.asarray(geometry.spacing)
    distance = float(np.linalg.norm(apart, axis=1).max())
    return (
        f"it has the scan's shape but another place or direction (corners up to {distance:.4g} mm apart; origin "
        f"{_point(source.GetOrigin())} against {_point(geometry.origin)} mm, LPS): if it was drawn on this scan, its "
        "geometry was lost on the way: save it again with the scan's, else nothing it marks is where it should be"
    )


def _point(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _contains(source: sitk.Image, geometry: Geometry) -> bool:
    corners = _corners(source, geometry)
    last = np.asarray(geometry.shape[::-1], dtype=float) - 1.0
    return bool((corners >= -0.5).all() and (corners <= last + 0.5).all())


def _voxels_outside(layer: sitk.Image, label: int, geometry: Geometry) -> int:
    matrix, offset = _index_transform(layer, geometry)
    zyx = np.nonzero(sitk.GetArrayViewFromImage(layer) == label)
    index = np.stack(zyx[::-1], axis=1) @ matrix.T + offset
    last = np.asarray(geometry.shape[::-1], dtype=float) - 1.0
    return int(np.count_nonzero(((index < -0.5) | (index > last + 0.5)).any(axis=1)))


def _resample(layer: sitk.Image, geometry: Geometry) -> tuple[tuple[slice, ...], np.ndarray]:
    """The layer on the part of the scan's grid that it covers: that part as slices (z, y, x), and its values.

    Only that part, so that a hundred small segments cost neither the time nor the memory of as many scans.
    """
    corners = _corners(layer, geometry)
    size = np.asarray(geometry.shape[::-1])
    low = np.clip(np.floor(corners.min(axis=0)) - 1, 0, size - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size - 1).astype(int)
    matrix = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    resample = sitk.ResampleImageFilter()
    resample.SetSize([int(n) for n in high - low + 1])
    resample.SetOutputSpacing([float(s) for s in geometry.spacing])
    resample.SetOutputOrigin([float(o) for o in np.asarray(geometry.origin) + matrix @ low])
    resample.SetOutputDirection([float(d) for d in geometry.direction])
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
    return box, sitk.GetArrayFromImage(resample.Execute(layer))
