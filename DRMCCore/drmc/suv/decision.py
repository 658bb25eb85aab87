"""The SUV decision: how stored values become SUV, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict


class Candidate(TypedDict):
    """A reference time that the header allows.

    `time`: ISO; `difference_percent`: of the SUV, against the chosen one; `note`: why it is not plausible.
    """

    rule: str
    time: str | None
    difference_percent: float | None
    plausible: bool
    note: str


class SUVRecord(TypedDict):
    """An SUVDecision in plain JSON values, as in summary.json."""

    factor: float
    type: str
    rule: str
    source: str
    factor_per_slice: list[float] | None
    reference_time: str | None
    candidates: list[Candidate]
    notices: list[str]
    warnings: list[str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class SUVDecision:
    """How stored values become SUV, and why.

    `factor`: SUV per stored (rescaled) unit; the mean over the slices if there is a `factor_per_slice`.
    `type`: "SUVbw" and so on. `rule`: name of the rule; `source`: the tags that it uses. `reference_time`:
    the ISO time to which the activity is corrected, if the rule needs one (only a time of day if the header
    has no dates). `candidates`: every reference time found. `notices`: what was corrected or assumed.
    `warnings`: what may change the numbers. `facts`: the values behind the decision.
    """

    factor: float
    type: str = "SUVbw"
    rule: str = "declared"
    source: str = ""
    factor_per_slice: tuple[float, ...] | None = None
    reference_time: str | None = None
    candidates: list[Candidate] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> SUVRecord:
        """Everything as plain JSON values."""
        return {
            "factor": self.factor,
            "type": self.type,
            "rule": self.rule,
            "source": self.source,
            "factor_per_slice": None if self.factor_per_slice is None else list(self.factor_per_slice),
            "reference_time": self.reference_time,
            "candidates": [candidate.copy() for candidate in self.candidates],
            "notices": list(self.notices),
            "warnings": list(self.warnings),
            "facts": dict(self.facts),
        }
