"""Performance targets, and whether a result meets them."""

from __future__ import annotations

from collections.abc import Iterator

from drmc.benchmark.records import Measurements, ScanResult, TileRow, TrainingRow, Verdict
from drmc.networks.drmc import NetworkConfig

TILE = 64  # edge in voxels: targets of ratios are for the paper's network and tile
TILE_RATIO = {  # (device, precision, whether all gates are open): times as fast as the oracle in float32
    ("cpu", "fp32", True): 6.0,
    ("cpu", "bf16", True): 11.0,
    ("cpu", "fp32", False): 13.0,
    ("cpu", "bf16", False): 20.0,
}
RIVAL_RATIO = 1.0  # in CPU seconds, on any network
GPU_RATIO_BF16 = 8.0  # all gates open, against the oracle in the same precision
TILE_MEMORY = 1 / 3  # of the oracle's
TRAINING_RATIO, TRAINING_MEMORY = 2.5, 0.5
OTHER_STAGE = 0.25  # of a scan's whole time
SCAN = {  # device: seconds, in all or for a million voxels of body, the network's seconds, bytes of memory
    "cpu": {"per_body": 3.3, "memory": 1.5e9},  # 25 s for the 7.6 million of the GE scan
    "cuda": {"total": 15.0, "network": 3.0},
}
DOUBLING = 2.1

Target = tuple[str, str, float, float | None, str]  # what, bound, target, measured, unit


def verdicts(result: Measurements) -> list[Verdict]:
    """The targets that a result can be compared with, and whether it meets them.

    Args:
        result: the whole result of the benchmark. Tiles count only where they are of 64^3, ratios to the
            oracle and training only for the paper's network.

    Returns:
        Per target `what`, `bound` ("at least" or "at most"), `asked`, `measured`, `unit` and `reached`.
    """
    return [
        {
            "what": what,
            "bound": bound,
            "asked": target,
            "measured": measured,
            "unit": unit,
            "reached": measured >= target if bound == "at least" else measured <= target,
        }
        for what, bound, target, measured, unit in _targets(result)
        if measured is not None
    ]


def _targets(result: Measurements) -> Iterator[Target]:
    device = result["settings"]["device"].partition(":")[0]
    if result["settings"]["network"] == NetworkConfig().to_dict():
        yield from _of_tiles(result["tile"], device)
        yield from _of_rivals(result["tile"], "tile")
        yield from _of_training(result["training_step"])
    else:
        yield from _of_rivals(result["tile"], f"tile of {result['settings']['model']}")
    for scan in result["scans"]:
        yield from _of_scan(scan)
    if scaling := result["scaling"]:
        yield "seconds for twice the body", "at most", DOUBLING, scaling["largest_ratio"], "times"


def _of_tiles(rows: list[TileRow], device: str) -> Iterator[Target]:
    for row in rows:
        if row["tile"] != TILE:
            continue
        name = f"tile, {row['precision']}, {row['open_gates']} of {row['experts']} gates open"
        all_open = row["open_gates"] == row["experts"]
        target = TILE_RATIO.get((device, row["precision"], all_open))
        if target is not None:
            yield f"{name}: speed", "at least", target, row["ratio"], "times"
        if device == "cuda" and row["precision"] == "bf16" and all_open:
            yield f"{name}: speed", "at least", GPU_RATIO_BF16, row.get("ratio_same_precision"), "times"
        yield f"{name}: memory", "at most", TILE_MEMORY, row["memory_ratio"], "of the oracle"


def _of_rivals(rows: list[TileRow], what: str) -> Iterator[Target]:
    for row in rows:
        for rival in row["rivals"] if row["tile"] == TILE else ():
            name = f"{what}, {row['precision']}, {row['open_gates']} of {row['experts']} gates open"
            yield (
                f"{name}: faster than {rival['name']}, CPU seconds",
                "at least",
                RIVAL_RATIO,
                rival["cpu_ratio"],
                "times",
            )


def _of_scan(scan: ScanResult) -> Iterator[Target]:
    bounds = SCAN.get(scan["device"].partition(":")[0], {})
    name = f"scan {scan['scan']}"
    largest = scan["largest_other_stage"].removeprefix("denoise_").replace("_", " ")
    if "total" in bounds:
        yield f"{name}: end to end", "at most", bounds["total"], scan["seconds"]["total"], "s"
    if "per_body" in bounds and scan["body_voxels"]:
        taken = scan["seconds"]["total"] / scan["body_voxels"] * 1e6
        yield f"{name}: end to end, a million voxels of body", "at most", bounds["per_body"], taken, "s"
    if "network" in bounds:
        yield f"{name}: network", "at most", bounds["network"], scan["network_seconds"], "s"
    if "memory" in bounds:
        yield f"{name}: peak memory", "at most", bounds["memory"], scan["peak_memory_bytes"], "bytes"
    what = f"{name}: largest stage but the network ({largest})"
    yield what, "at most", OTHER_STAGE, scan["largest_other_share"], "share"


def _of_training(rows: list[TrainingRow]) -> Iterator[Target]:
    for row in rows:
        if row["patch"] == TILE:
            name = f"training step, {row['precision']}, {row['blocks']} blocks"
            yield f"{name}: speed", "at least", TRAINING_RATIO, row["ratio"], "times"
            yield f"{name}: memory", "at most", TRAINING_MEMORY, row["memory_ratio"], "of the oracle"
