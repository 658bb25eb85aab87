"""What a model of organs is meant to reach, and what it reached on simulated patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drmc.evaluation.organs.cases import LABEL_MAP, PROCEDURAL
from drmc.evaluation.organs.groups import ALL, CENTER, CONDITIONS, TRACER
from drmc.evaluation.organs.records import NETWORK, Group
from drmc.evaluation.records import Aim
from drmc.evaluation.tables import number

DICE = {"corrected_full": 0.82, "corrected_low": 0.80, "uncorrected_full": 0.75, "uncorrected_low": 0.75}
"""Mean Dice of the 23 organs on unseen simulated patients of every center."""
TRACERS = 0.70
"""The same of every tracer but FDG, corrected for attenuation."""
SHAPES = {"corrected_full": 0.75, "uncorrected_low": 0.65}
"""The same on label maps."""
SIDE_ERROR = 1e-3
INVENTED = 0.05
_DIGITS = 3


def aims(found: Sequence[Group]) -> list[Aim]:
    """Whether each aim was reached; where one is about every center or tracer, the lowest counts."""
    own = [one for one in found if one["method"] == NETWORK]
    at_least = lambda limit: lambda value: value >= limit
    result = []
    for condition in CONDITIONS:
        parts = _of(own, PROCEDURAL, CENTER, condition)
        text = f"mean Dice of every center, {words(condition)}, at least {DICE[condition]:g}"
        result.append(_aim(text, DICE[condition], _dice(parts), min, at_least(DICE[condition])))
    tracers = [one for c in CONDITIONS[:2] for one in _of(own, PROCEDURAL, TRACER, c)]
    tracers = [one for one in tracers if not one["value"].startswith("FDG")]
    text = f"mean Dice of every tracer but FDG, corrected, at least {TRACERS:g}"
    result.append(_aim(text, TRACERS, _dice(tracers), min, at_least(TRACERS)))
    for condition, limit in SHAPES.items():
        parts = _of(own, LABEL_MAP, ALL, condition)
        text = f"mean Dice on label maps, {words(condition)}, at least {limit:g}"
        result.append(_aim(text, limit, _dice(parts), min, at_least(limit)))
    every = [one for c in CONDITIONS for a in (PROCEDURAL, LABEL_MAP) for one in _of(own, a, ALL, c)]
    for text, key, limit in (
        (
            f"share of paired organs labeled as the other side, below {SIDE_ERROR:g}",
            "side_error",
            SIDE_ERROR,
        ),
        (f"share of the absent organs that were invented, at most {INVENTED:g}", "invented", INVENTED),
    ):
        values = {f"{one['anatomy']}, {words(one['condition'])}": one[key] for one in every}  # type: ignore[literal-required]
        below = lambda value, limit=limit, key=key: value < limit if key == "side_error" else value <= limit
        result.append(_aim(text, limit, values, max, below))
    return result


def words(condition: str) -> str:
    """A condition for people."""
    correction, dose = condition.split("_")
    return f"{correction}, {dose} dose"


def _of(found: Sequence[Group], anatomy: str, by: str, condition: str) -> list[Group]:
    return [g for g in found if (g["anatomy"], g["by"], g["condition"]) == (anatomy, by, condition)]


def _dice(parts: Sequence[Group]) -> dict[str, float | None]:
    several = len({one["condition"] for one in parts}) > 1
    return {
        (one["value"] or "all") + f" ({words(one['condition'])})" * several: one["dice"]["mean"]
        for one in parts
    }


def _aim(
    text: str,
    limit: float,
    values: dict[str, float | None],
    worst: Callable[..., float],
    passes: Callable[[float], bool],
) -> Aim:
    defined = {name: value for name, value in values.items() if value is not None}
    reached = worst(defined.values()) if defined else None
    detail = "; ".join(f"{name} {number(value, _DIGITS)}" for name, value in defined.items())
    return {
        "aim": text,
        "limit": limit,
        "reached": reached,
        "unit": "",
        "passed": None if reached is None else bool(passes(reached)),
        "detail": detail or "nothing to measure it on",
    }
