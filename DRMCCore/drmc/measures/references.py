"""Reference regions of PERCIST in segmented organs: a sphere in the liver, a cylinder in the aorta.

Liver: a sphere of 3 cm in the right lobe. Blood pool: a cylinder of 1 cm by 2 cm in the descending thoracic
aorta (Wahl et al., J Nucl Med 2009). Where they lie is a rule of this project: the sphere where the liver is
most even among the places whose mean is within 5 % of the organ's median, away from its surface and from
lesions; the cylinder where it is farthest from the wall. The most even of many noisy places is a little more
even than a place that is chosen by hand.

Images (z, y, x) SUV, positions (x, y, z) in mm, LPS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drmc.imaging.distances import distance_from
from drmc.imaging.geometry import Geometry
from drmc.measures.candidates import LIVER_SPHERE_MM, Threshold
from drmc.segments.segment import Segment

LIVER, POOL = "liver", "blood_pool"
MARGINS_MM = (10.0, 5.0, 0.0)
"""Of the liver that lies around the sphere; the first that any place has."""
NEAR_MEDIAN = 0.05
CYLINDER_MM = (10.0, 20.0)
"""Diameter and length of the cylinder in the aorta."""
BLOOD_POOL_FACTOR = 2.0
_BETWEEN_CENTERS_MM = 4.0
_VALUES_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Reference:
    """A region of even uptake in an organ.

    Attributes:
        segment: its voxels.
        center_mm: where it lies.
        mean: of its voxels.
        sd: their standard deviation.
    """

    segment: Segment
    center_mm: tuple[float, float, float]
    mean: float
    sd: float

    @property
    def variation(self) -> float | None:
        """Coefficient of variation; None where the mean is not above 0."""
        return self.sd / self.mean if self.mean > 0 else None


def references_of(
    image_zyx: np.ndarray,
    geometry: Geometry,
    organs: Mapping[str, Segment],
    leave_out: Sequence[Segment] = (),
) -> dict[str, Reference]:
    """The reference regions that the organs have room for, by LIVER and POOL.

    Args:
        image_zyx: the scan.
        geometry: its grid.
        organs: by their names in `drmc.organs.table`.
        leave_out: segments that the regions must not touch, such as lesions.
    """
    geometry, found = geometry.rounded(), {}
    if "liver" in organs:
        found[LIVER] = liver_reference(image_zyx, geometry, organs["liver"], leave_out)
    if "aorta" in organs:
        aorta, heart = organs["aorta"], organs.get("heart")
        found[POOL] = blood_pool_reference(image_zyx, geometry, aorta, heart, leave_out)
    return {name: reference for name, reference in found.items() if reference is not None}


def liver_reference(
    image_zyx: np.ndarray, geometry: Geometry, liver: Segment, leave_out: Sequence[Segment] = ()
) -> Reference | None:
    """PERCIST's sphere in the right lobe of the liver; None where the liver has no room for it.

    Args:
        image_zyx: the scan.
        geometry: its grid.
        liver: the organ.
        leave_out: segments that the sphere must not touch, such as lesions and the gallbladder.
    """
    radius = LIVER_SPHERE_MM / 2
    depth, first = _depth(liver, geometry, leave_out)
    x = _positions(geometry, first, depth.shape)[0]
    is_right = x < x[depth > 0].mean() if (depth > 0).any() else np.zeros(depth.shape, bool)
    strides = [max(1, round(_BETWEEN_CENTERS_MM / step)) for step in geometry.spacing_zyx]
    coarse = np.zeros(depth.shape, bool)
    coarse[tuple(slice(None, None, step) for step in strides)] = True
    for margin in MARGINS_MM:
        centers = np.argwhere(coarse & is_right & (depth > radius + margin)) + first
        if len(centers):
            break
    else:
        return None
    offsets = _sphere(geometry, radius)
    means, sds = _moments(image_zyx, centers, offsets)
    median = float(np.median(image_zyx[liver.box][liver.inside]))
    off = np.abs(means - median)
    near = off <= NEAR_MEDIAN * abs(median)
    variation = np.where(near & (means > 0), sds / np.where(means > 0, means, 1.0), np.inf)
    best = int(variation.argmin()) if np.isfinite(variation).any() else int(off.argmin())
    return _reference("liver sphere", image_zyx, geometry, centers[best], offsets)


def blood_pool_reference(
    image_zyx: np.ndarray,
    geometry: Geometry,
    aorta: Segment,
    heart: Segment | None,
    leave_out: Sequence[Segment] = (),
) -> Reference | None:
    """PERCIST's cylinder in the descending aorta; None where it does not fit into what was labeled.

    Args:
        image_zyx: the scan.
        geometry: its grid.
        aorta: the organ.
        heart: tells the descending part, which lies behind it and at its height; None: anywhere.
        leave_out: segments that the cylinder must not touch.
    """
    depth, first = _depth(aorta, geometry, leave_out)
    allowed = depth > 0
    offsets = _cylinder(geometry)
    centers = np.argwhere(depth > CYLINDER_MM[0] / 2)
    centers = centers[_all_inside(allowed, centers, offsets)] if len(centers) else centers
    if not len(centers):
        return None
    if heart is not None:
        places = np.stack([axis[tuple(centers.T)] for axis in _positions(geometry, first, depth.shape)])
        of_heart = np.stack(_positions(geometry, [part.start for part in heart.box], heart.inside.shape))
        of_heart = of_heart[:, heart.inside]
        behind = places[1] > of_heart[1].mean()
        beside = (places[2] >= of_heart[2].min()) & (places[2] <= of_heart[2].max())
        for wanted in (behind & beside, behind):
            if wanted.any():
                centers = centers[wanted]
                break
    walls = np.stack([depth[tuple((centers + one).T)] for one in offsets[_is_on_axis(offsets, geometry)]])
    best = int(walls.mean(axis=0).argmax())
    return _reference("blood pool", image_zyx, geometry, centers[best] + first, offsets)


def blood_pool_threshold(reference: Reference) -> Threshold:
    """PERCIST's threshold where the liver is diseased: 2.0 x mean + 2 SD of the blood pool."""
    suv = BLOOD_POOL_FACTOR * reference.mean + 2.0 * reference.sd
    name = reference.segment.name
    return Threshold(suv, "percist", name, reference.mean, reference.sd, BLOOD_POOL_FACTOR)


def _depth(organ: Segment, geometry: Geometry, leave_out: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """How deep each voxel lies in an organ [mm], in its box, and the index of the box's first voxel.

    What is left out, and what lies beyond the image, count as outside.
    """
    marked = np.zeros(organ.shape, bool)
    for segment in leave_out:
        marked[segment.box] |= segment.inside
    allowed = np.pad(organ.inside & ~marked[organ.box], 1)
    depth = distance_from(~allowed, geometry.spacing_zyx)[1:-1, 1:-1, 1:-1]
    return depth, np.array([part.start for part in organ.box])


def _positions(
    geometry: Geometry, first: Sequence[int] | np.ndarray, shape: Sequence[int]
) -> list[np.ndarray]:
    """x, y and z [mm] of all voxels of a box."""
    index = np.indices(tuple(shape)) + np.reshape(first, (3, 1, 1, 1))
    matrix = geometry.matrix
    return [
        sum(matrix[axis, k] * index[2 - k] for k in range(3)) + matrix[axis, 3]  # type: ignore[misc]
        for axis in range(3)
    ]


def _sphere(geometry: Geometry, radius: float) -> np.ndarray:
    """Index offsets (N, 3) of the voxels whose centers lie in a sphere around a voxel."""
    places = _around(geometry, radius)
    return places[(np.square(places * geometry.spacing_zyx)).sum(axis=1) <= radius**2]


def _cylinder(geometry: Geometry) -> np.ndarray:
    """Index offsets (N, 3) of a cylinder along the axis that runs to the head."""
    diameter, length = CYLINDER_MM
    places, axis = _around(geometry, length / 2), _axis(geometry)
    millimeters = places * np.asarray(geometry.spacing_zyx)
    across = np.square(np.delete(millimeters, axis, axis=1)).sum(axis=1)
    return places[(across <= (diameter / 2) ** 2) & (np.abs(millimeters[:, axis]) <= length / 2)]


def _around(geometry: Geometry, reach: float) -> np.ndarray:
    counts = [int(reach // step) for step in geometry.spacing_zyx]
    return np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in counts), indexing="ij"), -1).reshape(-1, 3)


def _axis(geometry: Geometry) -> int:
    """The array axis that runs to the head."""
    return 2 - int(np.argmax(np.abs(geometry.matrix[2, :3])))


def _is_on_axis(offsets: np.ndarray, geometry: Geometry) -> np.ndarray:
    return (np.delete(offsets, _axis(geometry), axis=1) == 0).all(axis=1)


def _all_inside(allowed: np.ndarray, centers: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Which centers have all their voxels in a mask."""
    size = np.array(allowed.shape)
    found = np.ones(len(centers), bool)
    for offset in offsets:
        places = centers + offset
        is_there = ((places >= 0) & (places < size)).all(axis=1)
        found &= is_there
        found[is_there] &= allowed[tuple(places[is_there].T)]
    return found


def _moments(image: np.ndarray, centers: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation around each center."""
    means, sds = [], []
    at_once = max(1, _VALUES_AT_A_TIME // len(offsets))
    for start in range(0, len(centers), at_once):
        places = centers[start : start + at_once, None, :] + offsets
        values = image[places[..., 0], places[..., 1], places[..., 2]].astype(np.float64)
        means.append(values.mean(axis=1))
        sds.append(values.std(axis=1))
    return np.concatenate(means), np.concatenate(sds)


def _reference(
    name: str, image: np.ndarray, geometry: Geometry, center: np.ndarray, offsets: np.ndarray
) -> Reference:
    mask = np.zeros(image.shape, bool)
    mask[tuple((center + offsets).T)] = True
    segment = Segment(name, mask)
    values = image[segment.box][segment.inside].astype(np.float64)
    x, y, z = (geometry.matrix[:3, :3] @ center[::-1] + geometry.matrix[:3, 3]).tolist()
    return Reference(segment, (x, y, z), float(values.mean()), float(values.std()))
