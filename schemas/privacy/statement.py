"""How is a plan's promise to a patient said, in words and in JSON, with everything it depends on?

The one place that writes an epsilon down (PRIVACY-15): never without delta, unit, adjacency, the
colluding hospitals it withstands, hospitals per patient and the value for two, every attempt it
covers, and what lies outside it. `reading` says what it means, after Kairouz, Oh, Viswanath 2015
(arXiv 1311.0776, theorem 2.1): whoever guesses whether a patient took part

    from even odds            is right at most with chance    (e^eps + delta)/(1 + e^eps)
    wrong for 1 % who did not finds at most the share         min(e^eps·0.01 + delta,
              of those who did                                    1 - e^-eps·(0.99 - delta))

Both are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.privacy.accounting import ACCOUNTANT
from schemas.privacy.events import MechanismEvent, plan_events

if TYPE_CHECKING:
    from schemas.governance.study import StudyPlan

OUTSIDE: Final = (
    "the test-set metrics: computed once, without noise, on held-out patients",
    "the choice of the plan's settings, as far as it was made on these patients (see tuning)",
    "what a patient's own hospital sees",
)
_WEIGHTS: Final = "the patients on whose data the initial weights were trained"
_FALSE_POSITIVES: Final = 0.01  # the rate at which membership inference is usually judged


@dataclass(frozen=True, slots=True)
class PrivacyStatement:
    """A plan's promise with its whole scope.

    Attributes:
        epsilon: of every mechanism over every attempt, at most.
        delta: its probability that the promise fails, at most.
        unit: what one neighbour more or less is.
        adjacency: how two neighbours differ.
        collusion_bound: hospitals that may collude with the coordinator; None: any number, because
            every hospital's own contribution carries the whole noise.
        hospitals_per_patient: hospitals that may hold the same patient.
        epsilon_two_hospitals: epsilon of a patient of two hospitals, at most.
        events: every mechanism, with its noise and attempts.
        steps: optimiser steps.
        retry_cap: training attempts beyond the steps.
        preparation_retries: attempts beyond the first of the preparation; None without one.
        accountant: name of the method in the plan.
        outside: what epsilon does not cover.
        tuning_declaration: the vendor's words on how settings were chosen.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    collusion_bound: int | None
    hospitals_per_patient: int
    epsilon_two_hospitals: float
    events: tuple[MechanismEvent, ...]
    steps: int
    retry_cap: int
    preparation_retries: int | None
    accountant: str
    outside: tuple[str, ...]
    tuning_declaration: str

    @property
    def attempts(self) -> int:
        """Attempts covered: of the preparation and of training, retries included."""
        return sum(event.attempts for event in self.events)

    @property
    def against(self) -> str:
        """Against whom it holds."""
        if self.collusion_bound is None:
            return "the coordinator together with any number of other hospitals"
        colluding = _count(self.collusion_bound, "colluding hospital")
        alone = [event.name for event in self.events if event.is_local]
        more = f" ({' and '.join(alone)} alone: with any number)" if alone else ""
        return f"the coordinator together with up to t = {colluding}{more}"

    @property
    def covers(self) -> str:
        """Which attempts it covers."""
        parts = [f"{_count(self.steps, 'step')} and {_retries(self.retry_cap)}"]
        if self.preparation_retries is not None:
            parts.insert(0, f"1 preparation and {_retries(self.preparation_retries)}")
        return f"all {self.attempts} attempts ({'; '.join(parts)})"

    @property
    def attacker_success(self) -> float:
        """Chance at most of a right guess, from even odds, whether a patient took part."""
        odds = math.exp(self.epsilon)
        return min(1.0, (odds + self.delta) / (1.0 + odds))

    @property
    def attacker_finds(self) -> float:
        """Share at most of those who took part that is found at 1 % false alarms."""
        odds, wrong = math.exp(self.epsilon), _FALSE_POSITIVES
        return min(1.0, odds * wrong + self.delta, 1.0 - (1.0 - wrong - self.delta) / odds)

    def sentence(self) -> str:
        """Say everything in one sentence without a full stop, for a line or an error."""
        return "; ".join([*self._scope(), "outside it: " + ", ".join(_short(self.outside))])

    def lines(self) -> list[str]:
        """Say everything, a line each, with mechanisms, what is outside and the reading."""
        first, *rest = self._scope()
        return [
            first,
            *rest,
            *(_mechanism_words(event) for event in self.events),
            *(f"outside epsilon: {what}" for what in self.outside),
            self.reading(),
        ]

    def reading(self) -> str:
        """Say in plain words what the best attacker could gain."""
        right, found = math.ceil(100 * self.attacker_success), _per_cent(self.attacker_finds)
        return (
            "in plain words: an attacker who knows everything but whether this patient took part, "
            f"and starts from even odds, is right in at most {right} of 100 cases instead of 50; "
            f"accepting 1 % false alarms, such attackers find at most {found} % of those who took "
            "part instead of 1 %"
        )

    def breach(self, epsilon: float, hospitals: int) -> str:
        """Say that the plan's noise does not keep its promise, for a refusal."""
        return (
            f"The plan's noise gives epsilon {rounded_up(epsilon)} for a patient of "
            f"{_hospitals(hospitals)}, more than it promises: {self.sentence()}."
        )

    def values(self) -> dict[str, Any]:
        """Give the same as plain values for JSON."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "unit": self.unit,
            "adjacency": self.adjacency,
            "t": self.collusion_bound,
            "against": self.against,
            "hospitals_per_patient": self.hospitals_per_patient,
            "epsilon_two_hospitals": self.epsilon_two_hospitals,
            "attempts": self.attempts,
            "steps": self.steps,
            "retry_cap": self.retry_cap,
            "preparation_retry_cap": self.preparation_retries,
            "mechanisms": [event.model_dump(mode="json") for event in self.events],
            "noise_multiplier": self.events[-1].noise_multiplier,
            "accountant": self.accountant,
            "accountant_version": ACCOUNTANT,
            "outside_epsilon": list(self.outside),
            "tuning_declaration": self.tuning_declaration,
            "attacker_success": _up(self.attacker_success),
            "attacker_finds_at_1_percent": _up(self.attacker_finds),
            "reading": self.reading(),
            "sentence": self.sentence(),
        }

    def _scope(self) -> list[str]:
        held = self.hospitals_per_patient
        up_to = "" if held == 1 else "up to "
        return [
            f"epsilon {rounded_up(self.epsilon)} at delta {self.delta}, unit {self.unit}, "
            f"adjacency {self.adjacency}",
            f"against {self.against}",
            f"for a patient of {up_to}{_hospitals(held)} "
            f"(of 2: epsilon {rounded_up(self.epsilon_two_hospitals)})",
            f"over {self.covers}",
            f"accountant {self.accountant.upper()} ({ACCOUNTANT})",
        ]


def privacy_statement(plan: StudyPlan) -> PrivacyStatement:
    """Gather a plan's promise and everything it depends on."""
    terms, training, events = plan.privacy, plan.training, plan_events(plan)
    outside: tuple[str, ...] = OUTSIDE
    if plan.model.initial_weights_origin is not None:
        origin = plan.model.initial_weights_origin
        outside += (f"{_WEIGHTS} ({origin})",)
    return PrivacyStatement(
        epsilon=terms.epsilon,
        delta=terms.delta,
        unit=terms.unit,
        adjacency=terms.adjacency,
        collusion_bound=(None if all(event.is_local for event in events) else plan.collusion_bound),
        hospitals_per_patient=terms.hospitals_per_patient,
        epsilon_two_hospitals=terms.epsilon_two_hospitals,
        events=events,
        steps=training.steps,
        retry_cap=training.retry_cap,
        preparation_retries=None if plan.preparation is None else plan.preparation.retry_cap,
        accountant=terms.accountant,
        outside=outside,
        tuning_declaration=plan.tuning_declaration,
    )


def scope_sentence(
    delta: float,
    *,
    hospitals_per_patient: int = 1,
    epsilon_two_hospitals: float | None = None,
    spent_two_hospitals: float | None = None,
    collusion_bound: int | None = None,
    has_initial_weights: bool = False,
) -> str:
    """Say what the numbers of a hospital's ledger depend on, all studies together.

    Args:
        delta: of all studies together.
        hospitals_per_patient: the largest any plan says.
        epsilon_two_hospitals: what was committed, for a patient of two hospitals, if computed.
        spent_two_hospitals: what was spent, likewise.
        collusion_bound: the smallest t of any plan; None: any number, every plan is local.
        has_initial_weights: whether any plan started from weights that somebody trained before.
    """
    two = "each plan says what it costs"
    if epsilon_two_hospitals is not None:
        two = f"epsilon {rounded_up(epsilon_two_hospitals)} committed"
    if spent_two_hospitals is not None:
        two += f", epsilon {rounded_up(spent_two_hospitals)} spent"
    against = "any number" if collusion_bound is None else f"up to t = {collusion_bound}"
    outside = _short(OUTSIDE)
    if has_initial_weights:
        outside.append(_WEIGHTS)
    return (
        f"all studies on these patients together at delta {delta}, unit patient, adjacency "
        "add-remove; against the coordinator with as many colluding hospitals as each plan names "
        f"(t), for all plans together {against}; for a patient of "
        f"{_hospitals(hospitals_per_patient)} (of 2: {two}); every attempt opened counts, retries "
        "and void ones included; outside it: " + ", ".join(outside)
    )


def rounded_up(epsilon: float) -> str:
    """Write an epsilon with four decimals at most, never less than it is."""
    if not math.isfinite(epsilon):
        return "infinite"
    return f"{math.ceil(epsilon * 10_000 - 1e-6) / 10_000:.10g}"


def _mechanism_words(event: MechanismEvent) -> str:
    whose = "each hospital's own" if event.is_local else "shared by the hospitals"
    releases = event.attempts * event.releases_per_attempt
    return (
        f"{event.name}: {_count(releases, 'release')}, {sampling_words(event.sampling_rate)}, "
        f"noise multiplier {event.noise_multiplier:g}, {whose}"
    )


def sampling_words(rate: float) -> str:
    """Say how patients are drawn."""
    return "full batch" if rate == 1.0 else f"Poisson, rate {rate:g}"


def _short(outside: Sequence[str]) -> list[str]:
    """Cut each item at its colon or bracket: what, without the explanation."""
    return [what.split(":")[0].split(" (")[0].split(",")[0] for what in outside]


def _hospitals(count: int) -> str:
    return _count(count, "hospital")


def _retries(count: int) -> str:
    return "1 retry" if count == 1 else f"{count} retries"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _up(share: float) -> float:
    return min(1.0, math.ceil(share * 10_000) / 10_000)


def _per_cent(share: float) -> str:
    return f"{min(100.0, math.ceil(1_000 * share) / 10):g}"
