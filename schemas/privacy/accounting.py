"""How much privacy does a study cost?

The accountant of record is dp-accounting's privacy loss distribution (Koskela, Jälkö, Honkela 2020,
arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380), pessimistic, for add-or-remove-one
patient. Its answer is rounded up to four decimals; a second accountant agrees in the tests.

    sampling      one patient at h hospitals has sensitivity     accounted as
    full batch    h                                              one Gaussian of sigma/(h·√T)
    Poisson(q)    h = 1: 1 with chance q                         T subsampled Gaussians
                  h = 2: 0, 1 or 2, each its own coin            T mixtures (arXiv 2310.15526)
                  h > 2: at most h with chance 1 - (1-q)^h       T subsampled, an upper bound
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from schemas.errors import ConfigError, ErrorCode
from schemas.privacy.events import Mechanism

if TYPE_CHECKING:
    from dp_accounting import DpEvent

_GRID: Final = 1e-3  # of the privacy loss; a finer one gains less than 1e-3 of epsilon
_DECIMALS: Final = 4
_MOST_NOISE: Final = 10_000.0  # multiplier: the largest a plan may name
_BEYOND: Final = 200.0  # epsilon that protects nobody: called infinite, not computed for minutes
_ORDERS: Final = (2, 3, 4, 6, 8, 16, 32, 64)  # for that question only; whole orders are quick
_LEAST_NOISE: Final = 0.2  # below it a single release exceeds any epsilon a plan may name


def epsilon(
    *,
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    delta: float,
    hospitals_per_patient: int = 1,
) -> float:
    """Return epsilon of one study, rounded up to four decimals.

    Args:
        noise_multiplier: sigma, in units of one patient's clip.
        sampling_rate: in (0, 1]; 1 is the full batch.
        steps: attempts that may be opened, retries included.
        delta: in (0, 1).
        hospitals_per_patient: hospitals that may hold the same patient.

    Returns:
        Epsilon; infinity if it is beyond all use (a bound by Rényi orders exceeds 200).

    Raises:
        ConfigError: an argument is outside its range.
    """
    return total_epsilon(
        [Mechanism(noise_multiplier, sampling_rate, steps)],
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
        ConfigError: an argument is outside its range.
    """
    counts: dict[tuple[float, float], int] = {}
    for each in mechanisms:
        in_range = _LEAST_NOISE <= each.noise_multiplier <= _MOST_NOISE
        if not in_range or not 0.0 < each.sampling_rate <= 1.0 or each.count < 0:
            raise _unsupported()
        key = (each.noise_multiplier, each.sampling_rate)
        counts[key] = counts.get(key, 0) + each.count
    if not 0.0 < delta < 1.0 or not 1 <= hospitals_per_patient <= 200:
        raise _unsupported()
    releases = tuple(sorted((*key, count) for key, count in counts.items() if count))
    return _composed(releases, delta, hospitals_per_patient) if releases else 0.0


def calibrate_noise(*, epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier, to four decimals, that keeps within ``epsilon``.

    Args:
        epsilon: what the study may cost, positive.
        delta: in (0, 1).
        sampling_rate: in (0, 1].
        steps: attempts that may be opened, retries included, at least 1.

    Raises:
        ConfigError: an argument is outside its range, or no noise level a plan may name suffices.
    """
    if not (math.isfinite(epsilon) and epsilon > 0) or steps < 1:
        raise _unsupported()

    def costs(multiplier: float) -> float:
        return total_epsilon([Mechanism(multiplier, sampling_rate, steps)], delta=delta)

    too_little, enough = _LEAST_NOISE, 2 * _LEAST_NOISE
    while costs(enough) > epsilon:
        too_little, enough = enough, 2 * enough
        if enough > _MOST_NOISE:
            raise ConfigError(
                ErrorCode.ACCOUNTING_UNREACHABLE,
                "No noise level reaches the privacy asked for.",
                hint="Ask for a larger epsilon, fewer steps or a larger delta.",
            )
    # Bisection over whole steps of 1e-4: the answer is a number a plan can state exactly.
    unit = 10**_DECIMALS
    low, high = round(too_little * unit), round(enough * unit)
    while high - low > 1:
        middle = (low + high) // 2
        if costs(middle / unit) <= epsilon:
            high = middle
        else:
            low = middle
    return high / unit


@lru_cache(maxsize=256)
def _composed(
    releases: tuple[tuple[float, float, int], ...], delta: float, hospitals: int
) -> float:
    from dp_accounting import dp_event, pld  # heavy: seconds, and most commands need none of it

    if _upper_bound(releases, delta, hospitals) > _BEYOND:
        return math.inf
    accountant = pld.PLDAccountant(value_discretization_interval=_GRID)
    # Full batches: the privacy of independent Gaussians is that of one, precisions added.
    precision = math.fsum(
        count * (hospitals / multiplier) ** 2 for multiplier, rate, count in releases if rate == 1.0
    )
    if precision:
        accountant.compose(dp_event.GaussianDpEvent(1.0 / math.sqrt(precision)))
    for multiplier, rate, count in releases:
        if rate < 1.0 and hospitals == 2:
            chances = [(1.0 - rate) ** 2, 2.0 * rate * (1.0 - rate), rate * rate]
            mixture = dp_event.MixtureOfGaussiansDpEvent(multiplier, [0.0, 1.0, 2.0], chances)
            accountant.compose(mixture, count)
        elif rate < 1.0:
            accountant.compose(_subsampled(multiplier, rate, hospitals), count)
    value = float(accountant.get_epsilon(delta))
    return math.ceil(value * 10**_DECIMALS) / 10**_DECIMALS if math.isfinite(value) else math.inf


def _upper_bound(
    releases: tuple[tuple[float, float, int], ...], delta: float, hospitals: int
) -> float:
    """Bound epsilon by Rényi orders: loose, but at once for any plan whatever.

    Two hospitals' mixtures are bounded as those of one; they cost a few times as much.
    """
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(orders=_ORDERS)
    for multiplier, rate, count in releases:
        each = 1 if rate < 1.0 and hospitals == 2 else hospitals
        accountant.compose(_subsampled(multiplier, rate, each), count)
    return float(accountant.get_epsilon(delta))


def _subsampled(multiplier: float, rate: float, hospitals: int) -> DpEvent:
    """Return the event of one release to a patient who is sampled anywhere, with all of h clips."""
    from dp_accounting import dp_event

    anywhere = 1.0 - (1.0 - rate) ** hospitals
    return dp_event.PoissonSampledDpEvent(
        anywhere, dp_event.GaussianDpEvent(multiplier / hospitals)
    )


def _unsupported() -> ConfigError:
    return ConfigError(
        ErrorCode.ACCOUNTING_UNSUPPORTED,
        "The mechanism cannot be accounted.",
        hint="Noise multiplier, sampling rate, steps and delta must lie in the plan's ranges.",
    )
