"""Which clipped integer vector does this site add to one step of DP-FedSGD?

Abadi et al. 2016 ("Deep learning with differential privacy"), Algorithm 1, with the patient as
the unit: a patient's gradient is the mean of the gradients of the patient's rows, clipped once.

| case | outcome |
| --- | --- |
| nobody chosen, or no patient at all | the zero vector; noise is still added |
| gradient of norm 0 | zeros |
| a value that is not finite | the patient contributes zeros: no error a peer could see |
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
from schemas.secagg.quantise import QuantisedUpdate, integer_gradient_sum
from site_node.cohort.features import Features
from site_node.training.networks import build_network, parameter_order
from site_node.training.noise import discrete_gaussian

# Values of per-row gradients held at once: 8 MiB as float32, and a few float64 copies of 16 MiB.
_CHUNK_VALUES = 2 * 2**20


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
    for rows in _chunks(features, chosen, len(parameters)):
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
        rows: whole patients, ascending.
    """
    present, local = np.unique(features.patient[rows], return_inverse=True)
    inputs = torch.from_numpy(features.x[rows])
    targets = torch.from_numpy(features.y[rows].astype(np.float32))
    network.zero_grad(set_to_none=True)
    with warnings.catch_warnings():
        # Inputs carry no gradient on purpose: a gradient per pixel would be computed for nothing.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        loss = binary_cross_entropy_with_logits(network(inputs), targets, reduction="sum")
        torch.autograd.backward(loss)
    by_name = dict(network._module.named_parameters())
    index = torch.from_numpy(local.astype(np.int64))
    parts = []
    for name in parameter_order(plan.model):
        rowwise = by_name[name].grad_sample.reshape(len(rows), -1).double()
        summed = torch.zeros(len(present), rowwise.shape[1], dtype=torch.float64)
        parts.append(summed.index_add_(0, index, rowwise))
    network.zero_grad(set_to_none=True)
    counts = np.bincount(local, minlength=len(present)).astype(np.float64)
    means: NDArray[np.float64] = torch.cat(parts, dim=1).numpy() / counts[:, None]
    return means


def noised_update(
    plan: StudyPlan, quantised: QuantisedUpdate, cohort_size: int, entropy: Entropy
) -> QuantisedUpdate:
    """Add this site's share of the noise: variance sigma^2 integer_clip^2 / (|U| - t).

    Without the shares of any t sites, the sum still carries the plan's whole variance
    (design note: distributed noise). One share is drawn per call; never call twice for one sample.

    Args:
        plan: the approved plan.
        quantised: this site's clipped sum.
        cohort_size: |U|, the number of sites of the signed cohort.
        entropy: the operating system's generator.

    Raises:
        ProtocolError: the cohort is smaller than the plan's minimum.
    """
    if cohort_size < plan.cohort_minimum or cohort_size > len(plan.sites):
        raise ProtocolError(
            ErrorCode.COHORT_TOO_SMALL,
            "The cohort does not have the size the plan allows.",
            hint="Wait until enough hospitals are ready.",
        )
    share = plan.privacy.noise_multiplier * plan.training.integer_clip
    sigma = share / math.sqrt(cohort_size - plan.collusion_bound)
    noise = discrete_gaussian(sigma, len(quantised.values), entropy)
    return QuantisedUpdate(quantised.values + noise)


def _chunks(
    features: Features, chosen: NDArray[np.bool_], parameters: int
) -> Iterator[NDArray[np.int64]]:
    """Give the row numbers of whole chosen patients, in pieces of bounded memory."""
    rows = np.flatnonzero(chosen[features.patient])
    most = max(1, _CHUNK_VALUES // parameters)
    start = 0
    while start < len(rows):
        end = min(start + most, len(rows))
        # Never cut a patient: go back to the patient's first row, or on to the last one.
        if end < len(rows) and features.patient[rows[end]] == features.patient[rows[end - 1]]:
            patient_rows = features.patient[rows]
            back = int(np.searchsorted(patient_rows, patient_rows[end], side="left"))
            ahead = int(np.searchsorted(patient_rows, patient_rows[end], side="right"))
            end = back if back > start else ahead
        yield rows[start:end]
        start = end
