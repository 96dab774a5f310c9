"""Which counts does this site add to the evaluation of the final model?

A Cox model is judged by one question that every patient can answer: the event by the horizon, the
last of the plan's time edges, or not?

| patient of a Cox study | counts as |
| --- | --- |
| event at or before the horizon | positive |
| event beyond the horizon; event-free and followed to the horizon or longer | negative |
| event-free, last seen before the horizon | left out: nobody knows |

The score is the logit of the predicted probability of an event by the horizon. Leaving out who was
censored early favours those who had the event: observed risk is overstated where many are lost,
and so is miscalibration; the ranking is touched only where being lost depends on the risk.
"""

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
from schemas.governance.study import Architecture, StudyPlan
from site_node.cohort.features import Features
from site_node.training.losses import event_logits, need_times
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
    is_cox = plan.model.architecture is Architecture.COX
    logits = np.empty(len(features.y))
    with torch.no_grad():
        for start in range(0, len(features.y), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            outputs = network(torch.from_numpy(features.x[rows]))
            scores = event_logits(outputs) if is_cox else outputs
            logits[rows] = scores.double().numpy()
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
        counted, positive = _answers(plan, features_test)
        logits, positive = logits[counted], positive[counted]
    return join_sections(
        bins,
        {
            DISCRIMINATION: _discrimination(logits, positive, bins, plan.evaluation.threshold),
            CALIBRATION: calibration_words(_probability(logits), positive),
        },
    )


def _answers(plan: StudyPlan, features: Features) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which patients count in the evaluation, and which of all are positive; (patients,) each.

    Raises:
        DataRejected: FEATURES_INVALID, a Cox study without follow-up times.
    """
    event = np.zeros(features.patients, dtype=bool)
    event[features.patient] = features.y == 1
    if plan.model.architecture is not Architecture.COX:
        return np.ones(features.patients, dtype=bool), event
    time = np.zeros(features.patients, dtype=np.float32)
    time[features.patient] = need_times(features.time)
    horizon = np.float32(plan.model.time_edges[-1])
    positive = event & (time <= horizon)
    return positive | (time >= horizon), positive


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
