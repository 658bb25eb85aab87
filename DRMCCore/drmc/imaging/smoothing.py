"""Gaussian smoothing, and the noise that it removes. Arrays (z, y, x), spacings (z, y, x) in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
DETAIL_FWHM_MM = 8.0  # the detail that this Gaussian removes is mostly noise
_MAD_PER_SIGMA = 0.6745


def smooth(volume_zyx: np.ndarray | torch.Tensor, sigma_voxels: Sequence[float]) -> torch.Tensor:
    """Separable sampled Gaussian, cut at 4 standard deviations; the edges of the image are repeated.

    Args:
        volume_zyx: image (z, y, x).
        sigma_voxels: standard deviation [voxels] along each axis.

    Returns:
        float32 tensor (z, y, x).
    """
    volume = torch.as_tensor(volume_zyx, dtype=torch.float32)
    for axis, sigma in enumerate(sigma_voxels):
        if sigma <= 0:
            continue
        reach = math.ceil(4 * sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).to(volume)
        lines = volume.movedim(axis, -1)
        rows = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        filtered = functional.conv1d(rows, (kernel / kernel.sum())[None, None])
        volume = filtered.reshape(lines.shape).movedim(-1, axis)
    return volume.contiguous()


def noise_level(suv_zyx: np.ndarray, body: np.ndarray, spacing_zyx: Sequence[float]) -> float:
    """Robust standard deviation, inside the body, of the detail that a Gaussian of 8 mm FWHM removes [SUV].

    From the image itself, without its full dose. A measure of scale only: the noise of PET is correlated and
    grows with uptake, so a filter's strength is chosen in multiples of it.

    Args:
        suv_zyx: image (z, y, x) [SUV].
        body: bool (z, y, x).
        spacing_zyx: voxel spacing [mm].
    """
    if not body.any():
        return 0.0
    smoothed = smooth(suv_zyx, [DETAIL_FWHM_MM / FWHM_PER_SIGMA / step for step in spacing_zyx]).numpy()
    detail = (suv_zyx - smoothed)[body]
    return float(np.median(np.abs(detail - np.median(detail))) / _MAD_PER_SIGMA)
