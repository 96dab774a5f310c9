"""How much privacy does a list of releases cost a patient?

The accountant of record is dp-accounting's privacy loss distribution (Koskela, Jälkö, Honkela 2020,
arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380), pessimistic, for add-or-remove-one
patient. Its answer is rounded up to four decimals; other accountants agree in the tests.

    noise    sampling      one patient at h hospitals          accounted as
    shared   full batch    adds up to h clips to one sum       Gaussians, precision (h/sigma)² each
    shared   Poisson(q)    h = 1: 1 with chance q              subsampled Gaussians
                           h = 2: 0, 1 or 2, each its own coin mixtures (arXiv 2310.15526)
                           h > 2: h with chance 1 - (1-q)^h    subsampled, an upper bound
    local    full batch    is in h sums, each wholly noised    Gaussians, precision h/sigma² each
    local    Poisson(q)    is in h sums, each wholly noised    h times as many subsampled Gaussians

A list is composed in any order; full batches of any noise are one Gaussian, precisions added.
What is not a `Mechanism` in the ranges of a plan is refused, never guessed (PRIVACY-12).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from schemas.errors import ConfigError, ErrorCode
from schemas.privacy.events import Mechanism, MechanismEvent, plan_events

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dp_accounting.pld import PLDAccountant

    from schemas.governance.study import StudyPlan

ACCOUNTANT: Final = "dp-accounting 0.6.0, privacy loss distribution"
"""Name and version of the accountant of record, as a statement of privacy gives them."""

DECIMALS: Final = 4
LEAST_NOISE: Final = 0.2  # below it a single full release exceeds any epsilon a plan may name
MOST_NOISE: Final = 10_000.0  # multiplier: the largest a plan may name
GRID: Final = 1e-3  # of the privacy loss; a finer one gains less than 1e-3 of epsilon
_BEYOND: Final = 200.0  # epsilon that protects nobody: called infinite, not computed for minutes
_ORDERS: Final = (2, 3, 4, 6, 8, 16, 32, 64)  # for that question only; whole orders are quick


@dataclass(frozen=True, slots=True, order=True)
class _Release:
    """Equal releases as one patient of the pool meets them: noise, rate, clips at most, count."""

    multiplier: float
    rate: float
    clips: int
    count: int


def epsilon(
    *,
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    hospitals_per_patient: int = 1,
    is_local: bool = False,
) -> float:
    """Return epsilon of one mechanism, rounded up to four decimals.

    Args:
        noise_multiplier: sigma, in units of one patient's clip.
        sampling_rate: in (0, 1]; 1 is the full batch.
        steps: releases that may be made, retries included.
        delta: in (0, 1).
        hospitals_per_patient: hospitals that may hold the same patient.
        is_local: whether every hospital's own release carries the whole noise.

    Returns:
        Epsilon; infinity if it is beyond all use (a bound by Rényi orders exceeds 200).

    Raises:
        ConfigError: an argument is outside its range.
    """
    return total_epsilon(
        [Mechanism(noise_multiplier, sampling_rate, steps, is_local)],
        delta=delta,
        hospitals_per_patient=hospitals_per_patient,
    )


def total_epsilon(
    mechanisms: Iterable[Mechanism], *, delta: float, hospitals_per_patient: int = 1
) -> float:
    """Return epsilon of everything listed, composed, rounded up to four decimals; 0 for nothing.

    Args:
        mechanisms: all releases on one pool of patients, of any number of studies.
        delta: in (0, 1).
        hospitals_per_patient: hospitals that may hold the same patient.

    Raises:
        ConfigError: ACCOUNTING_UNSUPPORTED, something listed is not known here or out of range.
    """
    value = exact_epsilon(mechanisms, delta=delta, hospitals_per_patient=hospitals_per_patient)
    return math.ceil(value * 10**DECIMALS) / 10**DECIMALS if math.isfinite(value) else math.inf


def exact_epsilon(
    mechanisms: Iterable[Mechanism], *, delta: float, hospitals_per_patient: int = 1
) -> float:
    """Return what `total_epsilon` rounds up."""
    if not 0.0 < delta < 1.0 or not 1 <= hospitals_per_patient <= 200:
        raise _unsupported()
    counts: dict[tuple[float, float, int], int] = {}
    for each in mechanisms:
        key, count = _as_met(each, hospitals_per_patient)
        counts[key] = counts.get(key, 0) + count
    releases = tuple(sorted(_Release(*key, count) for key, count in counts.items() if count))
    return _composed(releases, delta) if releases else 0.0


def plan_epsilon(
    plan: StudyPlan, *, hospitals: int | None = None, only: MechanismEvent | None = None
) -> float:
    """Return epsilon of a plan's every mechanism over all attempts it may open.

    Args:
        plan: noise, attempts and delta are taken from it.
        hospitals: of one patient; by default as many as the plan says.
        only: one mechanism of the plan, alone.
    """
    held = plan.privacy.hospitals_per_patient if hospitals is None else hospitals
    events = plan_events(plan) if only is None else (only,)
    return total_epsilon(
        [event.mechanism() for event in events],
        delta=plan.privacy.delta,
        hospitals_per_patient=held,
    )


def _as_met(mechanism: Mechanism, hospitals: int) -> tuple[tuple[float, float, int], int]:
    """Say what a patient of so many hospitals meets: (noise, rate, clips in a sum), and how often.

    Raises:
        ConfigError: not a mechanism that is known here, or outside a plan's ranges.
    """
    if not isinstance(mechanism, Mechanism):
        raise _unsupported()
    multiplier, rate, count = (
        mechanism.noise_multiplier,
        mechanism.sampling_rate,
        mechanism.count,
    )
    if not LEAST_NOISE <= multiplier <= MOST_NOISE or not 0.0 < rate <= 1.0 or count < 0:
        raise _unsupported()
    if mechanism.is_local:
        return (multiplier, rate, 1), hospitals * count
    return (multiplier, rate, hospitals), count


def loss_accountant(mechanism: Mechanism, *, hospitals_per_patient: int) -> PLDAccountant | None:
    """Return the accountant that holds one mechanism; None if it is beyond all use at 1e-5.

    For who needs delta at many epsilons, not one epsilon at one delta.
    """
    key, count = _as_met(mechanism, hospitals_per_patient)
    releases = (_Release(*key, count),)
    return None if _upper_bound(releases, 1e-5) > _BEYOND else _accountant(releases)


@lru_cache(maxsize=1024)
def _composed(releases: tuple[_Release, ...], delta: float) -> float:
    if _upper_bound(releases, delta) > _BEYOND:
        return math.inf
    return float(_accountant(releases).get_epsilon(delta))


def _accountant(releases: tuple[_Release, ...]) -> PLDAccountant:
    from dp_accounting import dp_event, pld  # heavy: seconds, and most commands need none of it

    accountant = pld.PLDAccountant(value_discretization_interval=GRID)
    # Full batches: the privacy of independent Gaussians is that of one, precisions added.
    precision = math.fsum(
        each.count * (each.clips / each.multiplier) ** 2 for each in releases if each.rate == 1.0
    )
    if precision:
        accountant.compose(dp_event.GaussianDpEvent(1.0 / math.sqrt(precision)))
    for each in releases:
        if each.rate < 1.0 and each.clips == 2:
            rest = 1.0 - each.rate
            chances = [rest * rest, 2.0 * each.rate * rest, each.rate * each.rate]
            mixture = dp_event.MixtureOfGaussiansDpEvent(each.multiplier, [0.0, 1.0, 2.0], chances)
            accountant.compose(mixture, each.count)
        elif each.rate < 1.0:
            accountant.compose(_subsampled(each, each.clips), each.count)
    return accountant


def _upper_bound(releases: tuple[_Release, ...], delta: float) -> float:
    """Bound epsilon by Rényi orders: loose, but at once for any plan whatever.

    Two hospitals' mixtures are bounded as those of one; they cost a few times as much.
    """
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(orders=_ORDERS)
    for each in releases:
        clips = 1 if each.rate < 1.0 and each.clips == 2 else each.clips
        accountant.compose(_subsampled(each, clips), each.count)
    return float(accountant.get_epsilon(delta))


def _subsampled(each: _Release, clips: int) -> DpEvent:
    """Return the event of one release to a patient who is sampled anywhere, with all the clips."""
    from dp_accounting import dp_event

    anywhere = 1.0 - (1.0 - each.rate) ** clips
    return dp_event.PoissonSampledDpEvent(
        anywhere, dp_event.GaussianDpEvent(each.multiplier / clips)
    )


def _unsupported() -> ConfigError:
    return ConfigError(
        ErrorCode.ACCOUNTING_UNSUPPORTED,
        "The mechanism cannot be accounted.",
        hint="Noise multiplier, sampling rate, steps and delta must lie in the plan's ranges.",
    )
