"""The SUV factor of an image file, from the JSON side-car with the keys of BIDS-PET."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from drmc.errors import InputError
from drmc.suv.decision import SUVDecision
from drmc.suv.formulas import (
    SUV_TYPES,
    body_norm,
    exp2,
    in_frame_term,
    suv_change_percent,
    suv_type_name,
    usable_factor,
)
from drmc.suv.limits import BEFORE_ADMINISTRATION_S, CONFIRM_PERCENT, HALF_LIFE_RANGE_S, SAME_TIME_S
from drmc.suv.nuclides import NUCLIDES, nuclide_of
from drmc.suv.patient import dose_in_bq, height_in_m, weight_in_kg
from drmc.suv.values import as_text, number_of, printable_line, quoted

BQ_PER_UNIT = {"bq": 1.0, "kbq": 1e3, "mbq": 1e6, "gbq": 1e9}
# Bq/ml per unit of an activity concentration, by the unit's code in this program.
ACTIVITY_UNITS = {"BQML": 1.0, "KBQML": 1e3, "MBQML": 1e6, "NCIML": 37.0, "UCIML": 37_000.0}


def decide_sidecar(
    sidecar: Mapping[str, Any],
    stored: str,
    suv_type: str,
    name: str,
    slices: int,
    accept_clock: bool = False,
) -> SUVDecision:
    """The SUV decision for an image file, from the JSON side-car with the keys of BIDS-PET.

    An activity needs either `SUVFactor` (SUV per stored unit, one number or one per slice), or PatientWeight
    [kg], InjectedRadioactivity with InjectedRadioactivityUnits, RadionuclideHalfLife [s] or
    TracerRadionuclide, InjectionStart [s] and, by ImageDecayCorrected, either ImageDecayCorrectionTime [s],
    or FrameTimesStart [s] (default: ScanStart) and FrameDuration [s]; all times count from TimeZero. SUV
    types other than SUVbw need PatientSize [m] and PatientSex too; SUVType is the stored type. `SUVWarnings`:
    the warnings on the SUV of the scan from which the image was made.

    Args:
        sidecar: the content of the side-car.
        stored: "SUV" or a key of ACTIVITY_UNITS.
        suv_type: a key of SUV_TYPES.
        name: the side-car in messages.
        slices: the number of slices of the image.
        accept_clock: whether a frame that starts before the scan is accepted.

    Raises:
        InputError: a key is missing, not valid, or contradicts another.
    """
    kind = suv_type_name(suv_type)
    card = _Sidecar(sidecar, stored, name, accept_clock)
    output, source = SUV_TYPES[kind][0], f"stated in {card.file}"
    facts = card.facts(kind)
    earlier = sidecar.get("SUVWarnings")
    warnings = [printable_line(text) for text in earlier] if isinstance(earlier, list) else []
    said: dict[str, Any] = {"notices": card.notices, "warnings": warnings, "facts": facts}
    if stored == "SUV" or "SUVFactor" in sidecar:
        own = suv_type_name(sidecar.get("SUVType") or "bw")
        gain = 1.0 if own == kind else card.norm(kind) / card.norm(own)
        per_slice = sidecar.get("SUVFactor") if stored != "SUV" else None
        if isinstance(per_slice, (list, tuple)) and len(per_slice) > 1:
            factors = tuple(usable_factor((number_of(f) or 0.0) * gain) for f in per_slice)
            if len(factors) != slices:
                raise InputError(
                    f'{name}: "SUVFactor" has {len(factors)} values for {slices} slices: correct it'
                )
            mean = math.fsum(factors) / len(factors)
            return SUVDecision(mean, output, "sidecar", source, factors, **said)
        factor = 1.0 if stored == "SUV" else card.number("SUVFactor", positive=True)
        return SUVDecision(usable_factor(factor * gain), output, "sidecar", source, **said)
    half_life, more = card.half_life()
    card.notices += more
    uptake, gain, source = card.uptake(half_life, warnings)
    gain *= ACTIVITY_UNITS[stored]
    dose = card.dose(card.notices, warnings)
    if uptake < 0:
        warnings.append(f"the reference time lies {-uptake / 60.0:.1f} min before the injection")
    facts.update(dose_bq=dose, half_life_s=half_life, uptake_minutes=round(uptake / 60.0, 4))
    factor = usable_factor(card.norm(kind) / dose * gain * exp2(uptake / half_life))
    return SUVDecision(factor, output, "sidecar", f"{source} in {card.file}", **said)


class _Sidecar:
    """Reads the side-car of an image; every refusal names the key."""

    def __init__(self, values: Mapping[str, Any], stored: str, name: str, accept_clock: bool = False):
        self.values, self.stored, self.name = values, stored, name
        self.accept_clock = accept_clock
        self.file = re.split(r"[\\/]", name)[-1]
        self.weight_key = (
            "PatientWeight" if "PatientWeight" in values or "BodyWeight" not in values else "BodyWeight"
        )
        self.notices: list[str] = []
        weight, height = number_of(values.get(self.weight_key)), number_of(values.get("PatientSize"))
        self.weight = None if weight is None else weight_in_kg(weight, f'"{self.weight_key}"', self.notices)
        self.height = None if height is None else height_in_m(height, '"PatientSize"', self.notices)

    def number(self, key: str, positive: bool = False) -> float:
        value = self.values.get(key)
        found = number_of(value)
        if found is None or (positive and found <= 0):
            state = (
                "is missing"
                if value is None
                else f"is {quoted(value)}, not one {'positive ' * positive}number"
            )
            stored = self.stored
            needed = "this SUV type needs it" if stored == "SUV" else f"{stored} needs it to become SUV"
            raise InputError(f'{self.name}: "{key}" {state}: {needed}; correct the side-car')
        return found

    def norm(self, kind: str) -> float:
        sex = as_text(self.values.get("PatientSex")).upper()[:1]
        self.number(self.weight_key, positive=True)
        height = self.height if self.height and self.height > 0 else None
        if sex == "O" and kind not in ("bw", "bsa"):
            text = f'"PatientSex" O: mean of the male and female {SUV_TYPES[kind][0]}'
            self.notices += [] if text in self.notices else [text]
        try:
            return body_norm(kind, self.weight, height, sex)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    def half_life(self) -> tuple[float, list[str]]:
        nuclide = nuclide_of("", as_text(self.values.get("TracerRadionuclide")))
        if nuclide is not None and self.values.get("RadionuclideHalfLife") is None:
            return NUCLIDES[nuclide][0], [f"half-life {NUCLIDES[nuclide][0]:g} s of {nuclide} used"]
        half_life = self.number("RadionuclideHalfLife", positive=True)
        if not HALF_LIFE_RANGE_S[0] <= half_life <= HALF_LIFE_RANGE_S[1]:
            raise InputError(
                f'{self.name}: "RadionuclideHalfLife" is {half_life:g} s, which no tracer has: write it in s'
            )
        return half_life, []

    def dose(self, notices: list[str], warnings: list[str]) -> float:
        dose = self.number("InjectedRadioactivity", positive=True)
        unit = as_text(self.values.get("InjectedRadioactivityUnits")).lower()
        if unit and unit not in BQ_PER_UNIT:
            raise InputError(
                f'{self.name}: "InjectedRadioactivityUnits" is {quoted(unit)}: write Bq, kBq, MBq or GBq'
            )
        return (
            dose * BQ_PER_UNIT[unit]
            if unit
            else dose_in_bq(dose, '"InjectedRadioactivity"', notices, warnings)
        )

    def uptake(self, half_life: float, warnings: list[str]) -> tuple[float, float, str]:
        """(seconds from the injection to the reference time, in-frame gain, the keys they come from)."""
        corrected = self.values.get("ImageDecayCorrected")
        if not isinstance(corrected, bool):
            raise InputError(f'{self.name}: "ImageDecayCorrected" is missing: write true or false')
        if corrected:
            reference, gain, source = self.number("ImageDecayCorrectionTime"), 1.0, "ImageDecayCorrectionTime"
        else:
            reference, key = self._frame_start(half_life, warnings)
            gain = in_frame_term(half_life, self.number("FrameDuration", positive=True))
            source = f"{key} and FrameDuration"
        uptake = reference - self.number("InjectionStart")
        if uptake < -BEFORE_ADMINISTRATION_S:
            raise InputError(
                f'{self.name}: "InjectionStart" lies {-uptake:.0f} s after the image: correct the times'
            )
        return uptake, gain, source

    def _frame_start(self, half_life: float, warnings: list[str]) -> tuple[float, str]:
        """The start of the frame and its key; in BIDS both keys count from TimeZero."""
        if self.values.get("FrameTimesStart") is None:
            return self.number("ScanStart"), "ScanStart"
        start = self.number("FrameTimesStart")
        scan = number_of(self.values.get("ScanStart"))
        if scan is not None and start < scan - SAME_TIME_S:
            effect = suv_change_percent(scan - start, half_life)
            problem = (
                f'{self.name}: "FrameTimesStart" {start:g} s lies before "ScanStart" {scan:g} s, though both '
                f"count from TimeZero ({effect:.3g} % of the SUV)"
            )
            if effect > CONFIRM_PERCENT and not self.accept_clock:
                raise InputError(f"{problem}: correct one, or take FrameTimesStart with --accept-suv CLOCK")
            warnings.append(f"{problem}: FrameTimesStart is used")
        return start, "FrameTimesStart"

    def facts(self, kind: str) -> dict[str, Any]:
        """The facts for the report; nothing is refused here."""
        dose = number_of(self.values.get("InjectedRadioactivity"))
        unit = BQ_PER_UNIT.get(as_text(self.values.get("InjectedRadioactivityUnits")).lower())
        return {
            "units": self.stored,
            "suv_formula": SUV_TYPES[kind][2],
            "weight_kg": self.weight,
            "height_m": self.height,
            "sex": as_text(self.values.get("PatientSex")) or None,
            # None if it is unknown or overflows.
            "dose_bq": None if dose is None or unit is None else number_of(dose * unit),
            "nuclide": nuclide_of("", as_text(self.values.get("TracerRadionuclide"))),
            "tracer": as_text(self.values.get("TracerName")) or None,
            "sidecar": self.file,
        }
