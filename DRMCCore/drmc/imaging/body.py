"""Where the body is in a PET image.

Axis legend: arrays (z, y, x); SUV in g/ml; spacings in mm. NumPy and SimpleITK only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

BODY_SUV = 0.1
"""SUV above which smoothed tissue counts as body in every scan.

With FDG, fat and lung are at 0.2 to 0.5 and air is below 0.05.
"""

LEAST_BODY_SUV = 0.02
"""SUV below which nothing counts as body, even with tracers that leave muscle and fat below BODY_SUV."""

HOT_SUV = 1.0
"""SUV above which a single voxel belongs to the body, wherever it is: it may be a lesion."""

_BLOCK_MM = 4.0
_SMOOTHING_MM = 5.0
_CLOSING_MM = 12.0
_SPECK_ML = 10.0
_SPECK_FRACTION = 0.05
_NEAR_MM = 16.0
_NEAR_BLOCK_MM = 8.0  # of the box around the body, which needs no finer ones
_AIR = 0.25  # of the level between body and air, below which air is left out when it is found again
_ROUNDS = 4
_OUTLIERS = 0.002  # share of the voxels above it at either side that do not belong to the body's box


def body_mask(suv_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Finds the body, rather too large than too small, and never without lesion-like uptake.

    The smoothed image is thresholded at half of the level that separates air and body (Otsu), at most
    `BODY_SUV` and at least `LEAST_BODY_SUV`; specks (below 10 ml and below 5 % of the largest component)
    without a voxel above `HOT_SUV` are dropped; gaps up to 24 mm are closed and holes filled. Every voxel
    above `HOT_SUV` belongs to the mask, however small the uptake is and however far from the body. Works on
    blocks of about 4 mm: the mask's edge has steps of that size.

    Args:
        suv_zyx: SUV [g/ml], (z, y, x), any size from one voxel up; negative values are legal.
        spacing_zyx: voxel spacing [mm] in the array's axis order.

    Returns:
        bool array of the same shape; all False if nothing reaches the threshold.
    """
    smooth, factors = _smoothed_blocks(suv_zyx, spacing_zyx)
    level = _level_between(smooth)
    threshold = BODY_SUV if level is None else min(BODY_SUV, max(LEAST_BODY_SUV, level / 2))
    return _mask(suv_zyx, spacing_zyx, smooth, factors, threshold, HOT_SUV)


def body_mask_of_any_scale(image_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Like `body_mask`, for an image of unknown units or without attenuation correction.

    The threshold separates body and air of the smoothed image (Otsu), with values above the 90th percentile
    set to it. What a slice encloses is body too, since attenuation darkens the middle. Uncorrected images
    have a halo of scatter: the mask extends some millimeters into it.

    Args:
        image_zyx: image (z, y, x) of any unit.
        spacing_zyx: voxel spacing [mm].

    Returns:
        bool array (z, y, x); all False if nothing is above zero.
    """
    smooth, factors = _smoothed_blocks(image_zyx, spacing_zyx)
    level = _level_between(smooth)
    if level is None:
        return image_zyx > 0
    body = _mask(image_zyx, spacing_zyx, smooth, factors, level, level * HOT_SUV / BODY_SUV)
    return fill_slices(body)


def near_body(image_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> tuple[slice, slice, slice]:
    """The part of a scan around the body: all slices, and a box in the plane with 16 mm around it.

    It hardly depends on how much air the scan shows, other than the level of `body_mask_of_any_scale`, which
    is lower the more air there is: in uncorrected images it may be that of the halo. Here air is left out and
    the level found again. Outer fat of little uptake may be beyond the box.

    Args:
        image_zyx: image (z, y, x) of any unit.
        spacing_zyx: voxel spacing [mm].
    """
    smooth, factors = _smoothed_blocks(image_zyx, spacing_zyx, _NEAR_BLOCK_MM)
    values = sitk.GetArrayFromImage(smooth)
    if (most := float(values.max(initial=0))) > 0:
        values /= most  # the bins of Otsu's histogram are not those of any scale otherwise
    level = 0.0
    for _ in range(_ROUNDS):
        found = _level_of(values[values > _AIR * level])
        if found is None:
            break
        level = found
    above = values >= level
    cuts = [slice(0, image_zyx.shape[0])]
    for axis in (1, 2):
        count = np.cumsum(above.sum(axis=tuple(a for a in range(3) if a != axis)))
        first, last = np.searchsorted(count, np.array([_OUTLIERS, 1 - _OUTLIERS]) * count[-1])
        step = factors[axis]
        margin = math.ceil(_NEAR_MM / spacing_zyx[axis])
        cuts.append(slice(max(0, int(first) * step - margin), (int(last) + 1) * step + margin))
    return cuts[0], cuts[1], cuts[2]


def fill_slices(mask_zyx: np.ndarray) -> np.ndarray:
    """Fills the holes of each slice: background that no face-connected path in the slice leads out of.

    Args:
        mask_zyx: bool (z, y, x).

    Returns:
        bool array of the same shape.
    """
    # One call for all slices, which solid slices separate: a call takes milliseconds even for a small one.
    separated = np.ones((2 * len(mask_zyx) + 1, *mask_zyx.shape[1:]), np.uint8)
    separated[1::2] = mask_zyx
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray(separated))
    return sitk.GetArrayViewFromImage(filled)[1::2].astype(bool)


def _level_between(smooth: sitk.Image) -> float | None:
    """The level between air and body in a smoothed image (Otsu); None if all values above zero are equal.

    Values above the 90th percentile are set to it.
    """
    return _level_of(sitk.GetArrayViewFromImage(smooth))


def _level_of(values: np.ndarray) -> float | None:
    """The same of any array of values."""
    above = values[values > 0]
    if not above.size or above.min() == above.max():
        return None
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(256)
    clipped = np.clip(values, 0, np.percentile(above, 90))
    otsu.Execute(sitk.GetImageFromArray(clipped.reshape(1, *clipped.shape) if clipped.ndim == 1 else clipped))
    return max(otsu.GetThreshold(), float(above.min()))


def _mask(
    image_zyx: np.ndarray,
    spacing_zyx: Sequence[float],
    smooth: sitk.Image,
    factors: Sequence[int],
    body_level: float,
    hot_level: float,
) -> np.ndarray:
    """The mask from an image, its smoothed blocks of `factors` voxels, and the two levels."""
    block_mm = [factor * step for factor, step in zip(factors, spacing_zyx, strict=True)]
    hot = _reduce_blocks(image_zyx, factors, np.maximum) > hot_level
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(smooth > body_level))
    sizes = np.bincount(labels.ravel(), minlength=2) * (np.prod(block_mm) / 1000.0)
    keep = sizes >= min(_SPECK_ML, _SPECK_FRACTION * sizes[1:].max())
    keep[np.unique(labels[hot])] = True
    keep[0] = False
    body = keep[labels] | hot

    radius = [round(_CLOSING_MM / step) for step in block_mm]
    padded = np.pad(body, [(width, width) for width in radius])
    inner = tuple(slice(width, width + size) for width, size in zip(radius, body.shape, strict=True))
    body |= ~grow(~grow(padded, radius), radius)[inner]
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray(body.astype(np.uint8)))
    body = sitk.GetArrayViewFromImage(filled).astype(bool)

    for axis, (size, factor) in enumerate(zip(image_zyx.shape, factors, strict=True)):
        if factor > 1:
            body = np.take(body, np.arange(size) // factor, axis=axis)
    return body


def _smoothed_blocks(
    image_zyx: np.ndarray, spacing_zyx: Sequence[float], block_mm: float = _BLOCK_MM
) -> tuple[sitk.Image, list[int]]:
    """Means over blocks of about `block_mm`, smoothed; and the voxels of a block along each axis."""
    factors = [max(1, round(block_mm / step)) for step in spacing_zyx]
    mean = _reduce_blocks(image_zyx, factors, np.add)
    for axis, (size, factor) in enumerate(zip(image_zyx.shape, factors, strict=True)):
        voxels = np.minimum(factor, size - factor * np.arange(mean.shape[axis]))
        mean = mean / voxels.astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    image = sitk.GetImageFromArray(mean.astype(np.float32, copy=False))
    image.SetSpacing(
        [float(f * step) for f, step in zip(reversed(factors), reversed(list(spacing_zyx)), strict=True)]
    )
    return sitk.DiscreteGaussian(image, [_SMOOTHING_MM**2] * 3), factors


def tile_region(start: Sequence[int], tile: int, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """The part of an image of `shape` that the tile beginning at `start` covers, as slices (z, y, x)."""
    z, y, x = (
        slice(max(first, 0), min(first + tile, size)) for first, size in zip(start, shape, strict=True)
    )
    return z, y, x


def grow(mask: np.ndarray, voxels: Sequence[int]) -> np.ndarray:
    """Dilates a bool mask (z, y, x) by a box that extends `voxels[axis]` voxels to either side."""
    grown = mask
    for axis, width in enumerate(voxels):
        reached = 0
        while reached < width:
            # Doubling the reach makes a wide box cost a logarithmic number of passes.
            step = min(reached + 1, width - reached)
            before = [slice(None)] * 3
            after = [slice(None)] * 3
            before[axis], after[axis] = slice(None, -step), slice(step, None)
            wider = grown.copy()
            if step < grown.shape[axis]:
                wider[tuple(after)] |= grown[tuple(before)]
                wider[tuple(before)] |= grown[tuple(after)]
            grown = wider
            reached += step
    return grown


def _reduce_blocks(array: np.ndarray, factors: Sequence[int], operation: np.ufunc) -> np.ndarray:
    """Sum or maximum over blocks of `factors` voxels; the last block of an axis may be smaller."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            every = [slice(None)] * 3
            every[axis] = slice(0, None, factor)
            reduced = array[tuple(every)].copy()
            for offset in range(1, factor):
                every[axis] = slice(offset, None, factor)
                part = array[tuple(every)]
                every[axis] = slice(0, part.shape[axis])
                operation(reduced[tuple(every)], part, out=reduced[tuple(every)])
            array = reduced
    return array
