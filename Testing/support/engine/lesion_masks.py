"""Grids, masks and files of lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from drmc.imaging.geometry import Geometry

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def grid(shape_zyx, spacing_xyz=(2.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0), direction=IDENTITY) -> Geometry:
    return Geometry(tuple(shape_zyx), tuple(spacing_xyz), tuple(origin), tuple(direction))


def box_mask(shape, low, high) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def save(
    path: Path, array_zyx: np.ndarray, spacing=(2.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0), direction=IDENTITY
) -> Path:
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path
