"""A scan whose voxels another program passes in, such as a volume that Slicer has loaded.

The source says more than the voxels do, but the program may have changed them since. So the voxels are
compared with those that were read from the source: only while they are the same does the source speak for
them.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from drmc.imaging.geometry import Geometry, turned

# Slicer's DICOM reader may have rounded to whole Bq/ml; an edited voxel differs by more (of the largest
# value).
ROUNDED = 1e-3


def same_as_image(voxels: sitk.Image, image: sitk.Image) -> bool:
    """Whether an image has exactly these voxels, at the same places, in whatever order of its axes."""
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    on_grid, own = _on_one_grid(voxels, array, Geometry.from_image(image))
    return on_grid is not None and np.array_equal(on_grid, own, equal_nan=True)


def same_as_series(voxels: sitk.Image, array: np.ndarray, geometry: Geometry) -> bool:
    """Whether a series, float32 (z, y, x), has these voxels at the same places, up to rounding."""
    on_grid, own = _on_one_grid(voxels, array, geometry)
    tolerance = ROUNDED * float(np.abs(array).max())
    return on_grid is not None and bool(np.abs(on_grid - own).max() <= tolerance)


def _on_one_grid(
    voxels: sitk.Image, array: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray | None, np.ndarray]:
    """The source's array on the grid of the voxels (None if that is another grid), and these."""
    own = sitk.GetArrayFromImage(voxels).astype(np.float32, copy=False)
    to_voxels = np.linalg.inv(Geometry.from_image(voxels).matrix) @ geometry.matrix
    return turned(array, to_voxels, own.shape), own
