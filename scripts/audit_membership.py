"""Can LiRA tell who trained the demo's two studies, given dozens of models to learn from?

    python -m scripts.audit_membership [--study heart] [--models 32] [--without-privacy] [--json]

The likelihood ratio attack of Carlini et al. 2022 (arXiv 2112.03570, online, one variance for all
patients): each of the models is trained on a random half of all four hospitals' training patients.
Each model in turn is the target; from the others the attacker knows how confident a model is of a
patient when it was trained on that patient, and when it was not. Models are trained by one trusted
party with one draw of the plan's noise a step: less noise than the hospitals' together, so the
attack is no weaker than on the real model. `--without-privacy` trains to convergence instead, to
see what the attack can do. No test-set patient is used.

A report, no proof: what LiRA does not find another attack may. For tests and schedules, never at a
hospital: it pools what hospitals never pool.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.governance.study import StudyPlan
from schemas.privacy.statement import PrivacyStatement, privacy_statement
from scripts.baselines import pool, train_centrally, train_without_privacy
from site_node.cohort.features import Features, load_features
from site_node.membership import FALSE_POSITIVES, allowed_auroc, allowed_rate
from site_node.training.evaluate import patient_logits
from site_node.training.sampling import poisson_mask
from tests.support.secure_sum import FixedEntropy
from tests.support.shipped_studies import shipped_plan, shipped_table

STUDIES = ("heart", "cxr")
_LEAST_MODELS = 4  # fewer, and a patient may be on one side of all of them

Train = Callable[[StudyPlan, Features, int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Point:
    """The share of members found at a rate of false alarms, and the most the plan allows."""

    false_positive_rate: float
    true_positive_rate: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Report:
    """What LiRA reached against one study's training.

    Attributes:
        auroc: mean over all targets.
        interval: 95 %, from the spread between targets.
        points: mean share found; thresholds are those of each target.
    """

    study: str
    is_private: bool
    models: int
    patients: int
    auroc: float
    interval: tuple[float, float]
    allowed_auroc: float
    points: tuple[Point, ...]
    privacy: PrivacyStatement

    @property
    def is_within(self) -> bool:
        """Whether nothing found exceeds what the plan allows."""
        shares = all(point.true_positive_rate <= point.allowed for point in self.points)
        return self.interval[0] <= self.allowed_auroc and shares

    def values(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "study": self.study,
            "is_private": self.is_private,
            "models": self.models,
            "patients": self.patients,
            "auroc": self.auroc,
            "interval": self.interval,
            "allowed_auroc": self.allowed_auroc,
            "points": [asdict(point) for point in self.points],
            "privacy": self.privacy.values(),
            "within": self.is_within,
        }


def privately(plan: StudyPlan, features: Features, seed: int) -> NDArray[np.float64]:
    """Train by the plan's algorithm with one draw of noise a step."""
    return train_centrally(plan, features, FixedEntropy(f"membership/noise/{seed}"))


def freely(plan: StudyPlan, features: Features, _seed: int) -> NDArray[np.float64]:
    """Train to convergence without noise."""
    return train_without_privacy(plan, features)


def attack(
    plan: StudyPlan, everyone: Features, *, models: int, train: Train, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train the models and let each be the target once.

    Args:
        plan: the study's plan.
        everyone: training patients of all hospitals.
        models: at least four.
        train: gives the parameters of a model of some patients.
        seed: of the halves and of the noise.

    Returns:
        AUROC of each target (models,), and the share of members found at each of
        `FALSE_POSITIVES`, (models, 2).

    Raises:
        ValueError: fewer than four models.
    """
    if models < _LEAST_MODELS:
        raise ValueError("LiRA needs four models at least")
    inside = np.empty((models, everyone.patients), dtype=np.bool_)
    confidence = np.empty((models, everyone.patients))
    label = np.zeros(everyone.patients, dtype=np.int64)
    label[everyone.patient] = everyone.y
    for number in range(models):
        coins = FixedEntropy(f"membership/half/{seed}/{number}")
        inside[number] = poisson_mask(everyone.patients, 0.5, coins)
        parameters = train(plan, chosen(everyone, inside[number]), models * seed + number)
        logits = patient_logits(plan, parameters, everyone)
        confidence[number] = np.where(label == 1, logits, -logits)
    aurocs, found = np.empty(models), np.empty((models, len(FALSE_POSITIVES)))
    for target in range(models):
        scores = likelihood_ratios(inside, confidence, target)
        members, others = scores[inside[target]], scores[~inside[target]]
        aurocs[target] = _auroc(members, others)
        ordered = np.sort(others)[::-1]
        for place, rate in enumerate(FALSE_POSITIVES):
            found[target, place] = (members > ordered[math.floor(rate * len(others))]).mean()
    return aurocs, found


def chosen(features: Features, inside: NDArray[np.bool_]) -> Features:
    """Keep some patients with all their rows."""
    rows = inside[features.patient]
    renumbered = np.cumsum(inside) - 1
    return Features(
        x=features.x[rows],
        y=features.y[rows],
        patient=renumbered[features.patient[rows]].astype(np.int64),
        patients=int(inside.sum()),
        time=None if features.time is None else features.time[rows],
    )


def likelihood_ratios(
    inside: NDArray[np.bool_], confidence: NDArray[np.float64], target: int
) -> NDArray[np.float64]:
    """Give each patient's log likelihood ratio in the target, from all other models.

    Args:
        inside: (models, patients), who trained which model.
        confidence: (models, patients), the logit towards the true class.
        target: row of the model under attack.

    Returns:
        (patients,); 0 for a patient who is on one side of all other models.
    """
    others = np.arange(len(inside)) != target
    held, seen = inside[others], confidence[others]
    counts = held.sum(axis=0), (~held).sum(axis=0)
    known = (counts[0] > 0) & (counts[1] > 0)
    with_, without = (
        np.where(side, seen, 0.0).sum(axis=0) / np.maximum(count, 1)
        for side, count in ((held, counts[0]), (~held, counts[1]))
    )
    residual = seen - np.where(held, with_, without)
    variance = float((residual**2)[:, known].mean()) or 1.0
    middle = (with_ + without) / 2
    ratios: NDArray[np.float64] = (confidence[target] - middle) * (with_ - without) / variance
    return np.where(known, ratios, 0.0)


def report(study: str, *, models: int, is_private: bool, seed: int = 0) -> Report:
    """Attack one of the demo's studies."""
    plan = shipped_plan(study)
    parts = [load_features(shipped_table(study, site), plan, "train") for site in plan.site_ids]
    everyone = pool(parts)
    train = privately if is_private else freely
    aurocs, found = attack(plan, everyone, models=models, train=train, seed=seed)
    half = 1.96 * float(aurocs.std(ddof=1)) / math.sqrt(models)
    mean, (epsilon, delta) = float(aurocs.mean()), (plan.privacy.epsilon, plan.privacy.delta)
    return Report(
        study=study,
        is_private=is_private,
        models=models,
        patients=everyone.patients,
        auroc=mean,
        interval=(mean - half, mean + half),
        allowed_auroc=allowed_auroc(epsilon, delta),
        points=tuple(
            Point(rate, float(share), allowed_rate(rate, epsilon, delta))
            for rate, share in zip(FALSE_POSITIVES, found.mean(axis=0), strict=True)
        ),
        privacy=privacy_statement(plan),
    )


def _auroc(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    ordered = np.sort(others)
    wins = np.searchsorted(ordered, members, "left") + np.searchsorted(ordered, members, "right")
    return float(wins.mean() / (2 * len(others)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack the studies; 1 if a private one gives away more than its plan allows."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.audit_membership",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", choices=STUDIES, action="append")
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-privacy", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    is_private = not given.without_privacy
    status = 0
    for study in given.study or STUDIES:
        made = report(study, models=given.models, is_private=is_private, seed=given.seed)
        status = status or int(is_private and not made.is_within)
        if given.json:
            print(json.dumps(made.values()), flush=True)
            continue
        how = "with the plan's noise" if is_private else "no privacy"
        shares = "; ".join(
            f"at {p.false_positive_rate:.0%} false alarms {p.true_positive_rate:.3f} of the "
            f"members found (the plan allows {p.allowed:.3f})"
            for p in made.points
        )
        print(
            f"{study}, {how}, {made.models} models of half of {made.patients} patients: AUROC "
            f"{made.auroc:.3f}, 95 % {made.interval[0]:.3f} to {made.interval[1]:.3f} (the plan "
            f"allows {made.allowed_auroc:.3f}); {shares}. The plan: {made.privacy.sentence()}.",
            flush=True,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
