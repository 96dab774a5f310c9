"""Do predicted probabilities agree with what happened, from sums alone?

Three sums over the test patients suffice: of the predictions p, of the squared errors (y - p)^2
and of their squares. Calibration in the large is mean(p) - mean(y) (Van Calster et al. 2019, BMC
Medicine 17:230), Brier's score is mean((y - p)^2); the standard error of each follows from the
next power (Bradley, Schwartz & Hashino 2008 for Brier). All arithmetic up to the square root is
exact, so every site derives the same digits.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from schemas.evaluation.fixed_point import LIMBS, SCALE, from_limbs, to_limbs
from schemas.evaluation.statistics import Z_95


def calibration_words(
    probabilities: NDArray[np.float64], outcomes: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Fill a site's calibration section.

    Args:
        probabilities: (patients,) predicted probability of the positive class, in [0, 1].
        outcomes: (patients,) whether the patient is of the positive class.

    Returns:
        int64 (9,): three limbs each of the sums of p, (y - p)^2 and (y - p)^4.
    """
    squared = np.clip((outcomes.astype(np.float64) - probabilities) ** 2, 0.0, 1.0)
    sums = (to_limbs(probabilities), to_limbs(squared), to_limbs(squared**2))
    return np.array([limb for limbs in sums for limb in limbs], dtype=np.int64)


def calibration_estimates(
    words: NDArray[np.int64], positives: int, patients: int
) -> tuple[Fraction, tuple[float, float], Fraction, tuple[float, float]]:
    """Derive calibration in the large and Brier's score, each with its 95 % normal interval.

    Args:
        words: the summed section, nine words.
        positives: test patients of the positive class, from the discrimination section.
        patients: all test patients, at least one.

    Returns:
        (mean(p) - mean(y), interval cut to [-1, 1], Brier's score, interval cut to [0, 1]).

    Raises:
        ValueError: no set of patients gives these sums.
    """
    limbs = [int(word) for word in words]
    if min(limbs) < 0:
        raise ValueError("a limb is negative")
    predicted, squared, fourth = (
        Fraction(from_limbs(limbs[LIMBS * i : LIMBS * (i + 1)]), SCALE * patients) for i in range(3)
    )
    # A patient's error loses at most 2^-24 by truncation, so bounds hold up to that much.
    slack = Fraction(2, SCALE)
    if not (
        predicted <= 1 and squared <= 1 and squared**2 <= fourth + slack <= squared + 2 * slack
    ):
        raise ValueError("the sums contradict each other")
    bias = predicted - Fraction(positives, patients)
    if bias**2 > squared + slack:
        raise ValueError("the sums contradict each other")
    large = _interval(bias, max(squared - bias**2, Fraction(0)), patients, -1.0)
    brier = _interval(squared, max(fourth - squared**2, Fraction(0)), patients, 0.0)
    return bias, large, squared, brier


def _interval(
    mean: Fraction, variance: Fraction, patients: int, lowest: float
) -> tuple[float, float]:
    half = Z_95 * math.sqrt(float(variance) / patients)
    return max(lowest, float(mean) - half), min(1.0, float(mean) + half)
