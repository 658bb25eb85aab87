"""Forms of the results of an evaluation of organs, as evaluation.json has them."""

from __future__ import annotations

from typing import Any, TypedDict

from drmc.evaluation.organs.scores import ScanScores
from drmc.evaluation.records import Aim

NETWORK, TEMPLATE = "network", "template"


class ScanRecord(TypedDict):
    """What is kept of one image of a patient."""

    scores: ScanScores
    seconds: float
    device: str


class Row(TypedDict):
    """One image of a patient and its scores; those of the template once for each patient."""

    method: str
    center: str
    case: str
    anatomy: str
    tracer: str
    corrected: bool
    dose_reduction_factor: float
    scores: ScanScores


class Spread(TypedDict):
    """Values of several scans."""

    n: int
    mean: float | None
    sd: float | None
    median: float | None
    quartiles: tuple[float, float] | None


class Group(TypedDict):
    """Scans of one anatomy and condition, and of one center, dose or tracer if it is named."""

    method: str
    anatomy: str
    condition: str
    by: str
    """"all", "center", "dose" or "tracer"."""
    value: str
    scans: int
    dice: Spread
    """Of the scans' means over the organs that count."""
    dice_largest: float | None
    side_error: float | None
    found: float | None
    """Share of the organs in the field that were found."""
    invented: float | None
    """Share of the absent organs of which some was found nevertheless."""
    organs: dict[str, dict[str, Any]]


class OrganEvaluation(TypedDict):
    """The content of evaluation.json."""

    task: str
    model: dict[str, str]
    data: str
    version: str
    device: str
    precision: str
    hardware: dict[str, Any]
    patients: dict[str, dict[str, int]]
    known_centers: list[str] | None
    template: dict[str, Any] | None
    sentence: str
    seconds: Spread
    """Of labeling an image."""
    gap: dict[str, float | None]
    groups: list[Group]
    aims: list[Aim]
