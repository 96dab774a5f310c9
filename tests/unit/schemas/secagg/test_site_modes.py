"""SECAGG-12, -16: every member is in the mode of the plan, and holds its post-quantum secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.errors import ErrorCode
from schemas.limits import MAX_HEADER_BYTES
from schemas.secagg.keys import MASK_SHARE, pair_root, seal_share
from schemas.secagg.masking import check_sum
from schemas.secagg.messages import NO_COMMITMENT, SignedReady
from tests.support.cohorts import OTHER, Issued, join_1, observe, refusal, resealed, signed_of
from tests.support.factories import HYBRID
from tests.support.secure_sum import (
    Consortium,
    summed,
    vectors_of,
)
from tests.unit.schemas.secagg.test_keys import LOW_ORDER

# --- the mode of aggregation ----------------------------------------------------------------


def _code_at_site_1(consortium: Consortium, issued: Issued, altered: SignedReady) -> ErrorCode:
    readies = [
        altered if signed.ready.site_id == altered.ready.site_id else signed
        for signed in signed_of(issued)
    ]
    return refusal(lambda: join_1(consortium, issued, readies, kind=altered.ready.kind))


def test_a_recoverable_training_ready_commits_to_a_self_mask(lasting: Consortium) -> None:
    """SECAGG-12: one share for every recipient and the site itself, one commitment."""
    ready = lasting.issue("site-2", recipients=frozenset({"site-1", "site-4"}))[0].ready
    assert ready.self_mask_commitment != NO_COMMITMENT
    assert set(ready.mask_shares) == set(ready.group_shares) == {"site-1", "site-2", "site-4"}
    assert not set(ready.mask_shares.values()) & set(ready.group_shares.values())
    again = lasting.issue("site-2")[0].ready
    assert again.self_mask_commitment != ready.self_mask_commitment


def test_every_other_ready_has_none(lasting: Consortium, consortium: Consortium) -> None:
    for signed in (
        lasting.issue("site-2", kind="evaluate")[0],
        consortium.issue("site-2")[0],
        consortium.issue("site-2", kind="evaluate")[0],
    ):
        assert signed.ready.self_mask_commitment == NO_COMMITMENT
        assert signed.ready.mask_shares == {}


@pytest.mark.parametrize(
    "change",
    [{"self_mask_commitment": NO_COMMITMENT}, {"mask_shares": {}}],
    ids=lambda change: next(iter(change)),
)
def test_an_atomic_ready_in_a_recoverable_attempt_is_refused(
    lasting: Consortium, change: dict[str, Any]
) -> None:
    """Its upload would have no self-mask: a fake drop-out would open it."""
    issued = lasting.issue_all()
    altered = lasting.resign(issued["site-3"][0].ready, **change)
    assert _code_at_site_1(lasting, issued, altered) is ErrorCode.COHORT_MODE_MISMATCH


@pytest.mark.parametrize("which", ["atomic plan", "evaluation"])
@pytest.mark.parametrize(
    "change",
    [{"self_mask_commitment": OTHER}, {"mask_shares": {"site-1": "00" * 48}}],
    ids=lambda change: next(iter(change)),
)
def test_a_recoverable_ready_in_an_atomic_attempt_is_refused(
    consortium: Consortium, lasting: Consortium, which: str, change: dict[str, Any]
) -> None:
    here = consortium if which == "atomic plan" else lasting
    issued = here.issue_all(kind="train" if which == "atomic plan" else "evaluate")
    altered = here.resign(issued["site-3"][0].ready, **change)
    assert _code_at_site_1(here, issued, altered) is ErrorCode.COHORT_MODE_MISMATCH


def test_a_mask_share_that_is_missing_is_refused(lasting: Consortium) -> None:
    issued = lasting.issue_all()
    ready = issued["site-3"][0].ready
    shares = {site: share for site, share in ready.mask_shares.items() if site != "site-1"}
    altered = lasting.resign(ready, mask_shares=shares)
    assert _code_at_site_1(lasting, issued, altered) is ErrorCode.COHORT_SHARE_MISSING


@pytest.mark.parametrize("taken", ["another's", "the group share", "an earlier one", "flipped"])
def test_a_mask_share_that_does_not_open_is_refused(lasting: Consortium, taken: str) -> None:
    issued = lasting.issue_all()
    ready = issued["site-3"][0].ready
    own = ready.mask_shares["site-1"]
    share = {
        "another's": ready.mask_shares["site-2"],
        "the group share": ready.group_shares["site-1"],
        "an earlier one": lasting.issue("site-3", attempt=0)[0].ready.mask_shares["site-1"],
        "flipped": f"{int(own, 16) ^ 1:096x}",
    }[taken]
    altered = lasting.resign(ready, mask_shares={**ready.mask_shares, "site-1": share})
    assert _code_at_site_1(lasting, issued, altered) is ErrorCode.COHORT_SHARE_INVALID


def test_a_mask_share_outside_the_field_is_refused(lasting: Consortium) -> None:
    """SECAGG-4: sealed properly by a member; one number must have one spelling."""
    issued = lasting.issue_all()
    ready = issued["site-3"][0].ready
    sender, digest = lasting.parties["site-3"], lasting.plan.digest()
    peer = lasting.plan.site("site-1").study_key
    root = pair_root(sender.study, peer, digest, "site-3", "site-1")
    header = ready.header().canonical()
    share = seal_share(
        root, b"\xff" * 32, header=header, sender="site-3", to="site-1", purpose=MASK_SHARE
    )
    altered = lasting.resign(ready, mask_shares={**ready.mask_shares, "site-1": share})
    assert _code_at_site_1(lasting, issued, altered) is ErrorCode.COHORT_SHARE_INVALID


def test_a_refused_mask_share_leaves_the_ready_usable(lasting: Consortium) -> None:
    issued = lasting.issue_all()
    altered = lasting.resign(issued["site-3"][0].ready, mask_shares={"site-2": "00" * 48})
    _code_at_site_1(lasting, issued, altered)
    keys = join_1(lasting, issued, signed_of(issued))
    assert len(keys.spend_masks()) == 5  # four pairs and itself


def test_a_commitment_changed_after_sealing_is_refused(lasting: Consortium) -> None:
    """It stands in the header, to which every share is bound."""
    issued = lasting.issue_all()
    other = lasting.resign(issued["site-3"][0].ready, self_mask_commitment=OTHER)
    assert _code_at_site_1(lasting, issued, other) is ErrorCode.COHORT_SHARE_INVALID


@pytest.mark.parametrize("point", LOW_ORDER[:3])
def test_an_ephemeral_key_of_low_order_is_refused_in_recoverable_mode(
    lasting: Consortium, point: str
) -> None:
    issued = lasting.issue_all()
    ready = issued["site-3"][0].ready
    altered = resealed(lasting, issued["site-3"][0], ephemeral_key=point)
    assert altered.ready.mask_shares == ready.mask_shares  # never reached
    assert _code_at_site_1(lasting, issued, altered) is ErrorCode.COHORT_KEY_INVALID


def test_a_recoverable_cohort_has_at_least_tau_members(lasting: Consortium) -> None:
    assert lasting.plan.survivor_threshold == 4 > lasting.plan.cohort_minimum
    issued = lasting.issue_all()
    assert refusal(lambda: join_1(lasting, issued, signed_of(issued)[:3])) is (
        ErrorCode.COHORT_TOO_SMALL
    )
    assert len(join_1(lasting, issued, signed_of(issued)[:4]).roster) == 4


def test_an_observer_of_a_recoverable_sum_makes_the_same_checks(lasting: Consortium) -> None:
    issued = lasting.issue_all(["site-1", "site-2", "site-3", "site-4"])
    watcher = observe(lasting, "site-5", issued)
    assert (watcher.fewest, watcher.wants_upload_hash) == (4, False)
    few = {site: issued[site] for site in list(issued)[:3]}
    assert refusal(lambda: observe(lasting, "site-5", few)) is ErrorCode.COHORT_TOO_SMALL
    plain = lasting.resign(issued["site-3"][0].ready, mask_shares={})
    changed = {**issued, "site-3": (plain, issued["site-3"][1])}
    assert refusal(lambda: observe(lasting, "site-5", changed)) is (ErrorCode.COHORT_MODE_MISMATCH)


def test_two_hundred_recoverable_sites_can_meet() -> None:
    """The shares of tau = 101 of 200 fit a READY, whatever the length of names."""
    most = Consortium.recoverable(200, maximum_dropouts=50)
    issued = most.issue_all(["site-7"])
    signed = issued["site-7"][0]
    assert len(signed.ready.mask_shares) == 200
    longest = 40 - len("site-100")
    assert 200 * (len(signed.canonical()) + 400 * longest) <= MAX_HEADER_BYTES


# --- the hybrid pair root -------------------------------------------------------------------


def hybrid(**missing: str) -> Consortium:
    """Four sites whose pairs hold ML-KEM secrets, except those named ``site_1="site-2"``."""
    made = Consortium.of(4, aggregation={"pair_root": HYBRID})
    for own, party in made.parties.items():
        secrets = {
            peer: bytes("/".join(sorted((own, peer))), "ascii")[:32] for peer in made.parties
        }
        secrets = {peer: secret.ljust(32, b".") for peer, secret in secrets.items()}
        secrets.pop(missing.get(own.replace("-", "_"), ""), None)
        made.parties[own] = replace(party, kem_secrets=secrets)
    return made


def test_a_hybrid_cohort_finds_its_sum() -> None:
    made = hybrid()
    keys = made.keys()
    vectors = vectors_of(keys, 64)
    assert np.array_equal(check_sum(keys["site-2"], summed(keys, vectors)), sum(vectors.values()))


@pytest.mark.parametrize("peer", ["site-2", "site-1"], ids=["a peer's", "its own"])
def test_without_a_kem_secret_a_hybrid_ready_is_not_issued(peer: str) -> None:
    """Nobody falls back to X25519 alone, which is what a harvesting adversary waits for."""
    made = hybrid(site_1=peer)
    assert refusal(lambda: made.issue("site-1")) is ErrorCode.KEM_SECRET_MISSING


def test_without_a_kem_secret_a_hybrid_cohort_is_not_joined() -> None:
    made = hybrid()
    issued = made.issue_all()
    party = made.parties["site-1"]
    for secrets in ({}, dict(party.kem_secrets) | {"site-3": b"short"}):
        made.parties["site-1"] = replace(party, kem_secrets=secrets)
        assert refusal(lambda: join_1(made, issued, signed_of(issued))) is (
            ErrorCode.KEM_SECRET_MISSING
        )
    made.parties["site-1"] = party
    join_1(made, issued, signed_of(issued))


def test_a_secret_of_a_site_that_cannot_take_part_is_not_needed() -> None:
    made = hybrid(site_1="site-4")
    members = frozenset({"site-1", "site-2", "site-3"})
    issued = made.issue_all(sorted(members), recipients=members)
    assert len(join_1(made, issued, signed_of(issued)).roster) == 3


def test_another_kem_secret_opens_no_share() -> None:
    made = hybrid()
    issued = made.issue_all()
    party = made.parties["site-1"]
    wrong = dict(party.kem_secrets) | {"site-3": b"w" * 32}
    made.parties["site-1"] = replace(party, kem_secrets=wrong)
    assert refusal(lambda: join_1(made, issued, signed_of(issued))) is (
        ErrorCode.COHORT_SHARE_INVALID
    )


def test_an_ordinary_plan_does_not_look_at_kem_secrets(consortium: Consortium) -> None:
    party = consortium.parties["site-1"]
    curious = replace(party, kem_secrets={"site-2": b"x" * 32})
    sites = {**consortium.parties, "site-1": curious}
    issued = Consortium(consortium.plan, sites).issue_all()
    assert len(join_1(consortium, issued, signed_of(issued)).roster) == 5
    assert "xxx" not in repr(curious)
