"""Whole-volume inference: the network's grid, body tiles, blended residual, and that on the scan's own grid.

Axis legend: arrays (z, y, x); B tiles of a batch, T tiles of a scan, L router layers, M experts; SUV in g/ml;
mm, LPS.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from drmc.errors import DRMCError, InputError
from drmc.imaging.body import LEAST_BODY_SUV, body_mask, body_tiles, tile_region
from drmc.imaging.resampling import resample_from_grid, resample_to_grid
from drmc.inference.device import batch_for_memory, choose_device, choose_precision, on_physical_cores
from drmc.inference.tiles import (
    OVERLAP,
    Blend,
    TileLayout,
    add_hot_voxels,
    halo_width,
    physical_points,
    tile_at,
)
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.protocol import INPUT_SCALE, ResidualNetwork
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_canceled
from drmc.runtime.hardware import device_name
from drmc.runtime.precision import float32_products

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
_OutOfMemoryError = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


@dataclass(frozen=True)
class DenoiseResult:
    """What the network would add to a scan, and how it came about.

    Attributes:
        residual: SUV (z, y, x), float32, on the scan's own grid; exactly 0 wherever no tile lies.
        gates_TLM: gate of every expert, float32, L router layers in the order of computation; (T, 0, 0)
            without routing.
        tile_centers_mm: (T, 3) physical centers of the tiles, LPS, (x, y, z).
        tile_body_fraction: (T,) share of the tile's voxels, within the image, that are body.
        layout: where the tiles' used parts lie.
        device: where the last tile was computed: "cpu", "cuda:0 ..." or "mps".
        precision: with what: "fp32" or "bf16".
        seconds: of the stages resample, mask, network, blend, resample_back.
        notices: what the user should know, one line each.
    """

    residual: np.ndarray
    gates_TLM: np.ndarray
    tile_centers_mm: np.ndarray
    tile_body_fraction: np.ndarray
    layout: TileLayout
    device: str
    precision: str
    seconds: dict[str, float]
    notices: list[str] = field(default_factory=list)


class Denoiser:
    """A network ready on a device; `denoise` may be called for any number of scans.

    Args:
        network: the network; it is moved to the device and put into evaluation mode.
        tile: edge of the tiles that it was trained on, in voxels of the grid: its statistics are per tile.
        device: "auto" (CUDA, else Apple's MPS, else CPU), "cpu", "cuda", "cuda:1", ..., "mps".
        precision: "auto" (bf16 where CUDA computes in it; fp32 on every processor, so that figures do not
            depend on which one), "fp32" or "bf16".
        tile_batch: tiles computed at once; None: one on CPU and MPS, on CUDA as free memory allows.

    Attributes:
        device_name, precision: as chosen.   notices: what the user should know about the choice.

    Raises InputError where device or precision is unknown or not to be had here.
    """

    def __init__(
        self,
        network: ResidualNetwork,
        tile: int,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile_batch: int | None = None,
    ):
        if tile_batch is not None and tile_batch < 1:
            raise InputError(f"tile batch {tile_batch}: must be 1 or more")
        self.tile = tile
        self.notices: list[str] = []
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device, self.notices)
        self._wanted_precision = precision
        self._tile_batch = tile_batch
        self._network = network.eval().to(self._device)

    @classmethod
    def from_model(
        cls,
        model: str | os.PathLike[str] | ModelEntry | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile_batch: int | None = None,
    ) -> Denoiser:
        """A model's network, ready on a device.

        model: a name or the path of a weight file, as for `drmc.models.registry.find_model`, or what that
        returned; None: the default model. The rest as in the constructor.

        Raises InputError: no such model, its weights are damaged, or the device is not to be had here.
        """
        entry = model if isinstance(model, ModelEntry) else find_model(model)
        network, tile = load_network(entry)
        return cls(network, tile, device=device, precision=precision, tile_batch=tile_batch)

    @property
    def device_name(self) -> str:
        """The device: "cpu", "mps", or "cuda:0 " and the name of the GPU."""
        return device_name(self._device)

    def denoise(
        self,
        suv_zyx: np.ndarray,
        geometry: Geometry,
        *,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> DenoiseResult:
        """Predicts the residual of a scan: denoised = scan + residual.

        The scan is brought to the network's grid and cut into tiles over the body, beyond its faces mirrored;
        the network's residuals are blended (each tile, without its halo, weighted by a Hann window in every
        direction, divided by the sum of the weights of the tiles that are there) and brought back to the
        scan's own voxels (`resample_from_grid`). Nothing is clipped.

        Args:
            suv_zyx: SUV [g/ml], float32 (z, y, x), finite, any size; not changed.
            geometry: its place in space; any direction.
            progress: called as (tiles done, tiles in all, seconds left or None) after each batch of tiles.
            cancel: asked between tiles and between the layers of the network; True stops.

        Raises CanceledError; DRMCError where memory does not suffice even on the CPU.
        """
        if suv_zyx.shape != tuple(geometry.shape):
            raise ValueError(f"image of shape {suv_zyx.shape} with a geometry of shape {geometry.shape}")
        geometry = geometry.rounded()
        clock = Stopwatch("resample", "mask", "network", "blend", "resample_back")
        notices = list(self.notices)

        with clock("resample"):
            image, grid = resample_to_grid(suv_zyx, geometry)
        raise_if_canceled(cancel)
        with clock("mask"):
            starts, fractions = self._place_tiles(image, grid, suv_zyx, geometry)
        raise_if_canceled(cancel)
        if not len(starts):
            notices.append(
                f"no body found (nothing above SUV {LEAST_BODY_SUV:g}): the scan is returned unchanged"
            )

        run = _Run(self, notices)
        with run, on_physical_cores(), cancelled_between_layers(self._network, cancel):
            blended, gates = self._compute(run, image, starts, clock, progress, cancel)
        del image
        with clock("blend"):
            residual = blended.result()
        del blended
        raise_if_canceled(cancel)
        with clock("resample_back"):
            residual = resample_from_grid(residual, grid, geometry)
        halo = halo_width(self.tile)
        return DenoiseResult(
            residual=residual,
            gates_TLM=np.stack(gates)
            if gates
            else np.zeros((0, *self._network.config.gates_shape), np.float32),
            tile_centers_mm=physical_points(starts + (self.tile - 1) / 2, grid),
            tile_body_fraction=fractions,
            layout=TileLayout(starts + halo, self.tile - 2 * halo, grid, geometry),
            device=device_name(run.device),
            precision=run.precision,
            seconds=clock.seconds,
            notices=notices,
        )

    def _place_tiles(
        self, image: np.ndarray, grid: Geometry, suv_zyx: np.ndarray, geometry: Geometry
    ) -> tuple[np.ndarray, np.ndarray]:
        """First voxels (T, 3) of the tiles over the body, and the share of each tile that is body (T,).

        Placed by what is used of them: every voxel of the body is in the inner part of a tile.
        """
        body = body_mask(image, tuple(reversed(grid.spacing)))
        if grid != geometry:
            add_hot_voxels(body, grid, suv_zyx, geometry)
        halo = halo_width(self.tile)
        starts = body_tiles(body, self.tile - 2 * halo, OVERLAP) - halo
        regions = [tile_region(start, self.tile, body.shape) for start in starts.tolist()]
        return starts, np.array([body[region].mean() for region in regions], dtype=np.float32)

    def _compute(
        self,
        run: _Run,
        image: np.ndarray,
        starts: np.ndarray,
        clock: Stopwatch,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> tuple[Blend, list[np.ndarray]]:
        """The network over all tiles: their blended residual, and the gates (L, M) of each."""
        blended = Blend(image.shape, self.tile)
        gates: list[np.ndarray] = []
        done, began = 0, time.perf_counter()
        while done < len(starts):
            raise_if_canceled(cancel)
            batch = starts[done : done + run.batch]
            tiles = np.stack([tile_at(image, start, self.tile) for start in batch])
            with clock("network"):
                output = run.evaluate(tiles)
            if output is None:
                continue
            with clock("blend"):
                for start, residual in zip(batch, output[0], strict=True):
                    blended.add(start, residual)
            gates.extend(output[1])
            done += len(batch)
            if progress is not None:
                left = (time.perf_counter() - began) / done * (len(starts) - done)
                progress(done, len(starts), left)
        return blended, gates


class _Run:
    """The network over one scan's tiles; short of memory it takes a smaller batch, then the CPU."""

    def __init__(self, denoiser: Denoiser, notices: list[str]):
        self._denoiser = denoiser
        self._network = denoiser._network
        self._notices = notices
        self.device = denoiser._device
        self.precision = denoiser.precision
        self.batch = denoiser._tile_batch or batch_for_memory(
            self._network, denoiser.tile, self.device, self.precision
        )

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        # The next scan starts on the chosen device again.
        if self.device != self._denoiser._device:
            self._network.to(self._denoiser._device)

    def evaluate(self, tiles_BDHW: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Residual [SUV] (B, D, H, W) and gates (B, L, M) of tiles in SUV; None: try again, smaller."""
        try:
            return self._forward(tiles_BDHW)
        except _OutOfMemoryError:
            pass
        except RuntimeError as error:
            # MPS, cuBLAS and the CPU's allocator say it in words only.
            if not any(words in str(error) for words in _OUT_OF_MEMORY_WORDS):
                raise
        self._reduce_memory(len(tiles_BDHW))
        return None

    def _forward(self, tiles_BDHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dtype = torch.bfloat16 if self.precision == "bf16" else None
        with torch.inference_mode(), float32_products(self.device, deterministic=True):
            x_BCDHW = torch.from_numpy(tiles_BDHW[:, None] / np.float32(INPUT_SCALE)).to(self.device)
            residual_BCDHW, gates_BLM = self._network(x_BCDHW, compute_dtype=dtype)
            residual = residual_BCDHW[:, 0].float().cpu().numpy() * np.float32(INPUT_SCALE)
            return residual, gates_BLM.float().cpu().numpy()

    def _reduce_memory(self, tried: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried > 1:
            self.batch = tried // 2
            self._notices.append(
                f"memory of {self.device} was short: {self.batch} tile(s) at a time from there on"
            )
        elif self.device.type != "cpu":
            name = device_name(self.device)
            self.device, self.batch = torch.device("cpu"), 1
            self._network.to(self.device)
            self.precision = choose_precision(self._denoiser._wanted_precision, self.device, [])
            self._notices.append(
                f"memory of {name} was too small for one tile: continued on the CPU ({self.precision})"
            )
        else:
            raise DRMCError(
                f"out of memory for one tile of {self._denoiser.tile} voxels: close other programs"
            )


@contextmanager
def cancelled_between_layers(network: torch.nn.Module, cancel: Cancel | None) -> Iterator[None]:
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
