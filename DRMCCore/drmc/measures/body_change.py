"""The change of a whole scan by denoising: mean and noise in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from drmc.imaging.body import body_mask

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


_MAD_TO_SD = 1.4826  # of normally distributed values


class BodyChange(TypedDict):
    """Mean SUV and noise [SUV] in the body of the original; None if not defined, such as without a body."""

    voxels: int
    mean_original: float | None
    mean_denoised: float | None
    mean_change_percent: float | None
    noise_original: float | None
    noise_denoised: float | None
    noise_reduction_percent: float | None


def body_change(original: np.ndarray, denoised: np.ndarray, geometry: Geometry) -> BodyChange:
    """The change of the body by denoising; both images SUV (z, y, x) on `geometry`."""
    mask = body_mask(original, geometry.spacing_zyx)
    found: BodyChange = {
        "voxels": int(mask.sum()),
        "mean_original": None,
        "mean_denoised": None,
        "mean_change_percent": None,
        "noise_original": None,
        "noise_denoised": None,
        "noise_reduction_percent": None,
    }
    if not mask.any():
        return found
    before, after = (float(image[mask].mean(dtype=np.float64)) for image in (original, denoised))
    noise_before, noise_after = noise(original, mask), noise(denoised, mask)
    found["mean_original"], found["mean_denoised"] = before, after
    found["noise_original"], found["noise_denoised"] = noise_before, noise_after
    if before > 0:
        found["mean_change_percent"] = 100.0 * (after - before) / before
    if noise_before and noise_after is not None:
        found["noise_reduction_percent"] = 100.0 * (1.0 - noise_after / noise_before)
    return found


def noise(image: np.ndarray, mask: np.ndarray) -> float | None:
    """An index of the noise in a body [SUV]; None if the body is too narrow for one.

    The robust standard deviation of the second differences along x, v[x-1] - 2 v[x] + v[x+1], divided by the
    sqrt(6) that it would be for white noise of standard deviation 1.

    Args:
        image: SUV (z, y, x).
        mask: the body, bool (z, y, x).
    """
    inside = mask[..., 1:-1] & mask[..., :-2] & mask[..., 2:]
    if not inside.any():
        return None
    second = (image[..., :-2] - 2.0 * image[..., 1:-1] + image[..., 2:])[inside]
    return float(_MAD_TO_SD * np.median(np.abs(second - np.median(second))) / np.sqrt(6.0))
