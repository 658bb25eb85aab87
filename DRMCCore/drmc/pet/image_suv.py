"""The units and the SUV of an image file that is no DICOM."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from drmc.errors import InputError, UnknownUnitsError
from drmc.imaging.formats import stem
from drmc.paths import AnyPath, part, plain
from drmc.pet import sidecars
from drmc.pet import units as unit_names
from drmc.pet.units import ImageHeader
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import SUV_TYPES, suv_type_name
from drmc.suv.sidecar import ACTIVITY_UNITS, decide_sidecar


def sidecar_of(
    path: AnyPath, case: Path | None = None
) -> tuple[dict[str, Any] | None, AnyPath | None, list[str]]:
    """The JSON that belongs to an image (drmc.pet.sidecars), its path, and notices on its choice.

    Raises InputError where it is no JSON object.
    """
    found, notices = sidecars.find(plain(path), stem(path))
    if found is None and case is not None and case.is_file():
        found, notices = case, [f"units and SUV by {case.name}, which the dataset names"]
    if found is None:
        return None, None, notices
    named = part(path, found)
    return sidecars.read(named), named, notices


def stated_units(path: str | Path, case: Path | None = None) -> str | None:
    """The code of units (drmc.pet.units) in the side-car JSON of an image; None without one.

    `case` as for `read_volume`. Raises InputError where the side-car is no JSON object.
    """
    sidecar, _, _ = sidecar_of(Path(path), case)
    return None if sidecar is None else unit_names.code_of(sidecar.get("Units"))


def decide_image(
    image: ImageHeader,
    sidecar: Mapping[str, Any] | None,
    sidecar_path: AnyPath | None,
    units: str | None,
    suv_type: str,
    path: AnyPath,
    vouched: Collection[str],
    values: Callable[[], str],
) -> tuple[SUVDecision, str]:
    """The SUV of an image that is no DICOM, and its stored units (a code of drmc.pet.units).

    `values()` describes the voxels for somebody who has to say what they are. Raises UnknownUnitsError where
    nothing states them, and InputError where statements contradict each other or do not suffice.
    """
    kind = suv_type_name(suv_type)
    remedy = f'write a side-car {stem(path)}.json with "Units": "SUV" or "Bq/mL"'
    wanted = None if units is None else unit_names.code_of(units)
    if units is not None and wanted is None:
        raise InputError(f"units {units!r} are unknown: say {', '.join(unit_names.CHOICES)}")
    if sidecar is not None:
        stored = unit_names.code_of(sidecar.get("Units")) or (wanted if "Units" not in sidecar else None)
        if stored is None:
            raise InputError(
                f'{sidecar_path}: "Units" is {sidecar.get("Units")!r}: write "SUV", "Bq/mL" or "kBq/mL"'
            )
        if wanted not in (None, stored):
            raise InputError(
                f'{sidecar_path} says "Units": {sidecar["Units"]!r} but {units} was asked for: correct one'
            )
        name = str(sidecar_path)
        return decide_sidecar(sidecar, stored, kind, name, image.GetSize()[2], "CLOCK" in vouched), stored
    stored, origin, text = (wanted, "the caller", "") if wanted else unit_names.of_fields(image, path)
    if stored in ACTIVITY_UNITS:
        raise InputError(
            f"{path} holds {unit_names.shown(stored)} by {origin}, and nothing gives its SUV: {remedy}, "
            "dose, weight and times"
        )
    if stored is None:
        why = (
            f"says by {origin} that it holds {text[:40]!r}, which is no known unit"
            if origin
            else "does not say its units"
        )
        known = values()
        known = f" ({known})" if known else ""
        raise UnknownUnitsError(f"{path} {why}{known}: {remedy}, or say --units suv")
    if kind != "bw":
        raise InputError(
            f"{path} is taken as SUVbw: for {SUV_TYPES[kind][0]} {remedy}, weight, height and sex"
        )
    facts = {"units": "SUV", "suv_formula": SUV_TYPES[kind][2]}
    return SUVDecision(1.0, rule="declared", source=f"SUV by {origin}", facts=facts), "SUV"
