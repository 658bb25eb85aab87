"""The parts of summary.json that describe the run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from drmc import files
from drmc.denoising import fingerprint
from drmc.denoising.request import DenoiseRequest
from drmc.dicom.catalog import Catalog
from drmc.measures import routing_profiles
from drmc.measures.rows import RoutingRow
from drmc.models.card import ModelEntry
from drmc.pet.volume import PETVolume
from drmc.report.summary import FingerprintRecord, ModelRecord, SettingsRecord, Summary, VolumeRecord
from drmc.suv import wording


def suv_by_stage(summary: Summary) -> dict[str, Any]:
    """The SUV decisions that the stages of the lesion table rest on; a change rests on its scan's."""
    found = dict.fromkeys(("original", "denoised", "change_percent"), summary["suv"])
    reference = summary["reference"]
    return found if reference is None else {**found, "reference": reference["suv"]}


def suv_warnings(summary: Mapping[str, Any]) -> list[str]:
    """The SUV warnings in a summary: those of the scan, and of the full-dose image as such."""
    reference = summary.get("reference") or {}
    return [
        *wording.warning_lines(summary["suv"]),
        *wording.warning_lines(reference.get("suv") or {}, "reference"),
    ]


def describe_volume(volume: PETVolume) -> VolumeRecord:
    """The image and its place in space, for summary.json."""
    return {
        "path": str(volume.source),
        "kind": volume.kind,
        "units": volume.units,
        "shape_zyx": list(volume.geometry.shape),
        "spacing_mm_xyz": list(volume.geometry.spacing),
        "origin_mm_xyz": list(volume.geometry.origin),
        "direction": list(volume.geometry.direction),
        "header": volume.header,
    }


def describe_model(entry: ModelEntry, tile: int) -> ModelRecord:
    """The model by name, checksum and training, for summary.json; `tile`: edge in voxels."""
    card = entry.card or {}
    return {
        "name": entry.name,
        "sha256": entry.sha256,
        "path": str(entry.path),
        "title": card.get("title"),
        "parameters": card.get("parameters"),
        "training": card.get("training"),
        "tile": tile,
    }


def compare_routing(
    entry: ModelEntry, rows: Sequence[RoutingRow]
) -> tuple[routing_profiles.NearestCenter | None, list[str]]:
    """The nearest training center by the profiles in the model's card, if it has any, and notices on it."""
    profiles = (entry.card or {}).get(routing_profiles.CARD_KEY)
    if profiles is None:
        return None, []
    try:
        nearest = routing_profiles.nearest_center(profiles, rows)
    except ValueError as error:
        return None, [f"the routing profiles in the model's card do not fit, nothing is compared: {error}"]
    return nearest, [routing_profiles.UNLIKE] if nearest and nearest["unlike"] else []


def settings_of(request: DenoiseRequest) -> SettingsRecord:
    """What decides the outputs, besides the model; device and tile batch only decide how fast they come."""
    keys = (
        "format",
        "dicom",
        "precision",
        "strength",
        "units",
        "suv_type",
        "accept_rule",
        "series_uid",
        "series_description",
        "liver_reference",
    )
    chosen: dict[str, Any] = {key: getattr(request, key) for key in keys}
    if request.spots:  # absent without, as in results of earlier versions, which are then still the same
        chosen["spots"] = True
    if request.dicom_seg:
        chosen["dicom_seg"] = True
    if request.organs is not None:
        chosen["organs"] = os.path.abspath(request.organs)
    if request.header:
        chosen["header"] = dict(sorted(request.header.items()))
    for key in ("input", "lesions", "reference"):
        value = getattr(request, key)
        chosen[key] = None if value is None else os.path.abspath(value)
    return cast("SettingsRecord", chosen)


def fingerprint_of(
    request: DenoiseRequest, scan_path: Path, model: fingerprint.Model, catalog: Catalog
) -> FingerprintRecord:
    """What the request's result is made from (drmc.denoising.fingerprint).

    `scan_path`: what was read, or as `find_scan` finds it; `catalog`: what was read of DICOM files so far.
    """
    paths = ("input", "lesions", "reference", "organs")  # what lies there counts, by its content
    settings = {key: value for key, value in settings_of(request).items() if key not in paths}
    return files.jsonable(
        fingerprint.of_run(
            scan_path, request.lesions, request.reference, model, settings, catalog, request.organs
        )
    )
