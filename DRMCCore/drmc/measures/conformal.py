"""Prediction intervals: a robust regression of location and scale, and conformal quantiles of its residuals.

The normalized score |y - location| / scale (Lei et al. 2018, Journal of the American Statistical Association
113:1094) of new data is below the conformal quantile with the chosen probability, if they are exchangeable
with those of calibration, whatever the regression is worth. Values of one cluster (a center, a patient)
depend on each other: each cluster counts as one, by the mean over its values (Lee, Barber and Willett 2023,
arXiv:2306.06342), so that the probability is that of a value drawn from a new cluster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# In standard deviations of the features: the strength of the prior that a feature is of no use.
_LOCATION_RIDGE = 30.0
_SCALE_RIDGE = 100.0
_FARTHEST = 3.0  # features count no more than this many SD, so that outliers do not lead
_ROUNDS = 8  # of reweighting
_HUBER = 1.5
_NORMAL_MAD = 0.6745
_LEAST_RESIDUAL = 0.02  # a residual of 0 has no logarithm


def cluster_quantile(scores: np.ndarray, clusters: Sequence[str], level: float) -> float:
    """The value that a new score of a new cluster does not exceed with probability `level`.

    With K clusters each score has the weight 1 / ((K + 1) times the size of its cluster); the result is the
    smallest score up to which the weights sum to the level. With one score per cluster this is the
    ceil((K + 1) level)-th smallest.

    Args:
        scores: (n,).
        clusters: the cluster of each score.
        level: probability.

    Returns:
        The quantile; infinity with too few clusters.
    """
    scores = np.asarray(scores, np.float64)
    weights = cluster_weights(clusters)
    total = weights.sum() + 1.0
    order = np.argsort(scores, kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[order]) >= level * total - 1e-9)
    return float(scores[order[reached[0]]]) if reached.size else math.inf


def cluster_weights(clusters: Sequence[str]) -> np.ndarray:
    """Weights (n,) that sum to 1 in each cluster."""
    _, index, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    return 1.0 / sizes[index.reshape(-1)]


@dataclass(frozen=True)
class LocationScale:
    """Coefficients (1 + F,) of the location and of the logarithm of the scale, the constant first."""

    location: np.ndarray
    log_scale: np.ndarray

    def predict(self, standard_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale (N,) for standardized features."""
        terms = _terms(standard_NF)
        return terms @ self.location, np.exp(terms @ self.log_scale)


def fit_location_scale(standard_NF: np.ndarray, y: np.ndarray, clusters: Sequence[str]) -> LocationScale:
    """Ridge regression of location (Huber weights) and of log |residual| (the scale), in turns.

    A cluster counts with the square root of its size, between one and all of its values.

    Args:
        standard_NF: features with mean 0 and SD 1.
        y: (N,).
        clusters: (N,).
    """
    terms = _terms(standard_NF)
    weights = np.sqrt(cluster_weights(clusters))
    weights *= len(weights) / weights.sum()
    scale = np.ones(len(y))
    robust = np.ones(len(y))
    for _ in range(_ROUNDS):
        relative = (np.median(scale) / scale) ** 2
        location = _ridge(terms, y, weights * robust * relative, _LOCATION_RIDGE)
        residual = np.abs(y - terms @ location)
        log_scale = _ridge(terms, np.log(residual + _LEAST_RESIDUAL), weights, _SCALE_RIDGE)
        scale = np.exp(terms @ log_scale)
        sigmas = residual / scale
        limit = _HUBER * max(float(np.median(sigmas)), 1e-12) / _NORMAL_MAD
        robust = limit / np.maximum(sigmas, limit)
    return LocationScale(location, log_scale)


def _terms(standard_NF: np.ndarray) -> np.ndarray:
    clipped = np.clip(standard_NF, -_FARTHEST, _FARTHEST)
    return np.concatenate([np.ones((len(clipped), 1)), clipped], axis=1)


def _ridge(terms: np.ndarray, y: np.ndarray, weights: np.ndarray, strength: float) -> np.ndarray:
    penalty = strength * np.eye(terms.shape[1])
    penalty[0, 0] = 0.0  # the constant is free
    weighted = terms.T * weights
    return np.linalg.solve(weighted @ terms + penalty, weighted @ y)
