"""The change of a whole scan by denoising: mean and noise in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from drmc.imaging.body import body_mask

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry
    from drmc.segments.segment import Segment


_MAD_TO_SD = 1.4826  # of normally distributed values


class LiverChange(TypedDict):
    """Noise [SUV] in the liver; None if the liver is too narrow for one."""

    segment: str
    noise_original: float | None
    noise_denoised: float | None
    noise_reduction_percent: float | None


class _BodyChange(TypedDict):
    """Mean SUV and noise [SUV] in the body of the original; None if not defined, such as without a body."""

    voxels: int
    mean_original: float | None
    mean_denoised: float | None
    mean_change_percent: float | None
    noise_original: float | None
    noise_denoised: float | None
    noise_reduction_percent: float | None


class BodyChange(_BodyChange, total=False):
    """The change of the body; `liver` only if one of the segments is the liver."""

    liver: LiverChange


def body_change(
    original: np.ndarray, denoised: np.ndarray, geometry: Geometry, liver: Segment | None = None
) -> BodyChange:
    """The change of the body by denoising, and of the liver; both images SUV (z, y, x) on `geometry`."""
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
    if liver is not None:
        found["liver"] = _liver_change(original, denoised, liver)
    if not mask.any():
        return found
    before, after = (float(image[mask].mean(dtype=np.float64)) for image in (original, denoised))
    noise_before, noise_after = noise(original, mask), noise(denoised, mask)
    found["mean_original"], found["mean_denoised"] = before, after
    found["noise_original"], found["noise_denoised"] = noise_before, noise_after
    if before > 0:
        found["mean_change_percent"] = 100.0 * (after - before) / before
    found["noise_reduction_percent"] = _reduction(noise_before, noise_after)
    return found


def _liver_change(original: np.ndarray, denoised: np.ndarray, liver: Segment) -> LiverChange:
    before, after = (noise(image[liver.box], liver.inside) for image in (original, denoised))
    return {
        "segment": liver.name,
        "noise_original": before,
        "noise_denoised": after,
        "noise_reduction_percent": _reduction(before, after),
    }


def _reduction(before: float | None, after: float | None) -> float | None:
    """The fall of the noise [%]; None if not defined."""
    return 100.0 * (1.0 - after / before) if before and after is not None else None


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
