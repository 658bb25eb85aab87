"""Whole-volume inference: the network's grid, body tiles, blended residual, and that on the scan's own grid.

Axis legend: arrays (z, y, x); B tiles of a batch, T tiles of a scan, L router layers, M experts; SUV in g/ml;
mm, LPS.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from drmc.errors import InputError
from drmc.imaging.body import LEAST_BODY_SUV, body_mask, tile_region
from drmc.imaging.resampling import resample_from_grid, resample_to_grid
from drmc.inference.device import choose_device, choose_precision
from drmc.inference.local_means import keep_local_means
from drmc.inference.placement import place_tiles
from drmc.inference.tile_run import TileRun
from drmc.inference.tiles import (
    Blend,
    TileLayout,
    add_hot_voxels,
    halo_width,
    overlap_width,
    physical_points,
)
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.networks.protocol import ResidualNetwork
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_canceled
from drmc.runtime.hardware import device_name

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


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
        tile_batch: tiles computed at once; None: as cores (CPU) and free memory (CPU, CUDA) allow, one on
            MPS.
        keep_means: whether the scan's local means are held (`keep_local_means`); without it the residual is
            what the network says.

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
        keep_means: bool = True,
    ):
        if tile_batch is not None and tile_batch < 1:
            raise InputError(f"tile batch {tile_batch}: must be 1 or more")
        self.tile = tile
        self.notices: list[str] = []
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device, self.notices)
        self._wanted_precision = precision
        self._tile_batch = tile_batch
        self._keep_means = keep_means
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
        direction, divided by the sum of the weights of the tiles that are there), freed from their local mean
        (`keep_local_means`) and brought back to the scan's own voxels (`resample_from_grid`). Nothing is
        clipped.

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
            body = body_on_grid(image, grid, suv_zyx, geometry)
            starts, fractions = self._place_tiles(body)
        raise_if_canceled(cancel)
        if not len(starts):
            notices.append(
                f"no body found (nothing above SUV {LEAST_BODY_SUV:g}): the scan is returned unchanged"
            )

        with self._run(notices) as run:
            blended, gates = self._compute(run, image, starts, clock, progress, cancel)
        del image
        with clock("blend"):
            residual = blended.result()
            if self._keep_means:
                keep_local_means(residual, body, tuple(reversed(grid.spacing)))
        del blended, body
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

    def _place_tiles(self, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First voxels (T, 3) of the tiles over the body, and the share of each tile that is body (T,).

        Placed by what is used of them: every voxel of the body (z, y, x) is in the inner part of a tile.
        """
        halo = halo_width(self.tile)
        starts = place_tiles(body, self.tile - 2 * halo, overlap_width(self.tile)) - halo
        regions = [tile_region(start, self.tile, body.shape) for start in starts.tolist()]
        return starts, np.array([body[region].mean() for region in regions], dtype=np.float32)

    def _run(self, notices: list[str]) -> TileRun:
        return TileRun(
            self._network,
            self.tile,
            self._device,
            self.precision,
            self._wanted_precision,
            self._tile_batch,
            notices,
        )

    def _compute(
        self,
        run: TileRun,
        image: np.ndarray,
        starts: np.ndarray,
        clock: Stopwatch,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> tuple[Blend, list[np.ndarray]]:
        """The network over all tiles: their blended residual, and the gates (L, M) of each."""
        blended = Blend(image.shape, self.tile)
        gates: list[np.ndarray] = []
        began = time.perf_counter()
        outputs = run.outputs(image, starts, cancel)
        with closing(outputs):
            while len(gates) < len(starts):
                with clock("network"):
                    output = next(outputs)
                with clock("blend"):
                    for start, residual in zip(output.starts, output.residual, strict=True):
                        blended.add(start, residual)
                gates.extend(output.gates)
                if progress is not None:
                    done = len(gates)
                    left = (time.perf_counter() - began) / done * (len(starts) - done)
                    progress(done, len(starts), left)
        return blended, gates


def body_on_grid(image: np.ndarray, grid: Geometry, suv_zyx: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The body that tiles must cover: a mask on the network's grid, with the scan's own hot voxels.

    Args:
        image: SUV (z, y, x) on the network's grid.
        grid: that grid.
        suv_zyx: SUV (z, y, x) of the scan.
        geometry: its place in space.
    """
    body = body_mask(image, tuple(reversed(grid.spacing)))
    if grid != geometry:
        add_hot_voxels(body, grid, suv_zyx, geometry)
    return body
