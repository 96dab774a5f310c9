"""Is a sum that grows as uploads come in the sum of them all, and of nobody else?"""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg import RunningSum, add_masked, recover_sum, unmask_sum
from schemas.secagg.field import PRIME
from schemas.secagg.masking import MaskedUpdate, check_sum
from schemas.secagg.recovery import contributors_of
from tests.support.masked_attempt import FIVE, FOUR, attempt_of
from tests.support.secure_sum import Consortium


def update(*words: int, tag: int = 0) -> MaskedUpdate:
    return MaskedUpdate(np.array(words, dtype=np.uint32), tag)


UPLOADS = {
    "a": update(2**32 - 1, 5, tag=PRIME - 1),
    "b": update(3, 6, tag=2),
    "c": update(7, 2**31, tag=PRIME - 3),
}


def added(order: str) -> RunningSum:
    running = RunningSum()
    for site in order:
        running.add(site, UPLOADS[site])
    return running


@pytest.mark.parametrize("order", ["abc", "cab", "bca"])
def test_the_order_of_arrival_does_not_matter(order: str) -> None:
    running = added(order)
    total, at_once = running.total("abc"), add_masked(UPLOADS, "abc")
    assert total.words.tolist() == at_once.words.tolist() == [9, 2**31 + 11]
    assert total.tag == at_once.tag == PRIME - 2
    assert running.sites == list(order)


def test_updates_are_left_as_they_came() -> None:
    added("abc")
    assert UPLOADS["a"].words.tolist() == [2**32 - 1, 5]


@pytest.mark.parametrize("roster", ["ab", "abcd", "abd", "", "abcc"])
def test_there_is_a_sum_of_exactly_the_roster_only(roster: str) -> None:
    """SECAGG-10: exactly the members contribute."""
    with pytest.raises(ProtocolError) as refused:
        added("abc").total(roster)
    assert refused.value.code is ErrorCode.ATTEMPT_SITE_LEFT


def test_there_is_no_sum_of_nothing() -> None:
    with pytest.raises(ProtocolError):
        RunningSum().total(())


def test_a_site_is_added_once() -> None:
    running = added("ab")
    with pytest.raises(ValueError, match="once"):
        running.add("a", UPLOADS["a"])
    assert running.total("ab").words.tolist() == [2, 11]


@pytest.mark.parametrize("bad", [update(1), update(1, 2, tag=PRIME), update(1, 2, tag=-1)])
def test_an_update_of_another_form_changes_nothing(bad: MaskedUpdate) -> None:
    running = added("ab")
    with pytest.raises(ProtocolError) as refused:
        running.add("c", bad)
    assert (refused.value.code, refused.value.detail) == (ErrorCode.VECTOR_SHAPE, "c")
    assert (running.total("ab").words.tolist(), running.total("ab").tag) == ([2, 11], 1)


def test_a_first_update_of_another_form_does_not_fix_the_form() -> None:
    running = RunningSum()
    with pytest.raises(ProtocolError):
        running.add("c", update(1, tag=PRIME))
    running.add("a", UPLOADS["a"])
    assert running.total("a").words.tolist() == [2**32 - 1, 5]


@pytest.mark.parametrize("survivors", [FOUR, FIVE])
def test_masks_come_off_a_sum_that_grew_as_off_updates_that_were_kept(survivors) -> None:
    """SECAGG-15: the coordinator needs no single update any more to unmask their sum."""
    attempt = attempt_of(Consortium.recoverable(5))
    plan = attempt.consortium.plan
    confirmations = attempt.confirmations(survivors)
    revealed = {site: attempt.reveal(site, confirmations) for site in survivors}
    running = RunningSum()
    for site in reversed(survivors):
        running.add(site, attempt.uploads[site])
    kept = {site: attempt.uploads[site] for site in survivors}
    at_once = recover_sum(plan, attempt.readies, kept, revealed)
    total = unmask_sum(plan, attempt.readies, running, revealed)
    assert total.words.tolist() == at_once.words.tolist()
    assert total.tag == at_once.tag
    keys = attempt.keys["site-1"]
    values = check_sum(keys, total, contributors=contributors_of(keys, survivors))
    assert values.tolist() == attempt.plain(survivors).tolist()


def test_answers_that_do_not_suffice_leave_the_sum_masked() -> None:
    attempt = attempt_of(Consortium.recoverable(5))
    confirmations = attempt.confirmations(FIVE)
    revealed = {site: attempt.reveal(site, confirmations) for site in FIVE[:2]}
    running = RunningSum()
    for site in FIVE:
        running.add(site, attempt.uploads[site])
    before = running.total(FIVE).words.tolist()
    with pytest.raises(ProtocolError) as refused:
        unmask_sum(attempt.consortium.plan, attempt.readies, running, revealed)
    assert refused.value.code is ErrorCode.RECOVERY_FAILED
    assert running.total(FIVE).words.tolist() == before
