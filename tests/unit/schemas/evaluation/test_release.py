"""Does the release say only what may leave, in the same bytes everywhere, or refuse?"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.canonical import parse
from schemas.errors import CohortiumError, DataRejected, ErrorCode, ProtocolError
from schemas.evaluation import (
    CALIBRATION,
    DISCRIMINATION,
    Release,
    auroc_from_histograms,
    bin_index,
    calibration_words,
    derive_release,
    evaluation_length,
    join_sections,
)
from schemas.limits import MAX_RELEASE_BYTES
from tests.support.factories import make_plan

PLAN, _ = make_plan()
ROSTER = ("site-1", "site-2", "site-4")
HASH = "ab" * 32


def vector_of(positives: np.ndarray, negatives: np.ndarray, cut: float = 0.0) -> np.ndarray:
    """Count logits as a site does, by hand."""
    cells = [
        (positives >= cut).sum(), (negatives >= cut).sum(),
        (negatives < cut).sum(), (positives < cut).sum(),
    ]  # fmt: skip
    parts = [np.bincount(bin_index(v, 100), minlength=100) for v in (positives, negatives)]
    logits = np.concatenate([positives, negatives])
    outcomes = np.arange(len(logits)) < len(positives)
    return join_sections(
        100,
        {
            DISCRIMINATION: np.concatenate([*parts, cells]),
            CALIBRATION: calibration_words(1 / (1 + np.exp(-logits)), outcomes),
        },
    )


def sample(seed: int = 0, n1: int = 130, n0: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two overlapping classes."""
    generator = np.random.default_rng(seed)
    return generator.normal(1, 1, n1), generator.normal(-0.6, 1, n0)


def test_release_holds_the_numbers_of_the_patients() -> None:
    positives, negatives = sample()
    release = derive_release(PLAN, HASH, ROSTER, vector_of(positives, negatives))
    exact = (positives[:, None] > negatives).mean()
    assert abs(release.auroc - exact) <= release.auroc_bound
    assert release.auroc_bound < 0.01
    assert release.auroc_ci[0] < release.auroc < release.auroc_ci[1]
    assert release.sensitivity == pytest.approx((positives >= 0).mean(), abs=5e-4)
    assert release.specificity == pytest.approx((negatives < 0).mean(), abs=5e-4)
    assert release.sensitivity_ci[0] < release.sensitivity < release.sensitivity_ci[1]
    probabilities = 1 / (1 + np.exp(-np.concatenate([positives, negatives])))
    outcomes = np.arange(250) < 130
    bias = probabilities.mean() - outcomes.mean()
    brier = ((outcomes - probabilities) ** 2).mean()
    assert release.calibration_in_the_large == pytest.approx(bias, abs=6e-4)
    assert release.brier == pytest.approx(brier, abs=6e-4)
    assert release.brier_ci[0] < release.brier < release.brier_ci[1]
    assert (release.plan_digest, release.model_hash) == (PLAN.digest(), HASH)
    assert (release.roster, release.sites) == (ROSTER, 3)
    assert (release.positives_at_least, release.negatives_at_least) == (130, 120)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 80), st.integers(10, 80))
def test_published_bound_covers_binning_and_rounding(seed: int, n1: int, n0: int) -> None:
    positives, negatives = sample(seed, n1, n0)
    release = derive_release(PLAN, HASH, ROSTER, vector_of(positives, negatives))
    exact = float((positives[:, None] > negatives).mean())
    assert abs(release.auroc - exact) <= release.auroc_bound + 1e-12


def test_same_sum_gives_the_same_bytes_and_they_parse_back() -> None:
    vector = vector_of(*sample())
    first = derive_release(PLAN, HASH, ROSTER, vector).canonical()
    again = derive_release(PLAN, HASH, tuple(reversed(ROSTER)), vector.copy()).canonical()
    assert first == again
    assert parse(Release, first, max_bytes=MAX_RELEASE_BYTES).canonical() == first


def test_every_number_has_at_most_three_decimals() -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [n for part in value.values() for n in numbers(part)]
        if isinstance(value, list):
            return [n for part in value for n in numbers(part)]
        return [value] if isinstance(value, float) else []

    body = json.loads(derive_release(PLAN, HASH, ROSTER, vector_of(*sample())).canonical())
    assert len(numbers(body)) > 10
    assert all(round(n, 3) == n for n in numbers(body))


def test_no_count_below_ten_can_be_read_off_the_class_totals() -> None:
    release = derive_release(PLAN, HASH, ROSTER, vector_of(*sample(n1=137, n0=24)))
    assert (release.positives_at_least, release.negatives_at_least) == (130, 20)


def test_intervals_are_rounded_outwards() -> None:
    positives, negatives = sample()
    vector = vector_of(positives, negatives)
    release = derive_release(PLAN, HASH, ROSTER, vector)
    low, high = auroc_from_histograms(vector[:100].tolist(), vector[100:200].tolist()).interval()
    assert release.auroc_ci[0] <= low < release.auroc_ci[0] + 0.001
    assert release.auroc_ci[1] - 0.001 < high <= release.auroc_ci[1]


@pytest.mark.parametrize(("n1", "n0"), [(9, 100), (100, 9), (0, 100), (100, 0), (0, 0)])
def test_fewer_than_ten_of_a_class_are_refused(n1: int, n0: int) -> None:
    with pytest.raises(DataRejected) as refusal:
        derive_release(PLAN, HASH, ROSTER, vector_of(*sample(n1=n1, n0=n0)))
    assert refusal.value.code is ErrorCode.EVALUATION_CLASS_SMALL


def test_a_plan_may_ask_for_more_than_ten_and_never_for_less() -> None:
    strict, _ = make_plan(evaluation={"minimum_roc_patients": 25})
    vector = vector_of(*sample(n1=24, n0=60))
    derive_release(PLAN, HASH, ROSTER, vector)
    with pytest.raises(DataRejected):
        derive_release(strict, HASH, ROSTER, vector)
    with pytest.raises(CohortiumError):
        make_plan(evaluation={"minimum_roc_patients": 9})


def _changed(at: int, by: int) -> np.ndarray:
    vector = vector_of(*sample())
    vector[at] += by
    return vector


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(evaluation_length(100) - 1, np.int64), np.zeros(evaluation_length(100)),
        _changed(0, -1), _changed(50, 1),
        _changed(150, 1), _changed(200, 1), _changed(203, -1), _changed(120, -(2**40)),
        _changed(206, 2**20), _changed(209, 2**20), _changed(212, 2**20), _changed(205, -(2**25)),
    ],
    ids=[
        "short", "float", "negative", "diseased", "others", "TP", "FN", "huge",
        "predictions above one", "errors above one", "fourth above second", "negative limb",
    ],
)  # fmt: skip
def test_sum_that_cannot_be_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ProtocolError) as refusal:
        derive_release(PLAN, HASH, ROSTER, vector)
    assert refusal.value.code is ErrorCode.EVALUATION_VECTOR_INVALID


def test_curve_runs_from_corner_to_corner_and_never_back() -> None:
    release = derive_release(PLAN, HASH, ROSTER, vector_of(*sample()))
    rates = [(p.false_positive_rate, p.true_positive_rate) for p in release.roc]
    assert (rates[0], rates[-1]) == ((0, 0), (1, 1))
    assert rates == sorted(rates)
    assert len(rates) >= 4
    assert release.roc_minimum_patients == 10


def test_release_names_no_threshold_of_a_curve_point() -> None:
    """A point with its threshold would bound single patients' scores."""
    body = json.loads(derive_release(PLAN, HASH, ROSTER, vector_of(*sample())).canonical())
    assert all(set(p) == {"false_positive_rate", "true_positive_rate"} for p in body["roc"])
    assert math.isclose(body["threshold"], 0.5)
