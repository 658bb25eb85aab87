"""Weight, height, injected activity and half-life from the headers of a series."""

from __future__ import annotations

import math
from collections.abc import Callable

from drmc.errors import InputError
from drmc.suv.header import Header
from drmc.suv.limits import HALF_LIFE_RANGE_S
from drmc.suv.nuclides import NUCLIDES, nuclides_named
from drmc.suv.tags import TAGS, refused, with_tag


def _weight(header: Header) -> float | None:
    weight = header.positive("PatientWeight")
    if weight is None:
        return None
    weight = weight_in_kg(weight, with_tag("PatientWeight"), header.notices)
    if not 1.0 <= weight <= 1000.0:
        raise refused("PatientWeight", f"is {weight:g} kg, which no patient has", "write the weight in kg")
    if weight > 300.0:
        header.warnings.append(f"{with_tag('PatientWeight')} {weight:g} kg is unusual: check it")
    return weight


def _height(header: Header) -> float | None:
    height = header.positive("PatientSize")
    if height is None:
        return None
    height = height_in_m(height, with_tag("PatientSize"), header.notices)
    if not 0.2 <= height <= 3.0:
        raise refused("PatientSize", f"is {height:g} m, which no patient has", "write the height in m")
    return height


def weight_in_kg(weight: float, name: str, notices: list[str]) -> float:
    """The weight in kg: above 1000 it must have been grams (a notice)."""
    if weight <= 1000.0:
        return weight
    notices.append(f"{name} {weight:g} taken as grams: {weight / 1000.0:g} kg")
    return weight / 1000.0


def height_in_m(height: float, name: str, notices: list[str]) -> float:
    """The height in m: above 3 it must have been cm (a notice)."""
    if height <= 3.0:
        return height
    notices.append(f"{name} {height:g} taken as cm: {height / 100.0:g} m")
    return height / 100.0


def read_patient(header: Header, needed: set[str]) -> tuple[float | None, float | None, str | None]:
    """Weight [kg], height [m] and sex; invalid values that no SUV type in `needed` uses become a notice.

    Raises:
        InputError: a value that is needed is not valid.
    """

    def read(function: Callable[[Header], float | None], used: bool) -> float | None:
        try:
            return function(header)
        except InputError as error:
            if used:
                raise
            header.notices.append(f"{str(error).split(':')[0]}: not needed, ignored")
            return None

    sex = header.text("PatientSex").upper()
    return read(_weight, bool(needed - {"ibw"})), read(_height, bool(needed - {"bw"})), sex or None


def read_dose(header: Header) -> float:
    """The injected activity (0018,1074) in Bq.

    Raises:
        InputError: it is missing or zero.
    """
    dose = header.positive("RadionuclideTotalDose")
    if dose is None:
        raise refused("RadionuclideTotalDose", "is missing or zero", "write the injected dose in Bq")
    return dose_in_bq(dose, with_tag("RadionuclideTotalDose"), header.notices, header.warnings)


def dose_in_bq(dose: float, name: str, notices: list[str], warnings: list[str]) -> float:
    """The dose in Bq: below 1e4 it must have been MBq (a notice); one that is still unusual is a warning."""
    if dose < 1e4:
        notices.append(f"{name} {dose:g} taken as MBq")
        dose *= 1e6
    if not 1e6 <= dose <= 2e10:
        warnings.append(f"{name} {dose / 1e6:g} MBq is unusual: check its unit, the SUV depends on it")
    return dose


def read_half_life(header: Header) -> tuple[float, str | None]:
    """The half-life in s, from the header or from the coded nuclide, and the nuclide.

    Raises:
        InputError: it is missing, impossible, or contradicts the nuclide.
    """
    named = nuclides_named(header.text("RadionuclideCodeValue"), header.text("RadionuclideCodeMeaning"))
    half_life = header.positive("RadionuclideHalfLife")
    if half_life is None:
        if len(named) != 1:
            problem = f"is missing or zero and the nuclide {TAGS['RadionuclideCodeValue']} is not a known one"
            raise refused("RadionuclideHalfLife", problem, "write the half-life in s")
        nuclide = named.pop()
        half_life = NUCLIDES[nuclide][0]
        header.notices.append(
            f"{with_tag('RadionuclideHalfLife')} is missing: {half_life:g} s of {nuclide} used"
        )
        return half_life, nuclide
    if not HALF_LIFE_RANGE_S[0] <= half_life <= HALF_LIFE_RANGE_S[1]:
        raise refused(
            "RadionuclideHalfLife", f"is {half_life:g} s, which no tracer has", "write the half-life in s"
        )
    if not named:
        return half_life, None
    nuclide = min(named, key=lambda n: abs(math.log(half_life / NUCLIDES[n][0])))
    known = NUCLIDES[nuclide][0]
    if len(named) > 1:
        header.notices.append(
            f"{with_tag('RadionuclideCodeValue')}: code and meaning name {' and '.join(sorted(named))}; "
            f"the half-life {half_life:g} s of the header is used"
        )
    if not 0.5 <= half_life / known <= 2.0:
        problem = (
            f"{half_life:g} s contradicts {nuclide} ({known:g} s) of {with_tag('RadionuclideCodeValue')}"
        )
        raise refused("RadionuclideHalfLife", problem, "correct one of them; the half-life is in s")
    if abs(half_life / known - 1.0) > 0.01:
        header.warnings.append(
            f"{with_tag('RadionuclideHalfLife')} {half_life:g} s differs from {nuclide} ({known:g} s) by "
            f"{100.0 * (half_life / known - 1.0):+.1f} %: the header's value is used"
        )
    return half_life, nuclide
