"""Seconds, processor time, memory, the matrix product's ceiling, and which operations the time goes to."""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drmc.benchmark.records import Operation
from drmc.benchmark.workload import DTYPES, Workload, prepare
from drmc.errors import DRMCError
from drmc.runtime import hardware
from drmc.runtime.usage import peak_memory_bytes
from drmc.runtime.workers import run_in_processes

MATRIX_EDGE = {"cpu": 2048, "cuda": 8192}
OPERATIONS = 8  # listed of a profile
WARM_UP_EDGE = 8  # of the tile that loads a fresh process' libraries


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats."""

    seconds: float
    """Wall-clock time."""
    cpu_seconds: float | None
    """Processor time of all threads; None where a GPU computes."""


def alternate(runs: Mapping[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, Timing]:
    """Times the runs in turn, round after round, so that a machine that slows down slows all of them."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            _wait_for(device)
            began = time.perf_counter(), time.process_time()
            run()
            _wait_for(device)
            taken[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    on_cpu = torch.device(device).type == "cpu"
    medians = {name: map(statistics.median, zip(*pairs, strict=True)) for name, pairs in taken.items()}
    return {name: Timing(clock, cpu if on_cpu else None) for name, (clock, cpu) in medians.items()}


def matrix_product_ceiling(precision: str, device: str, repeats: int = 5) -> float:
    """GFLOP/s of a large matrix product, the best of `repeats`: what no network here can exceed."""
    edge = MATRIX_EDGE[torch.device(device).type]
    left = torch.rand(edge, edge, device=device).to(DTYPES[precision])
    seconds = []
    for _ in range(repeats + 1):  # the first warms up
        _wait_for(device)
        began = time.perf_counter()
        left @ left
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return 2 * edge**3 / min(seconds[1:]) / 1e9


def peak_memory(work: Workload) -> int | None:
    """Bytes that the workload takes at most, above a process (or a GPU) that holds network and input.

    On a CPU the resident set of a fresh process, which allocator and thread pools cannot hide from; None
    where the memory does not suffice.
    """
    if torch.device(work.device).type == "cuda":
        return _peak_on_gpu(work)
    found: list[int] = []
    threads = torch.get_num_threads()
    try:
        run_in_processes(
            _peak_of_process,
            [(work, threads)],
            1,
            progress=lambda *_: None,
            finished=lambda _, peak: found.append(peak),
        )
    except DRMCError:  # the system killed the process
        return None
    return found[0]


def free_memory(device: str) -> int | None:
    """Bytes that are free now; None where the system does not say."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _kibibytes("/proc/meminfo", "MemAvailable") or hardware.memory_bytes()


def profile(run: Callable[[], Any], device: str) -> list[Operation]:
    """The operations of one run that take longest by themselves: `operation`, `seconds`, `share` of all."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        run()
        _wait_for(device)
    microseconds = {
        event.key.removeprefix("aten::"): event.self_device_time_total
        if on_gpu
        else event.self_cpu_time_total
        for event in found.key_averages()
    }
    total = sum(microseconds.values()) or 1
    longest = sorted(microseconds.items(), key=lambda item: -item[1])[:OPERATIONS]
    return [{"operation": name, "seconds": taken / 1e6, "share": taken / total} for name, taken in longest]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Distance of `found` from `expected` in the Euclidean norm, as a share of that of `expected`."""
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm())


def _wait_for(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _peak_on_gpu(work: Workload) -> int | None:
    _, run = prepare(work)
    try:
        run()
        _wait_for(work.device)
        before = torch.cuda.memory_allocated(work.device)
        torch.cuda.reset_peak_memory_stats(work.device)
        run()
        return torch.cuda.max_memory_allocated(work.device) - before
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        torch.cuda.empty_cache()


def _peak_of_process(task: tuple[Workload, int], progress: Callable[[float], None]) -> int:
    work, threads = task
    torch.set_num_threads(threads)
    prepare(work.of_edge(min(work.edge, WARM_UP_EDGE)))[1]()
    _, run = prepare(work)
    with contextlib.suppress(OSError):  # Linux: the peak so far is forgotten
        Path("/proc/self/clear_refs").write_text("5")
    before = _kibibytes("/proc/self/status", "VmRSS") or peak_memory_bytes()
    run()
    return max(0, peak_memory_bytes() - before)


def _kibibytes(path: str, key: str) -> int | None:
    """Bytes of a line `key: N kB` of one of Linux' tables."""
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", Path(path).read_text(), re.M)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
