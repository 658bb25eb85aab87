"""Which part of a body is scanned: all of it, or a field as departments choose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drmc.errors import InputError

if TYPE_CHECKING:  # the command line names the fields, and does not wait for PyTorch
    import numpy as np

    from drmc.simulation.anatomy import WholeBody
    from drmc.simulation.window import Window

WHOLE = "whole"
FIELDS = {
    WHOLE: ("thigh", "vertex"),
    "skull_base_to_thigh": ("thigh", "skull_base"),
    "head_and_neck": ("thoracic_inlet", "vertex"),
    "thorax": ("kidneys", "neck"),
}
"""Lower and upper end of each field: landmarks of `WholeBody.landmark`."""

MIXED = {"skull_base_to_thigh": 0.55, WHOLE: 0.25, "head_and_neck": 0.1, "thorax": 0.1}
"""Share of the patients in each field of `mixed` (assumed: most departments scan skull base to thigh)."""

_LOOSE_MM = 15.0  # technologists set the ends by hand
FIELD_NAMES = (*FIELDS, "mixed")


def in_field(patient: WholeBody, name: str, rng: np.random.Generator) -> WholeBody | Window:
    """The patient, cut to a field whose ends vary by 15 mm (standard deviation).

    Raises:
        InputError: `name` is none of `FIELD_NAMES`.
    """
    from drmc.simulation.window import Window

    if name not in FIELD_NAMES:
        raise InputError(f"unknown field '{name}': choose from {', '.join(FIELD_NAMES)}")
    if name == "mixed":
        name = str(rng.choice(list(MIXED), p=list(MIXED.values())))
    if name == WHOLE:
        return patient
    low, high = patient.axial_range()
    ends = [
        patient.landmark(end) + float(v)
        for end, v in zip(FIELDS[name], rng.normal(0, _LOOSE_MM, 2), strict=True)
    ]
    return Window(patient, max(low, ends[0]), min(high, ends[1]), facts={"field": name})
