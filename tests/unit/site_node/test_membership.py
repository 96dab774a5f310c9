"""Does the report find out who trained a model that remembers, and nobody behind noise?"""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest

from schemas.errors import ConfigError, DataRejected, ErrorCode
from schemas.governance.study import StudyPlan
from schemas.models import initial_parameters
from schemas.privacy.statement import privacy_statement
from scripts.baselines import train_centrally, train_without_privacy
from site_node.cohort.features import Features
from site_node.membership import (
    CAVEATS,
    allowed_auroc,
    allowed_rate,
    attacks,
    calibrated,
    judge,
    membership_report,
    patient_losses,
)
from tests.support.consortium import memory_consortium
from tests.support.learning import plan_for, random_features
from tests.support.secure_sum import FixedEntropy

PATIENTS = 80


@cache
def plan() -> StudyPlan:
    """A linear layer with more inputs than there are patients: it can remember everybody."""
    return plan_for("scattering-logistic", steps=20, average_from_step=20, divisor=PATIENTS)


def people(seed: int, several: bool = False) -> Features:
    """Patients whose labels say nothing about their rows."""
    return random_features(plan(), [1 + several] * PATIENTS, seed=seed)


def normal(seed: str, n: int, shift: float = 0.0) -> np.ndarray:
    words = np.frombuffer(FixedEntropy(seed)(8 * n * 12), dtype="<u8").reshape(n, 12)
    return (words / 2.0**64).sum(axis=1) - 6.0 + shift


@pytest.mark.parametrize("several", [False, True])
def test_a_model_that_remembers_gives_its_patients_away(several: bool) -> None:
    """PRIVACY-18: without privacy both attacks succeed, far beyond what the plan would allow."""
    members, others = people(1, several), people(2, several)
    overfit = train_without_privacy(plan(), members)
    found = attacks(plan(), overfit, members, others)
    assert [attack.name for attack in found] == ["loss", "calibrated"]
    for attack in found:
        assert attack.auroc > 0.8
        assert attack.interval[0] > attack.allowed_auroc and not attack.is_within


def test_a_model_trained_with_the_plans_noise_does_not() -> None:
    """PRIVACY-18: the same patients, under the plan's algorithm and noise."""
    members, others = people(1), people(2)
    private = train_centrally(plan(), members, FixedEntropy("membership"))
    for attack in attacks(plan(), private, members, others):
        assert attack.interval[0] <= 0.5 <= attack.interval[1]
        assert attack.is_within and all(point.is_within for point in attack.points)


def test_two_groups_of_strangers_are_not_told_apart() -> None:
    """Nobody trained it: the intervals must cover guessing, or the attack itself is biased."""
    flat = initial_parameters(plan().model) + normal("weights", plan().model.parameters)
    for attack in attacks(plan(), flat, people(3), people(4)):
        assert attack.interval[0] <= 0.5 <= attack.interval[1]


def test_a_patients_loss_is_the_mean_over_the_rows() -> None:
    features = random_features(plan(), [1, 3, 2], seed=5)
    flat = normal("weights", plan().model.parameters)
    got = patient_losses(plan(), flat, features)
    logits = features.x.astype(np.float64) @ flat[:-1] + flat[-1]
    rows = np.logaddexp(0, logits) - features.y * logits
    expected = [rows[:1].mean(), rows[1:4].mean(), rows[4:].mean()]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_cox_model_is_attacked_by_its_loss_alone() -> None:
    cox = plan_for("cox")
    features = [random_features(cox, [1] * 30, seed=seed) for seed in (1, 2)]
    found = attacks(cox, initial_parameters(cox.model), *features)
    assert [attack.name for attack in found] == ["loss"]


def test_calibration_takes_the_class_out_of_the_score() -> None:
    """Classes that differ by ten deviations, and no membership at all: neither way is found."""
    classes = np.arange(400) % 2
    pair = [(normal(f"scores/{n}", 400) + 10 * classes, classes) for n in range(2)]
    members, others = calibrated(*pair)
    assert abs(members[classes == 0].mean() - members[classes == 1].mean()) < 0.3
    assert judge("x", members, others, epsilon=1, delta=1e-5).interval[0] < 0.5
    lonely = calibrated((np.ones(4), np.zeros(4)), (np.ones(2), np.zeros(2)))  # type: ignore[arg-type]
    assert not lonely[0].any() and not lonely[1].any()


def test_the_bound_is_that_of_the_gaussian_world() -> None:
    """PRIVACY-18: what no attack exceeds; (0, 0) allows guessing, a huge epsilon everything."""
    assert allowed_rate(0.01, 0.0, 0.0) == pytest.approx(0.01)
    assert allowed_rate(0.01, 1.0, 1e-5) == pytest.approx(0.01 * math.e + 1e-5)
    assert allowed_rate(0.9, 1.0, 1e-5) == pytest.approx(1 - (0.1 - 1e-5) / math.e)
    assert allowed_rate(0.01, 1e6, 0.0) == 1.0
    assert allowed_auroc(0.0, 0.0) == pytest.approx(0.5, abs=1e-3)
    # Pure epsilon: two straight pieces that meet at 1/(1 + e^eps).
    assert allowed_auroc(1.0, 0.0) == pytest.approx(math.e / (1 + math.e), abs=1e-3)
    assert allowed_auroc(50.0, 0.0) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("shift", "is_within"), [(0.0, True), (0.5, True), (3.0, False)])
def test_the_verdict_compares_with_the_plan(shift: float, is_within: bool) -> None:
    """PRIVACY-18: half a deviation is what epsilon 2 may show; three are not."""
    found = judge("x", normal("in", 1000, shift), normal("out", 1000), epsilon=2.0, delta=1e-5)
    assert found.is_within is is_within
    for point, rate in zip(found.points, (0.01, 0.05), strict=True):
        assert point.false_positives <= rate * 1000
        assert point.interval[0] <= point.true_positive_rate <= point.interval[1]


def test_ties_find_nobody() -> None:
    """A constant score flags everybody or no one: AUROC a half, no true positive."""
    found = judge("x", np.zeros(50), np.zeros(50), epsilon=1, delta=1e-5)
    assert found.auroc == 0.5 and found.is_within
    assert all(point.true_positive_rate == 0 for point in found.points)


def test_too_few_patients_are_refused() -> None:
    one = random_features(plan(), [1], seed=1)
    with pytest.raises(DataRejected) as refused:
        attacks(plan(), initial_parameters(plan().model), people(1), one)
    assert refused.value.code is ErrorCode.PLAN_DATA_MISSING


def test_the_report_is_about_this_hospitals_own_patients(tmp_path) -> None:
    """PRIVACY-18: of the final model, with everything a reader must know, and nothing is sent."""
    consortium = memory_consortium(tmp_path)
    site = consortium.sites["site-1"]
    with pytest.raises(ConfigError) as refused:
        membership_report(site, consortium.plan, consortium.digest)
    assert refused.value.code is ErrorCode.MODEL_UNTRAINED
    consortium.study_run().run()
    report = membership_report(site, consortium.plan, consortium.digest)
    assert report.is_final and report.steps == consortium.plan.training.steps
    assert report.members == site.store.read("heart")["split"].to_pylist().count("train")
    # No verdict here: of few patients under fresh noise it is chance; fixed seeds give it above.
    values = json.loads(report.to_json())
    assert values["privacy"] == privacy_statement(consortium.plan).values()
    assert values["caveats"] == list(CAVEATS) and any("never a proof" in c for c in CAVEATS)
