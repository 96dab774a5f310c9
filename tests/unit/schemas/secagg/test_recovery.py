"""SECAGG-13, -14: a site signs one list of survivors, where recovery is offered at all."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.errors import ErrorCode
from schemas.secagg.keys import PairMask
from schemas.secagg.masking import CohortKeys, check_sum
from schemas.secagg.recovery import confirm_survivors, contributors_of, reveal
from schemas.secagg.site import observe_cohort
from schemas.secagg.streams import Keystream
from tests.support.cohorts import refusal
from tests.support.masked_attempt import FIVE, FOUR, Attempt, attempt_of
from tests.support.secure_sum import NEW_MODEL, Consortium, vectors_of


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    return Consortium.recoverable(5)


# --- the honest way -------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [(), *((site,) for site in FIVE)], ids=lambda lost: str(lost))
def test_the_sum_of_the_survivors_is_exact(consortium: Consortium, lost: tuple[str, ...]) -> None:
    readies, keys = consortium.meet()
    vectors = vectors_of(keys, 70)
    total = consortium.recover(readies, keys, vectors, lost=lost)
    survivors = [site for site in FIVE if site not in lost]
    plain = sum(vectors[site] for site in survivors)
    for member in keys.values():  # the lost one too: it still holds the group secret
        contributors = contributors_of(member, survivors)
        assert contributors == tuple(survivors)
        assert np.array_equal(check_sum(member, total, contributors=contributors), plain)


def test_two_of_seven_may_be_lost_and_words_wrap_exactly() -> None:
    consortium = Consortium.recoverable(7, maximum_dropouts=2)
    readies, keys = consortium.meet()
    edge = np.array([-(1 << 31), (1 << 31) - 1, -1, 0, 1 << 30])
    vectors = {site: edge if site == "site-4" else 0 * edge for site in keys}
    total = consortium.recover(readies, keys, vectors, lost=["site-1", "site-7"])
    survivors = [f"site-{n}" for n in range(2, 7)]
    assert np.array_equal(check_sum(keys["site-2"], total, contributors=survivors), edge)


def test_without_the_answers_the_sum_shows_nothing(attempt: Attempt) -> None:
    """Even if nobody was lost: self-masks stay until tau sites have answered."""
    total = sum(upload.words.astype(np.int64) for upload in attempt.uploads.values())
    plain = attempt.plain(FIVE)
    assert (total % 2**32 == plain % 2**32).sum() <= 1


def test_the_upload_of_a_lost_site_stays_masked(attempt: Attempt) -> None:
    """A fake drop-out: the coordinator has the upload, and every seed with the survivors."""
    revealed = [attempt.reveal(site, attempt.confirmations(FOUR)) for site in FOUR]
    words = attempt.uploads["site-5"].words.astype(np.int64)
    for answer in revealed:
        stream = np.empty(len(words), dtype=np.uint32)
        seed = bytes.fromhex(answer.seeds["site-5"])
        Keystream(PairMask.of(seed, 1).stream_key).fill(stream)
        words += stream  # site-5 sorts last, so it subtracted each of them
        assert "site-5" not in answer.shares
    plain = attempt.vectors["site-5"]
    assert (words % 2**32 == plain % 2**32).sum() <= 1


# --- signing a list -------------------------------------------------------------------------


def test_the_same_list_again_gets_the_same_signature(attempt: Attempt) -> None:
    first = attempt.confirm("site-1", FOUR)
    assert attempt.confirm("site-1", FOUR[::-1]) == first


@pytest.mark.parametrize("other", [FIVE, ("site-1", "site-2", "site-3", "site-5")])
def test_a_second_list_is_refused(attempt: Attempt, other: tuple[str, ...]) -> None:
    """SECAGG-13: one list an attempt."""
    attempt.confirm("site-1", FOUR)
    assert refusal(lambda: attempt.confirm("site-1", other)) is ErrorCode.SURVIVORS_CHANGED


def test_the_same_survivors_with_another_upload_are_a_second_list(attempt: Attempt) -> None:
    attempt.confirm("site-1", FOUR)
    other = attempt.hashes(FOUR) | {"site-2": "00" * 32}
    assert refusal(lambda: attempt.confirm_as("site-1", other)) is ErrorCode.SURVIVORS_CHANGED


def test_a_second_list_is_refused_after_the_answer_as_well(attempt: Attempt) -> None:
    signed = attempt.confirmations(FOUR)
    attempt.reveal("site-1", signed)
    assert refusal(lambda: attempt.confirm("site-1", FIVE)) is ErrorCode.SURVIVORS_CHANGED
    assert attempt.confirm("site-1", FOUR) == signed["site-1"]


def test_a_refused_list_leaves_the_site_free_to_sign_a_good_one(attempt: Attempt) -> None:
    refusal(lambda: attempt.confirm("site-1", FIVE[:2]))
    assert len(attempt.confirm("site-1", FOUR)) == 128


def test_a_survivor_outside_the_cohort_is_refused(consortium: Consortium) -> None:
    attempt = attempt_of(consortium, FOUR)
    stranger = attempt.hashes(FOUR) | {"site-5": "aa" * 32}
    assert refusal(lambda: attempt.confirm_as("site-1", stranger)) is (ErrorCode.SURVIVORS_STRANGER)


def test_a_list_without_oneself_is_refused(attempt: Attempt) -> None:
    """SECAGG-13: its own name with its own upload."""
    assert refusal(lambda: attempt.confirm("site-5", FOUR)) is ErrorCode.SURVIVORS_OWN_UPLOAD


def test_a_list_with_another_upload_of_ones_own_is_refused(attempt: Attempt) -> None:
    """Who holds another upload under this site's name would sum something it never sent."""
    own = attempt.hashes(FIVE)
    for wrong in (own["site-2"], "00" * 32):
        listed = {**own, "site-1": wrong}
        assert refusal(lambda listed=listed: attempt.confirm_as("site-1", listed)) is (
            ErrorCode.SURVIVORS_OWN_UPLOAD
        )


def test_a_list_before_the_upload_is_refused(consortium: Consortium) -> None:
    _, keys = consortium.meet()
    listed = dict.fromkeys(FIVE, "aa" * 32)
    party, plan = consortium.parties["site-1"], consortium.plan
    assert refusal(lambda: confirm_survivors(keys["site-1"], party, plan, listed)) is (
        ErrorCode.MESSAGE_OUT_OF_ORDER
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_list_shorter_than_the_plan_allows_is_refused(attempt: Attempt, size: int) -> None:
    """SECAGG-13: at least #U - D(U)."""
    assert refusal(lambda: attempt.confirm("site-1", FIVE[:size])) is ErrorCode.SURVIVORS_TOO_FEW


def test_an_empty_list_is_no_statement(attempt: Attempt) -> None:
    """The wire refuses it already."""
    with pytest.raises(ValueError, match="at least 1"):
        attempt.confirm("site-1", ())


def test_erased_keys_sign_nothing(attempt: Attempt) -> None:
    attempt.keys["site-1"].erase()
    assert refusal(lambda: attempt.confirm("site-1", FOUR)) is ErrorCode.SECRETS_SPENT


def test_a_site_signs_only_for_itself_and_its_own_plan(attempt: Attempt) -> None:
    parties, keys = attempt.consortium.parties, attempt.keys["site-1"]
    listed = attempt.hashes(FOUR)
    with pytest.raises(ValueError, match="itself"):
        confirm_survivors(keys, parties["site-2"], attempt.consortium.plan, listed)
    other = Consortium.recoverable(5).plan
    for call in (
        lambda: confirm_survivors(keys, parties["site-1"], other, listed),
        lambda: reveal(keys, other, {}),
    ):
        assert refusal(call) is ErrorCode.COHORT_PLAN_MISMATCH


# --- where recovery is not offered ----------------------------------------------------------


def _both(consortium: Consortium, keys: CohortKeys) -> set[ErrorCode]:
    party = consortium.parties[keys.site_id]
    listed = dict.fromkeys(keys.roster, "aa" * 32)
    return {
        refusal(lambda: confirm_survivors(keys, party, consortium.plan, listed)),
        refusal(lambda: reveal(keys, consortium.plan, {})),
    }


def test_an_atomic_plan_offers_no_recovery() -> None:
    atomic = Consortium.of(4)
    assert _both(atomic, atomic.keys()["site-1"]) == {ErrorCode.RECOVERY_NOT_OFFERED}


def test_an_evaluation_offers_no_recovery(consortium: Consortium) -> None:
    """Two blind sums over sets that differ by one hospital would show that hospital."""
    keys = consortium.keys(kind="evaluate")["site-1"]
    assert _both(consortium, keys) == {ErrorCode.RECOVERY_NOT_OFFERED}
    assert keys.fewest == 5


def test_an_observer_can_neither_sign_nor_reveal(consortium: Consortium) -> None:
    readies, _ = consortium.meet(FOUR)
    context = consortium.context()
    del context["model_hash"], context["last_sum_hash"]
    watcher = observe_cohort(
        consortium.parties["site-5"],
        consortium.plan,
        readies,
        new_model_hash=NEW_MODEL,
        approved=consortium.approved,
        **context,
    )
    assert _both(consortium, watcher) == {ErrorCode.RECOVERY_NOT_OFFERED}
