"""Does no site ever step with a sum that is not the sum of what the cohort sent?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas.models import state_hash
from schemas.secagg.coordinator import add_masked
from schemas.secagg.field import PRIME, coefficients, inner_product
from schemas.secagg.keys import KEY_BYTES
from schemas.secagg.masking import MaskedSum, tag_secret
from schemas.secagg.streams import Keystream
from site_node import session as site_session
from tests.support.by_hand import Hand, bent_sums, unharmed, with_words
from tests.support.consortium import memory_consortium

KINDS = [
    ("one word altered", "sum.altered"),
    ("words swapped", "sum.altered"),
    ("doubled with its tag", "sum.altered"),
    ("negated with its tag", "sum.altered"),
    ("zeroed with its tag", "sum.altered"),
    ("zeroed", "sum.altered"),
    ("tag altered", "sum.altered"),
    ("tag beyond the field", "sum.malformed"),
]


@pytest.fixture(scope="module")
def after_one(tmp_path_factory) -> Hand:
    """Round 0 is summed and no site has seen the sum; site-4 was not in it."""
    folder = tmp_path_factory.mktemp("one")
    hand = Hand(memory_consortium(folder, training={"retry_cap": 8}))
    hand.first = hand.play(0, 0, sites=["site-1", "site-2", "site-3"])
    return hand


@pytest.mark.parametrize(("how", "code"), KINDS)
def test_a_bent_sum_is_refused_by_a_member(after_one, how, code) -> None:
    bent = bent_sums(after_one.first)[how]
    call = after_one.cohort((), 1, 0, previous=bent)
    with unharmed(after_one.consortium):
        assert after_one.refusal("site-1", call) == code


@pytest.mark.parametrize(("how", "code"), KINDS)
def test_a_bent_sum_is_refused_by_a_site_that_was_away(after_one, how, code) -> None:
    bent = bent_sums(after_one.first)[how]
    request = after_one.open(2, 0, missing=[bent])
    with unharmed(after_one.consortium):
        assert after_one.refusal("site-4", request) == code


def test_a_sum_with_one_upload_left_out_is_refused(after_one) -> None:
    uploads = dict(after_one.uploads["train", 0, 0])
    uploads.pop("site-3")
    partial = replace(after_one.first, summed=add_masked(uploads, sorted(uploads)))
    with unharmed(after_one.consortium):
        call = after_one.cohort((), 1, 0, previous=partial)
        assert after_one.refusal("site-1", call) == "sum.altered"


def test_a_single_upload_passed_off_as_the_sum_is_refused(after_one) -> None:
    upload = after_one.uploads["train", 0, 0]["site-2"]
    single = replace(after_one.first, summed=MaskedSum(upload.words, upload.tag))
    with unharmed(after_one.consortium):
        call = after_one.cohort((), 1, 0, previous=single)
        assert after_one.refusal("site-1", call) == "sum.altered"


def test_evidence_of_another_attempt_does_not_vouch_for_the_sum(after_one) -> None:
    readies = after_one.readies(0, 3, sites=["site-1", "site-2", "site-3"])
    other = replace(after_one.first, attempt=3, readies=tuple(readies.values()))
    with unharmed(after_one.consortium):
        for site in ("site-1", "site-4"):
            request = after_one.open(2, 0, missing=[other])
            assert after_one.refusal(site, request) == "sum.altered"


def test_too_small_a_cohort_does_not_vouch_for_a_sum(after_one) -> None:
    few = replace(after_one.first, readies=after_one.first.readies[:2])
    with unharmed(after_one.consortium):
        request = after_one.open(2, 0, missing=[few])
        assert after_one.refusal("site-4", request) == "cohort.too_small"


def test_a_second_different_sum_of_the_round_is_refused(consortium) -> None:
    hand = Hand(consortium)
    first = hand.play(0, 0)
    readies = hand.readies(1, 0)
    hand.upload("site-1", hand.cohort(readies.values(), 1, 0, previous=first))
    other = bent_sums(first)["one word altered"]
    hand.readies(1, 1)
    with unharmed(consortium):
        call = hand.cohort(readies.values(), 1, 1, previous=other)
        assert hand.refusal("site-1", call) == "sum.mismatch"


def test_a_bent_last_sum_is_refused_at_the_close(tmp_path) -> None:
    hand = Hand(memory_consortium(tmp_path, training={"steps": 2, "average_from_step": 1}))
    sums = hand.train()
    with unharmed(hand.consortium):
        for how, code in KINDS:
            assert hand.refusal("site-2", hand.close(bent_sums(sums[-1])[how])) == code
    assert len(hand.finals(sums[-1])) == 4


def two_true_sums(hand: Hand) -> tuple:
    """Pretend that an upload was lost, keep the sum all the same, and let the round be repeated."""
    return hand.play(0, 0), hand.play(0, 1)


def test_sites_shown_different_true_sums_never_step_again(consortium) -> None:
    """Both sums carry a valid tag; sites that applied different ones share no masks any more."""
    hand = Hand(consortium)
    kept, repeated = two_true_sums(hand)
    shown = {s: kept if s in ("site-1", "site-2") else repeated for s in hand.everyone}
    garbage = hand.play_split(1, 0, shown)
    uploads = hand.uploads["train", 1, 0]
    with unharmed(consortium):
        for site in hand.everyone:
            call = hand.cohort((), 2, 0, previous=garbage)
            assert hand.refusal(site, call) == "sum.altered"
    # Nor does a part of the uploads open: the two halves' masks do not cancel.
    for half in (("site-1", "site-2"), ("site-3", "site-4")):
        part = add_masked({site: uploads[site] for site in half}, half)
        entry = replace(garbage, summed=part)
        with unharmed(consortium):
            call = hand.cohort((), 2, 0, previous=entry)
            assert hand.refusal(half[0], call) == "sum.altered"
    # A retry of the round is as fruitless: the sites sign the same past and mask with another.
    again = hand.play_split(1, 1, shown)
    with unharmed(consortium):
        for site in hand.everyone:
            call = hand.cohort((), 2, 0, previous=again)
            assert hand.refusal(site, call) == "sum.altered"
    assert {consortium.standing(site).rounds for site in hand.everyone} == {1}
    assert {consortium.charged(site) for site in hand.everyone} == {4}


def colluders_forgery(hand: Hand, entry) -> object:
    """A sum bent with a valid tag, as the coordinator and one site together can make it."""
    digest = hand.consortium.digest
    keys = hand.consortium.rounds["site-4"]._sessions[digest].keys["train"][2]
    length = len(entry.summed.words)
    a = coefficients(Keystream(tag_secret(keys.group(), length)[:KEY_BYTES]).words64(length))
    shift = np.zeros(length, dtype=np.int64)
    shift[0] = 12345
    words = (entry.summed.words.astype(np.int64) + shift) % 2**32
    tag = (entry.summed.tag + inner_product(a, shift)) % PRIME
    return replace(entry, summed=MaskedSum(words.astype(np.uint32), tag))


def test_a_forgery_with_a_colluding_site_splits_the_models_and_then_nothing_opens(
    consortium,
) -> None:
    """The tag protects against the coordinator, not its colluder; the masks do the rest."""
    hand = Hand(consortium)
    first = hand.play(0, 0)
    forged = colluders_forgery(hand, first)
    shown = {site: forged if site == "site-1" else first for site in hand.everyone}
    garbage = hand.play_split(1, 0, shown)
    assert consortium.standing("site-1").model_hash != consortium.standing("site-2").model_hash
    with unharmed(consortium):
        for site in hand.everyone:
            call = hand.cohort((), 2, 0, previous=garbage)
            assert hand.refusal(site, call) == "sum.altered"


def test_without_the_tag_check_an_altered_sum_would_be_applied(consortium, monkeypatch) -> None:
    """The check is needed: without it the coordinator writes the model."""
    hand = Hand(consortium)
    first = hand.play(0, 0)
    before = state_hash(consortium.rounds["site-1"]._sessions[consortium.digest].standing.state)
    chosen = with_words(first, np.full(len(first.summed.words), 7 << 20, dtype=np.uint32))
    with unharmed(consortium):
        call = hand.cohort((), 1, 0, previous=chosen)
        assert hand.refusal("site-1", call) == "sum.altered"
    monkeypatch.setattr(
        site_session,
        "check_sum",
        lambda keys, summed, **_: summed.words.view(np.int32).astype(np.int64),
    )
    hand.refusal("site-1", hand.cohort((), 1, 0, previous=chosen))
    assert consortium.standing("site-1").rounds == 1
    assert consortium.standing("site-1").model_hash != before
