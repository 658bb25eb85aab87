"""Slices to sinograms and back: a sparse 2D system matrix times a block of slices; Gaussian resolution.

With time of flight (TOF) every line has several rows, one per TOF bin, and each shares the line's weights by
a Gaussian along the line. An image inside the projector is a dense block (pixels, columns), pixels = y *
matrix + x; one column is one slice of one image, so a single sparse product projects every slice of every
image. The adjoint is the stored transpose.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from drmc.imaging.smoothing import FWHM_PER_SIGMA
from drmc.simulation.centers import MM_PER_PS, Center

warnings.filterwarnings("ignore", message=".*[Ss]parse.*")  # torch says that its CSR support is in beta state


def joseph_system_matrix(
    matrix: int, voxel_mm: float, angles: np.ndarray, bins: int, bin_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line integrals in mm by Joseph's method inside the inscribed circle: (row, column, value) triplets.

    row = view * bins + bin, column = y * matrix + x. The ray of bin position r at angle t is x cos t + y sin
    t = r. Joseph 1982, IEEE Trans Med Imaging 1:192.
    """
    index = np.arange(matrix)
    center = (matrix - 1) / 2
    position = (index - center) * voxel_mm
    radius = matrix / 2 * voxel_mm
    r = (np.arange(bins) - (bins - 1) / 2) * bin_mm
    rows, columns, values = [], [], []
    for view, angle in enumerate(angles):
        cosine, sine = math.cos(angle), math.sin(angle)
        along_x = abs(sine) >= abs(cosine)  # step along the axis that the ray follows more closely
        along, across = (sine, cosine) if along_x else (cosine, sine)
        crossing = (r[:, None] - position[None] * across) / along / voxel_mm + center
        step_mm = voxel_mm / abs(along)
        below = np.floor(crossing).astype(np.int64)
        upper_weight = crossing - below
        for shift, weight in ((0, 1 - upper_weight), (1, upper_weight)):
            other = below + shift
            stepped = np.broadcast_to(index[None], other.shape)
            iy, ix = (other, stepped) if along_x else (stepped, other)
            in_circle = ((ix - center) ** 2 + (iy - center) ** 2) * voxel_mm**2 <= radius**2
            keep = (other >= 0) & (other < matrix) & (weight > 1e-6) & in_circle
            rows.append(np.broadcast_to((view * bins + np.arange(bins))[:, None], other.shape)[keep])
            columns.append((iy * matrix + ix)[keep])
            values.append((weight * step_mm)[keep])
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(values).astype(np.float32)


def _csr(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int], device: torch.device
) -> torch.Tensor:
    """CSR tensor of triplets without duplicates; int32 indices, which the CPU kernels need."""
    order = np.argsort(row, kind="stable")
    first = np.zeros(shape[0] + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=shape[0]), out=first[1:])
    return torch.sparse_csr_tensor(
        torch.from_numpy(first),
        torch.from_numpy(column[order].astype(np.int32)),
        torch.from_numpy(value[order]),
        size=shape,
        device=device,
    )


@dataclass(frozen=True)
class TimeOfFlight:
    """TOF bins along a line, symmetric about its middle; `fwhm_mm` is that of the resolution."""

    fwhm_mm: float
    bins: int
    bin_mm: float

    @classmethod
    def of(cls, center: Center) -> TimeOfFlight | None:
        """The bins of a center; None for a scanner without time of flight."""
        if not center.tof_fwhm_ps:
            return None
        return cls(center.tof_fwhm_ps * MM_PER_PS, center.tof_bins, center.tof_bin_mm)

    def weights(self, along_mm: np.ndarray) -> np.ndarray:
        """(bins, n): share of each bin of an event at positions (n,) along the line."""
        edges = (np.arange(self.bins + 1) - self.bins / 2) * self.bin_mm
        scaled = torch.from_numpy(
            (edges[:, None] - along_mm[None]) / (self.fwhm_mm / FWHM_PER_SIGMA * 2**0.5)
        )
        return 0.5 * np.diff(torch.erf(scaled).numpy(), axis=0)


class Projector:
    """Parallel-beam projector of (pixels, columns) blocks, in subsets of interleaved views over 180 degrees.

    Rows of a subset are (view, bin) without and (view, bin, TOF bin) with time of flight; `lines` counts
    (view, bin).
    """

    LEAST_TOF_WEIGHT = 2e-3  # smaller shares of a line weight are dropped
    COLUMNS = 16  # of one product on a CPU: what a line meets then stays in the cache; up to twice as fast

    def __init__(
        self,
        matrix: int,
        voxel_mm: float,
        views: int,
        subsets: int = 1,
        device: str = "cpu",
        tof: TimeOfFlight | None = None,
    ):
        if views % subsets:
            raise ValueError(f"{views} views cannot be dealt to {subsets} subsets")
        self.matrix, self.voxel_mm, self.views, self.subsets = matrix, voxel_mm, views, subsets
        self.bins = matrix
        self.tof_bins = tof.bins if tof else 1
        self.device = torch.device(device)
        angles = np.arange(views) * math.pi / views
        self._forward, self._adjoint = [], []
        for subset in range(subsets):
            own = angles[subset::subsets]
            row, column, value = joseph_system_matrix(matrix, voxel_mm, own, self.bins, voxel_mm)
            if tof:
                row, column, value = self._over_tof(tof, own, row, column, value)
            shape = (self.rows, matrix * matrix)
            self._forward.append(_csr(row, column, value, shape, self.device))
            self._adjoint.append(_csr(column, row, value, shape[::-1], self.device))

    def _over_tof(
        self, tof: TimeOfFlight, angles: np.ndarray, row: np.ndarray, column: np.ndarray, value: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Triplets with every weight shared over its TOF bins; dropped shares go to the bins that stay."""
        center = (self.matrix - 1) / 2
        theta = angles[row // self.bins]
        x, y = (
            (column % self.matrix - center) * self.voxel_mm,
            (column // self.matrix - center) * self.voxel_mm,
        )
        share = tof.weights(y * np.cos(theta) - x * np.sin(theta)).astype(np.float32)
        keep = share > self.LEAST_TOF_WEIGHT
        share *= share.sum(0) / (share * keep).sum(0).clip(1e-6)
        parts = [(row[k] * tof.bins + t, column[k], value[k] * share[t, k]) for t, k in enumerate(keep)]
        rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        return rows, columns, values

    @property
    def lines(self) -> int:
        """Lines of one subset: its views times bins."""
        return self.views // self.subsets * self.bins

    @property
    def rows(self) -> int:
        """Rows of one subset: its lines times TOF bins."""
        return self.lines * self.tof_bins

    def forward(self, image: torch.Tensor, subset: int) -> torch.Tensor:
        """(pixels, columns) -> (rows, columns), in image unit times mm."""
        return self._product(self._forward[subset], image)

    def adjoint(self, sinogram: torch.Tensor, subset: int) -> torch.Tensor:
        """(rows, columns) -> (pixels, columns)."""
        return self._product(self._adjoint[subset], sinogram)

    def _product(self, matrix: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Sparse times dense, a few columns at a time on CPUs; every column is what it is in one product."""
        if block.device.type != "cpu" or block.shape[1] <= self.COLUMNS:
            return matrix @ block
        result = block.new_empty(matrix.shape[0], block.shape[1])
        for start in range(0, block.shape[1], self.COLUMNS):
            columns = slice(start, start + self.COLUMNS)
            result[:, columns] = matrix @ block[:, columns].contiguous()
        return result


@lru_cache(maxsize=2)
def cached_projector(
    matrix: int, voxel_mm: float, views: int, subsets: int, device: str, tof: TimeOfFlight | None = None
) -> Projector:
    """The last two projectors used: building one takes seconds and hundreds of MB."""
    return Projector(matrix, voxel_mm, views, subsets, device, tof)


def gaussian_kernel(fwhm_mm: float, voxel_mm: float) -> torch.Tensor:
    """Voxel-integrated Gaussian, cut at 3 sigma, odd length, sum 1 (float64)."""
    sigma = max(fwhm_mm / FWHM_PER_SIGMA / voxel_mm, 1e-9)
    reach = max(1, math.ceil(3 * sigma))
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    scale = sigma * math.sqrt(2)
    kernel = torch.erf((t + 0.5) / scale) - torch.erf((t - 0.5) / scale)
    return kernel / kernel.sum()


class GaussianPSF:
    """Separable stationary Gaussian on blocks (y, x, images, z), zero outside; it is its own adjoint.

    One banded matrix product per axis, in row blocks that touch only the band; on CPUs this is several times
    faster than shifted additions.
    """

    ROWS = 32

    def __init__(self, fwhm_mm: float | tuple[float, float, float], voxel_zyx_mm: tuple[float, float, float]):
        fwhm = (fwhm_mm,) * 3 if isinstance(fwhm_mm, (int, float)) else fwhm_mm
        self._kernels = [gaussian_kernel(f, v) for f, v in zip(fwhm, voxel_zyx_mm, strict=True)]
        self._bands: dict[tuple[int, int, torch.device], torch.Tensor] = {}

    def _band(self, axis: int, length: int, device: torch.device) -> torch.Tensor:
        key = (axis, length, device)
        if key not in self._bands:
            kernel = self._kernels[axis]
            reach = len(kernel) // 2
            band = torch.zeros(length, length, dtype=torch.float64)
            for shift in range(-reach, reach + 1):
                if abs(shift) < length:
                    band += torch.diag(kernel[reach + shift].expand(length - abs(shift)), shift)
            self._bands[key] = band.float().to(device)
        return self._bands[key]

    def _product(self, axis: int, block: torch.Tensor) -> torch.Tensor:
        """Band times `block` (..., length, columns) along its last but one dimension."""
        length = block.shape[-2]
        band, reach = self._band(axis, length, block.device), len(self._kernels[axis]) // 2
        result = torch.empty_like(block)
        for start in range(0, length, self.ROWS):
            stop = min(start + self.ROWS, length)
            low, high = max(0, start - reach), min(length, stop + reach)
            # the result slice is not contiguous for x, which matmul(out=) does not take
            result[..., start:stop, :] = torch.matmul(band[start:stop, low:high], block[..., low:high, :])
        return result

    def __call__(self, block: torch.Tensor) -> torch.Tensor:
        """The smoothed block, of the same shape."""
        ny, nx, images, nz = block.shape
        block = (block.reshape(-1, nz) @ self._band(0, nz, block.device)).view(ny, nx, images * nz)
        block = self._product(2, block)
        return self._product(1, block.view(ny, -1)).view(ny, nx, images, nz)


def to_block(images: torch.Tensor) -> torch.Tensor:
    """(images, z, y, x) -> (y, x, images, z), contiguous."""
    return images.permute(2, 3, 0, 1).contiguous()


def from_block(block: torch.Tensor) -> torch.Tensor:
    """(y, x, images, z) -> (images, z, y, x), contiguous."""
    return block.permute(2, 3, 0, 1).contiguous()
