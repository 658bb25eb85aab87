"""Volumes of another grid on a scanner's grid, both on the patient's axes (LPS); (z, y, x), mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch

from drmc.imaging.geometry import Geometry

Grid = tuple[Sequence[int], Sequence[float], Sequence[float]]
"""Shape, spacing and position of the first voxel's center, each (z, y, x)."""


def to_lps(array: np.ndarray, geometry: Geometry, interpolator: int) -> tuple[np.ndarray, Geometry]:
    """The array on axes to the patient's left, back and head; reordered where possible, else resampled."""
    image = sitk.DICOMOrient(geometry.to_image(array), "LPS")
    turn = np.array(image.GetDirection()).reshape(3, 3)
    if np.abs(turn - np.eye(3)).max() > 1e-4:
        corners = [
            image.TransformContinuousIndexToPhysicalPoint(
                [(n - 1.0) * ((c >> k) & 1) for k, n in enumerate(s)]
            )
            for s in (image.GetSize(),)
            for c in range(8)
        ]
        low, high = np.min(corners, 0), np.max(corners, 0)
        spacing = np.array(image.GetSpacing())
        size = [int(n) for n in np.ceil((high - low) / spacing - 1e-6) + 1]
        image = sitk.Resample(
            image,
            size,
            sitk.Transform(),
            interpolator,
            [float(v) for v in low],
            [float(v) for v in spacing],
            np.eye(3).ravel().tolist(),
            0.0,
            image.GetPixelID(),
        )
    return sitk.GetArrayFromImage(image), Geometry.from_image(image)


def interpolation(position: np.ndarray, length: int, *, repeat: bool) -> torch.Tensor:
    """Linear interpolation at fractional voxel positions as a matrix (positions, length).

    Outside it is 0, or with `repeat` the end voxel.
    """
    inside = (position >= -0.5) & (position <= length - 0.5)
    position = position.clip(0, length - 1)
    below = np.minimum(np.floor(position).astype(int), max(0, length - 2))
    share = position - below
    weights = torch.zeros(len(position), length)
    rows = torch.arange(len(position))
    weights[rows, below] = torch.from_numpy(1 - share).float()
    if length > 1:
        weights[rows, below + 1] = torch.from_numpy(share).float()
    return weights if repeat else weights * torch.from_numpy(inside).float()[:, None]


def positions(grid: Grid, own: Grid) -> list[np.ndarray]:
    """Voxel positions of the grid `own` at every position of `grid`, per axis."""
    return [
        (origin + np.arange(n) * step - first) / own_step
        for n, step, origin, own_step, first in zip(*grid, *own[1:], strict=True)
    ]


def resampled(volume: np.ndarray, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The volume under one matrix (positions, length) per axis z, y, x."""
    z, y, x = weights
    result = torch.from_numpy(volume) @ x.T
    result = y @ result
    return torch.einsum("ab,bcd->acd", z, result).contiguous()


def nearest(labels: np.ndarray, grid: Grid, own: Grid) -> torch.Tensor:
    """Labels of the nearest voxels, 0 outside."""
    found = [
        (p.round().clip(0, n - 1).astype(int), (p > -0.5) & (p < n - 0.5))
        for p, n in zip(positions(grid, own), labels.shape, strict=True)
    ]
    (z, in_z), (y, in_y), (x, in_x) = found
    inside = torch.from_numpy(in_z[:, None, None] & in_y[:, None] & in_x[None, None])
    return torch.from_numpy(labels[np.ix_(z, y, x)]) * inside


def averages(grid: Grid, own: Grid) -> tuple[tuple[slice, slice, slice], list[torch.Tensor]]:
    """The part of a volume on the grid `own` that `grid` covers, and matrices that resample it; 0 outside.

    Linear interpolation; where the voxels of `grid` are larger, weighted means over their width.
    """
    parts, matrices = [], []
    for position, length, step, own_step in zip(positions(grid, own), own[0], grid[1], own[1], strict=True):
        width = max(1.0, step / own_step)
        first = int(np.clip(np.floor(position[0] - width), 0, length - 1))
        last = int(np.clip(np.ceil(position[-1] + width) + 1, first + 1, length))
        reach = np.arange(np.floor(position[0] - width) - 1, np.ceil(position[-1] + width) + 2)
        weights = (1 - np.abs(position[:, None] - reach[None]) / width).clip(min=0)
        weights /= weights.sum(1, keepdims=True)
        there = (reach >= first) & (reach < last)
        matrix = np.zeros((len(position), last - first), np.float32)
        matrix[:, (reach[there] - first).astype(int)] = weights[:, there]
        parts.append(slice(first, last))
        matrices.append(torch.from_numpy(matrix))
    return (parts[0], parts[1], parts[2]), matrices
