"""Does a site act on its own steward's word only, at every message?"""

from __future__ import annotations

import datetime as dt

import pytest

from schemas.governance.approval import Approval
from schemas.signing import Context, SignedDocument, open_signed, seal
from site_node import round as site_round
from tests.support.by_hand import Hand, unharmed
from tests.support.consortium import memory_consortium


@pytest.fixture(scope="module")
def partly(tmp_path_factory) -> Hand:
    """Three of four stewards approved; site-4's did not."""
    approve = ["site-1", "site-2", "site-3"]
    folder = tmp_path_factory.mktemp("partly")
    return Hand(memory_consortium(folder, approve=approve, training={"retry_cap": 3}))


def forged(hand: Hand, site: str, key) -> SignedDocument:
    """An approval in the name of a site, signed with some key."""
    other = hand.consortium.book.signed["site-1"]
    body = open_signed(
        other, Context.APPROVAL, Approval, expected_signer=None, max_bytes=2**16
    ).model_dump()
    peers = {name: "ab" * 32 for name in hand.everyone if name != site}
    approval = Approval(**{**body, "site_id": site, "peers": peers})
    return seal(key, Context.APPROVAL, approval)


def test_a_site_that_did_not_approve_refuses_every_message(partly) -> None:
    sites = ["site-1", "site-2", "site-3"]
    attempt = partly.fresh()
    readies = partly.readies(0, attempt, sites=sites)
    with unharmed(partly.consortium):
        assert partly.refusal("site-4", partly.open(0, attempt)) == "plan.unapproved"
        call = partly.cohort(readies.values(), 0, attempt)
        assert partly.refusal("site-4", call) == "plan.unapproved"


@pytest.mark.parametrize("key", ["own approval key, altered", "identity", "colluder", "vendor"])
def test_no_forged_approval_brings_an_unapproved_site_into_a_cohort(partly, key) -> None:
    from tests.support.factories import VENDOR

    consortium = partly.consortium
    keys = consortium.sites["site-4"].keys
    signer = {
        "own approval key, altered": keys.approval,
        "identity": keys.identity,
        "colluder": consortium.sites["site-1"].keys.approval,
        "vendor": VENDOR,
    }[key]
    fake = forged(partly, "site-4", signer)
    if key.startswith("own"):  # a real signature under a payload changed afterwards
        last = "B" if fake.payload[-5] == "A" else "A"
        fake = fake.model_copy(update={"payload": fake.payload[:-5] + last + fake.payload[-4:]})
    approvals = (*consortium.book.signed.values(), fake)
    attempt = partly.fresh()
    sites = ["site-1", "site-2", "site-3"]
    readies = partly.readies(0, attempt, sites=sites, approvals=approvals)
    stranger = readies["site-1"].ready.model_copy(
        update={"site_id": "site-4", "ephemeral_key": "09" + "00" * 31}
    )
    call = partly.cohort((*readies.values(), partly.resign(stranger)), 0, attempt)
    with unharmed(consortium):
        for site in sites:
            assert partly.refusal(site, call) == "cohort.member_unapproved"


def test_a_cohort_is_refused_while_approvals_are_withheld(partly) -> None:
    attempt = partly.fresh()
    sites = ["site-1", "site-2", "site-3"]
    readies = partly.readies(0, attempt, sites=sites, approvals=())
    call = partly.cohort(readies.values(), 0, attempt)
    with unharmed(partly.consortium):
        assert partly.refusal("site-1", call) == "cohort.member_unapproved"


def test_a_plan_nobody_here_knows_is_refused(partly) -> None:
    with unharmed(partly.consortium):
        request = partly.open(0, 0, plan_digest="ab" * 32)
        assert partly.refusal("site-1", request) == "plan.unknown"


def test_a_stop_takes_effect_at_the_next_message(consortium) -> None:
    hand = Hand(consortium)
    readies = hand.readies(0, 0)
    consortium.sites["site-2"].approvals.stop(consortium.digest)
    with unharmed(consortium):
        call = hand.cohort(readies.values(), 0, 0)
        assert hand.refusal("site-2", call) == "plan.stopped"
        assert hand.refusal("site-2", hand.open(0, 1)) == "plan.stopped"


def test_a_stop_during_the_computation_keeps_the_upload_back(consortium, monkeypatch) -> None:
    hand = Hand(consortium)
    readies = hand.readies(0, 0)
    honest = site_round.masked_upload

    def stop_then_mask(keys, vector, **more):
        if keys.site_id == "site-2":
            consortium.sites["site-2"].approvals.stop(consortium.digest)
        return honest(keys, vector, **more)

    monkeypatch.setattr(site_round, "masked_upload", stop_then_mask)
    call = hand.cohort(readies.values(), 0, 0)
    assert hand.refusal("site-2", call) == "egress.stopped"
    site = consortium.sites["site-2"]
    assert site.db.rows("SELECT * FROM released WHERE kind = 'masked-update'") == []
    assert consortium.charged("site-2") == 1  # it was computed: it stays charged


def test_a_stop_after_the_gate_still_keeps_the_objects_off_the_manifest(consortium) -> None:
    from schemas.errors import PolicyDenied

    hand = Hand(consortium)
    readies = hand.readies(0, 0)
    released = consortium.rounds["site-2"].answer(hand.cohort(readies.values(), 0, 0))
    site = consortium.sites["site-2"]
    site.approvals.stop(consortium.digest)
    with pytest.raises(PolicyDenied) as denied:
        site.gate.manifest(released, [])
    assert denied.value.code == "egress.stopped"


def test_an_expired_plan_is_refused_in_mid_study(consortium) -> None:
    hand = Hand(consortium)
    first = hand.play(0, 0)
    readies = hand.readies(1, 0)
    consortium.calendar.now = dt.datetime(2027, 11, 20, tzinfo=dt.UTC)
    with unharmed(consortium):
        call = hand.cohort(readies.values(), 1, 0, previous=first)
        assert hand.refusal("site-1", call) == "plan.expired"
        assert hand.refusal("site-1", hand.open(1, 1)) == "plan.expired"
        assert hand.refusal("site-1", hand.close(first)) == "plan.expired"


def test_a_floor_tightened_after_the_approval_stops_the_rounds(consortium) -> None:
    hand = Hand(consortium)
    readies = hand.readies(0, 0)
    settings = consortium.sites["site-1"].home / "site.toml"
    text = settings.read_text()
    assert "minimum_cohort = 3\n" in text
    settings.write_text(text.replace("minimum_cohort = 3\n", "minimum_cohort = 4\n"))
    consortium.restart("site-1")
    with unharmed(consortium):
        call = hand.cohort(readies.values(), 0, 0)
        assert hand.refusal("site-1", call) == "floor.cohort_minimum"
