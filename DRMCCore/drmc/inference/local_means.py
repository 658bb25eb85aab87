"""Denoising may not move uptake over a distance: the local mean of the residual is taken out of it.

Noise of a reconstruction has no mean over some centimeters: what a network changes there is its bias. Axes
(z, y, x); SUV in g/ml; mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from drmc.imaging.smoothing import FWHM_PER_SIGMA, smooth

LOCAL_MEAN_FWHM_MM = 40.0
"""Width of the Gaussian over which a scan's mean is held: more than a small lesion, less than a liver."""

_BLOCK = 4  # voxels: the mean is so smooth that blocks of 8 mm and linear interpolation suffice
_LEAST_SHARE = 1e-3  # of the Gaussian's weight: there is body around


def keep_local_means(residual_zyx: np.ndarray, body: np.ndarray, spacing_zyx: Sequence[float]) -> None:
    """Subtracts, inside the body, the body's local mean of a residual from it, in place.

    The mean is a Gaussian of `LOCAL_MEAN_FWHM_MM`, normalized by its weight inside the body, of blocks of
    `_BLOCK` voxels. What is outside the body, and a residual of zero, stay as they are.

    Args:
        residual_zyx: what a network would add [SUV], float32 (z, y, x).
        body: bool (z, y, x).
        spacing_zyx: voxel spacing [mm].
    """
    sigma = [LOCAL_MEAN_FWHM_MM / FWHM_PER_SIGMA / (_BLOCK * step) for step in spacing_zyx]
    weight = smooth(_block_means(body), sigma)
    mean = smooth(_block_means(np.where(body, residual_zyx, np.float32(0))), sigma)
    mean = torch.where(weight > _LEAST_SHARE, mean / weight, 0.0)
    # Blocks are interpolated between their centers, beyond the outer ones kept.
    fine = functional.interpolate(mean[None, None], scale_factor=_BLOCK, mode="trilinear")[0, 0].numpy()
    fine = fine[tuple(map(slice, body.shape))]
    with np.errstate(invalid="ignore"):  # non-finite values of a failing network are reported by the pipeline
        np.subtract(residual_zyx, fine, out=residual_zyx, where=body)


def _block_means(volume_zyx: np.ndarray) -> np.ndarray:
    """Means of blocks of `_BLOCK` voxels along each axis, float32; beyond the faces there are zeros."""
    padding = [(0, -size % _BLOCK) for size in volume_zyx.shape]
    means = np.pad(volume_zyx, padding)
    for axis in range(3):
        blocks = (*means.shape[:axis], -1, _BLOCK, *means.shape[axis + 1 :])
        means = means.reshape(blocks).mean(axis + 1, dtype=np.float32)
    return means
