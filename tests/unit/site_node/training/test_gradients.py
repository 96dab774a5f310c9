"""Is the gradient of every row the one Opacus' own wrapper gives, to the last bit?"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule

from schemas.errors import ErrorCode, InternalError
from schemas.governance.study import Architecture
from schemas.models import initial_parameters
from site_node.training import dp_sgd
from site_node.training.gradients import RowGradients
from site_node.training.losses import row_losses
from site_node.training.networks import build_network, parameter_order
from tests.support.learning import plan_for, random_features


@pytest.mark.parametrize("architecture", list(Architecture))
def test_row_gradients_are_those_of_opacus_wrapper_to_the_last_bit(architecture: str) -> None:
    plan = plan_for(architecture)
    features = random_features(plan, [1] * (2 if architecture == "resnet18-groupnorm" else 16))
    flat = initial_parameters(plan.model)
    flat += np.random.default_rng(3).normal(0, 0.02, len(flat))
    inputs, happened = dp_sgd._batch(features, np.arange(len(features.y)), len(features.y), 1.0)
    network = build_network(plan.model, flat)
    wrapped = GradSampleModule(network, batch_first=True, loss_reduction="sum")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.autograd.backward(row_losses(plan, wrapped(inputs), happened).sum())
    named = dict(wrapped._module.named_parameters())
    order = parameter_order(plan.model)
    alone = RowGradients(build_network(plan.model, flat), order)
    got = alone(inputs, lambda outputs: row_losses(plan, outputs, happened))
    for name, part in zip(order, got, strict=True):
        expected = named[name].grad_sample.reshape(len(inputs), -1)
        assert torch.equal(torch.from_numpy(part), expected), name


def test_a_layer_that_is_used_twice_is_refused() -> None:
    """Its gradient would be that of the last use alone."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.linear(x)).sum(1)

    rows = RowGradients(Twice(), ["linear.weight", "linear.bias"])
    with pytest.raises(InternalError) as refused:
        rows(torch.ones(3, 2), lambda outputs: outputs)
    assert refused.value.code is ErrorCode.TRAINING_LAYER_REFUSED


@pytest.mark.parametrize("architecture", ["small-cnn", "resnet18-groupnorm"])
def test_a_rows_gradient_does_not_depend_on_its_place(architecture: str) -> None:
    """PRIVACY-2: kernels may round by shape, never by place or by what the other rows hold."""
    plan = plan_for(architecture)
    size = dp_sgd.batch_rows(plan)
    features = random_features(plan, [1] * size)
    flat = initial_parameters(plan.model)
    flat += np.random.default_rng(4).normal(0, 0.02, len(flat))
    rows = RowGradients(build_network(plan.model, flat), parameter_order(plan.model))
    order = np.random.default_rng(5).permutation(size)
    found = []
    for places in (np.arange(size), order):
        inputs, happened = dp_sgd._batch(features, places, size, 1.0)
        found.append(rows(inputs, lambda outputs, h=happened: row_losses(plan, outputs, h)))
    for straight, mixed in zip(*found, strict=True):
        assert (straight[order] == mixed).all()


def test_a_row_that_is_not_finite_stays_alone() -> None:
    plan = plan_for("small-cnn")
    features = random_features(plan, [1] * 8)
    flat = initial_parameters(plan.model)
    rows = RowGradients(build_network(plan.model, flat), parameter_order(plan.model))
    inputs, happened = dp_sgd._batch(features, np.arange(8), 8, 1.0)
    clean = rows(inputs, lambda outputs: row_losses(plan, outputs, happened))
    inputs[3] = torch.inf
    dirty = rows(inputs, lambda outputs: row_losses(plan, outputs, happened))
    others = np.arange(8) != 3
    for one, other in zip(clean, dirty, strict=True):
        assert (one[others] == other[others]).all()
