"""The records of an evaluation: what is stored of each case, and what evaluation.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from drmc.measures.rows import SpotKept, SpotRow, SpotsNoise

# ---- of each case


class CaseRecord(TypedDict):
    """One image of a test patient at one dose."""

    kind: str
    parameters: dict[str, float]
    model_sha256: str | None
    device: str | None
    seconds: float
    metrics: Mapping[str, float | None]
    """None where the store has null: a value that is not finite."""
    lesions: list[dict[str, Any]]
    """As `Pair.lesions` returns them."""
    pictures: dict[str, str] | None
    """Data addresses by view."""


class _RealRecord(TypedDict):
    """What a network changes in a real scan."""

    body_mean_change_percent: float
    lesions: list[dict[str, Any]]
    """Name (`lesion`) and changes of SUVmean, SUVmax and SUVpeak [%]."""
    liver_cov_before: float | None
    """Coefficient of variation in the liver; None where no liver is found, e.g. in a scan of the brain."""
    liver_cov_after: float | None
    seconds: float
    device: str | None
    scan: dict[str, Any]


class RealRecord(_RealRecord, total=False):
    """The same, and where the liver is from: a segmentation, guessed, or none, in words.

    Records of earlier versions do not say it.
    """

    liver_from: str


class RealResult(RealRecord):
    """The same with the name of the method."""

    method: str


class SpotsRecord(TypedDict):
    """What a network keeps of virtual spots in one test patient."""

    each: list[SpotKept]
    """One record for each spot; empty if no spot fits."""
    noise: SpotsNoise | None
    gaussian_fwhm_mm: float | None
    """Of the Gaussian filter that leaves as much noise as the network; None if no filter does."""
    device: str | None
    seconds: float


class CasePictures(TypedDict):
    """The pictures of one patient for the report."""

    center: str
    case: str
    dose_reduction_factor: float
    pictures: Sequence[tuple[str, Mapping[str, str]]]
    """Name of each image, and its pictures by view."""


# ---- of all cases


class Choice(TypedDict):
    """The parameters that were chosen for a filter."""

    parameters: dict[str, float]
    psnr: float
    """Mean over the tuning patients, dB."""
    patients: int
    at_the_end_of: list[str]
    """Parameters whose chosen value is the smallest or largest of more than two: a better may lie beyond."""


class CenterChoice(Choice):
    """The same for one center and dose."""

    center: str
    dose_reduction_factor: float
    filter: str


class Tuning(TypedDict):
    """How filters were tuned."""

    rule: str
    split: str
    gaussian: str
    nlm: str
    chosen: list[CenterChoice]


class Comparison(TypedDict):
    """The reference method against another one, patient by patient."""

    family: str
    metric: str
    group: str
    method: str
    n: int
    """Pairs."""
    different: int
    """Pairs that differ."""
    median_difference: float
    """Reference minus other."""
    mean_difference: float
    p: float
    exact: bool
    smallest_p: float
    """The smallest p that the test can give with so many pairs."""
    p_holm: float
    significant: bool


class Aim(TypedDict):
    """One aim, and whether it was reached."""

    aim: str
    limit: float
    reached: float | None
    """None: not assessed."""
    unit: str
    passed: bool | None
    detail: str


class SpotsSummary(TypedDict):
    """What one method keeps of the virtual spots in all patients of a center, or of a group of centers."""

    group: str
    """A center, `known`, `unknown` or `all`."""
    centers: list[str]
    method: str
    patients: int
    spots: int
    gaussian_fwhm_mm: float | None
    """Mean over the patients."""
    rows: list[SpotRow]


Summary = dict[str, Any]
"""Means of one method, see `Results.summary`: metrics by name."""


class _EvaluationResult(TypedDict):
    model: dict[str, str]
    data: str
    version: str
    reference: str
    methods: list[dict[str, Any]]
    known_centers: list[str] | None
    patients: dict[str, int]
    """Number by center."""
    tuning: Tuning | None
    psnr: str
    tests: list[str]
    device: str
    hardware: dict[str, Any]
    precision: str
    table: list[Summary]
    pooled: list[Summary]
    comparisons: list[Comparison]
    aims: list[Aim]
    real_scans: dict[str, list[RealResult]]


class EvaluationResult(_EvaluationResult, total=False):
    """The content of evaluation.json; what a file of an earlier version lacks comes last."""

    spots: list[SpotsSummary]
    """Empty if the configuration has `"spots": 0`."""
