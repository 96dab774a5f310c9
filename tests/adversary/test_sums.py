"""Altered and scaled sums: can the coordinator decide what model comes out?"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from coordinator.rounds import RoundSum
from schemas.errors import ErrorCode, ProtocolError
from schemas.secagg import add_masked, coordinator, masking, recovery
from schemas.secagg.field import PRIME
from schemas.secagg.keys import Attempt
from schemas.secagg.masking import MaskedSum, check_sum
from site_node import session as site_session
from site_node.governance.journal import Journal
from site_node.standing import Standing
from tests.support.attacks import VICTIM, Attack
from tests.support.by_hand import bent_sums, with_words
from tests.support.consortium import memory_consortium
from tests.support.mutants import without
from tests.support.secure_sum import Consortium, summed, vectors_of

MEMBERS = ("site-1", "site-2", "site-3")
ABSENT = "site-4"


@pytest.fixture(scope="module")
def after_one(tmp_path_factory) -> Attack:
    """Round 0 is summed and no site has seen the sum; site-4 was not in it."""
    folder = tmp_path_factory.mktemp("summed")
    attack = Attack(memory_consortium(folder, training={"retry_cap": 20}))
    attack.first = attack.play(0, 0, sites=MEMBERS)
    return attack


@pytest.fixture
def tried(after_one, monkeypatch) -> Iterator[Attack]:
    """The same, but a step that is taken is not kept, and taken back when the test is over."""
    monkeypatch.setattr(Journal, "save_state", lambda *_: None)
    sessions = {
        site: rounds._sessions[after_one.consortium.digest]
        for site, rounds in after_one.consortium.rounds.items()
    }
    before = {site: session.standing for site, session in sessions.items()}
    yield after_one
    for site, session in sessions.items():
        session.standing = before[site]


def show(attack: Attack, site: str, entry: RoundSum) -> bytes:
    """The message in which a sum reaches a site: a member by COHORT, the absent by OPEN."""
    if site == ABSENT:
        return attack.open(2, 0, missing=[entry])
    return attack.cohort((), 1, 0, previous=entry)


def stepped(attack: Attack, site: str) -> bool:
    """Whether a site took a step, as far as its memory knows."""
    return attack.consortium.rounds[site]._sessions[attack.consortium.digest].standing.rounds == 1


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


@pytest.mark.parametrize("site", [VICTIM, ABSENT], ids=["member", "absent"])
@pytest.mark.parametrize(("how", "code"), KINDS)
def test_a_bent_sum_is_refused(after_one, site, how, code) -> None:
    bent = bent_sums(after_one.first)[how]
    assert after_one.refused(site, show(after_one, site, bent)) == code


def without_one(attack: Attack) -> RoundSum:
    """The sum as if site-3 had never sent."""
    uploads = dict(attack.uploads["train", 0, 0])
    del uploads["site-3"]
    return replace(attack.first, summed=add_masked(uploads, sorted(uploads)))


@pytest.mark.parametrize("site", [VICTIM, ABSENT], ids=["member", "absent"])
def test_a_sum_with_an_upload_left_out_is_refused(after_one, site) -> None:
    request = show(after_one, site, without_one(after_one))
    assert after_one.refused(site, request) == "sum.altered"


@pytest.mark.parametrize("site", [VICTIM, ABSENT], ids=["member", "absent"])
def test_without_the_tag_the_coordinator_writes_the_model(tried, monkeypatch, site) -> None:
    monkeypatch.setattr(
        site_session,
        "check_sum",
        lambda keys, entry, **_: entry.words.view(np.int32).astype(np.int64),
    )
    chosen = np.full(len(tried.first.summed.words), 7 << 20, dtype=np.uint32)
    tried.ask(site, show(tried, site, with_words(tried.first, chosen)))
    assert stepped(tried, site)


def homogeneous(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag as first proposed: the inner product, and no offset."""
    monkeypatch.setattr(masking, "tag_offset", lambda *_: 0)


@pytest.mark.parametrize(
    "how", ["doubled with its tag", "negated with its tag", "zeroed with its tag"]
)
def test_without_the_offset_multiples_of_a_sum_are_sums(tried, monkeypatch, how) -> None:
    """(0, 0), (-S, -T) and (2S, 2T): the model stands still, goes backwards, or overshoots."""
    homogeneous(monkeypatch)
    again = tried.play(0, tried.fresh(), sites=MEMBERS)
    tried.ask(VICTIM, show(tried, VICTIM, bent_sums(again)[how]))
    assert stepped(tried, VICTIM)


# -- whose sum it is said to be --------------------------------------------------------------


def said_to_be_of_two(attack: Attack) -> bytes:
    """The true sum, with fewer contributors named beside it than the cohort has."""
    return show(attack, ABSENT, replace(attack.first, survivors=MEMBERS[:2]))


def test_in_atomic_mode_a_sum_is_of_the_whole_cohort(after_one, monkeypatch) -> None:
    assert after_one.refused(ABSENT, said_to_be_of_two(after_one)) == "recovery.too_few"
    without(monkeypatch, recovery.contributors_of, "_too_few")
    assert after_one.refused(ABSENT, said_to_be_of_two(after_one)) == "sum.altered"


@pytest.fixture(scope="module")
def six() -> Consortium:
    return Consortium.recoverable(6)


def six_fifths(six: Consortium) -> tuple[object, MaskedSum]:
    """A sum of five, scaled to pass as one of six, for the member that was said to be lost.

    The coordinator reads sums of training: it waits for one that five divides.
    """
    readies, keys = six.meet()
    vectors = {site: 5 * vector for site, vector in vectors_of(keys, 20).items()}
    total = six.recover(readies, keys, vectors, lost=["site-6"])
    words = total.words.view(np.int32).astype(np.int64) // 5 * 6
    tag = total.tag * 6 * pow(5, -1, PRIME) % PRIME
    return keys["site-6"], MaskedSum(words.astype(np.uint32), tag)


def test_a_sum_of_five_scaled_to_one_of_six_is_refused(six) -> None:
    keys, scaled = six_fifths(six)
    with pytest.raises(ProtocolError) as error:
        check_sum(keys, scaled, contributors=recovery.contributors_of(keys, ()))
    assert error.value.code is ErrorCode.SUM_ALTERED


def test_with_one_offset_for_all_sites_such_a_sum_would_pass(six, monkeypatch) -> None:
    """Whoever names the contributors then chooses the factor."""
    honest = masking.tag_offset
    monkeypatch.setattr(masking, "tag_offset", lambda group, length, _: honest(group, length, "x"))
    keys, scaled = six_fifths(six)
    opened = check_sum(keys, scaled, contributors=recovery.contributors_of(keys, ()))
    assert np.array_equal(opened, scaled.words.view(np.int32))


# -- length ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [-4, -1, 1, 4])
def test_a_sum_of_wrong_length_is_refused(after_one, by) -> None:
    request = show(after_one, VICTIM, after_one.first)
    blob = bytes(after_one.first.blob())
    bent = request[: len(request) - len(blob)] + (blob[:by] if by < 0 else blob + bytes(by))
    code = after_one.refused(VICTIM, resized(bent, len(blob), len(blob) + by))
    assert code == "message.length_wrong"


def resized(frame: bytes, old: int, new: int) -> bytes:
    """Put the blob's length in a frame's header right."""
    (length,) = struct.unpack(">I", frame[:4])
    header = frame[4 : 4 + length].replace(b'"blobs":[%d]' % old, b'"blobs":[%d]' % new)
    return struct.pack(">I", len(header)) + header + frame[4 + length :]


def test_without_the_length_check_the_tag_still_knows_the_length(after_one, monkeypatch) -> None:
    without(monkeypatch, coordinator.words_from_bytes, ErrorCode.MESSAGE_LENGTH_WRONG)
    words = np.append(after_one.first.summed.words, np.uint32(0))
    request = show(after_one, VICTIM, with_words(after_one.first, words))
    assert after_one.refused(VICTIM, request) == "sum.altered"


@pytest.fixture(scope="module")
def three() -> Consortium:
    return Consortium.of(3)


def longer_and_shorter(three: Consortium) -> tuple:
    """One sum whose last word is zero: cut there, or padded."""
    keys = three.keys()
    vectors = vectors_of(keys, 20)
    vectors["site-3"][-1] = -vectors["site-1"][-1] - vectors["site-2"][-1]
    total = summed(keys, vectors)
    padded = MaskedSum(np.append(total.words, np.uint32(0)), total.tag)
    return keys[VICTIM], MaskedSum(total.words[:-1], total.tag), padded


def test_a_sum_cut_or_padded_by_zeros_is_refused_by_its_tag(three) -> None:
    keys, *bent = longer_and_shorter(three)
    for entry in bent:
        with pytest.raises(ProtocolError) as error:
            check_sum(keys, entry)
        assert error.value.code is ErrorCode.SUM_ALTERED


def test_without_the_length_in_the_tag_zeros_come_and_go(three, monkeypatch) -> None:
    for name in ("tag_secret", "tag_offset"):
        honest = getattr(masking, name)
        one = lambda group, _, *site, of=honest: of(group, 1, *site)  # noqa: E731
        monkeypatch.setattr(masking, name, one)
    keys, short, long = longer_and_shorter(three)
    assert (len(check_sum(keys, short)), len(check_sum(keys, long))) == (19, 21)


# -- two true sums ---------------------------------------------------------------------------


def step(attack: Attack) -> None:
    """Let the victim take the step of round 0."""
    attack.ask(VICTIM, show(attack, VICTIM, attack.first))
    assert stepped(attack, VICTIM)


def another(attack: Attack) -> bytes:
    """Another sum of round 0, by other hospitals, as good as the first."""
    other = attack.play(0, attack.fresh(), sites=("site-2", "site-3", "site-4"))
    return attack.cohort((), 1, 0, previous=other)


def test_a_second_true_sum_of_a_round_is_refused(tried) -> None:
    step(tried)
    assert tried.refused(VICTIM, another(tried)) == "sum.mismatch"


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every sum for the one that is still missing."""
    monkeypatch.setattr(Standing, "expects", lambda *_: True)


def test_behind_that_rule_the_tag_is_bound_to_the_model_before_the_sum(tried, monkeypatch) -> None:
    step(tried)
    forgetful(monkeypatch)
    assert tried.refused(VICTIM, another(tried)) == "sum.altered"


def test_without_both_one_round_moves_one_hospitals_model_twice(tried, monkeypatch) -> None:
    step(tried)
    forgetful(monkeypatch)
    honest = Attempt.info
    blank = {"new_model_hash": "00" * 32}
    monkeypatch.setattr(Attempt, "info", lambda self: honest(replace(self, **blank)))
    tried.ask(VICTIM, another(tried))
    assert tried.consortium.rounds[VICTIM]._sessions[tried.consortium.digest].standing.rounds == 2
