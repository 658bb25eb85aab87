"""The rows of the lesion table and of the routing table: the columns of lesions.csv and routing.csv.

Programs read these keys, also in summary.json and `drmc quantify --json`: keys may be added, none renamed.
Volumes are in ml, SUV in g/ml, TLG in SUV x ml, positions in mm (LPS), changes in percent. A number that is
not defined is None, and an empty cell in the file. The rules behind the numbers: drmc.measures.lesions, mtv,
intervals, sul and routing.
"""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

Stage = Literal["original", "denoised", "reference", "change_percent"]
Quantity = Literal[
    "volume_ml", "suv_min", "suv_mean", "suv_median", "suv_max", "suv_peak", "mtv41_ml", "tlg41"
]
Position = Literal["suv_max_x_mm", "suv_max_y_mm", "suv_max_z_mm"]
Threshold = Literal[
    "mtv_suv25_ml",
    "tlg_suv25",
    "mtv_suv40_ml",
    "tlg_suv40",
    "mtv41_original_ml",
    "percist_threshold",
    "mtv_percist_ml",
    "tlg_percist",
]
IntervalBound = Literal[
    "suv_mean_interval90_low",
    "suv_mean_interval90_high",
    "suv_peak_interval90_low",
    "suv_peak_interval90_high",
    "suv_max_interval90_low",
    "suv_max_interval90_high",
]
LeanNumber = Literal["sul_mean", "sul_max", "sul_peak"]
LesionNumber = Literal[Quantity, Position, Threshold, IntervalBound, LeanNumber]
Bank = Literal["attention", "ffn"]
SpotShare = Literal["mean_kept", "mean_kept_low", "peak_kept", "gaussian_mean_kept", "gaussian_peak_kept"]
GateNumber = Literal["mean_gate", "sd_gate", "closed_fraction", "top1_fraction"]

STAGES: tuple[Stage, ...] = get_args(Stage)
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
POSITION: tuple[Position, ...] = get_args(Position)
THRESHOLDS: tuple[Threshold, ...] = get_args(Threshold)
INTERVAL_BOUNDS: tuple[IntervalBound, ...] = get_args(IntervalBound)
INTERVAL_OF: dict[LesionNumber, tuple[IntervalBound, IntervalBound]] = {
    "suv_mean": ("suv_mean_interval90_low", "suv_mean_interval90_high"),
    "suv_peak": ("suv_peak_interval90_low", "suv_peak_interval90_high"),
    "suv_max": ("suv_max_interval90_low", "suv_max_interval90_high"),
}
LEAN_NUMBERS: tuple[LeanNumber, ...] = get_args(LeanNumber)
SUL_OF: dict[Quantity, LeanNumber] = {"suv_mean": "sul_mean", "suv_max": "sul_max", "suv_peak": "sul_peak"}
BANKS: tuple[Bank, ...] = get_args(Bank)
LOWERED_PERCENT = 15.0  # least decrease of a lowered focus
LEAST_KEPT = 0.8  # fraction of a virtual spot's 1 ml mean; less is a warning
SPOT_SHARES: tuple[SpotShare, ...] = get_args(SpotShare)
GATE_NUMBERS: tuple[GateNumber, ...] = get_args(GateNumber)


class RowKey(TypedDict):
    """The key of a row; the stage "change_percent" has 100 (denoised - original) / original."""

    scan: str
    segment: str
    stage: Stage


class SegmentNumbers(TypedDict):
    """The numbers of one segment on one image, without the volumes by other thresholds."""

    volume_ml: float | None
    suv_min: float | None
    suv_mean: float | None
    suv_median: float | None
    suv_max: float | None
    suv_peak: float | None
    mtv41_ml: float | None
    tlg41: float | None


class MaximumPosition(TypedDict):
    """The center of the voxel with the SUVmax; None in a row of changes."""

    suv_max_x_mm: float | None
    suv_max_y_mm: float | None
    suv_max_z_mm: float | None


class ThresholdVolumes(TypedDict):
    """Volumes by thresholds that do not follow the image, and PERCIST's threshold [SUV]."""

    mtv_suv25_ml: float | None
    tlg_suv25: float | None
    mtv_suv40_ml: float | None
    tlg_suv40: float | None
    mtv41_original_ml: float | None
    percist_threshold: float | None
    mtv_percist_ml: float | None
    tlg_percist: float | None


class FullDoseIntervals(TypedDict):
    """90 % intervals of what full dose would have shown (drmc.measures.intervals) [SUV].

    Only in rows of the stage "denoised", and only if the model is calibrated; `interval_note` says why a
    calibrated model states none.
    """

    suv_mean_interval90_low: float | None
    suv_mean_interval90_high: float | None
    suv_peak_interval90_low: float | None
    suv_peak_interval90_high: float | None
    suv_max_interval90_low: float | None
    suv_max_interval90_high: float | None
    interval_note: str | None


class LeanNumbers(TypedDict):
    """The same by lean body mass (drmc.suv.lean) [SUL, g/ml]; `sul_note` says why they are not known."""

    sul_mean: float | None
    sul_max: float | None
    sul_peak: float | None
    sul_note: str | None


class SUVColumns(TypedDict):
    """The SUV decision behind a row: its rule, factor and warnings."""

    suv_rule: str
    suv_factor: float
    suv_warnings: str


class LesionRow(RowKey, SegmentNumbers, MaximumPosition, ThresholdVolumes, FullDoseIntervals, LeanNumbers):
    """A row of the lesion table: one segment at one stage."""


class LesionFileRow(
    RowKey, SegmentNumbers, MaximumPosition, SUVColumns, ThresholdVolumes, FullDoseIntervals, LeanNumbers
):
    """A row of lesions.csv; new columns come behind those that were there before."""


class RoutingRow(TypedDict):
    """A row of the routing table: one expert in one bank of one block, block and expert counted from 1."""

    block: int
    bank: Bank
    expert: int
    mean_gate: float | None
    sd_gate: float | None
    closed_fraction: float | None
    top1_fraction: float | None


class LoweredFocus(TypedDict):
    """A focus that denoising lowered by more than noise explains (drmc.measures.foci).

    Its maximum in the original, its means over 1 ml before and after, and how far the change is beyond that
    of the tissue around. `rank` and `slice` (along the image's third axis) are counted from 1; `segment`: the
    lesion that the sphere of 1 ml touches, if any.
    """

    rank: int
    x_mm: float
    y_mm: float
    z_mm: float
    slice: int
    suv_before: float
    suv_after: float
    change_percent: float
    sigmas: float
    segment: str | None


class LoweredFoci(TypedDict):
    """The lowered foci, most sigmas first: `count` of all, and the first of them.

    `candidates`: local maxima in the body; `limit_sigmas`: what a focus must exceed, None without candidates.
    """

    count: int
    foci: list[LoweredFocus]
    candidates: int
    limit_sigmas: float | None


class SpotKept(TypedDict):
    """What denoising keeps of one virtual spot: fractions of its 1 ml mean and of its peak; 1 is all.

    `gaussian_*`: the same after the Gaussian filter that leaves as much noise; None if no filter does.
    """

    diameter_mm: float
    peak_suv: float
    mean_kept: float
    peak_kept: float
    gaussian_mean_kept: float | None
    gaussian_peak_kept: float | None


class SpotRow(SpotKept):
    """Means over all virtual spots of one diameter and peak, and their number.

    `mean_kept_low`: the tenth percentile of `mean_kept`; `warning`: `mean_kept` is below LEAST_KEPT.
    """

    spots: int
    mean_kept_low: float
    warning: bool


class SpotsNoise(TypedDict):
    """Noise of an image by its stage [SUV]."""

    scan: float
    denoised: float


class SpotsTable(TypedDict):
    """The virtual spots of a scan (drmc.measures.spots): a row for each diameter and peak.

    `spots`: count; `resolution_mm`: FWHM that blurs them; `strength` of the residual; `seed` of their places;
    `gaussian_fwhm_mm`: of the filter that leaves as much noise as denoising, None if none does.
    """

    spots: int
    resolution_mm: float
    strength: float
    seed: int
    noise: SpotsNoise
    gaussian_fwhm_mm: float | None
    rows: list[SpotRow]


LESION_COLUMNS = tuple(LesionRow.__annotations__)
SUV_COLUMNS = tuple(SUVColumns.__annotations__)
LESION_FILE_COLUMNS = tuple(LesionFileRow.__annotations__)
ROUTING_COLUMNS = tuple(RoutingRow.__annotations__)
