"""Who may propose, approve and stop a study, and which study may run?"""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from coordinator.lifecycle import StudyState
from schemas.canonical import build, sha256_hex
from schemas.errors import CohortiumError, ErrorCode, PolicyDenied, ProtocolError, TrustError
from schemas.governance.approval import open_approval
from schemas.governance.study import StudyPlan
from schemas.signing import Context, public_hex, seal
from tests.support.desk import BUNDLE, Desk
from tests.support.factories import (
    HYBRID,
    SiteKeys,
    make_approval,
    make_keys,
    seal_plan,
    sealed_approval,
    sealed_stop,
)
from tests.support.starts import FROM_FILE

ALL = ("site-1", "site-2", "site-3", "site-4")


def test_a_proposed_plan_is_stored_as_it_was_signed(desk: Desk) -> None:
    plan = desk.plan()
    record = desk.propose(plan)
    assert record.digest == plan.digest()
    assert record.state is StudyState.PROPOSED
    assert record.signed_plan == seal_plan(plan)
    assert desk.studies.weights(plan.digest()) == desk.weights(plan)


def test_the_same_plan_again_changes_nothing(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    assert desk.propose(plan).state is StudyState.APPROVED
    assert len(desk.studies.all()) == 1


def test_a_tampered_plan_is_refused(desk: Desk) -> None:
    signed = seal_plan(desk.plan())
    other = seal_plan(desk.plan(title="Another title"))
    forged = signed.model_copy(update={"payload": other.payload})
    with pytest.raises(TrustError) as caught:
        desk.studies.propose(forged.canonical(), b"", bundle_sha256=BUNDLE)
    assert caught.value.code is ErrorCode.PLAN_TAMPERED


def test_a_plan_sealed_by_another_key_is_refused(desk: Desk) -> None:
    plan = desk.plan()
    signed = seal(make_keys().identity, Context.PLAN, plan)
    with pytest.raises(TrustError) as caught:
        desk.studies.propose(signed.canonical(), b"", bundle_sha256=BUNDLE)
    assert caught.value.code is ErrorCode.SIGNER_UNEXPECTED


def test_a_plan_with_an_unknown_field_is_refused(desk: Desk) -> None:
    raw = seal_plan(desk.plan()).canonical()
    with pytest.raises(ProtocolError) as caught:
        desk.studies.propose(raw[:-1] + b',"x":1}', b"", bundle_sha256=BUNDLE)
    assert caught.value.code in {ErrorCode.FIELD_UNKNOWN, ErrorCode.DOCUMENT_NOT_CANONICAL}


def test_an_expired_plan_is_refused(desk: Desk) -> None:
    plan = desk.plan(created="2026-10-01T00:00:00Z", expires="2026-11-22T18:00:00Z")
    with pytest.raises(ProtocolError) as caught:
        desk.propose(plan)
    assert caught.value.code is ErrorCode.PLAN_EXPIRED


def test_weights_must_be_the_ones_the_plan_names(desk: Desk) -> None:
    plan = desk.plan(model=FROM_FILE)
    for sent in (desk.weights(plan) + b"x", b""):
        with pytest.raises(ProtocolError) as caught:
            desk.studies.propose(seal_plan(plan).canonical(), sent, bundle_sha256=BUNDLE)
        assert caught.value.code is ErrorCode.WEIGHTS_MISMATCH


def test_own_weights_are_kept_and_those_of_a_seed_derived(desk: Desk) -> None:
    own, seeded = desk.plan("heart-own", model=FROM_FILE), desk.plan()
    desk.propose(own)
    desk.propose(seeded)
    assert desk.studies.weights(own.digest()) == desk.weights(own)
    assert desk.studies.weights(seeded.digest()) == desk.weights(seeded)
    rows = desk.database.connection().execute("SELECT digest FROM weights").fetchall()
    assert [row["digest"] for row in rows] == [own.digest()]


def test_weights_beside_a_seed_are_refused(desk: Desk) -> None:
    plan = desk.plan()
    with pytest.raises(ProtocolError) as caught:
        desk.studies.propose(seal_plan(plan).canonical(), desk.weights(plan), bundle_sha256=BUNDLE)
    assert caught.value.code is ErrorCode.WEIGHTS_MISMATCH


def test_a_seed_that_gives_other_weights_than_named_is_refused(desk: Desk) -> None:
    values = desk.plan().model_dump(mode="json")
    values["model"]["initial_weights_sha256"] = "11" * 32
    plan = build(StudyPlan, values)
    with pytest.raises(ProtocolError) as caught:
        desk.propose(plan)
    assert caught.value.code is ErrorCode.WEIGHTS_MISMATCH


def _malicious(name: str, plan: StudyPlan) -> bytes:
    d = plan.model.parameters
    tensors = {"linear.weight": np.zeros((1, d - 1)), "linear.bias": np.zeros(1)}
    match name:
        case "infinite":
            return bytes(save(tensors | {"linear.bias": np.array([np.inf])}))
        case "not a number":
            return bytes(save(tensors | {"linear.bias": np.array([np.nan])}))
        case "another shape":
            return bytes(save(tensors | {"linear.weight": np.zeros((1, d))}))
        case "another tensor":
            return bytes(save(tensors | {"more": np.zeros(1)}))
        case "pickle":
            return pickle.dumps(tensors)
    return bytes(save(tensors, metadata={"note": "x"}))


@pytest.mark.parametrize(
    "name", ["infinite", "not a number", "another shape", "another tensor", "pickle", "metadata"]
)
def test_malicious_weights_are_refused_though_the_plan_names_them(desk: Desk, name: str) -> None:
    """PRIVACY-20: their hash is right; what they hold is no model."""
    values = desk.plan(model=FROM_FILE).model_dump(mode="json")
    weights = _malicious(name, desk.plan())
    values["model"]["initial_weights_sha256"] = sha256_hex(weights)
    plan = build(StudyPlan, values)
    with pytest.raises(ProtocolError) as caught:
        desk.studies.propose(seal_plan(plan).canonical(), weights, bundle_sha256=BUNDLE)
    assert caught.value.code is ErrorCode.WEIGHTS_MALFORMED
    assert desk.studies.all() == []


def test_a_plan_for_another_bundle_is_refused(desk: Desk) -> None:
    plan = desk.plan()
    with pytest.raises(ProtocolError) as caught:
        desk.studies.propose(seal_plan(plan).canonical(), b"", bundle_sha256="99" * 32)
    assert caught.value.code is ErrorCode.BUNDLE_UNKNOWN


def test_a_plan_with_a_site_that_is_not_enrolled_is_refused(desk: Desk) -> None:
    plan = desk.plan()
    desk.database.connection().execute("DELETE FROM sites WHERE site_id = 'site-1'")
    with pytest.raises(CohortiumError) as caught:
        desk.propose(plan)
    assert caught.value.code is ErrorCode.SITE_UNKNOWN


def test_a_plan_with_a_substituted_key_is_refused(desk: Desk) -> None:
    desk.keys["site-2"] = make_keys()
    with pytest.raises(TrustError) as caught:
        desk.propose(desk.plan())
    assert caught.value.code is ErrorCode.PEER_KEY_SUBSTITUTED


def _hybrid(desk: Desk) -> StudyPlan:
    values = desk.plan().model_dump(mode="json")
    for site in values["sites"]:
        key = desk.keys[site["site_id"]].kem.public_key()
        site["kem_key"] = key.public_bytes_raw().hex()
    values["aggregation"]["pair_root"] = HYBRID
    return build(StudyPlan, values)


def test_a_hybrid_plan_is_proposed_and_approved_with_its_ciphertexts(desk: Desk) -> None:
    plan = _hybrid(desk)
    desk.propose(plan)
    desk.approve(plan)
    assert desk.studies.by_digest(plan.digest()).state is StudyState.APPROVED
    held = desk.studies.approvals(plan.digest())
    assert {site: len(open_approval(plan, held[site]).encapsulations) for site in held} == {
        "site-1": 3, "site-2": 2, "site-3": 1, "site-4": 0,
    }  # fmt: skip


def test_a_plan_with_a_substituted_kem_key_is_refused(desk: Desk) -> None:
    other = make_keys()
    desk.keys["site-2"] = replace(desk.keys["site-2"], kem=other.kem)
    with pytest.raises(TrustError) as caught:
        desk.propose(_hybrid(desk))
    assert caught.value.code is ErrorCode.PEER_KEY_SUBSTITUTED


def test_an_approval_whose_ciphertexts_do_not_fit_the_plan_is_refused(desk: Desk) -> None:
    """An operator sees at once that a hospital's approval cannot count, and why."""
    plan = _hybrid(desk)
    desk.propose(plan)
    approval = make_approval(plan, "site-1", desk.keys).model_copy(update={"encapsulations": {}})
    signed = seal(desk.keys["site-1"].approval, Context.APPROVAL, approval)
    with pytest.raises(TrustError) as caught:
        desk.studies.add_approval(signed.canonical(), from_site="site-1")
    assert caught.value.code is ErrorCode.APPROVAL_ENCAPSULATIONS_WRONG
    assert desk.studies.approvals(plan.digest()) == {}


def test_a_changed_plan_is_a_new_digest_and_replaces_one_that_has_not_begun(desk: Desk) -> None:
    first, second = desk.plan(), desk.plan(training={"learning_rate": 1.5})
    assert first.digest() != second.digest()
    desk.propose(first)
    desk.approve(first, "site-1")
    desk.propose(second)
    assert desk.studies.by_digest(first.digest()).state is StudyState.REPLACED
    assert desk.studies.by_name("heart").digest == second.digest()
    assert desk.studies.approvals(second.digest()) == {}


def test_a_begun_study_cannot_be_replaced(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    with pytest.raises(PolicyDenied) as caught:
        desk.propose(desk.plan(training={"learning_rate": 1.5}))
    assert caught.value.code is ErrorCode.STUDY_EXISTS


def test_another_vendor_cannot_replace_a_proposed_study(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    other = Ed25519PrivateKey.generate()
    foreign = desk.plan(vendor_key=public_hex(other))
    with pytest.raises(PolicyDenied) as caught:
        desk.studies.propose(
            seal(other, Context.PLAN, foreign).canonical(),
            b"",
            bundle_sha256=BUNDLE,
        )
    assert caught.value.code is ErrorCode.STUDY_EXISTS
    assert desk.studies.by_name("heart").digest == plan.digest()


def test_a_study_is_ready_once_every_hospital_approved(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan, "site-1", "site-2", "site-3")
    assert desk.studies.next_ready_to_run() is None
    desk.approve(plan, "site-4")
    ready = desk.studies.next_ready_to_run()
    assert ready is not None and ready.digest == plan.digest()
    assert set(desk.studies.roster(plan.digest())) == set(ALL)


def test_a_site_that_did_not_approve_is_not_on_the_roster(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan, "site-1", "site-2", "site-3")
    desk.studies.start_with_approved(plan.digest())
    assert set(desk.studies.roster(plan.digest())) == {"site-1", "site-2", "site-3"}


def test_the_vendor_cannot_go_on_with_fewer_than_the_minimum(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan, "site-1", "site-2")
    with pytest.raises(PolicyDenied) as caught:
        desk.studies.start_with_approved(plan.digest())
    assert caught.value.code is ErrorCode.APPROVAL_MISSING


def test_a_stop_takes_a_site_off_the_roster_for_good(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    desk.stop(plan, "site-2")
    desk.approve(plan, "site-2")
    assert "site-2" not in desk.studies.roster(plan.digest())
    assert desk.studies.stop_reasons(plan.digest()) == {"site-2": "plan.refused"}


def test_a_refusal_counts_as_an_answer(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.stop(plan, "site-4")
    desk.approve(plan, "site-1", "site-2", "site-3")
    assert desk.studies.by_digest(plan.digest()).state is StudyState.APPROVED


def test_too_many_refusals_refuse_the_study(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.stop(plan, "site-4")
    desk.stop(plan, "site-3")
    record = desk.studies.by_digest(plan.digest())
    assert record.state is StudyState.REFUSED
    assert record.reason_code == "study.too_few_sites"


def test_an_approval_by_the_wrong_key_is_refused(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    approval = sealed_approval(plan, "site-1", {**desk.keys, "site-1": make_keys()})
    with pytest.raises(TrustError) as caught:
        desk.studies.add_approval(approval.canonical(), from_site="site-1")
    assert caught.value.code is ErrorCode.APPROVER_WRONG
    assert desk.studies.approvals(plan.digest()) == {}


def test_one_site_cannot_hand_in_anothers_answer(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    for hand_in, signed in (
        (desk.studies.add_approval, sealed_approval(plan, "site-1", desk.keys)),
        (desk.studies.add_stop, sealed_stop(plan, "site-1", desk.keys)),
    ):
        with pytest.raises(ProtocolError) as caught:
            hand_in(signed.canonical(), from_site="site-2")
        assert caught.value.code is ErrorCode.MESSAGE_OTHER_SITE


def test_an_answer_to_an_unknown_plan_is_refused(desk: Desk) -> None:
    plan = desk.plan()
    with pytest.raises(ProtocolError) as caught:
        desk.approve(plan, "site-1")
    assert caught.value.code is ErrorCode.PLAN_UNKNOWN


def test_a_stop_signed_by_the_identity_key_is_refused(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    keys = desk.keys["site-1"]
    exchanged = SiteKeys(keys.approval, keys.identity, keys.study, keys.node)
    swapped = {**desk.keys, "site-1": exchanged}
    with pytest.raises(TrustError):
        desk.studies.add_stop(sealed_stop(plan, "site-1", swapped).canonical(), from_site="site-1")


def test_studies_expire(desk: Desk) -> None:
    plan = desk.plan(expires="2026-11-23T18:00:00Z")
    desk.propose(plan)
    desk.approve(plan)
    desk.clock.forward(days=2)
    assert desk.studies.next_ready_to_run() is None
    assert desk.studies.by_digest(plan.digest()).state is StudyState.EXPIRED


def test_a_waiting_study_does_not_block_the_next(desk: Desk) -> None:
    first, second = desk.plan("heart"), desk.plan("heart-two")
    for plan in (first, second):
        desk.propose(plan)
        desk.approve(plan)
        desk.clock.forward(seconds=5)
    desk.studies.set_state(first.digest(), StudyState.WAITING, "node.offline")
    ready = desk.studies.next_ready_to_run()
    assert ready is not None and ready.study_id == "heart-two"
    skipped = desk.studies.next_ready_to_run({second.digest()})
    assert skipped is not None and skipped.study_id == "heart"
    assert desk.studies.next_ready_to_run({first.digest(), second.digest()}) is None


def test_an_illegal_move_is_refused_and_leaves_no_event(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    before = len(desk.database.events())
    with pytest.raises(ProtocolError) as caught:
        desk.studies.set_state(plan.digest(), StudyState.DONE)
    assert caught.value.code is ErrorCode.STUDY_STATE
    assert len(desk.database.events()) == before


def test_a_new_reason_in_the_same_state_is_kept(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    desk.studies.set_state(plan.digest(), StudyState.WAITING, "transport.timeout")
    desk.studies.set_state(plan.digest(), StudyState.WAITING, "transport.node_offline")
    assert desk.studies.by_digest(plan.digest()).reason_code == "transport.node_offline"


def test_waits_are_kept_per_site_and_cleared(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    digest = plan.digest()
    desk.studies.set_wait(digest, "site-1", "transport.node_offline")
    events = len(desk.database.events())
    desk.studies.set_wait(digest, "site-1", "transport.node_offline")
    assert len(desk.database.events()) == events  # nothing new, nothing written
    assert desk.studies.waits(digest)["site-1"].reason_code == "transport.node_offline"
    desk.studies.set_wait(digest, "site-1", "")
    assert desk.studies.waits(digest) == {}


def test_unknown_studies_have_their_own_code(desk: Desk) -> None:
    with pytest.raises(ProtocolError) as caught:
        desk.studies.by_name("nothing")
    assert caught.value.code is ErrorCode.STUDY_UNKNOWN
    with pytest.raises(ProtocolError) as caught:
        desk.studies.weights("00" * 32)
    assert caught.value.code is ErrorCode.PLAN_UNKNOWN


def test_the_trail_of_a_whole_study_verifies(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    assert desk.database.verify_events().ok
    names = [event.event for event in desk.database.events() if event.plan_digest]
    assert names == ["study.proposed", *["approval.received"] * 4, "study.approved"]
