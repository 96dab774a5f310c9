"""Which numbers about the test patients may leave, and in which exact bytes?

Every site derives this document from the coordinator-blind sum and signs the same canonical
bytes. Histograms and counts stay out of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.canonical import Document, HexBytes32
from schemas.errors import DataRejected, ErrorCode, ProtocolError
from schemas.evaluation.calibration import calibration_estimates
from schemas.evaluation.sections import (
    CALIBRATION,
    DISCRIMINATION,
    evaluation_length,
    split_sections,
)
from schemas.evaluation.statistics import auroc_from_histograms, thinned_roc, wilson_interval
from schemas.governance.study import StudyPlan

# No plan may go below this number of patients of either class.
FLOOR_PATIENTS = 10
_STEPS = 1000  # three decimals


class RocPoint(Document):
    """One point of the thinned ROC curve, three decimals."""

    false_positive_rate: float
    true_positive_rate: float


class Release(Document):
    """The co-signed result of one evaluation; all rates to three decimals.

    `auroc_bound` covers both binning and rounding: the AUROC of the unbinned scores lies within
    it of `auroc`. Intervals are 95 %, rounded outwards. Class totals are rounded down to tens.
    These numbers describe the test patients and lie outside epsilon.
    """

    version: Literal[2] = 2  # 1 had no calibration
    study_id: str
    plan_digest: HexBytes32
    model_hash: HexBytes32
    roster: tuple[str, ...]
    sites: int
    positives_at_least: int
    negatives_at_least: int
    auroc: float
    auroc_ci: tuple[float, float]
    auroc_bound: float
    threshold: float
    sensitivity: float
    sensitivity_ci: tuple[float, float]
    specificity: float
    specificity_ci: tuple[float, float]
    calibration_in_the_large: float  # mean prediction less observed share of positives
    calibration_in_the_large_ci: tuple[float, float]
    brier: float
    brier_ci: tuple[float, float]
    roc: tuple[RocPoint, ...]
    roc_minimum_patients: int
    outside_epsilon: Literal[True] = True


def derive_release(
    plan: StudyPlan, model_hash: str, roster: Sequence[str], vector: NDArray[np.int64]
) -> Release:
    """Derive the releasable numbers from the summed evaluation vector.

    Args:
        plan: the approved plan.
        model_hash: hash of the model that was evaluated.
        roster: the sites whose sum this is.
        vector: int64 (evaluation_length(bins),): diseased per bin, others per bin, TP, FP, TN, FN,
            then the calibration section.

    Raises:
        ProtocolError: wrong length, a negative count, or counts that contradict each other.
        DataRejected: fewer than the minimum of patients in one class.
    """
    bins = plan.evaluation.bins
    if vector.shape != (evaluation_length(bins),) or vector.dtype != np.int64:
        raise _inconsistent("it has another length")
    parts = split_sections(bins, vector)
    counts = [int(v) for v in parts[DISCRIMINATION]]
    if min(counts) < 0:
        raise _inconsistent("a count is negative")
    positives, negatives = counts[:bins], counts[bins : 2 * bins]
    true_pos, false_pos, true_neg, false_neg = counts[2 * bins :]
    n1, n0 = sum(positives), sum(negatives)
    if true_pos + false_neg != n1 or true_neg + false_pos != n0:
        raise _inconsistent("its totals contradict each other")
    minimum = max(FLOOR_PATIENTS, plan.evaluation.minimum_roc_patients)
    if n1 < minimum or n0 < minimum:
        raise DataRejected(
            ErrorCode.EVALUATION_CLASS_SMALL,
            "Too few test patients of one class for a result to be released.",
            hint="Add hospitals or test patients; the minimum is in the plan.",
        )
    try:
        bias, bias_ci, brier, brier_ci = calibration_estimates(parts[CALIBRATION], n1, n1 + n0)
    except ValueError:
        raise _inconsistent("its calibration sums contradict each other") from None
    estimate = auroc_from_histograms(positives, negatives)
    auroc = _nearest(estimate.auroc)
    slack = abs(Fraction(round(auroc * _STEPS), _STEPS) - estimate.auroc)
    return Release(
        study_id=plan.study_id,
        plan_digest=plan.digest(),
        model_hash=model_hash,
        roster=tuple(sorted(roster)),
        sites=len(roster),
        positives_at_least=n1 // 10 * 10,
        negatives_at_least=n0 // 10 * 10,
        auroc=auroc,
        auroc_ci=_outwards(estimate.interval()),
        auroc_bound=math.ceil((estimate.bound + slack) * _STEPS) / _STEPS,
        threshold=plan.evaluation.threshold,
        sensitivity=_nearest(Fraction(true_pos, n1)),
        sensitivity_ci=_outwards(wilson_interval(true_pos, n1)),
        specificity=_nearest(Fraction(true_neg, n0)),
        specificity_ci=_outwards(wilson_interval(true_neg, n0)),
        calibration_in_the_large=_nearest(bias),
        calibration_in_the_large_ci=_outwards(bias_ci),
        brier=_nearest(brier),
        brier_ci=_outwards(brier_ci),
        roc=tuple(
            RocPoint(
                false_positive_rate=_nearest(Fraction(q, n0)),
                true_positive_rate=_nearest(Fraction(p, n1)),
            )
            for q, p in thinned_roc(positives, negatives, minimum)
        ),
        roc_minimum_patients=minimum,
    )


def _nearest(value: Fraction) -> float:
    return round(value * _STEPS) / _STEPS


def _outwards(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return math.floor(low * _STEPS) / _STEPS, math.ceil(high * _STEPS) / _STEPS


def _inconsistent(reason: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.EVALUATION_VECTOR_INVALID,
        f"The evaluation sum was refused: {reason}.",
        hint="Repeat the evaluation with the same sites.",
    )
