"""PRIVACY-3: the noise is the discrete Gaussian it claims to be, and a wrong one is noticed."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from schemas.errors import ErrorCode, InternalError
from site_node.training.noise import _Table, _table, _thresholds, discrete_gaussian
from tests.support.secure_sum import FixedEntropy

MILLION = 1_000_000
TABLE_SIGMAS = [0.25, 0.5, 1.0, 3.3, 17.0, 1024.0]
WIDE_SIGMAS = [1024.5, 5_000.0, 131_000.0, 131_200.0, 2.3e6, 1e7]


def draw(sigma: float, n: int = MILLION, seed: str = "noise") -> np.ndarray:
    return discrete_gaussian(sigma, n, FixedEntropy(f"{seed}/{sigma}"))


def kolmogorov_smirnov(sample: np.ndarray, sigma: float) -> float:
    """√n times the largest distance from the Gaussian, at the middle between integers.

    From sigma 1000 on the discrete Gaussian's distribution function there is the continuous one
    to 1e-7; 2.23 is exceeded by chance once in 20 000.
    """
    values, counts = np.unique(sample, return_counts=True)
    empirical = np.cumsum(counts) / len(sample)
    exact = np.array([0.5 * math.erfc(-(v + 0.5) / (sigma * math.sqrt(2))) for v in values[::97]])
    return float(np.abs(empirical[::97] - exact).max() * math.sqrt(len(sample)))


def chi_squared(sample: np.ndarray, sigma: float) -> tuple[float, int]:
    """Pearson's statistic against the exact probabilities, and its degrees of freedom."""
    reach = math.ceil(12 * sigma)
    support = np.arange(-reach, reach + 1)
    weights = np.exp(-(support.astype(float) ** 2) / (2 * sigma**2))
    expected = weights / weights.sum() * len(sample)
    counts = np.bincount(sample + reach, minlength=len(support))
    common = expected > 50
    statistic = float(((counts - expected) ** 2 / expected)[common].sum())
    return statistic, int(common.sum())


def looks_right(sample: np.ndarray, sigma: float) -> bool:
    """Accept within five standard deviations of the statistic."""
    if sigma > 1000:
        return kolmogorov_smirnov(sample, sigma) < 2.23
    statistic, degrees = chi_squared(sample, sigma)
    return statistic < degrees + 5 * math.sqrt(2 * degrees)


# --- accepted when right, rejected when wrong ------------------------------------------------


@pytest.mark.parametrize("sigma", [s for s in TABLE_SIGMAS + WIDE_SIGMAS if s >= 1])
def test_standard_deviation_is_right_to_half_a_percent(sigma: float) -> None:
    """PRIVACY-3: the variance of one share."""
    sample = draw(sigma).astype(np.float64)
    assert abs(sample.std() / sigma - 1) < 0.005
    assert abs(sample.mean()) < 5 * sigma / math.sqrt(MILLION)


@pytest.mark.parametrize("sigma", [17.0, 5_000.0, 2.3e6])  # one, two and three draws
@pytest.mark.parametrize("factor", [0.99, 1.01, math.sqrt(3 / 4), 0.5])
def test_a_standard_deviation_off_by_one_per_cent_is_noticed(sigma: float, factor: float) -> None:
    """PRIVACY-3: the half per cent can fail: 0.5 % are seven standard errors of a million."""
    assert abs(draw(sigma * factor).astype(np.float64).std() / sigma - 1) > 0.005


@pytest.mark.parametrize("sigma", TABLE_SIGMAS + WIDE_SIGMAS)
def test_distribution_is_accepted(sigma: float) -> None:
    assert looks_right(draw(sigma), sigma)


@pytest.mark.parametrize("sigma", [3.3, 17.0, 5_000.0, 2.3e6])
@pytest.mark.parametrize("factor", [0.5, 1 / math.sqrt(2), 0.98, 1.02, 2.0])
def test_another_parameter_is_rejected(sigma: float, factor: float) -> None:
    """Halved noise among them: the mistake that costs most and shows least."""
    assert not looks_right(draw(sigma * factor), sigma)


def test_a_shifted_sample_is_rejected() -> None:
    assert not looks_right(draw(17.0) + 1, 17.0)
    assert not looks_right(draw(5_000.0) + 50, 5_000.0)


def test_noise_of_even_numbers_only_is_rejected() -> None:
    """What is left if the innermost draw of a convolution is forgotten."""
    assert not looks_right(2 * draw(8.5), 17.0)


@pytest.mark.parametrize("sigma", [5_000.0, 2.3e6, 1e7])
def test_every_residue_occurs_in_wide_noise(sigma: float) -> None:
    """The grid of a convolution's scale must not show through."""
    scale = _table(sigma).scale
    counts = np.bincount(draw(sigma) % scale, minlength=scale)
    expected = MILLION / scale
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < scale + 5 * math.sqrt(2 * scale)


# --- the table -------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.25, 1.0, 2.5, 40.0])
def test_table_is_exact_to_2_to_the_minus_112(sigma: float) -> None:
    """PRIVACY-3: the sampler's distance from the distribution."""
    with localcontext() as context:
        context.prec = 80
        half = 1 / (2 * Decimal(sigma) ** 2)
        reach = len(_thresholds(Fraction(sigma) ** 2)) + 40
        weights = [(-half * k * k).exp() * (2 if k else 1) for k in range(reach)]
        total = sum(weights)
        cumulative = Decimal(0)
        for k, threshold in enumerate(_thresholds(Fraction(sigma) ** 2)):
            cumulative += weights[k] / total
            assert abs(Decimal(threshold) / 2**128 - cumulative) < Decimal(2) ** -112


@pytest.mark.parametrize("sigma", TABLE_SIGMAS + WIDE_SIGMAS)
def test_convolution_has_exactly_the_variance_asked_for(sigma: float) -> None:
    table = _table(sigma)
    spread = sum(table.scale ** (2 * k) for k in range(table.draws))
    inner = Fraction(sigma) ** 2 / spread
    assert inner <= 1024**2
    if table.draws > 1:  # Micciancio-Walter: the coarse steps are hidden by the fine draw
        assert inner / (1 + table.scale**2) > 60


class Scripted:
    """A stream that gives the words it was told."""

    def __init__(self, values: list[int]) -> None:
        self._rows = [[v >> 64 for v in values], [v & (2**64 - 1) for v in values]]

    def words64(self, count: int) -> np.ndarray:
        return np.array(self._rows.pop(0), dtype=np.uint64)


@pytest.mark.parametrize("sigma", [0.25, 3.3, 17.0])
def test_every_threshold_is_met_to_the_last_bit(sigma: float) -> None:
    """The low word decides where the high words are equal, as in the tail they often are."""
    thresholds = _thresholds(Fraction(sigma) ** 2)
    table = _table(sigma)
    for shift in (-2, 0):  # just below a threshold, and on it
        drawn = [threshold + shift for threshold in thresholds]
        got = table.draw(len(drawn), Scripted(drawn))
        assert got.tolist() == [bisect_right(thresholds, value) for value in drawn]


def test_the_last_bit_is_the_sign() -> None:
    thresholds = _thresholds(Fraction(math.sqrt(3)) ** 2)
    table = _table(math.sqrt(3))
    middle = thresholds[0]
    assert table.draw(2, Scripted([middle, middle + 1])).tolist() == [1, -1]
    assert table.draw(2, Scripted([0, 2**128 - 1])).tolist() == [0, -len(thresholds)]


def test_tables_are_built_once() -> None:
    assert _table(4321.0) is _table(4321.0)
    assert isinstance(_table(4321.0), _Table)


# --- care ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, -1.0, 0.1, 1.1e7, math.inf, math.nan])
def test_noise_out_of_range_is_refused(sigma: float) -> None:
    with pytest.raises(InternalError) as refused:
        discrete_gaussian(sigma, 5, os.urandom)
    assert refused.value.code is ErrorCode.NOISE_OUT_OF_RANGE


def test_no_noise_is_ever_drawn_twice() -> None:
    seen = {discrete_gaussian(2.3e6, 50, os.urandom).tobytes() for _ in range(200)}
    assert len(seen) == 200


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.astype(float), second.astype(float))[0, 1])


@pytest.mark.parametrize("sigma", [17.0, 5_000.0, 2.3e6])
def test_noise_of_two_sites_is_uncorrelated(sigma: float) -> None:
    """PRIVACY-3: variances of shares add up only if the shares are independent."""
    first, second = draw(sigma, seed="a"), draw(sigma, seed="b")
    assert abs(correlation(first, second)) < 4 / math.sqrt(MILLION)
    # the bound can fail: one hundredth of the other's noise in a site's own
    assert abs(correlation(first + second // 100 * 2, second)) > 4 / math.sqrt(MILLION)


def test_noise_of_two_calls_at_one_site_is_uncorrelated() -> None:
    """PRIVACY-3: a retried attempt draws anew."""
    entropy = FixedEntropy("one site")
    first = discrete_gaussian(2.3e6, MILLION, entropy)
    second = discrete_gaussian(2.3e6, MILLION, entropy)
    assert abs(correlation(first, second)) < 4 / math.sqrt(MILLION)
    assert np.intersect1d(first, second).size < MILLION // 5  # as many meet by chance alone


def test_neighbouring_values_are_uncorrelated() -> None:
    sample = draw(2.3e6).astype(float)
    assert abs(float(np.corrcoef(sample[:-1], sample[1:])[0, 1])) < 4 / math.sqrt(MILLION)


def test_only_the_entropy_decides() -> None:
    assert np.array_equal(draw(99.0, 1000), draw(99.0, 1000))
    taken: list[int] = []

    def entropy(n_bytes: int, /) -> bytes:
        taken.append(n_bytes)
        return os.urandom(n_bytes)

    discrete_gaussian(99.0, 10**5, entropy)
    assert taken == [32]


@pytest.mark.parametrize("n", [0, 1, 32_767, 32_769])
def test_as_many_values_as_asked_for(n: int) -> None:
    assert discrete_gaussian(5_000.0, n, os.urandom).shape == (n,)
