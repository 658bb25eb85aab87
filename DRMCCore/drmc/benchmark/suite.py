"""The whole benchmark: the chosen parts on one machine, as one result."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from drmc.benchmark.against_oracle import Setting, measure_tiles, measure_training
from drmc.benchmark.measure import matrix_product_ceiling
from drmc.benchmark.records import (
    Measurements,
    Result,
    ScalingResult,
    ScanResult,
    SettingsRecord,
    TileRow,
    TrainingRow,
)
from drmc.benchmark.targets import TILE, verdicts
from drmc.benchmark.whole_scan import measure_scaling, measure_scan
from drmc.benchmark.workload import new_network
from drmc.denoising.finding import find_scan
from drmc.errors import InputError
from drmc.files import jsonable
from drmc.inference.denoiser import Denoiser
from drmc.inference.device import on_physical_cores
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.drmc import NetworkConfig
from drmc.runtime import hardware
from drmc.runtime.arguments import cpu_or_cuda
from drmc.runtime.usage import versions


def measure(
    parts: Sequence[str],
    *,
    scan: Path | None = None,
    model: str | None = None,
    device: str = "auto",
    repeats: int = 3,
    edge: int | None = None,
    notes: Sequence[str] = (),
    report: Callable[[str], None] = lambda text: None,
) -> Result:
    """What `drmc benchmark --json` prints.

    Args:
        parts: of "tile", "training", "scan", "scaling".
        scan: for the part "scan".
        model: an installed model or weight file: its sizes of network and tile are measured, and for the scan
            the model itself. None: the paper's network on tiles of 64^3, the default model for the scan.
        device: "auto" (CUDA, else CPU), "cpu" or "cuda".
        repeats: runs of which the median is taken.
        edge: of the tiles and patches in voxels; None: the model's.
        notes: sentences to keep with the result.
        report: called with a line of text as each measurement begins.

    Returns:
        `hardware`, `versions`, `created`, `settings`; by part `tile` and `training_step` (rows), `scan` and
        `scaling` (empty or None for parts that were left out); and `asked`, the verdicts. Plain JSON types.

    Raises:
        InputError: scan, model or device cannot be found; raised before anything is measured.
    """
    if scan is not None:
        find_scan(scan)
        find_model(model)
    device = cpu_or_cuda(device)[-1]
    config, tile = _size_of(model, edge)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    machine = hardware.describe(device) | {"load_average": load}
    tiles: list[TileRow] = []
    steps: list[TrainingRow] = []
    scan_result: ScanResult | None = None
    scaling: ScalingResult | None = None
    with on_physical_cores():
        if "scan" in parts and scan is not None:  # first, while this process holds little memory
            scan_result = measure_scan(scan, model, device, report)
        denoiser = Denoiser(new_network(config), tile, device=device)
        precisions = tuple(dict.fromkeys(("fp32", denoiser.precision)))
        ceilings = {}
        if "tile" in parts:
            report("large matrix product")
            ceilings = {precision: matrix_product_ceiling(precision, device) for precision in precisions}
        setting = Setting(config, tile, device, precisions, repeats, ceilings)
        if "tile" in parts:
            tiles = measure_tiles(setting, report)
        if "training" in parts:
            steps = measure_training(setting, report)
        if "scaling" in parts:
            scaling = measure_scaling(denoiser, repeats, report)
        threads = torch.get_num_threads()
    result: Measurements = {
        "tile": tiles,
        "training_step": steps,
        "scan": scan_result,
        "scaling": scaling,
        "hardware": machine,
        "versions": versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": _settings(setting, threads, notes),
    }
    return jsonable({**result, "asked": verdicts(result)})


def _settings(setting: Setting, threads: int, notes: Sequence[str]) -> SettingsRecord:
    return {
        "network": setting.config.to_dict(),
        "tile": setting.edge,
        "device": setting.device,
        "threads": threads,
        "repeats": setting.repeats,
        "ceiling_gflop_per_second": setting.ceilings,
        "notes": list(notes),
    }


def _size_of(model: str | None, edge: int | None) -> tuple[NetworkConfig, int]:
    """The size of the network and the edge of its tiles: `edge`, else the model's, else the paper's."""
    if model is None:
        return NetworkConfig(), edge or TILE
    network, tile = load_network(find_model(model))
    if not isinstance(network.config, NetworkConfig):
        raise InputError(
            f"model {model}: the benchmark has no oracle of networks of kind {network.config.kind}: name "
            "another"
        )
    return network.config, edge or tile
