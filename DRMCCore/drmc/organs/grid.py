"""The grid on which organs are labeled: voxels of 4 mm, axes in the order and direction of LPS.

Axis legend: arrays (z, y, x), of which x grows to the patient's left, y to the back and z to the head.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from drmc.imaging.geometry import Geometry
from drmc.imaging.resampling import resample_to_spacing

ORGAN_MM = 4.0
"""Edge of the voxels: half of the width of what PET resolves, so that finer ones would gain little."""


def oriented(array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """An image with its axes in the order and direction that are nearest to LPS; voxels are only moved.

    Args:
        array: image (z, y, x) of any type that SimpleITK knows.
        geometry: its grid.
    """
    image = sitk.DICOMOrient(geometry.to_image(array), "LPS")
    return sitk.GetArrayFromImage(image), Geometry.from_image(image)


def to_organ_grid(array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """An image on the grid of the organs.

    A direction that is not along an axis of the patient stays as it is: a tilt of some degrees is one that
    the network knows.

    Args:
        array: image (z, y, x), any unit.
        geometry: its grid.

    Returns:
        float32 array and its grid.

    Raises:
        InputError: the spacing makes no sense, see `drmc.imaging.resampling.resample_to_grid`.
    """
    return resample_to_spacing(*oriented(array, geometry), ORGAN_MM)
