"""One scan from disk to labels, tables and summary: `drmc segment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drmc import files
from drmc.denoising import staging
from drmc.denoising.finding import find_scan, of_medium, passed_over, scan_name
from drmc.denoising.outputs import move_into_place, protect_inputs
from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.body import body_mask_of_any_scale
from drmc.measures.organs import OrganRow, organ_segments, organ_table
from drmc.measures.references import LIVER
from drmc.organs.table import OrganClass
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_canceled
from drmc.runtime.usage import peak_memory_bytes
from drmc.segmentation import outputs
from drmc.segmentation.inputs import Scan, read_scan
from drmc.segmentation.labels import labels_of
from drmc.segmentation.page import page_html
from drmc.segmentation.quality import flag, warnings_of, warnings_of_field, warnings_of_liver
from drmc.segmentation.request import LoadedOrgans, SegmentRequest, check_request, chosen_organs
from drmc.segmentation.summary import describe, fingerprint_of
from drmc.segmentation.uptake import measure_uptake
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment


def run(
    request: SegmentRequest,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    name: str | None = None,
    model: LoadedOrgans | None = None,
    catalog: Catalog | None = None,
) -> dict[str, Any]:
    """Labels one scan and returns its summary, the content of OUT/summary.json.

    Args:
        request: what to do.
        progress: called between slabs of the scan.
        cancel: asked between slabs, organs and stages; True stops.
        name: in the column `scan` (default: the request's label, or the input's name).
        model: one that is ready already, for several scans.
        catalog: what was read of DICOM files before, with checksums.

    Raises:
        InputError: refused, nothing is written.
        CanceledError: `cancel` returned True.
    """
    output, catalog = Path(request.output), catalog or Catalog(checksums=True)
    with files.disk_full_as_error(output), staging.Claim(output) as claim:
        return _run(request, claim, catalog, progress, cancel, name, model)


def _run(
    request: SegmentRequest,
    claim: staging.Claim,
    catalog: Catalog,
    progress: Progress | None,
    cancel: Cancel | None,
    name: str | None,
    model: LoadedOrgans | None,
) -> dict[str, Any]:
    clock, output = Stopwatch(), Path(request.output)
    with clock("prepare"):
        check_request(request)
        model = model or LoadedOrgans(request)
        path = find_scan(Path(request.input), catalog)
        name = name or request.label or scan_name(Path(request.input), catalog)
        staging.check_output_folder(output, inputs=(of_medium(Path(request.input), catalog), path))
        folder = claim.take()
    raise_if_canceled(cancel)
    with clock("read"):
        scan = read_scan(path, catalog, without_suv=request.uncorrected, **request.reading())
        notices = [*_about(request, path, scan, catalog), *scan.notices]
        if request.dicom_seg:
            outputs.check_dicom(scan, request)
        lesions = _lesions(request, scan, catalog, notices)
        made_from = fingerprint_of(replace(request, input=scan.source), scan.source, model, catalog)
        protected = [*outputs.inputs_of(request), *scan.files, *([model.entry.path] if model.entry else [])]
        protect_inputs(output, outputs.possible_names(request), protected)
    raise_if_canceled(cancel)
    with clock("model"):
        model.load()
    found = labels_of(request, scan, model, catalog, progress, cancel)
    with clock("measure"):
        organs = organ_segments(found.labels)
        if not organs:
            raise InputError(f"{path}: no organ was found; is it a PET scan of a trunk or a head?")
        rows, warnings = _measured(name, organs, scan, lesions, found.unsure)
        uptake = measure_uptake(request, scan, organs, lesions)
        if LIVER in uptake.references:
            warnings += warnings_of_liver(uptake.references[LIVER], uptake.tracer)
        organs, rows = _chosen(request, organs, rows)
    raise_if_canceled(cancel)
    with clock("write"):
        produced = outputs.write(folder, request, name, scan, organs, rows, uptake, model, catalog)
    summary = describe(request, name, scan, model, found, rows, uptake, produced)
    summary["notices"] = list(dict.fromkeys([*notices, *_of_suv(scan), *found.notices, *uptake.notices]))
    summary["warnings"] = warnings
    summary["fingerprint"] = made_from
    summary["seconds"] = {**{k: round(v, 3) for k, v in found.seconds.items()}, **clock.so_far()}
    summary["peak_memory_bytes"] = peak_memory_bytes()
    summary = files.jsonable(summary)
    text = page_html(name, scan.image, scan.geometry, organs, rows, summary)
    files.write_text(folder / outputs.PAGE, text)
    files.write_json(folder / outputs.SUMMARY, summary)
    raise_if_canceled(cancel)
    move_into_place(folder, output, produced, protected)
    return summary


def _about(request: SegmentRequest, path: Path, scan: Scan, catalog: Catalog) -> list[str]:
    if path == Path(request.input) or scan.source != path:
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
        Path(request.lesions),
        scan.geometry,
        scan.frame_of_reference,
        scan.series_uid,
        label=request.lesions_label,
        catalog=catalog,
    )
    notices += told
    return found


def _measured(
    name: str,
    organs: Sequence[tuple[OrganClass, Segment]],
    scan: Scan,
    lesions: list[Segment],
    unsure: Mapping[str, float],
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
    flag(rows, at_edge, unsure)
    warnings = warnings_of(rows, height_mm, at_edge, has_suv)
    return rows, warnings + warnings_of_field(rows, scan.geometry, height_mm, scan.tracer)


def _chosen(
    request: SegmentRequest, organs: list[tuple[OrganClass, Segment]], rows: list[OrganRow]
) -> tuple[list[tuple[OrganClass, Segment]], list[OrganRow]]:
    """The organs that were asked for, after all were measured: the choice changes no number.

    Raises:
        InputError: none of them was found.
    """
    names = {one.name for one in chosen_organs(request.organs)}
    kept = [(one, segment) for one, segment in organs if one.name in names]
    if not kept:
        raise InputError(f"none of --organs {','.join(request.organs)} was found in this scan")
    return kept, [row for row in rows if row["organ"] in names]
