"""The interference of centers, from gradients of single batches: equations 4 and 5, in streaming form.

Yang et al., MICCAI 2023: a small step along the normalized gradients of center j's batches lowers the loss of
a batch of center i by about

    Delta_j L_i[b] = (1/n) sum_a g_j[a] / |g_j[a]| . g_i[b]                       j != i
    Delta_i L_i[b] = the same without the batch itself, a = b                     j = i

times the size of the step, which cancels in I_ij = Delta_j L_i / Delta_i L_i. Row i is the center whose loss
it is, column j the center that is optimized; I_ii = 1, negative values are harm. Parameters are taken in
groups, each with its own I.

Gradients are computed twice, and none is stored: the first pass adds up the normalized ones of each center,
the second one takes their products with those sums. Everything that follows is computed from the table of
the Delta_j L_i[b]. Axes: G groups, K centers, i the center of a batch, b the batch, j the optimized center.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_NORM = 1e-12
DRAWS = 1000
UNCLEAR = 2.0
"""Standard errors: a mean denominator within so many of 0 makes the ratio meaningless."""

Gradient = Callable[[int, int], Sequence[np.ndarray]]
"""(number of the center, number of the batch) -> the gradient as a vector of float64 for each group."""


@dataclass
class Interference:
    """The changes of the loss, from which all estimates are computed.

    Attributes:
        centers: names of the centers.
        groups: names of the groups of parameters.
        delta_Gibj: Delta_j L_i[b]; NaN for a batch whose gradient is zero.
        norm_Gib: norm of each gradient.
    """

    centers: tuple[str, ...]
    groups: tuple[str, ...]
    delta_Gibj: np.ndarray
    norm_Gib: np.ndarray

    def skipped(self, group: int) -> int:
        """Batches of a group without a gradient, as those of air."""
        return int((self.norm_Gib[group] < LEAST_NORM).sum())

    def ratio_of_means(self, group: int) -> np.ndarray:
        """I (K, K): mean over b of Delta_j L_i[b], over that of Delta_i L_i[b]; the headline."""
        return _ratios(np.stack([found.mean(0) for found in self._batches(group)]))

    def mean_of_ratios(self, group: int) -> np.ndarray:
        """I (K, K) as in equation 5: mean over b of each batch's ratio; wild near a denominator of 0."""
        found = []
        for i, delta_bj in enumerate(self._batches(group)):
            own_b = delta_bj[:, i]
            found.append((delta_bj[own_b != 0] / own_b[own_b != 0, None]).mean(0))
        return np.stack(found)

    def mean_cosine(self, group: int) -> np.ndarray:
        """(K, K): mean over b of Delta_j L_i[b] / |g_i[b]|, with both gradients normalized."""
        found = []
        for delta_bj, norm_b in zip(self.delta_Gibj[group], self.norm_Gib[group], strict=True):
            kept = norm_b >= LEAST_NORM
            found.append((delta_bj[kept] / norm_b[kept, None]).mean(0) if kept.any() else delta_bj[0])
        return np.stack(found)

    def share_not_positive(self, group: int) -> np.ndarray:
        """(K,): share of the batches of i with Delta_i L_i[b] <= 0, whose ratios are worth nothing."""
        return np.array([(delta_bj[:, i] <= 0).mean() for i, delta_bj in enumerate(self._batches(group))])

    def unclear(self, group: int) -> np.ndarray:
        """(K,): whether the mean of Delta_i L_i[b] is within `UNCLEAR` standard errors of 0."""
        found = []
        for i, delta_bj in enumerate(self._batches(group)):
            own_b = delta_bj[:, i]
            error = own_b.std(ddof=1) / len(own_b) ** 0.5 if len(own_b) > 1 else np.inf
            found.append(not abs(own_b.mean()) > UNCLEAR * error)
        return np.array(found)

    def interval(self, group: int, *, draws: int = DRAWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """95 % interval of `ratio_of_means`: low and high (K, K), by bootstrap over the batches of i.

        The batches of j are not drawn anew: their part of the uncertainty is not in it.
        """
        rng = np.random.default_rng(seed)
        low, high = [], []
        for i, delta_bj in enumerate(self._batches(group)):
            count = len(delta_bj)
            means_Dj = delta_bj[rng.integers(count, size=(draws, count))].mean(1)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios_Dj = means_Dj / means_Dj[:, i : i + 1]
            low.append(np.quantile(ratios_Dj, 0.025, axis=0))
            high.append(np.quantile(ratios_Dj, 0.975, axis=0))
        return np.stack(low), np.stack(high)

    def _batches(self, group: int) -> list[np.ndarray]:
        """Delta (b, j) of each center i, without batches that have no gradient."""
        found = []
        for delta_bj, norm_b in zip(self.delta_Gibj[group], self.norm_Gib[group], strict=True):
            kept = norm_b >= LEAST_NORM
            found.append(delta_bj[kept] if kept.any() else delta_bj[:1])
        return found

    def to_dict(self) -> dict[str, Any]:
        """All estimates, JSON-able but for NaN: a record for each group."""
        records = []
        for number, name in enumerate(self.groups):
            low, high = self.interval(number)
            records.append(
                {
                    "group": name,
                    "ratio_of_means": self.ratio_of_means(number).tolist(),
                    "low": low.tolist(),
                    "high": high.tolist(),
                    "mean_of_ratios": self.mean_of_ratios(number).tolist(),
                    "mean_cosine": self.mean_cosine(number).tolist(),
                    "share_not_positive": self.share_not_positive(number).tolist(),
                    "unclear": self.unclear(number).tolist(),
                    "skipped_batches": self.skipped(number),
                }
            )
        return {
            "centers": list(self.centers),
            "batches": self.norm_Gib.shape[2],
            "groups": records,
        }


def measure(
    gradient: Gradient,
    centers: Sequence[str],
    groups: Sequence[str],
    batches: int,
    progress: Callable[[int, int], None] | None = None,
) -> Interference:
    """Measures the table in two passes over the same batches.

    Args:
        gradient: the gradient of a batch.
        centers: names of the centers.
        groups: names of the groups of parameters, in the order of the vectors.
        batches: number for each center, at least 2.
        progress: called with (gradients done, gradients in all).

    Raises:
        ValueError: there are fewer than two batches.
    """
    if batches < 2:
        raise ValueError(f"{batches} batches: the own batch is left out, so two are needed at least")
    count, total = len(centers), 2 * len(centers) * batches
    done = progress or (lambda _done, _total: None)
    sums: list[list[np.ndarray]] = []  # by center and group: sum of the normalized gradients
    norm_Gib = np.zeros((len(groups), count, batches))
    for i in range(count):
        of_center: list[np.ndarray] = []
        for b in range(batches):
            vectors = [np.asarray(vector, np.float64) for vector in gradient(i, b)]
            norm_Gib[:, i, b] = [np.linalg.norm(vector) for vector in vectors]
            units = [
                v / n if n >= LEAST_NORM else 0 * v for v, n in zip(vectors, norm_Gib[:, i, b], strict=True)
            ]
            of_center = [s + u for s, u in zip(of_center, units, strict=True)] if of_center else units
            done(i * batches + b + 1, total)
        sums.append(of_center)
    used_Gi = (norm_Gib >= LEAST_NORM).sum(2)
    delta_Gibj = np.full((len(groups), count, batches, count), np.nan)
    for i in range(count):
        for b in range(batches):
            for g, vector in enumerate(gradient(i, b)):
                norm = norm_Gib[g, i, b]
                if norm >= LEAST_NORM:
                    for j in range(count):
                        product = float(sums[j][g] @ vector)
                        own = i == j  # its own term of the sum is |g|, exactly
                        delta_Gibj[g, i, b, j] = (product - own * norm) / max(used_Gi[g, j] - own, 1)
            done((count + i) * batches + b + 1, total)
    return Interference(tuple(centers), tuple(groups), delta_Gibj, norm_Gib)


def _ratios(means_ij: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return means_ij / np.diag(means_ij)[:, None]


def rows(found: Mapping[str, Any]) -> list[list[Any]]:
    """`Interference.to_dict` in long form, a row for each group and pair of centers; see `COLUMNS`."""
    lines = []
    for record in found["groups"]:
        for i, suffers in enumerate(found["centers"]):
            for j, optimized in enumerate(found["centers"]):
                numbers = [record[key][i][j] for key in MATRICES]
                own = [record["share_not_positive"][i], int(record["unclear"][i])]
                lines.append([record["group"], suffers, optimized, *map(repr_or_empty, numbers), *own])
    return lines


MATRICES = ("ratio_of_means", "low", "high", "mean_of_ratios", "mean_cosine")
COLUMNS = ("group", "center", "optimized", *MATRICES, "share_not_positive", "unclear")


def repr_or_empty(value: float | None) -> str:
    """A number in full precision, or nothing."""
    return "" if value is None or not np.isfinite(value) else repr(float(value))
