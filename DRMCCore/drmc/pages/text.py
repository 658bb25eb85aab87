"""Numbers and values as a reader wants them. Nothing here is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np


def number(value: Any, digits: int, *, sign: bool = False, fixed: bool = False, absent: str = "–") -> str:
    """Fixed decimals, a real minus sign; small values that would read 0 keep two significant digits.

    `sign`: a plus sign as well. `fixed`: small values read 0. `absent` stands where there is no number.
    """
    if not is_number(value):
        return "∞" if value == math.inf else absent
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        keep = digits and value and not fixed
        text = (f"{value:+.2g}" if sign else f"{value:.2g}") if keep else text.lstrip("+-")
    return text.replace("-", "−")


def percent(value: Any, *, digits: int = 1, sign: bool = True, absent: str = "–") -> str:
    """A percentage with its sign; `absent` where there is no number."""
    return f"{number(value, digits, sign=sign, fixed=True)} %" if is_number(value) else absent


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number (True and False are none)."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def strings(value: Any) -> list[str]:
    """Messages as a list, given as one string, several, or none."""
    if isinstance(value, str):
        return [value]
    return [plain(item) for item in value] if isinstance(value, Iterable) else []


def unique(values: Iterable[str]) -> list[str]:
    """The values without repetitions, in their order."""
    return list(dict.fromkeys(values))


def label_of(key: Any) -> str:
    """A key as words: `frame_duration_s` -> 'Frame duration s', `PatientSize` stays."""
    text = str(key).replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def plain(value: Any) -> str:
    """Any JSON value as one line of text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{label_of(key).lower()}: {plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    return str(value)
