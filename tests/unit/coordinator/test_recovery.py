"""Does a wrong answer in the recovery cost the attempt at most, and often not even that?

SECAGG-13 to -15 as the coordinator plays them: what it takes for an answer, and when it gives up.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.answers import read_confirmation, read_unmasking
from schemas.errors import CohortiumError
from schemas.secagg.messages import SurvivorList
from schemas.signing import Context, sign
from schemas.wire import (
    Close,
    CohortCall,
    Confirmation,
    Open,
    Result,
    SurvivorsCall,
    UnmaskCall,
    Unmasking,
    decode,
    encode,
)
from tests.support.by_hand import REPLIES
from tests.support.consortium import losing, memory_consortium
from tests.support.factories import recoverable
from tests.support.secure_sum import Consortium

HOUSE = Consortium.recoverable(4)
PLAN = HOUSE.plan
REQUESTS = (Open, CohortCall, SurvivorsCall, UnmaskCall, Close, Result)
ALL = ("site-1", "site-2", "site-3", "site-4")
THREE = ALL[:3]
LIST = SurvivorList(
    plan_digest=PLAN.digest(),
    round=3,
    attempt=1,
    transcript_hash="ab" * 32,
    uploads=dict.fromkeys(THREE, "cd" * 32),
)


def code_of(call, *arguments) -> str:
    with pytest.raises(CohortiumError) as refused:
        call(*arguments)
    return refused.value.code.value


def confirmation(signed=LIST, by="site-1", blobs=(), **changes):
    key = HOUSE.parties[by].identity
    values = {
        "plan_digest": PLAN.digest(),
        "round": 3,
        "attempt": 1,
        "site_id": "site-1",
        "signature": sign(key, Context.SURVIVORS, signed.canonical()),
    }
    return decode(encode(Confirmation(**{**values, **changes}), *blobs), allowed=(Confirmation,))


def test_a_survivors_own_signature_under_the_very_list_counts() -> None:
    frame = confirmation()
    assert read_confirmation(PLAN, "site-1", frame, LIST) == frame.header.signature


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (confirmation(plan_digest="ab" * 32), "message.out_of_order"),
        (confirmation(round=2), "message.out_of_order"),
        (confirmation(attempt=0), "message.out_of_order"),
        (confirmation(blobs=(b"x",)), "message.out_of_order"),
        (confirmation(site_id="site-2"), "message.other_site"),
        (confirmation(by="site-2"), "signature.invalid"),
        (confirmation(signed=LIST.model_copy(update={"attempt": 0})), "signature.invalid"),
        (confirmation(signature="00" * 64), "signature.invalid"),
    ],
)
def test_any_other_confirmation_does_not(frame, code) -> None:
    assert code_of(read_confirmation, PLAN, "site-1", frame, LIST) == code


def test_a_site_not_on_the_list_confirms_nothing() -> None:
    frame = confirmation(by="site-4", site_id="site-4")
    assert code_of(read_confirmation, PLAN, "site-4", frame, LIST) == "recovery.stranger"


def unmasking(**changes):
    values = {
        "plan_digest": PLAN.digest(),
        "round": 3,
        "attempt": 1,
        "site_id": "site-1",
        "shares": dict.fromkeys(THREE, "01" * 32),
        "seeds": {"site-4": "02" * 48},
    }
    return decode(encode(Unmasking(**{**values, **changes})), allowed=(Unmasking,))


def test_an_unmasking_is_read_when_it_is_about_survivors_and_lost() -> None:
    revealed = read_unmasking("site-1", unmasking(), LIST, ALL)
    assert (set(revealed.shares), set(revealed.seeds)) == (set(THREE), {"site-4"})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"attempt": 0}, "message.out_of_order"),
        ({"site_id": "site-2"}, "message.other_site"),
        ({"seeds": {}}, "message.malformed"),
        ({"seeds": {"site-3": "02" * 48}}, "message.malformed"),
        ({"shares": dict.fromkeys(ALL, "01" * 32)}, "message.malformed"),
        ({"shares": {}}, "message.malformed"),
    ],
)
def test_any_other_unmasking_is_not(changes, code) -> None:
    assert code_of(read_unmasking, "site-1", unmasking(**changes), LIST, ALL) == code


# -- through a whole study --------------------------------------------------------------------


@pytest.fixture
def consortium(tmp_path):
    terms = {"steps": 1, "average_from_step": 1, "retry_cap": 2}
    return memory_consortium(tmp_path, training=terms, **recoverable(1))


def bending(kind, bend, *, first=None, sites=("site-3",)):
    """Bend these sites' answers to one kind of request, in attempt 0 of training alone."""

    def fault(site, raw, honest):
        reply = honest(raw) if first is None else first(site, raw, honest)
        header = decode(raw, allowed=REQUESTS).header
        if reply is None or site not in sites or not isinstance(header, kind) or header.attempt:
            return reply
        frame = decode(reply, allowed=REPLIES)
        return encode(bend(frame.header))

    return fault


def changed(**fields):
    return lambda header: header.model_copy(update=fields)


def wrong_shares(header):
    return header.model_copy(update={"shares": dict.fromkeys(header.shares, "07" * 32)})


def attempts(consortium) -> list[tuple[int, str]]:
    return [(e[2], e[4]) for e in consortium.book.attempts if e[0] == "train"]


@pytest.mark.parametrize(
    ("kind", "bend"),
    [
        (SurvivorsCall, changed(signature="00" * 64)),
        (UnmaskCall, changed(site_id="site-1")),
        (UnmaskCall, wrong_shares),
    ],
    ids=["no signature", "another's answer", "wrong shares"],
)
def test_one_bad_answer_harms_nothing_while_nobody_is_lost(consortium, kind, bend) -> None:
    consortium.fault = bending(kind, bend)
    consortium.study_run().run()
    assert attempts(consortium) == [(0, "")]
    assert consortium.book.release is not None


@pytest.mark.parametrize(
    ("kind", "bend", "code"),
    [
        (SurvivorsCall, changed(signature="00" * 64), "signature.invalid"),
        (UnmaskCall, changed(seeds={}), "message.malformed"),
        (UnmaskCall, wrong_shares, "recovery.failed"),
    ],
    ids=["no signature", "no seed", "wrong shares"],
)
def test_one_bad_answer_beside_a_lost_site_voids_the_attempt(consortium, kind, bend, code) -> None:
    lost = losing("site-4", stage="upload", attempt=0)
    consortium.fault = bending(kind, bend, first=lost)
    consortium.study_run().run()
    assert attempts(consortium) == [(0, code), (1, "")]
    assert consortium.book.release is not None


def test_too_few_confirmations_void_the_attempt_and_nobody_is_asked_to_unmask(consortium) -> None:
    asked = []
    bend = bending(SurvivorsCall, changed(attempt=7), sites=("site-2", "site-3"))

    def fault(site, raw, honest):
        header = decode(raw, allowed=REQUESTS).header
        if isinstance(header, UnmaskCall):
            asked.append(header.attempt)
        return bend(site, raw, honest)

    consortium.fault = fault
    consortium.study_run().run()
    assert attempts(consortium) == [(0, "message.out_of_order"), (1, "")]
    assert set(asked) == {1}


def test_the_sum_of_survivors_names_them_to_every_site(consortium) -> None:
    consortium.fault = losing("site-4", stage="upload", attempt=0)
    consortium.study_run().run()
    [entry] = consortium.book.sums
    assert entry.tag(evidence=False).survivors == THREE
    assert replace(entry, survivors=()).tag(evidence=False).survivors == ()
