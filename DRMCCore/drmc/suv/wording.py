"""An SUV decision as text for every output with an SUV: factor and rule in one line, and warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SEPARATOR = " | "  # between warnings in one cell of a table


def one_line(decision: Mapping[str, Any], units: str) -> str:
    """Type, factor and rule, such as "SUVbw = BQML value x 0.00027634, rule ST".

    Args:
        decision: as `SUVDecision.to_dict`.
        units: the units of the stored values.
    """
    per_slice = decision.get("factor_per_slice")
    factor = f"{decision['factor']:.6g}"
    if per_slice:
        factor = f"{min(per_slice):.6g} to {max(per_slice):.6g} by slice"
    return f"{decision['type']} = {units} value x {factor}, rule {decision['rule']}"


def warning_lines(decision: Mapping[str, Any], whose: str = "") -> list[str]:
    """The warnings, each prefixed with the name of its image, `whose`, if there are several images."""
    return [f"{whose}: {text}" if whose else str(text) for text in decision.get("warnings") or ()]


def cell(texts: Iterable[str]) -> str:
    """Warnings in one cell of a table; empty without any."""
    return SEPARATOR.join(" ".join(str(text).split()) for text in texts)


def columns(decision: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rule, factor and warnings as cells of a table (the mean factor if it differs between slices)."""
    return str(decision["rule"]), repr(float(decision["factor"])), cell(decision.get("warnings") or ())


def chosen(decision: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a decision for the JSON of a measurement."""
    keys = ("factor", "factor_per_slice", "type", "rule", "source", "notices", "warnings")
    return {key: decision[key] for key in keys}
