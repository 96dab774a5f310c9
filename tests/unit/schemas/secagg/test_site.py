"""SECAGG-3, -4: a site takes part only in what it has checked itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.errors import ErrorCode, TrustError
from schemas.secagg.masking import check_sum
from schemas.secagg.site import Party
from tests.support.cohorts import OTHER, Issued, join_1, refusal, resealed, signed_of
from tests.support.factories import make_keys
from tests.support.secure_sum import (
    HEAD,
    Consortium,
    summed,
    vectors_of,
)
from tests.unit.schemas.secagg.test_keys import LOW_ORDER

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
    """SECAGG-3: a key and a contribution for one READY only."""
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
    """SECAGG-4: model and last sum."""
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
    """SECAGG-4: plan, kind, round and attempt."""
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
    """SECAGG-4: approvals this site has verified."""
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
    readies[3] = resealed(consortium, readies[3], ephemeral_key=point)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_KEY_INVALID


def test_one_ephemeral_key_of_two_sites_is_refused(consortium: Consortium, issued: Issued) -> None:
    readies = signed_of(issued)
    stolen = readies[2].ready.ephemeral_key
    readies[3] = resealed(consortium, readies[3], ephemeral_key=stolen)
    assert refusal(lambda: join_1(consortium, issued, readies)) is ErrorCode.COHORT_KEY_INVALID
