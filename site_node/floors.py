"""Is this plan inside the hospital's own limits? Floors only ever make a plan stricter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import ErrorCode, PolicyDenied
from schemas.ids import parse_time
from schemas.privacy.statement import privacy_statement

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan


class Floors(BaseModel):
    """Limits of one hospital; the bounds on each field keep it from being looser than ours."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    minimum_cohort: int = Field(default=3, ge=3, le=200)
    minimum_collusion_bound: int = Field(default=1, ge=1, le=198)
    maximum_epsilon_per_study: float = Field(default=2.0, gt=0, le=8.0)
    maximum_epsilon_total: float = Field(default=8.0, gt=0, le=16.0)
    maximum_delta: float = Field(default=1e-5, gt=0, le=1e-5)
    maximum_delta_total: float = Field(default=1e-4, gt=0, le=1e-4)  # of all plans, added up
    maximum_days: int = Field(default=730, ge=1, le=730)
    minimum_roc_patients: int = Field(default=10, ge=10, le=10_000)
    maximum_update_bytes: int = Field(default=64 * 2**20, ge=4, le=2**30)
    allow_evaluation: bool = True
    allow_recoverable: bool = True  # sums that are shown although hospitals were lost


@dataclass(frozen=True, slots=True)
class FloorFinding:
    """One limit a plan does not keep: the rule, what the plan says, what this hospital allows."""

    code: ErrorCode
    rule: str
    planned: str
    limit: str


def floor_findings(plan: StudyPlan, floors: Floors) -> tuple[FloorFinding, ...]:
    """List every floor the plan falls below; empty when it keeps all of them."""
    found: list[FloorFinding] = []

    def at_least(code: ErrorCode, rule: str, planned: float, limit: float) -> None:
        if not planned >= limit:
            found.append(FloorFinding(code, rule, f"{planned:g}", f"at least {limit:g}"))

    def at_most(code: ErrorCode, rule: str, planned: float, limit: float) -> None:
        if not planned <= limit:
            found.append(FloorFinding(code, rule, f"{planned:g}", f"at most {limit:g}"))

    code = ErrorCode
    privacy = plan.privacy
    days = (parse_time(plan.expires) - parse_time(plan.created)).total_seconds() / 86_400
    update_bytes = 4 * plan.longest_vector
    roc_patients = plan.evaluation.minimum_roc_patients
    at_least(code.FLOOR_COHORT_MINIMUM, "minimum_cohort", plan.cohort_minimum,
             floors.minimum_cohort)  # fmt: skip
    at_least(code.FLOOR_COLLUSION, "minimum_collusion_bound", plan.collusion_bound,
             floors.minimum_collusion_bound)  # fmt: skip
    if not privacy.epsilon <= floors.maximum_epsilon_per_study:
        found.append(
            FloorFinding(
                code.FLOOR_EPSILON,
                "maximum_epsilon_per_study",
                privacy_statement(plan).sentence(),
                f"at most {floors.maximum_epsilon_per_study:g}",
            )
        )
    at_most(code.FLOOR_DELTA, "maximum_delta", privacy.delta, floors.maximum_delta)
    at_most(code.FLOOR_EXPIRY, "maximum_days", days, floors.maximum_days)
    at_most(code.FLOOR_OUTPUT, "maximum_update_bytes", update_bytes, floors.maximum_update_bytes)
    at_least(code.FLOOR_OUTPUT, "minimum_roc_patients", roc_patients, floors.minimum_roc_patients)
    if not floors.allow_evaluation and "masked-evaluation" in plan.outputs:
        found.append(
            FloorFinding(code.FLOOR_OUTPUT, "allow_evaluation", "masked-evaluation", "none")
        )
    if not floors.allow_recoverable and plan.is_recoverable:
        found.append(
            FloorFinding(code.FLOOR_AGGREGATION, "allow_recoverable", "recoverable", "atomic")
        )
    return tuple(found)


def check_floors(plan: StudyPlan, floors: Floors) -> None:
    """Refuse a plan looser than this hospital's floors.

    Raises:
        PolicyDenied: with the first rule broken, its value and the limit.
    """
    found = floor_findings(plan, floors)
    if found:
        first = found[0]
        raise PolicyDenied(
            first.code,
            f"The plan breaks this hospital's floor {first.rule}: "
            f"it has {first.planned}, allowed is {first.limit}.",
            hint="Ask the vendor for a stricter plan, or let the data steward change [floors] "
            "in site.toml (never beyond the product's own limits).",
        )
