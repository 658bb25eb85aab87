"""The paired tests of an evaluation, against enumeration, published tables and worked examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from drmc.evaluation.statistics import hodges_lehmann, holm, signed_rank, smallest_p
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

# Largest smaller rank sum that is significant at 0.05, two-sided (Wilcoxon and Wilcox 1964, table 1).
CRITICAL = {
    6: 0,
    7: 2,
    8: 3,
    9: 5,
    10: 8,
    11: 10,
    12: 13,
    13: 17,
    14: 21,
    15: 25,
    16: 29,
    17: 34,
    18: 40,
    19: 46,
}
CRITICAL |= {20: 52, 21: 58, 22: 65, 23: 73, 24: 81, 25: 89}


def with_rank_sum(n: int, total: int) -> list[float]:
    """Differences of ranks 1 to n whose positive ones sum to `total`."""
    positive = set()
    for rank in range(n, 0, -1):
        if rank <= total:
            positive.add(rank)
            total -= rank
    assert total == 0
    return [float(rank if rank in positive else -rank) for rank in range(1, n + 1)]


@pytest.mark.parametrize(("n", "critical"), CRITICAL.items())
def test_the_published_critical_values_are_the_last_significant_ones(n, critical):
    found = signed_rank(with_rank_sum(n, critical))
    assert found.exact and found.statistic == critical and found.p <= 0.05
    assert signed_rank(with_rank_sum(n, critical + 1)).p > 0.05
    mirrored = signed_rank([-d for d in with_rank_sum(n, critical)])
    assert mirrored.p == found.p and mirrored.statistic == n * (n + 1) / 2 - critical


@settings(max_examples=60)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_it_is_the_share_of_sign_assignments_at_least_as_extreme(differences):
    values = np.array([d for d in differences if d], dtype=float)
    found = signed_rank(differences)
    assert found.n == len(values)
    size = np.abs(values)
    ranks = np.array([np.mean(np.flatnonzero(np.sort(size) == one) + 1) for one in size])
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((0, 1), repeat=len(values))
    ]
    observed = sum(ranks[values > 0])
    below, above = (np.mean([s <= observed for s in sums]), np.mean([s >= observed for s in sums]))
    assert found.p == pytest.approx(min(1.0, 2 * min(below, above)))
    assert found.p >= smallest_p(found.n) or found.n == 0


def test_many_pairs_take_the_normal_approximation_with_ties():
    differences = [1.0] * 20 + [2.0] * 10 + [-1.0] * 6 + [0.0] * 3
    found = signed_rank(differences)
    # 26 ties share rank 13.5, 10 share 31.5: sum 20 * 13.5 + 315; variance n(n+1)(2n+1)/24 - sum (t^3 - t)/48
    variance = 36 * 37 * 73 / 24 - ((26**3 - 26) + (10**3 - 10)) / 48
    z = (20 * 13.5 + 10 * 31.5 - 36 * 37 / 4) / math.sqrt(variance)
    assert (found.n, found.exact, found.statistic) == (36, False, 585.0)
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)))
    nearly = signed_rank(with_rank_sum(26, 98))  # one pair more than what is exact
    assert not nearly.exact and 0.04 < nearly.p < 0.06


@pytest.mark.parametrize(
    ("sizes", "decimals", "method"),
    [((2, 26), 9, "exact"), ((26, 80), 9, "asymptotic"), ((45, 80), 1, "asymptotic")],  # 1 decimal: with ties
)
def test_without_ties_or_with_many_pairs_it_is_the_one_of_scipy(sizes, decimals, method):
    rng = np.random.default_rng(5)
    for _ in range(50):
        differences = np.round(rng.normal(0.3, 1.0, rng.integers(*sizes)), decimals)
        found = signed_rank(differences)
        assert found.exact == (method == "exact")
        other = stats.wilcoxon(differences[differences != 0], method=method, correction=False)
        assert found.p == pytest.approx(other.pvalue, rel=1e-12)


def test_five_patients_cannot_show_a_difference_and_ten_can():
    assert signed_rank([1, 2, 3, 4, 5]).p == smallest_p(5) == 0.0625
    assert signed_rank(range(1, 11)).p == smallest_p(10) == 2**-9
    assert signed_rank([0.0, 0.0]).p == 1.0
    with pytest.raises(ValueError, match="finite"):
        signed_rank([1.0, math.nan])


def test_holm_steps_down_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_the_interval_of_the_median_difference_holds_what_the_test_does_not_reject():
    """The definition, by brute force: shifts for which p is above 0.05."""
    differences = np.random.default_rng(8).normal(0.4, 1, 10)
    middle, low, high = hodges_lehmann(differences)
    pairs = [(a + b) / 2 for k, a in enumerate(differences) for b in differences[k:]]
    assert middle == pytest.approx(np.median(pairs)) and low < middle < high
    for end, inward in ((low, 1e-6), (high, -1e-6)):
        assert (
            signed_rank(differences - (end + inward)).p > 0.05 > signed_rank(differences - (end - inward)).p
        )
    # R's wilcox.test(c(1.1, 2.2, 3.3, 4.5, 5.6, 6.8), conf.int = TRUE): 1.1 to 6.8, the range of six
    assert hodges_lehmann([1.1, 2.2, 3.3, 4.5, 5.6, 6.8])[1:] == pytest.approx((1.1, 6.8))
    assert hodges_lehmann([3.0]) == (3.0, 3.0, 3.0)


def test_the_interval_of_many_differences_is_that_of_the_normal_approximation():
    differences = np.random.default_rng(9).normal(0.2, 1, 40)
    _, low, high = hodges_lehmann(differences)
    assert signed_rank(differences - low - 1e-6).p > 0.045 and signed_rank(differences - low + 0.02).p < 0.06
    assert signed_rank(differences - high + 1e-6).p > 0.045
