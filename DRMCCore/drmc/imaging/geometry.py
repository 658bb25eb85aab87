"""Grids in space: LPS geometry as in SimpleITK, in mm; arrays are (z, y, x)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk


def turned(array: np.ndarray, to_target: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Transposes and flips an array to the voxel order of another grid; None if their voxels do not coincide.

    Voxels coincide if the farthest corner deviates by at most half a voxel (DICOM readers may sort slices
    either way).

    Args:
        array: image (z, y, x).
        to_target: (4, 4), from a voxel index (x, y, z) of the array to one of the target grid.
        shape: shape (z, y, x) on the target grid.
    """
    steps = np.round(to_target[:3, :3])
    if not (np.abs(steps).sum(axis=0) == 1).all() or not (np.abs(steps).sum(axis=1) == 1).all():
        return None
    axes = [int(np.flatnonzero(row)[0]) for row in steps]  # the array's axis for each of the target's
    result = array.transpose(2, 1, 0).transpose(axes)
    result = result[tuple(slice(None, None, int(steps[axis].sum())) for axis in range(3))]
    if result.shape != tuple(shape)[::-1]:
        return None
    last = np.array(array.shape[::-1]) - 1
    offset = np.where(steps.sum(axis=1) > 0, 0, np.array(shape[::-1]) - 1)
    for corner in np.ndindex(2, 2, 2):
        index = np.array(corner) * last
        if np.abs(to_target[:3, :3] @ index + to_target[:3, 3] - (steps @ index + offset)).max() > 0.5:
            return None
    return np.ascontiguousarray(result.transpose(2, 1, 0))


def triple(values: Iterable[float]) -> tuple[float, float, float]:
    """Three numbers as floats; ValueError if they are not three."""
    one, two, three = (float(value) for value in values)
    return one, two, three


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume, LPS.

    `shape` (z, y, x); `spacing` (x, y, z) mm; `origin` (x, y, z) mm, the center of the first voxel;
    `direction` (9,) row-major, its columns are the directions of the x, y and z index.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @classmethod
    def from_image(cls, image: sitk.Image) -> Geometry:
        """The grid of a 3-D image."""
        width, height, depth = (int(n) for n in image.GetSize())
        return cls(
            (depth, height, width),
            triple(image.GetSpacing()),
            triple(image.GetOrigin()),
            tuple(float(v) for v in image.GetDirection()),
        )

    def to_image(self, array: np.ndarray) -> sitk.Image:
        """The array (z, y, x) as an image on this grid.

        Raises:
            ValueError: the shapes differ.
        """
        if tuple(array.shape) != tuple(self.shape):
            raise ValueError(f"array of shape {tuple(array.shape)} on a grid of shape {tuple(self.shape)}")
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def matches(self, other: Geometry, tolerance: float = 1e-3) -> bool:
        """Whether the shapes are equal and all voxel centers agree within `tolerance` [mm]."""
        if tuple(self.shape) != tuple(other.shape):
            return False
        return bool(np.max(np.abs(self._corners() - other._corners())) <= tolerance)

    def __str__(self) -> str:
        """One line for messages: voxels and mm along x, y, z."""
        numbers = lambda values: " x ".join(f"{value:g}" for value in values)
        return (
            f"{numbers(reversed(self.shape))} voxels of {numbers(self.spacing)} mm from "
            f"({', '.join(f'{v:g}' for v in self.origin)})"
            + (", turned" if self.direction != Geometry((1, 1, 1)).direction else "")
        )

    def rounded(self) -> Geometry:
        """The same grid to 1e-10 mm in spacing, 1e-9 mm in origin and 1e-12 in direction.

        A program that stores a grid as a matrix returns it with other last digits. Results that are computed
        from the rounded grid are the same bit for bit, wherever the scan came from.
        """
        return Geometry(
            self.shape,
            triple(round(float(value), 10) for value in self.spacing),
            triple(round(float(value), 9) for value in self.origin),
            tuple(round(float(value), 12) + 0.0 for value in self.direction),
        )

    def _corners(self) -> np.ndarray:
        size = np.array(self.shape[::-1]) - 1
        index = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) * size
        return self.matrix[:3, 3] + index @ self.matrix[:3, :3].T

    @property
    def matrix(self) -> np.ndarray:
        """The affine (4, 4) from a voxel index (x, y, z) to a point in mm, LPS."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.direction).reshape(3, 3) * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Spacing in the order of the array's axes [mm]."""
        return self.spacing[::-1]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return math.prod(self.spacing) / 1000.0
