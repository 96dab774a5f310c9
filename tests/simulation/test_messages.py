"""Is every message refused that is not exactly the next one, with a code and without a charge?"""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schemas import wire
from schemas.wire import CohortCall, Refusal, Result, SumTag, encode
from tests.support.by_hand import Hand, unharmed
from tests.support.consortium import memory_consortium


@pytest.fixture(scope="module")
def midway(tmp_path_factory) -> Hand:
    """Rounds 0 and 1 are done and their sums applied; round 2 comes next."""
    hand = Hand(memory_consortium(tmp_path_factory.mktemp("midway"), training={"retry_cap": 20}))
    hand.sums = [hand.play(0, 0)]
    hand.sums.append(hand.play(1, 0, previous=hand.sums[0]))
    for site in hand.everyone:  # a good sum is applied even if the cohort beside it is refused
        hand.refusal(site, hand.cohort((), 2, 0, previous=hand.sums[1]))
    return hand


def test_the_same_cohort_twice_is_refused(midway) -> None:
    attempt = midway.fresh()
    readies = midway.readies(2, attempt)
    call = midway.cohort(readies.values(), 2, attempt, previous=midway.sums[1])
    midway.upload("site-1", call)
    with unharmed(midway.consortium):
        assert midway.refusal("site-1", call) == "cohort.ready_stale"


def test_the_journal_refuses_a_repeated_attempt_even_if_memory_were_wrong(midway) -> None:
    consortium = midway.consortium
    attempt = midway.fresh()
    readies = midway.readies(2, attempt)
    session = consortium.rounds["site-1"]._sessions[consortium.digest]
    signed, secrets = session.issued["train"]
    call = midway.cohort(readies.values(), 2, attempt, previous=midway.sums[1])
    private = secrets.ephemeral()
    midway.upload("site-1", call)
    secrets._ephemeral = private  # as if the site had forgotten that the READY was used
    session.issued["train"] = (signed, secrets)
    with unharmed(consortium):
        assert midway.refusal("site-1", call) == "message.replayed"


def test_an_old_round_is_refused_and_the_outstanding_ready_stays_good(midway) -> None:
    attempt = midway.fresh()
    readies = midway.readies(2, attempt)
    old = midway.cohort(midway.sums[0].readies, 0, 0)
    old_second = midway.cohort(midway.sums[1].readies, 1, 0, previous=midway.sums[0])
    with unharmed(midway.consortium):
        assert midway.refusal("site-2", old) == "cohort.ready_stale"
        assert midway.refusal("site-2", old_second) == "message.out_of_order"
        assert midway.refusal("site-2", midway.open(0, 5)) == "attempt.spent"
    midway.upload("site-2", midway.cohort(readies.values(), 2, attempt, previous=midway.sums[1]))


def test_an_older_attempt_of_the_same_round_is_refused(midway) -> None:
    first, second = midway.fresh(), midway.fresh()
    older = midway.readies(2, first)
    newer = midway.readies(2, second)
    call = midway.cohort(older.values(), 2, first, previous=midway.sums[1])
    with unharmed(midway.consortium):
        assert midway.refusal("site-3", call) == "cohort.ready_stale"
    midway.upload("site-3", midway.cohort(newer.values(), 2, second, previous=midway.sums[1]))
    with unharmed(midway.consortium):
        assert midway.refusal("site-3", midway.open(2, first)) == "attempt.spent"
        assert midway.refusal("site-3", midway.open(2, second)) == "attempt.spent"


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda hand: hand.open(99, 0), "round.unknown"),
        (lambda hand: hand.open(1, 0, "evaluate"), "round.unknown"),
        (lambda hand: hand.open(0, 0, "evaluate"), "message.out_of_order"),
        (lambda hand: hand.cohort((), 0, 0, "evaluate"), "message.out_of_order"),
        (lambda hand: hand.close(hand.sums[1]), "message.out_of_order"),
        (lambda hand: hand.result(hand.sums[1]), "attempt.unknown"),
        (lambda hand: hand.cohort((), 2, 0), "sum.missing"),
        (lambda hand: hand.cohort((), 2, 0, previous=hand.sums[0]), "sum.missing"),
        (lambda hand: hand.cohort((), 0, 0, previous=hand.sums[0]), "message.malformed"),
        (lambda hand: encode(Refusal(code="plan.stopped")), "message.out_of_order"),
    ],
    ids=[
        "round beyond the plan",
        "second evaluation",
        "evaluation before the end",
        "evaluation cohort before the end",
        "close before the end",
        "result of nothing",
        "no sum",
        "sum of another round",
        "sum before the first round",
        "an answer sent as a request",
    ],
)
def test_messages_out_of_order_are_refused(midway, build, code) -> None:
    with unharmed(midway.consortium):
        assert midway.refusal("site-4", build(midway)) == code


def test_a_round_two_ahead_is_refused(tmp_path_factory) -> None:
    hand = Hand(memory_consortium(tmp_path_factory.mktemp("start")))
    with unharmed(hand.consortium):
        assert hand.refusal("site-1", hand.open(2, 0)) == "site.behind"


@pytest.mark.parametrize("by", [-4, -1, 1, 4])
def test_a_sum_of_wrong_length_is_refused(midway, by) -> None:
    attempt = midway.fresh()
    readies = midway.readies(2, attempt)
    blob = bytes(midway.sums[1].blob())
    bent = blob[:by] if by < 0 else blob + bytes(by)
    call = CohortCall(
        plan_digest=midway.consortium.digest,
        kind="train",
        round=2,
        attempt=attempt,
        readies=tuple(readies.values()),
        previous=midway.sums[1].tag(evidence=True),
    )
    with unharmed(midway.consortium):
        assert midway.refusal("site-4", encode(call, bent)) == "message.length_wrong"
        assert midway.refusal("site-4", encode(call, blob, blob)) == "sum.missing"


def test_sums_and_blobs_must_pair_up(midway) -> None:
    tag = SumTag(round=2, attempt=0, tag="00" * 8)
    request = wire.encode(
        wire.Open(
            plan_digest=midway.consortium.digest,
            kind="train",
            round=2,
            attempt=midway.fresh(),
            approvals=(),
            missing=(tag,),
        )
    )
    result = encode(Result(plan_digest=midway.consortium.digest, summed=tag))
    with unharmed(midway.consortium):
        assert midway.refusal("site-4", request) == "message.malformed"
        assert midway.refusal("site-4", result) == "message.malformed"


def header_with(request: bytes, old: bytes, new: bytes) -> bytes:
    """Replace text in a frame's header and put its length right."""
    (length,) = struct.unpack(">I", request[:4])
    header = request[4 : 4 + length]
    assert header.count(old) >= 1
    bent = header.replace(old, new, 1)
    return struct.pack(">I", len(bent)) + bent + request[4 + length :]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"version":1}', b'"version":2}', "document.version_unknown"),
        (b'"round":2,', b'"round":2,"skip_checks":true,', "document.field_unknown"),
        (b'"round":2,', b'"round":2,"round":2,', "document.duplicate_key"),
        (b'"round":2,', b'"round":-1,', "document.field_invalid"),
        (b'"round":2,', b'"round":2.0,', "document.field_invalid"),
        (b'"round":2,', b"", "document.field_missing"),
        (b'"round":2,', b'"round": 2,', "document.not_canonical"),
        (b'"open"', b'"shell"', "message.unknown"),
        (b'"kind":"train"', b'"kind":"debug"', "document.field_invalid"),
        (b'"open"', b'"op\xff\xfe"', "message.malformed"),
    ],
)
def test_a_header_outside_the_format_is_refused(midway, old, new, code) -> None:
    request = header_with(midway.open(2, midway.fresh()), old, new)
    with unharmed(midway.consortium):
        assert midway.refusal("site-1", request) == code


def test_an_oversized_message_is_refused_before_it_is_read(midway, monkeypatch) -> None:
    request = midway.open(2, midway.fresh())
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", len(request) - 1)
    with unharmed(midway.consortium):
        assert midway.refusal("site-1", request) == "message.oversized"


fuzz = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def target(midway):
    """A good COHORT of round 2 for site-1, and a function that makes its READY outstanding."""
    attempt = midway.fresh()
    readies = midway.readies(2, attempt, sites=["site-1", "site-2", "site-3"])
    # Without evidence: a site that was there checks the sum with its own keys and reads none.
    sum_ = midway.sums[1]
    previous = sum_.tag(evidence=False)
    raw = midway.cohort(readies.values(), 2, attempt, previous=sum_)
    call = wire.decode(raw, allowed=(CohortCall,)).header.model_copy(update={"previous": previous})
    session = midway.consortium.rounds["site-1"]._sessions[midway.consortium.digest]
    signed, secrets = session.issued["train"]
    key = secrets.ephemeral()

    def rearm() -> None:
        secrets._ephemeral = key
        session.issued["train"] = (signed, secrets)

    return encode(call, sum_.blob()), rearm


@fuzz
@given(position=st.integers(0, 2**20), bit=st.integers(0, 7))
def test_no_flipped_bit_in_a_cohort_gets_an_upload(midway, target, position, bit) -> None:
    raw, rearm = target
    # A sum already applied is known by its hash; the attempt beside it says nothing more.
    label = b'"previous":{"attempt":'
    assume(position % len(raw) != raw.index(label) + len(label))
    rearm()
    bent = bytearray(raw)
    bent[position % len(bent)] ^= 1 << bit
    with unharmed(midway.consortium, "site-1"):
        assert midway.refusal("site-1", bytes(bent)) != "internal.unexpected"


def test_the_message_that_was_flipped_is_good_without_the_flip(midway, target) -> None:
    raw, rearm = target
    rearm()
    update = midway.upload("site-1", raw)
    assert len(update.words) == midway.consortium.plan.model.parameters


@fuzz
@given(raw=st.binary(max_size=300))
def test_random_bytes_get_a_refusal(midway, raw) -> None:
    with unharmed(midway.consortium, "site-1"):
        assert midway.refusal("site-1", raw).startswith(("message.", "document."))
