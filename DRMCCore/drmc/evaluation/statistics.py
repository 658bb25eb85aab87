"""Paired comparison of methods: Wilcoxon's signed-rank test and Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

EXACT_UP_TO = 25
LEVEL = 0.05


@dataclass(frozen=True)
class SignedRank:
    """Result of `signed_rank`."""

    n: int
    """Pairs that differ."""
    statistic: float
    """Sum of the ranks of the positive differences."""
    p: float
    """Two-sided."""
    exact: bool


def signed_rank(differences: Iterable[float]) -> SignedRank:
    """Wilcoxon's signed-rank test of paired differences against a median of 0, two-sided.

    Pairs without a difference are left out (Wilcoxon 1945), ties share their mean rank. Up to 25 pairs the
    distribution is exact: every assignment of signs to these very ranks, tied ones included, counts alike.
    Beyond, the normal approximation, with the variance corrected for ties and no correction for continuity. p
    is 1 where nothing differs.

    Not scipy.stats.wilcoxon, which gives the same p but where up to 25 pairs have ties: there its exact
    distribution leaves them out of account, and all assignments of signs are practicable for about 14 pairs
    only.
    """
    values = np.asarray([d for d in differences if d != 0], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite numbers")
    n = int(values.size)
    if n == 0:
        return SignedRank(0, 0.0, 1.0, True)
    _, place, counts = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(counts) - counts + 1)[place.ravel()]  # twice the mean rank: always whole
    statistic = int(doubled[values > 0].sum())
    if n <= EXACT_UP_TO:
        return SignedRank(n, statistic / 2, _exact_p(doubled.tolist(), statistic), True)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((counts**3.0 - counts).sum()) / 48
    z = (statistic / 2 - n * (n + 1) / 4) / math.sqrt(variance)
    return SignedRank(n, statistic / 2, math.erfc(abs(z) / math.sqrt(2)), False)


def _exact_p(ranks: Sequence[int], statistic: int) -> float:
    """Twice the smaller tail; `ways[s]` counts the assignments of signs whose positive ranks sum to s."""
    ways = _ways(ranks)
    tail = min(sum(ways[: statistic + 1]), sum(ways[statistic:]))
    return min(1.0, 2 * tail / 2 ** len(ranks))


def _ways(ranks: Iterable[int]) -> list[int]:
    """How many assignments of signs give each sum of the positive ranks."""
    ranks = list(ranks)
    ways = [1] + [0] * sum(ranks)
    for rank in ranks:
        ways = [count + (ways[s - rank] if s >= rank else 0) for s, count in enumerate(ways)]
    return ways


def smallest_p(n: int) -> float:
    """The smallest two-sided p that `signed_rank` can give for n different pairs, exactly: 0.0625 for 5."""
    return min(1.0, 2.0 ** (1 - n))


def hodges_lehmann(differences: Iterable[float]) -> tuple[float, float, float]:
    """Median difference by Hodges and Lehmann, and its 95 % interval, which belongs to `signed_rank`.

    The median of the means of all pairs of differences, each with itself included. The interval's ends are
    those of the means that the test would not reject; with fewer than six differences it holds all of them,
    and its probability is less than 95 %.

    Raises:
        ValueError: there is no difference.
    """
    values = np.sort(np.asarray(list(differences), dtype=np.float64))
    n = len(values)
    if n == 0:
        raise ValueError("there is no difference")
    first, second = np.triu_indices(n)
    means = np.sort((values[first] + values[second]) / 2)
    if n <= EXACT_UP_TO:
        counts = np.array(_ways(range(1, n + 1)), dtype=np.float64) / 2.0**n
        place = int(np.searchsorted(np.cumsum(counts), 0.025))
    else:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        place = math.floor(n * (n + 1) / 4 - 1.959964 * spread)
    end = max(place, 1) - 1
    return float(np.median(means)), float(means[end]), float(means[len(means) - 1 - end])


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of one family of comparisons after Holm's step-down correction, in the same order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[index]))
        adjusted[index] = largest
    return adjusted
