"""Does one site's wrong answer cost an attempt at most, and never the coordinator's bookkeeping?"""

from __future__ import annotations

import pytest

from coordinator.rounds import StudyEnded
from schemas.signing import Context, seal
from schemas.wire import (
    Close,
    CohortCall,
    Final,
    FinalReply,
    Open,
    ReadyReply,
    Result,
    Upload,
    decode,
    encode,
)
from tests.support.by_hand import REPLIES, Hand
from tests.support.consortium import memory_consortium

REQUESTS = (Open, CohortCall, Close, Result)
SHORT = {"training": {"steps": 2, "average_from_step": 1, "retry_cap": 3}}


@pytest.fixture
def consortium(tmp_path):
    return memory_consortium(tmp_path, **SHORT)


def bending(bend, *, times: int = 1, site: str = "site-4"):
    """Let one site's answers pass through `bend(request header, reply frame)`, a few times."""
    left = [times]

    def fault(name, request, honest):
        reply = honest(request)
        if name != site or not left[0]:
            return reply
        asked = decode(request, allowed=REQUESTS).header
        bent = bend(asked, decode(reply, allowed=REPLIES))
        if bent is None:
            return reply
        left[0] -= 1
        return bent

    return fault


def outcomes(consortium) -> list[tuple[int, int, str]]:
    return [(e[1], e[2], e[4]) for e in consortium.book.attempts if e[0] == "train"]


@pytest.mark.parametrize(
    ("change", "blob", "code"),
    [
        ({"tag": "f" * 16}, None, "sum.vector_shape"),
        ({"round": 1}, None, "message.out_of_order"),
        ({"attempt": 9}, None, "message.out_of_order"),
        ({"kind": "evaluate"}, None, "message.out_of_order"),
        ({"plan_digest": "ab" * 32}, None, "message.out_of_order"),
        ({}, b"", "message.length_wrong"),
        ({}, bytes(24), "message.length_wrong"),
    ],
)
def test_a_wrong_upload_voids_the_attempt_and_no_more(consortium, change, blob, code) -> None:
    def bend(asked, frame):
        if not isinstance(frame.header, Upload):
            return None
        header = frame.header.model_copy(update=change)
        return encode(header, *(frame.blobs if blob is None else (blob,)))

    consortium.fault = bending(bend)
    consortium.study_run().run()
    assert outcomes(consortium) == [(0, 0, code), (0, 1, ""), (1, 0, "")]
    assert consortium.book.release is not None


def test_noise_instead_of_an_answer_voids_the_attempt(consortium) -> None:
    consortium.fault = bending(
        lambda asked, frame: b"\xff" * 40 if isinstance(frame.header, Upload) else None
    )
    consortium.study_run().run()
    assert outcomes(consortium)[0] == (0, 0, "message.malformed")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"attempt": 999_999}, "cohort.round_mismatch"),
        ({"round": 1}, "cohort.round_mismatch"),
        ({"site_id": "site-3"}, "message.other_site"),
        ({"plan_digest": "ab" * 32}, "cohort.plan_mismatch"),
        ({"model_hash": "ab" * 32}, "signature.invalid"),
    ],
)
def test_a_wrong_ready_leaves_that_site_out_and_spoils_no_attempt(consortium, change, code) -> None:
    hand = Hand(consortium)
    waits = []
    consortium.book.note_waits = lambda reasons: waits.append(dict(reasons))

    def bend(asked, frame):
        if not isinstance(frame.header, ReadyReply) or asked.kind != "train":
            return None
        signed = frame.header.ready
        ready = signed.ready.model_copy(update=change)
        bent = signed.model_copy(update={"ready": ready})
        if code != "signature.invalid" and ready.site_id == "site-4":
            bent = hand.resign(signed.ready, **change)
        return encode(ReadyReply(ready=bent))

    consortium.fault = bending(bend, times=99)
    consortium.study_run().run()
    assert waits[0] == {"site-4": code}
    assert all(len(entry[3]) == 3 for entry in consortium.book.attempts if entry[0] == "train")
    assert {entry[4] for entry in consortium.book.attempts} == {""}


def test_a_wrong_ready_beside_a_good_upload_is_asked_for_again(consortium) -> None:
    hand = Hand(consortium)

    def bend(asked, frame):
        if not isinstance(frame.header, Upload) or frame.header.next_ready is None:
            return None
        bent = hand.resign(frame.header.next_ready.ready, attempt=999_999)
        return encode(frame.header.model_copy(update={"next_ready": bent}), *frame.blobs)

    consortium.fault = bending(bend)
    consortium.study_run().run()
    assert outcomes(consortium) == [(0, 0, ""), (1, 0, "")]
    assert len(consortium.book.attempts[1][3]) == 4


def test_a_signature_on_another_final_model_does_not_count(consortium) -> None:
    key = consortium.sites["site-4"].keys.identity
    waits = []
    consortium.book.note_waits = lambda reasons: waits.append(dict(reasons))

    def bend(asked, frame):
        if not isinstance(frame.header, FinalReply):
            return None
        own = Final.model_validate_json(frame.header.final.payload_bytes())
        bent = own.model_copy(update={"model_hash": "ab" * 32})
        return encode(FinalReply(final=seal(key, Context.FINAL, bent)))

    consortium.fault = bending(bend, times=99)
    consortium.study_run().run()
    assert set(consortium.book.signed_finals) == {"site-1", "site-2", "site-3"}
    assert set(consortium.book.release[1]) == {"site-1", "site-2", "site-3"}
    assert {"site-4": "round.state_mismatch"} in waits


def test_a_final_signed_by_another_site_does_not_count(consortium) -> None:
    stolen = []

    def fault(site, request, honest):
        reply = honest(request)
        header = decode(reply, allowed=REPLIES).header
        if isinstance(header, FinalReply):
            stolen.append(reply)
            return stolen[0]
        return reply

    consortium.fault = fault
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code == "study.quorum_lost"
    assert set(consortium.book.signed_finals) == {"site-1"}


def test_a_site_that_signs_the_release_differently_withholds_it(consortium) -> None:
    run = consortium.study_run()
    consortium.fault = bending(
        lambda asked, frame: None if not isinstance(asked, Result) else b"\x00" * 8, times=1
    )
    run.run()
    evaluations = [entry for entry in consortium.book.attempts if entry[0] == "evaluate"]
    assert len(evaluations) == 2  # one more, with the identical sites
    assert evaluations[0][3] == evaluations[1][3]


def test_a_study_without_enough_approvals_ends_before_it_begins(consortium) -> None:
    for site in ("site-3", "site-4"):
        consortium.book.signed.pop(site)
    with pytest.raises(StudyEnded) as ended:
        consortium.study_run().run()
    assert ended.value.code == "study.quorum_lost"
    assert consortium.book.attempts == []


def test_a_site_that_comes_late_is_waited_for_at_the_first_round(consortium) -> None:
    consortium.offline.add("site-4")

    def sleep(seconds: float) -> None:
        consortium.clock += seconds
        if consortium.clock > 5:
            consortium.offline.discard("site-4")

    consortium.study_run(sleep=sleep).run()
    assert len(consortium.book.attempts[0][3]) == 4


def test_a_site_that_never_comes_is_not_waited_for_for_ever(consortium) -> None:
    consortium.offline.add("site-4")
    consortium.study_run().run()
    assert {entry[3] for entry in consortium.book.attempts} == {("site-1", "site-2", "site-3")}
    assert consortium.clock >= 30.0
