"""What confirms and unmasks a recoverable sum: each rule of the gate broken on purpose.

SECAGG-13, -14 at the door: after this site's own upload, charged, once, for enough hospitals, never
both secrets of one hospital, never more than `plan show` said.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from schemas.errors import ErrorCode, PolicyDenied
from schemas.governance.study import StudyPlan
from schemas.secagg.site import Party, make_ready
from schemas.wire import Confirmation, ReadyReply, Unmasking, Upload, encode
from site_node.context import SiteContext
from site_node.egress.preview import what_leaves
from site_node.governance.ledger import ChargeRef
from tests.support.factories import make_plan, recoverable
from tests.support.sites import TestClock, approve, make_sites, real_plan

FIVE = tuple(f"site-{index}" for index in range(1, 6))
FOUR = FIVE[:4]


@pytest.fixture(scope="module")
def five(tmp_path_factory) -> tuple[SiteContext, StudyPlan]:
    """The first of five hospitals and a plan that may lose one, of which four stay."""
    sites = make_sites(tmp_path_factory.mktemp("five"), TestClock(), 5)
    training = {"retry_cap": 30}
    plan = real_plan(
        sites,
        training=training,
        privacy={"epsilon": 2, "epsilon_two_hospitals": 5},
        **recoverable(1),
    )
    approve(sites[0], plan)
    return sites[0], plan


class Attempt:
    """One fresh, charged attempt at the gate."""

    count = 0

    def __init__(self, site: SiteContext, plan: StudyPlan) -> None:
        Attempt.count += 1
        self.site, self.plan, self.number = site, plan, Attempt.count
        self.charge = site.charge(plan, "train", 0, self.number, plan.site_ids)

    def values(self, **fields: Any) -> dict[str, Any]:
        usual = {"plan_digest": self.plan.digest(), "round": 0, "attempt": self.number}
        return {**usual, **fields}

    def upload(self) -> None:
        body = Upload(kind="train", tag="0" * 16, **self.values())
        words = b"\x07" * (4 * self.plan.model.parameters)
        self.release("masked-update", encode(body, words), len(self.plan.sites))

    def confirmation(self, **fields: Any) -> bytes:
        usual = {"site_id": "site-1", "signature": "ab" * 64}
        return encode(Confirmation(**self.values(**{**usual, **fields})))

    def unmasking(self, **fields: Any) -> bytes:
        usual = {
            "site_id": "site-1",
            "shares": dict.fromkeys(FOUR, "cd" * 32),
            "seeds": {"site-5": "ef" * 48},
        }
        return encode(Unmasking(**self.values(**{**usual, **fields})))

    def confirm(self, body: bytes | None = None, contributors: int = 4, **more: Any) -> None:
        kind = more.pop("kind", "survivor-confirmation")
        self.release(kind, body or self.confirmation(), contributors, **more)

    def unmask(self, body: bytes | None = None, contributors: int = 4, **more: Any) -> None:
        self.release("unmasking", body or self.unmasking(), contributors, **more)

    def release(self, kind: str, body: bytes, contributors: int, **more: Any) -> None:
        charge: ChargeRef | None = more.get("charge", self.charge)
        self.site.gate.release(kind, body, plan=self.plan, contributors=contributors, charge=charge)


@pytest.fixture
def attempt(five) -> Attempt:
    return Attempt(*five)


def denied(code: ErrorCode, act, *arguments: Any, **more: Any) -> None:
    with pytest.raises(PolicyDenied) as caught:
        act(*arguments, **more)
    assert caught.value.code is code


def test_upload_confirmation_and_unmasking_pass_in_this_order(attempt) -> None:
    denied(ErrorCode.EGRESS_TOO_EARLY, attempt.confirm)
    attempt.upload()
    denied(ErrorCode.EGRESS_TOO_EARLY, attempt.unmask)
    attempt.confirm()
    attempt.unmask()
    rows = attempt.site.db.rows(
        "SELECT kind FROM released WHERE attempt = ? ORDER BY id", attempt.number
    )
    assert [row["kind"] for row in rows] == ["masked-update", "survivor-confirmation", "unmasking"]
    last = attempt.site.audit.rows(last=1)[0].event
    assert (last.event, last.attributes["kind"]) == ("egress.released", "unmasking")
    assert (last.attributes["sites"], last.attributes["lost"]) == (4, 1)


def test_one_list_is_signed_and_one_sum_unmasked(attempt) -> None:
    attempt.upload()
    attempt.confirm()
    attempt.confirm()  # the same signature again says nothing new
    other = attempt.confirmation(signature="cd" * 64)
    denied(ErrorCode.EGRESS_ALREADY_RELEASED, attempt.confirm, other)
    attempt.unmask()
    denied(ErrorCode.EGRESS_ALREADY_RELEASED, attempt.unmask)


def test_another_attempts_upload_does_not_count(five, attempt) -> None:
    attempt.upload()
    denied(ErrorCode.EGRESS_TOO_EARLY, Attempt(*five).confirm)


def test_neither_leaves_without_the_attempts_own_charge(five, attempt) -> None:
    attempt.upload()
    other = Attempt(*five).charge
    for charge in (None, other):
        denied(ErrorCode.EGRESS_NOT_CHARGED, attempt.confirm, charge=charge)
    attempt.confirm()
    for charge in (None, other):
        denied(ErrorCode.EGRESS_NOT_CHARGED, attempt.unmask, charge=charge)


def test_too_few_hospitals_are_neither_confirmed_nor_unmasked(attempt) -> None:
    """Four must stay: three may stand behind an evaluation of this plan, not behind this sum."""
    assert (attempt.plan.cohort_minimum, attempt.plan.fewest_summed) == (3, 4)
    words = b"\x07" * (4 * attempt.plan.model.parameters)
    body = encode(Upload(kind="train", tag="0" * 16, **attempt.values()), words)
    denied(ErrorCode.EGRESS_TOO_FEW, attempt.release, "masked-update", body, 3)
    attempt.upload()
    denied(ErrorCode.EGRESS_TOO_FEW, attempt.confirm, contributors=3)
    attempt.confirm()
    few = attempt.unmasking(shares=dict.fromkeys(FIVE[:3], "cd" * 32), seeds={})
    denied(ErrorCode.EGRESS_TOO_FEW, attempt.unmask, contributors=3)
    denied(ErrorCode.EGRESS_TOO_FEW, attempt.unmask, few)  # the bytes count, not what is said


@pytest.mark.parametrize(
    "fields",
    [
        {"seeds": {"site-4": "ef" * 48}},
        {"shares": dict.fromkeys(FIVE, "cd" * 32)},
        {"shares": dict.fromkeys(FIVE[1:], "cd" * 32), "seeds": {"site-1": "ef" * 48}},
        {"shares": dict.fromkeys((*FOUR, "site-9"), "cd" * 32), "seeds": {}},
        {"seeds": {"site-9": "ef" * 48}},
    ],
    ids=["both of one", "both of the lost", "its own seed", "a stranger's share", "and seed"],
)
def test_never_both_secrets_of_one_hospital(attempt, fields) -> None:
    attempt.upload()
    attempt.confirm()
    denied(ErrorCode.EGRESS_UNMASKS_MORE, attempt.unmask, attempt.unmasking(**fields))


def test_more_lost_than_the_plan_allows_are_not_unmasked(tmp_path) -> None:
    """Six hospitals, of which one may be lost: two seeds are one too many for four shares."""
    sites = make_sites(tmp_path, TestClock(), 6)
    plan = real_plan(sites, **recoverable(1))
    approve(sites[0], plan)
    attempt = Attempt(sites[0], plan)
    attempt.upload()
    attempt.confirm()
    two = attempt.unmasking(seeds=dict.fromkeys(("site-5", "site-6"), "ef" * 48))
    denied(ErrorCode.EGRESS_UNMASKS_MORE, attempt.unmask, two)


@pytest.mark.parametrize("fields", [{"plan_digest": "ab" * 32}, {"site_id": "site-2"}])
def test_another_plans_or_hospitals_answer_is_kept(attempt, fields) -> None:
    attempt.upload()
    denied(ErrorCode.EGRESS_KIND_REFUSED, attempt.confirm, attempt.confirmation(**fields))
    attempt.confirm()
    denied(ErrorCode.EGRESS_KIND_REFUSED, attempt.unmask, attempt.unmasking(**fields))


def test_the_bytes_are_of_the_kind_they_are_released_as(attempt) -> None:
    attempt.upload()
    denied(ErrorCode.EGRESS_KIND_REFUSED, attempt.confirm, attempt.unmasking())
    denied(ErrorCode.EGRESS_KIND_REFUSED, attempt.confirm, kind="model-hash")
    with_blob = Confirmation(site_id="site-1", signature="ab" * 64, **attempt.values())
    denied(ErrorCode.EGRESS_SIZE_WRONG, attempt.confirm, encode(with_blob, b"row 17"))


def test_an_atomic_plan_lets_neither_leave(site: SiteContext, approved: StudyPlan) -> None:
    attempt = Attempt(site, approved)
    attempt.upload()
    denied(ErrorCode.EGRESS_KIND_REFUSED, attempt.confirm)
    denied(ErrorCode.EGRESS_KIND_REFUSED, attempt.unmask)


def test_a_stop_between_the_steps_holds_the_rest_back(tmp_path) -> None:
    sites = make_sites(tmp_path, TestClock(), 4)
    plan = real_plan(sites, **recoverable(1))
    approve(sites[0], plan)
    attempt = Attempt(sites[0], plan)
    attempt.upload()
    attempt.confirm()
    sites[0].approvals.stop(plan.digest())
    denied(ErrorCode.EGRESS_STOPPED, attempt.unmask)
    denied(ErrorCode.EGRESS_STOPPED, attempt.confirm)


def test_nothing_is_larger_than_plan_show_promised(attempt) -> None:
    plan, site = attempt.plan, attempt.site
    promised = {line.kind: line.bytes_each for line in what_leaves(plan)}
    party = Party(site.config.site_id, site.keys.identity, site.keys.study)
    ready, _ = make_ready(
        party, plan, kind="train", round=11, attempt=3, model_hash="ab" * 32,
        last_sum_hash="cd" * 32, ledger_head=site.ledger.head(), ledger_charges=0,
        entropy=os.urandom,
    )  # fmt: skip
    assert ready.ready.mask_shares  # recoverable: twice as many shares
    reply = encode(ReadyReply(ready=ready))
    assert promised["model-hash"] - 200 < len(reply) <= promised["model-hash"]
    unmasking, confirmation = attempt.unmasking(), attempt.confirmation()
    assert promised["unmasking"] - 30 < len(unmasking) <= promised["unmasking"]
    assert len(confirmation) <= promised["survivor-confirmation"] < len(confirmation) + 30


def test_plan_show_counts_one_of_each_in_every_attempt(attempt) -> None:
    lines = {line.kind: line for line in what_leaves(attempt.plan)}
    attempts = attempt.plan.training.attempts
    assert lines["survivor-confirmation"].at_most == lines["unmasking"].at_most == attempts
    assert "at least 4 hospitals" in lines["unmasking"].what
    assert "Never both" in lines["unmasking"].what
    atomic, _ = make_plan(5)
    assert "unmasking" not in {line.kind for line in what_leaves(atomic)}
