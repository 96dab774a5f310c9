"""Does an approval count only from the right steward, for the right plan, of confirmed peers?"""

from __future__ import annotations

from typing import Any

import pytest

from schemas.canonical import parse
from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.approval import (
    Approval,
    Stop,
    check_approvals,
    check_stops,
    open_approval,
    open_stop,
)
from schemas.signing import Context, SignedDocument, public_hex, seal
from tests.support.factories import (
    NOW,
    make_approval,
    make_plan,
    plan_with,
    sealed_approval,
    sealed_stop,
)

PLAN, KEYS = make_plan()
OTHER = plan_with(KEYS, title="Another title")


def changed(site_id: str = "site-1", **changes: Any) -> SignedDocument:
    values = {**make_approval(PLAN, site_id, KEYS).model_dump(), **changes}
    return seal(KEYS[site_id].approval, Context.APPROVAL, Approval(**values))


def code_of(signed: SignedDocument) -> ErrorCode:
    with pytest.raises(CohortiumError) as caught:
        open_approval(PLAN, signed)
    return caught.value.code


def test_an_approval_survives_the_journey() -> None:
    signed = sealed_approval(PLAN, "site-1", KEYS)
    travelled = parse(SignedDocument, signed.canonical(), max_bytes=10**5)
    assert open_approval(PLAN, travelled) == make_approval(PLAN, "site-1", KEYS)


def test_the_identity_key_does_not_approve() -> None:
    approval = make_approval(PLAN, "site-1", KEYS)
    signed = seal(KEYS["site-1"].identity, Context.APPROVAL, approval)
    assert code_of(signed) is ErrorCode.APPROVER_WRONG


def test_one_steward_does_not_approve_for_another_site() -> None:
    approval = make_approval(PLAN, "site-2", KEYS)
    signed = seal(KEYS["site-1"].approval, Context.APPROVAL, approval)
    assert code_of(signed) is ErrorCode.APPROVER_WRONG


def test_a_claimed_approver_is_not_enough() -> None:
    approval = make_approval(PLAN, "site-1", KEYS)
    forged = seal(KEYS["site-2"].approval, Context.APPROVAL, approval).model_copy(
        update={"signer": public_hex(KEYS["site-1"].approval)}
    )
    assert code_of(forged) is ErrorCode.SIGNATURE_INVALID


def test_an_approval_of_a_changed_plan_does_not_count() -> None:
    assert code_of(sealed_approval(OTHER, "site-1", KEYS)) is ErrorCode.APPROVAL_OTHER_PLAN


def test_an_approval_that_names_another_study_is_refused() -> None:
    assert code_of(changed(study_id="lungs")) is ErrorCode.APPROVAL_INVALID


def test_an_approval_after_expiry_does_not_count() -> None:
    assert code_of(changed(approved_at=PLAN.expires)) is ErrorCode.PLAN_EXPIRED


def test_every_peer_and_only_peers_must_be_confirmed() -> None:
    peers = make_approval(PLAN, "site-1", KEYS).peers
    fewer = {site: mark for site, mark in peers.items() if site != "site-3"}
    for wrong in (fewer, {**peers, "site-9": "ab" * 32}, {**peers, "site-1": "ab" * 32}, {}):
        assert code_of(changed(peers=wrong)) is ErrorCode.APPROVAL_PEERS_INCOMPLETE


def test_a_stop_is_not_an_approval_and_an_approval_is_not_a_stop() -> None:
    assert code_of(sealed_stop(PLAN, "site-1", KEYS)) is ErrorCode.SIGNATURE_INVALID
    with pytest.raises(CohortiumError) as caught:
        open_stop(PLAN, sealed_approval(PLAN, "site-1", KEYS))
    assert caught.value.code is ErrorCode.SIGNATURE_INVALID


def test_the_result_says_who_approved_who_is_missing_and_what_is_wrong() -> None:
    stranger = make_plan()[1]["site-1"]
    foreign = seal(stranger.approval, Context.APPROVAL, make_approval(PLAN, "site-4", KEYS))
    result = check_approvals(
        PLAN,
        [
            sealed_approval(PLAN, "site-2", KEYS),
            sealed_approval(PLAN, "site-1", KEYS),
            sealed_approval(PLAN, "site-1", KEYS),
            sealed_approval(OTHER, "site-3", KEYS),
            foreign,
        ],
    )
    assert result.approved == ("site-1", "site-2")
    assert result.missing == ("site-3", "site-4")
    assert result.invalid == {
        "site-3": ErrorCode.APPROVAL_OTHER_PLAN,
        public_hex(stranger.approval): ErrorCode.APPROVER_WRONG,
    }


def test_a_bad_document_does_not_take_back_a_good_one() -> None:
    good, bad = sealed_approval(PLAN, "site-1", KEYS), sealed_approval(OTHER, "site-1", KEYS)
    for order in ([good, bad], [bad, good]):
        assert check_approvals(PLAN, order).approved == ("site-1",)


def test_no_approvals_means_all_are_missing() -> None:
    assert check_approvals(PLAN, []).missing == PLAN.site_ids


def test_a_stop_counts_from_its_own_steward_for_this_plan_only() -> None:
    wrong_key = seal(
        KEYS["site-2"].approval,
        Context.STOP,
        Stop(plan_digest=PLAN.digest(), site_id="site-1", stopped_at=NOW, reason_code="steward.no"),
    )
    by_identity = seal(
        KEYS["site-3"].identity, Context.STOP, open_stop(PLAN, sealed_stop(PLAN, "site-3", KEYS))
    )
    result = check_stops(
        PLAN,
        [
            sealed_stop(PLAN, "site-4", KEYS),
            sealed_stop(OTHER, "site-1", KEYS),
            wrong_key,
            by_identity,
        ],
    )
    assert result.stopped == ("site-4",)
    assert result.invalid == {
        "site-1": ErrorCode.APPROVAL_OTHER_PLAN,
        "site-2": ErrorCode.APPROVER_WRONG,
        public_hex(KEYS["site-3"].identity): ErrorCode.APPROVER_WRONG,
    }
