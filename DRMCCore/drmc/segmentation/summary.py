"""The content of summary.json of `drmc segment`, and what a result was made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from drmc.denoising import fingerprint
from drmc.denoising.finding import find_scan
from drmc.denoising.outputs import earlier_summary, is_output
from drmc.dicom.catalog import Catalog
from drmc.measures.organs import WHOLE, OrganRow
from drmc.runtime.usage import versions
from drmc.segmentation.inputs import Scan
from drmc.segmentation.labels import Labeled
from drmc.segmentation.request import LoadedOrgans, SegmentRequest
from drmc.segmentation.uptake import Uptake, record
from drmc.texts import RESEARCH_USE

_SETTINGS = (
    *("organs", "threshold", "uncorrected", "dicom_seg", "precision", "units", "suv_type", "accept_rule"),
    *("series_uid", "series_description", "header"),
)


def describe(
    request: SegmentRequest,
    name: str,
    scan: Scan,
    model: LoadedOrgans,
    found: Labeled,
    rows: Sequence[OrganRow],
    uptake: Uptake,
    produced: Sequence[str],
) -> dict[str, Any]:
    """The summary without notices, warnings and seconds.

    Args:
        request: what was asked for.
        name: of the scan.
        scan: what was read.
        model: what has labeled it.
        found: the labels.
        rows: the organ table.
        uptake: references and uptake.
        produced: names of the files.
    """
    volume, entry = scan.volume, model.entry
    return {
        "scan": name,
        "input": {
            "path": str(scan.source),
            "shape_zyx": list(scan.geometry.shape),
            "spacing_xyz_mm": list(scan.geometry.spacing),
            "units": None if volume is None else volume.units,
            **{key: _absolute(getattr(request, key)) for key in ("lesions", "segmentation")},
        },
        "suv": None if volume is None else volume.suv.to_dict(),
        "corrected_for_attenuation": scan.corrected,
        "model": None
        if entry is None
        else {"name": entry.name, "sha256": entry.sha256, "training": entry.card.get("training") or {}},
        "organs": {
            row["organ"]: {
                **{key: row[key] for key in ("volume_ml", "suv_mean", "relative_mean", "flags")},
                "unsure_share": found.unsure.get(row["organ"]),
            }
            for row in rows
            if row["stage"] == WHOLE
        },
        **record(uptake, scan),
        "changes_ml": found.changes_ml,
        "device": found.device,
        "precision": found.precision,
        "research_use": RESEARCH_USE,
        "outputs": list(produced),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def fingerprint_of(
    request: SegmentRequest, scan_path: Path, model: LoadedOrgans, catalog: Catalog
) -> dict[str, Any]:
    """What the request's result is made from (drmc.denoising.fingerprint).

    Args:
        request: what was asked for.
        scan_path: what was read, or as `find_scan` finds it.
        model: what labels it.
        catalog: what was read of DICOM files before.
    """
    settings = {key: getattr(request, key) for key in _SETTINGS}
    settings |= {"organs": list(request.organs), "header": dict(sorted(request.header.items()))}
    return fingerprint.of_run(
        scan_path, request.lesions, None, model, settings, catalog, request.segmentation
    )


def why_again(request: SegmentRequest, model: LoadedOrgans, catalog: Catalog) -> str | None:
    """Why the request has to be computed; None where its output folder has the same result already.

    Args:
        request: what is asked for.
        model: what labels it.
        catalog: what was read of DICOM files before.

    Raises:
        InputError: the scan cannot be found.
    """
    output = Path(request.output)
    earlier = earlier_summary(output)
    if earlier is None:
        return ""
    now = fingerprint_of(request, find_scan(Path(request.input), catalog), model, catalog)
    differ = fingerprint.differences(earlier.get("fingerprint"), now)
    if differ:
        return ", ".join(differ)
    if not all(is_output(output / name, earlier) for name in earlier["outputs"]):
        return "some of its files were gone"
    return None
