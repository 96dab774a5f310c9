"""Is a patient's influence on the sum clipped once, exactly, and noised by the right share?"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from torch.func import functional_call, grad, vmap

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import Architecture, StudyPlan
from schemas.models import initial_parameters
from schemas.secagg.quantise import QuantisedUpdate
from site_node.cohort.features import Features
from site_node.training import dp_sgd
from site_node.training.dp_sgd import clipped_integer_sum, noised_update, patient_gradients
from site_node.training.networks import build_network, parameter_order
from tests.support.factories import make_plan, recoverable
from tests.support.learning import plan_for, random_features

IMAGES_OF = [1, 3, 2, 1, 5]


def weights(plan: StudyPlan, seed: int = 1) -> np.ndarray:
    """Parameters away from the start, so that no gradient vanishes."""
    noise = np.random.default_rng(seed).normal(0, 0.3, plan.model.parameters)
    return initial_parameters(plan.model) + noise


def everyone(features: Features) -> np.ndarray:
    """A sample of all patients."""
    return np.ones(features.patients, dtype=np.bool_)


def per_row_oracle(plan: StudyPlan, flat: np.ndarray, features: Features) -> np.ndarray:
    """Per-row gradients by torch.func, an implementation without Opacus, (n, d)."""
    network = build_network(plan.model, flat)
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logit = functional_call(network, values, (x[None],))[0]
        return torch.nn.functional.softplus(logit) - y * logit

    x, y = torch.from_numpy(features.x), torch.from_numpy(features.y.astype(np.float32))
    parts = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    order = parameter_order(plan.model)
    return np.concatenate([parts[n].reshape(len(y), -1).double().numpy() for n in order], axis=1)


def manual_sum(plan: StudyPlan, rows: np.ndarray, features: Features) -> np.ndarray:
    """Average, clip, truncate and add, one patient at a time in plain Python."""
    total = np.zeros(rows.shape[1])
    for patient in range(features.patients):
        mean = rows[features.patient == patient].mean(axis=0)
        norm = float(np.linalg.norm(mean))
        clipped = mean * min(1.0, plan.training.clip / norm)
        total += np.trunc(clipped * (plan.training.integer_clip / plan.training.clip))
    return total


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("clip", [0.05, 50.0], ids=["everyone clipped", "nobody clipped"])
def test_sum_agrees_with_gradients_without_opacus(architecture: str, clip: float) -> None:
    plan = plan_for(architecture, clip=clip)
    features, flat = random_features(plan, IMAGES_OF), weights(plan)
    expected = manual_sum(plan, per_row_oracle(plan, flat, features), features)
    got = clipped_integer_sum(plan, flat, features, everyone(features)).values
    assert got.dtype == np.int64
    largest = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, atol=max(8, 2e-5 * largest))


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("clip", [0.01, 50.0], ids=["clipped", "unclipped"])
def test_sum_with_a_patient_is_the_sum_without_plus_that_patient_exactly(
    architecture: str, clip: float
) -> None:
    """Integers, no tolerance: who else is in the batch may not move a patient by one unit."""
    plan = plan_for(architecture, clip=clip)
    features, flat = random_features(plan, IMAGES_OF * 15), weights(plan)
    whole = clipped_integer_sum(plan, flat, features, everyone(features)).values
    for patient in (0, 1, 7, 40, 74):
        chosen = everyone(features)
        chosen[patient] = False
        without = clipped_integer_sum(plan, flat, features, chosen).values
        own = clipped_integer_sum(plan, flat, features, ~chosen).values
        assert (whole - without).tolist() == own.tolist()
        assert 0 < sum(int(v) ** 2 for v in own) <= plan.training.integer_clip**2


@pytest.mark.parametrize("architecture", list(Architecture))
def test_removing_a_patients_rows_moves_the_sum_by_at_most_the_clip(architecture: str) -> None:
    """The same for a hospital that never had the patient: everyone behind changes places."""
    plan = plan_for(architecture, clip=0.5)
    features, flat = random_features(plan, IMAGES_OF * 15), weights(plan)
    whole = clipped_integer_sum(plan, flat, features, everyone(features)).values
    for patient in (0, 33):
        kept = features.patient != patient
        owners = features.patient[kept]
        fewer = Features(
            features.x[kept],
            features.y[kept],
            owners - (owners > patient),
            patients=features.patients - 1,
        )
        rest = clipped_integer_sum(plan, flat, fewer, everyone(fewer)).values
        difference = [int(v) for v in whole - rest]
        assert sum(v * v for v in difference) <= plan.training.integer_clip**2


@pytest.mark.parametrize("architecture", list(Architecture))
def test_a_patient_with_repeated_images_gives_the_same_gradient(architecture: str) -> None:
    plan = plan_for(architecture, clip=1.0)
    once, flat = random_features(plan, [1, 1, 1]), weights(plan)
    repeated = Features(
        x=np.repeat(once.x, 4, axis=0),
        y=np.repeat(once.y, 4),
        patient=np.repeat(once.patient, 4),
        patients=3,
    )
    single = clipped_integer_sum(plan, flat, once, everyone(once)).values
    many = clipped_integer_sum(plan, flat, repeated, everyone(repeated)).values
    # a sum of four equal numbers is exact, and so is its quarter
    assert many.tolist() == single.tolist()


@pytest.mark.parametrize("architecture", list(Architecture))
def test_nobody_chosen_and_no_patient_at_all_give_zeros(architecture: str) -> None:
    plan = plan_for(architecture)
    flat = weights(plan)
    some, none = random_features(plan, IMAGES_OF), random_features(plan, [])
    for features in (some, none):
        chosen = np.zeros(features.patients, dtype=np.bool_)
        update = clipped_integer_sum(plan, flat, features, chosen)
        assert update.values.tolist() == [0] * len(flat)


def test_only_the_chosen_patients_count() -> None:
    plan = plan_for("logistic")
    features, flat = random_features(plan, [2] * 6), weights(plan)
    chosen = np.array([True, False, True, False, False, True])
    rows = np.isin(features.patient, np.flatnonzero(chosen))
    alone = Features(features.x[rows], features.y[rows], np.repeat(np.arange(3), 2), patients=3)
    got = clipped_integer_sum(plan, flat, features, chosen).values
    expected = clipped_integer_sum(plan, flat, alone, everyone(alone)).values
    assert got.tolist() == expected.tolist()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_pieces_hold_whole_patients_and_every_row_once(images_of: list[int]) -> None:
    features = random_features(plan_for("logistic"), images_of)
    pieces = list(dp_sgd._pieces(features, everyone(features)))
    assert np.concatenate(pieces).tolist() == list(range(len(features.y)))
    owners = [set(features.patient[piece].tolist()) for piece in pieces]
    assert sum(len(o) for o in owners) == features.patients
    fits = [
        len(piece) <= dp_sgd.BATCH_ROWS or len(o) == 1
        for piece, o in zip(pieces, owners, strict=True)
    ]
    assert all(fits)


def test_a_patient_larger_than_a_batch_is_averaged_whole() -> None:
    plan = plan_for("logistic", clip=1.0)
    features, flat = random_features(plan, [3, 300, 2]), weights(plan)
    expected = manual_sum(plan, per_row_oracle(plan, flat, features), features)
    got = clipped_integer_sum(plan, flat, features, everyone(features)).values
    np.testing.assert_allclose(got, expected, atol=8)


def test_a_value_that_is_not_finite_adds_nothing_and_raises_nothing() -> None:
    plan = plan_for("logistic")
    features, flat = random_features(plan, [1, 1]), weights(plan)
    x = features.x.copy()
    x[0] = np.inf
    both = clipped_integer_sum(plan, flat, replace(features, x=x), everyone(features)).values
    second = clipped_integer_sum(plan, flat, features, np.array([False, True])).values
    assert both.tolist() == second.tolist()


def test_gradients_are_cleared_between_pieces() -> None:
    plan = plan_for("logistic")
    features, flat = random_features(plan, [1, 2]), weights(plan)
    network = GradSampleModule(
        build_network(plan.model, flat), batch_first=True, loss_reduction="sum"
    )
    rows = np.arange(3)
    first = patient_gradients(plan, network, features, rows)
    assert all(p.grad_sample is None and p.grad is None for p in network.parameters())
    again = patient_gradients(plan, network, features, rows)
    assert first.tolist() == again.tolist()


def test_torchs_generator_is_never_used() -> None:
    plan = plan_for("small-cnn")
    features, flat = random_features(plan, IMAGES_OF), weights(plan)
    before = torch.get_rng_state()
    update = clipped_integer_sum(plan, flat, features, everyone(features))
    noised_update(plan, update, 4, os.urandom)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("cohort_size", [3, 4])
def test_noise_share_has_the_cohorts_variance(cohort_size: int) -> None:
    plan, _ = make_plan()
    update = QuantisedUpdate(np.zeros(40_000, dtype=np.int64))
    noise = noised_update(plan, update, cohort_size, os.urandom).values.astype(np.float64)
    sigma = plan.privacy.noise_multiplier * plan.training.integer_clip
    expected = sigma / np.sqrt(cohort_size - plan.collusion_bound)
    # standard error of the ratio is 0.35 %; five of them, and the share for another cohort fails
    assert abs(noise.std() / expected - 1) < 0.018
    assert abs(noise.std() * np.sqrt(cohort_size - 1) / (expected * np.sqrt(cohort_size)) - 1) > 0.1
    assert abs(noise.mean()) < 5 * expected / 200


@pytest.mark.parametrize(("cohort_size", "lost"), [(5, 0), (6, 1), (7, 2)])
def test_noise_share_makes_up_for_the_sites_that_may_be_lost(cohort_size: int, lost: int) -> None:
    """PRIVACY-3: of seven sites with t = 1 five must stay, so that always four are counted on."""
    plan, _ = make_plan(7, **recoverable(2))
    assert (plan.fewest_summed, plan.dropouts_allowed(cohort_size)) == (5, lost)
    update = QuantisedUpdate(np.zeros(40_000, dtype=np.int64))
    noise = noised_update(plan, update, cohort_size, os.urandom).values.astype(np.float64)
    sigma = plan.privacy.noise_multiplier * plan.training.integer_clip
    assert abs(noise.std() * np.sqrt(cohort_size - 1 - lost) / sigma - 1) < 0.018
    if lost:  # the share of an atomic plan would be too small
        assert abs(noise.std() * np.sqrt(cohort_size - 1) / sigma - 1) > 0.1


def test_a_cohort_too_small_to_recover_gets_no_noise_and_no_update() -> None:
    plan, _ = make_plan(7, **recoverable(2))
    with pytest.raises(ProtocolError) as refusal:
        noised_update(plan, QuantisedUpdate(np.zeros(5, np.int64)), 4, os.urandom)
    assert refusal.value.code is ErrorCode.COHORT_TOO_SMALL


def test_noise_is_added_to_the_sum_and_is_fresh_each_time() -> None:
    plan, _ = make_plan()
    update = QuantisedUpdate(np.arange(5, dtype=np.int64) * 10**9)
    first = noised_update(plan, update, 4, os.urandom).values
    second = noised_update(plan, update, 4, os.urandom).values
    assert (first != second).any()
    sigma = plan.privacy.noise_multiplier * plan.training.integer_clip
    assert np.abs(first - update.values).max() < 12 * sigma


@pytest.mark.parametrize("cohort_size", [-1, 0, 1, 2, 5])
def test_cohort_outside_the_plan_gets_no_noise_and_no_update(cohort_size: int) -> None:
    plan, _ = make_plan()
    with pytest.raises(ProtocolError) as refusal:
        noised_update(plan, QuantisedUpdate(np.zeros(5, np.int64)), cohort_size, os.urandom)
    assert refusal.value.code is ErrorCode.COHORT_TOO_SMALL
