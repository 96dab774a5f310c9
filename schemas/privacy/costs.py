"""What does each mechanism of a plan cost alone, and all of them together?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.privacy.accounting import plan_epsilon
from schemas.privacy.events import plan_events
from schemas.privacy.statement import sampling_words

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan


@dataclass(frozen=True, slots=True)
class Cost:
    """What one mechanism costs alone, or all together: ``name`` is then "together"."""

    name: str
    releases: int
    noise_multiplier: float | None
    sampling_rate: float | None
    epsilon: float
    epsilon_two_hospitals: float


def plan_costs(plan: StudyPlan) -> tuple[Cost, ...]:
    """Compute what each mechanism costs alone and all of them together, at the plan's delta.

    Takes the accountant; a second or two.
    """
    rows = [
        Cost(
            event.name,
            event.mechanism().count,
            event.noise_multiplier,
            event.sampling_rate,
            plan_epsilon(plan, only=event),
            plan_epsilon(plan, only=event, hospitals=2),
        )
        for event in plan_events(plan)
    ]
    whole = Cost(
        "together",
        sum(row.releases for row in rows),
        None,
        None,
        plan_epsilon(plan),
        plan_epsilon(plan, hospitals=2),
    )
    return (*rows, whole)


def cost_values(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Give a table of costs as plain values for JSON; the statement beside it has their scope."""
    return [
        {
            "mechanism": cost.name,
            "releases": cost.releases,
            "noise_multiplier": cost.noise_multiplier,
            "sampling_rate": cost.sampling_rate,
            "epsilon": cost.epsilon,
            "epsilon_two_hospitals": cost.epsilon_two_hospitals,
        }
        for cost in costs
    ]


def cost_lines(costs: Sequence[Cost]) -> list[str]:
    """Write a table of costs; it stands below the statement, which has their scope."""
    head = ("mechanism", "releases", "sampling", "noise", "epsilon", "of 2 hospitals")
    form = "{:<12} {:>8}  {:<18} {:>10}  {:>8}  {:>14}"
    lines = [form.format(*head)]
    for cost in costs:
        noise = "" if cost.noise_multiplier is None else f"{cost.noise_multiplier:.4f}"
        sampling = "" if cost.sampling_rate is None else sampling_words(cost.sampling_rate)
        lines.append(
            form.format(
                cost.name,
                cost.releases,
                sampling,
                noise,
                f"{cost.epsilon:.4f}",
                f"{cost.epsilon_two_hospitals:.4f}",
            )
        )
    return lines
