"""SECAGG-10, -13, -15: the coordinator adds exactly the cohort's updates, or the survivors'."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.secagg import shamir
from schemas.secagg.coordinator import (
    add_masked,
    check_confirmation,
    recover_sum,
    sum_hash,
    upload_hash,
    words_from_bytes,
    words_to_bytes,
)
from schemas.secagg.field import PRIME
from schemas.secagg.keys import frame
from schemas.secagg.masking import CohortKeys, MaskedSum, MaskedUpdate, check_sum, mask
from schemas.secagg.messages import SignedReady, SurvivorList, UploadHash
from schemas.secagg.recovery import Revealed
from tests.support.secure_sum import Consortium, vectors_of


def update(*words: int, tag: int = 0) -> MaskedUpdate:
    return MaskedUpdate(np.array(words, dtype=np.uint32), tag)


def test_words_wrap_at_32_bits_and_tags_at_the_prime() -> None:
    uploads = {"a": update(2**32 - 1, 5, tag=PRIME - 1), "b": update(3, 6, tag=2)}
    total = add_masked(uploads, ("a", "b"))
    assert total.words.tolist() == [2, 11]
    assert total.words.dtype == np.uint32
    assert total.tag == 1


@pytest.mark.parametrize("roster", [("a",), ("a", "b", "c"), ("a", "c"), ("a", "b", "b"), ()])
def test_any_other_set_of_sites_is_refused(roster: tuple[str, ...]) -> None:
    """SECAGG-10: exactly the members contribute."""
    with pytest.raises(ProtocolError) as refused:
        add_masked({"a": update(1), "b": update(2)}, roster)
    assert refused.value.code is ErrorCode.ATTEMPT_SITE_LEFT


@pytest.mark.parametrize("bad", [update(1), update(1, 2, tag=PRIME), update(1, 2, tag=-1)])
def test_update_of_another_form_is_refused(bad: MaskedUpdate) -> None:
    with pytest.raises(ProtocolError) as refused:
        add_masked({"a": update(1, 2), "b": bad}, ("a", "b"))
    assert refused.value.code is ErrorCode.VECTOR_SHAPE
    assert refused.value.detail == "b"


def test_uploads_are_left_as_they_came() -> None:
    uploads = {"a": update(1), "b": update(2)}
    add_masked(uploads, ("a", "b"))
    assert uploads["a"].words.tolist() == [1]


def test_words_travel_as_four_bytes_little_endian() -> None:
    words = np.array([1, 0xDEADBEEF], dtype=np.uint32)
    assert words_to_bytes(words).hex() == "01000000efbeadde"
    assert np.array_equal(words_from_bytes(words_to_bytes(words), 2), words)


@pytest.mark.parametrize("raw", [b"", bytes(7), bytes(9), bytes(12)])
def test_words_of_another_length_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        words_from_bytes(raw, 2)
    assert refused.value.code is ErrorCode.MESSAGE_LENGTH_WRONG


def test_words_are_looked_at_and_not_copied() -> None:
    """A vector of 400 MB is held once; nobody can change what others look at."""
    raw = bytes(range(8))
    words = words_from_bytes(raw, 2)
    with pytest.raises(ValueError, match="read-only"):
        words[0] = 7
    shown = words_to_bytes(words)
    assert shown == raw
    assert np.shares_memory(np.frombuffer(shown, np.uint8), words)


def test_hash_covers_words_and_tag() -> None:
    def hashed(words: list[int], tag: int) -> str:
        return sum_hash(MaskedSum(np.array(words, dtype=np.uint32), tag))

    assert len({hashed([1, 2], 3), hashed([1, 3], 3), hashed([1, 2], 4), hashed([1], 3)}) == 4
    assert hashed([1, 2], 3) == hashed([1, 2], 3)


def test_a_sum_hash_is_that_of_one_frame() -> None:
    """SECAGG-10: how sites name a sum."""
    words = np.arange(100_003, dtype=np.uint32)
    parts = (b"cohortium/v2/secagg/sum", (7).to_bytes(8, "little"), words.tobytes())
    assert sum_hash(MaskedSum(words, 7)) == hashlib.sha256(frame(parts)).hexdigest()


# --- recovering a sum (SECAGG-15) -----------------------------------------------------------


@dataclass(slots=True)
class Answered:
    """A recoverable attempt of seven sites up to the answers to UNMASK."""

    consortium: Consortium
    readies: list[SignedReady]
    keys: dict[str, CohortKeys]
    vectors: dict[str, NDArray[np.int64]]
    uploads: dict[str, MaskedUpdate]
    revealed: dict[str, Revealed]

    def recover(self, revealed: dict[str, Revealed] | None = None) -> MaskedSum:
        given = self.revealed if revealed is None else revealed
        return recover_sum(self.consortium.plan, self.readies, self.uploads, given)

    def is_right(self, total: MaskedSum) -> bool:
        plain = sum(self.vectors[site] for site in self.uploads)
        got = check_sum(self.keys["site-1"], total, contributors=tuple(self.uploads))
        return np.array_equal(got, plain)

    def without(self, *sites: str) -> dict[str, Revealed]:
        return {site: answer for site, answer in self.revealed.items() if site not in sites}

    def with_wrong_shares(self, answers: dict[str, Iterable[str]]) -> dict[str, Revealed]:
        """Let each named site lie about its shares of the named others."""
        changed = dict(self.revealed)
        for liar, owners in answers.items():
            shares = dict(changed[liar].shares)
            for owner in owners:
                value = shamir.read_element(bytes.fromhex(shares[owner]))
                shares[owner] = shamir.write_element((value + 1) % shamir.PRIME).hex()
            changed[liar] = replace(changed[liar], shares=shares)
        return changed


SEVEN = tuple(f"site-{i}" for i in range(1, 8))


def answered(lost: Iterable[str] = ()) -> Answered:
    consortium = Consortium.recoverable(7, maximum_dropouts=2)
    readies, keys = consortium.meet()
    vectors = vectors_of(keys, 33)
    uploads = {site: mask(keys[site], vectors[site]) for site in keys}
    for site in lost:
        del uploads[site]
    revealed = consortium.unmask(keys, consortium.confirm(keys, uploads))
    return Answered(consortium, readies, keys, vectors, uploads, revealed)


@pytest.fixture(scope="module")
def whole() -> Answered:
    return answered()


@pytest.fixture(scope="module")
def short() -> Answered:
    """Five of seven survive: exactly tau."""
    return answered(("site-2", "site-6"))


def recovery_refused(
    call: Callable[[], object], kind: type[CohortiumError] = ProtocolError
) -> CohortiumError:
    with pytest.raises(kind) as refused:
        call()
    return refused.value


def test_a_recovered_sum_is_the_survivors_sum(whole: Answered, short: Answered) -> None:
    """SECAGG-15: self-masks and the masks shared with the lost come off."""
    assert whole.is_right(whole.recover())
    assert short.is_right(short.recover())


def test_a_recovery_leaves_the_uploads_as_they_came(short: Answered) -> None:
    before = {site: upload.words.copy() for site, upload in short.uploads.items()}
    short.recover()
    assert all(np.array_equal(short.uploads[site].words, before[site]) for site in before)


def test_nobody_lost_any_tau_answers_suffice(whole: Answered) -> None:
    """SECAGG-15: tau shares give a secret."""
    assert whole.consortium.plan.survivor_threshold == 5
    assert whole.is_right(whole.recover(whole.without("site-1", "site-7")))
    assert whole.is_right(whole.recover(whole.without("site-3", "site-4")))
    failed = recovery_refused(lambda: whole.recover(whole.without("site-1", "site-2", "site-3")))
    assert failed.code is ErrorCode.RECOVERY_FAILED


@pytest.mark.parametrize("silent", ["site-1", "site-7"])
def test_somebody_lost_every_survivor_must_answer(silent: str) -> None:
    """Six of seven: five answers give every self-mask, and still not the silent one's seed."""
    attempt = answered(("site-4",))
    assert attempt.is_right(attempt.recover())
    failed = recovery_refused(lambda: attempt.recover(attempt.without(silent)))
    assert (failed.code, failed.detail) == (ErrorCode.RECOVERY_FAILED, silent)


@pytest.mark.parametrize("liar", SEVEN)
def test_a_wrong_share_is_noticed_and_left_out(whole: Answered, liar: str) -> None:
    """Whoever lies, about one or about all: five good shares are found among seven."""
    assert whole.is_right(whole.recover(whole.with_wrong_shares({liar: ["site-4"]})))
    assert whole.is_right(whole.recover(whole.with_wrong_shares({liar: SEVEN})))


def test_liars_about_different_sites_are_left_out_one_by_one(whole: Answered) -> None:
    wrong = whole.with_wrong_shares({"site-1": ["site-1", "site-2"], "site-3": ["site-5"]})
    assert whole.is_right(whole.recover(wrong))


def test_a_liar_found_once_is_asked_last(whole: Answered) -> None:
    """Lies of two about one site are survived if one of them was caught before."""
    caught = {"site-1": ["site-1", "site-5"], "site-2": ["site-5"]}
    assert whole.is_right(whole.recover(whole.with_wrong_shares(caught)))


def test_two_liars_about_one_site_are_too_many(whole: Answered) -> None:
    wrong = whole.with_wrong_shares({"site-1": ["site-5"], "site-2": ["site-5"]})
    failed = recovery_refused(lambda: whole.recover(wrong))
    assert (failed.code, failed.detail) == (ErrorCode.RECOVERY_FAILED, "site-5")


@pytest.mark.parametrize("liar", ["site-1", "site-7"])
def test_with_tau_answers_a_wrong_share_is_noticed(short: Answered, liar: str) -> None:
    """No share is left over: the attempt is void rather than a wrong sum."""
    failed = recovery_refused(lambda: short.recover(short.with_wrong_shares({liar: ["site-3"]})))
    assert (failed.code, failed.detail) == (ErrorCode.RECOVERY_FAILED, "site-3")


@pytest.mark.parametrize("spelled", ["", "00" * 31, "ff" * 32, "zz" * 32, None])
def test_a_malformed_share_is_no_share(whole: Answered, spelled: str | None) -> None:
    shares = {**whole.revealed["site-1"].shares, "site-4": spelled}
    if spelled is None:
        del shares["site-4"]
    answers = {**whole.revealed, "site-1": Revealed(shares, {})}
    assert whole.is_right(whole.recover(answers))


@pytest.mark.parametrize("seed", ["", "00" * 47, "zz" * 48, None])
def test_a_malformed_seed_is_no_seed(short: Answered, seed: str | None) -> None:
    seeds = {**short.revealed["site-3"].seeds, "site-6": seed}
    if seed is None:
        del seeds["site-6"]
    answers = {**short.revealed, "site-3": replace(short.revealed["site-3"], seeds=seeds)}
    failed = recovery_refused(lambda: short.recover(answers))
    assert (failed.code, failed.detail) == (ErrorCode.RECOVERY_FAILED, "site-3")


def test_a_wrong_seed_makes_a_sum_that_no_site_accepts(short: Answered) -> None:
    seeds = {**short.revealed["site-3"].seeds, "site-6": "00" * 48}
    answers = {**short.revealed, "site-3": replace(short.revealed["site-3"], seeds=seeds)}
    total = short.recover(answers)
    assert recovery_refused(lambda: short.is_right(total)).code is ErrorCode.SUM_ALTERED


def test_an_exchanged_upload_makes_a_sum_that_no_site_accepts(short: Answered) -> None:
    uploads = {**short.uploads, "site-1": short.uploads["site-3"]}
    total = recover_sum(short.consortium.plan, short.readies, uploads, short.revealed)
    assert recovery_refused(lambda: short.is_right(total)).code is ErrorCode.SUM_ALTERED


def test_a_commitment_that_fits_no_secret_is_noticed(whole: Answered) -> None:
    ready = whole.readies[3].ready.model_copy(update={"self_mask_commitment": "77" * 32})
    altered = SignedReady(ready=ready, signature="00" * 64)
    readies = [*whole.readies[:3], altered, *whole.readies[4:]]
    plan, uploads, revealed = whole.consortium.plan, whole.uploads, whole.revealed
    failed = recovery_refused(lambda: recover_sum(plan, readies, uploads, revealed))
    assert (failed.code, failed.detail) == (ErrorCode.RECOVERY_FAILED, "site-4")


def test_survivors_that_do_not_fit_cohort_and_plan_are_refused(
    whole: Answered, short: Answered
) -> None:
    plan, readies, revealed = whole.consortium.plan, whole.readies, whole.revealed
    four = {site: whole.uploads[site] for site in SEVEN[:4]}
    stranger = {**whole.uploads, "site-9": whole.uploads["site-1"]}
    bad_form = {**whole.uploads, "site-2": update(1, 2)}
    heard = {**short.revealed, "site-2": short.revealed["site-1"]}
    cases = [
        (lambda: recover_sum(plan, readies, four, {}), ErrorCode.SURVIVORS_TOO_FEW),
        (lambda: recover_sum(plan, readies, {}, {}), ErrorCode.SURVIVORS_TOO_FEW),
        (lambda: recover_sum(plan, readies, stranger, revealed), ErrorCode.SURVIVORS_STRANGER),
        (lambda: recover_sum(plan, readies, bad_form, revealed), ErrorCode.VECTOR_SHAPE),
        (lambda: short.recover(heard), ErrorCode.SURVIVORS_STRANGER),
        (lambda: recover_sum(plan, [], whole.uploads, revealed), ErrorCode.RECOVERY_NOT_OFFERED),
    ]
    for call, code in cases:
        assert recovery_refused(call).code is code


def test_only_recoverable_training_is_recovered(whole: Answered) -> None:
    atomic = Consortium.of(4)
    readies, keys = atomic.meet()
    uploads = {site: mask(keys[site], np.arange(3)) for site in keys}
    blind = [signed for signed, _ in whole.consortium.issue_all(kind="evaluate").values()]
    for call in (
        lambda: recover_sum(atomic.plan, readies, uploads, {}),
        lambda: recover_sum(whole.consortium.plan, blind, whole.uploads, {}),
    ):
        assert recovery_refused(call).code is ErrorCode.RECOVERY_NOT_OFFERED


# --- naming uploads, checking confirmations (SECAGG-13) -------------------------------------


def test_an_upload_has_one_hash_however_its_words_pass() -> None:
    words = np.arange(70_001, dtype=np.uint32)
    sent = UploadHash(len(words))
    for start in range(0, len(words), 999):
        sent.update(words_to_bytes(words[start : start + 999]))
    tag = PRIME - 3
    parts = (b"cohortium/v2/secagg/upload", words.tobytes(), tag.to_bytes(8, "little"))
    expected = hashlib.sha256(frame(parts)).hexdigest()
    assert sent.finish(tag) == upload_hash(MaskedUpdate(words, tag)) == expected


def test_an_upload_hash_covers_words_order_and_tag() -> None:
    """SECAGG-13: how an upload is named."""
    hashes = {upload_hash(update(*words, tag=tag)) for words in ((1, 2), (2, 1)) for tag in (0, 1)}
    assert len(hashes | {upload_hash(update(1)), upload_hash(update(1, 2, 0))}) == 6


@pytest.mark.parametrize("words", [0, 1, 3])
def test_an_upload_hash_takes_exactly_the_announced_words(words: int) -> None:
    sent = UploadHash(2)
    sent.update(bytes(4 * words))
    with pytest.raises(ValueError, match="exactly"):
        sent.finish(0)


def test_a_site_and_the_coordinator_name_an_upload_alike(short: Answered) -> None:
    for site, sent in short.uploads.items():
        assert short.keys[site].recovery().upload_hash == upload_hash(sent)


def _listed(attempt: Answered) -> SurvivorList:
    own = attempt.keys["site-1"].attempt
    return SurvivorList(
        plan_digest=own.plan_digest,
        round=own.round,
        attempt=own.attempt,
        transcript_hash=own.transcript_hash,
        uploads={site: upload_hash(sent) for site, sent in attempt.uploads.items()},
    )


def test_a_confirmation_is_checked_against_the_list(short: Answered) -> None:
    plan, listed = short.consortium.plan, _listed(short)
    signed = short.consortium.confirm(short.keys, short.uploads)
    for site, signature in signed.items():
        check_confirmation(plan, listed, site, signature)
    other = listed.model_copy(update={"round": 4})
    for call in (
        lambda: check_confirmation(plan, other, "site-1", signed["site-1"]),
        lambda: check_confirmation(plan, listed, "site-1", signed["site-3"]),
        lambda: check_confirmation(plan, listed, "site-1", "00" * 64),
        lambda: check_confirmation(plan, listed, "site-1", "garbage"),
    ):
        assert recovery_refused(call, TrustError).code is ErrorCode.SIGNATURE_INVALID
    for stranger in ("site-2", "site-9"):
        failed = recovery_refused(
            lambda who=stranger: check_confirmation(plan, listed, who, signed["site-1"])
        )
        assert failed.code is ErrorCode.SURVIVORS_STRANGER
