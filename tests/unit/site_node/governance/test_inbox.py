"""Documents are verified before they are kept."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from safetensors.numpy import save

from schemas.canonical import sha256_hex
from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.approval import Approval
from schemas.governance.study import StudyPlan
from schemas.signing import Context, seal
from site_node.context import SiteContext
from tests.support.sites import TestClock, approve, make_sites, real_plan, sealed
from tests.support.starts import FROM_FILE, start_weights


def refused(site: SiteContext, kind: str, study: str, body: bytes) -> ErrorCode:
    before = site.inbox.have()
    with pytest.raises(CohortiumError) as caught:
        site.inbox.receive(kind, study, body)
    assert site.inbox.have() == before
    return caught.value.code


def test_a_plan_is_kept_once_and_found_by_name_or_hash(site: SiteContext, plan: StudyPlan) -> None:
    assert site.inbox.receive("plan", "heart", sealed(plan)) is not None
    assert site.inbox.receive("plan", "heart", sealed(plan)) is None
    assert site.inbox.have() == (sha256_hex(sealed(plan)),)
    assert site.inbox.find("heart").digest == plan.digest()
    assert site.inbox.find(plan.digest()[:12]).plan == plan
    for unknown in ("lung", plan.digest()[:4]):
        with pytest.raises(CohortiumError) as caught:
            site.inbox.find(unknown)
        assert caught.value.code is ErrorCode.PLAN_UNKNOWN


def test_the_newest_plan_of_a_study_is_found(sites: list[SiteContext], plan: StudyPlan) -> None:
    site = sites[0]
    later = real_plan(sites, title="A changed plan")
    site.inbox.receive("plan", "heart", sealed(plan))
    site.inbox.receive("plan", "heart", sealed(later))
    assert site.inbox.find("heart").digest == later.digest()


def test_what_is_not_what_it_says_is_refused(
    sites: list[SiteContext], plan: StudyPlan, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = sites[0]
    assert refused(site, "plan", "lung", sealed(plan)) is ErrorCode.PLAN_SITE_ABSENT
    others = make_sites(tmp_path_factory.mktemp("others"), TestClock(), 4)
    entries = [each.model_dump(mode="json") for each in real_plan(others).sites][1:]
    foreign = real_plan(others, sites=entries)
    assert refused(site, "plan", "heart", sealed(foreign)) is ErrorCode.PLAN_SITE_ABSENT
    assert refused(site, "rows", "heart", b"x") is ErrorCode.MESSAGE_KIND_UNKNOWN
    assert refused(site, "weights", "heart", b"x") is ErrorCode.WEIGHTS_MISMATCH
    assert refused(site, "result", "heart", b"x") is ErrorCode.DOCUMENT_UNKNOWN
    assert refused(site, "plan", "heart", b"x" * 3_000_000) is ErrorCode.DOCUMENT_TOO_LARGE


def test_weights_are_kept_only_for_a_plan_that_names_them(sites: list[SiteContext]) -> None:
    site = sites[0]
    weights = start_weights(real_plan(sites, model=FROM_FILE).model)
    named = {"initial_weights_sha256": sha256_hex(weights)}
    plan = real_plan(sites, model=FROM_FILE | named)
    site.inbox.receive("plan", "heart", sealed(plan))
    with pytest.raises(CohortiumError) as caught:
        site.inbox.weights(plan)
    assert caught.value.code is ErrorCode.WEIGHTS_MISSING
    site.inbox.receive("weights", "heart", weights)
    assert site.inbox.weights(plan) == site.weights(sha256_hex(weights)) == weights


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_not_kept(sites: list[SiteContext], value: float) -> None:
    """PRIVACY-20"""
    weights = bytes(save({"linear.weight": np.full((1, 4), value), "linear.bias": np.zeros(1)}))
    named = {"initial_weights_sha256": sha256_hex(weights)}
    sites[0].inbox.receive("plan", "heart", sealed(real_plan(sites, model=FROM_FILE | named)))
    assert refused(sites[0], "weights", "heart", weights) is ErrorCode.WEIGHTS_MALFORMED
    assert sha256_hex(weights) not in sites[0].inbox.have()


@pytest.mark.parametrize("weights", [b"safetensors", pickle.dumps({"linear.bias": [0.0]})])
def test_weights_that_are_no_safetensors_are_not_kept(
    sites: list[SiteContext], weights: bytes
) -> None:
    named = {"initial_weights_sha256": sha256_hex(weights)}
    sites[0].inbox.receive("plan", "heart", sealed(real_plan(sites, model=FROM_FILE | named)))
    assert refused(sites[0], "weights", "heart", weights) is ErrorCode.WEIGHTS_MALFORMED


def test_weights_for_a_plan_with_a_seed_are_not_kept(sites: list[SiteContext]) -> None:
    weights = start_weights(real_plan(sites).model)
    named = {"initial_weights_sha256": sha256_hex(weights)}
    sites[0].inbox.receive("plan", "heart", sealed(real_plan(sites, model=named)))
    assert refused(sites[0], "weights", "heart", weights) is ErrorCode.WEIGHTS_MISMATCH


def test_only_a_pinned_approver_counts(sites: list[SiteContext], plan: StudyPlan) -> None:
    site, other = sites[0], sites[1]
    approve(other, plan)
    statement = other.inbox.waiting()[0].body
    assert refused(site, "approval", "heart", statement) is ErrorCode.PLAN_UNKNOWN
    site.inbox.receive("plan", "heart", sealed(plan))
    own = other.approvals.own_approval(plan.digest())
    assert isinstance(own, Approval)
    forged = seal(other.keys.identity, Context.APPROVAL, own).canonical()
    assert refused(site, "approval", "heart", forged) is ErrorCode.APPROVER_WRONG
    site.inbox.receive("approval", "heart", statement)
    assert len(site.inbox.approvals(plan.digest())) == 1


def test_a_plan_changed_on_disk_is_refused(sites: list[SiteContext], plan: StudyPlan) -> None:
    site = sites[0]
    site.inbox.receive("plan", "heart", sealed(plan))
    other = sealed(real_plan(sites, title="Another"))
    with site.db.write() as connection:
        connection.execute("UPDATE inbox SET body = ?", (other,))
    with pytest.raises(CohortiumError) as caught:
        site.inbox.find("heart")
    assert caught.value.code is ErrorCode.PLAN_TAMPERED
