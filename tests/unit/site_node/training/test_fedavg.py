"""Are the local steps of DP-FedAvg those of Opacus, with the whole noise and a bounded change?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch.nn.functional import binary_cross_entropy_with_logits

from schemas.entropy import Entropy
from schemas.governance.study import StudyPlan
from schemas.models import initial_parameters
from schemas.models.optimiser import OptimiserState, apply_step, initial_state
from site_node.cohort.features import Features
from site_node.training import fedavg
from site_node.training.fedavg import local_update
from site_node.training.networks import build_network, parameter_order
from site_node.training.sampling import poisson_mask
from tests.support.learning import LOCAL, plan_for, random_features
from tests.support.secure_sum import FixedEntropy

POISSON = {"sampling": "poisson", "sampling_rate": 0.5}
FINE = {"integer_clip": 2**19}


def local_plan(architecture: str = "small-cnn", **changes: Any) -> StudyPlan:
    """A plan of dp-fedavg: three local steps."""
    return plan_for(architecture, **LOCAL | changes)


def start_of(plan: StudyPlan) -> OptimiserState:
    """A state away from the first model."""
    flat = initial_parameters(plan.model)
    return initial_state(plan.model, flat + np.random.default_rng(2).normal(0, 0.2, len(flat)))


def silence(sigma: float, n: int, entropy: Entropy) -> NDArray[np.int64]:
    """No noise, which no plan can ask for."""
    return np.zeros(n, dtype=np.int64)


def opacus_steps(
    plan: StudyPlan, state: OptimiserState, features: Features, samples: list[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """The parameters after one step of Opacus' own optimiser for each sample, (d,)."""
    training = plan.training
    network = GradSampleModule(build_network(plan.model, state.parameters))
    optimiser = DPOptimizer(
        torch.optim.SGD(network.parameters(), lr=training.local_learning_rate),
        noise_multiplier=0.0,
        max_grad_norm=training.clip,
        expected_batch_size=training.local_divisor,
    )
    for chosen in samples:
        x, y = torch.from_numpy(features.x[chosen]), torch.from_numpy(features.y[chosen]).float()
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(network(x.requires_grad_(True)), y).backward()
        optimiser.step()
    named = dict(network._module.named_parameters())
    order = parameter_order(plan.model)
    return np.concatenate([named[n].detach().double().numpy().reshape(-1) for n in order])


@pytest.mark.parametrize("architecture", ["logistic", "mlp", "small-cnn", "scattering-logistic"])
@pytest.mark.parametrize("clip", [0.05, 0.5])
@pytest.mark.parametrize("sampling", [{}, POISSON], ids=["full", "poisson"])
def test_local_steps_are_those_of_opacus(
    architecture: str, clip: float, sampling: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRIVACY-13: noise off on both sides, one row a patient; equal to the grid's precision."""
    plan = local_plan(architecture, clip=clip, **FINE, **sampling)
    state, features = start_of(plan), random_features(plan, [1] * 20)
    samples: list[NDArray[np.bool_]] = []

    def remembered(n: int, rate: float, entropy: Entropy) -> NDArray[np.bool_]:
        samples.append(poisson_mask(n, rate, entropy))
        return samples[-1]

    monkeypatch.setattr(fedavg, "discrete_gaussian", silence)
    monkeypatch.setattr(fedavg, "poisson_mask", remembered)
    got = local_update(plan, state, features, FixedEntropy("local")).values
    assert len(samples) == 3 and all(s.any() for s in samples)
    unit = plan.training.update_clip / plan.training.integer_clip
    expected = (opacus_steps(plan, state, features, samples) - state.parameters) / unit
    assert np.abs(expected).max() > 500
    np.testing.assert_allclose(got, expected, atol=8)
    # one step fewer is another vector: the comparison can fail
    shorter = (opacus_steps(plan, state, features, samples[:2]) - state.parameters) / unit
    assert np.abs(got - shorter).max() > 100


def test_every_local_step_carries_the_whole_noise() -> None:
    """PRIVACY-13: no share of it, and fresh in each of three steps."""
    plan = local_plan(update_clip=200, **FINE)
    features = random_features(plan, [])
    values = local_update(plan, start_of(plan), features, FixedEntropy("noise")).values
    training = plan.training
    step = plan.privacy.noise_multiplier * training.clip / training.local_divisor
    change = values * (training.update_clip / training.integer_clip)
    ratio = change.std() / (step * training.local_learning_rate * np.sqrt(3))
    # standard error 0.6 %; a share for four hospitals, or one draw for all steps, is far away
    assert abs(ratio - 1) < 0.03
    assert abs(ratio * np.sqrt(3) - 1) > 0.5


def test_steps_and_calls_never_share_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """PRIVACY-13: a repeated draw would cancel between two steps or two rounds."""
    plan, drawn = local_plan(**FINE), []
    honest = fedavg.discrete_gaussian

    def spy(sigma: float, n: int, entropy: Entropy) -> NDArray[np.int64]:
        assert sigma == plan.privacy.noise_multiplier * plan.training.integer_clip
        drawn.append(honest(sigma, n, entropy))
        return drawn[-1]

    monkeypatch.setattr(fedavg, "discrete_gaussian", spy)
    entropy = FixedEntropy("calls")
    for _ in range(2):
        local_update(plan, start_of(plan), random_features(plan, [1, 2]), entropy)
    assert len(drawn) == 6
    table = np.corrcoef(np.array(drawn, dtype=np.float64)) - np.eye(6)
    assert np.abs(table).max() < 4.5 / np.sqrt(plan.model.parameters)


@pytest.mark.parametrize("rate", [0.5, 1e6], ids=["clipped by far", "diverged"])
def test_a_change_is_never_longer_than_its_clip(rate: float) -> None:
    """PRIVACY-13: exactly, as integers: a 32-bit sum of hospitals cannot wrap."""
    plan = local_plan(update_clip=0.001, local_learning_rate=rate)
    features = random_features(plan, [1, 2, 3])
    values = local_update(plan, start_of(plan), features, FixedEntropy("long")).values
    norm = sum(int(v) ** 2 for v in values)
    assert 0.999 * plan.training.integer_clip**2 < norm <= plan.training.integer_clip**2


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_steps_that_left_the_numbers_behind_give_zeros(value: float) -> None:
    """PRIVACY-13: the whole change, although all other coordinates are finite and moved."""
    plan = local_plan("logistic")
    state, features = start_of(plan), random_features(plan, [1, 1])
    assert local_update(plan, state, features, FixedEntropy("far")).values.all()
    state.parameters[0] = value
    with np.errstate(invalid="ignore"):
        values = local_update(plan, state, features, FixedEntropy("far")).values
    assert values.tolist() == [0] * plan.model.parameters


def test_the_sum_of_hospitals_moves_the_model_by_their_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fedavg, "discrete_gaussian", silence)
    plan = local_plan(learning_rate=1, momentum=0, **FINE)
    state = start_of(plan)
    hospitals = [random_features(plan, [1, 2, 1], seed=seed) for seed in range(4)]
    updates = [local_update(plan, state, each, FixedEntropy("x")).values for each in hospitals]
    after = apply_step(state, np.sum(updates, axis=0), plan.training).parameters
    unit = plan.training.update_clip / plan.training.integer_clip
    np.testing.assert_allclose(after - state.parameters, np.mean(updates, axis=0) * unit, atol=1e-9)


def test_a_plan_of_dp_fedsgd_is_refused() -> None:
    plan = plan_for("logistic")
    with pytest.raises(ValueError, match="dp-fedavg"):
        local_update(plan, start_of(plan), random_features(plan, [1]), FixedEntropy("no"))
