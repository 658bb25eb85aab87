"""Whole-volume inference: the network's grid, body tiles, blended residual, and that back on the scan's own grid.

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
from drmc.imaging.body import HOT_SUV, LEAST_BODY_SUV, body_mask, body_tiles, tile_region
from drmc.imaging.resampling import grid_positions, resample_from_grid, resample_to_grid
from drmc.network import INPUT_SCALE, ResidualNetwork
from drmc.runtime.control import Cancel, Progress, Stopwatch, raise_if_cancelled
from drmc.runtime.hardware import device_name, physical_cores
from drmc.runtime.precision import float32_products

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry
    from drmc.segments.segment import Segment

HALO = 4
"""Voxels at each face of a tile whose result is not used: there the network sees its own zero padding."""

OVERLAP = 1 / 7
"""Share of what is used of a tile's edge that neighbors share at least: 8 of 56 voxels at 64, a stride of 48."""

_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
_OutOfMemoryError = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


@dataclass(frozen=True)
class TileLayout:
    """Where the used part of each tile (all of it but its halo) lies on the network's grid.

    starts_zyx: (T, 3) first voxel, may be negative; edge: voxels; grid: the grid, geometry: the scan's own.
    """

    starts_zyx: np.ndarray
    edge: int
    grid: Geometry
    geometry: Geometry

    def voxels_of(self, segment: Segment) -> np.ndarray:
        """How many of a segment's voxels lie in each tile's used part, float64 (T,).

        The segment is on the scan's own grid, and its voxels are counted there by the place of their centers:
        no lesion is too small to be counted. Overlapping tiles count a voxel each.
        """
        ranges = []
        positions = grid_positions(self.geometry, self.grid)
        for axis, (part, position) in enumerate(zip(segment.box, positions, strict=True)):
            position = position[None, part]
            first = self.starts_zyx[:, axis, None] - 0.5
            ranges.append((position >= first) & (position < first + self.edge))
        return np.array(
            [np.count_nonzero(segment.inside[np.ix_(*inside)]) for inside in zip(*ranges, strict=True)],
            dtype=np.float64,
        )


@dataclass(frozen=True)
class DenoiseResult:
    """What the network would add to a scan, and how it came about.

    residual: SUV (z, y, x), float32, on the scan's own grid; exactly 0 wherever no tile lies.
    gates_TLM: gate of every expert, float32, L router layers in the order of computation; (T, 0, 0) without routing.
    tile_centers_mm: (T, 3) physical centers of the tiles, LPS, (x, y, z).
    tile_body_fraction: (T,) share of the tile's voxels, within the image, that are body.
    layout: where the tiles' used parts lie.
    device, precision: what the last tile was computed on and with ("cpu", "cuda:0 ...", "mps"; "fp32",
    "bf16").
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
        precision: "auto" (bf16 where CUDA computes in it; fp32 on every processor, so that figures do not depend on
            which one), "fp32" or "bf16".
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
        self.precision = _choose_precision(precision, self._device, self.notices)
        self._wanted_precision = precision
        self._tile_batch = tile_batch
        self._network = network.eval().to(self._device)

    @property
    def device_name(self) -> str:
        """ "cpu", "mps", or "cuda:0 " and the name of the GPU."""
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

        The scan is brought to the network's grid and cut into tiles over the body, beyond its faces mirrored; the
        network's residuals are blended (each tile, without its halo, weighted by a Hann window in every
        direction, divided by the sum of the weights of the tiles that are there) and brought back to the scan's
        own voxels (`resample_from_grid`). Nothing is clipped.

        Args:
            suv_zyx: SUV [g/ml], float32 (z, y, x), finite, any size; not changed.
            geometry: its place in space; any direction.
            progress: called as (tiles done, tiles in all, seconds left or None) after each batch of tiles.
            cancel: asked between tiles and between the layers of the network; True stops.

        Raises CancelledError; DRMCError where memory does not suffice even on the CPU.
        """
        if suv_zyx.shape != tuple(geometry.shape):
            raise ValueError(f"image of shape {suv_zyx.shape} with a geometry of shape {geometry.shape}")
        geometry = geometry.rounded()
        clock = Stopwatch("resample", "mask", "network", "blend", "resample_back")
        notices = list(self.notices)

        with clock("resample"):
            image, grid = resample_to_grid(suv_zyx, geometry)
        raise_if_cancelled(cancel)
        with clock("mask"):
            body = body_mask(image, tuple(reversed(grid.spacing)))
            if grid != geometry:
                _add_hot_voxels(body, grid, suv_zyx, geometry)
            # Placed by what is used of them: every voxel of the body is in the inner part of a tile.
            halo = halo_of(self.tile)
            starts = body_tiles(body, self.tile - 2 * halo, OVERLAP) - halo
            regions = [tile_region(start, self.tile, body.shape) for start in starts.tolist()]
            fractions = np.array([body[region].mean() for region in regions], dtype=np.float32)
        del body
        raise_if_cancelled(cancel)
        if not regions:
            notices.append(
                f"no body found (nothing above SUV {LEAST_BODY_SUV:g}): the scan is returned unchanged"
            )

        blended = _Blend(image.shape, self.tile)
        gates: list[np.ndarray] = []
        done, began = 0, time.perf_counter()
        run = _Run(self, notices)
        with run, on_physical_cores(), cancelled_between_layers(self._network, cancel):
            while done < len(regions):
                raise_if_cancelled(cancel)
                batch = starts[done : done + run.batch]
                tiles = np.stack([_tile_at(image, start, self.tile) for start in batch])
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
                    left = (time.perf_counter() - began) / done * (len(regions) - done)
                    progress(done, len(regions), left)
        del image
        with clock("blend"):
            residual = blended.result()
        del blended
        raise_if_cancelled(cancel)
        with clock("resample_back"):
            residual = resample_from_grid(residual, grid, geometry)
        return DenoiseResult(
            residual=residual,
            gates_TLM=np.stack(gates)
            if gates
            else np.zeros((0, *self._network.config.gates_shape), np.float32),
            tile_centers_mm=_physical_points(starts + (self.tile - 1) / 2, grid),
            tile_body_fraction=fractions,
            layout=TileLayout(starts + halo, self.tile - 2 * halo, grid, geometry),
            device=device_name(run.device),
            precision=run.precision,
            seconds=clock.seconds,
            notices=notices,
        )


class _Run:
    """The network over one scan's tiles; short of memory it takes a smaller batch, then the CPU."""

    def __init__(self, denoiser: Denoiser, notices: list[str]):
        self._denoiser = denoiser
        self._network = denoiser._network
        self._notices = notices
        self.device = denoiser._device
        self.precision = denoiser.precision
        self.batch = denoiser._tile_batch or _batch_for_memory(
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
        self._give_way(len(tiles_BDHW))
        return None

    def _forward(self, tiles_BDHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dtype = torch.bfloat16 if self.precision == "bf16" else None
        with torch.inference_mode(), float32_products(self.device, deterministic=True):
            x_BCDHW = torch.from_numpy(tiles_BDHW[:, None] / np.float32(INPUT_SCALE)).to(self.device)
            residual_BCDHW, gates_BLM = self._network(x_BCDHW, compute_dtype=dtype)
            residual = residual_BCDHW[:, 0].float().cpu().numpy() * np.float32(INPUT_SCALE)
            return residual, gates_BLM.float().cpu().numpy()

    def _give_way(self, tried: int) -> None:
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
            self.precision = _choose_precision(self._denoiser._wanted_precision, self.device, [])
            self._notices.append(
                f"memory of {name} did not suffice for one tile: went on on the CPU ({self.precision})"
            )
        else:
            raise DRMCError(
                f"out of memory for one tile of {self._denoiser.tile} voxels: close other programs"
            )


class _Blend:
    """Sum of windowed tiles, without their halos, over the sum of their windows; 0 where there is no tile."""

    def __init__(self, shape: tuple[int, ...], tile: int):
        self._halo = halo_of(tile)
        self._inner = tile - 2 * self._halo
        ramp = np.sin(np.pi * (np.arange(self._inner) + 0.5) / self._inner) ** 2
        self._window = (ramp[:, None, None] * ramp[:, None] * ramp).astype(np.float32)
        self._sum = np.zeros(shape, np.float32)
        self._weight = np.zeros(shape, np.float32)

    def add(self, start: np.ndarray, residual: np.ndarray) -> None:
        """Adds a whole tile that begins at `start`."""
        first = np.asarray(start) + self._halo
        region = tile_region(first, self._inner, self._sum.shape)
        inside = tuple(slice(part.start - f, part.stop - f) for part, f in zip(region, first, strict=True))
        window = self._window[inside]
        used = tuple(slice(part.start + self._halo, part.stop + self._halo) for part in inside)
        self._sum[region] += window * residual[used]
        self._weight[region] += window

    def result(self) -> np.ndarray:
        np.divide(self._sum, self._weight, out=self._sum, where=self._weight > 0)
        return self._sum


def halo_of(tile: int) -> int:
    """Voxels at each face of a tile that are not used; fewer in small tiles."""
    return min(HALO, tile // 8)


@contextmanager
def cancelled_between_layers(network: torch.nn.Module, cancel: Cancel | None) -> Iterator[None]:
    """Asks `cancel` also before each submodule of the network: a tile alone can take several seconds on a CPU."""
    if cancel is None:
        yield
        return
    hooks = [
        module.register_forward_pre_hook(lambda *_: raise_if_cancelled(cancel))
        for module in network.modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tile_at(image: np.ndarray, start: np.ndarray, tile: int) -> np.ndarray:
    """The tile beginning at `start`; beyond the image it is mirrored at its faces, as often as need be."""
    region = tile_region(start, tile, image.shape)
    if all(part.stop - part.start == tile for part in region):
        return image[region]
    indices = []
    for first, size in zip(start, image.shape, strict=True):
        index = np.arange(first, first + tile) % (2 * size)
        indices.append(np.where(index < size, index, 2 * size - 1 - index))
    return image[np.ix_(*indices)]


def _add_hot_voxels(body: np.ndarray, grid: Geometry, suv_zyx: np.ndarray, geometry: Geometry) -> None:
    """Adds to the mask on the grid the neighbors of every voxel of the scan above HOT_SUV.

    Resampling lowers the peak of uptake of a single voxel; on the scan's own grid it is still seen.
    """
    neighbors = [
        (np.floor(position).astype(int), np.ceil(position).astype(int))
        for position in grid_positions(geometry, grid)
    ]
    for z, slice_yx in enumerate(suv_zyx):
        rows, columns = np.nonzero(slice_yx > HOT_SUV)
        for index_z in neighbors[0]:
            for index_y in neighbors[1]:
                for index_x in neighbors[2]:
                    body[index_z[z], index_y[rows], index_x[columns]] = True


def _physical_points(indices_zyx: np.ndarray, grid: Geometry) -> np.ndarray:
    """LPS points [mm] (T, 3) of continuous indices (T, 3) in (z, y, x) order."""
    scaled = indices_zyx[:, ::-1] * np.asarray(grid.spacing)
    return np.asarray(grid.origin) + scaled @ np.reshape(grid.direction, (3, 3)).T


# ------------------------------------------------------------------------------------ device and precision
def choose_device(wanted: str) -> torch.device:
    """The device that a name means here; InputError where there is none of it."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise InputError(f"device {wanted!r}: must be auto, cpu, cuda, cuda:N or mps")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps: PyTorch finds no Apple GPU here; use --device auto or cpu")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise InputError("device cuda: PyTorch finds no CUDA GPU here; use --device auto or cpu")
        index = int(number) if number else torch.cuda.current_device()
        if index >= torch.cuda.device_count():
            raise InputError(
                f"device {wanted}: there are {torch.cuda.device_count()} CUDA GPU(s), counted from cuda:0"
            )
        return torch.device("cuda", index)
    return torch.device(kind)


def _choose_precision(wanted: str, device: torch.device, notices: list[str]) -> str:
    if wanted not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision {wanted!r}: must be auto, fp32 or bf16")
    if wanted == "auto":
        return "bf16" if device.type == "cuda" and computes_in_bf16(device) else "fp32"
    if wanted == "bf16" and not computes_in_bf16(device):
        if device.type == "mps":
            raise InputError("precision bf16: not supported on mps; use --precision fp32")
        notices.append(f"bf16 on this {device.type} is only emulated: fp32 may be faster and is more exact")
    return wanted


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16; emulated support does not count."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip is not None
    if device.type != "cpu":
        return False
    return any(
        getattr(torch.cpu, name, lambda: False)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def _batch_for_memory(network: ResidualNetwork, tile: int, device: torch.device, precision: str) -> int:
    """Tiles at once: 1 on CPU and MPS, so that cancel stays quick; on CUDA 1 to 4 by its free memory.

    A tile is taken to need 16 times the memory of its features (the fused form measured on a CPU: 8), and
    half of what is free is used. Few at once: an expert is skipped only where all tiles of a batch close it.
    """
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    per_tile = 16 * tile**3 * network.config.features_per_voxel * (2 if precision == "bf16" else 4)
    return int(min(4, max(1, free // 2 // per_tile)))


@contextmanager
def on_physical_cores() -> Iterator[None]:
    """Lets torch use as many threads as there are physical cores; OMP_NUM_THREADS, where set, holds."""
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(physical_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
