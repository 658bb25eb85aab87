"""The whole benchmark: the chosen parts on one machine, as one result."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from drmc.benchmark.against_oracle import Setting, measure_tiles, measure_training
from drmc.benchmark.measure import matrix_product_ceiling
from drmc.benchmark.parallel import TILES, Body, measure_parallel
from drmc.benchmark.records import Measurements, Result, SettingsRecord
from drmc.benchmark.targets import TILE, verdicts
from drmc.benchmark.whole_scan import measure_scaling, measure_scan
from drmc.benchmark.workload import new_network
from drmc.denoising.finding import find_scan
from drmc.errors import InputError
from drmc.files import jsonable
from drmc.inference.denoiser import Denoiser
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.drmc import NetworkConfig
from drmc.runtime import hardware
from drmc.runtime.arguments import cpu_or_cuda
from drmc.runtime.threads import allowed_cores, torch_threads
from drmc.runtime.usage import versions


def measure(
    parts: Sequence[str],
    *,
    scans: Sequence[Path] = (),
    model: str | None = None,
    device: str = "auto",
    repeats: int = 3,
    edge: int | None = None,
    parallel_tiles: int = TILES,
    notes: Sequence[str] = (),
    report: Callable[[str], None] = lambda text: None,
) -> Result:
    """What `drmc benchmark --json` prints.

    Args:
        parts: of "tile", "training", "scan", "scaling", "parallel".
        scans: for the part "scan".
        model: an installed model or weight file: its sizes of network and tile are measured, and for the scan
            the model itself. None: the paper's network on tiles of 64^3, the default model for the scan.
        device: "auto" (CUDA, else CPU), "cpu" or "cuda".
        repeats: runs of which the median is taken.
        edge: of the tiles and patches in voxels; None: the model's.
        parallel_tiles: tiles of the part "parallel".
        notes: sentences to keep with the result.
        report: called with a line of text as each measurement begins.

    Returns:
        `hardware`, `versions`, `created`, `settings`; by part `tile` and `training_step` (rows), `scans`,
        `scaling` and `parallel` (empty or None for parts that were left out); and `asked`, the verdicts.
        Plain JSON types.

    Raises:
        InputError: scan, model or device cannot be found, or the part "parallel" is not for this device;
            raised before anything is measured.
    """
    device = _check(parts, scans, model, device)
    of_sizes = [part for part in parts if part != "scan"]  # a scan is measured with the model itself
    name, config, tile = _size_of(model if of_sizes else None, edge)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    machine = hardware.describe(device) | {"load_average": load}
    with torch_threads(allowed_cores()):
        # Scans first, while this process holds little memory.
        scan_results = [measure_scan(scan, model, device, report) for scan in scans]
        denoiser = Denoiser(new_network(config), tile, device=device)
        precisions = tuple(dict.fromkeys(("fp32", denoiser.precision)))
        ceilings = {}
        if "tile" in parts:
            report("large matrix product")
            ceilings = {precision: matrix_product_ceiling(precision, device) for precision in precisions}
        setting = Setting(config, tile, device, precisions, repeats, ceilings)
        result: Measurements = {
            "tile": measure_tiles(setting, report) if "tile" in parts else [],
            "training_step": measure_training(setting, report) if "training" in parts else [],
            "scans": scan_results,
            "scaling": measure_scaling(denoiser, repeats, report) if "scaling" in parts else None,
            "parallel": measure_parallel(Body(config, tile, parallel_tiles), report)
            if "parallel" in parts
            else None,
            "hardware": machine,
            "versions": versions(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "settings": _settings(setting, name, torch.get_num_threads(), notes),
        }
    return jsonable({**result, "asked": verdicts(result)})


def _check(parts: Sequence[str], scans: Sequence[Path], model: str | None, device: str) -> str:
    """The device; raises InputError for what cannot be measured."""
    for scan in scans:
        find_scan(scan)
    if scans:
        find_model(model)
    device = cpu_or_cuda(device)[-1]
    if "parallel" in parts and device != "cpu":
        raise InputError("parallel: tiles are computed side by side on a CPU only; use --device cpu")
    return device


def _settings(setting: Setting, model: str | None, threads: int, notes: Sequence[str]) -> SettingsRecord:
    return {
        "model": model,
        "network": setting.config.to_dict(),
        "tile": setting.edge,
        "device": setting.device,
        "threads": threads,
        "repeats": setting.repeats,
        "ceiling_gflop_per_second": setting.ceilings,
        "notes": list(notes),
    }


def _size_of(model: str | None, edge: int | None) -> tuple[str | None, NetworkConfig, int]:
    """The model's name, the size of its network, and the edge of the tiles: `edge`, else the model's.

    Without a model the paper's network and tile.
    """
    if model is None:
        return None, NetworkConfig(), edge or TILE
    entry = find_model(model)
    network, tile = load_network(entry)
    if not isinstance(network.config, NetworkConfig):
        raise InputError(
            f"model {model}: the benchmark has no oracle of networks of kind {network.config.kind}: name "
            "another"
        )
    return entry.name, network.config, edge or tile
