"""Thumbnails of a scan for the page of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drmc.pages.colors import inverted_gray
from drmc.pages.png import data_uri
from drmc.pages.views import anatomical_spacing, resized, to_anatomical

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


THUMBNAIL_HEIGHT = 160  # pixels, the most
THUMBNAIL_WIDTH = 120
THUMBNAIL_TOP = 6.0  # SUV that is black, as in the report


def thumbnails(original: np.ndarray, denoised: np.ndarray, geometry: Geometry) -> dict[str, str]:
    """Small maximum-intensity projections of both images as data URIs, coronal, for flat scans axial.

    Args:
        original: SUV (z, y, x).
        denoised: SUV (z, y, x).
        geometry: their grid.
    """
    spacing = anatomical_spacing(geometry.spacing_zyx, geometry.direction)
    pictures = {}
    for name, image in (("original", original), ("denoised", denoised)):
        anatomical = to_anatomical(np.asarray(image), geometry.direction)
        extent = [count * step for count, step in zip(anatomical.shape, spacing, strict=True)]
        # A few slices are too flat for a coronal view, as in the report.
        axis = 0 if extent[0] < 0.2 * max(extent[1], extent[2]) else 1
        rows, columns = (size for index, size in enumerate(extent) if index != axis)
        rows_mm, columns_mm = (size for index, size in enumerate(spacing) if index != axis)
        step = max(rows / THUMBNAIL_HEIGHT, columns / THUMBNAIL_WIDTH)
        small = resized(anatomical.max(axis=axis), (rows_mm, columns_mm), step)
        pictures[name] = data_uri(inverted_gray(small, THUMBNAIL_TOP))
    return pictures
