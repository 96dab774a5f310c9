"""Peers: cards by file, confirmed by people, substituted keys refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ErrorCode, TrustError
from schemas.identity import fingerprint, fingerprint_words, open_card, seal_card
from site_node.context import SiteContext, create_site
from site_node.enrol import own_card
from site_node.governance.audit import AuditWord
from tests.support.factories import make_card, make_keys, sealed_card
from tests.support.sites import TestClock, introduce


def refused(code: ErrorCode) -> pytest.RaisesExc[TrustError]:
    return pytest.RaisesExc(TrustError, check=lambda error: error.code is code)


def test_an_imported_card_counts_only_once_confirmed(site: SiteContext) -> None:
    keys = make_keys()
    peer, _ = site.peers.import_card(sealed_card("site-9", keys).canonical())
    assert peer.confirmed_at is None
    mark = fingerprint(make_card("site-9", keys))
    confirmed, recording = site.peers.confirm("site-9", mark.upper()[:32] + " " + mark[32:])
    assert confirmed.confirmed_at is not None
    assert recording.event.event == AuditWord.PEER_CONFIRMED.value
    assert peer.words == fingerprint_words(mark)


def test_a_wrong_fingerprint_does_not_confirm(site: SiteContext) -> None:
    keys = make_keys()
    site.peers.import_card(sealed_card("site-9", keys).canonical())
    mark = fingerprint(make_card("site-9", keys))
    for wrong in (mark[:-1] + ("0" if mark[-1] != "0" else "1"), mark[:16], "",
                  fingerprint_words(mark)):  # fmt: skip
        with refused(ErrorCode.FINGERPRINT_MISMATCH):
            site.peers.confirm("site-9", wrong)
    peer = site.peers.get("site-9")
    assert peer is not None
    assert peer.confirmed_at is None


def test_an_unknown_hospital_cannot_be_confirmed(site: SiteContext) -> None:
    with refused(ErrorCode.PEER_UNKNOWN):
        site.peers.confirm("site-9", "00" * 32)


def test_a_second_card_needs_to_be_asked_for_and_confirmed_again(
    site: SiteContext, tmp_path: Path, clock: TestClock
) -> None:
    changed = sealed_card("site-2", make_keys()).canonical()
    with refused(ErrorCode.PEER_EXISTS):
        site.peers.import_card(changed)
    peer, _ = site.peers.import_card(changed, replace=True)
    assert peer.confirmed_at is None


def test_the_same_card_again_keeps_its_confirmation(sites: list[SiteContext]) -> None:
    introduce(sites[0], sites[1], confirm=False)
    peer = sites[0].peers.get("site-2")
    assert peer is not None
    assert peer.confirmed_at is not None


def test_the_own_card_and_broken_cards_are_refused(site: SiteContext) -> None:
    with refused(ErrorCode.CARD_SITE_MISMATCH):
        site.peers.import_card(own_card(site).canonical())
    with refused(ErrorCode.CARD_INVALID):
        site.peers.import_card(b"{}")
    card = sealed_card("site-9", make_keys())
    forged = card.model_copy(update={"signature": "00" * 64})
    with refused(ErrorCode.CARD_INVALID):
        site.peers.import_card(forged.canonical())


def test_a_card_that_differs_in_its_kem_key_alone_must_be_confirmed_anew(
    sites: list[SiteContext],
) -> None:
    card = open_card(own_card(sites[1]))
    other = make_keys().kem.public_key().public_bytes_raw().hex()
    changed = seal_card(sites[1].keys.identity, card.model_copy(update={"kem_key": other}))
    with refused(ErrorCode.PEER_EXISTS):
        sites[0].peers.import_card(changed.canonical())
    peer, _ = sites[0].peers.import_card(changed.canonical(), replace=True)
    assert peer.confirmed_at is None
    with refused(ErrorCode.FINGERPRINT_MISMATCH):
        sites[0].peers.confirm("site-2", fingerprint(card))


def test_a_card_changed_in_the_database_is_refused(sites: list[SiteContext]) -> None:
    site = sites[0]
    other = sealed_card("site-2", make_keys()).canonical()
    with site.db.write() as connection:
        connection.execute("UPDATE peers SET card = ? WHERE site_id = 'site-2'", (other,))
    with refused(ErrorCode.CARD_INVALID):
        site.peers.get("site-2")


def test_the_own_card_keeps_its_fingerprint(tmp_path: Path, clock: TestClock) -> None:
    site = create_site(tmp_path / "x", "site-7", "Hospital", clock)
    first = own_card(site)
    clock.forward(days=3)
    assert own_card(site) == first
