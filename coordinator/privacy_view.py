"""How does the picture of a study say what it may cost a patient, with the whole scope?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from schemas.privacy.accounting import ACCOUNTANT
from schemas.privacy.statement import privacy_statement

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan


class View(BaseModel):
    """Base of everything shown; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MechanismView(View):
    """One mechanism of the plan that noise pays for."""

    name: str
    releases: int
    noise_multiplier: float
    sampling_rate: float
    is_local: bool


class PrivacyView(View):
    """Privacy spent, never without its scope."""

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    accountant: str
    accountant_version: str
    mechanisms: tuple[MechanismView, ...]
    collusion_bound: int | None  # None: any number of hospitals
    against: str
    steps: int
    retry_cap: int
    preparation_retry_cap: int | None  # None: no preparation
    attempts_covered: int
    covers: str
    attempts_opened: int
    hospitals_per_patient: int
    epsilon_two_hospitals: float
    outside_epsilon: tuple[str, ...]
    tuning_declaration: str
    reading: str
    sentence: str


def privacy_view(plan: StudyPlan, opened: int) -> PrivacyView:
    """Show a plan's promise, and how many of its attempts were opened."""
    statement = privacy_statement(plan)
    return PrivacyView(
        epsilon=statement.epsilon,
        delta=statement.delta,
        unit=statement.unit,
        adjacency=statement.adjacency,
        accountant=statement.accountant,
        accountant_version=ACCOUNTANT,
        mechanisms=tuple(
            MechanismView(
                name=event.name,
                releases=event.mechanism().count,
                noise_multiplier=event.noise_multiplier,
                sampling_rate=event.sampling_rate,
                is_local=event.is_local,
            )
            for event in statement.events
        ),
        collusion_bound=statement.collusion_bound,
        against=statement.against,
        steps=statement.steps,
        retry_cap=statement.retry_cap,
        preparation_retry_cap=statement.preparation_retries,
        attempts_covered=statement.attempts,
        covers=statement.covers,
        attempts_opened=opened,
        hospitals_per_patient=statement.hospitals_per_patient,
        epsilon_two_hospitals=statement.epsilon_two_hospitals,
        outside_epsilon=statement.outside,
        tuning_declaration=statement.tuning_declaration,
        reading=statement.reading(),
        sentence=statement.sentence(),
    )
