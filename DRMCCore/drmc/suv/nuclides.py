"""Nuclides of PET: half-lives, codes and spellings."""

from __future__ import annotations

import re

# Half-lives in s (NNDC/DDEP; F-18, Ga-68, C-11, N-13 as scanners write them) with SRT and SCT codes of CID
# 4020.
NUCLIDES: dict[str, tuple[float, tuple[str, ...]]] = {
    "C-11": (1223.0, ("C-105A1", "40565003")),
    "N-13": (598.0, ("C-107A1", "21576001")),
    "O-15": (122.24, ("C-B1038", "129504001")),
    "F-18": (6586.2, ("C-111A1", "77004003")),
    "Sc-44": (14_551.2, ("126600",)),
    "Cu-62": (580.4, ("C-127A5", "422934004")),
    "Cu-64": (45_723.6, ("C-127A2", "3932008")),
    "Ga-66": (34_164.0, ("C-131A1", "79477007")),
    "Ga-68": (4057.7, ("C-131A3", "35337001")),
    "Ge-68": (23_400_000.0, ("C-128A2", "53315004")),
    "Br-76": (58_320.0, ("C-113A2", "79523006")),
    "Rb-82": (75.45, ("C-159A2", "79197006")),
    "Y-86": (53_064.0, ("C-162A3", "10738001")),
    "Zr-89": (282_276.0, ("C-168A4", "63360001")),
    "Y-90": (230_580.0, ("C-162A7", "14691008")),
    "I-124": (360_806.4, ("C-114A5", "40937006")),
    "Lu-177": (574_300.8, ("C-101ED", "447553000")),
}
_ELEMENT_NAMES = {
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "fluorine": "F",
    "fluor": "F",
    "scandium": "Sc",
    "copper": "Cu",
    "gallium": "Ga",
    "germanium": "Ge",
    "bromine": "Br",
    "rubidium": "Rb",
    "yttrium": "Y",
    "zirconium": "Zr",
    "iodine": "I",
    "lutetium": "Lu",
}


def nuclide_of(code: str, meaning: str) -> str | None:
    """The nuclide ("F-18") that a code value and meaning name; None if it is unknown or they disagree."""
    named = nuclides_named(code, meaning)
    return named.pop() if len(named) == 1 else None


def nuclides_named(code: str, meaning: str) -> set[str]:
    """The nuclides that a code value and a text name, in any usual spelling ("F-18", "^18^Fluorine")."""
    named = {name for name, (_, codes) in NUCLIDES.items() if code.strip() in codes}
    mass = re.search(r"\d{2,3}", meaning)
    if mass is None:
        return named
    for word in re.findall(r"[a-z]+", meaning.lower()):
        name = f"{_ELEMENT_NAMES.get(word, word.capitalize())}-{mass[0]}"
        if name in NUCLIDES:
            named.add(name)
    return named
