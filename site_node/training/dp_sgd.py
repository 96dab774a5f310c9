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
rows, empty places filled with zero rows whose gradients are dropped; the tests hold that the sum
with a patient is the sum without, plus the patient's own integers, to the last bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from torch.nn.functional import binary_cross_entropy_with_logits

from schemas.entropy import Entropy
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import StudyPlan
from schemas.models import parameter_count
from schemas.secagg.quantise import NoisedUpdate, QuantisedUpdate, integer_gradient_sum
from site_node.cohort.features import Features
from site_node.training.networks import build_network, parameter_order
from site_node.training.noise import discrete_gaussian

# Rows of every batch, whatever the sample: a multiple of the kernels' blocks. 128 rows of the
# largest small-cnn gradient (14 561 values) are 7 MiB, and twice that as float64.
BATCH_ROWS = 128


def clipped_integer_sum(
    plan: StudyPlan,
    parameters: NDArray[np.float64],
    features: Features,
    chosen: NDArray[np.bool_],
) -> QuantisedUpdate:
    """Sum the chosen patients' clipped gradients on the integer grid.

    Args:
        plan: the approved plan: clip (L2, per patient) and integer_clip (the same in grid units).
        parameters: (d,) float64, the model of this round.
        features: training rows grouped by patient.
        chosen: (patients,) bool, this round's sample.

    Returns:
        int64 (d,) whose sensitivity to one patient is at most integer_clip, exactly.
    """
    total = np.zeros(len(parameters), dtype=np.int64)
    network = GradSampleModule(
        build_network(plan.model, parameters), batch_first=True, loss_reduction="sum"
    )
    training = plan.training
    for rows in _pieces(features, chosen):
        means = patient_gradients(plan, network, features, rows)
        total += integer_gradient_sum(means, training.clip, training.integer_clip)
    return QuantisedUpdate(total)


def patient_gradients(
    plan: StudyPlan, network: GradSampleModule, features: Features, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the mean gradient of every patient that `rows` belong to, (patients, d) float64.

    Args:
        plan: the approved plan.
        network: the wrapped network; its gradients are cleared before and after.
        features: training rows.
        rows: all rows of some patients, ascending.
    """
    present, local = np.unique(features.patient[rows], return_inverse=True)
    sums = torch.zeros(len(present), parameter_count(plan.model), dtype=torch.float64)
    for start in range(0, len(rows), BATCH_ROWS):
        batch = rows[start : start + BATCH_ROWS]
        index = torch.from_numpy(local[start : start + BATCH_ROWS].astype(np.int64))
        sums.index_add_(0, index, _row_gradients(plan, network, features, batch))
    counts = np.bincount(local, minlength=len(present)).astype(np.float64)
    means: NDArray[np.float64] = sums.numpy() / counts[:, None]
    return means


def _row_gradients(
    plan: StudyPlan, network: GradSampleModule, features: Features, batch: NDArray[np.int64]
) -> torch.Tensor:
    """Give the gradient of every row, (rows, d) float64, from one batch of the fixed size."""
    inputs = torch.zeros(BATCH_ROWS, *features.x.shape[1:])
    inputs[: len(batch)] = torch.from_numpy(features.x[batch])
    targets = torch.zeros(BATCH_ROWS)
    targets[: len(batch)] = torch.from_numpy(features.y[batch].astype(np.float32))
    network.zero_grad(set_to_none=True)
    with warnings.catch_warnings():
        # Inputs carry no gradient on purpose: a gradient per pixel would be computed for nothing.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        loss = binary_cross_entropy_with_logits(network(inputs), targets, reduction="sum")
        torch.autograd.backward(loss)
    named = dict(network._module.named_parameters())
    parts = [named[n].grad_sample[: len(batch)] for n in parameter_order(plan.model)]
    gradients = torch.cat([part.reshape(len(batch), -1) for part in parts], dim=1).double()
    network.zero_grad(set_to_none=True)
    return gradients


def noised_update(
    plan: StudyPlan, quantised: QuantisedUpdate, cohort_size: int, entropy: Entropy
) -> NoisedUpdate:
    """Add this site's share of the noise: variance sigma^2 integer_clip^2 / (|U| - t - lost).

    Without the shares of any t sites and of the most sites the plan lets this cohort lose, the
    sum still carries the plan's whole variance (PRIVACY-3, `StudyPlan.noise_sharers`). One share
    is drawn per call; never call twice for one sample.

    Args:
        plan: the approved plan.
        quantised: this site's clipped sum.
        cohort_size: |U|, the number of sites of the signed cohort.
        entropy: the operating system's generator.

    Raises:
        ProtocolError: the cohort is smaller than the plan's minimum.
    """
    if cohort_size < plan.fewest_summed or cohort_size > len(plan.sites):
        raise ProtocolError(
            ErrorCode.COHORT_TOO_SMALL,
            "The cohort does not have the size the plan allows.",
            hint="Wait until enough hospitals are ready.",
        )
    share = plan.privacy.noise_multiplier * plan.training.integer_clip
    sigma = share / math.sqrt(plan.noise_sharers(cohort_size))
    noise = discrete_gaussian(sigma, len(quantised.values), entropy)
    return NoisedUpdate(quantised.values + noise)


def _pieces(features: Features, chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Give the row numbers of whole chosen patients, as many as fit one batch.

    A patient with more rows than a batch comes alone.
    """
    rows = np.flatnonzero(chosen[features.patient])
    owners = features.patient[rows]
    start = 0
    while start < len(rows):
        end = min(start + BATCH_ROWS, len(rows))
        if end < len(rows) and owners[end] == owners[end - 1]:
            first = int(np.searchsorted(owners, owners[end], side="left"))
            behind = int(np.searchsorted(owners, owners[end], side="right"))
            end = first if first > start else behind
        yield rows[start:end]
        start = end
