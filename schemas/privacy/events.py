"""Which mechanisms does a plan run on patients, how often, and with how much noise?

Every release with noise is one of these events, whoever asks: the accountant composes them, the
ledger reserves and charges them by name. An event that is not known here is refused (PRIVACY-12).
What a plan releases without noise, its evaluation, is no event here: it is said to lie outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from schemas import limits
from schemas.canonical import Document

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan

MechanismName = Literal["preparation", "training"]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """``count`` releases of a noisy sum of clipped patients.

    Attributes:
        noise_multiplier: standard deviation of the noise in units of the clip.
        sampling_rate: 1 for the full batch, else the rate of the Poisson coins.
        count: releases; an attempt that was opened counts, whatever became of it.
        is_local: whether each hospital's own release carries the whole noise (dp-fedavg); then a
            patient of h hospitals is in h times as many releases, not in a sum h times.
    """

    noise_multiplier: float
    sampling_rate: float
    count: int
    is_local: bool = False


class MechanismEvent(Document):
    """One mechanism of a plan, as the ledger reserves it."""

    name: MechanismName
    noise_multiplier: Annotated[float, Field(gt=0, le=10_000)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    is_local: bool
    releases_per_attempt: Annotated[int, Field(ge=1, le=limits.MAX_LOCAL_STEPS)]
    attempts: Annotated[int, Field(ge=1, le=1_000_000)]  # retries included

    def mechanism(self, attempts: int | None = None) -> Mechanism:
        """Give what the accountant composes for so many attempts; all of them by default."""
        count = (self.attempts if attempts is None else attempts) * self.releases_per_attempt
        return Mechanism(self.noise_multiplier, self.sampling_rate, count, self.is_local)


def plan_events(plan: StudyPlan) -> tuple[MechanismEvent, ...]:
    """List every mechanism a plan may run on a patient, each with all its attempts."""
    training, preparation = plan.training, plan.preparation
    events = [
        MechanismEvent(
            name="training",
            noise_multiplier=plan.privacy.noise_multiplier,
            sampling_rate=training.sampling_rate,
            is_local=training.is_local,
            releases_per_attempt=training.local_steps,
            attempts=training.attempts,
        )
    ]
    if preparation is not None:
        first = MechanismEvent(
            name="preparation",
            noise_multiplier=preparation.noise_multiplier,
            sampling_rate=1.0,
            is_local=False,
            releases_per_attempt=1,
            attempts=preparation.attempts,
        )
        events.insert(0, first)
    return tuple(events)
