"""Floors: each one refuses the plan that breaks it, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ErrorCode, PolicyDenied
from site_node.floors import Floors, check_floors, floor_findings
from tests.support.factories import make_plan, recoverable


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
