"""A case of the table as SUV images and facts on disk, in the layout of `drmc.datasets.manifest`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc import files
from drmc.datasets.importing.table import Source, WantedCase
from drmc.datasets.manifest import SIDECAR, Case, low_name
from drmc.denoising.finding import find_scan, passed_over
from drmc.denoising.images import patient_facts
from drmc.dicom.catalog import Catalog
from drmc.errors import InputError
from drmc.imaging.files import read_image, write_image, write_labels
from drmc.imaging.geometry import Geometry
from drmc.pet import sidecars
from drmc.pet.reading import SIDECAR_KEYS, read_volume
from drmc.pet.volume import PETVolume
from drmc.segments.reading import read_segments
from drmc.segments.segment import OverlapError, painted

FULL = "full.nii.gz"
LESIONS = "lesions.nii.gz"


@dataclass
class Converted:
    """What a case adds to the dataset: `doses` and `lesions` that were written, and what SUV rules say."""

    wanted: WantedCase
    doses: list[float] = field(default_factory=list)
    lesions: bool = False
    is_new: bool = True
    warnings: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def convert(wanted: WantedCase, existing: Case | None, folder: Path | None) -> Converted:
    """Reads the scans of a case and writes what the dataset does not have of them.

    Args:
        wanted: the case.
        existing: the case of that id in the dataset, if there is one.
        folder: where images and pet.json are written; None: they are only checked.

    Returns:
        What was written; nothing where the dataset has all of it already.

    Raises:
        InputError: a scan, its SUV or its lesions are refused, low and full dose lie on different grids, or
            the dataset has other images of that id.
    """
    full = _read(wanted.full, "full")
    converted = Converted(wanted, is_new=existing is None)
    facts = {} if existing and existing.facts else _facts(full, wanted)
    if existing is not None and existing.facts is not None:
        facts = sidecars.read(existing.facts)
    if existing is None:
        _note(converted, facts, "full", full)
    elif not _same_image(existing, existing.full, full):
        raise InputError(
            f"the dataset has another full dose of {wanted.case_id}: give a new scan a name in the column "
            "'scan', or import into another dataset"
        )
    grid, suv = full.geometry, full.suv_array()
    for factor, low, array in _low_doses(wanted, existing, facts, grid):
        if np.array_equal(array, suv):
            raise InputError(f"low {factor:g} is the same image as full: correct the paths")
        _note(converted, facts, f"low {factor:g}", low)
        converted.doses.append(factor)
        if folder is not None:
            write_image(_made(folder) / low_name(factor), array, grid)
    lesions = _lesions(converted, existing, full)
    if folder is not None and lesions is not None:
        write_labels(_made(folder) / LESIONS, lesions, grid, {})
    if folder is not None and converted.doses:
        if existing is None:
            write_image(folder / FULL, suv, grid)
        files.write_json(folder / SIDECAR, facts)
    return converted


def _low_doses(
    wanted: WantedCase, existing: Case | None, facts: dict[str, Any], grid: Geometry
) -> Iterator[tuple[float, PETVolume, np.ndarray]]:
    """The low doses that the dataset does not have: factor, scan, and SUV (z, y, x)."""
    for factor in sorted(wanted.low):
        low = _read(wanted.low[factor], f"low {factor:g}")
        if existing is not None and factor in existing.low:
            if not _same_image(existing, existing.low[factor], low):
                raise InputError(
                    f"the dataset has another low dose ({factor:g}) of {wanted.case_id}: import into another "
                    "dataset"
                )
            continue
        if existing is not None and "SUVDecisions" not in facts:
            raise InputError(
                f"{wanted.case_id} was not made by drmc import: add dose {factor:g} to dataset.json by hand"
            )
        if not low.geometry.matches(grid):
            raise InputError(
                f"low {factor:g} and full lie on different grids ({low.geometry}, full: {grid}): resample "
                "one to the other's"
            )
        yield factor, low, low.suv_array()


def _lesions(converted: Converted, existing: Case | None, full: PETVolume) -> np.ndarray | None:
    """The lesions that the dataset does not have, as labels from 1 up, uint16 (z, y, x)."""
    path = converted.wanted.lesions
    if path is None:
        return None
    try:
        segments, notices = read_segments(path, full.geometry, full.frame_of_reference, full.series_uid)
        labels = painted(segments, range(1, len(segments) + 1))
    except InputError as refusal:
        raise InputError(f"lesions: {refusal}") from None
    except OverlapError as error:
        raise InputError(
            f"lesions: {error.first} and {error.second} overlap: a voxel belongs to one lesion, correct the "
            "segmentation"
        ) from None
    if existing is not None and existing.lesions is not None:
        stored = sitk.GetArrayFromImage(read_image(existing.lesions))
        if not np.array_equal(stored, labels):
            raise InputError(
                f"the dataset has other lesions of {converted.wanted.case_id}: import into another dataset"
            )
        return None
    converted.lesions = True
    converted.notices += [f"lesions: {text}" for text in notices]
    return labels


def _read(source: Source, name: str) -> PETVolume:
    catalog = Catalog()
    try:
        scan = find_scan(source.path, catalog)
        volume = read_volume(scan, units=source.units, accept_rule=source.accept_suv, catalog=catalog)
    except InputError as refusal:
        raise InputError(f"{name}: {refusal}") from None
    volume.notices[:0] = passed_over(source.path, scan, catalog)
    return volume


def _same_image(existing: Case, path: Path, volume: PETVolume) -> bool:
    stored = existing.read(path)
    return stored.geometry.matches(volume.geometry) and np.array_equal(stored.suv_array(), volume.suv_array())


# ---- facts
def _facts(full: PETVolume, wanted: WantedCase) -> dict[str, Any]:
    """The side-car of a case: what is known of the full dose and identifies nobody (keys of BIDS-PET)."""
    known = full.suv.facts
    tracer = {"TracerName": known.get("tracer"), "TracerRadionuclide": known.get("nuclide")}
    dose = {}
    if (becquerel := known.get("dose_bq")) is not None:
        dose = {"InjectedRadioactivity": becquerel / 1e6, "InjectedRadioactivityUnits": "MBq"}
    scanner = {key: full.header[name] for name, key in SIDECAR_KEYS.items() if full.header.get(name)}
    return {
        "Units": "SUV",
        "SUVType": full.suv.type,
        "PatientID": wanted.patient,
        **patient_facts(full),
        **dose,
        **{key: value for key, value in tracer.items() if value},
        **scanner,
        "SUVDecisions": {},
    }


def _note(converted: Converted, facts: dict[str, Any], name: str, volume: PETVolume) -> None:
    """Adds the SUV decision of a scan to the facts of its case.

    `SUVWarnings` and `SUVAccepted` are read again with every image of the case.
    """
    decision = volume.suv
    facts.setdefault("SUVDecisions", {})[name] = {
        "factor": decision.factor,
        "rule": decision.rule,
        "source": decision.source,
    }
    warned: list[str] = facts.get("SUVWarnings", [])
    for text in decision.warnings:
        if text not in warned:
            warned.append(text if name == "full" else f"{name}: {text}")
            converted.warnings.append(f"{name}: {text}")
    accepted = [*facts.get("SUVAccepted", []), *(decision.facts.get("accepted") or [])]
    if warned:
        facts["SUVWarnings"] = warned
    if accepted:
        facts["SUVAccepted"] = list(dict.fromkeys(accepted))
    converted.notices += [f"{name}: {text}" for text in volume.notices]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
