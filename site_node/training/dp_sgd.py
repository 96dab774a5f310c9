"""Which clipped integer vector does this site add to one step of DP-FedSGD?

Abadi et al. 2016 ("Deep learning with differential privacy"), Algorithm 1, with the patient as
the unit: a patient's gradient is the mean of the gradients of the patient's rows, clipped once.

| case | outcome |
| --- | --- |
| nobody chosen, or no patient at all | the zero vector; noise is still added |
| gradient of norm 0 | zeros |
| a value that is not finite | the patient contributes zeros: no error a peer could see |

Sensitivity is exact only if a patient's integers do not depend on who else is in the batch. Matrix
kernels round differently for batches of different sizes, so every batch has the same number of
rows, a function of the plan alone; and differently for rows at different places, so linear layers
multiply row by row (`row_linear`), and of the other kernels it is checked (`places`). The tests
hold that the sum with a patient is the sum without, plus the patient's own integers, to the last
bit.

As much is computed as the coins could have asked for: batches and patients without anybody fill up
what they did not (PRIVACY-16, `sampled_room`).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.entropy import Entropy
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan, SumTerms
from schemas.models.optimiser import OptimiserState
from schemas.preparation import prepare
from schemas.secagg.quantise import NoisedUpdate, QuantisedUpdate
from site_node.cohort.features import Features
from site_node.training.gradients import RowGradients
from site_node.training.losses import Batch, row_losses
from site_node.training.networks import build_network, parameter_order
from site_node.training.noise import discrete_gaussian
from site_node.training.patients import PatientSum
from site_node.training.places import check_places
from site_node.training.sampling import sampled_room

_MOST_ROWS = 128  # more gain nothing: a batch is work for the cache already
_MOST_VALUES = 1 << 26  # gradients of a batch: 256 MiB of float32, one row at least
_MOST_PIXELS = 1 << 20  # inputs of a batch: a layer holds up to 64 channels of them


def clipped_integer_sum(
    plan: StudyPlan,
    state: OptimiserState,
    features: Features,
    chosen: NDArray[np.bool_],
) -> QuantisedUpdate:
    """Sum the chosen patients' clipped gradients on the integer grid.

    Args:
        plan: the approved plan: clip (L2, per patient) and integer_clip (the same in grid units).
        state: the model of this round, and the sum of the preparation if the plan has one.
        features: training rows grouped by patient.
        chosen: (patients,) bool, this round's sample.

    Returns:
        int64 (d,) whose sensitivity to one patient is at most integer_clip, exactly.
    """
    network = build_network(plan.model, state.parameters)
    gradients = RowGradients(network, parameter_order(plan.model))
    weight = prepare(plan, state.prepared).positive_weight
    return summed_patients(plan, gradients, weight, features, chosen)


def summed_patients(
    plan: StudyPlan,
    gradients: RowGradients,
    positive_weight: float,
    features: Features,
    chosen: NDArray[np.bool_],
) -> QuantisedUpdate:
    """Sum the chosen patients' clipped gradients of a network that is built already.

    Args:
        plan: the approved plan.
        gradients: of the plan's network, with this round's parameters.
        positive_weight: of the loss of a positive row.
        features: training rows grouped by patient.
        chosen: (patients,) bool, this round's sample.
    """
    training, size = plan.training, batch_rows(plan)
    check_places(plan.model, features.x.shape[1:], size)
    counts = np.bincount(features.patient, minlength=features.patients)
    total = PatientSum(plan.model.parameters, training.clip, training.integer_clip)
    rows = np.flatnonzero(chosen[features.patient])
    room = max(len(rows), sampled_room(counts, training.sampling_rate))
    for start in range(0, room, size):
        batch = rows[start : start + size]
        inputs, happened = _batch(features, batch, size, positive_weight)
        total.add(gradients(inputs, partial(_losses, plan, happened)), features.patient[batch])
    everyone = np.ones(features.patients, dtype=np.int64)
    return QuantisedUpdate(total.finish(sampled_room(everyone, training.sampling_rate)))


def batch_rows(plan: StudyPlan) -> int:
    """Give the rows of every batch of a plan, whatever the sample: a power of two, at most 128."""
    values = max(1, _MOST_VALUES // plan.model.parameters)
    pixels = max(1, _MOST_PIXELS // max(1, plan.model.image_rows * plan.model.image_columns))
    return 1 << min(_MOST_ROWS, values, pixels).bit_length() - 1


def noised_update(
    plan: StudyPlan,
    terms: SumTerms,
    quantised: QuantisedUpdate,
    cohort_size: int,
    entropy: Entropy,
) -> NoisedUpdate:
    """Add this site's share of the noise: variance sigma^2 integer_clip^2 / (|U| - t - lost).

    Without the shares of any t sites and of the most sites the plan lets this cohort lose, the
    sum still carries the plan's whole variance (PRIVACY-3, `StudyPlan.noise_sharers`). One share
    is drawn per call; never call twice for one sample.

    Args:
        plan: the approved plan.
        terms: of the sum this is for: `plan.sum_terms(round)`.
        quantised: this site's clipped sum.
        cohort_size: |U|, the number of sites of the signed cohort.
        entropy: the operating system's generator.

    Raises:
        ProtocolError: the cohort is smaller than the plan's minimum.
        ValueError: the terms are those of dp-fedavg, whose updates hold their noise already.
    """
    if terms.is_local:
        raise ValueError("an update of dp-fedavg holds its noise already")
    if cohort_size < plan.fewest_summed or cohort_size > len(plan.sites):
        raise ProtocolError(
            ErrorCode.COHORT_TOO_SMALL,
            "The cohort does not have the size the plan allows.",
            hint="Wait until enough hospitals are ready.",
        )
    share = terms.noise_multiplier * terms.integer_clip
    sigma = share / math.sqrt(plan.noise_sharers(cohort_size, terms))
    noise = discrete_gaussian(sigma, len(quantised.values), entropy)
    return NoisedUpdate(quantised.values + noise)


def _losses(plan: StudyPlan, happened: Batch, outputs: torch.Tensor) -> torch.Tensor:
    return row_losses(plan, outputs, happened)


def _batch(
    features: Features, rows: NDArray[np.int64], size: int, positive_weight: float
) -> tuple[torch.Tensor, Batch]:
    """Give inputs and outcomes of ``size`` rows, the places behind ``rows`` filled with zeros."""
    inputs = torch.zeros(size, *features.x.shape[1:])
    inputs[: len(rows)] = torch.from_numpy(features.x[rows])
    y = torch.zeros(size)
    y[: len(rows)] = torch.from_numpy(features.y[rows].astype(np.float32))
    time = None
    if features.time is not None:
        time = torch.zeros(size)
        time[: len(rows)] = torch.from_numpy(features.time[rows])
    return inputs, Batch(y=y, time=time, positive_weight=positive_weight)
