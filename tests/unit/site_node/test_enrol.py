"""Enrolment: an invite for this site, and an answer that fits the request to the byte."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from schemas.errors import CohortiumError, ErrorCode, TransportError
from schemas.identity import open_enrolment
from site_node import enrol
from site_node.context import SiteContext
from tests.support.enrolled import PEM, Authority, answering
from tests.support.sites import TestClock


@pytest.fixture
def authority() -> Authority:
    return Authority()


def test_a_whole_enrolment(
    site: SiteContext, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = answering(monkeypatch, authority.answer)
    record, recording = enrol.enrol(site, authority.invite())
    request, card = open_enrolment(seen[0])
    assert (request.invite_code, card.site_id) == ("ABCDEFGHJKLMNPQRSTUV", "site-1")
    assert enrol.read_enrolment(site) == record
    assert recording.event.event == "site.enrolled"
    assert (site.folders.keys / enrol.AUTHORITY).read_text() == authority.pem
    with pytest.raises(CohortiumError) as caught:
        enrol.enrol(site, authority.invite())
    assert caught.value.code is ErrorCode.ENROLMENT_EXISTS


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"site_id": "site-2"}, ErrorCode.INVITE_OTHER_SITE),
        ({"expires": "2026-11-22T18:00:00Z"}, ErrorCode.INVITE_EXPIRED),
        ({"ca_sha256": "ab" * 32}, ErrorCode.INVITE_INVALID),
    ],
)
def test_a_wrong_invite_is_refused_before_anything_is_sent(
    site: SiteContext,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    code: ErrorCode,
) -> None:
    seen = answering(monkeypatch, authority.answer)
    with pytest.raises(CohortiumError) as caught:
        enrol.enrol(site, authority.invite(**changed))
    assert caught.value.code is code
    assert seen == []


def test_a_broken_invite_file_is_refused(site: SiteContext) -> None:
    with pytest.raises(CohortiumError) as caught:
        enrol.enrol(site, b"not an invite")
    assert caught.value.code is ErrorCode.INVITE_INVALID


def test_an_answer_that_does_not_fit_keeps_nothing(
    site: SiteContext, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Authority("another")
    other_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    other_certificate = authority.sign(authority.name, other_key).public_bytes(PEM).decode()
    for answer in (
        stranger.answer,
        lambda csr: authority.answer(csr, ca_pem=stranger.pem),
        lambda csr: authority.answer(csr, site_id="site-2"),
        lambda csr: authority.answer(csr, certificate_pem=other_certificate),
        lambda _csr: b"{}",
    ):
        answering(monkeypatch, answer)
        with pytest.raises(CohortiumError) as caught:
            enrol.enrol(site, authority.invite())
        assert caught.value.code is ErrorCode.ENROLMENT_RESPONSE_INVALID
    assert not site.folders.enrolment.exists()
    assert not (site.folders.keys / enrol.CERTIFICATE).exists()


def test_an_unreachable_coordinator_is_a_transport_error(
    site: SiteContext, authority: Authority, clock: TestClock
) -> None:
    with pytest.raises(TransportError) as caught:
        enrol.enrol(site, authority.invite())
    assert caught.value.code is ErrorCode.TRANSPORT_UNREACHABLE


def test_a_refusal_carries_the_coordinators_code() -> None:
    error = enrol._refusal(b'{"code": "invite.used", "title": "x"}')
    assert error.code is ErrorCode.INVITE_USED
    for odd in (b"", b"[]", b'{"code": "new.code"}'):
        assert enrol._refusal(odd).code is ErrorCode.ENROLMENT_RESPONSE_INVALID
