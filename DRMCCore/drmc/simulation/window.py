"""A part of a patient's scan range, for a look at one organ at a fraction of the time."""

from __future__ import annotations

from typing import Any

from drmc.errors import InputError
from drmc.simulation.anatomy import Phantom
from drmc.simulation.scan import Patient
from drmc.simulation.shapes import Shape, Triple


class Window:
    """A patient of whom only the range from `lower` to `upper` (mm of the patient's frame) is scanned.

    `facts` are added to the patient's. The beds and the axial field lie where they would for the whole
    patient. Raises InputError where the window is empty.
    """

    def __init__(self, patient: Patient, lower: float, upper: float, facts: dict[str, Any] | None = None):
        if not lower < upper:
            raise InputError(f"a window from {lower:g} to {upper:g} mm is empty: give lower < upper")
        self.patient, self._range, self._facts = patient, (lower, upper), facts or {}
        self.weight_kg = patient.weight_kg
        self.diaphragm_mm = getattr(patient, "diaphragm_mm", None)

    def axial_range(self) -> tuple[float, float]:
        """The window (lower, upper) in mm."""
        return self._range

    def whole_range(self) -> tuple[float, float]:
        """Scan range of the whole patient, which the beds follow."""
        return getattr(self.patient, "whole_range", self.patient.axial_range)()

    def rasterize(self, shape_zyx: Shape, spacing_zyx: Triple, origin_zyx: Triple) -> Phantom:
        """As the patient's."""
        phantom = self.patient.rasterize(shape_zyx, spacing_zyx, origin_zyx)
        phantom.facts.update(self._facts)
        return phantom
