"""A folder of scans, each labeled into OUT/<name>/: the work of `drmc.denoising.batch` for organs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drmc.denoising import batch_table
from drmc.denoising.batch_table import TableForm
from drmc.dicom.catalog import Catalog
from drmc.runtime.control import Cancel, Progress
from drmc.segmentation import pipeline
from drmc.segmentation.outputs import TABLE, UPTAKE_TABLE
from drmc.segmentation.request import LoadedOrgans, SegmentRequest, check_request
from drmc.segmentation.summary import why_again
from drmc.suv import wording

_SHARED = (
    *("warnings", "weight_kg", "dose_mbq", "uptake_min", "tracer", "suv_type", "rule", "factor", "model"),
)
_OWN = (
    *("organs", "liver_suv_mean", "liver_suv_sd", "blood_pool_suv_mean", "threshold_suv"),
    *("uptake_ml", "uptake_tlg", "uptake_ml_without_physiological", "uptake_tlg_without_physiological"),
)
COLUMNS = ("scan", "outcome", "seconds", "input", "output", "message", *_SHARED, *_OWN)
"""Of batch.csv. Columns are added behind the last one, never between."""


def facts(summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a row says of the scan behind its outcome, from its summary.json; all empty without one."""
    found = {key: value for key, value in batch_table.facts(summary).items() if key in _SHARED}
    own: dict[str, Any] = dict.fromkeys(_OWN)
    if summary is not None:
        suv_warnings = wording.warning_lines(summary.get("suv") or {})
        found["warnings"] = wording.cell([*suv_warnings, *summary["warnings"]])
        own["organs"] = len(summary["organs"])
        references = summary["references"]
        for name, key in (("liver", "suv_mean"), ("liver", "suv_sd"), ("blood_pool", "suv_mean")):
            own[f"{name}_{key}"] = (references.get(name) or {}).get(key)
        uptake = summary["uptake"]
        if uptake is not None:
            own["threshold_suv"] = uptake["threshold"]["suv"]
            for end, totals in (("", "all"), ("_without_physiological", "without_physiological")):
                own[f"uptake_ml{end}"] = uptake["totals"][totals]["volume_ml"]
                own[f"uptake_tlg{end}"] = uptake["totals"][totals]["tlg"]
    return {**found, **{key: "" if value is None else value for key, value in own.items()}}


class Organs:
    """Each scan is labeled: `drmc segment`. The methods are those of `BatchWork`."""

    companions: tuple[str, ...] = ("lesions", "segmentation")
    of_one_scan: tuple[str, ...] = ("voxels", "label", "lesions_label", "segmentation_label")
    table = TableForm(COLUMNS, facts, (TABLE, UPTAKE_TABLE))
    without_lesions = "no lesions of this name: organs with their lesions"
    counted = "slab"
    warned = "warnings"

    def check(self, request: SegmentRequest) -> None:
        """Refuses what no scan can be done with."""
        check_request(request, batch=True)

    def model(self, request: SegmentRequest) -> LoadedOrgans:
        """What labels all scans."""
        return LoadedOrgans(request)

    def why_again(self, request: SegmentRequest, model: LoadedOrgans, catalog: Catalog) -> str | None:
        """Why a scan has to be computed."""
        return why_again(request, model, catalog)

    def run(
        self,
        request: SegmentRequest,
        progress: Progress | None,
        cancel: Cancel | None,
        *,
        name: str,
        model: LoadedOrgans,
        catalog: Catalog,
    ) -> Mapping[str, Any]:
        """Labels one scan."""
        return pipeline.run(request, progress, cancel, name=name, model=model, catalog=catalog)

    def warnings(self, summary: Mapping[str, Any]) -> list[str]:
        """Those of the SUV."""
        return wording.warning_lines(summary["suv"] or {})

    def write_page(self, output: Path, rows: Sequence[Mapping[str, str]]) -> None:
        """None: each scan has a page of its own, and the tables have all."""


ORGANS = Organs()
