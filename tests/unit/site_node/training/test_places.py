"""Can a patient be made to weigh more than the clip by where the others stand in the batch?"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from schemas.errors import CohortiumError, ErrorCode
from schemas.governance.study import Architecture, StudyPlan
from schemas.models import initial_state, split_tensors
from schemas.models.optimiser import OptimiserState
from site_node.cohort.features import Features
from site_node.training import places
from site_node.training.dp_sgd import batch_rows, clipped_integer_sum
from site_node.training.gradients import RowGradients
from site_node.training.networks import build_network, parameter_order
from site_node.training.row_linear import RowLinear
from tests.support.factories import make_plan
from tests.support.learning import plan_for

WIDTH = 13  # no multiple of four, where a batch's matrix product rounds by place


def by_place(self: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """A linear layer that rounds by a row's place, as the product of a whole batch may."""
    here = torch.arange(len(rows))[:, None] % 4
    return nn.functional.linear(rows, self.weight, self.bias) * (1 + here * 2.0**-22)


def wide_plan(hidden: list[int]) -> StudyPlan:
    """An mlp on thirteen scaled numbers."""
    names = [f"x{n}" for n in range(WIDTH)]
    columns = [{"name": n, "kind": "number", "minimum": 0, "maximum": 1} for n in names]
    label = {"name": "num", "kind": "category", "codes": ["0", "1"]}
    features = [{"column": n, "encoding": "scale", "minimum": 0, "maximum": 1} for n in names]
    sizes = [WIDTH, *hidden, 1]
    count = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    return make_plan(
        data={"columns": [*columns, label], "label": "num", "label_positive": ["1"]},
        model={"architecture": "mlp", "hidden": hidden, "features": features, "parameters": count},
        training={"clip": 1.0, "integer_clip": 2**16, "maximum_patients": 4000, "divisor": 2000},
    )[0]


def cancelling(plan: StudyPlan, size: float) -> OptimiserState:
    """Weights under which rounding alone decides: twins of tanh units, weighted +size and -size."""
    rng = np.random.default_rng(0)
    flat = np.zeros(plan.model.parameters)
    parts = split_tensors(plan.model, flat)  # views of `flat`
    first, second = parts["hidden.0.weight"], parts["hidden.1.weight"]
    order = rng.permutation(len(first))
    for one, two in zip(order[::2], order[1::2], strict=False):
        first[one] = first[two] = rng.normal(size=first.shape[1])
        parts["hidden.0.bias"][[one, two]] = rng.normal()
        strength = rng.uniform(0.5, 1, size=len(second)) * size
        second[:, one], second[:, two] = strength, -strength
    parts["linear.weight"][:] = 0.05
    return initial_state(plan.model, flat)


def patients(n: int, first: int = 0) -> Features:
    """Patients ``first`` to n - 1 of always the same n, one row each."""
    rng = np.random.default_rng(1)
    x, y = rng.random((n, WIDTH)).astype(np.float32), rng.integers(0, 2, n)
    rows = slice(first, n)
    return Features(x=x[rows], y=y[rows], patient=np.arange(n - first), patients=n - first)


def moved_by_one(plan: StudyPlan, state: OptimiserState, n: int = 2000) -> float:
    """Norm of what the first patient's presence changes, in units of the integer clip."""
    sums = []
    for features in (patients(n), patients(n, first=1)):
        everyone = np.ones(features.patients, dtype=np.bool_)
        sums.append(clipped_integer_sum(plan, state, features, everyone).values)
    difference = [int(v) for v in sums[0] - sums[1]]
    return float(sum(v * v for v in difference)) / plan.training.integer_clip**2


@pytest.mark.parametrize("hidden", [[13, 4], [14, 6], [8, 3]])
@pytest.mark.parametrize("size", [1.0, 1e8, 1e12])
def test_no_weights_make_a_patient_weigh_more_than_the_clip(hidden: list[int], size: float) -> None:
    """PRIVACY-2: taking out the first patient moves everybody else's place in the batch."""
    plan = wide_plan(hidden)
    assert 0 < moved_by_one(plan, cancelling(plan, size)) <= 1


def test_where_rows_round_by_place_one_patient_weighs_many_times_the_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RowLinear, "forward", by_place)
    monkeypatch.setattr(places, "_places_agree", lambda *_: True)
    plan = wide_plan([13, 4])
    assert moved_by_one(plan, cancelling(plan, 1e12)) > 4


def test_the_machine_is_asked_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = wide_plan([13, 4])
    monkeypatch.setattr(places, "_places_agree", lambda *_: False)
    with pytest.raises(CohortiumError) as caught:
        moved_by_one(plan, cancelling(plan, 1.0), n=2)
    assert caught.value.code is ErrorCode.TRAINING_LAYER_REFUSED


@pytest.mark.parametrize("architecture", [a for a in Architecture if a != "resnet18-groupnorm"])
def test_every_architecture_computes_alike_at_every_place(architecture: str) -> None:
    plan = plan_for(architecture)
    shape: Any = (plan.model.input_width,)
    if architecture in ("small-cnn", "resnet18-groupnorm"):
        shape = (1, plan.model.image_rows, plan.model.image_columns)
    elif architecture == "scattering-logistic":
        shape = (plan.model.parameters - 1,)
    places.check_places(plan.model, shape, batch_rows(plan))


def test_a_layer_that_rounds_by_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowLinear, "forward", by_place)
    plan = wide_plan([13, 4])
    network = build_network(plan.model, cancelling(plan, 1.0).parameters)
    gradients = RowGradients(network, parameter_order(plan.model))
    assert not places.places_agree(gradients, (WIDTH,), 128)
