"""Do the numbers agree with independent computations on the patients themselves?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from schemas.evaluation import auroc_from_histograms, bin_index, wilson_interval
from schemas.evaluation.statistics import thinned_roc

counts = st.lists(st.integers(0, 9), min_size=4, max_size=30)


def brute_delong(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """AUROC and DeLong variance from all pairs, O(n^2): the definition."""
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
    return float(wins.mean()), float(
        v10.var(ddof=1) / len(positives) + v01.var(ddof=1) / len(negatives)
    )


@settings(max_examples=80, deadline=None)
@given(counts, st.randoms(use_true_random=False))
def test_auroc_and_variance_equal_the_definition_over_all_pairs(
    positives: list[int], source: object
) -> None:
    generator = np.random.default_rng(abs(hash(tuple(positives))) % 2**32)
    negatives = generator.integers(0, 9, len(positives)).tolist()
    if sum(positives) < 2 or sum(negatives) < 2:
        return
    bins = np.arange(len(positives))
    expected = brute_delong(np.repeat(bins, positives), np.repeat(bins, negatives))
    got = auroc_from_histograms(positives, negatives)
    assert (float(got.auroc), float(got.variance)) == pytest.approx(expected, abs=1e-12)


def test_auroc_equals_scipys_mann_whitney_statistic() -> None:
    generator = np.random.default_rng(3)
    positives, negatives = generator.integers(0, 40, 300), generator.integers(0, 30, 200)
    statistic = stats.mannwhitneyu(positives, negatives).statistic / (300 * 200)
    got = auroc_from_histograms(
        np.bincount(positives, minlength=40).tolist(), np.bincount(negatives, minlength=40).tolist()
    )
    assert float(got.auroc) == pytest.approx(float(statistic), abs=1e-12)


logits = st.lists(st.floats(-40, 40, allow_nan=False), min_size=2, max_size=60)


@settings(max_examples=200, deadline=None)
@given(logits, logits, st.integers(2, 100))
def test_bound_always_contains_the_auroc_of_unbinned_scores(
    positives: list[float], negatives: list[float], bins: int
) -> None:
    p, q = np.array(positives), np.array(negatives)
    got = auroc_from_histograms(
        np.bincount(bin_index(p, bins), minlength=bins).tolist(),
        np.bincount(bin_index(q, bins), minlength=bins).tolist(),
    )
    exact, _ = brute_delong(p, q)
    assert abs(float(got.auroc) - exact) <= float(got.bound) + 1e-12


def test_bound_is_reached_where_a_bin_hides_a_perfect_order() -> None:
    """A bound half as large would be wrong: all of one bin's pairs truly won."""
    got = auroc_from_histograms([0, 3, 0], [0, 4, 0])
    assert (float(got.auroc), float(got.bound)) == (0.5, 0.5)


def test_interval_covers_as_often_as_it_says_and_a_narrower_one_does_not() -> None:
    generator = np.random.default_rng(11)
    truth = stats.norm.cdf(1.2 / np.sqrt(2))
    inside = narrow = 0
    for _ in range(400):
        p, q = generator.normal(1.2, 1, 120), generator.normal(0, 1, 120)
        places = [np.bincount(bin_index(v, 100), minlength=100).tolist() for v in (p, q)]
        estimate = auroc_from_histograms(*places)
        low, high = estimate.interval()
        inside += low <= truth <= high
        narrow += abs(float(estimate.auroc) - truth) <= (high - low) / 4
    assert 0.92 <= inside / 400 <= 0.98
    assert narrow / 400 < 0.80


def test_perfect_separation_stays_within_zero_and_one() -> None:
    assert auroc_from_histograms([0, 20], [20, 0]).interval() == (1.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 30), (81, 263), (5, 7)])
def test_wilson_interval_agrees_with_scipy(successes: int, trials: int) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=100),
    st.integers(10, 25),
)
def test_every_step_of_the_released_curve_holds_enough_of_both_classes(
    cells: list[tuple[int, int]], minimum: int
) -> None:
    positives, negatives = [p for p, _ in cells], [q for _, q in cells]
    n1, n0 = sum(positives), sum(negatives)
    if n1 < minimum or n0 < minimum:
        return
    points = thinned_roc(positives, negatives, minimum)
    assert (points[0], points[-1]) == ((0, 0), (n0, n1))
    for (q0, p0), (q1, p1) in pairwise(points):
        assert p1 - p0 >= minimum
        assert q1 - q0 >= minimum


def test_released_points_lie_on_the_full_curve() -> None:
    positives, negatives = [2, 8, 20, 30], [30, 25, 15, 12]
    assert thinned_roc(positives, negatives, 10) == [(0, 0), (12, 30), (27, 50), (82, 60)]
