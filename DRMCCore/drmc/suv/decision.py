"""How stored values become SUV, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SUVDecision:
    """How stored values become SUV, and why.

    `factor`: SUV per stored (rescaled) unit; the mean over the slices where `factor_per_slice` is given.
    `type`: "SUVbw" and so on. `rule`: name of the rule; `source`: the tags it rests on. `reference_time`: ISO
    time the activity is corrected to, where one was needed (a time of day alone where the header has no
    dates). `candidates`: every reference time found, as dicts with `rule`, `time`, `difference_percent` (of
    the SUV, against the choice), `plausible`, `note`. `notices`: what was fixed or assumed. `warnings`: what
    may change the numbers. `facts`: what the decision rests on.
    """

    factor: float
    type: str = "SUVbw"
    rule: str = "declared"
    source: str = ""
    factor_per_slice: tuple[float, ...] | None = None
    reference_time: str | None = None
    candidates: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "factor": self.factor,
            "type": self.type,
            "rule": self.rule,
            "source": self.source,
            "factor_per_slice": None if self.factor_per_slice is None else list(self.factor_per_slice),
            "reference_time": self.reference_time,
            "candidates": [dict(c) for c in self.candidates],
            "notices": list(self.notices),
            "warnings": list(self.warnings),
            "facts": dict(self.facts),
        }
