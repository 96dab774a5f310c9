"""Which plans does a hospital refuse for what their noise, or their delta, does here?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import CohortiumError, ErrorCode, PolicyDenied
from schemas.governance.study import StudyPlan
from schemas.privacy import plan_epsilon, plan_events
from schemas.privacy.statement import privacy_statement
from site_node.context import SiteContext
from site_node.governance.checks import check_own_delta, patients_ingested, recomputed_epsilon
from site_node.ingest.report import DeidCounts, IngestReport, SplitCounts
from site_node.report import keep_report
from tests.support.factories import make_plan
from tests.support.sites import approve, real_plan


def ingested(site: SiteContext, patients: int) -> None:
    """Leave the report of an ingest with so many training patients."""
    report = {"train": {"patients": patients}, "stored": patients, "read": patients}
    path = site.folders.reports / "heart.json"
    path.write_text(json.dumps(report), encoding="utf-8")


def refusal(site: SiteContext, plan: StudyPlan) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        approve(site, plan)
    assert site.ledger.rows() == ()
    return caught.value


# --- delta -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patients", "is_refused"), [(10_000, False), (10_001, True)])
def test_delta_is_at_most_a_tenth_of_one_of_the_hospitals_own_patients(
    patients: int, is_refused: bool
) -> None:
    """PRIVACY-14: both sides of delta = 1/(10 N), here 1e-5."""
    plan, _ = make_plan()
    assert plan.privacy.delta == 1e-5
    if not is_refused:
        check_own_delta(plan, patients)
        return
    with pytest.raises(PolicyDenied) as caught:
        check_own_delta(plan, patients)
    assert caught.value.code is ErrorCode.PLAN_DELTA_PATIENTS
    assert caught.value.hint


def test_a_large_hospital_refuses_the_approval(site: SiteContext, plan: StudyPlan) -> None:
    """PRIVACY-14: it knows its own patients from its own ingest."""
    ingested(site, 10_001)
    assert refusal(site, plan).code is ErrorCode.PLAN_DELTA_PATIENTS
    ingested(site, 10_000)
    approve(site, plan)


def test_a_smaller_delta_lets_it_take_part(sites: list[SiteContext]) -> None:
    ingested(sites[0], 50_000)
    plan = real_plan(sites, privacy={"delta": 2e-6, "noise_multiplier": 17})
    approve(sites[0], plan)


def test_an_ingest_that_stored_nothing_does_not_change_the_number(
    site: SiteContext, plan: StudyPlan
) -> None:
    """PRIVACY-14: the rows of before are still there, and so is their number."""
    ingested(site, 10_001)
    nobody = SplitCounts()
    empty = IngestReport(
        study_id=plan.study_id,
        source="table",
        data_terms_sha256=plan.data.digest(),
        read=0,
        stored=0,
        quarantined={},
        train=nobody,
        test=nobody,
        findings=(),
        deid=DeidCounts(records=0, actions={}, refused={}),
        deid_profile="ehr-table",
        deid_profile_sha256="00" * 32,
        snapshot=None,
        seconds=0.0,
    )
    keep_report(site, empty)
    assert refusal(site, plan).code is ErrorCode.PLAN_DELTA_PATIENTS


def test_without_an_ingest_the_number_is_not_known(tmp_path: Path) -> None:
    plan, _ = make_plan()
    count = patients_ingested(tmp_path)
    assert count(plan) is None
    (tmp_path / "heart.json").write_text('{"train": {"patients": 7}}', encoding="utf-8")
    assert count(plan) == 7


@pytest.mark.parametrize("raw", [b"", b'{"train"', b"[]", b"{}", b'{"train": {}}', b"\xff",
                                 b'{"train": {"patients": null}}'])  # fmt: skip
def test_a_damaged_report_of_an_ingest_is_refused_and_not_taken_for_none(
    site: SiteContext, plan: StudyPlan, raw: bytes
) -> None:
    """PRIVACY-14: with a code and what to do."""
    (site.folders.reports / "heart.json").write_bytes(raw)
    error = refusal(site, plan)
    assert error.code is ErrorCode.STORE_TAMPERED
    assert "cohortium-site ingest heart" in error.hint


@pytest.mark.parametrize(
    ("delta", "smallest", "is_refused"),
    [
        (1e-5, 10_000, False),
        (1e-5, 10_001, True),
        (1.0001e-5, 30, True),  # above 1e-5, however few patients
        (1e-6, 100_000, False),
        (1e-6, 100_001, True),
    ],
)
def test_a_plan_keeps_delta_below_both_bounds(
    delta: float, smallest: int, is_refused: bool
) -> None:
    """PRIVACY-14: min(1e-5, 1/(10 N of the smallest site))."""
    changes: dict[str, Any] = {
        "privacy": {"delta": delta, "smallest_site_patients": smallest},
        "training": {"maximum_patients": 4 * smallest, "divisor": 4 * smallest,
                     "integer_clip": 2**10},
    }  # fmt: skip
    if is_refused:
        with pytest.raises(CohortiumError):
            make_plan(**changes)
    else:
        make_plan(**changes)


# --- epsilon -----------------------------------------------------------------------------------


def _prepared(sites: list[SiteContext], noise: float) -> StudyPlan:
    terms = {"epsilon": 0.5, "noise_multiplier": noise, "retry_cap": 1, "integer_clip": 2**14}
    return real_plan(
        sites,
        preparation=terms,
        training={"class_weights": "preparation"},
        privacy={"epsilon": 1.2, "epsilon_two_hospitals": 2.9},
    )


def test_a_preparation_within_its_promise_is_approved(sites: list[SiteContext]) -> None:
    plan = _prepared(sites, noise=11)
    assert recomputed_epsilon(plan) <= 1.2
    approve(sites[0], plan)


def test_a_preparation_that_costs_more_than_it_says_is_refused(sites: list[SiteContext]) -> None:
    """PRIVACY-7: recomputed alone too, because the plan states it alone."""
    plan = _prepared(sites, noise=9.5)
    assert recomputed_epsilon(plan) <= 1.2  # everything together would still hold
    assert refusal(sites[0], plan).code is ErrorCode.ACCOUNTING_MISMATCH


def test_noise_for_training_alone_does_not_pay_for_a_preparation(
    sites: list[SiteContext],
) -> None:
    """PRIVACY-5: what is recomputed here is every mechanism of the plan."""
    plan = _prepared(sites, noise=11)
    less = plan.privacy.model_copy(update={"epsilon": 0.8})
    broken = plan.model_copy(update={"privacy": less})
    alone = next(event for event in plan_events(broken) if event.name == "training")
    assert plan_epsilon(broken, only=alone) < 0.8 < recomputed_epsilon(broken)
    error = refusal(sites[0], broken)
    assert error.code is ErrorCode.ACCOUNTING_MISMATCH
    assert privacy_statement(broken).sentence() in error.sentence
