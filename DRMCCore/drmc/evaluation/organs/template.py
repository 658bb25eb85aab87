"""A mean shape of the training patients: which score one has without looking at the image.

Organ by organ the labels of all training patients are brought to common centroids (one scale and one shift
along each axis, by least squares) and counted. Each voxel of the template has its most frequent class; it is
laid over a patient in the same way, by the true centroids. What a network reaches beyond that it has read
from the image, since position and size are told to the template.

Axes (z, y, x) in the order and direction of LPS; K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drmc.datasets.manifest import Case
from drmc.errors import InputError
from drmc.evaluation.organs.cases import read_reference
from drmc.imaging.geometry import Geometry
from drmc.organs.grid import ORGAN_MM, oriented
from drmc.organs.table import classes

ROUNDS = 5
"""Of shifting every patient to the mean centroids and taking their mean again."""
STRETCH = 1.25
"""The largest scale along an axis, and one over it the smallest."""
FEW = 5
"""With fewer organs than this in the field only the shift is fitted."""
BACKGROUND_WEIGHT = 0.5
"""Of the background's frequency: an organ's Dice is largest where it takes voxels that are rarely its own."""
_MARGIN_MM = 40.0
Fit = tuple[np.ndarray, np.ndarray]
"""Scale and shift [mm] along each axis."""


@dataclass(frozen=True)
class Template:
    """The most frequent classes, and where they lie.

    Attributes:
        labels: classes, uint8 (z, y, x), voxels of ORGAN_MM.
        first_zyx: place of the first voxel in the frame of the centroids [mm].
        centroids: (K, 3), mean centroids of the classes [mm]; NaN for the background and unknown ones.
        patients: how many it was made of.
    """

    labels: np.ndarray
    first_zyx: np.ndarray
    centroids: np.ndarray
    patients: int

    @property
    def sha256(self) -> str:
        """Checksum of its content."""
        return hashlib.sha256(self.labels.tobytes() + self.centroids.tobytes()).hexdigest()

    def laid_over(self, reference_zyx: np.ndarray, geometry: Geometry) -> np.ndarray:
        """The template's classes on a patient's grid, placed by the true centroids; uint8 (z, y, x) in LPS.

        Args:
            reference_zyx: the true classes, axes in LPS (`oriented`).
            geometry: their grid.
        """
        spacing = np.array(geometry.spacing_zyx)
        scale, shift = _fit(_centroids(reference_zyx, spacing), self.centroids)
        places, inside = [], []
        for axis, size in enumerate(reference_zyx.shape):
            at = scale[axis] * np.arange(size) * spacing[axis] + shift[axis]
            index = np.rint((at - self.first_zyx[axis]) / ORGAN_MM).astype(int)
            inside.append((index >= 0) & (index < self.labels.shape[axis]))
            places.append(np.clip(index, 0, self.labels.shape[axis] - 1))
        found = self.labels[np.ix_(*places)]
        for axis, within in enumerate(inside):
            found[(slice(None),) * axis + (~within,)] = 0
        return found


def make_template(cases: Sequence[Case]) -> Template:
    """The template of training patients.

    Raises:
        InputError: there are none, or their labels cannot be read.
    """
    if not cases:
        raise InputError("a template needs training patients: simulate some, or leave it out")
    measured = [_centroids(labels, np.array(grid.spacing_zyx)) for labels, grid in map(_read, cases)]
    mean = max(measured, key=lambda own: int(np.isfinite(own).sum()))
    for _ in range(ROUNDS):  # of shifts: scales that are fitted again and again shrink it
        mean = _nan_mean(np.stack([own + _fit(own, mean, stretch=1.0)[1] for own in measured]))
    return _counted(cases, [_fit(own, mean) for own in measured], mean)


def _counted(cases: Sequence[Case], fits: Sequence[Fit], mean: np.ndarray) -> Template:
    """The most frequent class of each voxel of the frame, among the patients in whose field it lies."""
    first, sizes = _frame(cases, fits)
    counts = np.zeros((len(classes()) + 1, *sizes), np.uint16)
    for case, (scale, shift) in zip(cases, fits, strict=True):
        labels, grid = _read(case)
        cuts, places = [], []
        for axis, size in enumerate(labels.shape):
            at = first[axis] + ORGAN_MM * np.arange(sizes[axis])
            index = np.rint((at - shift[axis]) / scale[axis] / grid.spacing_zyx[axis]).astype(int)
            within = np.flatnonzero((index >= 0) & (index < size))
            cuts.append(slice(int(within[0]), int(within[-1]) + 1) if within.size else slice(0, 0))
            places.append(index[within])
        seen = labels[np.ix_(*places)]
        for k in np.unique(seen):
            counts[k][tuple(cuts)] += seen == k
    weighted = counts.astype(np.float32)
    weighted[0] *= BACKGROUND_WEIGHT
    return Template(weighted.argmax(0).astype(np.uint8), first, mean, len(cases))


def _frame(cases: Sequence[Case], fits: Sequence[Fit]) -> tuple[np.ndarray, np.ndarray]:
    """First voxel [mm] and size of a frame that holds all organs."""
    lower, upper = [], []
    for case, (scale, shift) in zip(cases, fits, strict=True):
        labels, grid = _read(case)
        there = np.argwhere(labels)
        if there.size:
            lower.append(scale * there.min(0) * grid.spacing_zyx + shift)
            upper.append(scale * there.max(0) * grid.spacing_zyx + shift)
    if not lower:
        raise InputError("a template needs labels: those of the training patients are empty")
    first = np.min(lower, axis=0) - _MARGIN_MM
    return first, np.ceil((np.max(upper, axis=0) + _MARGIN_MM - first) / ORGAN_MM).astype(int) + 1


def _read(case: Case) -> tuple[np.ndarray, Geometry]:
    return oriented(*read_reference(case))


def _centroids(labels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """(K, 3) [mm]; NaN for the background, absent classes and those that the ends of the field cut.

    Where all are cut, they count nevertheless.
    """
    found = np.full((len(classes()) + 1, 3), np.nan)
    cut = np.union1d(np.unique(labels[0]), np.unique(labels[-1]))
    voxels = np.flatnonzero(labels)
    values = labels.ravel()[voxels]
    number = np.bincount(values, minlength=len(found))
    there = np.flatnonzero(number)
    whole = np.setdiff1d(there, cut) if np.setdiff1d(there, cut).size else there
    for axis, index in enumerate(np.unravel_index(voxels, labels.shape)):
        sums = np.bincount(values, weights=index, minlength=len(found))
        found[whole, axis] = sums[whole] / number[whole] * spacing[axis]
    return found


def _fit(own: np.ndarray, wanted: np.ndarray, stretch: float = STRETCH) -> Fit:
    """Scale and shift along each axis that bring centroids to the wanted ones, by least squares."""
    known = np.isfinite(own).all(1) & np.isfinite(wanted).all(1)
    scale = np.ones(3)
    if not known.any():
        return scale, np.zeros(3)
    mine, theirs = own[known], wanted[known]
    if len(mine) >= FEW:
        apart = mine - mine.mean(0)
        spread = (apart**2).sum(0)
        slope = (apart * (theirs - theirs.mean(0))).sum(0) / np.where(spread > 0, spread, 1)
        scale = np.clip(np.where(spread > 0, slope, 1), 1 / stretch, stretch)
    return scale, theirs.mean(0) - scale * mine.mean(0)


def _nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(0)
    total = np.where(known, values, 0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
