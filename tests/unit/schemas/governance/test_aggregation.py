"""SECAGG-13, PRIVACY-3: how many hospitals may be lost, and what then holds for sums and noise."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import limits
from schemas.canonical import build
from schemas.errors import ConfigError
from schemas.governance.aggregation import AggregationTerms, survivor_threshold
from schemas.governance.study import StudyPlan
from tests.support.factories import SiteKeys, make_keys, plan_values, plan_with

KEYS = {f"site-{index}": make_keys() for index in range(1, 11)}
ATOMIC = ["masked-update", "masked-evaluation", "model-hash", "release", "refusal"]
RECOVERY = ["survivor-confirmation", "unmasking"]


def first(n_sites: int) -> dict[str, SiteKeys]:
    return dict(list(KEYS.items())[:n_sites])


def recoverable(
    n_sites: int, maximum_dropouts: int, collusion_bound: int = 1, **overrides: Any
) -> StudyPlan:
    usual: dict[str, Any] = {
        "aggregation": {"mode": "recoverable", "maximum_dropouts": maximum_dropouts},
        "outputs": ATOMIC + RECOVERY,
        "collusion_bound": collusion_bound,
        "cohort_minimum": max(3, collusion_bound + 2),
    }
    return plan_with(first(n_sites), **{**usual, **overrides})


# --- the terms ------------------------------------------------------------------------------


def test_the_default_is_atomic() -> None:
    assert AggregationTerms() == AggregationTerms(
        mode="atomic", maximum_dropouts=0, pair_root="x25519"
    )
    assert plan_values(first(4)).get("aggregation") is None
    assert not plan_with(first(4)).is_recoverable


@pytest.mark.parametrize(
    "terms",
    [
        {"mode": "atomic", "maximum_dropouts": 1},
        {"mode": "recoverable", "maximum_dropouts": 0},
        {"mode": "recoverable"},
        {"mode": "recoverable", "maximum_dropouts": -1},
        {"mode": "recoverable", "maximum_dropouts": limits.MAX_SITES + 1},
        {"mode": "best effort"},
        {"pair_root": "ml-kem-768"},
        {"maximum_drop_outs": 0},
    ],
)
def test_terms_that_contradict_themselves_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(AggregationTerms, terms)


# --- the threshold --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_sites", "collusion_bound", "tau"),
    [
        *[(3, 1, 3), (4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 1, 5)],
        *[(4, 2, 4), (5, 2, 4), (6, 2, 5), (7, 2, 5)],
        *[(10, 2, 7), (50, 5, 28), (200, 20, 111)],
    ],
)
def test_tau_is_the_least_number_above_half_of_sites_and_colluders(
    n_sites: int, collusion_bound: int, tau: int
) -> None:
    """SECAGG-1: tau is floor((n + t) / 2) + 1."""
    assert survivor_threshold(n_sites, collusion_bound) == tau
    assert 2 * tau > n_sites + collusion_bound >= 2 * (tau - 1)


@given(st.integers(3, limits.MAX_SITES), st.integers(1, limits.MAX_SITES))
def test_two_lists_with_tau_signatures_share_an_honest_site(n_sites: int, bound: int) -> None:
    """SECAGG-1: the arithmetic of Lemma 1."""
    assert 2 * survivor_threshold(n_sites, bound) - n_sites > bound


# --- what a plan may promise ----------------------------------------------------------------

MOST = {  # (sites, t): most drop-outs; 0 means that recoverable mode has nothing to offer
    (3, 1): 0,
    (4, 1): 1,
    (5, 1): 1,
    (6, 1): 2,
    (7, 1): 2,
    (4, 2): 0,
    (5, 2): 1,
    (6, 2): 1,
    (7, 2): 2,
}


@pytest.mark.parametrize(("n_sites", "collusion_bound"), MOST)
def test_a_plan_promises_no_more_drop_outs_than_the_threshold_leaves(
    n_sites: int, collusion_bound: int
) -> None:
    most = MOST[n_sites, collusion_bound]
    for allowed in range(1, most + 1):
        plan = recoverable(n_sites, allowed, collusion_bound)
        assert plan.is_recoverable
        assert plan.fewest_summed == max(plan.cohort_minimum, plan.survivor_threshold)
        assert plan.dropouts_allowed(n_sites) == allowed
    with pytest.raises(ConfigError, match="maximum_dropouts leaves fewer"):
        recoverable(n_sites, most + 1, collusion_bound)


def test_a_larger_cohort_minimum_allows_fewer_drop_outs() -> None:
    assert recoverable(7, 1, cohort_minimum=6).fewest_summed == 6
    with pytest.raises(ConfigError, match="maximum_dropouts leaves fewer"):
        recoverable(7, 2, cohort_minimum=6)


@pytest.mark.parametrize(("size", "allowed"), [(3, 0), (4, 0), (5, 0), (6, 1), (7, 2)])
def test_a_smaller_cohort_may_lose_fewer(size: int, allowed: int) -> None:
    """SECAGG-1: D(U), so that never fewer than *fewest summed* are left."""
    plan = recoverable(7, 2)
    assert plan.fewest_summed == 5
    assert plan.dropouts_allowed(size) == allowed


@pytest.mark.parametrize("size", [3, 4, 7])
def test_an_atomic_cohort_may_lose_nobody(size: int) -> None:
    plan = plan_with(first(7))
    assert plan.dropouts_allowed(size) == 0
    assert plan.fewest_summed == plan.cohort_minimum == 3
    assert plan.noise_sharers(size) == size - 1


@pytest.mark.parametrize("missing", RECOVERY)
def test_a_recoverable_plan_names_what_leaves_for_it(missing: str) -> None:
    outputs = [name for name in ATOMIC + RECOVERY if name != missing]
    with pytest.raises(ConfigError, match="outputs exactly in recoverable mode"):
        recoverable(5, 1, outputs=outputs)


@pytest.mark.parametrize("extra", [RECOVERY[:1], RECOVERY[1:], RECOVERY])
def test_an_atomic_plan_names_none_of_it(extra: list[str]) -> None:
    with pytest.raises(ConfigError, match="outputs exactly in recoverable mode"):
        plan_with(first(5), outputs=ATOMIC + extra)


def test_the_mode_is_part_of_what_is_approved() -> None:
    assert recoverable(7, 1).digest() != recoverable(7, 2).digest()


# --- noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("collusion_bound", [1, 2])
@pytest.mark.parametrize("n_sites", range(4, 11))
def test_enough_noise_is_left_whoever_is_lost_and_whoever_colludes(
    n_sites: int, collusion_bound: int
) -> None:
    """PRIVACY-3: honest survivors' shares add up to sigma^2 C^2 at least, exactly at the worst."""
    most = n_sites - max(collusion_bound + 2, survivor_threshold(n_sites, collusion_bound))
    for allowed in range(1, most + 1):
        plan = recoverable(n_sites, allowed, collusion_bound)
        for size in range(plan.fewest_summed, n_sites + 1):
            honest = [
                (size - lost - collusion_bound) / plan.noise_sharers(size)
                for lost in range(plan.dropouts_allowed(size) + 1)
            ]
            assert min(honest) == honest[-1] == 1.0


@settings(max_examples=100)
@given(
    clip=st.integers(2**12, 2**22),
    patients=st.integers(500, 50_000),
    sigma=st.floats(0.5, 40),
    dropouts=st.integers(1, 2),
)
def test_an_accepted_recoverable_plan_cannot_wrap(
    clip: int, patients: int, sigma: float, dropouts: int
) -> None:
    """All of a cohort's noise counts: nobody has to be lost."""
    training = {"integer_clip": clip, "maximum_patients": patients}
    try:
        plan = recoverable(7, dropouts, training=training, privacy={"noise_multiplier": sigma})
    except ConfigError:
        return
    for size in range(plan.fewest_summed, 8):
        share = sigma * clip / math.sqrt(plan.noise_sharers(size))
        assert limits.MIN_NOISE_SHARE <= share <= limits.MAX_NOISE_SHARE
        assert patients * clip + 12 * share * math.sqrt(size) < 2**31


def test_recovery_costs_headroom() -> None:
    two, one = recoverable(7, 2), recoverable(7, 1)
    assert two.headroom(two.sum_terms(0)) < one.headroom(one.sum_terms(0))
    noise = 13 * math.sqrt(7 / 4)  # seven shares, of which four must suffice
    assert two.headroom(two.sum_terms(0)) == pytest.approx(2**31 - (2000 + 12 * noise) * 2**18)
