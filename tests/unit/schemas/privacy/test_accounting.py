"""PRIVACY-5, PRIVACY-6: epsilon composes, grows with every risk, and is never less than the truth.

Other accountants: `test_accountants.py`.
"""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from schemas.errors import ConfigError, ErrorCode
from schemas.privacy.accounting import epsilon, plan_epsilon, total_epsilon
from schemas.privacy.events import Mechanism, MechanismEvent, plan_events
from tests.support.factories import make_plan

DELTA = 1e-5
# noise multiplier, sampling rate, steps: measured with the Opacus PRV accountant beside them
SUBSAMPLED = [(1.0, 0.01, 1000), (1.5, 0.1, 100), (3.0, 0.1, 100), (1.0, 0.05, 30)]
FULL = [(13.0, 12), (4.0, 1), (30.0, 60), (1.0, 2)]


def analytic_delta(eps: float, mu: float) -> float:
    """The Gaussian mechanism's exact delta (Balle, Wang 2018, arXiv 1805.06530, theorem 8)."""

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return phi(mu / 2 - eps / mu) - math.exp(eps) * phi(-mu / 2 - eps / mu)


@pytest.mark.parametrize(("multiplier", "steps"), FULL)
@pytest.mark.parametrize("hospitals", [1, 2])
def test_full_batch_is_the_analytic_gaussian(multiplier: float, steps: int, hospitals: int) -> None:
    """PRIVACY-5: full batches compose to one Gaussian."""
    got = epsilon(
        noise_multiplier=multiplier,
        sampling_rate=1.0,
        steps=steps,
        delta=DELTA,
        hospitals_per_patient=hospitals,
    )
    mu = hospitals * math.sqrt(steps) / multiplier
    assert analytic_delta(got, mu) <= DELTA  # never less than the truth
    assert analytic_delta(got - 0.003, mu) > DELTA  # and not much more


def cost(**changes: float) -> float:
    usual = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "steps": 20, "delta": DELTA}
    return epsilon(**(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "dearer",
    [
        {"noise_multiplier": 1.9},
        {"sampling_rate": 0.12},
        {"steps": 25},
        {"delta": 1e-6},
        {"hospitals_per_patient": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_less_protection_costs_more(dearer: dict[str, float]) -> None:
    assert cost(**dearer) > cost()


def test_sampling_amplifies_and_the_full_batch_does_not() -> None:
    assert cost(sampling_rate=0.1) < cost(sampling_rate=0.9) < cost(sampling_rate=1.0)


@pytest.mark.parametrize(("multiplier", "rate", "steps"), SUBSAMPLED[1:3])
def test_two_hospitals_cost_more_than_one_and_no_more_than_twice_the_clip(
    multiplier: float, rate: float, steps: int
) -> None:
    """PRIVACY-6: h = 2."""
    how = {"sampling_rate": rate, "steps": steps, "delta": DELTA}
    one = epsilon(noise_multiplier=multiplier, **how)
    two = epsilon(noise_multiplier=multiplier, hospitals_per_patient=2, **how)
    doubled_clip = epsilon(noise_multiplier=multiplier / 2, **how)
    assert one < two <= doubled_clip


def test_three_hospitals_are_bounded_from_above() -> None:
    """PRIVACY-6, h > 2: the exact mixture is slow; the bound in its place is never below it."""
    from dp_accounting import dp_event, pld

    rate = 0.1
    chances = [math.comb(3, k) * rate**k * (1 - rate) ** (3 - k) for k in range(4)]
    exact = pld.PLDAccountant(value_discretization_interval=5e-3)
    exact.compose(dp_event.MixtureOfGaussiansDpEvent(4.0, [0.0, 1.0, 2.0, 3.0], chances), 10)
    bound = cost(noise_multiplier=4.0, steps=10, hospitals_per_patient=3)
    assert exact.get_epsilon(DELTA) <= bound
    assert cost(noise_multiplier=4.0, steps=10, hospitals_per_patient=2) < bound


def test_epsilon_is_rounded_up_to_four_decimals() -> None:
    """PRIVACY-5: never less than the accountant said."""
    got = cost()
    assert got == round(got, 4)
    from dp_accounting import dp_event, pld

    fine = pld.PLDAccountant(value_discretization_interval=1e-4)
    fine.compose(dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(2.0)), 20)
    assert 0 <= got - fine.get_epsilon(DELTA) < 0.001


# --- several studies ------------------------------------------------------------------------


def test_nothing_costs_nothing() -> None:
    assert total_epsilon([], delta=DELTA) == 0.0
    assert total_epsilon([Mechanism(3.0, 0.5, 0)], delta=DELTA) == 0.0


def test_composition_does_not_depend_on_order_or_on_how_it_is_cut() -> None:
    parts = [Mechanism(3.0, 0.2, 10), Mechanism(12.0, 1.0, 7), Mechanism(3.0, 0.2, 5)]
    whole = [Mechanism(12.0, 1.0, 7), Mechanism(3.0, 0.2, 15)]
    assert total_epsilon(parts, delta=DELTA) == total_epsilon(whole, delta=DELTA)


def test_two_studies_cost_more_than_one_and_no_more_than_their_sum() -> None:
    first, second = Mechanism(3.0, 0.2, 10), Mechanism(12.0, 1.0, 7)
    alone = [total_epsilon([m], delta=DELTA / 2) for m in (first, second)]
    both = total_epsilon([first, second], delta=DELTA)
    assert max(total_epsilon([m], delta=DELTA) for m in (first, second)) < both <= sum(alone)


def test_full_batches_of_different_noise_compose_as_one_gaussian() -> None:
    both = total_epsilon([Mechanism(3.0, 1.0, 1), Mechanism(4.0, 1.0, 1)], delta=DELTA)
    one = total_epsilon([Mechanism(1 / math.sqrt(1 / 9 + 1 / 16), 1.0, 1)], delta=DELTA)
    assert both == pytest.approx(one, abs=2e-4)


# --- what is not accounted ------------------------------------------------------------------


@pytest.mark.parametrize(
    "hopeless",
    [
        {"noise_multiplier": 0.2, "steps": 10_000, "sampling_rate": 1.0},
        {"noise_multiplier": 0.2, "steps": 10_000},
        {"noise_multiplier": 0.3, "steps": 10_000, "hospitals_per_patient": 3},
        {"noise_multiplier": 0.2, "steps": 1, "sampling_rate": 1.0, "hospitals_per_patient": 200},
    ],
)
def test_a_plan_without_privacy_is_infinite_at_once(hopeless: dict[str, float]) -> None:
    """A vendor's plan must not keep a hospital's node computing for minutes."""
    assert cost(**hopeless) == math.inf


@pytest.mark.parametrize(
    "bad",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": 0.01},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": math.inf},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.01},
        {"sampling_rate": math.nan},
        {"steps": -1},
        {"delta": 0.0},
        {"delta": 1.0},
        {"hospitals_per_patient": 0},
    ],
)
def test_what_cannot_be_accounted_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as refused:
        cost(**bad)
    assert refused.value.code is ErrorCode.ACCOUNTING_UNSUPPORTED


@pytest.mark.parametrize(
    "foreign",
    [("gaussian", 3.0, 1.0), {"noise_multiplier": 3.0}, None, object()],
    ids=["tuple", "dict", "none", "object"],
)
def test_a_mechanism_that_is_not_known_is_refused(foreign: object) -> None:
    """PRIVACY-12: never guessed, never skipped."""
    with pytest.raises(ConfigError) as refused:
        total_epsilon([Mechanism(3.0, 1.0, 1), foreign], delta=DELTA)  # type: ignore[list-item]
    assert refused.value.code is ErrorCode.ACCOUNTING_UNSUPPORTED


def test_an_event_of_another_name_is_no_document() -> None:
    """PRIVACY-12: the list of mechanisms is closed."""
    values = plan_events(make_plan()[0])[0].model_dump()
    with pytest.raises(ValidationError):
        MechanismEvent.model_validate(values | {"name": "histogram"})


# --- whole plans ----------------------------------------------------------------------------


def test_a_plan_costs_what_its_events_cost_together() -> None:
    """PRIVACY-12: every mechanism a plan runs is an event, each attempt counted."""
    plan, _ = make_plan(
        preparation={
            "epsilon": 0.5, "noise_multiplier": 25.0, "retry_cap": 2, "integer_clip": 2**14
        },
        training={"class_weights": "preparation"},
    )  # fmt: skip
    first, training = plan_events(plan)
    assert (first.name, first.attempts, first.sampling_rate) == ("preparation", 3, 1.0)
    assert (training.name, training.attempts) == ("training", 12)
    assert plan_epsilon(plan) == total_epsilon(
        [Mechanism(25.0, 1.0, 3), Mechanism(13.0, 1.0, 12)], delta=DELTA
    )
    assert plan_epsilon(plan, only=first) < plan_epsilon(plan, only=training) < plan_epsilon(plan)
    assert plan_epsilon(plan, hospitals=2) > plan_epsilon(plan)


def test_a_local_plan_counts_every_local_step() -> None:
    """PRIVACY-12: dp-fedavg releases as often as it steps."""
    plan, _ = make_plan(
        training={
            "algorithm": "dp-fedavg", "local_steps": 5, "local_learning_rate": 0.1,
            "local_divisor": 50, "update_clip": 1, "divisor": 4,
        }
    )  # fmt: skip
    (event,) = plan_events(plan)
    assert event.mechanism() == Mechanism(13.0, 1.0, 60, is_local=True)
    assert plan_epsilon(plan) == epsilon(
        noise_multiplier=13.0, sampling_rate=1.0, steps=60, delta=DELTA
    )


def test_the_accountant_is_not_loaded_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import schemas.privacy, sys; sys.exit('dp_accounting' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
