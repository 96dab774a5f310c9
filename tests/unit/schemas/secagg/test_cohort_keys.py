"""SECAGG-6, -14: every secret is used for one thing, once, and is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg.cohort_keys import CohortKeys, RecoverySecrets
from schemas.secagg.keys import Attempt, PairMask
from schemas.secagg.masking import MaskedSum, check_sum, mask
from schemas.secagg.messages import SurvivorList

ROSTER = ("site-1", "site-2", "site-3", "site-4")
ATTEMPT = Attempt("0a" * 32, "train", 3, 0, "0b" * 32, "0c" * 32)
SURVIVORS = ("site-1", "site-2", "site-4")


def secrets() -> RecoverySecrets:
    shares = {site: site.encode().ljust(32, b".") for site in ROSTER}
    seeds = {site: site.encode().ljust(48, b"!") for site in ROSTER[1:]}
    return RecoverySecrets(shares, seeds)


def keys(recovery: RecoverySecrets | None = None, *, fewest: int | None = None) -> CohortKeys:
    masks = (PairMask(1, b"k" * 32, 5), PairMask(-1, b"l" * 32, 6))
    return CohortKeys("site-1", ROSTER, ATTEMPT, b"G" * 32, masks, fewest=fewest, recovery=recovery)


def listed(*sites: str) -> SurvivorList:
    return SurvivorList(
        plan_digest="0a" * 32,
        round=3,
        attempt=0,
        transcript_hash="0c" * 32,
        uploads=dict.fromkeys(sites, "0d" * 32),
    )


def refusal(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(ProtocolError) as refused:
        call()
    return refused.value.code


def test_a_signed_list_leaves_either_a_share_or_a_seed_of_each_site() -> None:
    """SECAGG-14, in memory: whatever is asked later, the other kind does not exist any more."""
    recovery = secrets()
    recovery.settle(listed(*SURVIVORS), "ef" * 64)
    shares, seeds = recovery.spend()
    assert tuple(sorted(shares)) == SURVIVORS
    assert tuple(seeds) == ("site-3",)


def test_what_the_list_leaves_out_is_nowhere_in_the_object() -> None:
    recovery = secrets()
    recovery.settle(listed(*SURVIVORS), "ef" * 64)
    held = repr([getattr(recovery, name) for name in RecoverySecrets.__slots__])
    assert "site-3.." not in held and "site-2!!" not in held
    assert "site-2.." in held and "site-3!!" in held


def test_an_attempt_has_one_list() -> None:
    recovery = secrets()
    recovery.settle(listed(*SURVIVORS), "ef" * 64)
    with pytest.raises(ValueError, match="one list"):
        recovery.settle(listed(*SURVIVORS), "ef" * 64)


def test_secrets_are_handed_out_once() -> None:
    recovery = secrets()
    recovery.settle(listed(*SURVIVORS), "ef" * 64)
    assert not recovery.is_spent
    recovery.spend()
    assert recovery.is_spent
    assert refusal(recovery.spend) is ErrorCode.RECOVERY_DONE
    assert "site" not in repr([recovery._shares, recovery._seeds])


def test_nothing_is_handed_out_before_a_list_is_signed() -> None:
    with pytest.raises(ValueError, match="before"):
        secrets().spend()


def test_erased_secrets_sign_and_reveal_nothing() -> None:
    recovery = secrets()
    recovery.erase()
    assert recovery.is_spent
    with pytest.raises(ValueError, match="list"):
        recovery.settle(listed(*SURVIVORS), "ef" * 64)
    settled = secrets()
    settled.settle(listed(*SURVIVORS), "ef" * 64)
    settled.erase()
    assert refusal(settled.spend) is ErrorCode.RECOVERY_DONE


def test_erasing_the_keys_erases_all_of_them() -> None:
    recovery = secrets()
    member = keys(recovery)
    member.erase()
    assert recovery.is_spent
    assert not member.wants_upload_hash
    for use in (member.group, member.spend_masks):
        assert refusal(use) is ErrorCode.SECRETS_SPENT


def test_masks_are_spent_once() -> None:
    member = keys()
    assert len(member.spend_masks()) == 2
    assert refusal(member.spend_masks) is ErrorCode.SECRETS_SPENT


def test_an_upload_is_noted_once_and_only_after_masking() -> None:
    member = keys(secrets())
    assert member.wants_upload_hash
    with pytest.raises(ValueError, match="one upload"):
        member.note_upload("aa" * 32)
    member.spend_masks()
    member.note_upload("aa" * 32)
    assert not member.wants_upload_hash
    assert member.recovery().upload_hash == "aa" * 32
    with pytest.raises(ValueError, match="one upload"):
        member.note_upload("bb" * 32)


def test_masking_notes_the_upload() -> None:
    member = keys(secrets())
    mask(member, np.arange(5))
    assert len(member.recovery().upload_hash) == 64


def test_an_atomic_attempt_notes_nothing_and_offers_nothing() -> None:
    member = keys()
    assert not member.wants_upload_hash
    member.spend_masks()
    with pytest.raises(ValueError, match="recoverable"):
        member.note_upload("aa" * 32)
    assert refusal(member.recovery) is ErrorCode.RECOVERY_NOT_OFFERED
    assert member.signed_survivors == ()
    assert member.fewest == len(ROSTER)


def test_signed_survivors_outlive_the_secrets() -> None:
    member = keys(secrets(), fewest=3)
    member.recovery().settle(listed("site-4", "site-2", "site-1"), "ef" * 64)
    member.recovery().spend()
    assert member.signed_survivors == SURVIVORS
    assert member.fewest == 3


def test_the_group_secret_outlives_the_answer() -> None:
    """The sum comes after the answer, and must still be checked."""
    member = keys(secrets(), fewest=3)
    total = mask(member, np.zeros(3, dtype=np.int64))
    member.recovery().settle(listed(*SURVIVORS), "ef" * 64)
    member.recovery().spend()
    assert member.group() == b"G" * 32
    code = refusal(lambda: check_sum(member, MaskedSum(total.words, 0)))
    assert code is ErrorCode.SUM_ALTERED


def test_nothing_secret_shows_in_a_traceback() -> None:
    member = keys(secrets())
    text = repr(member) + repr(member.recovery()) + repr(member.spend_masks())
    assert "site-2.." not in text and "GGG" not in text and "kkk" not in text
