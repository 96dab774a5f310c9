"""SECAGG-3, -4, -10, -12, -16: a site takes part only in what it has checked itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.errors import CohortiumError, ErrorCode, ProtocolError, TrustError
from schemas.governance.study import StudyPlan
from schemas.limits import MAX_READY_BYTES
from schemas.secagg.keys import MASK_SHARE, pair_root, seal_share
from schemas.secagg.masking import check_sum, mask
from schemas.secagg.messages import NO_COMMITMENT, SignedReady
from schemas.secagg.site import Party, ReadySecrets, join_cohort, make_ready, observe_cohort
from tests.support.factories import HYBRID, make_keys, plan_with
from tests.support.secure_sum import (
    HEAD,
    NEW_MODEL,
    Consortium,
    FixedEntropy,
    summed,
    vectors_of,
)
from tests.unit.schemas.secagg.test_keys import LOW_ORDER

Issued = dict[str, tuple[SignedReady, ReadySecrets]]
OTHER = "77" * 32


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    return Consortium.of(5)


@pytest.fixture
def issued(consortium: Consortium) -> Issued:
    return consortium.issue_all()


def signed_of(issued: Issued) -> list[SignedReady]:
    return [signed for signed, _ in issued.values()]


def refusal(call: Callable[[], object], kind: type[CohortiumError] = ProtocolError) -> ErrorCode:
    with pytest.raises(kind) as refused:
        call()
    return refused.value.code


def join_1(
    consortium: Consortium, issued: Issued, readies: list[SignedReady], **how: Any
) -> object:
    return consortium.join("site-1", issued["site-1"][1], readies, **how)


# --- the honest way -------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "blind"), [("train", False), ("evaluate", True)])
def test_a_cohort_finds_its_sum(consortium: Consortium, kind: str, blind: bool) -> None:
    keys = consortium.keys(kind=kind)
    vectors = vectors_of(keys, 64)
    total = summed(keys, vectors, blind=blind)
    for member in keys.values():
        assert np.array_equal(check_sum(member, total), sum(vectors.values()))


def test_part_of_the_sites_is_a_cohort_too(consortium: Consortium) -> None:
    keys = consortium.keys(["site-2", "site-4", "site-5"])
    vectors = vectors_of(keys, 64)
    assert np.array_equal(check_sum(keys["site-4"], summed(keys, vectors)), sum(vectors.values()))
    assert keys["site-4"].roster == ("site-2", "site-4", "site-5")


def test_forty_sites_find_their_sum() -> None:
    many = Consortium.of(40)
    keys = many.keys()
    vectors = vectors_of(keys, 20)
    assert np.array_equal(check_sum(keys["site-7"], summed(keys, vectors)), sum(vectors.values()))


def test_two_hundred_sites_can_meet() -> None:
    most = Consortium.of(200)
    issued = most.issue_all()
    keys = most.join("site-200", issued["site-200"][1], signed_of(issued))
    assert len(keys.roster) == 200


def test_the_order_of_arrival_does_not_matter(consortium: Consortium, issued: Issued) -> None:
    forward = consortium.join("site-1", issued["site-1"][1], signed_of(issued))
    backward = consortium.join("site-2", issued["site-2"][1], signed_of(issued)[::-1])
    assert forward.roster == backward.roster == tuple(sorted(issued))
    assert forward.transcript_hash == backward.transcript_hash
    assert forward.group() == backward.group()


def test_every_ready_has_fresh_keys(consortium: Consortium) -> None:
    first, second = consortium.issue("site-1")[0].ready, consortium.issue("site-1")[0].ready
    assert first.ephemeral_key != second.ephemeral_key
    assert not set(first.group_shares.values()) & set(second.group_shares.values())


# --- what the READYs must say ---------------------------------------------------------------

MISMATCHES = [
    ({"plan_digest": OTHER}, ErrorCode.COHORT_PLAN_MISMATCH),
    ({"kind": "evaluate"}, ErrorCode.COHORT_KIND_MISMATCH),
    ({"round": 4}, ErrorCode.COHORT_ROUND_MISMATCH),
    ({"round": 2}, ErrorCode.COHORT_ROUND_MISMATCH),
    ({"attempt": 0}, ErrorCode.COHORT_ROUND_MISMATCH),
    ({"model_hash": OTHER}, ErrorCode.COHORT_MODEL_MISMATCH),
    ({"last_sum_hash": OTHER}, ErrorCode.COHORT_LAST_SUM_MISMATCH),
]


@pytest.mark.parametrize(("change", "code"), MISMATCHES, ids=lambda c: str(c))
def test_a_peer_in_another_state_is_refused(
    consortium: Consortium, issued: Issued, change: dict[str, Any], code: ErrorCode
) -> None:
    readies = signed_of(issued)
    readies[2] = consortium.resign(readies[2].ready, **change)
    assert refusal(lambda: join_1(consortium, issued, readies)) is code


@pytest.mark.parametrize("older", [{"round": 2}, {"attempt": 0}, {"kind": "evaluate"}])
def test_a_replayed_ready_of_a_peer_is_refused(
    consortium: Consortium, issued: Issued, older: dict[str, Any]
) -> None:
    readies = signed_of(issued)
    readies[3] = consortium.issue("site-4", **older)[0]
    assert refusal(lambda: join_1(consortium, issued, readies)) in {
        ErrorCode.COHORT_ROUND_MISMATCH,
        ErrorCode.COHORT_KIND_MISMATCH,
    }


@pytest.mark.parametrize(
    "expected",
    [
        {"kind": "evaluate"},
        {"round": 4},
        {"attempt": 2},
        {"model_hash": OTHER},
        {"last_sum_hash": OTHER},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_cohort_for_something_else_is_refused(
    consortium: Consortium, issued: Issued, expected: dict[str, Any]
) -> None:
    code = refusal(lambda: join_1(consortium, issued, signed_of(issued), **expected))
    assert code.value.startswith("cohort.")


# --- who must be in it ----------------------------------------------------------------------


def test_a_site_given_twice_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    assert refusal(lambda: join_1(consortium, issued, [*readies, readies[4]])) is (
        ErrorCode.COHORT_DUPLICATE_MEMBER
    )


def test_two_readies_of_one_site_are_refused(consortium: Consortium, issued: Issued) -> None:
    """A Sybil made of one hospital: two READYs, each properly signed."""
    again = consortium.issue("site-5")[0]
    assert refusal(lambda: join_1(consortium, issued, [*signed_of(issued), again])) is (
        ErrorCode.COHORT_DUPLICATE_MEMBER
    )


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_cohort_below_the_minimum_is_refused(
    consortium: Consortium, issued: Issued, size: int
) -> None:
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued)[:size])) is (
        ErrorCode.COHORT_TOO_SMALL
    )


def test_a_member_that_did_not_approve_is_refused(consortium: Consortium, issued: Issued) -> None:
    approved = consortium.approved - {"site-3"}
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued), approved=approved)) is (
        ErrorCode.COHORT_MEMBER_UNAPPROVED
    )


def test_a_site_outside_the_plan_is_refused(consortium: Consortium, issued: Issued) -> None:
    invented = Consortium.of(7)
    stranger = invented.issue("site-7")[0]
    approved = consortium.approved | {"site-7"}
    readies = [*signed_of(issued), stranger]
    assert refusal(lambda: join_1(consortium, issued, readies, approved=approved)) is (
        ErrorCode.COHORT_MEMBER_UNKNOWN
    )


def test_a_cohort_without_oneself_is_refused(consortium: Consortium, issued: Issued) -> None:
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued)[1:])) is (
        ErrorCode.COHORT_OWN_READY_MISSING
    )


@pytest.mark.parametrize("change", [{}, {"ledger_head": OTHER}])
def test_an_own_ready_that_was_not_issued_now_is_refused(
    consortium: Consortium, issued: Issued, change: dict[str, Any]
) -> None:
    """Even an earlier one of the same attempt, which this very site signed."""
    earlier = consortium.issue("site-1")[0]
    readies = [consortium.resign(earlier.ready, **change), *signed_of(issued)[1:]]
    assert refusal(lambda: join_1(consortium, issued, readies)) is (
        ErrorCode.COHORT_OWN_READY_ALTERED
    )


# --- what must be genuine -------------------------------------------------------------------


def test_a_ready_signed_by_another_key_is_refused(consortium: Consortium, issued: Issued) -> None:
    """The coordinator swaps a key for its own: it cannot sign for the hospital."""
    readies = signed_of(issued)
    forger = make_keys().identity
    swapped = readies[1].ready.model_copy(update={"ephemeral_key": HEAD})
    party = Party("site-2", forger, consortium.parties["site-2"].study)
    forged = Consortium(consortium.plan, {"site-2": party}).resign(swapped)
    readies[1] = forged
    assert refusal(lambda: join_1(consortium, issued, readies), TrustError) is (
        ErrorCode.SIGNATURE_INVALID
    )


FIELDS = ["model_hash", "last_sum_hash", "ledger_head", "ephemeral_key", "plan_digest"]


@pytest.mark.parametrize("name", FIELDS)
def test_a_flipped_bit_in_a_ready_is_refused(
    consortium: Consortium, issued: Issued, name: str
) -> None:
    readies = signed_of(issued)
    flipped = f"{int(getattr(readies[3].ready, name), 16) ^ 1:064x}"
    ready = readies[3].ready.model_copy(update={name: flipped})
    readies[3] = readies[3].model_copy(update={"ready": ready})
    assert refusal(lambda: join_1(consortium, issued, readies), TrustError) is (
        ErrorCode.SIGNATURE_INVALID
    )


def test_a_signature_for_another_purpose_is_refused(consortium: Consortium, issued: Issued) -> None:
    from schemas.signing import Context, sign

    readies = signed_of(issued)
    identity = consortium.parties["site-4"].identity
    signature = sign(identity, Context.FINAL, readies[3].ready.canonical())
    readies[3] = readies[3].model_copy(update={"signature": signature})
    assert refusal(lambda: join_1(consortium, issued, readies), TrustError) is (
        ErrorCode.SIGNATURE_INVALID
    )


@pytest.mark.parametrize("point", LOW_ORDER)
def test_an_ephemeral_key_of_low_order_is_refused(
    consortium: Consortium, issued: Issued, point: str
) -> None:
    """Sent on purpose by a member: the pair's mask would be known to everybody.

    The member seals its share for that very header, so nothing else is wrong with the message.
    """
    readies = signed_of(issued)
    readies[3] = _resealed(consortium, readies[3], ephemeral_key=point)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_KEY_INVALID


def _resealed(consortium: Consortium, signed: SignedReady, **changes: Any) -> SignedReady:
    ready = signed.ready.model_copy(update=changes)
    sender = consortium.parties[ready.site_id]
    shares = {}
    for peer in consortium.plan.sites:
        digest = consortium.plan.digest()
        root = pair_root(sender.study, peer.study_key, digest, sender.site_id, peer.site_id)
        shares[peer.site_id] = seal_share(
            root,
            b"g" * 32,
            header=ready.header().canonical(),
            sender=sender.site_id,
            to=peer.site_id,
        )
    return consortium.resign(ready, group_shares=shares)


def test_one_ephemeral_key_of_two_sites_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    stolen = readies[2].ready.ephemeral_key
    readies[3] = _resealed(consortium, readies[3], ephemeral_key=stolen)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_KEY_INVALID


# --- the mode of aggregation ----------------------------------------------------------------


@pytest.fixture(scope="module")
def lasting() -> Consortium:
    return Consortium.recoverable(5)


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
    """Sealed properly by a member; one number must have one spelling."""
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
    altered = _resealed(lasting, issued["site-3"][0], ephemeral_key=point)
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
    assert len(signed.canonical()) + 400 * longest <= MAX_READY_BYTES


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


# --- shares ---------------------------------------------------------------------------------


def test_a_share_that_does_not_open_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    ready = readies[2].ready
    shares = ready.group_shares | {"site-1": ready.group_shares["site-2"]}
    readies[2] = consortium.resign(ready, group_shares=shares)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_SHARE_INVALID


def test_a_missing_share_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    shares = {k: v for k, v in readies[2].ready.group_shares.items() if k != "site-1"}
    readies[2] = consortium.resign(readies[2].ready, group_shares=shares)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_SHARE_MISSING


def test_shares_taken_from_an_earlier_ready_are_refused(
    consortium: Consortium, issued: Issued
) -> None:
    readies = signed_of(issued)
    earlier = consortium.issue("site-3", attempt=0)[0].ready
    readies[2] = consortium.resign(readies[2].ready, group_shares=earlier.group_shares)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_SHARE_INVALID


# --- different views ------------------------------------------------------------------------


def _garbage(consortium: Consortium, keys: dict[str, Any]) -> None:
    """Uploads under unrelated views add up to noise, and every site notices."""
    vectors = vectors_of(keys, 500)
    total = summed(keys, vectors)
    plain = sum(vectors.values()).astype(np.uint32)
    assert (total.words == plain).sum() <= 1
    for member in keys.values():
        assert refusal(lambda m=member: check_sum(m, total)) is ErrorCode.SUM_ALTERED


def test_a_split_cohort_adds_up_to_noise(consortium: Consortium) -> None:
    """Two sites are told of three members, the others of five."""
    issued = consortium.issue_all()
    readies = signed_of(issued)
    keys = {
        site: consortium.join(
            site, secrets, readies[:3] if site in ("site-1", "site-2") else readies
        )
        for site, (_, secrets) in issued.items()
    }
    _garbage(consortium, keys)


def test_one_different_ready_splits_the_cohort(consortium: Consortium) -> None:
    """A member equivocates: two READYs of the same attempt, one for each half."""
    issued = consortium.issue_all()
    second = consortium.issue("site-5")[0]
    readies = signed_of(issued)
    keys = {
        site: consortium.join(
            site, secrets, [*readies[:4], second] if site in ("site-1", "site-2") else readies
        )
        for site, (_, secrets) in issued.items()
    }
    _garbage(consortium, keys)


def test_different_new_models_split_the_cohort(consortium: Consortium) -> None:
    issued = consortium.issue_all()
    readies = signed_of(issued)
    keys = {
        site: consortium.join(
            site, secrets, readies, new_model_hash=OTHER if site == "site-3" else NEW_MODEL
        )
        for site, (_, secrets) in issued.items()
    }
    _garbage(consortium, keys)


# --- the life of a READY --------------------------------------------------------------------


def test_one_ready_opens_one_cohort(consortium: Consortium, issued: Issued) -> None:
    join_1(consortium, issued, signed_of(issued))
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued)[:4])) is (
        ErrorCode.COHORT_READY_STALE
    )


def test_a_refused_cohort_leaves_the_ready_usable(consortium: Consortium, issued: Issued) -> None:
    refusal(lambda: join_1(consortium, issued, signed_of(issued)[:2]))
    keys = join_1(consortium, issued, signed_of(issued))
    assert len(keys.roster) == len(issued)


def test_an_erased_ready_opens_nothing(consortium: Consortium, issued: Issued) -> None:
    issued["site-1"][1].erase()
    assert refusal(lambda: join_1(consortium, issued, signed_of(issued))) is (
        ErrorCode.COHORT_READY_STALE
    )


def test_secrets_do_not_show_in_a_traceback(consortium: Consortium, issued: Issued) -> None:
    secrets = issued["site-1"][1]
    assert repr(secrets) == "ReadySecrets(<secret>)"
    assert "X25519" not in repr(consortium.parties["site-1"])


# --- a site's own keys ----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["identity", "study"])
def test_a_plan_with_other_keys_of_this_site_is_refused(
    consortium: Consortium, issued: Issued, which: str
) -> None:
    mine, other = consortium.parties["site-1"], make_keys()
    party = Party(
        "site-1",
        other.identity if which == "identity" else mine.identity,
        other.study if which == "study" else mine.study,
    )
    context = consortium.context()

    def ready() -> object:
        entropy = FixedEntropy("x")
        return make_ready(
            party, consortium.plan, ledger_head=HEAD, ledger_charges=0, entropy=entropy, **context
        )

    def join() -> object:
        return join_cohort(
            party,
            consortium.plan,
            issued["site-1"][1],
            signed_of(issued),
            new_model_hash=NEW_MODEL,
            approved=consortium.approved,
            **context,
        )

    assert refusal(ready, TrustError) is ErrorCode.OWN_KEY_WRONG
    assert refusal(join, TrustError) is ErrorCode.OWN_KEY_WRONG


def test_a_site_outside_the_plan_issues_nothing(consortium: Consortium) -> None:
    keys = make_keys()
    party = Party("site-9", keys.identity, keys.study)

    def ready() -> object:
        return make_ready(
            party,
            consortium.plan,
            ledger_head=HEAD,
            ledger_charges=0,
            entropy=FixedEntropy("x"),
            **consortium.context(),
        )

    assert refusal(ready, TrustError) is ErrorCode.OWN_KEY_WRONG


def test_a_changed_plan_is_another_consortium() -> None:
    """One word of the plan differs at one site: no READY of the others is for its plan."""
    keys = {f"site-{i}": make_keys() for i in (1, 2, 3)}
    parties = {site: Party(site, k.identity, k.study) for site, k in keys.items()}

    def plan(title: str) -> StudyPlan:
        return plan_with(keys, title=title)

    here, there = Consortium(plan("One"), parties), Consortium(plan("Two"), parties)
    issued = there.issue_all() | {"site-1": here.issue("site-1")}
    assert refusal(lambda: join_1(here, issued, signed_of(issued))) is (
        ErrorCode.COHORT_PLAN_MISMATCH
    )


# --- those who only look --------------------------------------------------------------------


def observe(consortium: Consortium, site: str, issued: Issued, **how: Any) -> Any:
    context = consortium.context() | {"new_model_hash": NEW_MODEL} | how
    del context["model_hash"], context["last_sum_hash"]
    approved = consortium.approved
    return observe_cohort(
        consortium.parties[site], consortium.plan, signed_of(issued), approved=approved, **context
    )


@pytest.mark.parametrize("site", ["site-5", "site-2"], ids=["absent", "restarted"])
def test_a_site_without_keys_can_check_a_sum(consortium: Consortium, site: str) -> None:
    members = ["site-1", "site-2", "site-3"]
    issued = consortium.issue_all(members)
    keys = {s: consortium.join(s, secret, signed_of(issued)) for s, (_, secret) in issued.items()}
    vectors = vectors_of(keys, 30)
    total = summed(keys, vectors)
    watcher = observe(consortium, site, issued)
    assert np.array_equal(check_sum(watcher, total), sum(vectors.values()))
    altered = type(total)(total.words + np.uint32(1), total.tag)
    assert refusal(lambda: check_sum(watcher, altered)) is ErrorCode.SUM_ALTERED
    assert refusal(lambda: mask(watcher, vectors["site-1"])) is ErrorCode.SECRETS_SPENT
    stranger = observe(consortium, site, issued, new_model_hash=OTHER)
    assert refusal(lambda: check_sum(stranger, total)) is ErrorCode.SUM_ALTERED


def test_nobody_observes_an_evaluation(consortium: Consortium) -> None:
    issued = consortium.issue_all(["site-1", "site-2", "site-3"], kind="evaluate")
    assert refusal(lambda: observe(consortium, "site-5", issued, kind="evaluate")) is (
        ErrorCode.COHORT_KIND_MISMATCH
    )


def test_an_observer_makes_the_same_checks(consortium: Consortium, issued: Issued) -> None:
    assert refusal(lambda: observe(consortium, "site-5", {})) is ErrorCode.COHORT_TOO_SMALL
    few = {site: issued[site] for site in ("site-1", "site-2")}
    assert refusal(lambda: observe(consortium, "site-5", few)) is ErrorCode.COHORT_TOO_SMALL
    assert refusal(lambda: observe(consortium, "site-5", issued, round=9)) is (
        ErrorCode.COHORT_ROUND_MISMATCH
    )


def test_only_recipients_can_read_a_contribution(consortium: Consortium) -> None:
    members = ["site-1", "site-2", "site-3"]
    issued = consortium.issue_all(members, recipients=frozenset(members))
    keys = consortium.join("site-2", issued["site-2"][1], signed_of(issued))
    assert keys.roster == tuple(members)
    assert refusal(lambda: observe(consortium, "site-5", issued)) is (
        ErrorCode.COHORT_SHARE_MISSING
    )
