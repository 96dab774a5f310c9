"""Can it be told from a study's model which patients of this hospital trained it?

Two attacks of those who hold the model and one patient's record, tried on this hospital's own
training patients (members) and test patients (others):

| attack | score of a patient | source |
| --- | --- | --- |
| loss | − the mean loss over the patient's rows | Yeom et al. 2018, arXiv 1709.01604 |
| calibrated | the logit towards the true class, less mean, over deviation, of the others of that \
class | as Carlini et al. 2022 (LiRA, arXiv 2112.03570), without shadow models |

A high score says "member". What an attack reaches stands beside the most that the plan's epsilon
and delta allow any attack whatever (Kairouz, Oh, Viswanath 2015, arXiv 1311.0776). It is a report
and no proof: other attacks may be better, and people who differ for another reason than training
are told apart as well. Nothing of it leaves the hospital.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import ConfigError, DataRejected, ErrorCode
from schemas.evaluation import auroc_from_histograms, wilson_interval
from schemas.governance.study import Architecture, StudyPlan
from schemas.models import final_parameters
from schemas.privacy.statement import PrivacyStatement, privacy_statement
from site_node.training.evaluate import patient_logits
from site_node.training.losses import Batch, row_losses
from site_node.training.networks import build_network

if TYPE_CHECKING:
    from site_node.cohort.features import Features
    from site_node.context import SiteContext

FALSE_POSITIVES: Final = (0.01, 0.05)
"""Rates of false alarms at which attacks are compared."""
CAVEATS: Final = (
    "A report, never a proof: it bounds what these two attacks reach, not what others could.",
    "Training and test patients must come from the same distribution; if the split follows time, "
    "ward or device, that difference is seen and not the model's memory.",
    "These are one hospital's patients; a patient of another may be exposed more or less.",
    "Few patients give wide intervals: they tell little below one false alarm in as many others.",
    "It is made from single patients' records: it stays at this hospital.",
)
_LEAST_PATIENTS: Final = 2  # of either kind, or there is no interval
_CHUNK_ROWS: Final = 1024
_GRID: Final = 10_001

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What an attack finds at a fixed rate of false alarms.

    Attributes:
        false_positive_rate: asked for.
        false_positives: others that were taken for members; as many of ``others`` at most.
        true_positive_rate: share of the members that were found.
        interval: its 95 % interval (Wilson).
        allowed: largest share that the plan allows at this rate.
        is_within: whether the share may still be what the plan allows, both rates' intervals
            considered.
    """

    false_positive_rate: float
    false_positives: int
    true_positive_rate: float
    interval: tuple[float, float]
    allowed: float
    is_within: bool


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: AUROC with DeLong's 95 % interval, the most that is allowed, and two points."""

    name: str
    auroc: float
    interval: tuple[float, float]
    allowed_auroc: float
    points: tuple[OperatingPoint, ...]

    @property
    def is_within(self) -> bool:
        """Whether nothing seen exceeds what the plan allows."""
        return self.interval[0] <= self.allowed_auroc and all(p.is_within for p in self.points)


@dataclass(frozen=True, slots=True)
class MembershipReport:
    """Every attack on one model at one hospital, with the plan's promise and its whole scope."""

    study_id: str
    plan_digest: str
    steps: int
    is_final: bool
    members: int
    others: int
    privacy: PrivacyStatement
    attacks: tuple[Attack, ...]

    @property
    def is_within(self) -> bool:
        """Whether no attack exceeds what the plan allows."""
        return all(attack.is_within for attack in self.attacks)

    def values(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "study_id": self.study_id,
            "plan_digest": self.plan_digest,
            "steps": self.steps,
            "is_final": self.is_final,
            "members": self.members,
            "others": self.others,
            "privacy": self.privacy.values(),
            "attacks": [asdict(attack) for attack in self.attacks],
            "is_within": self.is_within,
            "caveats": list(CAVEATS),
        }

    def to_json(self) -> str:
        """Write the report as it is kept."""
        return json.dumps(self.values(), indent=1, ensure_ascii=False) + "\n"


def membership_report(site: SiteContext, plan: StudyPlan, digest: str) -> MembershipReport:
    """Try every attack on the study's model with this hospital's own patients.

    Args:
        site: the opened site.
        plan: one that this hospital approved.
        digest: of the plan.

    Raises:
        ConfigError: MODEL_UNTRAINED, no step was applied here yet.
        DataRejected: PLAN_DATA_MISSING with fewer than two training or test patients.
    """
    from site_node.session import StudySession

    session = StudySession.resume(site, plan, digest, os.urandom)
    state = session.standing.state
    if state.step == 0:
        raise ConfigError(
            ErrorCode.MODEL_UNTRAINED,
            "The study's model has not been trained here yet, so there is nothing to attack.",
            hint="Run it again once training has begun; `cohortium-site status` shows the step.",
        )
    members, others = session.features("train"), session.features("test")
    parameters = final_parameters(state, plan.training)
    return MembershipReport(
        study_id=plan.study_id,
        plan_digest=digest,
        steps=state.step,
        is_final=state.step == plan.training.steps,
        members=members.patients,
        others=others.patients,
        privacy=privacy_statement(plan),
        attacks=attacks(plan, parameters, members, others),
    )


def attacks(
    plan: StudyPlan, parameters: Vector, members: Features, others: Features
) -> tuple[Attack, ...]:
    """Try every attack that the model admits; a Cox model has no class, so one fewer.

    Args:
        plan: whose epsilon and delta the attacks are compared with.
        parameters: (d,) float64 of the model.
        members: patients who trained it.
        others: patients who did not.

    Raises:
        DataRejected: PLAN_DATA_MISSING with fewer than two of either.
    """
    if min(members.patients, others.patients) < _LEAST_PATIENTS:
        raise DataRejected(
            ErrorCode.PLAN_DATA_MISSING,
            "There are too few training or test patients here to compare them.",
            hint="Both splits need two patients at least; a hundred tell something.",
        )
    pair = members, others
    scores = {"loss": tuple(-patient_losses(plan, parameters, each) for each in pair)}
    if plan.model.architecture is not Architecture.COX:
        scores["calibrated"] = calibrated(
            *((_confidence(plan, parameters, each), _classes(each)) for each in pair)
        )
    epsilon, delta = plan.privacy.epsilon, plan.privacy.delta
    return tuple(
        judge(name, *found, epsilon=epsilon, delta=delta) for name, found in scores.items()
    )


def patient_losses(plan: StudyPlan, parameters: Vector, features: Features) -> Vector:
    """Give each patient's mean loss over the patient's rows, unweighted by class; (patients,)."""
    network = build_network(plan.model, parameters).eval()
    losses = np.empty(len(features.y))
    with torch.no_grad():
        for start in range(0, len(features.y), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            time = None if features.time is None else torch.from_numpy(features.time[rows])
            y = torch.from_numpy(features.y[rows].astype(np.float32))
            outputs = network(torch.from_numpy(features.x[rows]))
            batch = Batch(y=y, time=time, positive_weight=1.0)
            losses[rows] = row_losses(plan, outputs, batch).double().numpy()
    sums = np.bincount(features.patient, weights=losses, minlength=features.patients)
    means: Vector = sums / np.bincount(features.patient, minlength=features.patients)
    return means


def calibrated(
    members: tuple[Vector, NDArray[np.int64]], others: tuple[Vector, NDArray[np.int64]]
) -> tuple[Vector, Vector]:
    """Standardise scores by the others of the same class, a patient's own score left out.

    Args:
        members: scores and classes, (patients,) each.
        others: the same.

    Returns:
        The members' and the others' scores; 0 where a class has fewer than three others.
    """
    found = np.zeros(len(members[0])), np.zeros(len(others[0]))
    for label in np.unique(others[1]):
        inside, outside = members[1] == label, others[1] == label
        reference = others[0][outside]
        n = len(reference)
        if n < 3:
            continue
        spread = float(reference.std()) or 1.0
        mean = float(reference.mean())
        found[0][inside] = (members[0][inside] - mean) / spread
        # An other is compared with the rest, as a member is with all of them.
        found[1][outside] = (reference - mean) * (n / (n - 1)) / spread
    return found


def judge(name: str, members: Vector, others: Vector, *, epsilon: float, delta: float) -> Attack:
    """Measure how well scores tell members from others, beside what epsilon and delta allow."""
    places = np.unique(np.concatenate([members, others]), return_inverse=True)[1]
    inside, outside = (
        np.bincount(part, minlength=int(places.max()) + 1).tolist()
        for part in (places[: len(members)], places[len(members) :])
    )
    found = auroc_from_histograms(inside, outside)
    return Attack(
        name=name,
        auroc=float(found.auroc),
        interval=found.interval(),
        allowed_auroc=allowed_auroc(epsilon, delta),
        points=tuple(_point(rate, members, others, epsilon, delta) for rate in FALSE_POSITIVES),
    )


def allowed_rate(false_positives: float, epsilon: float, delta: float) -> float:
    """Give the largest share of members that any attack finds at a rate of false alarms."""
    first = math.exp(min(epsilon, 700.0)) * false_positives + delta
    second = 1.0 - math.exp(-epsilon) * (1.0 - delta - false_positives)
    return max(false_positives, min(1.0, first, second))


def allowed_auroc(epsilon: float, delta: float) -> float:
    """Give the largest AUROC of any attack: the area under `allowed_rate`, rounded up a little."""
    rates = np.linspace(0.0, 1.0, _GRID)
    values = np.array([allowed_rate(float(rate), epsilon, delta) for rate in rates])
    return float(min(1.0, values[1:].mean()))  # the rate rises: its right ends lie above it


def _point(
    rate: float, members: Vector, others: Vector, epsilon: float, delta: float
) -> OperatingPoint:
    highest = np.sort(others)[::-1]
    threshold = highest[math.floor(rate * len(others))]
    found, wrong = int((members > threshold).sum()), int((others > threshold).sum())
    interval = wilson_interval(found, len(members))
    most_wrong = wilson_interval(wrong, len(others))[1]
    return OperatingPoint(
        false_positive_rate=rate,
        false_positives=wrong,
        true_positive_rate=found / len(members),
        interval=interval,
        allowed=allowed_rate(rate, epsilon, delta),
        is_within=interval[0] <= allowed_rate(max(rate, most_wrong), epsilon, delta),
    )


def _confidence(plan: StudyPlan, parameters: Vector, features: Features) -> Vector:
    """Give the logit of the true class, (patients,)."""
    logits = patient_logits(plan, parameters, features)
    towards: Vector = np.where(_classes(features) == 1, logits, -logits)
    return np.nan_to_num(towards)


def _classes(features: Features) -> NDArray[np.int64]:
    """Give each patient's class, (patients,): one label a patient."""
    found = np.zeros(features.patients, dtype=np.int64)
    found[features.patient] = features.y
    return found
