"""What denoising did to a whole scan: mean and noise in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from drmc.imaging.body import body_mask

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


_MAD_TO_SD = 1.4826  # of normally distributed values


def body_change(original: np.ndarray, denoised: np.ndarray, geometry: Geometry) -> dict[str, Any]:
    """How the SUV of the body changed; both images SUV (z, y, x) on `geometry`.

    `voxels` of the original's body, `mean_original` and `mean_denoised` SUV, `mean_change_percent`, and `noise_original`,
    `noise_denoised` and `noise_reduction_percent` (drmc.measures.body_change.noise); None where there is no body.
    """
    mask = body_mask(original, geometry.spacing_zyx)
    means = ("mean_original", "mean_denoised", "mean_change_percent")
    noises = ("noise_original", "noise_denoised", "noise_reduction_percent")
    found: dict[str, Any] = {"voxels": int(mask.sum()), **dict.fromkeys((*means, *noises))}
    if not mask.any():
        return found
    before, after = (float(image[mask].mean(dtype=np.float64)) for image in (original, denoised))
    noise_before, noise_after = noise(original, mask), noise(denoised, mask)
    found.update(mean_original=before, mean_denoised=after)
    found.update(noise_original=noise_before, noise_denoised=noise_after)
    if before > 0:
        found["mean_change_percent"] = 100.0 * (after - before) / before
    if noise_before and noise_after is not None:
        found["noise_reduction_percent"] = 100.0 * (1.0 - noise_after / noise_before)
    return found


def noise(image: np.ndarray, mask: np.ndarray) -> float | None:
    """An index of the noise in a body, SUV: the robust standard deviation of second differences along x, v[x-1] - 2 v[x] +
    v[x+1], divided by sqrt(6), which white noise would have; None where the body is too narrow for one."""
    inside = mask[..., 1:-1] & mask[..., :-2] & mask[..., 2:]
    if not inside.any():
        return None
    second = (image[..., :-2] - 2.0 * image[..., 1:-1] + image[..., 2:])[inside]
    return float(_MAD_TO_SD * np.median(np.abs(second - np.median(second))) / np.sqrt(6.0))
