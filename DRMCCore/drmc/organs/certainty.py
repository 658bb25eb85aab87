"""Where a network of organs is unsure: the entropy of its softmax.

Arrays (z, y, x) on the grid of the organs; K classes.
"""

from __future__ import annotations

import numpy as np

from drmc.organs.table import classes

UNSURE = 0.3
"""Entropy of the softmax over log K above which a voxel is unsure.

Two equal classes give log 2 / log 32 = 0.20: that is any voxel which a border halves, however well the
border is known, and small organs have hardly another. Three give 0.32. So above it more than two classes are
in question, which no border between two organs explains.
"""


def unsure_voxels(scores: np.ndarray) -> np.ndarray:
    """The voxels whose entropy of the softmax is above `UNSURE` times its largest value: bool (D, H, W).

    Args:
        scores: before softmax, float32 (K, D, H, W).
    """
    limit = UNSURE * np.log(len(scores))
    unsure = np.zeros(scores.shape[1:], bool)
    # slice by slice: probabilities of all would be as large as the scores once more
    for z, own in enumerate(unsure):
        relative = scores[:, z] - scores[:, z].max(axis=0)
        weights = np.exp(relative)
        total = weights.sum(axis=0)
        relative *= weights
        np.greater(np.log(total) - relative.sum(axis=0) / total, limit, out=own)
    return unsure


def unsure_shares(labels: np.ndarray, unsure: np.ndarray) -> dict[str, float]:
    """For each organ that is there the share of its voxels that are unsure, by its name.

    Args:
        labels: classes, uint8 (D, H, W).
        unsure: as `unsure_voxels` gives it.
    """
    whole, part = (np.bincount(found.ravel(), minlength=256) for found in (labels, labels[unsure]))
    return {one.name: float(part[one.index] / whole[one.index]) for one in classes() if whole[one.index]}
