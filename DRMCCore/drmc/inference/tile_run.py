"""The network over the tiles of a scan: on a CPU several tiles at a time, one thread each; elsewhere batches.

Axis legend: arrays (z, y, x); B tiles of a batch, T tiles of a scan, L router layers, M experts; SUV in g/ml.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from drmc.errors import DRMCError
from drmc.inference.device import choose_precision, tiles_at_once
from drmc.inference.tiles import tile_at
from drmc.networks.protocol import INPUT_SCALE, ResidualNetwork
from drmc.runtime.control import Cancel, raise_if_canceled
from drmc.runtime.hardware import device_name
from drmc.runtime.precision import float32_products
from drmc.runtime.threads import torch_threads

_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
_OutOfMemoryError = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
_POLL_SECONDS = 0.1
_LONG_ENOUGH = 1.0
"""Seconds after which a run knows its share of the cores."""
_FULL_SHARE = 0.75
"""Of the time of its threads: below it other programs use the same cores."""


class TileOutput(NamedTuple):
    """The network's output for B tiles.

    starts: first voxels (B, 3); residual: SUV (B, D, H, W); gates: (B, L, M).
    """

    starts: np.ndarray
    residual: np.ndarray
    gates: np.ndarray


class TileRun:
    """Computes the tiles of one scan; short of memory it takes fewer at once, then the CPU.

    A processor computes every tile in one thread, so that a result depends neither on how many tiles are
    computed at once nor on other programs, and threads never wait for one another. A GPU takes `at_once`
    tiles as one batch.

    Args:
        network: in evaluation mode, on `device`.
        tile: edge of a tile in voxels.
        device, precision: where and with what ("fp32", "bf16") to compute first.
        wanted_precision: as the user gave it, for the CPU if the device's memory is too small.
        at_once: tiles at once; None: as many as cores and free memory allow, twice as many where other
            programs use the cores as well.
        notices: gets one line for each change of these that memory forces.
    """

    def __init__(
        self,
        network: ResidualNetwork,
        tile: int,
        device: torch.device,
        precision: str,
        wanted_precision: str,
        at_once: int | None,
        notices: list[str],
    ):
        self.device, self.precision = device, precision
        self.at_once, self._most_at_once = (
            (at_once, at_once) if at_once else tiles_at_once(network, tile, device, precision)
        )
        self._network, self._tile = network, tile
        self._first_device, self._wanted_precision = device, wanted_precision
        self._notices = notices

    def __enter__(self) -> TileRun:
        return self

    def __exit__(self, *_: object) -> None:
        # The next scan starts on the chosen device again.
        if self.device != self._first_device:
            self._network.to(self._first_device)

    def outputs(
        self, image: np.ndarray, starts: np.ndarray, cancel: Cancel | None
    ) -> Generator[TileOutput, None, None]:
        """Computes the tiles (T, 3) of an image [SUV] (z, y, x), and yields their outputs in order.

        `cancel` is asked in the calling thread only, between tiles and while they are computed.

        Raises:
            CanceledError: `cancel` said so; the layer that is being computed is finished first.
            DRMCError: memory does not suffice for one tile on the CPU.
        """
        done = 0
        while done < len(starts):
            compute = self._in_threads if self.device.type == "cpu" else self._in_batches
            try:
                for output in compute(image, starts[done:], cancel):
                    yield output
                    done += len(output.starts)
            except _OutOfMemoryError:
                self._reduce_memory()
            except RuntimeError as error:
                # MPS, cuBLAS and the CPU's allocator say it in words only.
                if not any(words in str(error) for words in _OUT_OF_MEMORY_WORDS):
                    raise
                self._reduce_memory()

    def _in_threads(
        self, image: np.ndarray, starts: np.ndarray, cancel: Cancel | None
    ) -> Generator[TileOutput, None, None]:
        stopped, began = threading.Event(), (time.perf_counter(), time.process_time())
        remaining, running = iter(starts), deque[tuple[np.ndarray, Future]]()
        with (
            canceled_between_layers(self._network, stopped.is_set),
            torch_threads(1),
            ThreadPoolExecutor(self._most_at_once, "tile", torch.set_num_threads, (1,)) as pool,
        ):
            try:
                while True:
                    for start in islice(remaining, self.at_once - len(running)):
                        tile = tile_at(image, start, self._tile)
                        running.append((start, pool.submit(self._forward, tile[None])))
                    if not running:
                        return
                    raise_if_canceled(cancel)
                    while not running[0][1].done():
                        wait([running[0][1]], _POLL_SECONDS if cancel else None)
                        raise_if_canceled(cancel)
                    start, future = running.popleft()
                    yield TileOutput(start[None], *future.result())
                    self._take_share(time.perf_counter() - began[0], time.process_time() - began[1])
            finally:
                stopped.set()
                for _, future in running:
                    future.cancel()

    def _take_share(self, wall_seconds: float, cpu_seconds: float) -> None:
        """Computes more tiles at once where other programs use the cores, which go by threads."""
        if wall_seconds > _LONG_ENOUGH and cpu_seconds < _FULL_SHARE * wall_seconds * self.at_once:
            self.at_once = self._most_at_once

    def _in_batches(
        self, image: np.ndarray, starts: np.ndarray, cancel: Cancel | None
    ) -> Generator[TileOutput, None, None]:
        with canceled_between_layers(self._network, cancel):
            for first in range(0, len(starts), self.at_once):
                raise_if_canceled(cancel)
                batch = starts[first : first + self.at_once]
                tiles = np.stack([tile_at(image, start, self._tile) for start in batch])
                yield TileOutput(batch, *self._forward(tiles))

    def _forward(self, tiles_BDHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residual [SUV] (B, D, H, W) and gates (B, L, M) of tiles in SUV."""
        dtype = torch.bfloat16 if self.precision == "bf16" else None
        with torch.inference_mode(), float32_products(self.device, deterministic=True):
            x_BCDHW = torch.from_numpy(tiles_BDHW[:, None] / np.float32(INPUT_SCALE)).to(self.device)
            residual_BCDHW, gates_BLM = self._network(x_BCDHW, compute_dtype=dtype)
            residual = residual_BCDHW[:, 0].float().cpu().numpy() * np.float32(INPUT_SCALE)
            return residual, gates_BLM.float().cpu().numpy()

    def _reduce_memory(self) -> None:
        """Halves the tiles at once, or goes to the CPU with one. Raises DRMCError if it is there."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.at_once > 1:
            self.at_once //= 2
            self._most_at_once = self.at_once
            self._notices.append(
                f"memory of {self.device} was short: {self.at_once} tile(s) at a time from there on"
            )
        elif self.device.type != "cpu":
            name = device_name(self.device)
            self.device = torch.device("cpu")
            self._network.to(self.device)
            self.precision = choose_precision(self._wanted_precision, self.device, [])
            self.at_once, self._most_at_once = tiles_at_once(
                self._network, self._tile, self.device, self.precision
            )
            self._notices.append(
                f"memory of {name} was too small for one tile: continued on the CPU ({self.precision})"
            )
        else:
            raise DRMCError(f"out of memory for one tile of {self._tile} voxels: close other programs")


@contextmanager
def canceled_between_layers(network: torch.nn.Module, cancel: Cancel | None) -> Iterator[None]:
    """Asks `cancel` also before each submodule of the network: a tile can take several seconds on a CPU."""
    if cancel is None:
        yield
        return
    hooks = [
        module.register_forward_pre_hook(lambda *_: raise_if_canceled(cancel)) for module in network.modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
