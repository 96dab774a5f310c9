"""Does what an attacker saw fit the privacy that is claimed, neither less nor more?

A Gaussian mechanism with sensitivity 1 and noise sigma is mu-GDP with mu = 1/sigma (Dong, Roth, Su
2019, arXiv 1905.02383): a canary shifts a Gaussian by mu standard deviations. From observations
with and without the canary (Nasr et al. 2023, arXiv 2302.07956) follow two numbers: a point
estimate of mu, which must lie within 2 % of what is claimed on either side, and a lower bound at
95 % from the attacker's errors alone, which must not exceed the claim and must come near it; a
bound far below it would mean that the audit is blind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

WITHIN = 0.02  # of the claim, two-sided, for the estimate
NEAR = 0.04  # the bound may lie this far below the claim, and nothing above it
MOST_ERROR = 0.004  # standard error of the estimate; more would make the verdict a lottery
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Seen:
    """Observations in units of one patient's clip, one a repetition: canary absent, and present."""

    absent: NDArray[np.float64]
    present: NDArray[np.float64]


def estimate(seen: Seen) -> tuple[float, float]:
    """Give the point estimate of mu and its relative standard error."""
    n, m = len(seen.absent), len(seen.present)
    squares = ((seen.absent - seen.absent.mean()) ** 2).sum()
    squares += ((seen.present - seen.present.mean()) ** 2).sum()
    deviation = math.sqrt(squares / (n + m - 2))
    mu = float(seen.present.mean() - seen.absent.mean()) / deviation
    error = math.sqrt((1 / n + 1 / m) / mu**2 + 1 / (2 * (n + m)))
    return mu, error


def lower_bound(seen: Seen) -> float:
    """Give the 95 % lower bound of mu from the two error rates at the middle threshold.

    Each rate's upper end is Wilson's at 97.5 %.
    """
    threshold = (seen.absent.mean() + seen.present.mean()) / 2
    false_positive = _upper(int((seen.absent > threshold).sum()), len(seen.absent))
    false_negative = _upper(int((seen.present <= threshold).sum()), len(seen.present))
    return _NORMAL.inv_cdf(1 - false_positive) - _NORMAL.inv_cdf(false_negative)


def audit_passes(seen: Seen, claimed: float) -> bool:
    """Say whether the claim holds and is tight: the one verdict of every white-box audit.

    Args:
        seen: enough observations for a standard error of 0.4 %.
        claimed: the nominal mu.

    Raises:
        ValueError: too few observations for a verdict.
    """
    mu, error = estimate(seen)
    if error > MOST_ERROR:
        raise ValueError("too few repetitions for a verdict")
    is_near = abs(mu / claimed - 1) <= WITHIN
    bound = lower_bound(seen)
    return is_near and (1 - NEAR) * claimed <= bound <= claimed


def _upper(errors: int, n: int) -> float:
    z = _NORMAL.inv_cdf(0.975)
    rate = errors / n
    centre = rate + z * z / (2 * n)
    return (centre + z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))) / (1 + z * z / n)
