"""What is read for one scan."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmc.denoising.finding import find_scan, passed_over
from drmc.denoising.kept_residual import KeptResidual
from drmc.denoising.request import DenoiseRequest
from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.measures import mtv
from drmc.paths import labeled
from drmc.pet.reading import read_volume
from drmc.pet.volume import PETVolume
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment


@dataclass
class Inputs:
    """All that is read for one scan; `files` are those that must not be written over.

    `organs`: segments that are measured before and after; None without any.
    """

    volume: PETVolume
    segments: list[Segment] | None
    reference: PETVolume | None
    notices: list[str]
    files: list[Path]
    organs: list[Segment] | None = None


def read_inputs(
    request: DenoiseRequest, scan_path: Path, catalog: Catalog, kept: KeptResidual | None = None
) -> Inputs:
    """Reads scan, lesions and full-dose image of a request; InputError where one is refused.

    `catalog`: what was read of DICOM files before; `kept`: a residual that is to be of this scan.
    """
    reading: dict[str, Any] = {
        "suv_type": request.suv_type,
        "accept_rule": request.accept_rule,
        "units": request.units,
    }
    volume = read_volume(
        scan_path,
        series_uid=request.series_uid,
        series_description=request.series_description,
        header=request.header,
        voxels=_path(request.voxels),
        label=request.label,
        catalog=catalog,
        **reading,
    )
    if kept is not None:
        volume = kept.scan(volume)
    inputs = Inputs(volume, None, None, [], [Path(request.input), scan_path, *volume.dicom_files])
    inputs.files += [] if kept is None or request.keeps_residual else kept.files
    inputs.files += [Path(path) for path in (request.voxels, request.reference_voxels) if path is not None]
    if scan_path != Path(request.input):
        inputs.notices.append(f"the scan in this folder: {scan_path}")
        inputs.notices += passed_over(Path(request.input), scan_path, catalog)
    inputs.notices += volume.notices
    if request.lesions is not None:
        inputs.segments = _segments(Path(request.lesions), request.lesions_label, inputs, catalog)
        mtv.liver_of(inputs.segments, request.liver_reference)  # an unknown name is refused before the work
    if request.organs is not None:
        inputs.organs = _segments(Path(request.organs), request.organs_label, inputs, catalog)
    if request.reference is not None:
        inputs.reference = read_reference(
            request.reference,
            volume.geometry,
            catalog,
            voxels=_path(request.reference_voxels),
            label=request.reference_label,
            **reading,
        )
        inputs.files += [Path(request.reference), inputs.reference.source, *inputs.reference.dicom_files]
    return inputs


def _segments(path: Path, label: str | None, inputs: Inputs, catalog: Catalog) -> list[Segment]:
    """The segments of a file on the scan's grid; notices and file are noted. Raises InputError if refused."""
    volume = inputs.volume
    segments, notices = read_segments(
        path, volume.geometry, volume.frame_of_reference, volume.series_uid, label=label, catalog=catalog
    )
    inputs.notices += notices
    inputs.files.append(path)
    return segments


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def read_reference(
    path: str | os.PathLike[str], geometry: Geometry, catalog: Catalog | None = None, **reading: Any
) -> PETVolume:
    """Reads a full-dose image on the scan's grid, else InputError; `reading` goes to read_volume."""
    catalog = catalog or Catalog()
    reference = read_volume(find_scan(Path(path), catalog), catalog=catalog, **reading)
    if not reference.geometry.matches(geometry):
        raise InputError(
            f"{labeled(path, reference.label)}: the reference is not on the scan's grid "
            f"({reference.geometry.shape} against {geometry.shape} voxels (z, y, x), or another place): "
            "resample it to the scan first"
        )
    return reference
