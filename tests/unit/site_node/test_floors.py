"""Floors: each one refuses the plan that breaks it, and only that."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.errors import CohortiumError, ConfigError, ErrorCode, PolicyDenied
from schemas.governance.study import StudyPlan
from site_node.config import load_config
from site_node.context import SiteContext, open_site
from site_node.floors import Floors, check_floors, floor_findings
from tests.support.factories import make_plan, recoverable
from tests.support.sites import approve, real_plan


@pytest.mark.parametrize(
    ("floor", "code"),
    [
        ({"minimum_cohort": 4}, ErrorCode.FLOOR_COHORT_MINIMUM),
        ({"minimum_collusion_bound": 2}, ErrorCode.FLOOR_COLLUSION),
        ({"maximum_epsilon_per_study": 0.5}, ErrorCode.FLOOR_EPSILON),
        ({"maximum_delta": 1e-6}, ErrorCode.FLOOR_DELTA),
        ({"maximum_days": 30}, ErrorCode.FLOOR_EXPIRY),
        ({"maximum_update_bytes": 19}, ErrorCode.FLOOR_OUTPUT),
        ({"minimum_roc_patients": 20}, ErrorCode.FLOOR_OUTPUT),
        ({"allow_evaluation": False}, ErrorCode.FLOOR_OUTPUT),
    ],
)
def test_each_floor_refuses_a_looser_plan(floor: dict[str, Any], code: ErrorCode) -> None:
    plan, _ = make_plan()
    with pytest.raises(PolicyDenied) as caught:
        check_floors(plan, Floors(**floor))
    assert caught.value.code is code
    assert len(floor_findings(plan, Floors(**floor))) == 1


def test_a_hospital_may_take_part_in_atomic_sums_only() -> None:
    recovering, _ = make_plan(4, **recoverable(1))
    check_floors(recovering, Floors())
    with pytest.raises(PolicyDenied) as caught:
        check_floors(recovering, Floors(allow_recoverable=False))
    assert caught.value.code is ErrorCode.FLOOR_AGGREGATION
    atomic, _ = make_plan(4)
    check_floors(atomic, Floors(allow_recoverable=False))


def test_a_plan_inside_all_floors_passes() -> None:
    plan, _ = make_plan()
    check_floors(plan, Floors())


# --- what nobody can raise --------------------------------------------------------------------

BEYOND = {
    "maximum_epsilon_per_study": 8.001,
    "maximum_epsilon_total": 16.001,
    "maximum_delta": 1.001e-5,
    "maximum_delta_total": 1.001e-4,
    "minimum_cohort": 2,
    "minimum_collusion_bound": 0,
    "maximum_days": 731,
    "minimum_roc_patients": 9,
    "maximum_update_bytes": 2**30 + 1,
}


@pytest.mark.parametrize("name", BEYOND)
def test_site_toml_cannot_pass_the_products_own_bounds(site: SiteContext, name: str) -> None:
    """PRIVACY-10: a changed file is refused as a whole; the site does not open."""
    with pytest.raises(ValidationError):
        Floors.model_validate({name: BEYOND[name]})
    path = site.home / "site.toml"
    lines = path.read_text("utf-8").splitlines()
    changed = [f"{name} = {BEYOND[name]}" if x.startswith(f"{name} =") else x for x in lines]
    assert changed != lines
    path.write_text("\n".join(changed), "utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(site.home)
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    with pytest.raises(ConfigError):
        open_site(site.home)


@pytest.mark.parametrize("value", ["inf", "nan", "-1.0", "1e400"])
def test_no_number_is_no_limit(site: SiteContext, value: str) -> None:
    path = site.home / "site.toml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("maximum_epsilon_total = 8.0", f"maximum_epsilon_total = {value}"))
    with pytest.raises(ConfigError):
        load_config(site.home)


def test_a_plan_cannot_raise_what_it_reserved(site: SiteContext, approved: StudyPlan) -> None:
    """PRIVACY-8: more attempts or less noise is another plan, which nobody approved."""
    louder = approved.model_copy(
        update={"privacy": approved.privacy.model_copy(update={"noise_multiplier": 1.0})}
    )
    longer = approved.model_copy(
        update={"training": approved.training.model_copy(update={"retry_cap": 5_000})}
    )
    for other in (louder, longer):
        with pytest.raises(CohortiumError) as refused:
            site.charge(other, "train", 0, 0, other.site_ids)
        assert refused.value.code is ErrorCode.PLAN_UNAPPROVED
    assert site.ledger.state().accounts[approved.digest()].charged == 0


def test_a_plan_cannot_promise_less_than_it_spends(sites: list[SiteContext]) -> None:
    """PRIVACY-10: the site computes from the noise; what the plan says of itself opens nothing."""
    plan = real_plan(sites, privacy={"noise_multiplier": 2.0})
    with pytest.raises(CohortiumError) as refused:
        approve(sites[0], plan)
    assert refused.value.code is ErrorCode.ACCOUNTING_MISMATCH
    assert sites[0].ledger.rows() == ()


def test_a_floor_that_was_tightened_holds_for_plans_approved_before(
    site: SiteContext, approved: StudyPlan
) -> None:
    path = site.home / "site.toml"
    text = path.read_text("utf-8")
    path.write_text(
        text.replace("maximum_epsilon_per_study = 2.0", "maximum_epsilon_per_study = 0.5")
    )
    with pytest.raises(PolicyDenied) as refused:
        open_site(site.home, site.clock).approvals.approved_plan(approved.digest())
    assert refused.value.code is ErrorCode.FLOOR_EPSILON
