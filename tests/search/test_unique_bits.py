"""Does every hospital's measurement enter the sum once: none lost, none doubled?

Each site sends words in which it alone owns two binary digits, so that any sum shows how often
each site is in it: 0, 1, 2 or 3 times. Real primitives; both modes; hospitals lost at every point
where one can be lost (SECAGG-6, -9, -10, -15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import CohortiumError, ErrorCode
from schemas.secagg import MaskedSum, MaskedUpdate, add_masked, check_sum, mask, recover_sum
from schemas.secagg.field import PRIME
from schemas.secagg.recovery import contributors_of
from tests.support.secure_sum import Consortium

SITES = 15  # two digits each in a signed 32-bit word
WORDS = 40


def contribution(site: str, sites: Iterable[str]) -> NDArray[np.int64]:
    """A site's digit: in word w that of its place moved on by w, so that every digit is used."""
    order = sorted(sites)
    return np.array([4 ** ((order.index(site) + w) % len(order)) for w in range(WORDS)])


def times(total: NDArray[np.int64], sites: Iterable[str]) -> dict[str, int]:
    """How often each site is in a sum; the words must agree on it."""
    order = sorted(sites)
    found: dict[str, int] = {}
    for w, word in enumerate(total):
        assert 0 <= word < 4 ** len(order)
        for place, site in enumerate(order):
            digit = int(word) >> (2 * ((place + w) % len(order))) & 3
            assert found.setdefault(site, digit) == digit
    return found


def masked(hospitals: Consortium, keys: Mapping, *, blind: bool = False) -> dict[str, MaskedUpdate]:
    plan_sites = hospitals.parties
    return {s: mask(keys[s], contribution(s, plan_sites), blind=blind) for s in keys}


def once(hospitals: Consortium, present: Iterable[str]) -> dict[str, int]:
    here = set(present)
    return {site: int(site in here) for site in hospitals.parties}


def raw(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    return words.view(np.int32).astype(np.int64)


@pytest.fixture(scope="module")
def atomic() -> Consortium:
    return Consortium.of(SITES)


@pytest.fixture(scope="module")
def recoverable() -> Consortium:
    return Consortium.recoverable(12, maximum_dropouts=4, collusion_bound=2)


@pytest.mark.parametrize("size", [3, 8, SITES])
def test_every_member_is_in_an_atomic_sum_once(atomic, size) -> None:
    roster = sorted(atomic.parties)[:size]
    keys = atomic.keys(roster)
    summed = add_masked(masked(atomic, keys), roster)
    assert times(raw(summed.words), atomic.parties) == once(atomic, roster)
    for site in roster:
        assert times(check_sum(keys[site], summed), atomic.parties) == once(atomic, roster)


def test_every_member_is_in_a_blind_sum_once_and_nobody_else_sees_how_often(atomic) -> None:
    keys = atomic.keys(kind="evaluate")
    summed = add_masked(masked(atomic, keys, blind=True), sorted(keys))
    for site in keys:
        assert times(check_sum(keys[site], summed), atomic.parties) == once(atomic, keys)
    with pytest.raises(AssertionError):
        times(raw(summed.words), atomic.parties)


def test_lost_members_void_atomic_attempts_until_all_answer(atomic) -> None:
    """Four attempts, somebody lost in all but the last: nothing is seen but the last sum."""
    dice = Random(3)
    sites = sorted(atomic.parties)
    for attempt in range(4):
        lost = set(dice.sample(sites, dice.randint(1, 6))) if attempt < 3 else set()
        keys = atomic.keys(attempt=attempt)
        uploads = masked(atomic, keys)
        heard = {site: upload for site, upload in uploads.items() if site not in lost}
        if not lost:
            summed = add_masked(heard, sites)
            assert times(check_sum(keys[sites[0]], summed), sites) == once(atomic, sites)
            continue
        with pytest.raises(CohortiumError) as refused:
            add_masked(heard, sites)
        assert refused.value.code is ErrorCode.ATTEMPT_SITE_LEFT
        partial = sum((upload.words for upload in heard.values()), np.uint32(0))
        with pytest.raises(AssertionError):
            times(raw(partial), sites)  # the missing masks are over everything


@pytest.mark.parametrize("seed", range(8))
def test_exactly_the_survivors_are_in_a_recovered_sum(recoverable, seed) -> None:
    """Lost before the upload, after it, or after signing; heard again too late for the list."""
    dice = Random(seed)
    hospitals, plan = recoverable, recoverable.plan
    roster = sorted(dice.sample(sorted(hospitals.parties), dice.randint(9, 12)))
    spare = plan.dropouts_allowed(len(roster))
    readies, keys = hospitals.meet(roster, attempt=seed)
    uploads = masked(hospitals, keys)
    lost = dice.sample(roster, dice.randint(0, spare))
    survivors = [site for site in roster if site not in lost]
    heard = {site: uploads[site] for site in survivors}  # the others' uploads may be there: unused
    revealed = hospitals.unmask(keys, hospitals.confirm(keys, heard))
    if not lost:  # then any tau answers are enough
        for silent in dice.sample(survivors, len(survivors) - plan.survivor_threshold):
            del revealed[silent]
    summed = recover_sum(plan, tuple(readies), heard, revealed)
    expected = once(hospitals, survivors)
    assert times(raw(summed.words), hospitals.parties) == expected
    for site in survivors:
        opened = check_sum(keys[site], summed, contributors=contributors_of(keys[site], survivors))
        assert times(opened, hospitals.parties) == expected


def test_a_survivor_lost_after_signing_voids_the_attempt_and_shows_nothing(recoverable) -> None:
    hospitals = recoverable
    roster = sorted(hospitals.parties)
    readies, keys = hospitals.meet(roster)
    uploads = masked(hospitals, keys)
    del uploads[roster[0]]
    revealed = hospitals.unmask(keys, hospitals.confirm(keys, uploads))
    del revealed[roster[1]]
    with pytest.raises(CohortiumError) as refused:
        recover_sum(hospitals.plan, tuple(readies), uploads, revealed)
    assert refused.value.code is ErrorCode.RECOVERY_FAILED
    partial = sum((upload.words for upload in uploads.values()), np.uint32(0))
    with pytest.raises(AssertionError):
        times(raw(partial), hospitals.parties)


@pytest.mark.parametrize("how", ["lost", "doubled", "exchanged"])
@pytest.mark.parametrize("mode", ["atomic", "recoverable"])
def test_sites_refuse_a_sum_with_a_contribution_lost_doubled_or_exchanged(
    request, mode, how
) -> None:
    """The coordinator alters clear sums by what it happens to know of one site's words."""
    hospitals = request.getfixturevalue(mode)
    roster = sorted(hospitals.parties)
    readies, keys = hospitals.meet(roster)
    uploads = masked(hospitals, keys)
    if mode == "atomic":
        good = add_masked(uploads, roster)
    else:
        revealed = hospitals.unmask(keys, hospitals.confirm(keys, uploads))
        good = recover_sum(hospitals.plan, tuple(readies), uploads, revealed)
    one, other = (contribution(site, roster).astype(np.uint32) for site in roster[:2])
    change = {"lost": -one, "doubled": one, "exchanged": other - one}[how]
    bent = MaskedSum(good.words + change, good.tag % PRIME)
    shown = times(raw(bent.words), roster)
    assert shown != once(hospitals, roster) and shown[roster[0]] != 1
    for site in roster[:3]:
        with pytest.raises(CohortiumError) as refused:
            check_sum(keys[site], bent)
        assert refused.value.code is ErrorCode.SUM_ALTERED
        assert times(check_sum(keys[site], good), roster) == once(hospitals, roster)
