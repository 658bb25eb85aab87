"""Numbers and values as plain text for people; callers escape it for HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np


def number(value: Any, digits: int, *, sign: bool = False, fixed: bool = False, absent: str = "–") -> str:
    """A number with fixed decimals and a typographic minus sign.

    Args:
        value: the value; what is not a number becomes `absent`.
        digits: digits behind the decimal point.
        sign: whether positive numbers get a plus sign.
        fixed: whether small values become 0; otherwise they keep two significant digits.
        absent: text without a number.
    """
    if not is_number(value):
        return "∞" if value == math.inf else absent
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        keep = digits and value and not fixed
        text = (f"{value:+.2g}" if sign else f"{value:.2g}") if keep else text.lstrip("+-")
    return text.replace("-", "−")


def percent(value: Any, *, digits: int = 1, sign: bool = True, absent: str = "–") -> str:
    """A percentage with its sign; `absent` if the value is not a number."""
    return f"{number(value, digits, sign=sign, fixed=True)} %" if is_number(value) else absent


def share(fraction: float | None, limit: float, *, absent: str = "–") -> str:
    """A fraction as a whole percentage, with a decimal where one below `limit` would show as the limit."""
    if fraction is None:
        return absent
    digits = int(fraction < limit <= round(fraction, 2))
    value = math.floor(1000 * fraction) / 10 if digits else 100 * fraction
    return percent(value, digits=digits, sign=False)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number; booleans are not."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def strings(value: Any) -> list[str]:
    """Messages as a list, from one string, several, or None."""
    if isinstance(value, str):
        return [value]
    return [plain(item) for item in value] if isinstance(value, Iterable) else []


def unique(values: Iterable[str]) -> list[str]:
    """The values without repetitions, in their order."""
    return list(dict.fromkeys(values))


def label_of(key: Any) -> str:
    """A key as words: `frame_duration_s` becomes 'Frame duration s', `PatientSize` stays."""
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
