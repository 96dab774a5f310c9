"""Which counts does this site add to the evaluation of the final model?"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.evaluation import bin_index, evaluation_length
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
    """Count this site's test patients by class, score bin and side of the threshold.

    Args:
        plan: the approved plan; fixes bins and threshold.
        parameters: (d,) float64 of the final model that all sites signed.
        features_test: the held-out patients; may be none.

    Returns:
        int64 (2 * bins + 4,): diseased per bin, others per bin, TP, FP, TN, FN. For the
        coordinator-blind sum only: single cells hold single patients.
    """
    bins = plan.evaluation.bins
    out = np.zeros(evaluation_length(bins), dtype=np.int64)
    if features_test.patients == 0:
        return out
    logits = patient_logits(plan, parameters, features_test)
    positive = np.zeros(features_test.patients, dtype=bool)
    positive[features_test.patient] = features_test.y == 1
    places = bin_index(logits, bins)
    out[:bins] = np.bincount(places[positive], minlength=bins)
    out[bins : 2 * bins] = np.bincount(places[~positive], minlength=bins)
    flagged = logits >= _logit(plan.evaluation.threshold)
    out[2 * bins :] = (
        int((flagged & positive).sum()),
        int((flagged & ~positive).sum()),
        int((~flagged & ~positive).sum()),
        int((~flagged & positive).sum()),
    )
    return out


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
