"""The denoised image as a file, with the side-car that gives its SUV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drmc import files
from drmc.denoising.request import FORMATS
from drmc.imaging.files import write_image
from drmc.imaging.formats import stem
from drmc.pet import sidecars
from drmc.pet import units as unit_names
from drmc.pet.volume import PETVolume
from drmc.suv.sidecar import ACTIVITY_UNITS


def write_images(folder: Path, form: str, denoised: PETVolume) -> None:
    """Writes the denoised image and its side-car into the folder of a run."""
    write_image(folder / f"denoised{FORMATS[form]}", denoised.array, denoised.geometry)
    files.write_json(folder / "denoised.json", _sidecar(denoised))


def _sidecar(volume: PETVolume) -> dict[str, Any]:
    """The side-car that lets read_volume take the written image with the scan's SUV factor and warnings.

    Stored units that it does not know (counts) it refuses by this text, rather than take them for SUV.
    """
    decision = volume.suv
    warned: dict[str, Any] = {"SUVWarnings": list(decision.warnings)} if decision.warnings else {}
    if decision.facts.get("accepted"):
        warned["SUVAccepted"] = decision.facts["accepted"]
    return {**_units_and_factor(volume), **patient_facts(volume), **warned}


def _units_and_factor(volume: PETVolume) -> dict[str, Any]:
    decision = volume.suv
    stored = decision.facts.get("stored_suv_type")  # of DICOM in SUV
    if stored is not None:
        return {"Units": "SUV", "SUVType": stored}
    if volume.units == "SUV" and decision.factor == 1:
        return {"Units": "SUV", "SUVType": decision.type}
    if (
        volume.units == "SUV"
    ):  # reported as another type than stored: what the scan's own side-car says stays true
        return {"Units": "SUV", **_stored_type(volume.source)}
    known = volume.units in ACTIVITY_UNITS
    units = unit_names.shown(volume.units).replace("ml", "mL") if known else volume.units
    if not known:
        units += f", times SUVFactor for {decision.type}"
    per_slice = decision.factor_per_slice
    factor = decision.factor if per_slice is None else list(per_slice)
    return {"Units": units, "SUVFactor": factor, "SUVType": decision.type}


def patient_facts(volume: PETVolume) -> dict[str, Any]:
    """What other SUV types than the factor's own are computed from, by the keys of a side-car."""
    facts = volume.suv.facts
    keys = {"PatientWeight": "weight_kg", "PatientSize": "height_m", "PatientSex": "sex"}
    return {key: facts[name] for key, name in keys.items() if facts.get(name) is not None}


def _stored_type(source: Path) -> dict[str, Any]:
    found, _ = sidecars.find(source, stem(source))
    sidecar = {} if found is None else sidecars.read(found)
    return {"SUVType": sidecar["SUVType"]} if "SUVType" in sidecar else {}
