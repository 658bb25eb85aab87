"""DICOM RT Structure Sets: the contours of each region of interest as label images on the grid of a scan.

The rule: a voxel belongs to a region if its center lies inside or on a contour of the nearest contour plane.
A plane extends to the middle between it and the next, but at the ends of a region and beside a gap only by
half the spacing of the planes. Contours that were drawn on the scan's own slices are thus used slice by
slice. Within a plane nested contours are even-odd, every second one a hole; contours that overlap without
being nested are joined (`contours.fill_joined`), unless the file marks them as exclusive (CLOSEDPLANAR_XOR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from drmc.dicom.header import items_of, text_of, value_of
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.paths import AnyPath
from drmc.segments import contours

EXCLUSIVE = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", EXCLUSIVE)  # the values of ContourGeometricType (3006,0042) that enclose an area
FLAT_TOLERANCE = 0.1  # slices: contours deviate from the scan's planes, or slices, by less than this
SAME_PLANE_MM = 0.05  # contours nearer to each other than this lie on one plane
DECIMALS = 6  # of coordinates in voxels: their digits in the file go no further
LARGEST_SPACING_MM = 10.0  # planes further apart belong to different lesions
LARGEST_GAP = 1.5  # times the spacing; planes further apart have a gap between them
LARGEST_EXTENT = 8  # times the scan's voxels; contours that need more are not near the scan


@dataclass
class _Region:
    """One region of interest.

    `polygons`: its closed contours, each (points, 3), continuous voxel indices (x, y, z); `exclusive`:
    whether overlapping parts are excluded (CLOSEDPLANAR_XOR).
    """

    name: str
    frame_of_reference: str
    polygons: list[np.ndarray]
    exclusive: bool


def read_structure_set(
    dataset: Dataset,
    path: AnyPath,
    geometry: Geometry,
    frame_of_reference: str | None = None,
    series_uid: str | None = None,
) -> tuple[list[tuple[str, sitk.Image]], list[str]]:
    """Name (ROIName (3006,0026)) and label image of every region that has closed contours, and notices.

    The images hold 0 and 1; their voxels lie on those of `geometry`, their extent is that of the region and
    may reach beyond the scan.

    Args:
        dataset: the RT Structure Set.
        path: its file, for messages.
        geometry: the grid of the scan.
        frame_of_reference: FrameOfReferenceUID (0020,0052) of the scan. A region with another one is
            accepted, with a notice, if ReferencedFrameOfReferenceSequence (3006,0010) references only the
            scan, by its frame or by `series_uid`.
        series_uid: SeriesInstanceUID (0020,000E) of the scan.

    Raises:
        InputError: there are no closed contours, they are damaged, not parallel to planes of the scan, or far
            outside of it, or they belong to another frame of reference.
    """
    regions, notices = _regions(dataset, path, geometry)
    other = [
        region.name
        for region in regions
        if frame_of_reference and region.frame_of_reference not in ("", frame_of_reference)
    ]
    if other:
        reference = _reference_to_scan(dataset, frame_of_reference, series_uid)
        if not reference:
            raise InputError(
                f"{path}: '{other[0]}' has another FrameOfReferenceUID (3006,0024) than the scan, and "
                "ReferencedFrameOfReferenceSequence (3006,0010) does not name the scan either: it was drawn "
                "on an image in another position; register it to the scan in 3D Slicer"
            )
        notices.append(
            f"{_listed(other)} in {path.name}: another FrameOfReferenceUID (3006,0024) than the scan's, but "
            f"the file names the scan by {reference}: taken as drawn on it"
        )
    axis = _slice_axis(regions, path)
    step = geometry.spacing[axis]
    spacing = _spacing([_planes(region, axis, step) for region in regions], step)
    images = []
    changes: list[str] = []
    for region in regions:
        image, change = _label_image(region, axis, spacing, path, geometry, notices)
        images.append((region.name, image))
        changes += change
    if changes:
        notices.append(
            f"the contours in {path.name} ({spacing * step:.4g} mm apart) are not those of the scan's slices "
            f"({step:.4g} mm apart): each slice takes those of the nearest plane; volumes {_listed(changes)}"
        )
    return images, notices


def _reference_to_scan(dataset: Dataset, frame: str | None, series_uid: str | None) -> str:
    """The attribute by which the file references only the scan; "" if it does not."""
    items = items_of(dataset, "ReferencedFrameOfReferenceSequence")
    if len(items) != 1:
        return ""
    if text_of(value_of(items[0], "FrameOfReferenceUID")) == frame:
        return "its only referenced FrameOfReferenceUID (3006,0010), (0020,0052)"
    series = [
        text_of(value_of(one, "SeriesInstanceUID"))
        for study in items_of(items[0], "RTReferencedStudySequence")
        for one in items_of(study, "RTReferencedSeriesSequence")
    ]
    return "its referenced SeriesInstanceUID (3006,0014), (0020,000E)" if set(series) == {series_uid} else ""


def _regions(dataset: Dataset, path: AnyPath, geometry: Geometry) -> tuple[list[_Region], list[str]]:
    """The regions with closed contours, in the order of the file, and notices."""
    described = {
        str(value_of(item, "ROINumber")): item for item in dataset.get("StructureSetROISequence") or []
    }
    drawn = {
        str(value_of(item, "ReferencedROINumber")): item for item in dataset.get("ROIContourSequence") or []
    }
    regions: list[_Region] = []
    without: list[str] = []
    notices: list[str] = []
    for number in dict.fromkeys([*drawn, *described]):
        item, about = drawn.get(number, Dataset()), described.get(number, Dataset())
        name = str(value_of(about, "ROIName") or "").strip() or f"ROI {number}"
        polygons: dict[bytes, np.ndarray] = {}
        ignored = doubled = 0
        exclusive = False
        for contour in item.get("ContourSequence") or []:
            points = _points(contour, name, path)
            if value_of(contour, "ContourGeometricType") not in CLOSED or len(points) < 3:
                ignored += 1
                continue
            exclusive |= value_of(contour, "ContourGeometricType") == EXCLUSIVE
            polygon = _to_index(points, geometry)
            doubled += polygon.tobytes() in polygons
            polygons[polygon.tobytes()] = polygon  # once: a contour drawn twice would be its own hole
        if not polygons:
            without.append(name)
            continue
        if ignored:
            notices.append(f"'{name}': {ignored} points or open contours enclose nothing and are ignored")
        if doubled:
            notices.append(f"'{name}': {doubled} contours are in the file twice and count once")
        frame = str(value_of(about, "ReferencedFrameOfReferenceUID") or "").strip()
        regions.append(_Region(name, frame, list(polygons.values()), exclusive))
    if not regions:
        raise InputError(
            f"{path}: the RT Structure Set has no closed contours (ROIContourSequence (3006,0039)); draw the "
            "lesions or choose another file"
        )
    if without:
        notices.append(f"without closed contours in {path.name} and left out: {_listed(without)}")
    return regions, notices


def _points(contour: Dataset, name: str, path: AnyPath) -> np.ndarray:
    """ContourData (3006,0050) as (points, 3), LPS in mm; NumberOfContourPoints (3006,0046) must agree."""
    try:
        points = np.asarray(contour.get("ContourData") or [], dtype=float).reshape(-1, 3)
    except (TypeError, ValueError):
        points = np.full((1, 3), np.nan)
    announced = value_of(contour, "NumberOfContourPoints")
    if not np.isfinite(points).all() or (isinstance(announced, int) and announced != len(points)):
        raise InputError(
            f"{path}: ContourData (3006,0050) of '{name}' is truncated or damaged: copy or export it again"
        )
    return points


def _to_index(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Points in mm as continuous voxel indices (x, y, z) of the scan."""
    to_index = np.linalg.inv(np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing))
    return np.round((points - np.asarray(geometry.origin)) @ to_index.T, DECIMALS)


def _slice_axis(regions: Sequence[_Region], path: AnyPath) -> int:
    """The axis (0 x, 1 y, 2 z) of the scan along which no contour extends."""
    extent = np.max([np.ptp(polygon, axis=0) for region in regions for polygon in region.polygons], axis=0)
    axis = 2 if extent[2] <= FLAT_TOLERANCE else int(np.argmin(extent))
    if extent[axis] > FLAT_TOLERANCE:
        raise InputError(
            f"{path}: its contours are not parallel to planes of the scan (they cross {extent[2]:.1f} "
            "slices): convert it in 3D Slicer to a segmentation on the scan"
        )
    return axis


def _planes(region: _Region, axis: int, step_mm: float) -> dict[float, list[np.ndarray]]:
    """The polygons of each contour plane, by its position along `axis` [slices], ascending."""
    planes: dict[float, list[np.ndarray]] = {}
    position = -np.inf
    for polygon in sorted(region.polygons, key=lambda polygon: float(polygon[:, axis].mean())):
        here = float(polygon[:, axis].mean())
        if (here - position) * step_mm > SAME_PLANE_MM:
            position = here
        planes.setdefault(position, []).append(polygon)
    return planes


def _spacing(regions: Sequence[dict[float, list[np.ndarray]]], step_mm: float) -> float:
    """The spacing of the contour planes in slices; one slice if no two of them are near each other."""
    gaps = np.concatenate([np.diff(list(planes)) for planes in regions])
    near = gaps[gaps * step_mm <= max(LARGEST_SPACING_MM, step_mm * (1 + FLAT_TOLERANCE))]
    return float(np.median(near)) if near.size else 1.0


def _label_image(
    region: _Region, axis: int, spacing: float, path: AnyPath, geometry: Geometry, notices: list[str]
) -> tuple[sitk.Image, list[str]]:
    """The region on the scan's grid, and its change of volume if its planes are not the scan's slices."""
    planes = _planes(region, axis, geometry.spacing[axis])
    at = np.array(list(planes))
    gaps = np.diff(at)
    joined = gaps <= LARGEST_GAP * spacing
    half = np.where(joined, gaps, spacing) / 2
    # A slice halfway between two planes belongs to one of them, always to the same side.
    above = np.round(at + np.concatenate([half, [spacing / 2]]), DECIMALS - 1)
    below = np.round(at - np.concatenate([[spacing / 2], half]), DECIMALS - 1)
    below[1:][joined] = above[:-1][joined]
    skipped = int(np.sum(np.round(gaps[~joined] / spacing) - 1))
    if skipped:
        notices.append(
            f"'{region.name}': no contours on {skipped} planes between its first and its last: nothing there"
        )

    points = np.concatenate(region.polygons)
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    low[axis], high[axis] = np.floor(below[0]), np.ceil(above[-1])
    if np.prod(high - low + 1) > LARGEST_EXTENT * np.prod(np.asarray(geometry.shape, dtype=float)) + 1e6:
        raise InputError(
            f"{path}: the contours of '{region.name}' reach far beyond the scan; is it of another patient or "
            "series?"
        )
    size = (high - low + 1).astype(int)
    across, down = (a for a in (0, 1, 2) if a != axis)
    stack = np.zeros((size[axis], size[down], size[across]), dtype=np.uint8)  # axes (axis, down, across)
    slices = low[axis] + np.arange(size[axis])
    drawn = 0.0
    apart = overlapping = 0  # what even-odd would change in voxels, and on how many planes
    for polygons, start, stop in zip(planes.values(), below, above, strict=True):
        flat = [(polygon - low)[:, [across, down]] for polygon in polygons]
        filled = even_odd = contours.fill(flat, (size[down], size[across]))
        if len(flat) > 1 and not region.exclusive:
            filled = contours.fill_joined(flat, (size[down], size[across]))
        here = (slices >= start) & (slices < stop)
        stack[here] = filled
        drawn += int(np.count_nonzero(filled) * (stop - start))
        if not np.array_equal(filled, even_odd):
            overlapping += 1
            apart += int(np.count_nonzero(here)) * int(np.count_nonzero(filled) - np.count_nonzero(even_odd))
    if overlapping:
        total = int(np.count_nonzero(stack))
        notices.append(
            f"'{region.name}': contours on {overlapping} planes overlap without being nested and are joined: "
            f"{total * geometry.voxel_ml:.2f} ml, with the overlap taken out (even-odd) "
            f"{(total - apart) * geometry.voxel_ml:.2f} ml"
        )
    last = np.asarray(geometry.shape[::-1]) - 1
    if not stack.any() and (high >= 0).all() and (low <= last).all():
        raise InputError(
            f"{path}: the contours of '{region.name}' contain no voxel center of the scan's grid; draw it on "
            "the scan itself"
        )
    order = [(axis, down, across).index(a) for a in (2, 1, 0)]
    image = sitk.GetImageFromArray(np.ascontiguousarray(stack.transpose(order)))
    matrix = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin([float(v) for v in np.asarray(geometry.origin) + matrix @ low])
    image.SetDirection(geometry.direction)
    on_slices = (np.abs(at - np.round(at)) <= FLAT_TOLERANCE).all() and abs(spacing - 1) <= FLAT_TOLERANCE
    taken = np.count_nonzero(stack)
    change = f"{region.name} {drawn * geometry.voxel_ml:.2f} -> {taken * geometry.voxel_ml:.2f} ml"
    return image, [] if on_slices else [change]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
