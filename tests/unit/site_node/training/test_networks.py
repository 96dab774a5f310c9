"""Does each architecture compute what its layout says, without drawing from torch's generator?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.governance.study import Architecture
from schemas.models import initial_parameters, layout, split_tensors
from site_node.training.networks import build_network, parameter_order
from tests.support.learning import plan_for, random_features, terms


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


def test_tanh_layers_agree_with_plain_sums() -> None:
    plan = plan_for("mlp")
    flat = np.random.default_rng(4).normal(0, 0.5, plan.model.parameters)
    x = random_features(plan, [1] * 5).x
    tensors = split_tensors(plan.model, flat)
    hidden = x.astype(np.float64)
    for number in range(len(plan.model.hidden)):
        weight, bias = tensors[f"hidden.{number}.weight"], tensors[f"hidden.{number}.bias"]
        hidden = np.tanh(hidden @ weight.T + bias)
    expected = hidden @ tensors["linear.weight"][0] + tensors["linear.bias"]
    got = build_network(plan.model, flat)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_cox_network_adds_one_risk_to_every_interval() -> None:
    plan = plan_for("cox")
    flat = np.array([1.0, -2.0, 0.5, 4.0, -1.0, 0.0, 2.0])
    x = random_features(plan, [1] * 6).x
    got = build_network(plan.model, flat)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, (x @ flat[:4])[:, None] + flat[4:], rtol=1e-5)


@pytest.mark.parametrize("side", [12, 28, 64])
def test_resnet_agrees_with_its_layers_written_out(side: int) -> None:
    """The same function from torch's plain operations, in the order of He et al. 2016."""
    model = terms("resnet18-groupnorm", image_rows=side, image_columns=side)
    flat = initial_parameters(model)
    flat += np.random.default_rng(5).normal(0, 0.05, len(flat))
    w = {k: torch.tensor(v, dtype=torch.float32) for k, v in split_tensors(model, flat).items()}
    x = torch.from_numpy(np.random.default_rng(6).random((2, 1, side, side), dtype=np.float32))

    def norm(name: str, hidden: torch.Tensor) -> torch.Tensor:
        groups = hidden.reshape(len(hidden), 32, -1)
        groups = groups - groups.mean(2, keepdim=True)
        groups = groups / torch.sqrt((groups**2).mean(2, keepdim=True) + 1e-5)
        scale, shift = w[f"{name}.weight"], w[f"{name}.bias"]
        return groups.reshape(hidden.shape) * scale[:, None, None] + shift[:, None, None]

    stem = (1, 1) if side < 64 else (2, 3)
    hidden = torch.conv2d(2 * x - 1, w["conv1.weight"], stride=stem[0], padding=stem[1])
    hidden = norm("norm1", hidden).clamp(min=0)
    if side >= 64:
        hidden = torch.max_pool2d(hidden, 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = torch.conv2d(hidden, w[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = norm(f"{name}.norm1", inner).clamp(min=0)
            inner = torch.conv2d(inner, w[f"{name}.conv2.weight"], padding=1)
            inner = norm(f"{name}.norm2", inner)
            if f"{name}.downsample.0.weight" in w:
                hidden = torch.conv2d(hidden, w[f"{name}.downsample.0.weight"], stride=stride)
                hidden = norm(f"{name}.downsample.1", hidden)
            hidden = (inner + hidden).clamp(min=0)
    expected = hidden.mean((2, 3)) @ w["linear.weight"][0] + w["linear.bias"]
    got = build_network(model, flat)(x).detach()
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert got.std() > 1e-3
