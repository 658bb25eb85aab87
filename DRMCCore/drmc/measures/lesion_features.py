"""What is known of a lesion without its full dose: size, contrast, noise, and its change by denoising.

`drmc.measures.intervals` predicts from these how far full dose would be from the denoised value. Each feature
is the logarithm of a ratio of SUV or of a length, so that another SUV factor changes none of them. Images are
(z, y, x) in SUV [g/ml]; "denoised" is the image at full strength, and what denoising removed is original
minus denoised.

diameter, voxel: of the sphere of the segment's volume, and edge of the cube of a voxel's volume [log mm].
contrast: SUVmean over the median of the surroundings. noise_around: robust SD of what was removed from the
surroundings, over SUVmean. noise_inside: root mean square of what was removed from the segment, over SUVmean.
roughness: root mean square difference of neighbors over sqrt(2) times the SD, of what was removed: 1 for
white noise, smaller for smoother noise. max_over_mean, max_over_peak: of the denoised image. change_*:
denoised over original.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk

from drmc.measures.suv_peak import suv_peak
from drmc.segments.segment import Segment

Metric = Literal["suv_mean", "suv_peak", "suv_max"]
METRICS: tuple[Metric, ...] = get_args(Metric)
FEATURES = (
    "diameter",
    "voxel",
    "contrast",
    "noise_around",
    "noise_inside",
    "roughness",
    "max_over_mean",
    "max_over_peak",
    "change_mean",
    "change_peak",
    "change_max",
)

_NAMES: dict[Metric, str] = {"suv_mean": "SUVmean", "suv_peak": "SUVpeak", "suv_max": "SUVmax"}
_SURROUNDINGS_MM = (4.0, 15.0)  # distances from the segment; nearer voxels show its blur
_FEWEST = 30  # voxels that make surroundings
_LEAST_RATIO = 1e-3  # below it a ratio counts as this: its logarithm would say nothing more
_LEAST_SURROUNDINGS = 0.02  # of SUVmean: air is not infinitely fainter
_MAD_TO_SD = 1.4826


class UndefinedError(ValueError):
    """A feature of a lesion is not defined; the message says why, for people."""


@dataclass(frozen=True)
class KnownLesion:
    """The features (F,) of a lesion in the order of FEATURES, and its denoised values [SUV]."""

    features: np.ndarray
    denoised: dict[Metric, float]


def lesion_values(
    suv: np.ndarray, segment: Segment, spacing_zyx: Sequence[float]
) -> dict[Metric, float | None]:
    """SUVmean, SUVpeak and SUVmax of a segment, as in the lesion table."""
    values = suv[segment.box][segment.inside].astype(np.float64)
    return {
        "suv_mean": float(values.mean()),
        "suv_peak": suv_peak(suv, segment, spacing_zyx),
        "suv_max": float(values.max()),
    }


def known_lesion(
    original: np.ndarray, denoised: np.ndarray, segment: Segment, spacing_zyx: Sequence[float]
) -> KnownLesion:
    """The features of a segment.

    Args:
        original: SUV (z, y, x).
        denoised: SUV (z, y, x) at full strength, on the same grid.
        segment: the lesion on that grid.
        spacing_zyx: voxel spacing [mm].

    Raises:
        UndefinedError: a value is not above 0, or too little of the image is around the segment.
    """
    before = _positive(lesion_values(original, segment, spacing_zyx))
    after = _positive(lesion_values(denoised, segment, spacing_zyx))
    box, inside = _with_surroundings(segment, spacing_zyx)
    distance = _distance_mm(inside, spacing_zyx)
    near = distance <= _SURROUNDINGS_MM[1]
    around = near & (distance > _SURROUNDINGS_MM[0])
    if np.count_nonzero(around) < _FEWEST:
        raise UndefinedError("too little of the image is around it")
    image = denoised[box].astype(np.float64)
    removed = original[box].astype(np.float64) - image
    mean = after["suv_mean"]
    center = np.median(removed[around])
    spread = _MAD_TO_SD * float(np.median(np.abs(removed[around] - center)))
    voxel_mm3 = float(np.prod(spacing_zyx))
    features = {
        "diameter": math.log(6.0 * segment.voxels * voxel_mm3 / math.pi) / 3.0,
        "voxel": math.log(voxel_mm3) / 3.0,
        "contrast": math.log(mean / max(float(np.median(image[around])), _LEAST_SURROUNDINGS * mean)),
        "noise_around": _log(spread / mean),
        "noise_inside": _log(math.sqrt(float(np.mean(removed[inside] ** 2))) / mean),
        "roughness": _log(_roughness(removed, near)),
        "max_over_mean": math.log(after["suv_max"] / mean),
        "max_over_peak": math.log(after["suv_max"] / after["suv_peak"]),
        "change_mean": math.log(mean / before["suv_mean"]),
        "change_peak": math.log(after["suv_peak"] / before["suv_peak"]),
        "change_max": math.log(after["suv_max"] / before["suv_max"]),
    }
    return KnownLesion(np.array([features[name] for name in FEATURES]), after)


def _log(ratio: float) -> float:
    return math.log(max(ratio, _LEAST_RATIO))


def _positive(values: dict[Metric, float | None]) -> dict[Metric, float]:
    found: dict[Metric, float] = {}
    for metric, value in values.items():
        if value is None:
            raise UndefinedError(f"{_NAMES[metric]} is not defined")
        if value <= 0:
            raise UndefinedError(f"{_NAMES[metric]} is not above 0")
        found[metric] = value
    return found


def _with_surroundings(
    segment: Segment, spacing_zyx: Sequence[float]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The segment's box widened by the reach of its surroundings, cut at the image, and the mask in it."""
    reach = [math.ceil(_SURROUNDINGS_MM[1] / step) for step in spacing_zyx]
    box = tuple(
        slice(max(part.start - more, 0), min(part.stop + more, size))
        for part, more, size in zip(segment.box, reach, segment.shape, strict=True)
    )
    inside = np.zeros([part.stop - part.start for part in box], bool)
    place = tuple(
        slice(part.start - wide.start, part.stop - wide.start)
        for part, wide in zip(segment.box, box, strict=True)
    )
    inside[place] = segment.inside
    return box, inside


def _distance_mm(inside: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Distance of each voxel's center from the nearest voxel of the mask, 0 or below inside [mm]."""
    image = sitk.GetImageFromArray(inside.astype(np.uint8))
    image.SetSpacing([float(step) for step in spacing_zyx[::-1]])
    # Arguments: positive inside, squared, in mm.
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))


def _roughness(removed: np.ndarray, where: np.ndarray) -> float:
    variance = float(np.var(removed[where]))
    if variance <= 0:
        return 1.0
    squares = []
    for axis in range(3):
        first, second = np.moveaxis(removed, axis, 0)[1:], np.moveaxis(removed, axis, 0)[:-1]
        both = np.moveaxis(where, axis, 0)
        both = both[1:] & both[:-1]
        if both.any():
            squares.append(float(np.mean((first - second)[both] ** 2)))
    return math.sqrt(float(np.mean(squares)) / (2.0 * variance)) if squares else 1.0
