"""One scan from disk to labels, tables and summary: `drmc segment`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drmc import files
from drmc.denoising import staging
from drmc.denoising.finding import find_scan, of_medium, passed_over, scan_name
from drmc.denoising.outputs import check_output_folder, move_into_place, protect_inputs
from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.body import body_mask_of_any_scale
from drmc.measures.organs import WHOLE, OrganRow, organ_segments, organ_table, write_organs_csv
from drmc.models.card import ORGANS, ModelEntry
from drmc.models.registry import find_model
from drmc.organs.table import OrganClass
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_canceled
from drmc.runtime.usage import peak_memory_bytes, versions
from drmc.segmentation.inputs import Scan, read_scan
from drmc.segmentation.page import page_html
from drmc.segmentation.quality import flag, warnings_of
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from drmc.segments.writing import Look, write_segmentation
from drmc.texts import RESEARCH_USE

if TYPE_CHECKING:
    from drmc.organs.segmenter import OrganResult, Segmenter

LABELS, TABLE, PAGE, SUMMARY = "organs.seg.nrrd", "organs.csv", "report.html", "summary.json"


@dataclass(frozen=True)
class SegmentRequest:
    """What to label, with what, and where the result goes.

    Attributes:
        input: DICOM folder or file, NIfTI, NRRD or MetaImage.
        output: folder of the results.
        model: name or file of a model of organs; None: the default one.
        lesions: their segmentation, for organs without them.
        uncorrected: whether the scan has no correction for attenuation, so that it has no SUV.
        device: where to compute.
        precision: arithmetic.
        reading: further arguments of `drmc.pet.reading.read_volume`.
    """

    input: str | os.PathLike[str]
    output: str | os.PathLike[str]
    model: str | None = None
    lesions: str | os.PathLike[str] | None = None
    uncorrected: bool = False
    device: str = "auto"
    precision: str = "auto"
    reading: Mapping[str, Any] = field(default_factory=dict)


def run(
    request: SegmentRequest,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    segmenter: Segmenter | None = None,
) -> dict[str, Any]:
    """Labels one scan and returns its summary, the content of OUT/summary.json.

    Args:
        request: what to do.
        progress: called between slabs of the scan.
        cancel: asked between slabs, organs and stages; True stops.
        segmenter: a network that is ready already, for several scans.

    Raises:
        InputError: refused, nothing is written.
        CanceledError: `cancel` returned True.
    """
    output, catalog = Path(request.output), Catalog(checksums=True)
    with files.disk_full_as_error(output), staging.Claim(output) as claim:
        return _run(request, claim, catalog, progress, cancel, segmenter)


def _run(
    request: SegmentRequest,
    claim: staging.Claim,
    catalog: Catalog,
    progress: Progress | None,
    cancel: Cancel | None,
    segmenter: Segmenter | None,
) -> dict[str, Any]:
    clock, output = Stopwatch(), Path(request.output)
    with clock("prepare"):
        entry = find_model(request.model, task=ORGANS)
        if request.lesions is not None and not Path(request.lesions).exists():
            raise InputError(f"{request.lesions}: no such file (--lesions)")
        path = find_scan(Path(request.input), catalog)
        check_output_folder(output, inputs=(of_medium(Path(request.input), catalog), path))
        folder = claim.take()
    raise_if_canceled(cancel)
    with clock("read"):
        scan = read_scan(path, catalog, without_suv=request.uncorrected, **request.reading)
        notices = [*_about(request, path, catalog), *scan.notices]
        lesions = _lesions(request, scan, catalog, notices)
        protected = [Path(request.input), *scan.files, entry.path]
        produced = [LABELS, TABLE, PAGE, SUMMARY]
        protect_inputs(output, produced, protected)
    raise_if_canceled(cancel)
    with clock("model"):
        from drmc.organs.segmenter import Segmenter

        segmenter = segmenter or Segmenter.from_model(
            entry, device=request.device, precision=request.precision
        )
    found = segmenter.segment(scan.image, scan.geometry, progress=progress, cancel=cancel)
    with clock("measure"):
        organs = organ_segments(found.labels)
        name = scan_name(Path(request.input), catalog)
        rows, warnings = _measured(name, organs, scan, lesions)
    if not organs:
        raise InputError(f"{path}: no organ was found; is it a PET scan of a trunk or a head?")
    raise_if_canceled(cancel)
    with clock("write"):
        looks = [Look(one.index, _shade(one), one.terminology, completed=False) for one, _segment in organs]
        write_segmentation(folder / LABELS, [segment for _one, segment in organs], scan.geometry, looks=looks)
        write_organs_csv(folder / TABLE, rows)
    summary = _summary(request, path, name, scan, entry, found, rows, produced)
    summary["notices"] = list(dict.fromkeys([*notices, *_of_suv(scan), *found.notices]))
    summary["warnings"] = warnings
    summary["seconds"] = {**{k: round(v, 3) for k, v in found.seconds.items()}, **clock.so_far()}
    summary["peak_memory_bytes"] = peak_memory_bytes()
    summary = files.jsonable(summary)
    text = page_html(name, scan.image, scan.geometry, organs, rows, summary)
    files.write_text(folder / PAGE, text)
    files.write_json(folder / SUMMARY, summary)
    raise_if_canceled(cancel)
    move_into_place(folder, output, produced, protected)
    return summary


def _shade(one: OrganClass) -> tuple[float, float, float]:
    """The color of a segment: that of the table, the right one of a pair 15 % darker."""
    factor = 0.85 if one.side == "right" else 1.0
    red, green, blue = (factor * part / 255 for part in one.color)
    return red, green, blue


def _about(request: SegmentRequest, path: Path, catalog: Catalog) -> list[str]:
    if path == Path(request.input):
        return []
    return [f"the scan in this folder: {path}", *passed_over(Path(request.input), path, catalog)]


def _of_suv(scan: Scan) -> list[str]:
    if scan.volume is not None:
        return []
    return [f"no SUV, only volumes and uptake relative to the body: {scan.reason}"]


def _lesions(request: SegmentRequest, scan: Scan, catalog: Catalog, notices: list[str]) -> list[Segment]:
    if request.lesions is None:
        return []
    found, told = read_segments(
        Path(request.lesions), scan.geometry, scan.frame_of_reference, scan.series_uid, catalog=catalog
    )
    notices += told
    return found


def _measured(
    name: str, organs: list[tuple[OrganClass, Segment]], scan: Scan, lesions: list[Segment]
) -> tuple[list[OrganRow], list[str]]:
    """The organ table with its flags, and warnings on the whole scan."""
    body = body_mask_of_any_scale(scan.image, scan.geometry.spacing_zyx)
    has_suv = scan.volume is not None
    rows = organ_table(name, organs, scan.image, body, scan.geometry, has_suv=has_suv, lesions=lesions)
    along = int(np.argmax(np.abs(scan.geometry.matrix[2, :3])))  # x, y or z index that runs to the head
    at_edge, height_mm = {}, {}
    for one, segment in organs:
        cut, size = segment.box[2 - along], segment.shape[2 - along]
        at_edge[one.name] = cut.start == 0 or cut.stop == size
        middle = [(part.start + part.stop - 1) / 2 for part in reversed(segment.box)]
        height_mm[one.name] = float((scan.geometry.matrix @ np.array([*middle, 1.0]))[2])
    flag(rows, at_edge)
    return rows, warnings_of(rows, height_mm, at_edge, has_suv)


def _summary(
    request: SegmentRequest,
    path: Path,
    name: str,
    scan: Scan,
    entry: ModelEntry,
    found: OrganResult,
    rows: list[OrganRow],
    produced: list[str],
) -> dict[str, Any]:
    volume = scan.volume
    return {
        "scan": name,
        "input": {
            "path": str(path),
            "shape_zyx": list(scan.geometry.shape),
            "spacing_xyz_mm": list(scan.geometry.spacing),
            "units": None if volume is None else volume.units,
            "lesions": None if request.lesions is None else str(request.lesions),
        },
        "suv": None if volume is None else volume.suv.to_dict(),
        "corrected_for_attenuation": not request.uncorrected,
        "model": {"name": entry.name, "sha256": entry.sha256},
        "organs": {
            row["organ"]: {key: row[key] for key in ("volume_ml", "suv_mean", "relative_mean", "flags")}
            for row in rows
            if row["stage"] == WHOLE
        },
        "changes_ml": found.changes.to_dict(),
        "device": found.device,
        "precision": found.precision,
        "research_use": RESEARCH_USE,
        "outputs": produced,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }
