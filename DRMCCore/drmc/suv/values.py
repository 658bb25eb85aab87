"""Values of a header or a side-car as text and numbers."""

from __future__ import annotations

import math
import re
from typing import Any


def as_text(value: Any) -> str:
    """A header value, or the only item of a list, as a stripped string; "" if absent."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            return "\\".join(as_text(v) for v in value)
        return as_text(value[0])
    return str(value).strip(" \t\r\n\0")


def printable_line(value: Any) -> str:
    """A text from a file as one printable line."""
    return "".join(c if c.isprintable() else " " for c in str(value))[:500]


def number_of(value: Any) -> float | None:
    """A value of a header or a side-car as a finite number; None if it is absent or not a finite number."""
    if isinstance(value, bool):
        return None
    text = as_text(value)
    # Python accepts "1_000", "infinity" and digits of other scripts as numbers; DICOM does not.
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def quoted(value: Any) -> str:
    """A header value for a message: one short printable line."""
    text = "".join(c if c.isprintable() else "?" for c in as_text(value))
    return "'" + (text if len(text) <= 40 else text[:37] + "...") + "'"
