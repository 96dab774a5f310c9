"""Approval: one digest, confirmed peers, own floors and budget; a stop is final and local."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.approval import check_approvals, open_stop
from schemas.governance.study import StudyPlan
from schemas.signing import Context, SignedDocument, seal
from site_node.config import parse_config, render_config
from site_node.context import SiteContext
from site_node.governance.checks import PlanState
from tests.support.factories import HYBRID, VENDOR, make_keys, plan_values, sealed_card
from tests.support.sites import TestClock, approve, make_sites, real_plan, sealed


def assert_refused(site: SiteContext, plan: StudyPlan, code: ErrorCode) -> None:
    """Refused with this code, written down, and nothing signed, reserved or queued."""
    with pytest.raises(CohortiumError) as caught:
        approve(site, plan)
    assert caught.value.code is code
    assert caught.value.hint
    last = site.audit.rows(last=1)[0].event
    assert (last.event, last.attributes["code"]) == ("plan.approval_denied", code.value)
    assert site.ledger.rows() == ()
    assert site.inbox.waiting() == ()


def with_config(site: SiteContext, toml: str) -> SiteContext:
    """The same hospital after its steward changed site.toml."""
    base = render_config(site.config)
    head, _, floors = base.partition("[floors]")
    del floors
    return SiteContext(site.home, parse_config((head + toml).encode("utf-8")), site.clock)


def test_an_approval_is_signed_reserved_and_queued(site: SiteContext, plan: StudyPlan) -> None:
    approval, recording = site.approvals.approve(sealed(plan), plan.digest())
    assert set(approval.peers) == {"site-2", "site-3"}
    assert recording.event.plan_digest == plan.digest()
    waiting = site.inbox.waiting()
    assert [each.kind for each in waiting] == ["approval"]
    signed = SignedDocument.model_validate_json(waiting[0].body)
    assert check_approvals(plan, [signed]).approved == ("site-1",)
    account = site.ledger.state().accounts[plan.digest()]
    assert (account.reserve.attempts, account.charged) == (12, 0)
    assert site.approvals.approved_plan(plan.digest()) == plan
    assert site.approvals.approved_bundles() == {plan.app_bundle_sha256}
    assert site.approvals.own_approval(plan.digest()) == approval


def test_a_plan_nobody_approved_does_not_run(site: SiteContext, plan: StudyPlan) -> None:
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approved_plan(plan.digest())
    assert caught.value.code is ErrorCode.PLAN_UNKNOWN
    site.inbox.receive("plan", "heart", sealed(plan))
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approved_plan(plan.digest())
    assert caught.value.code is ErrorCode.PLAN_UNAPPROVED
    assert site.approvals.approved_bundles() == frozenset()


@pytest.mark.parametrize("stated", ["", "00" * 32, "heart"])
def test_another_hash_than_the_plans_is_refused(
    site: SiteContext, plan: StudyPlan, stated: str
) -> None:
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approve(sealed(plan), stated)
    assert caught.value.code is ErrorCode.PLAN_HASH_MISMATCH
    assert site.approvals.state(plan.digest(), plan.expires) is PlanState.PENDING


def test_the_beginning_of_the_hash_is_not_enough(site: SiteContext, plan: StudyPlan) -> None:
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approve(sealed(plan), plan.digest()[:16])
    assert caught.value.code is ErrorCode.PLAN_HASH_MISMATCH


def resealed(plan: StudyPlan, change: dict[str, Any], *, sign_again: bool) -> bytes:
    """A plan whose payload was changed, signed again or not."""
    signed = json.loads(sealed(plan))
    values = json.loads(base64.b64decode(signed["payload"]))
    values.update(change)
    import rfc8785

    payload = rfc8785.dumps(values)
    if sign_again:
        from schemas.signing import sign

        signed["signature"] = sign(VENDOR, Context.PLAN, payload)
    signed["payload"] = base64.b64encode(payload).decode()
    return rfc8785.dumps(signed)


def test_a_tampered_plan_is_refused(site: SiteContext, plan: StudyPlan) -> None:
    raw = resealed(plan, {"cohort_minimum": 3, "title": "Another"}, sign_again=False)
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approve(raw, plan.digest())
    assert caught.value.code is ErrorCode.PLAN_TAMPERED


def test_an_unknown_field_is_refused_even_when_signed(site: SiteContext, plan: StudyPlan) -> None:
    raw = resealed(plan, {"upload_rows_to": "https://example.org"}, sign_again=True)
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approve(raw, plan.digest())
    assert caught.value.code is ErrorCode.FIELD_UNKNOWN


def test_a_plan_signed_for_another_purpose_is_refused(site: SiteContext, plan: StudyPlan) -> None:
    raw = seal(VENDOR, Context.RELEASE, plan).canonical()
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approve(raw, plan.digest())
    assert caught.value.code is ErrorCode.PLAN_TAMPERED


def test_a_changed_plan_is_a_new_digest_and_needs_a_new_approval(
    sites: list[SiteContext], plan: StudyPlan
) -> None:
    site = sites[0]
    approve(site, plan)
    changed = real_plan(sites, training={"steps": 9, "average_from_step": 5})
    assert changed.digest() != plan.digest()
    site.inbox.receive("plan", "heart", sealed(changed))
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approved_plan(changed.digest())
    assert caught.value.code is ErrorCode.PLAN_UNAPPROVED


def test_an_expired_plan_is_refused_and_an_approved_one_ends(
    site: SiteContext, plan: StudyPlan, clock: TestClock
) -> None:
    approve(site, plan)
    clock.forward(days=200)
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approved_plan(plan.digest())
    assert caught.value.code is ErrorCode.PLAN_EXPIRED


def test_an_expired_plan_cannot_be_approved(
    site: SiteContext, plan: StudyPlan, clock: TestClock
) -> None:
    clock.forward(days=200)
    assert_refused(site, plan, ErrorCode.PLAN_EXPIRED)


def test_a_plan_from_the_future_is_refused(
    site: SiteContext, plan: StudyPlan, clock: TestClock
) -> None:
    clock.forward(days=-2)
    assert_refused(site, plan, ErrorCode.PLAN_NOT_YET_VALID)


def test_an_unknown_peer_is_refused(sites: list[SiteContext]) -> None:
    plan = real_plan(sites)
    with sites[0].db.write() as connection:
        connection.execute("DELETE FROM peers WHERE site_id = 'site-3'")
    assert_refused(sites[0], plan, ErrorCode.PEER_UNKNOWN)


def test_an_unconfirmed_peer_is_refused(sites: list[SiteContext], plan: StudyPlan) -> None:
    with sites[0].db.write() as connection:
        connection.execute("UPDATE peers SET confirmed_at = NULL WHERE site_id = 'site-3'")
    assert_refused(sites[0], plan, ErrorCode.PEER_UNCONFIRMED)


@pytest.mark.parametrize("key", ["identity_key", "approval_key", "study_key"])
def test_a_substituted_peer_key_is_refused(sites: list[SiteContext], key: str) -> None:
    values = plan_values({f"site-{i}": make_keys() for i in (1, 2, 3)})
    strangers = {site["site_id"]: site[key] for site in values["sites"]}
    honest = real_plan(sites)
    entries = [site.model_dump(mode="json") for site in honest.sites]
    entries[2][key] = strangers["site-3"]
    assert_refused(sites[0], real_plan(sites, sites=entries), ErrorCode.PEER_KEY_SUBSTITUTED)


@pytest.mark.parametrize(
    ("place", "code"),
    [(2, ErrorCode.PEER_KEY_SUBSTITUTED), (0, ErrorCode.OWN_KEY_WRONG)],
)
def test_a_substituted_kem_key_is_refused_in_a_hybrid_plan(
    sites: list[SiteContext], place: int, code: ErrorCode
) -> None:
    """SECAGG-16: the confirmed fingerprint covers it, so nobody can slip in a key of their own."""
    honest = real_plan(sites, aggregation={"pair_root": HYBRID})
    entries = [site.model_dump(mode="json") for site in honest.sites]
    entries[place]["kem_key"] = make_keys().kem.public_key().public_bytes_raw().hex()
    changed = real_plan(sites, sites=entries, aggregation={"pair_root": HYBRID})
    assert_refused(sites[0], changed, code)


def test_a_hybrid_approval_is_kept_with_what_it_encapsulates(sites: list[SiteContext]) -> None:
    plan = real_plan(sites, aggregation={"pair_root": HYBRID})
    approval, _ = sites[0].approvals.approve(sealed(plan), plan.digest())
    assert set(approval.encapsulations) == {"site-2", "site-3"}
    signed = SignedDocument.model_validate_json(sites[0].inbox.waiting()[0].body)
    assert check_approvals(plan, [signed]).approved == ("site-1",)
    assert sites[0].approvals.own_approval(plan.digest()) == approval
    rows = sites[0].db.rows("SELECT peer, ciphertext FROM kem_secrets ORDER BY peer")
    assert {row["peer"]: row["ciphertext"] for row in rows} == approval.encapsulations


def test_a_peer_whose_new_card_is_not_confirmed_is_refused(
    sites: list[SiteContext], plan: StudyPlan
) -> None:
    changed = sealed_card("site-3", make_keys()).canonical()
    sites[0].peers.import_card(changed, replace=True)
    assert_refused(sites[0], plan, ErrorCode.PEER_KEY_SUBSTITUTED)


def test_wrong_own_keys_are_refused(sites: list[SiteContext]) -> None:
    entries = [site.model_dump(mode="json") for site in real_plan(sites).sites]
    entries[0]["study_key"] = plan_values({"site-1": make_keys()})["sites"][0]["study_key"]
    assert_refused(sites[0], real_plan(sites, sites=entries), ErrorCode.OWN_KEY_WRONG)


def test_a_plan_without_this_hospital_is_refused(
    sites: list[SiteContext], tmp_path_factory: pytest.TempPathFactory, clock: TestClock
) -> None:
    others = make_sites(tmp_path_factory.mktemp("others"), clock, 4)
    entries = [site.model_dump(mode="json") for site in real_plan(others).sites]
    assert_refused(sites[0], real_plan(others, sites=entries[1:]), ErrorCode.PLAN_SITE_ABSENT)


@pytest.mark.parametrize(
    ("toml", "code"),
    [
        ("[floors]\nminimum_cohort = 4\n", ErrorCode.FLOOR_COHORT_MINIMUM),
        ("[floors]\nmaximum_epsilon_per_study = 0.9\n", ErrorCode.FLOOR_EPSILON),
        ("[floors]\nmaximum_epsilon_total = 0.5\n", ErrorCode.LEDGER_INSUFFICIENT),
    ],
)
def test_the_hospitals_own_limits_hold(
    site: SiteContext, plan: StudyPlan, toml: str, code: ErrorCode
) -> None:
    assert_refused(with_config(site, toml), plan, code)


def test_a_floor_tightened_later_ends_a_running_study(
    site: SiteContext, approved: StudyPlan
) -> None:
    stricter = with_config(site, "[floors]\nminimum_cohort = 4\n")
    with pytest.raises(CohortiumError) as caught:
        stricter.approvals.approved_plan(approved.digest())
    assert caught.value.code is ErrorCode.FLOOR_COHORT_MINIMUM


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f'known_bundles = ["{"ab" * 32}"]', ErrorCode.BUNDLE_UNKNOWN),
        (f'known_vendors = ["{"ab" * 32}"]', ErrorCode.PLAN_VENDOR_UNKNOWN),
    ],
)
def test_lists_of_known_vendors_and_bundles_hold(
    site: SiteContext, plan: StudyPlan, line: str, code: ErrorCode
) -> None:
    head = f'site_id = "site-1"\nname = "x"\n{line}\n'
    strict = SiteContext(site.home, parse_config(head.encode()), site.clock)
    assert_refused(strict, plan, code)


def test_a_promise_the_noise_does_not_keep_is_refused(sites: list[SiteContext]) -> None:
    plan = real_plan(sites, privacy={"noise_multiplier": 4})
    assert_refused(sites[0], plan, ErrorCode.ACCOUNTING_MISMATCH)


def test_a_false_promise_to_patients_of_two_hospitals_is_refused(sites: list[SiteContext]) -> None:
    """`plan show` prints that number as a fact, so it is recomputed like epsilon itself."""
    plan = real_plan(sites, privacy={"epsilon_two_hospitals": 1.0})
    assert_refused(sites[0], plan, ErrorCode.ACCOUNTING_MISMATCH)


def test_a_plan_is_approved_once(site: SiteContext, approved: StudyPlan) -> None:
    with pytest.raises(CohortiumError) as caught:
        approve(site, approved)
    assert caught.value.code is ErrorCode.PLAN_ALREADY_APPROVED


def test_a_plan_that_miscounts_its_parameters_is_refused(sites: list[SiteContext]) -> None:
    """What leaves is 4 bytes a parameter: a larger number would be a wider door."""
    plan = real_plan(sites, model={"parameters": 6})
    assert_refused(sites[0], plan, ErrorCode.PLAN_INVALID)


def test_a_refused_plan_stays_refused_and_the_others_are_told(
    site: SiteContext, plan: StudyPlan
) -> None:
    site.inbox.receive("plan", "heart", sealed(plan))
    site.approvals.refuse(plan.digest(), "steward.decision")
    with pytest.raises(CohortiumError) as caught:
        approve(site, plan)
    assert caught.value.code is ErrorCode.PLAN_REFUSED
    assert site.ledger.rows() == ()
    (waiting,) = site.inbox.waiting()
    stop = open_stop(plan, SignedDocument.model_validate_json(waiting.body))
    assert (waiting.kind, stop.site_id, stop.reason_code) == (
        "stop",
        "site-1",
        "steward.decision",
    )


def test_review_lists_every_problem_and_decides_nothing(
    sites: list[SiteContext], plan: StudyPlan
) -> None:
    site = sites[0]
    with site.db.write() as connection:
        connection.execute("UPDATE peers SET confirmed_at = NULL")
    strict = with_config(site, "[floors]\nminimum_cohort = 4\n")
    strict.inbox.receive("plan", "heart", sealed(plan))
    review = strict.approvals.review(strict.inbox.find("heart"))
    assert {error.code for error in review.problems} == {
        ErrorCode.PEER_UNCONFIRMED,
        ErrorCode.FLOOR_COHORT_MINIMUM,
    }
    assert review.state is PlanState.PENDING
    assert review.budget.committed == 0
    assert 0 < review.budget.after < 1


def test_a_stop_is_final_signed_and_gives_back_what_was_never_opened(
    site: SiteContext, approved: StudyPlan
) -> None:
    digest = approved.digest()
    site.charge(approved, "train", 0, 0, approved.site_ids)
    report = site.approvals.stop(digest)
    assert (report.sent, report.held_back, report.attempts_returned) == ((), 0, 11)
    assert site.approvals.state(digest) is PlanState.STOPPED
    assert site.approvals.approved_bundles() == frozenset()
    stops = [each for each in site.inbox.waiting() if each.kind == "stop"]
    signed = SignedDocument.model_validate_json(stops[0].body)
    assert open_stop(approved, signed).site_id == "site-1"
    assert site.inbox.waiting()[0].kind == "stop"
    for attempt in (
        lambda: approve(site, approved),
        lambda: site.approvals.stop(digest),
        lambda: site.approvals.approved_plan(digest),
        lambda: site.charge(approved, "train", 1, 0, approved.site_ids),
    ):
        with pytest.raises(CohortiumError) as caught:
            attempt()
        assert caught.value.code is ErrorCode.PLAN_STOPPED


def test_a_stop_works_without_the_approval_key(site: SiteContext, approved: StudyPlan) -> None:
    reopened = SiteContext(site.home, site.config, site.clock)
    reopened.keys.path("approval.key").unlink()
    report = reopened.approvals.stop(approved.digest())
    assert not report.statement_signed
    assert reopened.approvals.is_stopped(approved.digest())


def test_a_plan_can_be_stopped_before_anybody_approved_it(
    site: SiteContext, plan: StudyPlan
) -> None:
    site.inbox.receive("plan", "heart", sealed(plan))
    site.approvals.stop(plan.digest())
    assert_refused_after_stop(site, plan)


@pytest.mark.parametrize("other", ["stop", "refuse"])
def test_a_decision_made_by_another_command_meanwhile_holds(
    site: SiteContext, plan: StudyPlan, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people at two terminals: no budget is set aside for a plan that cannot run any more."""
    digest = plan.digest()
    site.inbox.receive("plan", "heart", sealed(plan))
    honest = site.inbox.receive

    def meanwhile(kind: str, study_id: str, body: bytes) -> Any:
        getattr(SiteContext(site.home, site.config, site.clock).approvals, other)(digest)
        return honest(kind, study_id, body)

    monkeypatch.setattr(site.inbox, "receive", meanwhile)
    with pytest.raises(CohortiumError) as caught:
        site.approvals.approve(sealed(plan), digest)
    assert caught.value.code in (ErrorCode.PLAN_STOPPED, ErrorCode.PLAN_REFUSED)
    assert site.ledger.rows() == ()
    assert [each.kind for each in site.inbox.waiting()] == ["stop"]


def test_a_plan_is_not_refused_once_another_command_has_approved_it(
    site: SiteContext, plan: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.inbox.receive("plan", "heart", sealed(plan))
    honest = site.approvals._signed_stop

    def meanwhile(stop: Any) -> bytes:
        approve(SiteContext(site.home, site.config, site.clock), plan)
        return honest(stop)

    monkeypatch.setattr(site.approvals, "_signed_stop", meanwhile)
    with pytest.raises(CohortiumError) as caught:
        site.approvals.refuse(plan.digest())
    assert caught.value.code is ErrorCode.PLAN_ALREADY_APPROVED
    assert site.approvals.state(plan.digest()) is PlanState.APPROVED


def assert_refused_after_stop(site: SiteContext, plan: StudyPlan) -> None:
    with pytest.raises(CohortiumError) as caught:
        approve(site, plan)
    assert caught.value.code is ErrorCode.PLAN_STOPPED
