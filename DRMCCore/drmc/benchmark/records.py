"""The result of a benchmark, as `drmc benchmark --json` prints it."""

from __future__ import annotations

from typing import Any, TypedDict


class Operation(TypedDict):
    """An operation of the profile of one run."""

    operation: str
    seconds: float
    share: float
    """Of the time of all operations."""


class Compared(TypedDict):
    """Times of the engine and the oracle; None where there is no oracle, or no processor time on a GPU."""

    seconds: float
    oracle_seconds: float | None
    ratio: float | None
    cpu_seconds: float | None
    oracle_cpu_seconds: float | None
    cpu_ratio: float | None


class Memories(TypedDict):
    """Peak memory of the engine and the oracle; None where the memory does not suffice."""

    peak_memory_bytes: int | None
    oracle_peak_memory_bytes: int | None
    memory_ratio: float | None


class SamePrecision(TypedDict, total=False):
    """The oracle in the precision of the row, where that is not float32."""

    oracle_same_precision_seconds: float
    ratio_same_precision: float


class RivalTime(TypedDict):
    """Another library on the oracle's graph in float32; its times are None where there is a `problem`."""

    name: str
    version: str | None
    """None where it is not installed."""
    problem: str | None
    seconds: float | None
    cpu_seconds: float | None
    ratio: float | None
    """How many times as fast the engine is."""
    cpu_ratio: float | None
    relative_error: float | None
    """Of the residual, as for the engine."""


class TileRow(Compared, Memories, SamePrecision):
    """One tile through the network, in one precision and with one number of open gates."""

    precision: str
    open_gates: int
    experts: int
    tile: int
    """Edge in voxels."""
    relative_error: float
    """Of the residual, against the oracle in float64, in the Euclidean norm."""
    rivals: list[RivalTime]
    """Empty where the row is not of a CPU in float32."""
    operations: list[Operation]
    gflop_per_second: float
    ceiling_share: float
    """Of a large matrix product."""


class TrainingRow(Compared, Memories):
    """One training step on one patch."""

    precision: str
    patch: int
    """Edge in voxels."""
    blocks: int
    relative_error: float | None
    """Of all gradients, against the oracle in the same precision."""
    operations: list[Operation]


class ScanResult(TypedDict):
    """A scan denoised end to end."""

    scan: str
    model: dict[str, Any]
    device: str
    precision: str
    tiles: dict[str, Any]
    body_voxels: int
    """Of the network's grid."""
    computed_per_body_voxel: float | None
    """Voxels of all tiles over those of the body; None without a body."""
    seconds: dict[str, float]
    """By stage, and `total`."""
    cpu_seconds: float
    shares: dict[str, float]
    network_seconds: float
    largest_other_stage: str
    """The longest stage but the network."""
    largest_other_share: float
    peak_memory_bytes: int
    gpu_peak_memory_bytes: int | None


class BodyTime(TypedDict):
    """Time for a body of one size."""

    body_ml: float
    tiles: int
    seconds: float


class ScalingResult(TypedDict):
    """Time against the volume of the body."""

    tile: int
    device: str
    precision: str
    bodies: list[BodyTime]
    ratios: list[float]
    """Of each doubling."""
    largest_ratio: float


class ParallelRow(TypedDict):
    """The tiles of one scan, so many at once."""

    at_once: int
    threads: int
    """In each tile."""
    busy_processes: int
    """That were started beside it."""
    seconds: float
    seconds_per_tile: float
    cpu_seconds: float
    same_bits: bool
    """Whether the residuals are bit by bit those of one tile at a time in one thread."""


class ParallelResult(TypedDict):
    """The tiles of one scan computed side by side on a CPU."""

    tile: int
    """Edge in voxels."""
    tiles: int
    precision: str
    rows: list[ParallelRow]


class SettingsRecord(TypedDict):
    """What was measured, and how."""

    model: str | None
    """Whose sizes of network and tile are measured; None: the paper's."""
    network: dict[str, Any]
    tile: int
    device: str
    threads: int
    repeats: int
    ceiling_gflop_per_second: dict[str, float]
    notes: list[str]


class Measurements(TypedDict):
    """What was measured; parts that were left out are empty or None."""

    tile: list[TileRow]
    training_step: list[TrainingRow]
    scans: list[ScanResult]
    scaling: ScalingResult | None
    parallel: ParallelResult | None
    hardware: dict[str, Any]
    versions: dict[str, str]
    created: str
    settings: SettingsRecord


class Verdict(TypedDict):
    """One target, and whether the result meets it."""

    what: str
    bound: str
    """ "at least" or "at most"."""
    asked: float
    measured: float
    unit: str
    reached: bool


class Result(Measurements):
    """Measurements and verdicts."""

    asked: list[Verdict]
