"""The units and the SUV of an image file that is no DICOM."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from drmc.errors import InputError, UnknownUnitsError
from drmc.imaging.formats import stem
from drmc.pet import sidecars
from drmc.pet import units as unit_names
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import SUV_TYPES, suv_type_name
from drmc.suv.sidecar import ACTIVITY_UNITS, decide_sidecar


def sidecar_of(path: Path, case: Path | None = None) -> tuple[dict[str, Any] | None, Path | None, list[str]]:
    """The JSON that belongs to an image (drmc.pet.sidecars), its path, and what is to be said of it."""
    found, said = sidecars.find(path, stem(path))
    if found is None and case is not None and case.is_file():
        found, said = case, [f"units and SUV by {case.name}, which the dataset names"]
    return (None if found is None else sidecars.read(found)), found, said


def stated_units(path: str | Path, case: Path | None = None) -> str | None:
    """The code of units (drmc.pet.units) that the side-car JSON of an image says; None where there is none or it does not
    say; `case` as for `read_volume`."""
    sidecar, _, _ = sidecar_of(Path(path), case)
    return None if sidecar is None else unit_names.stated(sidecar.get("Units"))


def decide_image(
    image: sitk.Image,
    sidecar: Mapping[str, Any] | None,
    sidecar_path: Path | None,
    units: str | None,
    suv_type: str,
    path: Path,
    vouched: Collection[str],
) -> tuple[SUVDecision, str]:
    """The SUV of an image that is no DICOM, and its stored units (a code of drmc.pet.units)."""
    kind = suv_type_name(suv_type)
    mend = f'write a side-car {stem(path)}.json with "Units": "SUV" or "Bq/mL"'
    asked = None if units is None else unit_names.stated(units)
    if units is not None and asked is None:
        raise InputError(f"units {units!r} are unknown: say {', '.join(unit_names.CHOICES)}")
    if sidecar is not None:
        stored = unit_names.stated(sidecar.get("Units")) or (asked if "Units" not in sidecar else None)
        if stored is None:
            raise InputError(
                f'{sidecar_path}: "Units" is {sidecar.get("Units")!r}: write "SUV", "Bq/mL" or "kBq/mL"'
            )
        if asked not in (None, stored):
            raise InputError(
                f'{sidecar_path} says "Units": {sidecar["Units"]!r} but {units} was asked for: correct one'
            )
        name = str(sidecar_path)
        return decide_sidecar(sidecar, stored, kind, name, image.GetSize()[2], "CLOCK" in vouched), stored
    stored, said, text = (asked, "the caller", "") if asked else unit_names.of_fields(image, path)
    if stored in ACTIVITY_UNITS:
        raise InputError(
            f"{path} holds {unit_names.shown(stored)} by {said}, and nothing gives its SUV: {mend}, dose, weight and "
            "times"
        )
    if stored is None:
        why = (
            f"says by {said} that it holds {text[:40]!r}, which is no known unit"
            if said
            else "does not say its units"
        )
        raise UnknownUnitsError(f"{path} {why} (%VALUES): {mend}, or say --units suv")
    if kind != "bw":
        raise InputError(f"{path} is taken as SUVbw: for {SUV_TYPES[kind][0]} {mend}, weight, height and sex")
    facts = {"units": "SUV", "suv_formula": SUV_TYPES[kind][2]}
    return SUVDecision(1.0, rule="declared", source=f"SUV by {said}", facts=facts), "SUV"
