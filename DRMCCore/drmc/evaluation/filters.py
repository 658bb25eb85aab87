"""The classical filters that a network is compared with. Arrays (z, y, x) SUV, spacings (z, y, x) in mm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError
from drmc.imaging.body import body_mask
from drmc.imaging.masks import bounding_box
from drmc.imaging.smoothing import FWHM_PER_SIGMA, noise_level

_CHUNK_SLICES = 24
_DARK_SUV = 0.05  # below it the noise hardly falls any more with uptake


def gaussian_filter(suv_zyx: np.ndarray, spacing_zyx: Sequence[float], fwhm_mm: float) -> np.ndarray:
    """Isotropic Gaussian of the given width in mm; axes of a few voxels are filtered as far as they reach."""
    image = sitk.GetImageFromArray(suv_zyx)
    image.SetSpacing([float(step) for step in reversed(spacing_zyx)])
    sigma = fwhm_mm / FWHM_PER_SIGMA
    smoothed = sitk.DiscreteGaussian(image, [sigma**2] * 3, 64, 0.001, True)
    return sitk.GetArrayFromImage(smoothed)


def require_nonlocal_means() -> Callable[..., np.ndarray]:
    """The filter of scikit-image. Raises InputError where that package is not installed."""
    try:
        from skimage.restoration import denoise_nl_means
    except ImportError:
        raise InputError(
            "scikit-image is not installed: run 'pip install scikit-image' to compare with non-local means, "
            "or leave 'nlm' out of the methods"
        ) from None
    return denoise_nl_means


def stabilized(suv: np.ndarray) -> np.ndarray:
    """Square root of the magnitude with its sign: the variance of PET's noise grows about as the uptake does.

    sign(x) * (sqrt(|x| + c) - sqrt(c)), c = 0.05 SUV (after Anscombe, Biometrika 1948); any shape.
    """
    root = np.sqrt(np.abs(suv) + np.float32(_DARK_SUV)) - np.float32(math.sqrt(_DARK_SUV))
    return np.copysign(root, suv).astype(np.float32)


def restored(filtered: np.ndarray, suv: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The inverse of `stabilized` for a filtered image, with the mean that `suv` has inside `body`.

    A mean of square roots is below the root of the mean: the factor gives back what that takes.
    """
    magnitude = np.square(np.abs(filtered) + np.float32(math.sqrt(_DARK_SUV))) - np.float32(_DARK_SUV)
    image = np.copysign(magnitude, filtered)
    mean = float(image[body].mean(dtype=np.float64)) if body.any() else 0.0
    factor = float(suv[body].mean(dtype=np.float64)) / mean if mean > 0 else 1.0
    return (image * factor).astype(np.float32)


def nonlocal_means_parameters(parameters: Mapping[str, float]) -> tuple[int, int, float]:
    """Patch and reach [voxels] and strength, as a configuration and a grid name them."""
    return int(parameters["patch"]), int(parameters["reach"]), parameters["strength"]


def nonlocal_means(
    suv_zyx: np.ndarray,
    spacing_zyx: Sequence[float],
    *,
    patch: int,
    reach: int,
    strength: float,
    stabilize: bool = False,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Non-local means (Buades et al. 2005; scikit-image's fast form) in 3D on the scan's own grid.

    Patches of `patch` voxels (odd) a side are compared with those up to `reach` voxels away along each axis;
    `strength` is the decay h in multiples of `noise_level`. Only the box around the body is filtered, a few
    slices at a time with the margin that they need: the result is that of the whole box. With `stabilize` the
    filter works on the square root of the image, see `stabilized`. `progress` is called with the share that
    is done.
    """
    body = body_mask(suv_zyx, spacing_zyx)
    box = bounding_box(body)
    if box is None:
        return suv_zyx.copy()
    result = suv_zyx.copy()
    image = stabilized(suv_zyx) if stabilize else suv_zyx
    level = noise_level(image, body, spacing_zyx)
    filtered = nonlocal_means_slices(image[box], strength * level, patch, reach, progress=progress)
    result[box] = restored(filtered, suv_zyx[box], body[box]) if stabilize else filtered
    return result


def nonlocal_means_slices(
    image: np.ndarray,
    decay: float,
    patch: int,
    reach: int,
    *,
    slices: slice | None = None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Non-local means of some slices (all by default) of an image, with the voxels around them as context.

    `decay` is scikit-image's h, in the image's units; 0 returns the image.
    """
    first, stop, _ = (slices or slice(None)).indices(image.shape[0])
    if decay <= 0:
        return image[first:stop].copy()
    denoise = require_nonlocal_means()
    margin = reach + patch // 2 + 1
    parts = []
    for low in range(first, stop, _CHUNK_SLICES):
        high = min(low + _CHUNK_SLICES, stop)
        around = slice(max(0, low - margin), high + margin)
        options: dict[str, Any] = {"patch_size": patch, "patch_distance": reach, "h": decay}
        # Double precision: the filter sums squares over the whole array and takes differences of the sums.
        source = image[around].astype(np.float64)
        found = denoise(source, fast_mode=True, preserve_range=True, channel_axis=None, **options)
        parts.append(found[low - around.start : high - around.start].astype(np.float32))
        if progress is not None:
            progress((high - first) / (stop - first))
    return np.concatenate(parts)
