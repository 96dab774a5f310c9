"""How much noise keeps a study within the privacy it promises?

The answer is the smallest multiple of 0.0001 whose epsilon, as the accountant of record gives it
over every attempt the plan may open, is within the promise (PRIVACY-7). Its neighbour below is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.errors import ConfigError, ErrorCode
from schemas.governance.training import TrainingTerms
from schemas.privacy.accounting import (
    DECIMALS,
    LEAST_NOISE,
    MOST_NOISE,
    exact_epsilon,
    total_epsilon,
)
from schemas.privacy.events import Mechanism

_UNIT: Final = 10**DECIMALS  # of noise and of epsilon alike


@dataclass(frozen=True, slots=True)
class PreparationTarget:
    """What a plan's preparation may cost alone, and how many attempts it may open."""

    epsilon: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The noise multipliers of a plan, and what they cost a patient of two hospitals.

    Attributes:
        noise_multiplier: of training.
        preparation_noise_multiplier: of the preparation; None without one.
        epsilon: of everything together, at most what was asked.
        epsilon_two_hospitals: the same for a patient of two hospitals, at least ``epsilon``.
    """

    noise_multiplier: float
    preparation_noise_multiplier: float | None
    epsilon: float
    epsilon_two_hospitals: float


def calibrate(
    training: TrainingTerms,
    *,
    epsilon: float,
    delta: float,
    hospitals_per_patient: int = 1,
    preparation: PreparationTarget | None = None,
) -> Calibration:
    """Find a plan's noise: the preparation to its own target first, then training to the whole.

    Args:
        training: algorithm, sampling and attempts.
        epsilon: of everything together, positive.
        delta: in (0, 1).
        hospitals_per_patient: hospitals that may hold the same patient; the promise covers them.
        preparation: what it may cost alone; None without one.

    Raises:
        ConfigError: ACCOUNTING_UNREACHABLE, no noise a plan may name suffices or nothing is left
            for training; ACCOUNTING_UNSUPPORTED, an argument is outside its range.
    """
    beside: list[Mechanism] = []
    first: float | None = None
    if preparation is not None:
        if preparation.epsilon >= epsilon:
            raise ConfigError(
                ErrorCode.ACCOUNTING_UNREACHABLE,
                "The preparation may cost all of the study's epsilon: nothing is left to train.",
                hint="Lower epsilon in [preparation], or raise it in [privacy].",
            )
        first = calibrate_noise(
            epsilon=preparation.epsilon,
            delta=delta,
            sampling_rate=1.0,
            steps=preparation.attempts,
            hospitals_per_patient=hospitals_per_patient,
        )
        beside.append(Mechanism(first, 1.0, preparation.attempts))
    releases = training.attempts * training.local_steps
    sigma = calibrate_noise(
        epsilon=epsilon,
        delta=delta,
        sampling_rate=training.sampling_rate,
        steps=releases,
        is_local=training.is_local,
        hospitals_per_patient=hospitals_per_patient,
        beside=beside,
    )
    whole = [*beside, Mechanism(sigma, training.sampling_rate, releases, training.is_local)]
    cost = total_epsilon(whole, delta=delta, hospitals_per_patient=hospitals_per_patient)
    two = total_epsilon(whole, delta=delta, hospitals_per_patient=2)
    return Calibration(sigma, first, cost, max(two, epsilon))


def calibrate_noise(
    *,
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    is_local: bool = False,
    hospitals_per_patient: int = 1,
    beside: Sequence[Mechanism] = (),
) -> float:
    """Return the smallest noise multiplier, to four decimals, that keeps within ``epsilon``.

    Args:
        epsilon: what everything may cost, positive.
        delta: in (0, 1).
        sampling_rate: in (0, 1].
        steps: releases that may be made, retries included, at least 1.
        is_local: whether every hospital's own release carries the whole noise.
        hospitals_per_patient: hospitals that may hold the same patient.
        beside: other releases on the same patients whose noise is fixed already.

    Raises:
        ConfigError: an argument is outside its range, or no noise level a plan may name suffices.
    """
    if not (math.isfinite(epsilon) and epsilon > 0) or steps < 1:
        raise ConfigError(
            ErrorCode.ACCOUNTING_UNSUPPORTED,
            "The mechanism cannot be accounted.",
            hint="Epsilon is positive, and there is at least one step.",
        )

    def costs(units: int) -> float:
        mine = Mechanism(units / _UNIT, sampling_rate, steps, is_local)
        return exact_epsilon(
            [*beside, mine], delta=delta, hospitals_per_patient=hospitals_per_patient
        )

    met = Mechanism(1.0, sampling_rate, steps, is_local)
    return _smallest(costs, epsilon, _guess(epsilon, delta, met, beside, hospitals_per_patient))


def _smallest(costs: Callable[[int], float], target: float, guess: int) -> float:
    """Find the least noise, in units of 0.0001, whose cost rounded up is within the target.

    Cost falls almost as a power of the noise, so a line through two known points in logarithms
    lands within a few units; now and then the bracket is halved, whatever the line says.
    """
    allowed = math.floor(target * _UNIT + 1e-6)  # a cost is rounded up to this grid
    low, high = round(LEAST_NOISE * _UNIT) - 1, round(MOST_NOISE * _UNIT) + 1  # too little, enough
    known: list[tuple[float, float]] = []
    looks = 0
    while high - low > 1:
        halves = not known or (looks > 4 and looks % 4 == 0)
        nearby = round(math.sqrt(low * high)) if halves else _crossing(known)
        units = min(max(nearby if looks else guess, low + 1), high - 1)
        cost = costs(units)
        looks += 1
        if math.isfinite(cost) and math.ceil(cost * _UNIT) <= allowed:
            high = units
        else:
            low = units
        if math.isfinite(cost) and cost > 0:
            relative = cost * _UNIT / max(allowed, 1)
            known = [*known[-1:], (math.log(units), math.log(relative))]
    if high > MOST_NOISE * _UNIT:
        raise ConfigError(
            ErrorCode.ACCOUNTING_UNREACHABLE,
            "No noise level reaches the privacy asked for.",
            hint="Ask for a larger epsilon, fewer steps or a larger delta.",
        )
    return high / _UNIT


def _crossing(known: Sequence[tuple[float, float]]) -> int:
    """Give the noise at which a power law through the last points meets the target."""
    (x, y), slope = known[-1], -1.0
    if len(known) > 1 and known[0][0] != x:
        measured = (y - known[0][1]) / (x - known[0][0])
        slope = measured if measured < -0.05 else slope
    return math.ceil(math.exp(min(x - y / slope, 50.0)))


def _guess(
    epsilon: float, delta: float, met: Mechanism, beside: Sequence[Mechanism], hospitals: int
) -> int:
    """Guess the noise by the central limit of Gaussian privacy (Dong, Roth, Su 2019, section 5)."""
    mu_squared = _gaussian_mu(epsilon, delta) ** 2
    for each in beside:
        mu_squared -= each.count * _clips(each, hospitals) / each.noise_multiplier**2
    exposure = met.count * _clips(met, hospitals) * met.sampling_rate**2
    ratio = max(mu_squared, 1e-12) / max(exposure, 1e-30)
    sigma = 1 / math.sqrt(ratio if met.sampling_rate == 1.0 else math.log1p(ratio))
    return round(min(max(sigma, LEAST_NOISE), MOST_NOISE) * _UNIT)


def _clips(mechanism: Mechanism, hospitals: int) -> int:
    return hospitals if mechanism.is_local else hospitals**2


def _gaussian_mu(epsilon: float, delta: float) -> float:
    """Give the mu whose Gaussian mechanism has this epsilon at delta (Balle, Wang 2018, thm 8)."""
    low, high = 0.0, 100.0
    for _ in range(60):
        mu = (low + high) / 2
        reached = _upper_tail(epsilon / mu - mu / 2)
        taken = _upper_tail(epsilon / mu + mu / 2)
        if reached - (math.exp(epsilon) * taken if taken > 0 else 0.0) > delta:
            high = mu
        else:
            low = mu
    return (low + high) / 2


def _upper_tail(x: float) -> float:
    return 0.5 * math.erfc(x / math.sqrt(2))
