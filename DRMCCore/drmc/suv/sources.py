"""Where the facts of a scan are written, and the words with which a caller vouches for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drmc.errors import InputError
from drmc.suv.reference_time import TIME_RULES
from drmc.suv.tags import TAGS
from drmc.suv.values import number_of

# What a caller can vouch for (--accept-suv), with what it says.
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
    """The reference-time rule and the words of WORDS in what the caller accepts, such as "ST,DOSE".

    InputError for anything else, or for two rules.
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
    """Where the facts of a scan are written.

    `named(quantity)`: what a message calls it ("PatientWeight (0010,1030)"); `written(quantity)`: its value as written;
    `mend(quantity, example)`: how it is corrected; `dose_in`: the unit that the place of the dose prescribes or states,
    None where it is guessed from the value.
    """

    named: Callable[[str], str]
    written: Callable[[str], Any]
    mend: Callable[[str, str], str]
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
    """The header of a DICOM series, with the values given by hand in it.

    `synonyms`: what an Enhanced image calls an element otherwise (empty for a classic one); it states its dose in MBq.
    """
    enhanced = bool(synonyms)

    def named(quantity: str) -> str:
        name = f"{_TAGS[quantity]} {TAGS[_TAGS[quantity]]}"
        return synonyms.get(name, name)

    def mend(quantity: str, example: str) -> str:
        return f"correct the header, or give the right value with --header {_TAGS[quantity]}={example}"

    first = slices[0] if slices else {}
    dose = number_of(first.get("RadionuclideTotalDose"))
    small = dose is not None and dose < 1e4
    unit = "Bq" if not small else "MBq" if enhanced else None
    return Source(named, lambda quantity: first.get(_TAGS[quantity]), mend, unit)


def of_sidecar(card: Mapping[str, Any], file: str) -> Source:
    """The side-car JSON of an image; `file` its name in messages."""
    keys = dict(_KEYS)
    if "PatientWeight" not in card and "BodyWeight" in card:
        keys["weight"] = "BodyWeight"
    unit = str(card.get("InjectedRadioactivityUnits") or "").strip() or None

    def mend(quantity: str, example: str) -> str:
        return f'correct "{keys[quantity]}" in {file}'

    return Source(
        lambda quantity: f'{file}: "{keys[quantity]}"',
        lambda quantity: card.get(keys[quantity]),
        mend,
        unit,
    )


def of_image(path: Any) -> Source:
    """An image file that has no side-car: nothing of the patient is known."""

    def mend(quantity: str, example: str) -> str:
        return "say what the voxels are with --units"

    return Source(lambda quantity: f"{path}: units", lambda quantity: "SUV", mend)
