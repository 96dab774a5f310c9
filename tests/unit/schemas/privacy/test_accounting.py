"""PRIVACY-5, -6, -7: epsilon is what two other ways of computing it say, and never less."""

from __future__ import annotations

import math
import warnings

import pytest

from schemas.errors import ConfigError, ErrorCode
from schemas.privacy.accounting import Mechanism, calibrate_noise, epsilon, total_epsilon

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


@pytest.mark.parametrize(("multiplier", "rate", "steps"), SUBSAMPLED)
def test_opacus_prv_agrees(multiplier: float, rate: float, steps: int) -> None:
    """PRIVACY-5: within 0.02 of another accountant."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(multiplier, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second = accountant.get_epsilon(delta=DELTA)
    first = epsilon(noise_multiplier=multiplier, sampling_rate=rate, steps=steps, delta=DELTA)
    assert abs(first - second) < 0.02


@pytest.mark.parametrize(
    ("multiplier", "rate", "steps", "known"),
    [(1.0, 0.01, 1000, 1.828), (1.5, 0.1, 100, 3.54), (1.0, 0.05, 30, 2.24)],
)
def test_known_values(multiplier: float, rate: float, steps: int, known: float) -> None:
    got = epsilon(noise_multiplier=multiplier, sampling_rate=rate, steps=steps, delta=DELTA)
    assert got == pytest.approx(known, abs=0.006)


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


# --- calibration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "rate", "steps"), [(1.0, 1.0, 12), (2.0, 0.1, 65), (0.5, 1.0, 20), (8.0, 0.02, 60)]
)
def test_calibrated_noise_is_enough_and_hardly_more(target: float, rate: float, steps: int) -> None:
    """PRIVACY-7: the smallest multiple of the step that is enough."""
    multiplier = calibrate_noise(epsilon=target, delta=DELTA, sampling_rate=rate, steps=steps)
    how = {"sampling_rate": rate, "steps": steps, "delta": DELTA}
    assert epsilon(noise_multiplier=multiplier, **how) <= target
    assert epsilon(noise_multiplier=multiplier - 0.005, **how) > target
    assert multiplier == round(multiplier, 4)


def test_what_no_noise_can_reach_is_said() -> None:
    with pytest.raises(ConfigError) as refused:
        calibrate_noise(epsilon=1e-6, delta=1e-9, sampling_rate=1.0, steps=10_000)
    assert refused.value.code is ErrorCode.ACCOUNTING_UNREACHABLE


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


@pytest.mark.parametrize("bad", [{"epsilon": 0.0}, {"epsilon": math.inf}, {"steps": 0}])
def test_a_target_that_is_none_is_refused(bad: dict[str, float]) -> None:
    usual = {"epsilon": 1.0, "delta": DELTA, "sampling_rate": 1.0, "steps": 5}
    with pytest.raises(ConfigError):
        calibrate_noise(**(usual | bad))  # type: ignore[arg-type]


def test_the_accountant_is_not_loaded_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import schemas.privacy, sys; sys.exit('dp_accounting' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
