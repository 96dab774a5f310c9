"""PRIVACY-18, PRIVACY-3: is the noise of whole attempts as wide, as independent, as fresh as said?

The sampler has tests of its own; here four sites run attempts with a million words and nobody's
gradient: whatever is in their vectors and in the sum is noise.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.secagg import QuantisedUpdate, check_sum
from site_node.training import dp_sgd
from tests.support.by_hand import Hand
from tests.support.consortium import hurried_rounds, memory_consortium
from tests.support.secure_sum import Consortium, FixedEntropy, summed

WORDS = 1_000_000
MULTIPLIER, INTEGER_CLIP = 13.0, 1 << 18
SITES = ("site-1", "site-2", "site-3", "site-4")
Attempt = dict[str, NDArray[np.float32]]  # float32: 4 bytes a word; 24 bits are plenty here


@cache
def house() -> Consortium:
    return Consortium.of(
        4,
        privacy={"noise_multiplier": MULTIPLIER},
        training={"integer_clip": INTEGER_CLIP},
        model={"parameters": WORDS},
    )


SHARE = MULTIPLIER * INTEGER_CLIP / math.sqrt(3)  # sigma C_int / root(|U| - t)


def attempt(number: int, entropies: dict[str, FixedEntropy]) -> Attempt:
    """Each site's vector of one attempt without patients, and under "sum" what all opened."""
    here = house()
    keys = here.keys(attempt=number)
    terms = here.plan.sum_terms(0)
    vectors = {}
    for site in keys:
        nobody = QuantisedUpdate(np.zeros(terms.words, dtype=np.int64))
        drawn = dp_sgd.noised_update(here.plan, terms, nobody, len(keys), entropies[site])
        vectors[site] = drawn.values
    total = check_sum(keys["site-1"], summed(keys, vectors))
    assert np.array_equal(total, sum(vectors.values()))
    shown = {site: vector.astype(np.float32) for site, vector in vectors.items()}
    return shown | {"sum": total.astype(np.float32)}


@pytest.fixture(scope="module")
def attempts() -> list[Attempt]:
    """An attempt and its retry: every site draws on from its own stream, as from its kernel."""
    entropies = {site: FixedEntropy(f"attempts/{site}") for site in SITES}
    return [attempt(number, entropies) for number in (0, 1)]


def deviation(values: NDArray[np.float32]) -> float:
    return float(values.std(dtype=np.float64))


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one.astype(np.float64) @ other) / len(one) / (deviation(one) * deviation(other))


def are_independent(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return abs(correlation(one, other)) < 4 / math.sqrt(len(one))


def test_every_share_has_its_sigma_to_half_a_percent(attempts: list[Attempt]) -> None:
    """PRIVACY-3: seven standard errors; the shares of n, and of n - t - 1, are far outside."""
    for site in SITES:
        assert deviation(attempts[0][site]) == pytest.approx(SHARE, rel=0.005)
        assert abs(deviation(attempts[0][site]) / (SHARE * math.sqrt(3 / 4)) - 1) > 0.1
        assert abs(float(attempts[0][site].mean(dtype=np.float64))) < 5 * SHARE / math.sqrt(WORDS)


@pytest.mark.parametrize("colluder", SITES)
def test_without_any_one_sites_noise_the_sum_keeps_the_plans_sigma(
    attempts: list[Attempt], colluder: str
) -> None:
    """PRIVACY-3: t = 1 may be any of them."""
    left = attempts[0]["sum"] - attempts[0][colluder]
    assert deviation(left) == pytest.approx(MULTIPLIER * INTEGER_CLIP, rel=0.005)


def test_sites_and_attempts_are_independent(attempts: list[Attempt]) -> None:
    """PRIVACY-3: of eight vectors no two are correlated; a shared part of 1 % would be seen."""
    vectors = [made[site] for made in attempts for site in SITES]
    for one, other in combinations(vectors, 2):
        assert are_independent(one, other)
        assert (one == other).mean() < 1e-5
    assert not are_independent(vectors[0], vectors[1] + 0.01 * vectors[0])


def test_a_repeated_noise_would_be_seen(attempts: list[Attempt]) -> None:
    """PRIVACY-3: the generator's state restored from a copy is the fault looked for above."""
    first, again = (
        attempt(2, {site: FixedEntropy(f"copy/{site}") for site in SITES}) for _ in range(2)
    )
    for site in SITES:
        assert not are_independent(first[site], again[site])
    shared = attempt(3, dict.fromkeys(SITES, FixedEntropy("one for all")))
    assert are_independent(shared["site-1"], shared["site-2"])  # one stream, read on: no repeat
    same = attempt(4, {site: FixedEntropy("the same seed") for site in SITES})
    assert not are_independent(same["site-1"], same["site-2"])


@pytest.fixture
def drawn(monkeypatch) -> list[bytes]:
    """The noise of every vector of every site, in order: what is sent less what is summed."""
    seen = []
    honest = dp_sgd.noised_update

    def spy(*given):
        quantised = next(value for value in given if isinstance(value, QuantisedUpdate))
        noised = honest(*given)
        seen.append((noised.values - quantised.values).tobytes())
        return noised

    monkeypatch.setattr(dp_sgd, "noised_update", spy)
    return seen


def test_retries_and_restarts_repeat_no_noise(tmp_path, drawn) -> None:
    """PRIVACY-3: one round three times by the whole site path, before and after restarts."""
    consortium = memory_consortium(tmp_path)
    hand = Hand(consortium)
    for number in range(3):
        hand.play(0, number)
        for site in SITES:
            consortium.restart(site)
    assert len(drawn) == len(set(drawn)) == 3 * len(SITES)


def test_a_restart_that_repeats_its_randomness_would_be_seen(tmp_path, drawn) -> None:
    """PRIVACY-3: the same, with a generator that every restart sets back."""
    consortium = memory_consortium(tmp_path)
    hand = Hand(consortium)
    for number in range(2):
        for site, context in consortium.sites.items():
            consortium.rounds[site] = hurried_rounds(context, FixedEntropy(f"set back/{site}"))
        hand.play(0, number)
    assert len(set(drawn)) == len(drawn) / 2
