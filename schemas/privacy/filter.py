"""May one more plan be added to what these patients have spent, whatever that has shown so far?

Which study comes next may depend on what earlier ones released, and how many come is open. A sum of
epsilons fixed in advance says nothing then; a filter does: a rule, fixed in advance, that admits or
refuses each next plan by its cost alone (PRIVACY-10). Ours is the filter of Gaussian DP, with
mechanisms as its events:

1.  Every mechanism is turned once into a pair (mu, slack) such that it is a post-processing of one
    that with chance ``slack`` tells everything and else is one Gaussian of sensitivity mu. A full
    batch is so exactly, with slack 0. A subsampled one is, by Blackwell's theorem, if in both
    directions and for every epsilon

        delta_PLD(epsilon) <= slack + (1 - slack) * delta_Gauss(mu, epsilon).

2.  Plans are admitted while the sum of mu² is at most mu*² and the slacks sum to at most delta/10,
    where delta_Gauss(mu*, epsilon) = 9/10 * delta; epsilon and delta are the hospital's own caps.

Then all that is ever released is (epsilon, delta)-DP, however later plans were chosen: by fully
adaptive composition of Gaussian DP (Smith, Thakurta 2022, arXiv 2210.17520; Koskela, Tobaben,
Honkela 2022, arXiv 2209.15596) and a union bound over the slacks. What it costs:
`schemas/spec/PRIVACY.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from schemas.errors import ConfigError, ErrorCode
from schemas.privacy.accounting import GRID, LEAST_NOISE, MOST_NOISE, loss_accountant
from schemas.privacy.events import Mechanism

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SLACK_SHARE: Final = 0.1
"""Share of delta that all slacks together may use; the Gaussian part keeps the rest."""

PLANS_WITH_SLACK: Final = 100
"""Subsampled mechanisms that are converted, each with the same slack; later ones are not."""

_MARGIN: Final = 1e-9  # relative: more than float64 loses anywhere below
_STEP: Final = 1e-6  # relative: how closely the smallest mu is looked for
_LEAST_MU: Final = 1e-6  # below a hundredth of the least full batch; smaller ones cost so much


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan takes from the filter.

    Attributes:
        precision: mu squared: of Gaussians, precisions add.
        slack: chance with which everything may be told.
    """

    precision: float = 0.0
    slack: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Give the cost of both."""
        return Cost(self.precision + other.precision, self.slack + other.slack)


@dataclass(frozen=True, slots=True)
class PrivacyFilter:
    """The rule of one hospital, fixed by its own caps.

    Attributes:
        epsilon: for all plans on these patients together.
        delta: likewise.
    """

    epsilon: float
    delta: float

    @property
    def slack(self) -> float:
        """Slack of each subsampled mechanism."""
        return self.delta * SLACK_SHARE / PLANS_WITH_SLACK

    @property
    def total_slack(self) -> float:
        """Slack of all of them."""
        return self.delta * SLACK_SHARE

    @property
    def precision(self) -> float:
        """The sum of mu squared up to which plans are admitted: mu* squared."""
        return _largest_mu(self.epsilon, self.delta - self.total_slack) ** 2

    def cost(
        self, mechanism: Mechanism, *, hospitals_per_patient: int, has_slack: bool = True
    ) -> Cost:
        """Turn a mechanism into what it takes from this filter; nothing for no release.

        Args:
            mechanism: one of a plan, with all its attempts.
            hospitals_per_patient: hospitals that one patient may be at.
            has_slack: whether a slack is left for it; without, it counts as a full batch.

        Raises:
            ConfigError: ACCOUNTING_UNSUPPORTED, it is not one that is known here.
        """
        if mechanism.count == 0:
            return Cost()
        whole = Cost(_full_batch(mechanism, hospitals_per_patient))
        if mechanism.sampling_rate == 1.0 or not has_slack:
            return whole
        mu = _dominating_mu(mechanism, hospitals_per_patient, self.slack)
        # Without its coins a mechanism tells more, so as if it had none is always allowed.
        return whole if mu**2 >= whole.precision else Cost(mu**2, self.slack)

    def admits(self, cost: Cost) -> bool:
        """Say whether everything together may cost that much."""
        # The margin is for sums of floats; it is worth less than 1e-8 of epsilon.
        return cost.precision <= self.precision * (
            1 + _MARGIN
        ) and cost.slack <= self.total_slack * (1 + _MARGIN)

    def epsilon_of(self, cost: Cost) -> float:
        """Give the epsilon at which this filter, at its delta, would just admit so much.

        Not the composition of the plans, which is smaller, but the scale on which the filter
        decides: above ``epsilon`` exactly when the precision is above its own.
        """
        if cost.precision <= 0.0:
            return 0.0
        if not math.isfinite(cost.precision):
            return math.inf
        return gaussian_epsilon(math.sqrt(cost.precision), self.delta - self.total_slack)


# --- one Gaussian -----------------------------------------------------------------------------


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return delta of one Gaussian of sensitivity mu and deviation 1 (Balle, Wang 2018, Thm 8)."""
    import numpy as np

    return float(_gaussian_deltas(mu, np.asarray([epsilon]))[0])


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest epsilon >= 0 with ``gaussian_delta(mu, epsilon) <= delta``."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(mu, high) > delta:
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        if gaussian_delta(mu, middle) <= delta:
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=256)
def _largest_mu(epsilon: float, delta: float) -> float:
    """Return the largest mu with ``gaussian_delta(mu, epsilon) <= delta``, from below."""
    low, high = 0.0, 1.0
    while gaussian_delta(high, epsilon) <= delta:
        low, high = high, 2 * high
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        if gaussian_delta(middle, epsilon) <= delta:
            low = middle
        else:
            high = middle
    return low


def _gaussian_deltas(mu: float, epsilons: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Phi(mu/2 - e/mu) - exp(e) Phi(-mu/2 - e/mu) for every e, without cancellation."""
    import numpy as np
    from scipy.special import log_ndtr  # type: ignore[import-untyped]  # scipy ships no types

    first = log_ndtr(mu / 2 - epsilons / mu)
    second = log_ndtr(-mu / 2 - epsilons / mu) + epsilons
    deltas: NDArray[np.float64] = -np.exp(first) * np.expm1(np.minimum(second - first, 0.0))
    return deltas


# --- one mechanism ----------------------------------------------------------------------------


def _full_batch(mechanism: Mechanism, hospitals: int) -> float:
    """Return the precision of the mechanism if every patient were in every release.

    Shared noise: a patient of h hospitals is in one sum, h times. Local noise: in h sums, once.
    """
    sigma, count = mechanism.noise_multiplier, mechanism.count
    in_range = LEAST_NOISE <= sigma <= MOST_NOISE and 0.0 < mechanism.sampling_rate <= 1.0
    if not in_range or count < 0 or not 1 <= hospitals <= 200:
        raise ConfigError(
            ErrorCode.ACCOUNTING_UNSUPPORTED,
            "The mechanism cannot be accounted.",
            hint="Noise multiplier, sampling rate, attempts and hospitals must lie in the plan's "
            "ranges.",
        )
    return count * hospitals * (1 if mechanism.is_local else hospitals) / sigma**2


@lru_cache(maxsize=512)
def _dominating_mu(mechanism: Mechanism, hospitals: int, slack: float) -> float:
    """Return the smallest mu whose Gaussian, with the slack, dominates a subsampled mechanism.

    The pessimistic PLD gives an upper bound of delta, for the worse direction, at the knots of its
    grid. Between knots both sides only fall, so each knot is compared with the bound at the *next*
    one; epsilon < 0 follows from the other direction, and beyond the last knot delta is below the
    slack. The result is rounded up.

    Returns:
        mu; infinity if there is none, or the mechanism is beyond all use.
    """
    import numpy as np

    accountant = loss_accountant(mechanism, hospitals_per_patient=hospitals)
    if accountant is None:
        return math.inf
    last = float(accountant.get_epsilon(slack))  # from here on delta is at most the slack
    if not math.isfinite(last):
        return math.inf
    knots = np.arange(math.ceil(last / GRID) + 2) * GRID
    # The worse of both directions; the bound is the same for both, because Gaussians are symmetric.
    curve = np.asarray(accountant.get_delta(knots), dtype=np.float64)
    here, next_knots = curve[:-1], np.asarray(knots[1:], dtype=np.float64)

    def dominates(mu: float) -> bool:
        bound = slack + (1.0 - slack) * _gaussian_deltas(mu, next_knots)
        return bool(np.all(here <= bound * (1.0 - _MARGIN)))

    low, high = _LEAST_MU, 1.0
    if dominates(low):
        return low
    while not dominates(high):
        low, high = high, 2 * high
        if high > 1e4:
            return math.inf
    while high - low > _STEP * high:
        middle = (low + high) / 2
        if dominates(middle):
            high = middle
        else:
            low = middle
    return high
