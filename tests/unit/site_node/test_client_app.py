"""Does only what the egress gate released become an answer, and is it listed before it is sent?"""

from __future__ import annotations

import pytest

from schemas.errors import ErrorCode, InternalError, PolicyDenied
from schemas.wire import ReadyReply, Refusal, decode
from site_node.egress.released import Released
from site_node.flower.client_app import ClientApp
from site_node.flower.executor import OutgoingObject, OutgoingReply
from tests.support.by_hand import Hand
from tests.support.consortium import memory_consortium

OBJECTS = [OutgoingObject("aa" * 32, "aa" * 32, 10), OutgoingObject("bb" * 32, "bb" * 32, 20)]


@pytest.fixture
def hand(tmp_path) -> Hand:
    return Hand(memory_consortium(tmp_path, n_sites=3))


@pytest.fixture
def app(hand) -> ClientApp:
    return ClientApp(hand.consortium.sites["site-1"])


def test_an_answer_carries_its_release(hand, app) -> None:
    reply = app.handle(hand.open(0, 0))
    assert isinstance(reply.reference, Released)
    assert reply.body == reply.reference.body
    assert isinstance(decode(reply.body, allowed=(ReadyReply,)).header, ReadyReply)


def test_a_refusal_carries_its_release(app) -> None:
    reply = app.refuse(ErrorCode.BUNDLE_UNKNOWN)
    assert isinstance(reply.reference, Released)
    assert decode(reply.body, allowed=(Refusal,)).header == Refusal(code="bundle.unknown")


def test_every_object_of_an_answer_is_listed_and_nothing_else(hand, app) -> None:
    manifest = hand.consortium.sites["site-1"].manifest
    reply = app.handle(hand.open(0, 0))
    assert not manifest.is_listed("aa" * 32)
    app.register(reply, OBJECTS)
    assert manifest.is_listed("aa" * 32)
    assert manifest.is_listed("bb" * 32)
    assert not manifest.is_listed("cc" * 32)


@pytest.mark.parametrize("reference", [None, b"bytes", object()])
def test_an_answer_without_a_release_is_not_listed(hand, app, reference) -> None:
    with pytest.raises(InternalError) as refused:
        app.register(OutgoingReply(b"body", reference), OBJECTS)
    assert refused.value.code is ErrorCode.EGRESS_NOT_LISTED
    assert not hand.consortium.sites["site-1"].manifest.is_listed("aa" * 32)


def test_an_answer_is_not_listed_after_a_stop(hand, app) -> None:
    site = hand.consortium.sites["site-1"]
    reply = app.handle(hand.open(0, 0))
    app.register(reply, OBJECTS[:1])
    site.approvals.stop(hand.consortium.digest)
    with pytest.raises(PolicyDenied) as refused:
        app.register(reply, OBJECTS[1:])
    assert refused.value.code is ErrorCode.EGRESS_STOPPED
    assert not site.manifest.is_listed("aa" * 32)  # listed before, held back since
    app.register(app.refuse(ErrorCode.PLAN_STOPPED), OBJECTS[1:])  # a code may still leave
    assert site.manifest.is_listed("bb" * 32)
