"""The image metrics of the authors' code and other variants in the literature, for comparison only.

Arguments and errors as in drmc.measures.metrics.
"""

from __future__ import annotations

import math

import numpy as np

from drmc.measures.metrics import SUV_RANGE, checked_pair, decibel, mean_squared_error, ssim_map_mean

LEGACY_CEILING_DB = 100.0


def psnr_clipped(
    estimate: np.ndarray,
    reference: np.ndarray,
    *,
    data_range: float = SUV_RANGE,
    mask: np.ndarray | None = None,
) -> float:
    """`psnr` after clipping both images to [0, data_range] (UniPET's form); hides hot lesions and bladder."""
    x, y = checked_pair(estimate, reference, mask)
    return decibel(data_range, mean_squared_error(np.clip(x, 0.0, data_range), np.clip(y, 0.0, data_range)))


def psnr_reference_maximum(
    estimate: np.ndarray, reference: np.ndarray, *, mask: np.ndarray | None = None
) -> float:
    """`psnr` with the maximum of the reference in the mask as its range: not comparable between patients.

    Raises:
        ValueError: the reference has no value above 0.
    """
    x, y = checked_pair(estimate, reference, mask)
    peak = float(y.max())
    if peak <= 0:
        raise ValueError("the reference has no value above 0, so its maximum is no data range")
    return decibel(peak, mean_squared_error(x, y))


def psnr_legacy(estimate: np.ndarray, reference: np.ndarray) -> float:
    """The DRMC authors' PSNR: each image over its own maximum, range 1, 100 dB if the MSE is below 1e-10.

    Blind to a global scale error of the SUV; only for comparison with published figures.
    """
    x, y = _by_own_maximum(estimate), _by_own_maximum(reference)
    return _legacy_decibel(mean_squared_error(x, y))


def psnr_slices(estimate: np.ndarray, reference: np.ndarray) -> float:
    """The authors' second variant: mean PSNR over all slices of all three axes, blank ones (100 dB) included.

    As in `psnr_legacy` each volume is divided by its own maximum first.

    Raises:
        ValueError: the images are not volumes of one shape, or one has no value above 0.
    """
    x, y = _by_own_maximum(estimate), _by_own_maximum(reference)
    if x.ndim != 3 or x.shape != y.shape:
        raise ValueError(f"two volumes (z, y, x) of one shape are needed, not {x.shape} and {y.shape}")
    square = (x - y) ** 2
    values: list[float] = []
    for axis in range(3):
        errors = square.mean(axis=tuple(other for other in range(3) if other != axis))
        values.extend(_legacy_decibel(float(error)) for error in errors)
    return float(np.mean(values))


def ssim_legacy(estimate: np.ndarray, reference: np.ndarray) -> float:
    """The DRMC authors' SSIM: same window, zeros beyond the border, C1 = 1e-4, C2 = 9e-4 on SUV, no mask."""
    return ssim_map_mean(estimate, reference, 1e-4, 9e-4, None, 1.5, 11, False)


def _legacy_decibel(mean_square: float) -> float:
    return LEGACY_CEILING_DB if mean_square < 1e-10 else 10.0 * math.log10(1.0 / mean_square)


def _by_own_maximum(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image, dtype=np.float64)
    peak = float(image.max())
    if peak <= 0:
        raise ValueError("the image has no value above 0 to be divided by")
    return image / peak
