"""Do calibration sums give the textbook numbers, however patients are spread, or refuse?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.evaluation.calibration import calibration_estimates, calibration_words
from schemas.evaluation.fixed_point import LIMBS, SCALE, from_limbs, to_limbs


def cohort(seed: int, patients: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and outcomes; with shift 0 the outcomes follow the probabilities."""
    generator = np.random.default_rng(seed)
    p = generator.uniform(0.02, 0.98, patients)
    return np.clip(p + shift, 0, 1), generator.uniform(size=patients) < p


def test_estimates_and_intervals_are_those_of_the_single_patients() -> None:
    p, y = cohort(1, 500)
    bias, bias_ci, brier, brier_ci = calibration_estimates(
        calibration_words(p, y), int(y.sum()), 500
    )
    differences, squares = p - y, (y - p) ** 2
    assert float(bias) == pytest.approx(differences.mean(), abs=1e-6)
    assert float(brier) == pytest.approx(squares.mean(), abs=1e-6)
    for interval, values in ((bias_ci, differences), (brier_ci, squares)):
        half = 1.959964 * values.std() / np.sqrt(500)
        assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-5)


def test_the_interval_holds_zero_for_a_calibrated_model_and_not_for_a_shifted_one() -> None:
    """Over 200 cohorts: about 95 % cover zero when calibrated, none when 0.2 too high."""
    covered = shifted = 0
    for seed in range(200):
        for shift in (0.0, 0.2):
            p, y = cohort(seed, 400, shift)
            words = calibration_words(p, y)
            _, (low, high), _, _ = calibration_estimates(words, int(y.sum()), 400)
            covered += shift == 0.0 and low <= 0 <= high
            shifted += shift > 0.0 and low <= 0 <= high
    assert 180 <= covered <= 199
    assert shifted == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 200))
def test_limbs_of_many_sites_add_up_exactly(values: list[float], sites: int) -> None:
    exact = sum(int(v * SCALE) for v in values)
    limbs = np.array(to_limbs(np.array(values)))
    assert from_limbs((limbs * sites).tolist()) == exact * sites
    assert (limbs * 200).max() < 2**31


def test_no_patients_add_nothing_and_impossible_values_are_a_fault() -> None:
    assert to_limbs(np.empty(0)) == (0,) * LIMBS
    for wrong in (1.0001, -0.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            to_limbs(np.array([wrong]))


@pytest.mark.parametrize(("at", "by"), [(2, 1), (5, 1), (8, 1), (0, -(2**30)), (4, -250)])
def test_sums_of_no_cohort_are_refused(at: int, by: int) -> None:
    p, y = cohort(2, 100)
    words = calibration_words(p, y)
    words[at] += by
    with pytest.raises(ValueError, match=r"contradict|negative"):
        calibration_estimates(words, int(y.sum()), 100)


def test_a_perfect_and_a_perfectly_wrong_model_are_possible() -> None:
    y = np.arange(50) < 20
    _, _, best, _ = calibration_estimates(calibration_words(y.astype(float), y), 20, 50)
    _, _, worst, _ = calibration_estimates(calibration_words(1.0 - y, y), 20, 50)
    assert (best, worst) == (0, 1)
