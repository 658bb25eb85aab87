"""Image metrics against a full-dose image, with numpy only.

`estimate` and `reference` are arrays of one shape in SUV, (z, y, x) unless documented otherwise; `mask` is
bool of that shape (default: every voxel). Report range, mask and n with every result: PSNR is not comparable
across ranges or masks. All metrics raise ValueError for different shapes and for a mask that is empty, not
bool or of another shape.
"""

from __future__ import annotations

import math

import numpy as np

SUV_RANGE = 20.0  # the data range of the headline figures, in SUV


def psnr(
    estimate: np.ndarray,
    reference: np.ndarray,
    *,
    data_range: float = SUV_RANGE,
    mask: np.ndarray | None = None,
) -> float:
    """Peak signal-to-noise ratio [dB], 10 log10(data_range^2 / MSE), unclipped; infinite for equal images.

    Raises:
        ValueError: the arguments do not fit together, see above, or the data range is not above 0.
    """
    x, y = checked_pair(estimate, reference, mask)
    return decibel(data_range, mean_squared_error(x, y))


def nrmse(estimate: np.ndarray, reference: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Normalized root mean square error: sqrt(sum (x - y)^2 / sum y^2) over the mask, y being the reference.

    Raises:
        ValueError: the arguments do not fit together, see above, or the reference is 0 everywhere in the
            mask.
    """
    x, y = checked_pair(estimate, reference, mask)
    energy = float(np.sum(y * y))
    if energy == 0:
        raise ValueError("the reference is 0 everywhere in the mask")
    return math.sqrt(float(np.sum((x - y) ** 2)) / energy)


def ssim(
    estimate: np.ndarray,
    reference: np.ndarray,
    *,
    data_range: float = SUV_RANGE,
    mask: np.ndarray | None = None,
    sigma: float = 1.5,
    width: int = 11,
) -> float:
    """Structural similarity (Wang et al. 2004), for any number of axes.

    The window is a Gaussian of `sigma` voxels, `width` voxels wide along each axis. C1 = (0.01 L)^2,
    C2 = (0.03 L)^2 with L = data_range; the result is the mean of the map over the mask. Windows reach out of
    the mask, but at the image border they contain only existing voxels, with weights that sum to 1.

    Raises:
        ValueError: the arguments do not fit together, see above, or the width is not odd.
    """
    return ssim_map_mean(
        estimate, reference, (0.01 * data_range) ** 2, (0.03 * data_range) ** 2, mask, sigma, width, True
    )


def attainable_gain_db(dose_reduction_factor: float) -> float:
    """10 log10(DRF): the gain in PSNR against the full-dose image that no estimator exceeds in expectation.

    The low dose is a subset of the full dose's events: the rest of the full dose's noise cannot be predicted.

    Raises:
        ValueError: the factor is below 1.
    """
    if not dose_reduction_factor >= 1:
        raise ValueError(f"a dose reduction factor is at least 1, not {dose_reduction_factor}")
    return 10.0 * math.log10(dose_reduction_factor)


def share_of_attainable(gain_db: float, dose_reduction_factor: float) -> float:
    """A gain in PSNR [dB] as a fraction of `attainable_gain_db`.

    Raises:
        ValueError: the factor is not above 1.
    """
    attainable = attainable_gain_db(dose_reduction_factor)
    if attainable == 0:
        raise ValueError("at a dose reduction factor of 1 there is nothing to gain")
    return gain_db / attainable


def checked_pair(
    estimate: np.ndarray, reference: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both images as float64, 1-D over the mask if there is one.

    Raises:
        ValueError: the shapes differ, the mask is not valid, or there are no voxels.
    """
    estimate, reference = np.asarray(estimate), np.asarray(reference)
    if estimate.shape != reference.shape:
        raise ValueError(f"estimate {estimate.shape} and reference {reference.shape} differ in shape")
    if mask is not None:
        mask = _checked_mask(mask, reference.shape)
        estimate, reference = estimate[mask], reference[mask]
    if estimate.size == 0:
        raise ValueError("there are no voxels to compare")
    return estimate.astype(np.float64), reference.astype(np.float64)


def _checked_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"a mask is bool, not {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"the mask {mask.shape} and the images {shape} differ in shape")
    if not mask.any():
        raise ValueError("the mask is empty")
    return mask


def mean_squared_error(x: np.ndarray, y: np.ndarray) -> float:
    """Mean of the squared differences, float64."""
    return float(np.mean((x - y) ** 2))


def decibel(data_range: float, mean_square: float) -> float:
    """PSNR in dB of a mean squared error; infinite if that is 0.

    Raises:
        ValueError: the data range is not above 0.
    """
    if not data_range > 0:
        raise ValueError(f"a data range is above 0, not {data_range}")
    return math.inf if mean_square == 0 else 10.0 * math.log10(data_range**2 / mean_square)


def ssim_map_mean(
    estimate: np.ndarray,
    reference: np.ndarray,
    c1: float,
    c2: float,
    mask: np.ndarray | None,
    sigma: float,
    width: int,
    renormalize: bool,
) -> float:
    """Mean of the SSIM map (Wang et al. 2004) with the given constants and window.

    Args:
        estimate: image of any number of axes.
        reference: image of the same shape.
        c1: constant C1.
        c2: constant C2.
        mask: bool, where the map is averaged; None: everywhere.
        sigma: standard deviation of the Gaussian window [voxels].
        width: width of the window [voxels], odd.
        renormalize: whether the weights inside the image sum to 1 at its border; else zeros are added beyond
            it.

    Raises:
        ValueError: the shapes differ, the mask is not valid, or the width is not odd.
    """
    x, y = np.asarray(estimate), np.asarray(reference)
    if x.shape != y.shape:
        raise ValueError(f"estimate {x.shape} and reference {y.shape} differ in shape")
    if width < 1 or width % 2 == 0:
        raise ValueError(f"the window is an odd number of voxels wide, not {width}")
    mask = np.ones(x.shape, dtype=bool) if mask is None else _checked_mask(mask, x.shape)
    half = width // 2
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    kernel /= kernel.sum()

    # Only windows that touch the mask, and a few slices at a time, which stay in the processor's cache.
    box = tuple(slice(max(0, low - half), high + half) for low, high in _bounds(mask))
    x, y, mask = x[box], y[box], mask[box]
    length = x.shape[0]
    step = max(8, 100_000 // max(1, int(np.prod(x.shape[1:]))))
    total = 0.0
    for start in range(0, length, step):
        stop = min(start + step, length)
        inside = mask[start:stop]
        if not inside.any():
            continue
        low, high = max(0, start - half), min(length, stop + half)
        a, b = x[low:high].astype(np.float64), y[low:high].astype(np.float64)
        moments = np.stack([a, b, a * a, b * b, a * b])
        moments = _smooth(moments, 1, kernel, renormalize)[:, start - low : stop - low]
        for axis in range(2, moments.ndim):
            moments = _smooth(moments, axis, kernel, renormalize)
        mean_x, mean_y, square_x, square_y, product = moments[:, inside]
        variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
        covariance = product - mean_x * mean_y
        similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
            (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        )
        total += float(similarity.sum())
    return total / int(np.count_nonzero(mask))


def _bounds(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 index of the mask along every axis."""
    bounds = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        bounds.append((int(used[0]), int(used[-1]) + 1))
    return bounds


def _smooth(image: np.ndarray, axis: int, kernel: np.ndarray, renormalize: bool) -> np.ndarray:
    """Convolution along one axis, zeros beyond the border; `renormalize` divides by the weights inside."""
    half, length = len(kernel) // 2, image.shape[axis]
    source = np.moveaxis(image, axis, 0)
    smoothed = np.zeros_like(image)
    result = np.moveaxis(smoothed, axis, 0)
    buffer = np.moveaxis(np.empty_like(image), axis, 0)
    weight = np.zeros(length)
    for shift, factor in zip(range(-half, half + 1), kernel, strict=True):
        low, high = max(0, -shift), min(length, length - shift)
        if low < high:
            np.multiply(source[low + shift : high + shift], factor, out=buffer[low:high])
            result[low:high] += buffer[low:high]
            weight[low:high] += factor
    if renormalize:
        result /= weight.reshape((-1,) + (1,) * (image.ndim - 1))
    return smoothed
