"""Does each architecture compute what its layout says, without drawing from torch's generator?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.governance.study import Architecture
from schemas.models import initial_parameters, layout
from site_node.training.networks import build_network, parameter_order
from tests.support.learning import plan_for, random_features


@pytest.mark.parametrize("architecture", list(Architecture))
def test_network_holds_the_layouts_tensors(architecture: Architecture) -> None:
    model = plan_for(architecture).model
    network = build_network(model, initial_parameters(model))
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert shapes == {spec.name: spec.shape for spec in layout(model)}
    assert parameter_order(model) == tuple(spec.name for spec in layout(model))
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("architecture", list(Architecture))
def test_building_leaves_torchs_generator_alone(architecture: Architecture) -> None:
    model = plan_for(architecture).model
    before = torch.get_rng_state()
    build_network(model, initial_parameters(model))
    assert torch.equal(torch.get_rng_state(), before)


def test_linear_unit_is_logistic_regression() -> None:
    plan = plan_for("logistic")
    flat = np.array([1.0, -2.0, 0.5, 4.0, 0.25])
    x = random_features(plan, [1] * 7).x
    got = build_network(plan.model, flat)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, x @ flat[:4] + 0.25, rtol=1e-5)


def test_convolutional_network_agrees_with_explicit_sums() -> None:
    plan = plan_for("small-cnn")
    flat = np.random.default_rng(2).normal(0, 0.2, plan.model.parameters)
    x = random_features(plan, [1, 1]).x
    from schemas.models import split_tensors

    tensors = split_tensors(plan.model, flat)
    hidden = 2.0 * x.astype(np.float64) - 1
    for layer in (1, 2, 3):
        weight, bias = tensors[f"conv{layer}.weight"], tensors[f"conv{layer}.bias"]
        padded = np.pad(hidden, ((0, 0), (0, 0), (1, 1), (1, 1)))
        size = (hidden.shape[2] + 1) // 2
        out = np.empty((len(x), len(bias), size, size))
        for row in range(size):
            for column in range(size):
                patch = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                out[:, :, row, column] = np.einsum("nchw,ochw->no", patch, weight) + bias
        hidden = np.tanh(out)
    expected = hidden.reshape(len(x), -1) @ tensors["linear.weight"][0] + tensors["linear.bias"]
    got = build_network(plan.model, flat)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
