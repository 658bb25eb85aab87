"""The part `parallel`: the tiles of a scan side by side on a CPU, quiet and beside busy processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from drmc.benchmark.busy import busy_processes
from drmc.benchmark.records import ParallelResult, ParallelRow
from drmc.benchmark.whole_scan import synthetic_body
from drmc.benchmark.workload import new_network
from drmc.errors import DRMCError
from drmc.imaging.resampling import resample_to_grid
from drmc.inference.tile_run import TileRun
from drmc.inference.tiles import tile_at
from drmc.networks.drmc import DRMC, NetworkConfig
from drmc.networks.protocol import INPUT_SCALE
from drmc.runtime.hardware import physical_cores
from drmc.runtime.threads import allowed_cores, torch_threads
from drmc.runtime.workers import run_in_processes

AT_ONCE = (1, 2, 4, 8)
TILES = 16
WAIT_POLICY = "OMP_WAIT_POLICY"


class Body(NamedTuple):
    """A synthetic body: its network, the edge of the tiles, and how many of them lie in a row."""

    config: NetworkConfig
    tile: int
    tiles: int


class Taken(NamedTuple):
    """What the tiles took, and a checksum of their residuals."""

    seconds: float
    cpu_seconds: float
    checksum: str


def measure_parallel(body: Body, report: Callable[[str], None]) -> ParallelResult:
    """Computes the tiles with 1, 2, 4 and 8 at once, and with all threads in one tile after the other.

    Everything is measured twice: as the machine is, and beside twice as many busy processes as it has cores.
    In the last way, which the engine had before, OpenMP's threads spin while they wait; it is left out where
    only one thread may be used. Every run is a single one, after a warm-up, in float32.

    Raises:
        DRMCError: the residuals depend on the number of tiles at once, or memory does not suffice for them.
    """
    network = new_network(body.config).eval()
    image, starts = _image(body)
    threads = allowed_cores()
    rows: list[ParallelRow] = []
    expected: str | None = None
    _side_by_side(network, body.tile, image, starts[:1], 1)  # the warm-up
    for busy in (0, 2 * physical_cores()):
        with busy_processes(busy):
            for at_once in AT_ONCE:
                report(f"{body.tiles} tiles, {at_once} at once, {busy} busy processes")
                taken = _side_by_side(network, body.tile, image, starts, at_once)
                expected = expected or taken.checksum
                if taken.checksum != expected:
                    raise DRMCError(f"{at_once} tiles at once gave another residual than one at a time")
                rows.append(_row(body, taken, at_once, 1, busy, expected))
            if threads > 1 and expected is not None:
                report(f"{body.tiles} tiles, one after the other in {threads} threads, {busy} busy processes")
                taken = _one_after_the_other(body, threads)
                rows.append(_row(body, taken, 1, threads, busy, expected))
    return {"tile": body.tile, "tiles": body.tiles, "precision": "fp32", "rows": rows}


def _row(body: Body, taken: Taken, at_once: int, threads: int, busy: int, expected: str) -> ParallelRow:
    return {
        "at_once": at_once,
        "threads": threads,
        "busy_processes": busy,
        "seconds": taken.seconds,
        "seconds_per_tile": taken.seconds / body.tiles,
        "cpu_seconds": taken.cpu_seconds,
        "same_bits": taken.checksum == expected,
    }


def _image(body: Body) -> tuple[np.ndarray, np.ndarray]:
    """The body's SUV (z, y, x) on the network's grid, and the first voxels (T, 3) of its tiles."""
    image, _ = resample_to_grid(*synthetic_body(body.tile, body.tiles)[:2])
    starts = np.empty((body.tiles, 3), dtype=int)
    starts[:, 0] = np.linspace(0, len(image) - body.tile, body.tiles).round()
    starts[:, 1:] = [(size - body.tile) // 2 for size in image.shape[1:]]
    return image, starts


def _side_by_side(network: DRMC, tile: int, image: np.ndarray, starts: np.ndarray, at_once: int) -> Taken:
    """As the denoiser computes them: `at_once` tiles, one thread each."""
    notices: list[str] = []
    with TileRun(network, tile, torch.device("cpu"), "fp32", "fp32", at_once, notices) as run:
        taken = _take(output.residual for output in run.outputs(image, starts, None))
    if notices:
        raise DRMCError(f"{at_once} tiles at once: {notices[0]}")
    return taken


def _one_after_the_other(body: Body, threads: int) -> Taken:
    """All threads in one tile after the other, in a fresh process: how they wait is settled at its start."""
    found: list[Taken] = []
    with _spinning_threads():
        run_in_processes(
            _in_threads,
            [(body, threads)],
            1,
            progress=lambda *_: None,
            finished=lambda _, taken: found.append(taken),
        )
    return found[0]


def _in_threads(task: tuple[Body, int], progress: Callable[[float], None]) -> Taken:
    body, threads = task
    network = new_network(body.config).eval()
    image, starts = _image(body)

    def residual(start: np.ndarray) -> np.ndarray:
        tile_DHW = tile_at(image, start, body.tile) / np.float32(INPUT_SCALE)
        return network(torch.from_numpy(tile_DHW[None, None]))[0][0].numpy() * np.float32(INPUT_SCALE)

    with torch_threads(threads), torch.inference_mode():
        residual(starts[0])  # the warm-up
        return _take(map(residual, starts))


@contextmanager
def _spinning_threads() -> Iterator[None]:
    """OpenMP's own way to wait, which `drmc` changes, for the processes that are started here."""
    before = os.environ.pop(WAIT_POLICY, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[WAIT_POLICY] = before


def _take(residuals: Iterable[np.ndarray]) -> Taken:
    """Times the computation of the residuals, each (1, D, H, W)."""
    checksum = hashlib.sha256()
    began = time.perf_counter(), time.process_time()
    for residual_BDHW in residuals:
        checksum.update(residual_BDHW.tobytes())
    return Taken(time.perf_counter() - began[0], time.process_time() - began[1], checksum.hexdigest())
