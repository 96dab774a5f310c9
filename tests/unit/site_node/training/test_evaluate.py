"""Do the sites' counts add up to the same vector however patients are spread over sites?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DataRejected
from schemas.evaluation import bin_index, evaluation_length
from schemas.evaluation.fixed_point import LIMBS, SCALE, from_limbs
from schemas.governance.study import Architecture, StudyPlan
from site_node.cohort.features import Features
from site_node.training.evaluate import evaluation_vector, patient_logits
from tests.support.factories import make_plan
from tests.support.learning import plan_for, random_features

PLAN = plan_for("logistic")
WEIGHTS = np.array([1.5, -2.0, 0.7, 0.3, -0.4])


def part(features: Features, patients: np.ndarray) -> Features:
    """Some patients of a site, renumbered."""
    rows = np.isin(features.patient, patients)
    return Features(
        x=features.x[rows],
        y=features.y[rows],
        patient=np.searchsorted(patients, features.patient[rows]),
        patients=len(patients),
    )


def fixed_point(vector: np.ndarray) -> list[int]:
    """The calibration sums in units of 2^-24."""
    limbs = vector[204:].tolist()
    return [from_limbs(limbs[at : at + LIMBS]) for at in range(0, len(limbs), LIMBS)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_any_partition_of_patients_gives_the_same_sum(sites: list[int]) -> None:
    features = random_features(PLAN, [1] * 30)
    whole = evaluation_vector(PLAN, WEIGHTS, features)
    parts = [part(features, np.flatnonzero(np.array(sites) == site)) for site in range(4)]
    summed = sum(evaluation_vector(PLAN, WEIGHTS, p) for p in parts)
    assert summed[:204].tolist() == whole[:204].tolist()
    assert fixed_point(summed) == fixed_point(whole)


def test_counts_agree_with_a_plain_loop() -> None:
    features = random_features(PLAN, [1] * 50)
    vector = evaluation_vector(PLAN, WEIGHTS, features)
    expected = np.zeros(204, dtype=np.int64)
    for x, y in zip(features.x, features.y, strict=True):
        logit = float(x.astype(np.float64) @ WEIGHTS[:4] + WEIGHTS[4])
        place = int(bin_index(np.array([logit]), 100)[0])
        expected[place if y else 100 + place] += 1
        expected[200 + {(1, 1): 0, (1, 0): 1, (0, 0): 2, (0, 1): 3}[int(logit >= 0), int(y)]] += 1
    assert vector[:204].tolist() == expected.tolist()
    assert vector.dtype == np.int64
    p = 1 / (1 + np.exp(-(features.x.astype(np.float64) @ WEIGHTS[:4] + WEIGHTS[4])))
    errors = (features.y - p) ** 2
    for got, exact in zip(
        fixed_point(vector), (p.sum(), errors.sum(), (errors**2).sum()), strict=True
    ):
        assert got / SCALE == pytest.approx(exact, abs=1e-4)


def test_totals_of_histograms_and_cells_agree() -> None:
    vector = evaluation_vector(PLAN, WEIGHTS, random_features(PLAN, [1] * 60))
    assert vector[:100].sum() == vector[200] + vector[203]
    assert vector[100:200].sum() == vector[201] + vector[202]
    assert vector[:200].sum() == 60


def test_threshold_is_the_plans() -> None:
    strict, _ = make_plan(evaluation={"threshold": 0.9})
    features = random_features(PLAN, [1] * 60)
    loose = evaluation_vector(PLAN, WEIGHTS, features)
    tight = evaluation_vector(strict, WEIGHTS, features)
    assert tight[200] + tight[201] < loose[200] + loose[201]
    logits = patient_logits(PLAN, WEIGHTS, features)
    assert tight[200] + tight[201] == (logits >= np.log(9)).sum()


def test_patient_with_several_rows_counts_once_at_the_mean() -> None:
    features = random_features(PLAN, [3, 1, 2])
    logits = patient_logits(PLAN, WEIGHTS, features)
    rows = features.x.astype(np.float64) @ WEIGHTS[:4] + WEIGHTS[4]
    np.testing.assert_allclose(logits, [rows[:3].mean(), rows[3], rows[4:].mean()], rtol=1e-5)
    assert evaluation_vector(PLAN, WEIGHTS, features)[:200].sum() == 3


def cox_features(answers: list[tuple[int, float]]) -> tuple[StudyPlan, Features]:
    """One patient for each (event, time), all with the same inputs; the horizon is 180."""
    plan = plan_for("cox")
    return plan, Features(
        x=np.full((len(answers), 4), 0.5, dtype=np.float32),
        y=np.array([event for event, _ in answers], dtype=np.int64),
        patient=np.arange(len(answers)),
        patients=len(answers),
        time=np.array([time for _, time in answers], dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("event", "time", "positive", "negative"),
    [
        pytest.param(1, 0.0, 1, 0, id="event at once"),
        pytest.param(1, 180.0, 1, 0, id="event on the last day"),
        pytest.param(1, 180.5, 0, 1, id="event beyond the horizon"),
        pytest.param(0, 180.0, 0, 1, id="event-free on the last day"),
        pytest.param(0, 400.0, 0, 1, id="followed beyond it"),
        pytest.param(0, 179.5, 0, 0, id="lost before it: left out"),
        pytest.param(0, 0.0, 0, 0, id="lost at once: left out"),
    ],
)
def test_cox_patient_counts_as_the_table_says(
    event: int, time: float, positive: int, negative: int
) -> None:
    plan, features = cox_features([(event, time)])
    flat = np.array([0.4, -0.2, 0.1, 0.3, -1.0, -0.5, 0.2])
    vector = evaluation_vector(plan, flat, features)
    assert vector[:100].sum() == positive == vector[200] + vector[203]
    assert vector[100:200].sum() == negative == vector[201] + vector[202]
    if not positive + negative:
        assert not vector.any()


def test_cox_score_is_the_probability_of_an_event_by_the_horizon() -> None:
    plan, features = cox_features([(1, 10.0), (0, 200.0), (0, 20.0)])
    flat = np.array([0.4, -0.2, 0.1, 0.3, -1.0, -0.5, 0.2])
    hazards = np.exp(features.x[0].astype(np.float64) @ flat[:4] + flat[4:])
    p = 1 - np.exp(-hazards.sum())
    logits = patient_logits(plan, flat, features)
    np.testing.assert_allclose(logits, np.log(p / (1 - p)), rtol=1e-5)
    vector = evaluation_vector(plan, flat, features)
    assert fixed_point(vector)[0] / SCALE == pytest.approx(2 * p, abs=1e-4)
    assert fixed_point(vector)[1] / SCALE == pytest.approx((1 - p) ** 2 + p**2, abs=1e-4)
    assert vector[int(bin_index(logits[:1], 100)[0])] == 1


def test_cox_study_without_times_is_refused() -> None:
    plan, features = cox_features([(1, 10.0)])
    with pytest.raises(DataRejected):
        evaluation_vector(plan, np.zeros(7), replace(features, time=None))


@pytest.mark.parametrize("architecture", list(Architecture))
def test_site_without_test_patients_adds_zeros(architecture: str) -> None:
    plan = plan_for(architecture)
    vector = evaluation_vector(plan, np.zeros(plan.model.parameters), random_features(plan, []))
    assert vector.tolist() == [0] * evaluation_length(100)
