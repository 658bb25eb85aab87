"""How long one patient takes on this machine, and how much memory: `drmc simulate --benchmark`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import drmc
from drmc.runtime import hardware
from drmc.runtime.usage import peak_memory_bytes
from drmc.runtime.workers import run_in_processes
from drmc.simulation.centers import Center
from drmc.simulation.cohort import SCAN_MM, ScanOptions, patient_seed


@dataclass(frozen=True)
class _Run:
    center: Center
    options: ScanOptions
    seed: int
    threads: int


def benchmark(
    centers: Sequence[Center],
    options: Sequence[ScanOptions],
    *,
    seed: int,
    progress: Callable[[float, int, float | None], None] | None = None,
) -> dict[str, Any]:
    """Simulates a patient of every center with each of `options`, each in a fresh process; writes nothing.

    All doses of a patient are simulated together, as a cohort is. Returns `{"hardware", "versions",
    "simulation": [...]}`: per run the seconds (`prepare`: patient and expected counts; `reconstruct`: drawn
    counts and OSEM of all doses), the most main memory [bytes] and, on a GPU, the most of its memory.
    """
    runs = [_Run(c, o, seed, torch.get_num_threads()) for o in options for c in centers]
    rows: list[dict[str, Any]] = []

    def report_share(share: float) -> None:
        if progress is not None:
            progress(len(rows) + min(share, 0.99), len(runs), None)

    for one in runs:
        run_in_processes(
            _measure,
            [one],
            1,
            progress=lambda _, share: report_share(share),
            finished=lambda _, row: rows.append(row),
        )
        report_share(0)
    return {
        "hardware": hardware.describe(options[-1].device),
        "versions": {"drmc": drmc.__version__, "torch": str(torch.__version__)},
        "simulation": rows,
    }


def _measure(run: _Run, progress: Callable[[float], None]) -> dict[str, Any]:
    torch.set_num_threads(run.threads)
    center, options = run.center, run.options
    cuda = options.device.startswith("cuda")
    if cuda:  # the start of the driver is no part of a patient
        torch.zeros(1, device=options.device)
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    first: list[float] = []

    def reached(share: float) -> None:
        if not first:
            first.append(time.monotonic())
        progress(share)

    seed = patient_seed(run.seed, center.name, "train", 1)
    scan = options.scan(center, seed, reached)
    end = time.monotonic()
    between = first[0] if first else end
    whole = options.axial_mm is None or options.axial_mm >= SCAN_MM.get(center.region, math.inf)
    return {
        "center": center.name,
        "scanner": center.scanner,
        "device": options.device,
        "threads": run.threads,
        "axial_mm": None if whole else options.axial_mm,
        "whole_patient": whole,
        "slices": len(scan.full),
        "matrix": center.matrix,
        "dose_reduction_factors": sorted(scan.low),
        "seconds": {"prepare": between - start, "reconstruct": end - between, "total": end - start},
        "peak_memory_bytes": peak_memory_bytes(),
        "gpu_peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }
