"""The filter: every conversion dominates, and what is admitted is what its theorem covers."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution

from schemas.errors import ConfigError, ErrorCode
from schemas.privacy.accounting import total_epsilon
from schemas.privacy.events import Mechanism
from schemas.privacy.filter import (
    PLANS_WITH_SLACK,
    Cost,
    PrivacyFilter,
    gaussian_delta,
    gaussian_epsilon,
)

RULE = PrivacyFilter(8.0, 1e-5)
SUBSAMPLED = ((1.0, 0.01, 1000), (1.5, 0.1, 100), (3.0, 0.1, 100), (1.0, 0.05, 30))


def phi(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def mu(mechanism: Mechanism, hospitals: int = 1) -> float:
    return math.sqrt(RULE.cost(mechanism, hospitals_per_patient=hospitals).precision)


def total(*mechanisms: Mechanism, hospitals: int = 1) -> Cost:
    costs = (RULE.cost(each, hospitals_per_patient=hospitals) for each in mechanisms)
    return sum(costs, start=Cost())


# --- one Gaussian ---------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "epsilon"), [(0.5, 1.0), (1.0, 0.0), (1.0, 3.0), (2.0, 5.0)])
def test_delta_of_a_gaussian_is_the_closed_form(mean: float, epsilon: float) -> None:
    """PRIVACY-10: Balle and Wang 2018, theorem 8."""
    expected = phi(mean / 2 - epsilon / mean) - math.exp(epsilon) * phi(-mean / 2 - epsilon / mean)
    assert gaussian_delta(mean, epsilon) == pytest.approx(expected, rel=1e-9)


def test_epsilon_and_delta_of_a_gaussian_are_inverse() -> None:
    assert gaussian_epsilon(0.7, gaussian_delta(0.7, 2.5)) == pytest.approx(2.5, abs=1e-9)
    assert gaussian_epsilon(1e-9, 1e-5) == 0.0
    # Where both terms of the closed form are huge and nearly equal, digits must not be lost.
    assert 0 < gaussian_delta(0.001, 0.02) < 1e-80


# --- conversions ----------------------------------------------------------------------------


def test_a_full_batch_is_one_gaussian_exactly() -> None:
    """PRIVACY-10: mu = h·sqrt(attempts)/sigma; with local noise sqrt(h·attempts)/sigma."""
    shared, local = Mechanism(13.0, 1.0, 12), Mechanism(13.0, 1.0, 12, True)
    assert mu(shared) == pytest.approx(math.sqrt(12) / 13)
    assert mu(shared, 2) == pytest.approx(2 * math.sqrt(12) / 13)
    assert mu(local, 2) == pytest.approx(math.sqrt(2 * 12) / 13)
    assert RULE.cost(shared, hospitals_per_patient=2).slack == 0.0
    assert RULE.cost(Mechanism(13.0, 1.0, 0), hospitals_per_patient=1) == Cost()


@cache
def fine_curve(sigma: float, rate: float, count: int) -> privacy_loss_distribution:
    """A loss distribution on a grid three times as fine, and of other knots, than the filter's."""
    one = privacy_loss_distribution.from_gaussian_mechanism(
        sigma, value_discretization_interval=3e-4, sampling_prob=rate
    )
    return one.self_compose(count)


def dominates(mean: float, slack: float, of: tuple[float, float, int]) -> bool:
    """Check both directions, at epsilons between knots, negative ones among them."""
    pld = fine_curve(*of)
    epsilons = np.arange(0.0, 12.0, 0.00077)
    bound = slack + (1 - slack) * np.array([gaussian_delta(mean, e) for e in epsilons])
    for pmf in (pld._pmf_add, pld._pmf_remove):
        delta = np.asarray(pmf.get_delta_for_epsilon(epsilons))
        if not np.all(delta <= bound):
            return False
        # H(-e) = 1 - exp(-e) + exp(-e)·H(e) of the other direction, on either side.
        other = pld._pmf_remove if pmf is pld._pmf_add else pld._pmf_add
        less = -np.expm1(-epsilons) + np.exp(-epsilons) * np.asarray(
            other.get_delta_for_epsilon(epsilons)
        )
        if not np.all(less <= -np.expm1(-epsilons) + np.exp(-epsilons) * bound):
            return False
    return True


@pytest.mark.parametrize("of", SUBSAMPLED)
def test_a_subsampled_mechanism_is_dominated_by_its_gaussian(of: tuple[float, float, int]) -> None:
    """PRIVACY-10: for every epsilon and both directions; one hundredth less is not enough."""
    cost = RULE.cost(Mechanism(*of), hospitals_per_patient=1)
    assert cost.slack == RULE.slack == pytest.approx(1e-8)
    assert dominates(math.sqrt(cost.precision), cost.slack, of)
    assert not dominates(math.sqrt(cost.precision) * 0.99, cost.slack, of)
    assert not dominates(math.sqrt(cost.precision), cost.slack / 1e3, of)  # nor without the slack


def test_sampling_never_costs_more_than_none() -> None:
    for of in SUBSAMPLED:
        assert mu(Mechanism(*of)) < mu(Mechanism(of[0], 1.0, of[2]))
    # A rate so near 1 that a conversion gains nothing costs what the full batch does, unslackened.
    nearly = RULE.cost(Mechanism(20.0, 1 - 1e-12, 3), hospitals_per_patient=1)
    assert nearly == Cost(pytest.approx(3 / 400), 0.0)


def test_a_patient_of_more_hospitals_costs_more() -> None:
    """PRIVACY-6: a mixture for two; local noise counts releases, not clips."""
    poisson, local = Mechanism(3.0, 0.1, 20), Mechanism(3.0, 0.1, 20, True)
    assert mu(poisson) < mu(local, 2) < mu(poisson, 2) < mu(Mechanism(3.0, 1.0, 20), 2)
    assert mu(local, 2) == pytest.approx(mu(Mechanism(3.0, 0.1, 40)))


@pytest.mark.parametrize(
    "mechanism",
    [
        Mechanism(0.1, 1.0, 1),
        Mechanism(20_000.0, 1.0, 1),
        Mechanism(1.0, 0.0, 1),
        Mechanism(1.0, 1.5, 1),
        Mechanism(1.0, 1.0, -1),
        Mechanism(math.nan, 1.0, 1),
    ],
)
def test_a_mechanism_outside_the_ranges_is_refused(mechanism: Mechanism) -> None:
    """PRIVACY-12: nothing unknown is guessed."""
    with pytest.raises(ConfigError) as refused:
        RULE.cost(mechanism, hospitals_per_patient=1)
    assert refused.value.code is ErrorCode.ACCOUNTING_UNSUPPORTED


# --- the rule -------------------------------------------------------------------------------


def test_the_caps_are_met_exactly() -> None:
    """PRIVACY-10: mu* and the slacks together give the hospital's epsilon and delta."""
    root = math.sqrt(RULE.precision)
    assert gaussian_delta(root, 8.0) + RULE.total_slack == pytest.approx(1e-5, rel=1e-9)
    assert RULE.epsilon_of(Cost(RULE.precision)) == pytest.approx(8.0, abs=1e-9)
    assert RULE.admits(Cost(RULE.precision, RULE.total_slack))
    assert not RULE.admits(Cost(RULE.precision * 1.0001))
    assert not RULE.admits(Cost(0.0, RULE.total_slack * 1.01))
    assert not RULE.admits(Cost(math.inf))


def test_there_is_slack_for_a_hundred_subsampled_plans() -> None:
    small = RULE.cost(Mechanism(100.0, 0.01, 1), hospitals_per_patient=1)
    assert RULE.admits(sum([small] * PLANS_WITH_SLACK, start=Cost()))
    assert not RULE.admits(sum([small] * (PLANS_WITH_SLACK + 1), start=Cost()))
    later = RULE.cost(Mechanism(100.0, 0.01, 1), hospitals_per_patient=1, has_slack=False)
    assert later == RULE.cost(Mechanism(100.0, 1.0, 1), hospitals_per_patient=1)
    assert RULE.admits(sum([small] * PLANS_WITH_SLACK + [later] * 10, start=Cost()))


@pytest.mark.parametrize("of", [(10_000.0, 1e-6, 1), (10_000.0, 1e-5, 1), (1000.0, 1e-6, 2)])
def test_a_mechanism_of_next_to_nothing_costs_the_least_there_is(
    of: tuple[float, float, int],
) -> None:
    """PRIVACY-10: rounded up, and no search down to where float64 ends (warnings are errors)."""
    assert mu(Mechanism(*of)) == pytest.approx(1e-6)
    assert dominates(1e-6, RULE.slack, of)


FULL, WIDE, POISSON = Mechanism(8.0, 1.0, 40), Mechanism(30.0, 1.0, 40), Mechanism(1.0, 0.01, 1000)
# Epsilon of the filter over epsilon of the PLD of the same list, at most: the table of PRIVACY-10.
COSTS = {
    "one full batch": ((FULL,), 1.008),
    "four full batches": ((WIDE,) * 4, 1.008),
    "one Poisson": ((POISSON,), 1.07),
    "four Poisson": ((POISSON,) * 4, 1.15),
    "mixed": ((FULL, POISSON), 1.04),
    "a short Poisson": ((Mechanism(1.5, 0.1, 100),), 1.05),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_filter_is_never_below_the_composition_and_not_far_above(name: str) -> None:
    """PRIVACY-10: for plans fixed in advance the PLD of all is smaller, by what the table says."""
    mechanisms, most = COSTS[name]
    composed = total_epsilon(mechanisms, delta=RULE.delta)
    reached = RULE.epsilon_of(total(*mechanisms))
    assert composed <= reached <= composed * most


def test_the_filter_is_far_below_adding_epsilons() -> None:
    """PRIVACY-10: what the simple rule for adaptive plans would cost."""
    alone = total_epsilon([POISSON], delta=RULE.delta / 4)
    assert RULE.epsilon_of(total(*[POISSON] * 4)) < 0.6 * 4 * alone
