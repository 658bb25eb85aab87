"""A simulated patient of an evaluation of organs: labels, images, and what is known of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk

from drmc.datasets.manifest import Case
from drmc.errors import InputError
from drmc.imaging.files import finite_float32, read_image
from drmc.imaging.geometry import Geometry
from drmc.pages.text import mapping
from drmc.simulation.organ_classes import to_classes

PROCEDURAL, LABEL_MAP = "procedural", "label map"
"""Anatomies that the simulation draws, and those of label maps: shapes that no training has seen."""
WIDE_UPTAKE = "far beyond the table"


class Condition(NamedTuple):
    """What an image of a patient is; a dose reduction factor of 1 is the full dose."""

    corrected: bool
    dose_reduction_factor: float


def facts_of(case: Case) -> dict[str, Any]:
    """Anatomy and tracer of a patient.

    Raises:
        InputError: the case has no organ labels, or not those of the simulation.
    """
    if case.organs is None:
        raise InputError(f"case {case.case_id}: has no organ labels; simulate it with this version of drmc")
    written = {} if case.facts is None else json.loads(case.facts.read_text(encoding="utf-8"))
    if not written.get("Simulated"):
        raise InputError(f"case {case.case_id}: only labels of simulated patients are known by now")
    facts = mapping(written.get("Facts"))
    tracer = str(written.get("TracerName", "not stated"))
    return {
        "anatomy": LABEL_MAP if facts.get("label_map") else PROCEDURAL,
        "label_map": facts.get("label_map"),
        "tracer": f"{tracer}, {WIDE_UPTAKE}" if facts.get("uptake") == "wide" else tracer,
    }


def read_reference(case: Case) -> tuple[np.ndarray, Geometry]:
    """The classes of a patient, uint8 (z, y, x), and their grid. Raises InputError where they are bad."""
    assert case.organs is not None
    image = read_image(case.organs)
    return to_classes(sitk.GetArrayFromImage(image).astype(np.uint8)), Geometry.from_image(image)


def conditions(case: Case) -> Iterator[Condition]:
    """The images of a patient: corrected ones first, by ascending dose reduction factor."""
    yield from (Condition(True, factor) for factor in (1.0, *sorted(case.low)))
    yield from (Condition(False, factor) for factor in sorted(case.uncorrected))


def read_condition(case: Case, condition: Condition) -> tuple[np.ndarray, Geometry]:
    """An image: SUV where it is corrected for attenuation, else of no unit.

    Raises:
        InputError: it cannot be read.
    """
    factor = condition.dose_reduction_factor
    if condition.corrected:
        volume = case.read(case.full if factor == 1 else case.low[factor])
        return volume.suv_array(), volume.geometry
    path = case.uncorrected[factor]
    image = read_image(path)
    return finite_float32(sitk.GetArrayFromImage(image), path), Geometry.from_image(image)
