"""Does a site get exactly its own studies' documents, once, and hand in only its own answers?"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from coordinator.studies import Studies
from schemas.canonical import parse, sha256_hex
from schemas.documents import MAX_PULL_BYTES, PullRequest, PushRequest, SignedResult
from schemas.errors import CohortiumError, ErrorCode
from schemas.signing import Context, is_valid
from tests.support.desk import Desk
from tests.support.factories import sealed_approval
from tests.support.starts import FROM_FILE


def _pull(desk: Desk, site_id: str, have: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    answer = desk.documents.pull(site_id, PullRequest(have=have).canonical())
    documents: list[dict[str, Any]] = json.loads(answer)["documents"]
    return documents


def _kinds(documents: list[dict[str, Any]]) -> list[str]:
    return [item["kind"] for item in documents]


def test_a_site_gets_plan_and_weights_before_approvals(desk: Desk) -> None:
    plan = desk.plan(model=FROM_FILE)
    desk.propose(plan)
    desk.approve(plan, "site-1", "site-2")
    assert _kinds(_pull(desk, "site-1")) == ["plan", "weights", "approval"]
    assert _kinds(_pull(desk, "site-3")) == ["plan", "weights", "approval", "approval"]


def test_weights_that_a_seed_gives_do_not_travel(desk: Desk) -> None:
    desk.propose(desk.plan())
    assert _kinds(_pull(desk, "site-1")) == ["plan"]


def test_weights_are_read_only_for_a_site_that_lacks_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be a hundred megabytes, and every site asks every two seconds."""
    plan = desk.plan(model=FROM_FILE)
    desk.propose(plan)
    monkeypatch.setattr(Studies, "weights", lambda *_: pytest.fail("read for nothing"))
    assert _kinds(_pull(desk, "site-1", (plan.model.initial_weights_sha256,))) == ["plan"]


def test_bodies_are_the_bytes_they_are_named_by(desk: Desk) -> None:
    plan = desk.plan(model=FROM_FILE)
    desk.propose(plan)
    for item in _pull(desk, "site-1"):
        assert sha256_hex(base64.b64decode(item["body"])) == item["sha256"]
    weights = _pull(desk, "site-1")[1]
    assert weights["sha256"] == plan.model.initial_weights_sha256


def test_what_a_site_has_is_not_sent_again(desk: Desk) -> None:
    desk.propose(desk.plan())
    have = tuple(item["sha256"] for item in _pull(desk, "site-1"))
    assert _pull(desk, "site-1", have) == []


def test_a_site_sees_only_studies_that_name_it(desk: Desk) -> None:
    three = {site: desk.keys[site] for site in ("site-1", "site-2", "site-3")}
    fourth = desk.keys.pop("site-4")
    plan = desk.plan("heart-three")
    desk.propose(plan)
    desk.keys = {**three, "site-4": fourth}
    assert _pull(desk, "site-4") == []
    assert _pull(desk, "site-9") == []
    assert _kinds(_pull(desk, "site-1")) == ["plan"]


def test_replaced_plans_are_no_longer_sent(desk: Desk) -> None:
    desk.propose(desk.plan())
    second = desk.plan(training={"learning_rate": 1.5})
    desk.propose(second)
    [sent] = [item for item in _pull(desk, "site-1") if item["kind"] == "plan"]
    assert sent["sha256"] == sha256_hex(
        desk.studies.by_digest(second.digest()).signed_plan.canonical()
    )


def test_the_result_comes_with_signatures_a_site_can_check(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    desk.approve(plan)
    desk.train(plan, plan.training.steps)
    desk.finish(plan)
    [item] = [item for item in _pull(desk, "site-2") if item["kind"] == "result"]
    result = parse(SignedResult, base64.b64decode(item["body"]), max_bytes=10**6)
    body = base64.b64decode(result.release)
    assert all(
        is_valid(site.identity_key, Context.RELEASE, body, result.signatures[site.site_id])
        for site in plan.sites
    )


def test_an_answer_may_be_handed_in_twice(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    approval = sealed_approval(plan, "site-1", desk.keys)
    assert desk.push("site-1", "approval", approval) == {"accepted": True}
    assert desk.push("site-1", "approval", approval) == {"accepted": True}
    events = [event.event for event in desk.database.events()]
    assert events.count("approval.received") == 1


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{}", ErrorCode.FIELD_MISSING),
        (b'{"have":[],"more":1}', ErrorCode.FIELD_UNKNOWN),
        (b'{"have":["zz"]}', ErrorCode.FIELD_INVALID),
        (b'{"have":[],"have":[]}', ErrorCode.DUPLICATE_KEY),
        (b'{"have": []}', ErrorCode.DOCUMENT_NOT_CANONICAL),
        (b"x" * (MAX_PULL_BYTES + 1), ErrorCode.DOCUMENT_TOO_LARGE),
    ],
)
def test_malformed_pulls_are_refused(desk: Desk, raw: bytes, code: ErrorCode) -> None:
    with pytest.raises(CohortiumError) as caught:
        desk.documents.pull("site-1", raw)
    assert caught.value.code is code


def test_malformed_pushes_are_refused(desk: Desk) -> None:
    for raw in (
        b'{"body":"","kind":"plan"}',
        PushRequest(kind="approval", body="AAA").canonical(),
        PushRequest(kind="stop", body=base64.b64encode(b"{}").decode()).canonical(),
    ):
        with pytest.raises(CohortiumError):
            desk.documents.push("site-1", raw)


def test_what_was_handed_in_is_counted(desk: Desk) -> None:
    plan = desk.plan()
    desk.propose(plan)
    approval = sealed_approval(plan, "site-1", desk.keys)
    desk.push("site-1", "approval", approval)
    [item] = desk.database.received()
    assert (item.kind, item.study_id, item.n_bytes) == (
        "approval",
        "heart",
        len(approval.canonical()),
    )
