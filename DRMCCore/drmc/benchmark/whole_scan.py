"""The parts `scan` and `scaling`: a scan end to end, and what twice the body costs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmc.benchmark.records import ScalingResult, ScanResult
from drmc.denoising.finding import find_scan, scan_name
from drmc.denoising.pipeline import run as denoise_scan
from drmc.denoising.request import DenoiseRequest
from drmc.imaging.geometry import Geometry
from drmc.imaging.resampling import GRID_MM, resample_to_grid
from drmc.inference.denoiser import Denoiser, body_on_grid
from drmc.inference.tiles import halo_width, overlap_width
from drmc.pet.reading import read_volume
from drmc.runtime.workers import run_in_processes

NETWORK_STAGE = "denoise_network"
SLICE_MM = 2 * GRID_MM  # not the grid's own: resampling both ways is part of the time
TISSUE_SUV = 1.0


def measure_scan(scan: Path, model: str | None, device: str, report: Callable[[str], None]) -> ScanResult:
    """Denoises a scan as `drmc denoise` does, in a fresh process, and throws the result away.

    Returns what was denoised (`scan`, `model`, `tiles`, `body_voxels`, ...), `seconds` by stage and in total,
    `shares` of the total, `largest_other_stage` and its share (of all but the network), `cpu_seconds` and
    `peak_memory_bytes` of the process and on a GPU `gpu_peak_memory_bytes`. Raises what
    `drmc.denoising.pipeline.run` raises.
    """
    report(f"scan {scan_name(scan)}, end to end")
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="drmc-benchmark-") as folder:
        request = DenoiseRequest(input=scan, output=Path(folder) / "out", model=model, device=device)
        run_in_processes(
            _denoise,
            [request],
            1,
            progress=lambda *_: None,
            finished=lambda _, summary: done.append(summary),
        )
    (summary,) = done
    seconds = _by_stage(summary["seconds"])
    shares = {stage: taken / seconds["total"] for stage, taken in seconds.items() if stage != "total"}
    others = {stage: share for stage, share in shares.items() if stage != NETWORK_STAGE}
    largest = max(others, key=others.__getitem__)
    body_voxels = summary["body_voxels"]
    computed = summary["tiles"]["count"] * summary["tiles"]["edge"] ** 3
    return {
        "scan": summary["scan"],
        "model": summary["model"],
        "device": summary["device"],
        "precision": summary["precision"],
        "tiles": summary["tiles"],
        "body_voxels": body_voxels,
        "computed_per_body_voxel": computed / body_voxels if body_voxels else None,
        "seconds": seconds,
        "cpu_seconds": summary["cpu_seconds"],
        "shares": shares,
        "network_seconds": seconds[NETWORK_STAGE],
        "largest_other_stage": largest,
        "largest_other_share": others[largest],
        "peak_memory_bytes": summary["peak_memory_bytes"],
        "gpu_peak_memory_bytes": summary["gpu_peak_memory_bytes"],
    }


def _denoise(request: DenoiseRequest, progress: Callable[[float], None]) -> dict[str, Any]:
    began = time.process_time()
    summary = denoise_scan(request, lambda done, total, left: progress(done / total))
    cpu_seconds = time.process_time() - began
    on_gpu = summary["device"].startswith("cuda")
    return {
        **summary,
        "cpu_seconds": cpu_seconds,
        "gpu_peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "body_voxels": _body_voxels(request),
    }


def _body_voxels(request: DenoiseRequest) -> int:
    """Voxels of the scan's body on the network's grid, found as the denoiser finds it."""
    volume = read_volume(find_scan(Path(request.input)))
    suv_zyx, geometry = volume.suv_array(), volume.geometry.rounded()
    return int(np.count_nonzero(body_on_grid(*resample_to_grid(suv_zyx, geometry), suv_zyx, geometry)))


def _by_stage(seconds: dict[str, float]) -> dict[str, float]:
    """The pipeline's clock with `denoise` split into its own stages, and what no stage counts as `other`."""
    parts = {stage: taken for stage, taken in seconds.items() if stage.startswith("denoise_")}
    stages = {stage: taken for stage, taken in seconds.items() if stage not in ("denoise", "total", *parts)}
    stages |= parts
    return {**stages, "other": max(0.0, seconds["total"] - sum(stages.values())), "total": seconds["total"]}


def measure_scaling(
    denoiser: Denoiser, repeats: int, report: Callable[[str], None], tiles: tuple[int, ...] = (8, 16, 32)
) -> ScalingResult:
    """Seconds for a body of twice and four times the length; `largest_ratio` is the worst of the doublings.

    The body is a cylinder of noisy tissue that fills the image from end to end, as long as so many tiles
    reach.
    """
    scans = [synthetic_body(denoiser.tile, count) for count in tiles]
    denoiser.denoise(*scans[0][:2])  # the warm-up
    taken: list[list[float]] = [[] for _ in scans]
    counted = [0] * len(scans)
    for repeat in range(repeats):
        report(f"scaling with the body's volume, round {repeat + 1} of {repeats}")
        for i, (suv_zyx, geometry, _) in enumerate(scans):
            began = time.perf_counter()
            counted[i] = len(denoiser.denoise(suv_zyx, geometry).gates_TLM)
            taken[i].append(time.perf_counter() - began)
    seconds = [statistics.median(times) for times in taken]
    ratios = [later / earlier for earlier, later in pairwise(seconds)]
    return {
        "tile": denoiser.tile,
        "device": denoiser.device_name,
        "precision": denoiser.precision,
        "bodies": [
            {"body_ml": ml, "tiles": count, "seconds": time_}
            for (*_, ml), count, time_ in zip(scans, counted, seconds, strict=True)
        ],
        "ratios": ratios,
        "largest_ratio": max(ratios),
    }


def synthetic_body(tile: int, tiles: int) -> tuple[np.ndarray, Geometry, float]:
    """A cylinder of noisy tissue that takes `tiles` tiles in a row.

    Args:
        tile: edge of a tile in voxels of the network's grid.
        tiles: number of tiles along z.

    Returns:
        SUV, float32 (z, y, x), its geometry, and the volume of the cylinder in ml.
    """
    inner = tile - 2 * halo_width(tile)
    stride = inner - overlap_width(tile)
    # In slices of the image. One stride per tile: more than tiles - 1 of them cover, less than all do.
    slices = round(tiles * stride * GRID_MM / SLICE_MM)
    radius_mm = 0.3 * inner * GRID_MM
    offsets_mm = (np.arange(tile) - (tile - 1) / 2) * SLICE_MM
    inside_yx = np.hypot(offsets_mm[:, None], offsets_mm) < radius_mm
    noise = np.random.default_rng(0).gamma(10.0, TISSUE_SUV / 10.0, (slices, tile, tile))
    suv_zyx = np.where(inside_yx, noise, 0.0).astype(np.float32)
    geometry = Geometry(suv_zyx.shape, (SLICE_MM,) * 3)
    return suv_zyx, geometry, slices * int(inside_yx.sum()) * geometry.voxel_ml
