"""SUL, the SUV by lean body mass, beside the SUV that a scan was read with.

Of one patient both are proportional: SUL = SUV x lean body mass / mass of the SUV type. The lean body mass is
that of Janmahasatian et al. (Clin Pharmacokinet 2005), which PERCIST's authors advise (O, Lodge and Wahl,
Radiology 2016), because the quadratic formulas fail in obesity. It was made for adults: of others, SUL is
stated only if the scan was read with --suv-type lbmjanma, where a warning goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from drmc.errors import InputError
from drmc.suv import bounds
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
    sex = as_text(facts.get("sex")).upper()[:1]
    try:
        lean = body_norm(FORMULA, weight, height, sex)
        ratio = lean / body_norm(suv_type_name(decision["type"]), weight, height, sex)
    except InputError as error:
        return None, str(error).split(":")[0]
    if decision["type"] != NAME and not bounds.is_of_janmahasatian(weight or 0.0, height or math.inf):
        return None, f"{bounds.JANMAHASATIAN_PEOPLE}, {weight:g} kg and {height:g} m is not"
    return ratio, ""


def _positive(value: Any) -> float | None:
    number = number_of(value)
    return number if number is not None and number > 0 else None
