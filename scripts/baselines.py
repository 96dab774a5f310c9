"""What would the same model reach if all rows lay in one place, with and without privacy?

Only a test bed can answer this: it pools what hospitals never pool. Nothing here is part of the
product; the demo prints these numbers beside the federated one and marks them so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.entropy import Entropy
from schemas.governance.study import StudyPlan
from schemas.models import (
    OptimiserState,
    apply_sum,
    final_parameters,
    initial_parameters,
    initial_state,
)
from schemas.preparation import prepare
from site_node.cohort.features import Features
from site_node.training.dp_sgd import clipped_integer_sum
from site_node.training.evaluate import patient_logits
from site_node.training.losses import Batch, row_losses
from site_node.training.networks import build_network, parameter_order
from site_node.training.noise import discrete_gaussian
from site_node.training.sampling import poisson_mask

# L2 penalty and iteration limit of the training without privacy; chosen on the official validation
# images, and far from binding on the ten clinical values.
_RIDGE = 1e-4
_ITERATIONS = 100


Draw = Callable[[float, int], NDArray[np.int64]]
"""Noise of one step: its standard deviation in grid units, its length."""


def pooled_baselines(
    plan: StudyPlan,
    features_by_site: Mapping[str, tuple[Features, Features]],
    entropy: Entropy = os.urandom,
    prepared: NDArray[np.int64] | None = None,
) -> dict[str, float]:
    """Give test AUROCs (exact, three decimals) of two trainings on pooled rows.

    Args:
        plan: the study's plan, of dp-fedsgd.
        features_by_site: (training, test) features of every site.
        entropy: for the sample and the noise of the central run.
        prepared: the study's own preparation, the sum that its features were made with; needed
            exactly if the plan has one. Both trainings start from the inputs that the study had.

    Returns:
        "pooled_no_dp": the same architecture trained to convergence without clip, noise or
        sampling; "central_dp": the plan's own algorithm run by one trusted party, with one draw
        of noise of variance sigma^2 C^2 a step.
    """
    train = pool([pair[0] for pair in features_by_site.values()])
    test = pool([pair[1] for pair in features_by_site.values()])
    without = train_without_privacy(plan, train, prepared)
    central = train_centrally(plan, train, entropy, prepared)
    return {
        "pooled_no_dp": round(patient_auroc(plan, without, test), 3),
        "central_dp": round(patient_auroc(plan, central, test), 3),
    }


def pool(parts: list[Features]) -> Features:
    """Join several sites' features; patients of different sites stay different."""
    offsets = np.cumsum([0, *(part.patients for part in parts)])
    times = [part.time for part in parts if part.time is not None]
    return Features(
        x=np.concatenate([part.x for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        patient=np.concatenate(
            [part.patient + shift for part, shift in zip(parts, offsets, strict=False)]
        ),
        patients=int(offsets[-1]),
        time=np.concatenate(times) if len(times) == len(parts) else None,
    )


def train_without_privacy(
    plan: StudyPlan, train: Features, prepared: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Minimise the mean loss of a patient by L-BFGS; deterministic.

    The loss, its class weights among it, is that of the plan.
    """
    state = _before_training(plan, prepared)
    network = build_network(plan.model, state.parameters)
    named = dict(network.named_parameters())
    parameters = [named[name] for name in parameter_order(plan.model)]
    x = torch.from_numpy(train.x)
    batch = Batch(
        y=torch.from_numpy(train.y.astype(np.float32)),
        time=None if train.time is None else torch.from_numpy(train.time),
        positive_weight=prepare(plan, state.prepared).positive_weight,
    )
    share = 1.0 / np.bincount(train.patient, minlength=train.patients)[train.patient]
    weight = torch.from_numpy((share / train.patients).astype(np.float32))
    optimiser = torch.optim.LBFGS(parameters, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (weight * row_losses(plan, network(x), batch)).sum()
        loss = loss + _RIDGE / 2 * torch.stack([(p**2).sum() for p in parameters]).sum()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]  # torch ships it untyped
    return np.concatenate([p.detach().double().numpy().reshape(-1) for p in parameters])


def train_centrally(
    plan: StudyPlan,
    train: Features,
    entropy: Entropy,
    prepared: NDArray[np.int64] | None = None,
    draw: Draw | None = None,
) -> NDArray[np.float64]:
    """Run the plan's algorithm, dp-fedsgd, on pooled rows with central noise.

    Args:
        plan: the study's plan.
        train: training rows of all sites.
        entropy: for the sample and the noise.
        prepared: as for `pooled_baselines`.
        draw: where a comparison wants other noise of the same distribution; by default one
            discrete Gaussian a step.

    Raises:
        ValueError: the plan is of dp-fedavg, of which one trusted party has no counterpart.
    """
    training = plan.training
    if training.is_local:
        raise ValueError("one trusted party has nothing to average")
    sigma = plan.privacy.noise_multiplier * training.integer_clip
    state = _before_training(plan, prepared)
    if draw is None:
        draw = lambda deviation, length: discrete_gaussian(deviation, length, entropy)  # noqa: E731
    for _ in range(training.steps):
        chosen = np.ones(train.patients, dtype=np.bool_)
        if training.sampling == "poisson":
            chosen = poisson_mask(train.patients, training.sampling_rate, entropy)
        clipped = clipped_integer_sum(plan, state, train, chosen).values
        state = apply_sum(state, clipped + draw(sigma, len(clipped)), plan)
    return final_parameters(state, training)


def _before_training(plan: StudyPlan, prepared: NDArray[np.int64] | None) -> OptimiserState:
    """Give the state before the first step.

    Raises:
        ValueError: a plan with a preparation came without its sum, or the other way round.
    """
    if (prepared is None) != (plan.preparation is None):
        raise ValueError("the sum of the preparation belongs to a plan that has one")
    state = initial_state(plan.model, initial_parameters(plan.model))
    return state if prepared is None else replace(state, prepared=prepared)


def patient_auroc(plan: StudyPlan, parameters: NDArray[np.float64], test: Features) -> float:
    """Give the exact AUROC over patients, ties half, from midranks (Mann-Whitney)."""
    logits = patient_logits(plan, parameters, test)
    positive = np.zeros(test.patients, dtype=bool)
    positive[test.patient] = test.y == 1
    ordered = np.sort(logits)
    left = np.searchsorted(ordered, logits, side="left")
    right = np.searchsorted(ordered, logits, side="right")
    midranks = (left + right + 1) / 2
    n1 = int(positive.sum())
    n0 = test.patients - n1
    return float((midranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
