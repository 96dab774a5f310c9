"""Has every row of every network a gradient of its own, and is a network without one refused?"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from schemas.errors import ErrorCode, InternalError
from schemas.governance.study import Architecture, StudyPlan
from schemas.models import initial_parameters
from site_node.training import networks
from site_node.training.architectures import LinearUnit, SmallCnn, TanhLayers
from site_node.training.gradients import RowGradients
from site_node.training.losses import Batch, row_losses
from site_node.training.networks import build_network, parameter_order
from site_node.training.per_sample import CONTAINERS, LAYERS, check_per_sample
from site_node.training.resnet import BasicBlock, ResNet18
from site_node.training.row_linear import RowLinear
from tests.support.learning import plan_for, random_features

ROWS = 5
FIRST = "0 is a layer that is not on the list"
SECOND = "1 is a layer that is not on the list"


def started(plan: StudyPlan) -> nn.Module:
    """The plan's network at a start from which every layer has a gradient."""
    flat = initial_parameters(plan.model)
    flat += np.random.default_rng(3).normal(0, 0.05, len(flat))
    return build_network(plan.model, flat)


def batch_of(plan: StudyPlan, seed: int) -> tuple[torch.Tensor, Batch]:
    """Random rows and what happened to them."""
    features = random_features(plan, [1] * ROWS, seed)
    # Beyond the first interval: who is censored in it has the gradient zero.
    time = None if features.time is None else torch.from_numpy(features.time.clip(min=31))
    y = torch.from_numpy(features.y.astype(np.float32))
    return torch.from_numpy(features.x), Batch(y, time, 2.0)


def only(batch: Batch, row: int) -> Batch:
    """One row of a batch."""
    here = slice(row, row + 1)
    return Batch(batch.y[here], None if batch.time is None else batch.time[here], 2.0)


def mixed(batch: Batch, other: Batch, row: int) -> Batch:
    """All rows of another batch, but this one."""
    y = other.y.clone()
    y[row] = batch.y[row]
    if batch.time is None or other.time is None:
        return Batch(y, None, 2.0)
    time = other.time.clone()
    time[row] = batch.time[row]
    return Batch(y, time, 2.0)


def gradient_of(
    plan: StudyPlan, network: nn.Module, x: torch.Tensor, batch: Batch, row: int
) -> torch.Tensor:
    """The gradient of one row's loss by torch's own differentiation."""
    loss = row_losses(plan, network(x), batch)[row]
    parts = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([part.reshape(-1) for part in parts])


def sampled(plan: StudyPlan, network: nn.Module, x: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Gradients of all rows by Opacus, (rows, d)."""
    wrapped = GradSampleModule(copy.deepcopy(network), batch_first=True, loss_reduction="sum")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.autograd.backward(row_losses(plan, wrapped(x), batch).sum())
    parts = [p.grad_sample.reshape(len(x), -1) for p in wrapped._module.parameters()]
    return torch.cat(parts, dim=1)


def product(plan: StudyPlan, network: nn.Module, x: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Gradients of all rows as a training step computes them, (rows, d)."""
    rows = RowGradients(copy.deepcopy(network), parameter_order(plan.model))
    parts = rows(x, lambda outputs: row_losses(plan, outputs, batch))
    return torch.cat([torch.from_numpy(part) for part in parts], dim=1)


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Distance in units of the expected norm."""
    assert float(expected.norm()) > 0
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("architecture", list(Architecture))
def test_gradient_of_a_row_does_not_depend_on_the_others(architecture: Architecture) -> None:
    """PRIVACY-20: alone, among one batch of others, and among another, by three ways to compute."""
    plan = plan_for(architecture)
    network = started(plan)
    x, batch = batch_of(plan, 1)
    others, theirs = batch_of(plan, 2)
    together = sampled(plan, network, x, batch)
    ours = product(plan, network, x, batch)
    for row in (0, ROWS - 1):
        here = slice(row, row + 1)
        alone = gradient_of(plan, network, x[here], only(batch, row), 0)
        assert difference(together[row], alone) < 1e-4
        assert difference(ours[row], alone) < 1e-4
        assert difference(gradient_of(plan, network, x, batch, row), alone) < 1e-4
        swapped = others.clone()
        swapped[row] = x[row]
        among = gradient_of(plan, network, swapped, mixed(batch, theirs, row), row)
        assert difference(among, alone) < 1e-4


def with_batch_norm(network: nn.Module) -> nn.Module:
    """The mutant: every group normalisation, or the input of the head, normalised by batch."""
    mutant = copy.deepcopy(network)
    for module in list(mutant.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.BatchNorm2d(child.num_channels))
    if not any(isinstance(each, nn.BatchNorm2d) for each in mutant.modules()):
        head = mutant.get_submodule("linear")
        assert isinstance(head, nn.Linear)
        mutant.linear = nn.Sequential(nn.BatchNorm1d(head.in_features), head)
    return mutant.train()


@pytest.mark.parametrize(
    "architecture", ["logistic", "cox", "mlp", "small-cnn", "resnet18-groupnorm"]
)
def test_batch_norm_mutant_fails_the_functional_test_and_the_check(architecture: str) -> None:
    """PRIVACY-20: the comparison above would notice; and such a network is never built."""
    plan = plan_for(architecture)
    mutant = with_batch_norm(started(plan))
    x, batch = batch_of(plan, 1)
    others, theirs = batch_of(plan, 2)
    swapped = others.clone()
    swapped[0] = x[0]
    before = gradient_of(plan, mutant, x, batch, 0)
    after = gradient_of(plan, mutant, swapped, mixed(batch, theirs, 0), 0)
    assert difference(after, before) > 1e-2
    refused(mutant)


@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_architecture_of_the_list_passes(architecture: Architecture) -> None:
    check_per_sample(started(plan_for(architecture)))


def refused(network: nn.Module) -> str:
    """The sentence with which a network is refused."""
    with pytest.raises(InternalError) as refusal:
        check_per_sample(network)
    assert refusal.value.code is ErrorCode.TRAINING_LAYER_REFUSED
    return refusal.value.sentence


def tied() -> nn.Module:
    first, second = RowLinear(4, 4), RowLinear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def twice() -> nn.Module:
    layer = RowLinear(4, 4)
    return nn.Sequential(layer, layer)


def frozen() -> nn.Module:
    network = LinearUnit(4)
    network.linear.bias.requires_grad_(False)
    return network


def hooked() -> nn.Module:
    network = LinearUnit(4)
    network.linear.register_forward_hook(lambda _m, _i, out: out - out.mean(0))
    return network


def patched() -> nn.Module:
    network = LinearUnit(4)
    network.forward = lambda x: x.mean(0)  # type: ignore[method-assign]
    return network


def buffered() -> nn.Module:
    network = LinearUnit(4)
    network.register_buffer("seen", torch.zeros(1))
    return network


def owned() -> nn.Module:
    network = LinearUnit(4)
    network.scale = nn.Parameter(torch.ones(1))
    return network


class _MeanLinear(RowLinear):
    """A subclass that mixes rows under a layer's name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(0))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            lambda: nn.Sequential(nn.Linear(4, 1)),
            FIRST,
            id="product of a whole batch",
        ),
        pytest.param(
            lambda: nn.Sequential(RowLinear(4, 4), nn.BatchNorm1d(4)),
            SECOND,
            id="batch norm",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.SyncBatchNorm(4)),
            FIRST,
            id="synchronised batch norm",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.BatchNorm1d(4, affine=False, track_running_stats=False)),
            FIRST,
            id="batch norm without parameters or buffers",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True)),
            FIRST,
            id="instance norm with running statistics",
        ),
        pytest.param(
            lambda: nn.Sequential(RowLinear(4, 1), nn.Dropout(0.1)),
            SECOND,
            id="dropout",
        ),
        pytest.param(
            lambda: nn.Sequential(RowLinear(4, 1), nn.RReLU()),
            SECOND,
            id="random slope",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.Embedding(4, 2, max_norm=1.0)),
            FIRST,
            id="embedding norm",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.Bilinear(2, 2, 1)),
            FIRST,
            id="layer without a rule",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.LSTM(2, 2)),
            FIRST,
            id="recurrent",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.Softmax(dim=0)),
            FIRST,
            id="softmax over the batch",
        ),
        pytest.param(
            lambda: nn.Sequential(_MeanLinear(4, 1)),
            FIRST,
            id="subclass of a layer",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(RowLinear(4, 1))),
            FIRST,
            id="parametrised weight",
        ),
        pytest.param(
            lambda: LinearUnit(4).eval(), "Opacus refuses a layer", id="not in training mode"
        ),
        pytest.param(tied, "two layers share a parameter", id="tied weights"),
        pytest.param(twice, "two layers share a parameter", id="one layer twice"),
        pytest.param(frozen, "a parameter is frozen", id="frozen bias"),
        pytest.param(hooked, "linear is changed by a hook", id="hook that mixes rows"),
        pytest.param(patched, "the network has another forward", id="another forward"),
        pytest.param(buffered, "the network keeps a buffer", id="buffer"),
        pytest.param(
            owned, "the network has a parameter outside a layer", id="parameter outside a layer"
        ),
    ],
)
def test_network_that_could_mix_patients_is_refused(
    make: Callable[[], nn.Module], reason: str
) -> None:
    """PRIVACY-20: each by the check that is meant for it, and by no other."""
    assert reason in refused(make())


def test_reason_names_the_layer() -> None:
    network = SmallCnn(32)
    network.conv2 = nn.Sequential(network.conv2, nn.BatchNorm2d(32))  # type: ignore[assignment]
    assert "conv2.1" in refused(network)


def test_build_refuses_before_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check stands in the only way to a network."""
    model = plan_for("logistic").model
    mutant = nn.Module()
    mutant.linear = RowLinear(4, 1)
    mutant.add_module("drop", nn.Dropout())
    monkeypatch.setattr(networks, "_network", lambda _model: mutant)
    with pytest.raises(InternalError) as refusal:
        build_network(model, initial_parameters(model))
    assert refusal.value.code is ErrorCode.TRAINING_LAYER_REFUSED


def test_list_of_layers_holds_no_more_than_the_networks_use() -> None:
    used = {
        type(module)
        for architecture in Architecture
        for module in started(plan_for(architecture)).modules()
    }
    used |= {type(module) for module in ResNet18(has_small_stem=False).modules()}
    assert used == LAYERS | CONTAINERS
    assert {TanhLayers, BasicBlock} < CONTAINERS
