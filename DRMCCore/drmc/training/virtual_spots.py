"""Virtual spots in training patches, so that small faint foci are not rare events.

A spot is an ellipsoid of uptake as a scanner would show it (`drmc.measures.spots.blurred_ball`), with more
noise where it is: the noise of OSEM images grows with the uptake, here by its square root (a choice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drmc.measures.spots import blurred_ball, distances_around

MOST_SPOTS = 8  # of a patch; one at least
DIAMETERS_MM = (4.0, 20.0)
PEAKS_SUV = (0.3, 8.0)
RESOLUTIONS_MM = (4.0, 8.0)
_STRETCH = 1.3  # most of an axis, against the other two
_LEAST_SUV = 0.1  # of the surroundings: there is nothing to find in air
_MOST_NOISE = 3.0
_EXTENT = 0.2  # of a spot's peak, above which a voxel belongs to it


class VirtualSpots(NamedTuple):
    """Spots of one patch, float32 (z, y, x).

    Attributes:
        uptake: their uptake [SUV].
        weight: how much a voxel of a spot counts as a lesion, 0 outside: one, and more for faint spots, whose
            loss would be small even if nothing remains of them.
    """

    uptake: np.ndarray
    weight: np.ndarray


def draw_spots(
    rng: np.random.Generator,
    surroundings: np.ndarray,
    spacing_zyx: Sequence[float],
    faint_weight: float = 4.0,
) -> VirtualSpots:
    """Draws one to `MOST_SPOTS` spots in the body: diameter and peak log-uniform, resolution uniform.

    Args:
        rng: of all draws.
        surroundings: the patch, (z, y, x) [SUV].
        spacing_zyx: size of a voxel [mm].
        faint_weight: weight of a spot of 1 SUV and less; it falls with 1 / SUV above, down to 1.
    """
    uptake, weight = (np.zeros(surroundings.shape, np.float32) for _ in range(2))
    for _ in range(int(rng.integers(1, MOST_SPOTS + 1))):
        center = tuple(int(rng.integers(n)) for n in surroundings.shape)
        diameter, peak = (_log_uniform(rng, *limits) for limits in (DIAMETERS_MM, PEAKS_SUV))
        resolution = rng.uniform(*RESOLUTIONS_MM)
        stretch = np.array([_log_uniform(rng, 1 / _STRETCH, _STRETCH) for _ in range(3)])
        if surroundings[center] < _LEAST_SUV:
            continue
        step = np.asarray(spacing_zyx) / stretch  # a ball on it is an ellipsoid in the patch
        box, distance = distances_around(center, surroundings.shape, step, diameter / 2 + 1.2 * resolution)
        spot = blurred_ball(distance, diameter, resolution)
        uptake[box] += (peak * spot).astype(np.float32)
        counts = np.float32(np.clip(faint_weight / peak, 1, faint_weight))
        weight[box] = np.maximum(weight[box], np.where(spot > _EXTENT, counts, np.float32(0)))
    return VirtualSpots(uptake, weight)


def noise_factor(spots: VirtualSpots, expected: np.ndarray) -> np.ndarray:
    """Factor on a patch's noise that the spots' uptake brings, 1 where there is no spot.

    Args:
        spots: of the patch.
        expected: the patch without noise and spots, (z, y, x) [SUV].
    """
    share = spots.uptake / np.maximum(expected, np.float32(_LEAST_SUV))
    return np.minimum(np.sqrt(1 + share), np.float32(_MOST_NOISE))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
