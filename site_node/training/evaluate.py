"""Which counts does this site add to the evaluation of the final model?"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.evaluation import (
    CALIBRATION,
    DISCRIMINATION,
    bin_index,
    calibration_words,
    join_sections,
)
from schemas.evaluation.bins import CONFUSION_CELLS
from schemas.governance.study import StudyPlan
from site_node.cohort.features import Features
from site_node.training.networks import build_network

_CHUNK_ROWS = 1024  # bounds the memory of a forward pass


def patient_logits(
    plan: StudyPlan, parameters: NDArray[np.float64], features: Features
) -> NDArray[np.float64]:
    """Give each patient's score on the logit axis: the mean over the patient's rows, (patients,).

    Args:
        plan: the approved plan.
        parameters: (d,) float64.
        features: rows of the split to score.
    """
    network = build_network(plan.model, parameters).eval()
    logits = np.empty(len(features.y))
    with torch.no_grad():
        for start in range(0, len(features.y), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            logits[rows] = network(torch.from_numpy(features.x[rows])).double().numpy()
    counts = np.bincount(features.patient, minlength=features.patients)
    sums = np.bincount(features.patient, weights=logits, minlength=features.patients)
    return sums / np.maximum(counts, 1)


def evaluation_vector(
    plan: StudyPlan, parameters: NDArray[np.float64], features_test: Features
) -> NDArray[np.int64]:
    """Fill every section of the blind sum with this site's test patients.

    Args:
        plan: the approved plan; fixes bins and threshold.
        parameters: (d,) float64 of the final model that all sites signed.
        features_test: the held-out patients; may be none.

    Returns:
        int64 (evaluation_length(bins),): diseased per bin, others per bin, TP, FP, TN, FN, then
        the sums of calibration. For the coordinator-blind sum only: cells hold single patients.
    """
    bins = plan.evaluation.bins
    logits, positive = np.empty(0), np.empty(0, dtype=bool)
    if features_test.patients:
        logits = np.nan_to_num(patient_logits(plan, parameters, features_test), nan=-np.inf)
        positive = np.zeros(features_test.patients, dtype=bool)
        positive[features_test.patient] = features_test.y == 1
    return join_sections(
        bins,
        {
            DISCRIMINATION: _discrimination(logits, positive, bins, plan.evaluation.threshold),
            CALIBRATION: calibration_words(_probability(logits), positive),
        },
    )


def _discrimination(
    logits: NDArray[np.float64], positive: NDArray[np.bool_], bins: int, threshold: float
) -> NDArray[np.int64]:
    """Count patients by class and score bin, and by class and side of the threshold."""
    out = np.zeros(2 * bins + CONFUSION_CELLS, dtype=np.int64)
    places = bin_index(logits, bins)
    out[:bins] = np.bincount(places[positive], minlength=bins)
    out[bins : 2 * bins] = np.bincount(places[~positive], minlength=bins)
    flagged = logits >= _logit(threshold)
    out[2 * bins :] = (
        int((flagged & positive).sum()),
        int((flagged & ~positive).sum()),
        int((~flagged & ~positive).sum()),
        int((~flagged & positive).sum()),
    )
    return out


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give 1 / (1 + exp(-logit)) without overflow; a score of minus infinity is zero."""
    folded = np.exp(-np.abs(logits))
    likely: NDArray[np.float64] = np.where(logits >= 0, 1.0, folded) / (1.0 + folded)
    return likely


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
