"""SECAGG-16: do two hospitals agree one ML-KEM-768 secret, and is it kept so that no copy helps?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.approval import Approval
from schemas.governance.study import StudyPlan
from schemas.signing import Context, SignedDocument, seal
from site_node.context import SiteContext, open_site
from site_node.kem import _kept, encapsulate, kem_secrets
from tests.support.factories import HYBRID
from tests.support.sites import approve, real_plan, sealed, tamper


@pytest.fixture
def hybrid(sites: list[SiteContext]) -> StudyPlan:
    return real_plan(sites, aggregation={"pair_root": HYBRID})


def approval_of(site: SiteContext, plan: StudyPlan) -> SignedDocument:
    """Approve, and give what goes to the others."""
    approve(site, plan)
    return SignedDocument.model_validate_json(site.inbox.waiting()[-1].body)


def bent(site: SiteContext, plan: StudyPlan, **changes: Any) -> SignedDocument:
    """A steward's approval of other content than the node gave."""
    own = site.approvals.own_approval(plan.digest())
    assert own is not None
    changed = Approval(**{**own.model_dump(), **changes})
    return seal(site.keys.approval, Context.APPROVAL, changed)


def restarted(site: SiteContext) -> SiteContext:
    site.db.close()
    return open_site(site.home, site.clock)


def refused(site: SiteContext, plan: StudyPlan, approvals: list[SignedDocument]) -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        kem_secrets(site, plan, approvals)
    assert caught.value.hint
    return caught.value.code


# -- agreeing --------------------------------------------------------------------------------


def test_both_ends_of_every_pair_hold_one_secret_and_nobody_elses(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    approvals = [approval_of(site, hybrid) for site in sites]
    held = {s.config.site_id: kem_secrets(s, hybrid, approvals) for s in sites}
    everyone = set(hybrid.site_ids)
    for site, secrets in held.items():
        assert set(secrets) == everyone
        assert {len(secret) for secret in secrets.values()} == {32}
        for peer in everyone:
            assert secrets[peer] == held[peer][site]
    pairs = {secret for secrets in held.values() for secret in secrets.values()}
    assert len(pairs) == 6  # three pairs, and each site with itself


def test_it_is_the_same_after_a_restart_and_at_any_order_of_approvals(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    approvals = [approval_of(site, hybrid) for site in sites]
    before = [kem_secrets(site, hybrid, approvals) for site in sites]
    again = [restarted(site) for site in sites]
    assert [kem_secrets(site, hybrid, approvals[::-1]) for site in again] == before


def test_a_plain_plan_has_none_and_never_opens_the_key(
    sites: list[SiteContext], plan: StudyPlan
) -> None:
    sites[0].keys.path("kem.key").unlink()
    approval = approval_of(sites[0], plan)
    assert kem_secrets(sites[0], plan, [approval]) == {}
    assert sites[0].approvals.own_approval(plan.digest()).encapsulations == {}  # type: ignore[union-attr]


def test_an_approval_that_arrives_late_brings_its_secret_with_it(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    first, second, third = sites
    mine = approval_of(third, hybrid)
    assert set(kem_secrets(third, hybrid, [mine])) == {"site-3"}
    early = approval_of(second, hybrid)
    assert set(kem_secrets(third, hybrid, [mine, early])) == {"site-2", "site-3"}
    late = approval_of(first, hybrid)
    assert set(kem_secrets(third, hybrid, [mine, early, late])) == {"site-1", "site-2", "site-3"}
    assert set(kem_secrets(first, hybrid, [])) == {"site-1", "site-2", "site-3"}


def test_a_changed_plan_has_other_secrets(sites: list[SiteContext], hybrid: StudyPlan) -> None:
    other = real_plan(sites, aggregation={"pair_root": HYBRID}, study_id="lungs")
    for plan in (hybrid, other):
        approve(sites[0], plan)
    one, two = (kem_secrets(sites[0], plan, []) for plan in (hybrid, other))
    assert set(one) == set(two)
    assert not set(one.values()) & set(two.values())


def test_approving_twice_makes_no_second_ciphertext(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    first = approval_of(sites[0], hybrid)
    before = kem_secrets(sites[0], hybrid, [first])
    with pytest.raises(CohortiumError) as caught:
        approve(sites[0], hybrid)
    assert caught.value.code is ErrorCode.PLAN_ALREADY_APPROVED
    assert kem_secrets(sites[0], hybrid, [first]) == before


def test_a_site_whose_key_file_is_not_the_plans_is_told_so(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    """Also one that only decapsulates: else its peers would learn of it by unreadable shares."""
    approve(sites[2], hybrid)
    sites[2].keys.path("kem.key").write_bytes(sites[1].keys.path("kem.key").read_bytes())
    assert refused(restarted(sites[2]), hybrid, []) is ErrorCode.OWN_KEY_WRONG


# -- what the others send --------------------------------------------------------------------


@pytest.mark.parametrize("way", ["another key", "another pair", "a flipped bit"])
def test_a_ciphertext_that_is_not_ours_gives_a_secret_the_sender_lacks(
    sites: list[SiteContext], hybrid: StudyPlan, way: str
) -> None:
    """Nothing is raised here: the first share under the root is what cannot be read."""
    approval_of(sites[0], hybrid)
    sent = sites[0].approvals.own_approval(hybrid.digest())
    assert sent is not None
    good = dict(sent.encapsulations)
    wrong = {
        "another key": MLKEM768PrivateKey.generate().public_key().encapsulate()[1].hex(),
        "another pair": good["site-3"],
        "a flipped bit": f"{int(good['site-2'][0], 16) ^ 1:x}" + good["site-2"][1:],
    }[way]
    signed = bent(sites[0], hybrid, encapsulations={**good, "site-2": wrong})
    approve(sites[1], hybrid)
    theirs = kem_secrets(sites[1], hybrid, [signed])["site-1"]
    assert theirs != kem_secrets(sites[0], hybrid, [])["site-2"]


def test_an_approval_that_does_not_count_brings_no_secret(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    approval_of(sites[0], hybrid)
    without = bent(sites[0], hybrid, encapsulations={})
    assert set(kem_secrets(sites[1], hybrid, [without])) == {"site-2"}
    good = SignedDocument.model_validate_json(sites[0].inbox.waiting()[-1].body)
    for order in ([without, good], [good, without]):
        assert "site-1" in kem_secrets(sites[1], hybrid, order)


# -- what this site keeps --------------------------------------------------------------------


def test_no_secret_lies_in_the_database_in_the_clear(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    approval = approval_of(sites[0], hybrid)
    secrets = kem_secrets(sites[0], hybrid, [approval])
    sites[0].db.close()
    folder = sites[0].folders.state
    raw = b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    assert len(raw) > 50_000
    seed = sites[0].keys.kem.private_bytes_raw()
    for secret in (*secrets.values(), seed):
        assert secret not in raw
        assert secret.hex().encode() not in raw


def test_the_database_alone_opens_nothing(
    sites: list[SiteContext], hybrid: StudyPlan, tmp_path: Path
) -> None:
    """All other keys of the site do not help either: only kem.key gives the storage key."""
    approval = approval_of(sites[0], hybrid)
    foreign = sites[1].keys.path("kem.key").read_bytes()
    sites[0].keys.path("kem.key").write_bytes(foreign)
    thief = restarted(sites[0])
    with pytest.raises(CohortiumError) as caught:
        _kept(thief, thief.keys.kem, hybrid.digest())
    assert caught.value.code is ErrorCode.KEM_SECRET_UNREADABLE
    assert refused(thief, hybrid, [approval]) is ErrorCode.OWN_KEY_WRONG


@pytest.mark.parametrize(
    "change",
    ["UPDATE kem_secrets SET sealed = zeroblob(48)",
     "UPDATE kem_secrets SET sealed = x'00' WHERE peer = 'site-2'",
     "UPDATE kem_secrets SET sealed = (SELECT sealed FROM kem_secrets WHERE peer = 'site-3')"
     " WHERE peer = 'site-2'"],
)  # fmt: skip
def test_a_changed_row_is_refused(sites: list[SiteContext], hybrid: StudyPlan, change: str) -> None:
    approval = approval_of(sites[0], hybrid)
    tamper(sites[0], change)
    assert refused(sites[0], hybrid, [approval]) is ErrorCode.KEM_SECRET_UNREADABLE


def test_a_site_restored_from_before_its_approval_is_told_so(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    """The coordinator keeps the first approval; the plan approved again has other ciphertexts."""
    first = approval_of(sites[0], hybrid)
    for table in ("approvals", "kem_secrets", "ledger", "outbox"):
        tamper(sites[0], f"DELETE FROM {table}")
    sites[0].folders.witness.unlink()  # the whole machine is an old copy, its witness too
    again = approval_of(sites[0], hybrid)
    assert again != first
    assert refused(sites[0], hybrid, [first]) is ErrorCode.KEM_APPROVAL_FOREIGN
    assert set(kem_secrets(sites[0], hybrid, [again])) == set(hybrid.site_ids)


def test_an_approval_that_is_not_written_leaves_no_secret(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    with pytest.raises(CohortiumError):
        sites[0].approvals.approve(b"{}", hybrid.digest())
    sites[0].peers.import_card(_other_card(sites), replace=True)
    with pytest.raises(CohortiumError):
        approve(sites[0], hybrid)
    assert sites[0].db.rows("SELECT * FROM kem_secrets") == []


def _other_card(sites: list[SiteContext]) -> bytes:
    """The second hospital's card, of a different day: its fingerprint is not confirmed."""
    from schemas.identity import open_card, seal_card
    from site_node.enrol import own_card

    card = open_card(own_card(sites[1])).model_copy(update={"created": "2026-11-01T00:00:00Z"})
    return seal_card(sites[1].keys.identity, card).canonical()


def test_every_encapsulation_is_fresh(sites: list[SiteContext], hybrid: StudyPlan) -> None:
    one, two = (encapsulate(hybrid, "site-1", sites[0].keys.kem) for _ in range(2))
    assert [each.peer for each in one] == ["site-2", "site-3"]
    assert len({each.ciphertext for each in (*one, *two)}) == 4
    assert len({each.sealed for each in (*one, *two)}) == 4
    assert encapsulate(hybrid, "site-3", sites[2].keys.kem) == ()


# -- on the way ------------------------------------------------------------------------------


def test_an_approval_with_ciphertexts_passes_the_inbox_and_a_bent_one_does_not(
    sites: list[SiteContext], hybrid: StudyPlan
) -> None:
    approval = approval_of(sites[0], hybrid)
    inbox = sites[1].inbox
    inbox.receive("plan", hybrid.study_id, sealed(hybrid))
    with pytest.raises(CohortiumError) as caught:
        inbox.receive(
            "approval", hybrid.study_id, bent(sites[0], hybrid, encapsulations={}).canonical()
        )
    assert caught.value.code is ErrorCode.APPROVAL_ENCAPSULATIONS_WRONG
    assert inbox.receive("approval", hybrid.study_id, approval.canonical()) is not None
    held = kem_secrets(sites[1], hybrid, inbox.approvals(hybrid.digest()))
    assert held["site-1"] == kem_secrets(sites[0], hybrid, [])["site-2"]
