"""SUV types, the body measures that they divide by, and the decay of a tracer."""

from __future__ import annotations

import math

from drmc.errors import InputError
from drmc.suv.tags import refused, with_tag
from drmc.suv.values import quoted

# The values of `suv_type`: name -> (output name, DICOM SUVType, formula).
SUV_TYPES = {
    "bw": ("SUVbw", "BW", "body weight"),
    "lbm": (
        "SUVlbm",
        "LBM",
        "lean body mass, Morgan/Sugawara: M 1.10 W - 120 (W/H)^2, F 1.07 W - 148 (W/H)^2",
    ),
    "lbmjames128": (
        "SUVlbmjames128",
        "LBMJAMES128",
        "lean body mass, James: M 1.10 W - 128 (W/H)^2, F 1.07 W - 148 (W/H)^2",
    ),
    "lbmjanma": (
        "SUVlbmjanma",
        "LBMJANMA",
        "lean body mass, Janmahasatian: M 9270 W/(6680 + 216 BMI), F 9270 W/(8780 + 244 BMI)",
    ),
    "bsa": ("SUVbsa", "BSA", "body surface area, Du Bois: 0.007184 W^0.425 H^0.725 m2"),
    "ibw": ("SUVibw", "IBW", "ideal body weight: M 48.0 + 1.06 (H - 152), F 45.5 + 0.91 (H - 152)"),
}
TYPE_OF_DICOM = {dicom: name for name, (_, dicom, _) in SUV_TYPES.items()}


def suv_type_name(text: str) -> str:
    """The key of SUV_TYPES that `text` means ("bw", "SUVbw", "LBMJANMA"...).

    Raises:
        InputError: the type is unknown.
    """
    name = str(text).strip().lower()
    name = name.removeprefix("suv")
    if name not in SUV_TYPES:
        raise InputError(f"SUV type {quoted(text)} is unknown: use one of {', '.join(SUV_TYPES)}")
    return name


def mean_count_time(half_life_s: float, duration_s: float) -> float:
    """Seconds from the start of a frame until the activity equals its mean: ln(lT / (1 - exp(-lT))) / l."""
    decay = math.log(2.0) / half_life_s
    x = decay * duration_s
    if x < 1e-6:
        return duration_s / 2.0
    return math.log(x / -math.expm1(-x)) / decay


def in_frame_term(half_life_s: float, duration_s: float) -> float:
    """Activity at the start of a frame over its mean in the frame: lT / (1 - exp(-lT))."""
    x = math.log(2.0) / half_life_s * duration_s
    return x / -math.expm1(-x) if x > 1e-9 else 1.0


def body_norm(kind: str, weight_kg: float | None, height_m: float | None, sex: str | None) -> float:
    """The factor of an SUV type between activity per dose and SUV: g (cm2 for "bsa").

    Sex O has the mean of the male and the female value.

    Args:
        kind: a key of SUV_TYPES.
        weight_kg: weight.
        height_m: height.
        sex: "M", "F" or "O".

    Raises:
        InputError: a fact that the type needs is missing, or the result of the formula is not positive; the
            message names the tag.
    """
    name = SUV_TYPES[kind][0]
    if kind != "ibw" and weight_kg is None:
        raise refused("PatientWeight", f"is missing or zero but {name} needs it", "write the weight in kg")
    weight_kg = math.nan if weight_kg is None else weight_kg  # only "ibw" does not need it
    if kind == "bw":
        return weight_kg * 1000.0
    if height_m is None:
        raise refused("PatientSize", f"is missing but {name} needs it", "write the height in m or use SUVbw")
    height_cm = height_m * 100.0
    if kind == "bsa":
        return 0.007184 * weight_kg**0.425 * height_cm**0.725 * 1e4
    if sex not in ("M", "F", "O"):
        raise refused("PatientSex", f"is not M, F or O but {name} needs it", "correct it or use SUVbw")
    if sex == "O":
        return (body_norm(kind, weight_kg, height_m, "M") + body_norm(kind, weight_kg, height_m, "F")) / 2.0
    male = sex == "M"
    if kind == "ibw":
        mass = 48.0 + 1.06 * (height_cm - 152.0) if male else 45.5 + 0.91 * (height_cm - 152.0)
    elif kind == "lbmjanma":
        bmi = weight_kg / height_m**2
        mass = 9270.0 * weight_kg / (6680.0 + 216.0 * bmi if male else 8780.0 + 244.0 * bmi)
    else:
        slope = 120.0 if kind == "lbm" else 128.0
        ratio = (weight_kg / height_cm) ** 2
        mass = 1.10 * weight_kg - slope * ratio if male else 1.07 * weight_kg - 148.0 * ratio
    if not mass > 0:
        raise InputError(
            f"{name} is not defined for {with_tag('PatientSize')} {height_m:g} m and "
            f"{with_tag('PatientWeight')} {weight_kg:g} kg: its formula results in {mass:.3g} kg; correct "
            "the header or use SUVbw"
        )
    return mass * 1000.0


def exp2(exponent: float) -> float:
    """2 to the power of the exponent; infinite or 0 beyond the range of float64."""
    if exponent > 1000.0:
        return math.inf
    return 2.0**exponent if exponent > -1000.0 else 0.0


def suv_change_percent(seconds: float, half_life_s: float) -> float:
    """Change of the SUV [%] when the reference time moves by `seconds`; infinite beyond 60 half-lives."""
    exponent = seconds / half_life_s
    return (exp2(exponent) - 1.0) * 100.0 if abs(exponent) < 60.0 else math.copysign(math.inf, exponent)


def change_text(percent: float) -> str:
    """A change in percent for a message."""
    return f"by {percent:+.1f} %" if math.isfinite(percent) else "out of all proportion"


def usable_factor(factor: float) -> float:
    """The factor itself, if it is positive and finite.

    Raises:
        InputError: it is not.
    """
    if not 0 < factor < math.inf:
        problem = "with weight, half-life and times of the header results in no usable SUV factor"
        raise refused("RadionuclideTotalDose", problem, "correct the header")
    return factor
