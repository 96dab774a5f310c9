"""The courier: stops first, everything listed first, a bad document does not stop the others."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from schemas.canonical import sha256_hex
from schemas.documents import CarriedDocument, PullResponse, SignedResult
from schemas.errors import ErrorCode, ProtocolError, TransportError
from schemas.evaluation import (
    CALIBRATION,
    DISCRIMINATION,
    calibration_words,
    derive_release,
    join_sections,
)
from schemas.governance.study import StudyPlan
from schemas.signing import Context, sign
from site_node.context import SiteContext
from site_node.courier import Courier
from tests.support.sites import approve, real_plan, sealed


@dataclass
class Desk:
    """A coordinator's document calls, scripted."""

    documents: list[tuple[str, str, bytes]] = field(default_factory=list)
    pushed: list[dict[str, str]] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    is_down: bool = False

    async def documents_pull(self, body: bytes) -> bytes:
        self._check()
        have = json.loads(body)["have"]
        self.asked.append(have)
        carried = tuple(
            CarriedDocument(
                kind=kind, study_id=study, sha256=sha256_hex(raw),
                body=base64.b64encode(raw).decode(),
            )
            for kind, study, raw in self.documents
            if sha256_hex(raw) not in have
        )  # fmt: skip
        return PullResponse(documents=carried).canonical()

    async def documents_push(self, body: bytes) -> bytes:
        self._check()
        self.pushed.append(json.loads(body))
        return b'{"accepted":true}'

    def _check(self) -> None:
        if self.is_down:
            raise TransportError(ErrorCode.TRANSPORT_UNREACHABLE, "down")


def carry(site: SiteContext, desk: Desk) -> int:
    return asyncio.run(Courier(site).carry_once(desk))


def test_a_plan_comes_in_and_is_not_asked_for_again(site: SiteContext, plan: StudyPlan) -> None:
    desk = Desk([("plan", "heart", sealed(plan))])
    assert carry(site, desk) == 1
    assert carry(site, desk) == 0
    assert desk.asked == [[], [sha256_hex(sealed(plan))]]
    assert site.inbox.find("heart").digest == plan.digest()


def test_an_approval_goes_out_once_and_is_on_the_manifest(
    site: SiteContext, approved: StudyPlan
) -> None:
    desk = Desk()
    statement = site.inbox.waiting()[0]
    assert carry(site, desk) == 1
    assert carry(site, desk) == 0
    assert [each["kind"] for each in desk.pushed] == ["approval"]
    assert base64.b64decode(desk.pushed[0]["body"]) == statement.body
    assert site.manifest.is_listed(statement.sha256)
    events = [row.event.event for row in site.audit.rows(last=3)]
    assert events == ["egress.released", "egress.listed", "document.sent"]


def test_a_stop_waits_for_a_coordinator_that_is_down_and_then_goes_first(
    site: SiteContext, approved: StudyPlan
) -> None:
    site.approvals.stop(approved.digest())
    desk = Desk(is_down=True)
    with pytest.raises(TransportError):
        carry(site, desk)
    assert {each.kind for each in site.inbox.waiting()} == {"approval", "stop"}
    desk.is_down = False
    carry(site, desk)
    assert [each["kind"] for each in desk.pushed] == ["stop", "approval"]
    assert site.inbox.waiting() == ()


def test_one_bad_document_does_not_keep_the_others_out(site: SiteContext, plan: StudyPlan) -> None:
    desk = Desk([("plan", "heart", b"{}"), ("plan", "heart", sealed(plan))])
    courier = Courier(site)
    assert asyncio.run(courier.carry_once(desk)) == 1
    assert asyncio.run(courier.carry_once(desk)) == 0
    assert sha256_hex(b"{}") in desk.asked[1]


def test_a_document_under_a_false_hash_is_refused(site: SiteContext, plan: StudyPlan) -> None:
    class Liar(Desk):
        async def documents_pull(self, body: bytes) -> bytes:
            raw = base64.b64encode(sealed(plan)).decode()
            document = CarriedDocument(kind="plan", study_id="heart", sha256="ab" * 32, body=raw)
            return PullResponse(documents=(document,)).canonical()

    assert carry(site, Liar()) == 0
    assert site.inbox.plans() == ()


def test_an_answer_with_an_unknown_field_is_refused(site: SiteContext) -> None:
    class Odd(Desk):
        async def documents_pull(self, body: bytes) -> bytes:
            return b'{"documents":[],"run":"code"}'

    with pytest.raises(ProtocolError) as caught:
        carry(site, Odd())
    assert caught.value.code is ErrorCode.FIELD_UNKNOWN


def result(
    site: SiteContext, plan: StudyPlan, *, signed_here: bool, named: StudyPlan | None = None
) -> bytes:
    """The result of ``plan``, in a wrapping that names another study if that is given."""
    counts = np.array([20, 10, 10, 20, 10, 10, 20, 20], dtype=np.int64)
    chances, outcomes = np.full(60, 0.5), np.arange(60) < 30
    words = calibration_words(chances, outcomes)
    vector = join_sections(2, {DISCRIMINATION: counts, CALIBRATION: words})
    terms = plan.evaluation.model_copy(update={"bins": 2})
    release = derive_release(
        plan.model_copy(update={"evaluation": terms}), "ab" * 32, plan.site_ids, vector
    ).model_copy(update={"plan_digest": plan.digest()})
    body = release.canonical()
    signature = sign(site.keys.identity, Context.RELEASE, body) if signed_here else "00" * 64
    return SignedResult(
        plan_digest=(named or plan).digest(),
        release=base64.b64encode(body).decode(),
        signatures={"site-1": signature},
    ).canonical()


@pytest.mark.parametrize("signed_here", [True, False])
def test_a_result_this_site_signed_closes_the_study_in_the_ledger(
    site: SiteContext, approved: StudyPlan, signed_here: bool
) -> None:
    site.charge(approved, "train", 0, 0, approved.site_ids)
    carry(site, Desk([("result", "heart", result(site, approved, signed_here=signed_here))]))
    account = site.ledger.state().accounts[approved.digest()]
    assert account.settled is signed_here


def test_a_result_closes_the_study_it_was_signed_for_and_no_other(
    site: SiteContext, sites: list[SiteContext], approved: StudyPlan
) -> None:
    """A coordinator wraps an honest result of one study in the name of another that still runs."""
    other = real_plan(sites, study_id="other")
    approve(site, other)
    wrapped = result(site, approved, signed_here=True, named=other)
    carry(site, Desk([("result", "heart", wrapped)]))
    accounts = site.ledger.state().accounts
    assert not accounts[other.digest()].settled
    assert accounts[approved.digest()].settled


def test_an_unreachable_coordinator_is_asked_less_and_less_often(
    site: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def no_sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise asyncio.CancelledError

    monkeypatch.setattr("site_node.courier.asyncio.sleep", no_sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Courier(site).run(Desk(is_down=True)))
    assert pauses == [4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
