"""Conformal quantiles and the regression behind the intervals of lesions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drmc.measures.conformal import cluster_quantile, fit_location_scale
from hypothesis import given, settings
from hypothesis import strategies as st


def brute_quantile(scores, clusters, level):
    """The smallest score up to which the clusters, each by its share of scores, reach the level of K + 1."""
    names = sorted(set(clusters))
    for candidate in sorted(scores):
        reached = 0.0
        for name in names:
            own = [score for score, cluster in zip(scores, clusters, strict=True) if cluster == name]
            reached += sum(score <= candidate for score in own) / len(own)
        if reached >= level * (len(names) + 1) - 1e-9:
            return candidate
    return math.inf


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(-20, 20)), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.8, 0.9]),
)
def test_the_quantile_is_that_of_a_literal_search(pairs, level):
    clusters, scores = [str(cluster) for cluster, _ in pairs], [float(score) for _, score in pairs]
    assert cluster_quantile(np.array(scores), clusters, level) == brute_quantile(scores, clusters, level)


@pytest.mark.parametrize("count", [9, 10, 19, 20, 57])
def test_with_one_score_a_cluster_it_is_the_usual_order_statistic(count):
    scores = np.random.default_rng(count).permutation(count).astype(float)
    rank = math.ceil((count + 1) * 0.9)
    assert cluster_quantile(scores, [str(n) for n in range(count)], 0.9) == rank - 1


def test_too_few_clusters_have_no_finite_quantile():
    assert cluster_quantile(np.arange(8.0), [str(n) for n in range(8)], 0.9) == math.inf
    assert cluster_quantile(np.arange(900.0), ["one"] * 900, 0.9) == math.inf, "many lesions of one patient"


def drawn(rng, clusters: int) -> tuple[np.ndarray, list[str]]:
    """Scores that depend on each other in a cluster; clusters have 1 to 15 of them."""
    sizes = rng.integers(1, 16, clusters)
    level = np.repeat(rng.normal(0, 1, clusters), sizes)
    return level + rng.normal(0, 0.5, sizes.sum()), [str(n) for n in np.repeat(np.arange(clusters), sizes)]


def test_the_coverage_of_new_clusters_is_as_promised_where_a_quantile_of_all_scores_fails():
    rng = np.random.default_rng(4)
    covered, naive = [], []
    for _ in range(1500):
        scores, clusters = drawn(rng, 19)
        new, _ = drawn(rng, 1)
        covered.append(np.mean(new <= cluster_quantile(scores, clusters, 0.9)))
        naive.append(np.mean(new <= np.quantile(scores, 0.9)))
    # At least 0.9, at most 0.9 + 1/20; the standard error of the mean is 0.007.
    assert 0.885 < np.mean(covered) < 0.97
    assert np.mean(naive) < np.mean(covered) - 0.01


def test_the_regression_finds_location_and_scale_beside_outliers():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (4000, 3))
    noise = rng.normal(0, 1, 4000)
    y = 0.2 + 0.3 * features[:, 0] + np.exp(-1 + 0.5 * features[:, 1]) * noise
    y[::100] += 5.0
    found = fit_location_scale(features, y, [str(n) for n in range(4000)])
    np.testing.assert_allclose(found.location, [0.2, 0.3, 0, 0], atol=0.03)
    np.testing.assert_allclose(found.log_scale[1:], [0, 0.5, 0], atol=0.12)
    location, scale = found.predict(features[:5])
    assert location.shape == scale.shape == (5,) and (scale > 0).all()
