"""Does a study with ML-KEM-768 in every pair root run to its end, and stop where it must?"""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ErrorCode
from schemas.governance.approval import Approval
from schemas.secagg.keys import pair_root
from schemas.signing import Context, SignedDocument, seal
from tests.support.by_hand import Hand, unharmed
from tests.support.consortium import MemoryConsortium, losing, memory_consortium
from tests.support.factories import HYBRID, recoverable

TERMS: dict[str, Any] = {
    "aggregation": {"pair_root": HYBRID},
    "training": {"steps": 2, "average_from_step": 1},
}


@pytest.fixture
def consortium(tmp_path) -> MemoryConsortium:
    return memory_consortium(tmp_path, n_sites=3, **TERMS)


def session_of(consortium: MemoryConsortium, site: str) -> Any:
    return consortium.rounds[site]._sessions[consortium.digest]


def bend(consortium: MemoryConsortium, site: str, **changes: Any) -> SignedDocument:
    """What a steward's machine would send if it were broken or in league with somebody."""
    approvals = consortium.sites[site].approvals
    own = approvals.own_approval(consortium.digest)
    assert own is not None
    changed = Approval(**{**own.model_dump(), **changes})
    return seal(consortium.sites[site].keys.approval, Context.APPROVAL, changed)


def test_a_hybrid_study_runs_to_its_result(consortium) -> None:
    """SECAGG-16, end to end: also through a restart in the middle, and one lost attempt."""
    calls = []

    def restart_once(site, request, honest):
        calls.append(site)
        if len(calls) == 5:  # the second hospital, between its READY and the first cohort
            consortium.restart("site-2")
        return honest(request)

    consortium.fault = restart_once
    consortium.study_run().run()
    assert consortium.book.release is not None
    trained = [entry for entry in consortium.book.attempts if entry[0] == "train"]
    assert [entry[4] for entry in trained].count("") == 2
    assert len(trained) == 3
    states = {site.journal.load_state(consortium.digest) for site in consortium.sites.values()}
    assert len(states) == 1


def test_a_hybrid_study_in_recoverable_mode_survives_a_loss(tmp_path) -> None:
    """Shares of self-masks are sealed under the same roots, and the lost pair seeds open."""
    terms = recoverable(1)
    terms["aggregation"]["pair_root"] = HYBRID
    consortium = memory_consortium(tmp_path, training={"steps": 1, "average_from_step": 1}, **terms)
    consortium.fault = losing("site-2", stage="upload", round_=0)
    consortium.study_run().run()
    assert consortium.book.release is not None
    trained = [entry for entry in consortium.book.attempts if entry[0] == "train"]
    assert [(entry[1], entry[2], entry[4]) for entry in trained] == [(0, 0, "")]
    states = {site.journal.load_state(consortium.digest) for site in consortium.sites.values()}
    assert len(states) == 1


def test_no_root_is_what_x25519_alone_would_give(consortium) -> None:
    """SECAGG-16: who breaks X25519 alone, later, holds no root and opens no recorded traffic."""
    Hand(consortium).readies(0, 0)
    digest, plan = consortium.digest, consortium.plan
    first, second = (session_of(consortium, site) for site in ("site-1", "site-2"))
    assert first.kem_secrets["site-2"] == second.kem_secrets["site-1"]
    party = first.party
    key = plan.site("site-2").study_key
    full = pair_root(party.study, key, digest, "site-1", "site-2", party.kem_secrets["site-2"])
    assert full != pair_root(party.study, key, digest, "site-1", "site-2")


def test_an_approval_that_arrives_late_completes_the_next_attempt(consortium) -> None:
    """All later sites get their secrets with it; nothing but the approval has to be sent again."""
    late = consortium.book.signed.pop("site-1")
    hand = Hand(consortium)
    early = hand.readies(0, 0, sites=["site-2", "site-3"])
    assert set(early["site-3"].ready.group_shares) == {"site-2", "site-3"}
    assert set(session_of(consortium, "site-3").kem_secrets) == {"site-2", "site-3"}
    consortium.book.signed["site-1"] = late
    hand.play(1, 0, previous=hand.play(0, 1))
    assert set(session_of(consortium, "site-3").kem_secrets) == set(consortium.plan.site_ids)
    assert {consortium.standing(site).rounds for site in consortium.sites} == {1}


@pytest.mark.parametrize("bent", ["another pair's", "one bit"])
def test_a_wrong_ciphertext_shuts_the_pair_out_of_one_cohort(consortium, bent) -> None:
    """Signed by its steward, so it is that hospital's doing: the other refuses its share."""
    own = consortium.sites["site-1"].approvals.own_approval(consortium.digest)
    good = dict(own.encapsulations)
    wrong = {
        "another pair's": good["site-3"],
        "one bit": good["site-2"][:-1] + f"{int(good['site-2'][-1], 16) ^ 1:x}",
    }[bent]
    bad = bend(consortium, "site-1", encapsulations={**good, "site-2": wrong})
    hand = Hand(consortium)
    honest = tuple(consortium.book.signed.values())
    shown = {"site-1": honest, "site-2": (bad, *honest[1:]), "site-3": honest}
    readies = {}
    for site, approvals in shown.items():
        readies |= hand.readies(0, 0, sites=[site], approvals=approvals)
    call = hand.cohort(readies.values(), 0, 0)
    with unharmed(consortium, "site-1", "site-2"):
        assert hand.refusal("site-2", call) == ErrorCode.COHORT_SHARE_INVALID.value
        assert hand.refusal("site-1", call) == ErrorCode.COHORT_SHARE_INVALID.value


def test_an_approval_without_ciphertexts_does_not_count(consortium) -> None:
    """Its hospital is treated as one that has not approved: no member, and no weaker root."""
    hand = Hand(consortium)
    readies = hand.readies(0, 0)
    without = bend(consortium, "site-1", encapsulations={})
    others = tuple(signed for site, signed in consortium.book.signed.items() if site != "site-1")
    own = hand.readies(0, 1, sites=["site-2"], approvals=(without, *others))["site-2"]
    assert set(own.ready.group_shares) == {"site-2", "site-3"}
    again = {**hand.readies(0, 1, sites=["site-1", "site-3"]), "site-2": own}
    with unharmed(consortium, "site-2"):
        call = hand.cohort(again.values(), 0, 1)
        assert hand.refusal("site-2", call) == ErrorCode.COHORT_MEMBER_UNAPPROVED.value
    assert len(readies) == 3


def test_a_site_restored_from_before_its_approval_stays_out(consortium) -> None:
    """Its new approval is not the one in circulation, and it says which of the two is wrong."""
    site = consortium.sites["site-1"]
    with site.db.write() as connection:
        connection.execute("UPDATE kem_secrets SET ciphertext = '00'")
    hand = Hand(consortium)
    with unharmed(consortium):
        code = hand.refusal("site-1", hand.open(0, 0))
    assert code == ErrorCode.KEM_SECRET_UNREADABLE.value
    with site.db.write() as connection:
        connection.execute("DELETE FROM kem_secrets")
    with unharmed(consortium):
        assert hand.refusal("site-1", hand.open(0, 0)) == ErrorCode.KEM_APPROVAL_FOREIGN.value
