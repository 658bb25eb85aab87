"""SUL, the SUV by lean body mass, beside the SUV that a scan was read with.

Of one patient both are proportional: SUL = SUV x lean body mass / mass of the SUV type. The lean body mass is
that of Janmahasatian et al. (Clin Pharmacokinet 2005), which PERCIST's authors advise (O, Lodge and Wahl,
Radiology 2016), because the quadratic formulas fail in obesity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drmc.errors import InputError
from drmc.suv.formulas import SUV_TYPES, body_norm, suv_type_name
from drmc.suv.values import as_text, number_of

FORMULA = "lbmjanma"
NAME = SUV_TYPES[FORMULA][0]


def sul_per_suv(decision: Mapping[str, Any]) -> tuple[float | None, str]:
    """SUL over SUV of a scan, and "" or why it is not known (None).

    Args:
        decision: as `SUVDecision.to_dict`; weight, height and sex are among its facts.
    """
    facts = decision.get("facts") or {}
    weight, height = (_positive(facts.get(key)) for key in ("weight_kg", "height_m"))
    if height is not None and height > 3.0:  # a side-car with cm
        height /= 100.0
    sex = as_text(facts.get("sex")).upper()[:1]
    try:
        lean = body_norm(FORMULA, weight, height, sex)
        return lean / body_norm(suv_type_name(decision["type"]), weight, height, sex), ""
    except InputError as error:
        return None, str(error).split(":")[0]


def _positive(value: Any) -> float | None:
    number = number_of(value)
    return number if number is not None and number > 0 else None
