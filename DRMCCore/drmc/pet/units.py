"""What the voxels of an image file are: the names of units, and where an image or its side-car states one.

A unit is known because something states it: the side-car JSON, a field of the image, the caller. It is never
guessed from the values: an activity concentration in kBq/ml has the range of an SUV.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from drmc.errors import InputError
from drmc.suv.sidecar import ACTIVITY_UNITS

# What the command line offers, in small letters the codes that stand for the units here.
CHOICES = ("suv", *(code.lower() for code in ACTIVITY_UNITS))
_ACTIVITIES = {"bq": "BQML", "kbq": "KBQML", "mbq": "MBQML", "nci": "NCIML", "uci": "UCIML"}
_SHOWN = {"BQML": "Bq/ml", "KBQML": "kBq/ml", "MBQML": "MBq/ml", "NCIML": "nCi/ml", "UCIML": "uCi/ml"}
# Units in which a simulation or another program writes 1 ml.
_VOLUMES = r"(ml|cc|ccm|cm3|cm\^3|milliliter)"


class ImageHeader(Protocol):
    """What the SUV of an image rests on; `sitk.Image` and `sitk.ImageFileReader` have it."""

    def GetSize(self) -> tuple[int, ...]:
        """Voxels along (x, y, z)."""

    def GetMetaDataKeys(self) -> tuple[str, ...]:
        """Names of its text fields."""

    def GetMetaData(self, key: str) -> str:
        """A text field."""


def code_of(text: Any) -> str | None:
    """Units in a side-car, a call or an image field as a code: SUV, a key of ACTIVITY_UNITS, or None."""
    name = "".join(str(text).lower().split()).replace("µ", "u").replace("μ", "u")
    if code := re.fullmatch(r"codevalue:([^|]*)(\|.*)?", name):  # Slicer's coded voxel units
        name = code[1]
    if name in ("suv", "g/ml", "gml", "suvbw", "{suvbw}g/ml", "g/ml{suvbw}"):
        return "SUV"
    match = re.fullmatch(rf"([kmnu]?(?:bq|ci))/?{_VOLUMES}", name)
    return None if match is None else _ACTIVITIES.get(match[1])


def shown(code: str) -> str:
    """A code of units as people write it."""
    return _SHOWN.get(code, code)


def of_fields(image: ImageHeader, path: Any) -> tuple[str | None, str, str]:
    """Units by a text field of the image (NRRD, MetaImage), the field's name, and its text.

    The units are None where no field states any, or one whose text is no known unit. InputError for a field
    that says another SUV than SUVbw.
    """
    unknown = (None, "", "")
    for key in image.GetMetaDataKeys():
        # The units of space and time of NIfTI and NRRD are other things.
        if "unit" not in key.lower() or "space" in key.lower() or key.lower() == "xyzt_units":
            continue
        text = image.GetMetaData(key)
        if (other := re.search(r"\{?suv(\w+)\}?", text.lower())) and other[1] != "bw":
            raise InputError(
                f"{path} says in its field {key} that it holds SUV{other[1]}: give SUVbw or Bq/ml"
            )
        if found := code_of(text):
            return found, f"its field {key}", text
        if text.strip() and not text.strip().isdigit():
            unknown = (None, f"its field {key}", text)
    return unknown
