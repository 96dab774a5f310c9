"""PRIVACY-1 to -3, end to end: can a canary be told from nothing better than the plan says?

A white-box audit (Nasr et al. 2023, arXiv 2302.07956): every coordinate of a vector is one
experiment, with one adversarial patient or none, through the product's own path: clip, truncate,
noise of each site, mask, add, check. The coordinator colludes with t = 1 site and knows its noise.
What is left must be a Gaussian shift of mu = 1/sigma: a 95 % lower bound of mu from the attacker's
errors may not exceed it, and must come close to it, or the audit itself is blind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest

from schemas.governance.study import StudyPlan
from schemas.secagg import NoisedUpdate, QuantisedUpdate, check_sum, integer_gradient_sum
from site_node.training.dp_sgd import noised_update
from tests.support.secure_sum import Consortium, FixedEntropy, summed

SITES = 4
MULTIPLIER = 2.0  # mu = 0.5
REPETITIONS = 100_000
CLIP, INTEGER_CLIP = 0.8, 1 << 14
NORMAL = NormalDist()

Noise = Callable[[StudyPlan, QuantisedUpdate, int, FixedEntropy], NoisedUpdate]


@cache
def consortium() -> Consortium:
    return Consortium.of(
        SITES,
        privacy={"noise_multiplier": MULTIPLIER},
        training={"clip": CLIP, "integer_clip": INTEGER_CLIP},
    )


def observe(present: bool, *, noise: Noise = noised_update, clip: float = CLIP) -> np.ndarray:
    """What coordinator and colluding site see of each experiment, in units of the clip."""
    here = consortium()
    entropy = FixedEntropy(f"canary/{present}/{clip}/{noise.__name__}")
    keys = here.keys(attempt=1 if present else 0)
    vectors, known = {}, np.zeros(REPETITIONS, dtype=np.int64)
    for site in keys:
        own = np.zeros(REPETITIONS, dtype=np.int64)
        if present and site == "site-1":
            # One patient per coordinate, ten times longer than the clip, in a direction of its own.
            block = integer_gradient_sum(10 * np.eye(500), clip, round(INTEGER_CLIP * clip / CLIP))
            own = np.tile(block, REPETITIONS // 500)
        vectors[site] = noise(here.plan, QuantisedUpdate(own), SITES, entropy).values
        if site == "site-4":
            known = vectors[site]  # the colluder has no patient of its own and knows its noise
    total = check_sum(keys["site-2"], summed(keys, vectors))
    return (total - known) / INTEGER_CLIP


def lower_bound(absent: np.ndarray, present: np.ndarray) -> float:
    """The 95 % lower bound of mu from the errors at the best threshold (GDP, Dong et al. 2019)."""
    threshold = (absent.mean() + present.mean()) / 2

    def upper(errors: int, n: int) -> float:  # Wilson's upper end, each error at 97.5 %
        z = NORMAL.inv_cdf(0.975)
        rate = errors / n
        centre = rate + z * z / (2 * n)
        return (centre + z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))) / (
            1 + z * z / n
        )

    false_positive = upper(int((absent > threshold).sum()), len(absent))
    false_negative = upper(int((present <= threshold).sum()), len(present))
    return NORMAL.inv_cdf(1 - false_positive) - NORMAL.inv_cdf(false_negative)


def audit(**how: object) -> float:
    return lower_bound(observe(False, **how), observe(True, **how))  # type: ignore[arg-type]


CLAIMED = 1 / MULTIPLIER


def test_the_mechanism_keeps_its_promise_and_the_audit_can_see() -> None:
    """PRIVACY-1: no distinguisher does better than epsilon and delta allow."""
    found = audit()
    assert found <= CLAIMED
    assert found >= 0.95 * CLAIMED


def _share_of_n_instead_of_root_n(
    plan: StudyPlan, update: QuantisedUpdate, cohort: int, entropy: FixedEntropy
) -> NoisedUpdate:
    """The commonest mistake: sigma/n per site in place of sigma/√(n - t)."""
    return _scaled(plan, update, cohort, entropy, math.sqrt(cohort - 1) / cohort)


def _no_colluders(
    plan: StudyPlan, update: QuantisedUpdate, cohort: int, entropy: FixedEntropy
) -> NoisedUpdate:
    """Variance over n in place of n - t: the colluder's share is missing."""
    return _scaled(plan, update, cohort, entropy, math.sqrt((cohort - 1) / cohort))


def _scaled(
    plan: StudyPlan, update: QuantisedUpdate, cohort: int, entropy: FixedEntropy, by: float
) -> NoisedUpdate:
    noised = noised_update(plan, QuantisedUpdate(0 * update.values), cohort, entropy).values
    return NoisedUpdate(update.values + np.round(noised * by).astype(np.int64))


@pytest.mark.parametrize("broken", [_share_of_n_instead_of_root_n, _no_colluders])
def test_noise_that_is_too_small_is_caught(broken: Noise) -> None:
    assert audit(noise=broken) > 1.02 * CLAIMED


def test_a_doubled_clip_is_caught() -> None:
    assert audit(clip=2 * CLIP) > 1.5 * CLAIMED
