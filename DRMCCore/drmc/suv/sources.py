"""The places where the facts of a scan are written, and the words with which a caller vouches for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drmc.errors import InputError
from drmc.suv.reference_time import TIME_RULES
from drmc.suv.tags import TAGS
from drmc.suv.values import number_of

# What a caller can vouch for (--accept-suv), and its description.
WORDS = {
    "DOSE": "the injected activity",
    "HALF_LIFE": "the half-life",
    "UPTAKE": "the uptake time",
    "BODY": "weight and height",
    "FORMULA": "the body formula beyond its range",
    "SUV": "the SUV that comes out",
    "PHILIPS": "the Philips SUV scale factor",
    "CLOCK": "times as they are written",
}
_RULES = (*TIME_RULES, "NONE")


def accepted(text: str | None) -> tuple[str | None, frozenset[str]]:
    """The reference-time rule and the words of WORDS that the caller accepts.

    Args:
        text: rule and words, separated by commas, such as "ST,DOSE".

    Raises:
        InputError: a word is unknown, or there are two rules.
    """
    parts = [part.strip().upper().replace("-", "_") for part in (text or "").split(",") if part.strip()]
    words = frozenset(part for part in parts if part in WORDS)
    rules = [part for part in parts if part not in WORDS]
    unknown = [rule for rule in rules if rule not in _RULES]
    if unknown or len(rules) > 1:
        what = f"rule '{unknown[0][:40]}' is unknown" if unknown else f"{' and '.join(rules)} are two rules"
        raise InputError(f"{what}: accept one of {', '.join(_RULES)}, and any of {', '.join(WORDS)}")
    return (rules[0] if rules else None), words


@dataclass(frozen=True)
class Source:
    """The place where the facts of a scan are written.

    `named(quantity)`: its name for messages ("PatientWeight (0010,1030)"); `written(quantity)`: its value as
    written; `remedy(quantity, example)`: how to correct it; `dose_in`: the unit that the place prescribes or
    states for the dose, None if it is guessed from the value.
    """

    named: Callable[[str], str]
    written: Callable[[str], Any]
    remedy: Callable[[str, str], str]
    dose_in: str | None = None


_TAGS = {
    "dose": "RadionuclideTotalDose",
    "half_life": "RadionuclideHalfLife",
    "weight": "PatientWeight",
    "height": "PatientSize",
    "tracer": "Radiopharmaceutical",
    "nuclide": "RadionuclideCodeValue",
    "meaning": "RadionuclideCodeMeaning",
    "injection": "RadiopharmaceuticalStartDateTime",
    "units": "Units",
}
_KEYS = {
    "dose": "InjectedRadioactivity",
    "half_life": "RadionuclideHalfLife",
    "weight": "PatientWeight",
    "height": "PatientSize",
    "tracer": "TracerName",
    "nuclide": "TracerRadionuclide",
    "meaning": "TracerRadionuclide",
    "injection": "InjectionStart",
    "units": "Units",
}


def of_header(slices: Sequence[Mapping[str, Any]], synonyms: Mapping[str, str]) -> Source:
    """The header of a DICOM series, including the manual values.

    Args:
        slices: the header facts.
        synonyms: names of elements that an Enhanced image has under another name, empty for a classic one; an
            Enhanced image has its dose in MBq.
    """
    enhanced = bool(synonyms)

    def named(quantity: str) -> str:
        name = f"{_TAGS[quantity]} {TAGS[_TAGS[quantity]]}"
        return synonyms.get(name, name)

    def remedy(quantity: str, example: str) -> str:
        return f"correct the header, or set the right value with --header {_TAGS[quantity]}={example}"

    first = slices[0] if slices else {}
    dose = number_of(first.get("RadionuclideTotalDose"))
    small = dose is not None and dose < 1e4
    unit = "Bq" if not small else "MBq" if enhanced else None
    return Source(named, lambda quantity: first.get(_TAGS[quantity]), remedy, unit)


def of_sidecar(card: Mapping[str, Any], file: str) -> Source:
    """The JSON side-car of an image; `file`: its name in messages."""
    keys = dict(_KEYS)
    if "PatientWeight" not in card and "BodyWeight" in card:
        keys["weight"] = "BodyWeight"
    unit = str(card.get("InjectedRadioactivityUnits") or "").strip() or None

    def remedy(quantity: str, example: str) -> str:
        return f'correct "{keys[quantity]}" in {file}'

    return Source(
        lambda quantity: f'{file}: "{keys[quantity]}"',
        lambda quantity: card.get(keys[quantity]),
        remedy,
        unit,
    )


def of_image(path: Any) -> Source:
    """An image file without a side-car: nothing is known of the patient."""

    def remedy(quantity: str, example: str) -> str:
        return "say what the voxels are with --units"

    return Source(lambda quantity: f"{path}: units", lambda quantity: "SUV", remedy)
