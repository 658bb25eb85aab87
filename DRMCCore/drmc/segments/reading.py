"""Segmentations: label images, Slicer's `.seg.nrrd` files, DICOM SEG and RTSTRUCT as masks on a scan's grid.

Masks are (z, y, x) bool. A segmentation whose voxels lie on the scan's voxels (to a tenth of a voxel: DICOM
slice positions are irregular, NIfTI spacing is nominal) is copied voxel by voxel, whatever its extent and
axis order. Any other grid that overlaps the scan is resampled by nearest neighbor, with a notice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from drmc.dicom.catalog import Catalog
from drmc.errors import InputError, NothingMarkedError
from drmc.files import check_regular
from drmc.imaging.integrity import check_grid, image_reader
from drmc.paths import AnyPath, labeled, plain
from drmc.segments.grid import contains, is_aligned, place_warning, resample_labels, voxels_outside
from drmc.segments.labels import ENDINGS, Entry, entries_of, labels_of, layers_of, unique_names
from drmc.segments.segment import Segment

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


def read_segments(
    path: str | os.PathLike[str],
    geometry: Geometry,
    frame_of_reference: str | None = None,
    series_uid: str | None = None,
    *,
    label: str | None = None,
    catalog: Catalog | None = None,
) -> tuple[list[Segment], list[str]]:
    """Reads the segments of a file onto the grid of `geometry`.

    Formats: label images (NIfTI, NRRD, MHA; every value but 0 is a segment, named after the file, with the
    value appended if there are several; a fourth axis holds layers), Slicer's `.seg.nrrd`, whose layers may
    overlap, and a DICOM SEG or RTSTRUCT, as a file or as a folder that contains exactly one.

    Args:
        path: the segmentation.
        geometry: the grid of the scan.
        frame_of_reference: FrameOfReferenceUID (0020,0052) of the scan. A DICOM object with another one is
            refused, unless it references the scan in another way, such as by `series_uid`.
        series_uid: SeriesInstanceUID (0020,000E) of the scan.
        label: what messages call the segmentation instead of its path.
        catalog: what was read of DICOM files before.

    Returns:
        the segments in the order of the file, and notices for the user.

    Raises:
        InputError: the file is not a segmentation.
        NothingMarkedError: it marks nothing in the scan, or a segment loses all its voxels by resampling.
    """
    return _read_segments(
        labeled(path, label), geometry, frame_of_reference, series_uid, catalog or Catalog()
    )


def _read_segments(
    path: AnyPath,
    geometry: Geometry,
    frame_of_reference: str | None,
    series_uid: str | None,
    catalog: Catalog,
) -> tuple[list[Segment], list[str]]:
    check_regular(path)
    dicom = _is_dicom(path, catalog)
    if dicom:
        layers, entries, notices = _dicom_layers(path, geometry, frame_of_reference, series_uid, catalog)
        labels = [labels_of(layer, path) for layer in layers]
    else:
        image = _read(path)
        layers, notices = layers_of(image, path), []
        labels = [labels_of(layer, path) for layer in layers]
        entries = entries_of(image, path, labels)
    if not entries:
        raise NothingMarkedError(
            f"{path}: the segmentation is empty; choose one with at least one marked voxel"
        )
    elsewhere = None if dicom else place_warning(layers[0], geometry)
    placed = _place(path, layers, labels, entries, geometry)
    if not placed.segments:
        raise NothingMarkedError(
            f"{path}: the segmentation does not overlap the scan; "
            + (elsewhere or "is it of another patient or series?")
            if placed.outside
            else f"{path}: the segmentation is empty; choose one with at least one marked voxel"
        )
    where = [f"the segmentation {path.name}: {elsewhere}"] if elsewhere else []
    if not all(is_aligned(layer, geometry) for layer in layers):
        where.append(_resampled_notice(path, layers[0], placed.changes))
    return placed.segments, [*where, *notices, *placed.notices(path)]


def _dicom_layers(
    path: AnyPath,
    geometry: Geometry,
    frame_of_reference: str | None,
    series_uid: str | None,
    catalog: Catalog,
) -> tuple[list[sitk.Image], list[Entry], list[str]]:
    from drmc.segments.dicom import read_dicom_segments  # pydicom is needed for DICOM only

    named, notices = read_dicom_segments(path, geometry, frame_of_reference, series_uid, catalog)
    entries = unique_names(Entry(name, layer, 1) for layer, (name, _) in enumerate(named))
    return [image for _, image in named], entries, notices


@dataclass
class _Placed:
    """The segments on the scan's grid, the names of those left out, and texts for the notices."""

    segments: list[Segment] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def notices(self, path: AnyPath) -> list[str]:
        left_out = [f"empty in {path.name} and left out: {', '.join(self.empty)}"] if self.empty else []
        if self.outside:
            left_out.append(f"outside the scan and left out: {', '.join(self.outside)}")
        return [*self.lost, *left_out]


def _place(
    path: AnyPath,
    layers: list[sitk.Image],
    labels: list[dict[int, int]],
    entries: list[Entry],
    geometry: Geometry,
) -> _Placed:
    """Every entry on the scan's grid. A layer is resampled once, for all its segments."""
    placed = _Placed()
    file_ml = float(np.prod(layers[0].GetSpacing())) / 1000.0
    inside = [contains(layer, geometry) for layer in layers]
    resampled: dict[int, tuple[tuple[slice, ...], np.ndarray]] = {}
    for entry in entries:
        layer = layers[entry.layer]
        voxels = labels[entry.layer].get(entry.label, 0)
        if voxels == 0:
            placed.empty.append(entry.name)
            continue
        lost = 0 if inside[entry.layer] else voxels_outside(layer, entry.label, geometry)
        if lost == voxels:
            placed.outside.append(entry.name)
            continue
        if entry.layer not in resampled:
            resampled[entry.layer] = resample_labels(layer, geometry)
        box, values = resampled[entry.layer]
        mask = np.zeros(geometry.shape, dtype=bool)
        mask[box] = values == entry.label
        if not mask.any():
            raise NothingMarkedError(
                f"{path}: segment '{entry.name}' ({voxels * file_ml:.3g} ml) contains no voxel center of the "
                "scan's grid; draw it on the scan itself"
            )
        segment = Segment(entry.name, mask)
        placed.segments.append(segment)
        if lost:
            placed.lost.append(
                f"segment '{entry.name}': {lost * file_ml:.2f} of {voxels * file_ml:.2f} ml lie outside the "
                "scan and do not count"
            )
        scan_ml = segment.voxels * geometry.voxel_ml
        placed.changes.append(f"{entry.name} {voxels * file_ml:.2f} -> {scan_ml:.2f} ml")
    return placed


def _resampled_notice(path: AnyPath, layer: sitk.Image, changes: list[str]) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in layer.GetSpacing())
    more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
    return (
        f"the segmentation {path.name} is on another grid (voxels of {spacing} mm) than the "
        f"scan: resampled by nearest neighbor; volumes {', '.join(changes[:4])}{more}"
    )


def _is_dicom(path: AnyPath, catalog: Catalog) -> bool:
    """Whether a path is to be read as DICOM, whatever its name; a folder always is."""
    if path.is_dir() or path.suffix.lower() == ".dcm":
        return path.exists()
    if path.name.lower().endswith(ENDINGS):
        return False
    return catalog.is_dicom(plain(path))


def _read(path: AnyPath) -> sitk.Image:
    if not path.exists():
        raise InputError(f"{path}: there is no such segmentation file")
    with image_reader(path, "a segmentation") as reader:
        image = reader.Execute()
    check_grid(image, path)
    return image
