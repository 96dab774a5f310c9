"""Does a failure inside the computation leave as a code, and never with what it says?"""

from __future__ import annotations

import io
import logging

import pytest

from schemas.errors import DataRejected, ErrorCode, InternalError
from schemas.wire import Refusal, decode
from site_node.egress.released import Released
from site_node.flower.client_app import ClientApp
from site_node.flower.executor import OutgoingObject, OutgoingReply, _Worker
from site_node.logs import configure_logs
from site_node.training import dp_sgd
from tests.support.by_hand import Hand
from tests.support.consortium import BUNDLE

PATIENT = "Kim Minjun 900101-1234567"
NEEDLES = ("Kim", "Minjun", "900101", "1234567")


class Settings:
    """What the edge asks of the executor's settings."""

    deadline_seconds = 60.0

    @staticmethod
    def allowed_bundles() -> frozenset[str]:
        return frozenset({BUNDLE})


@pytest.fixture
def edge(consortium):
    """The executor's edge around one site, and the hand that drives the other three."""
    app = ClientApp(consortium.sites["site-1"])
    worker = _Worker(Settings(), None, None, None, app.handle, app.register, app.refuse)

    def answer(body: bytes | ErrorCode, bundle: str = BUNDLE) -> OutgoingReply | None:
        return worker._answer(bundle, body)

    consortium.rounds["site-1"] = app._rounds
    return Hand(consortium), answer, app


def raising(error: Exception):
    def fail(*_args, **_more):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError(PATIENT), "internal.unexpected"),
        (KeyError(PATIENT), "internal.unexpected"),
        (MemoryError(PATIENT), "internal.unexpected"),
        (RuntimeError(PATIENT), "internal.unexpected"),
        (
            DataRejected(ErrorCode.FEATURES_INVALID, "A row is wrong.", detail=PATIENT),
            "training.features_invalid",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_only_the_code_of_a_failure_leaves(edge, monkeypatch, caplog, error, code) -> None:
    hand, answer, _ = edge
    readies = hand.readies(0, 0)
    monkeypatch.setattr(dp_sgd, "clipped_integer_sum", raising(error))
    with caplog.at_level(logging.DEBUG):
        reply = answer(hand.cohort(readies.values(), 0, 0))
    assert reply is not None
    frame = decode(reply.body, allowed=(Refusal,))
    assert frame.header == Refusal(code=code)
    said = caplog.text + hand.consortium.log.getvalue()
    written = b"".join(
        path.read_bytes()
        for path in hand.consortium.sites["site-1"].home.rglob("*")
        if path.is_file()
    )
    for needle in NEEDLES:
        assert needle.encode() not in reply.body
        assert needle.encode() not in written
        assert needle not in said
    assert hand.consortium.charged("site-1") == 1  # it was opened: it stays charged


def test_the_study_goes_on_after_a_failure(edge, monkeypatch) -> None:
    hand, answer, _ = edge
    readies = hand.readies(0, 0)
    with monkeypatch.context() as patched:
        patched.setattr(dp_sgd, "clipped_integer_sum", raising(ValueError(PATIENT)))
        answer(hand.cohort(readies.values(), 0, 0))
    hand.play(0, 1)
    assert hand.consortium.charged("site-1") == 2


def test_the_operational_log_holds_only_listed_keys(edge, monkeypatch) -> None:
    hand, answer, _ = edge
    readies = hand.readies(0, 0)
    stream = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    configure_logs("site-1", "executor", stream)
    try:
        monkeypatch.setattr(dp_sgd, "clipped_integer_sum", raising(ValueError(PATIENT)))
        answer(hand.cohort(readies.values(), 0, 0))
    finally:
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger().setLevel(before[1])
    assert "executor.unexpected" in stream.getvalue()
    assert not any(needle in stream.getvalue() for needle in NEEDLES)


def test_a_good_answer_passes_the_same_edge(edge) -> None:
    hand, answer, app = edge
    readies = hand.readies(0, 0)
    reply = answer(hand.cohort(readies.values(), 0, 0))
    assert reply is not None
    assert isinstance(reply.reference, Released)
    app.register(reply, [OutgoingObject("aa" * 32, "aa" * 32, len(reply.body))])
    assert hand.consortium.sites["site-1"].manifest.is_listed("aa" * 32)


def test_an_answer_that_did_not_pass_the_gate_is_never_listed(edge) -> None:
    hand, _, app = edge
    with pytest.raises(InternalError) as refused:
        app.register(OutgoingReply(body=b"anything"), [])
    assert refused.value.code is ErrorCode.EGRESS_NOT_LISTED
    assert hand.consortium.sites["site-1"].db.rows("SELECT * FROM manifest") == []


def test_another_bundle_is_refused_before_the_message_is_read(edge) -> None:
    _, answer, _ = edge
    reply = answer(b"anything", bundle="ab" * 32)
    assert reply is not None
    assert decode(reply.body, allowed=(Refusal,)).header == Refusal(code="bundle.unknown")


def test_pieces_that_made_no_message_are_answered_with_their_code(edge) -> None:
    _, answer, _ = edge
    reply = answer(ErrorCode.PIECES_CHANGED)
    assert reply is not None
    assert decode(reply.body, allowed=(Refusal,)).header == Refusal(code="message.pieces_changed")


def test_nothing_at_all_leaves_if_the_refusal_cannot_be_written(edge, monkeypatch) -> None:
    hand, answer, _ = edge
    monkeypatch.setattr(dp_sgd, "clipped_integer_sum", raising(ValueError(PATIENT)))
    readies = hand.readies(0, 0)
    hand.consortium.sites["site-1"].db._connection().execute("PRAGMA query_only = ON")
    assert answer(hand.cohort(readies.values(), 0, 0)) is None
