"""Are the pooled baselines what they say: the same rows, without privacy or with one noise draw?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from scripts.baselines import (
    patient_auroc,
    pool,
    pooled_baselines,
    train_centrally,
    train_without_privacy,
)
from site_node.cohort import load_features
from tests.support.learning import plan_for, random_features
from tests.support.secure_sum import FixedEntropy
from tests.support.shipped_studies import shipped_plan, shipped_table


def test_pooling_keeps_every_row_and_never_merges_patients() -> None:
    plan = plan_for("logistic")
    parts = [random_features(plan, [1, 2], 1), random_features(plan, [], 2)]
    parts.append(random_features(plan, [3], 3))
    pooled = pool(parts)
    assert pooled.patient.tolist() == [0, 1, 1, 2, 2, 2]
    assert pooled.patients == 3
    assert pooled.x.tolist() == np.concatenate([p.x for p in parts]).tolist()


def test_training_without_privacy_finds_the_minimum_scipy_finds() -> None:
    plan = plan_for("logistic")
    features = random_features(plan, [1, 2, 3] * 15)
    weight = 1 / np.bincount(features.patient)[features.patient] / features.patients
    x = np.concatenate([features.x, np.ones((len(features.y), 1))], axis=1).astype(np.float64)

    def loss(w: np.ndarray) -> float:
        logit = x @ w
        mean = (weight * (np.logaddexp(0, logit) - features.y * logit)).sum()
        return float(mean + 0.5e-4 * (w**2).sum())

    expected = optimize.minimize(loss, np.zeros(5), method="BFGS").x
    np.testing.assert_allclose(train_without_privacy(plan, features), expected, atol=0.02)


def test_auroc_over_patients_is_mann_whitneys() -> None:
    plan = plan_for("logistic")
    features, flat = random_features(plan, [1] * 80), np.array([1.0, -1, 0.5, 0, 0])
    scores = features.x.astype(np.float64) @ flat[:4]
    sick, well = scores[features.y == 1], scores[features.y == 0]
    expected = stats.mannwhitneyu(sick, well).statistic / (len(sick) * len(well))
    assert patient_auroc(plan, flat, features) == pytest.approx(float(expected), abs=1e-9)


def test_central_run_takes_fresh_noise_and_poisson_samples() -> None:
    plan = plan_for("logistic", sampling="poisson", sampling_rate=0.5, divisor=10)
    features = random_features(plan, [1] * 20)
    entropy = FixedEntropy("central")
    first, second = (train_centrally(plan, features, entropy) for _ in range(2))
    assert first.shape == (5,)
    assert (first != second).any()
    again = train_centrally(plan, features, FixedEntropy("central"))
    assert again.tolist() == first.tolist()


def test_pooled_patients_keep_their_times() -> None:
    plan = plan_for("logistic")
    parts = [random_features(plan, [1], seed) for seed in (1, 2)]
    timed = [replace(part, time=np.array([n], np.float32)) for n, part in enumerate(parts)]
    assert pool(timed).time is not None and pool(timed).time.tolist() == [0, 1]
    assert pool(parts).time is None


def test_a_preparation_belongs_to_a_plan_that_has_one() -> None:
    plan = plan_for("logistic")
    features = random_features(plan, [1] * 4)
    with pytest.raises(ValueError, match="preparation"):
        train_without_privacy(plan, features, np.zeros(3, dtype=np.int64))


def test_averaged_local_training_has_no_central_counterpart() -> None:
    local = {
        "algorithm": "dp-fedavg",
        "local_learning_rate": 0.1,
        "local_divisor": 10,
        "update_clip": 1,
        "divisor": 4,
    }
    plan = plan_for("logistic", **local)
    with pytest.raises(ValueError, match="average"):
        train_centrally(plan, random_features(plan, [1] * 4), FixedEntropy("local"))


def test_heart_baselines_are_those_of_the_literature() -> None:
    plan = shipped_plan("heart")
    tables = {site: shipped_table("heart", site) for site in plan.site_ids}
    features = {
        site: (load_features(table, plan, "train"), load_features(table, plan, "test"))
        for site, table in tables.items()
    }
    baselines = pooled_baselines(plan, features, FixedEntropy("heart"))
    assert baselines["pooled_no_dp"] == pytest.approx(0.882, abs=0.004)
    assert baselines["central_dp"] == pytest.approx(0.884, abs=0.015)
