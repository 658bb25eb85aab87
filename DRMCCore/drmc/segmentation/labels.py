"""The organs of a scan as labels: by a network, or from a segmentation that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.organs.table import called, classes
from drmc.runtime.control import Cancel, Progress, raise_if_canceled
from drmc.segmentation.inputs import Scan
from drmc.segmentation.request import LoadedOrgans, SegmentRequest
from drmc.segments.reading import read_segments


@dataclass(frozen=True)
class Labeled:
    """Labels of a scan, and how they came about.

    Attributes:
        labels: classes of `drmc.organs.table`, uint8 (z, y, x), on the scan's own grid.
        device: where a network was computed, "" without one.
        precision: of the network, "" without one.
        changes_ml: what was put in order, as `drmc.organs.cleaning.Changes.to_dict`.
        seconds: by stage.
        notices: one line each.
        unsure: share of each organ in which the network is unsure; empty without one.
    """

    labels: np.ndarray
    device: str = ""
    precision: str = ""
    changes_ml: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    unsure: Mapping[str, float] = field(default_factory=dict)


def labels_of(
    request: SegmentRequest,
    scan: Scan,
    model: LoadedOrgans,
    catalog: Catalog,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Labeled:
    """The organs of a scan.

    Raises:
        InputError: the segmentation is refused or holds no organ, or the weights are damaged.
        CanceledError: `cancel` returned True.
    """
    segmenter = model.load()
    if segmenter is None:
        raise_if_canceled(cancel)
        return _from_file(request, scan, catalog)
    found = segmenter.segment(scan.image, scan.geometry, progress=progress, cancel=cancel)
    changes = found.changes.to_dict()
    return Labeled(
        found.labels, found.device, found.precision, changes, found.seconds, found.notices, found.unsure
    )


def _from_file(request: SegmentRequest, scan: Scan, catalog: Catalog) -> Labeled:
    """Organs by the names of segments; voxels of several organs count for the first in the table's order."""
    if request.segmentation is None:  # in a batch, whose other scans have one
        raise InputError(f"{request.input}: no segmentation of this name (--segmentation)")
    path = Path(request.segmentation)
    segments, notices = read_segments(
        path,
        scan.geometry,
        scan.frame_of_reference,
        scan.series_uid,
        label=request.segmentation_label,
        catalog=catalog,
    )
    named = {}
    unknown = []
    for segment in segments:
        one = called(segment.name)
        if one is None or one in named:
            unknown.append(segment.name)
        else:
            named[one] = segment
    what = request.segmentation_label or path.name
    if not named:
        raise InputError(
            f"{what}: no segment has the name of an organ, such as liver or left kidney: see "
            "drmc segment --list"
        )
    if unknown:
        notices.append(f"{what}: no organs of the table, left out: {', '.join(unknown)}")
    labels = np.zeros(scan.geometry.shape, np.uint8)
    for one in classes():
        if one in named:
            segment = named[one]
            box = labels[segment.box]
            shared = segment.inside & (box > 0)
            if shared.any():
                volume = float(shared.sum()) * scan.geometry.voxel_ml
                notices.append(f"{what}: {volume:.1f} ml of {one.name} are in another organ and count there")
            box[segment.inside & ~shared] = one.index
    return Labeled(labels, notices=notices)
