"""Distances in millimeters from a mask; masks are (z, y, x) bool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


def distance_from(mask_zyx: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """For every voxel how far its center is from the nearest one of the mask, float32 [mm], 0 in the mask.

    Infinite everywhere where the mask is empty.
    """
    if not mask_zyx.any():
        return np.full(mask_zyx.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask_zyx.astype(np.uint8))
    image.SetSpacing([float(step) for step in reversed(spacing_zyx)])
    signed = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    return np.maximum(sitk.GetArrayFromImage(signed), 0.0)
