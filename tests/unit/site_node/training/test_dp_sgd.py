"""Is a patient's influence on the sum clipped once, exactly, and noised by the right share?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import Architecture, StudyPlan
from schemas.models import initial_parameters
from schemas.models.optimiser import OptimiserState, initial_state
from schemas.secagg.quantise import NoisedUpdate, QuantisedUpdate
from site_node.cohort.features import Features
from site_node.training import dp_sgd
from site_node.training.dp_sgd import batch_rows, clipped_integer_sum, noised_update
from site_node.training.fedavg import local_update
from site_node.training.gradients import RowGradients
from site_node.training.losses import Batch, row_losses
from site_node.training.networks import build_network, parameter_order
from site_node.training.patients import PatientSum
from site_node.training.sampling import poisson_mask
from tests.support.factories import make_plan, recoverable
from tests.support.learning import LOCAL, plan_for, random_features
from tests.support.secure_sum import FixedEntropy

IMAGES_OF = [1, 3, 2, 1, 5]
SMALL = [each for each in Architecture if each is not Architecture.RESNET18]
CLIPPED, UNCLIPPED = 0.01, 500.0  # everyone, nobody
EVERY = [(each, IMAGES_OF, clip) for each in SMALL for clip in (CLIPPED, UNCLIPPED)]
EVERY += [(Architecture.RESNET18, [2, 1], CLIPPED)]
MANY = [(each, images_of * 15, clip) for each, images_of, clip in EVERY[:-1]]
MANY += [(Architecture.RESNET18, [2, 1, 6], CLIPPED)]  # the last lies in two batches


def weights(plan: StudyPlan, seed: int = 1) -> OptimiserState:
    """A state away from the start, so that no gradient vanishes."""
    start = initial_parameters(plan.model)
    spread = 0.02 if plan.model.architecture is Architecture.RESNET18 else 0.3
    noise = np.random.default_rng(seed).normal(0, spread, plan.model.parameters)
    return initial_state(plan.model, start + noise)


def everyone(features: Features) -> np.ndarray:
    """A sample of all patients."""
    return np.ones(features.patients, dtype=np.bool_)


def without_patient(features: Features, patient: int) -> Features:
    """The same hospital, had it never had one patient."""
    kept = features.patient != patient
    owners = features.patient[kept]
    return Features(
        features.x[kept],
        features.y[kept],
        owners - (owners > patient),
        patients=features.patients - 1,
        time=None if features.time is None else features.time[kept],
    )


def share(
    plan: StudyPlan, update: QuantisedUpdate, cohort_size: int, seed: str = "share"
) -> NoisedUpdate:
    """The update with this site's noise for a sum of training."""
    entropy = FixedEntropy(f"{seed}/{cohort_size}")
    return noised_update(plan, plan.sum_terms(0), update, cohort_size, entropy)


def per_row_oracle(plan: StudyPlan, state: OptimiserState, features: Features) -> np.ndarray:
    """Per-row gradients by autograd, one row at a time and without Opacus, (n, d)."""
    network = build_network(plan.model, state.parameters)
    parameters = dict(network.named_parameters())
    x, y = torch.from_numpy(features.x), torch.from_numpy(features.y.astype(np.float32))
    time = torch.zeros(len(y)) if features.time is None else torch.from_numpy(features.time)
    weight, rows = plan.training.positive_weight, []
    for one in range(len(y)):
        batch = Batch(y[one][None], time[one][None], positive_weight=weight)
        loss = row_losses(plan, network(x[one][None]), batch)[0]
        order = [parameters[name] for name in parameter_order(plan.model)]
        parts = torch.autograd.grad(loss, order)
        rows.append(torch.cat([part.reshape(-1) for part in parts]).double().numpy())
    return np.stack(rows)


def manual_sum(plan: StudyPlan, rows: np.ndarray, features: Features) -> np.ndarray:
    """Average, clip, truncate and add, one patient at a time in plain Python."""
    total = np.zeros(rows.shape[1])
    for patient in range(features.patients):
        mean = rows[features.patient == patient].mean(axis=0)
        norm = float(np.linalg.norm(mean))
        clipped = mean * min(1.0, plan.training.clip / norm)
        total += np.trunc(clipped * (plan.training.integer_clip / plan.training.clip))
    return total


@pytest.mark.parametrize(("architecture", "images_of", "clip"), EVERY)
def test_sum_agrees_with_gradients_without_opacus(
    architecture: str, images_of: list[int], clip: float
) -> None:
    """PRIVACY-2: the mean over a patient's rows, clipped once."""
    plan = plan_for(architecture, clip=clip)
    features, state = random_features(plan, images_of), weights(plan)
    expected = manual_sum(plan, per_row_oracle(plan, state, features), features)
    got = clipped_integer_sum(plan, state, features, everyone(features)).values
    assert got.dtype == np.int64
    largest = np.abs(expected).max()
    assert largest > 20
    np.testing.assert_allclose(got, expected, atol=max(8, 2e-5 * largest))


@pytest.mark.parametrize(("architecture", "images_of", "clip"), MANY)
def test_sum_with_a_patient_is_the_sum_without_plus_that_patient_exactly(
    architecture: str, images_of: list[int], clip: float
) -> None:
    """PRIVACY-2: integers, no tolerance; who else is in the batch moves nobody by one unit."""
    plan = plan_for(architecture, clip=clip)
    features, state = random_features(plan, images_of), weights(plan)
    whole = clipped_integer_sum(plan, state, features, everyone(features)).values
    for patient in (0, 1, 7, 40, 74) if architecture in SMALL else (1,):
        chosen = everyone(features)
        chosen[patient] = False
        without = clipped_integer_sum(plan, state, features, chosen).values
        own = clipped_integer_sum(plan, state, features, ~chosen).values
        assert (whole - without == own).all()
        # who was censored early has no gradient in a Cox model
        assert own.any() or architecture is Architecture.COX
        assert int(np.vecdot(own, own)) <= plan.training.integer_clip**2


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("architecture", SMALL)
def test_a_patient_whose_inputs_are_not_finite_adds_zeros(architecture: str, value: float) -> None:
    """PRIVACY-2: an input beyond float32 is infinite; no warning, and nobody else is moved."""
    plan = plan_for(architecture, clip=0.5)
    features, state = random_features(plan, IMAGES_OF * 15), weights(plan)
    chosen = everyone(features)
    chosen[3] = False
    without = clipped_integer_sum(plan, state, features, chosen).values
    features.x[features.patient == 3] = value
    own = clipped_integer_sum(plan, state, features, everyone(features)).values - without
    assert int(np.vecdot(own, own)) <= plan.training.integer_clip**2
    if not np.isfinite(value):
        assert not own.any()


@pytest.mark.parametrize("architecture", SMALL)
def test_removing_a_patients_rows_moves_the_sum_by_at_most_the_clip(architecture: str) -> None:
    """PRIVACY-2: the same for a hospital that never had the patient: who is behind moves up."""
    plan = plan_for(architecture, clip=0.5)
    features, state = random_features(plan, IMAGES_OF * 15), weights(plan)
    whole = clipped_integer_sum(plan, state, features, everyone(features)).values
    for patient in (0, 33):
        fewer = without_patient(features, patient)
        rest = clipped_integer_sum(plan, state, fewer, everyone(fewer)).values
        difference = [int(v) for v in whole - rest]
        assert 0 < sum(v * v for v in difference) <= plan.training.integer_clip**2


@pytest.mark.parametrize("images", [1, 50])
@pytest.mark.parametrize("clip", [0.001, 0.5], ids=["clipped", "mostly not"])
def test_a_patient_of_fifty_images_weighs_no_more_than_one_of_one(images: int, clip: float) -> None:
    """PRIVACY-19: the patient is averaged over the images, then clipped once."""
    plan = plan_for("small-cnn", clip=clip, max_images_per_patient=50)
    features, state = random_features(plan, [2, images, 1, 4]), weights(plan)
    x = features.x.copy()
    x[features.patient == 1] *= 100.0  # far from everyone else
    features = replace(features, x=x)
    whole = clipped_integer_sum(plan, state, features, everyone(features)).values
    fewer = without_patient(features, 1)
    rest = clipped_integer_sum(plan, state, fewer, everyone(fewer)).values
    norm = int(np.vecdot(whole - rest, whole - rest))
    assert 0 < norm <= plan.training.integer_clip**2
    if clip == 0.001:  # fifty images reach the same bound as one, not fifty times it
        assert norm > 0.99 * plan.training.integer_clip**2


@pytest.mark.parametrize("architecture", SMALL)
def test_a_patient_with_repeated_images_gives_the_same_gradient(architecture: str) -> None:
    plan = plan_for(architecture, clip=1.0)
    once, state = random_features(plan, [1, 1, 1]), weights(plan)
    repeated = Features(
        x=np.repeat(once.x, 4, axis=0),
        y=np.repeat(once.y, 4),
        patient=np.repeat(once.patient, 4),
        patients=3,
        time=None if once.time is None else np.repeat(once.time, 4),
    )
    single = clipped_integer_sum(plan, state, once, everyone(once)).values
    many = clipped_integer_sum(plan, state, repeated, everyone(repeated)).values
    # a sum of four equal numbers is exact, and so is its quarter
    assert many.tolist() == single.tolist()


@pytest.mark.parametrize("architecture", SMALL)
def test_nobody_chosen_and_no_patient_at_all_give_zeros(architecture: str) -> None:
    """PRIVACY-4: an empty batch is a batch."""
    for sampling in ({}, {"sampling": "poisson", "sampling_rate": 0.1, "divisor": 10}):
        plan = plan_for(architecture, **sampling)
        state = weights(plan)
        some, none = random_features(plan, IMAGES_OF), random_features(plan, [])
        for features in (some, none):
            chosen = np.zeros(features.patients, dtype=np.bool_)
            update = clipped_integer_sum(plan, state, features, chosen)
            assert update.values.tolist() == [0] * len(state.parameters)


def test_an_empty_batch_is_noised_as_any_other() -> None:
    """PRIVACY-4: what leaves does not say that nobody was chosen."""
    plan = plan_for("small-cnn")
    nobody = clipped_integer_sum(
        plan, weights(plan), random_features(plan, [1, 2]), np.zeros(2, dtype=np.bool_)
    )
    terms = plan.sum_terms(0)
    noised = noised_update(plan, terms, nobody, 4, FixedEntropy("nobody")).values
    sigma = terms.noise_multiplier * terms.integer_clip / np.sqrt(plan.noise_sharers(4, terms))
    assert abs(noised.std() / sigma - 1) < 5 / np.sqrt(2 * len(noised))


def test_only_the_chosen_patients_count() -> None:
    plan = plan_for("logistic")
    features, state = random_features(plan, [2] * 6), weights(plan)
    chosen = np.array([True, False, True, False, False, True])
    rows = np.isin(features.patient, np.flatnonzero(chosen))
    alone = Features(features.x[rows], features.y[rows], np.repeat(np.arange(3), 2), patients=3)
    got = clipped_integer_sum(plan, state, features, chosen).values
    expected = clipped_integer_sum(plan, state, alone, everyone(alone)).values
    assert got.tolist() == expected.tolist()


def test_a_patient_larger_than_a_batch_is_averaged_whole() -> None:
    plan = plan_for("logistic", clip=1.0)
    features, state = random_features(plan, [3, 300, 2]), weights(plan)
    expected = manual_sum(plan, per_row_oracle(plan, state, features), features)
    got = clipped_integer_sum(plan, state, features, everyone(features)).values
    np.testing.assert_allclose(got, expected, atol=8)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_value_that_is_not_finite_adds_nothing_and_raises_nothing(bad: float) -> None:
    plan = plan_for("logistic")
    features, state = random_features(plan, [2, 1]), weights(plan)
    x = features.x.copy()
    x[0] = bad
    both = clipped_integer_sum(plan, state, replace(features, x=x), everyone(features)).values
    second = clipped_integer_sum(plan, state, features, np.array([False, True])).values
    assert both.tolist() == second.tolist()


def test_a_plans_weight_of_positive_patients_is_in_their_gradients() -> None:
    once, thrice = (
        plan_for("logistic", clip=500.0),
        plan_for("logistic", clip=500.0, positive_weight=3.0),
    )
    state = weights(once)
    features = random_features(once, [1, 1])
    for label in (0, 1):
        labelled = replace(features, y=np.full(2, label))
        light = clipped_integer_sum(once, state, labelled, everyone(labelled)).values
        heavy = clipped_integer_sum(thrice, state, labelled, everyone(labelled)).values
        np.testing.assert_allclose(heavy, light * (3 if label else 1), atol=8)


@pytest.mark.parametrize(
    ("architecture", "rows"),
    [
        ("logistic", 128),
        ("small-cnn", 128),
        ("scattering-logistic", 128),
        ("resnet18-groupnorm", 4),
    ],
)
def test_batches_have_the_plans_size(architecture: str, rows: int) -> None:
    """A batch of the largest gradients stays below 256 MiB, or is one row."""
    plan = plan_for(architecture)
    assert batch_rows(plan) == rows
    assert rows * plan.model.parameters <= 2**26


def test_batches_are_as_many_whatever_the_coins_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """PRIVACY-16: gradients and clippings are counted; broken on purpose, they differ."""
    plan = plan_for("mlp", sampling="poisson", sampling_rate=0.5, divisor=50)
    features, state = random_features(plan, [1, 2, 30] * 60), weights(plan)

    def work(chosen: np.ndarray) -> tuple[int, int]:
        gradients, clippings = [], []
        with monkeypatch.context() as patched:
            once, block = RowGradients.__call__, PatientSum._clip_block
            patched.setattr(RowGradients, "__call__", lambda *a: gradients.append(0) or once(*a))
            patched.setattr(PatientSum, "_clip_block", lambda s: clippings.append(0) or block(s))
            clipped_integer_sum(plan, state, features, chosen)
        return len(gradients), len(clippings)

    nobody = np.zeros(features.patients, dtype=np.bool_)
    fixed = work(nobody)
    assert fixed[0] > 8
    for step in range(5):
        coins = poisson_mask(features.patients, 0.5, FixedEntropy(f"coins/{step}"))
        assert work(coins) == fixed
    monkeypatch.setattr(dp_sgd, "sampled_room", lambda sizes, rate: 0)
    assert work(nobody) != work(coins)


def test_a_sample_beyond_the_room_is_computed_all_the_same() -> None:
    plan = plan_for("logistic", sampling="poisson", sampling_rate=0.01, divisor=1)
    features, state = random_features(plan, [1] * 600), weights(plan)
    rare = clipped_integer_sum(plan, state, features, everyone(features)).values
    full = clipped_integer_sum(plan_for("logistic"), state, features, everyone(features)).values
    assert rare.tolist() == full.tolist()


def test_torchs_generator_is_never_used() -> None:
    """PRIVACY-3: nor by the local steps of dp-fedavg."""
    plan, local = plan_for("small-cnn"), plan_for("small-cnn", **LOCAL)
    features, state = random_features(plan, IMAGES_OF), weights(plan)
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()
    update = clipped_integer_sum(plan, state, features, everyone(features))
    noised_update(plan, plan.sum_terms(0), update, 4, FixedEntropy("generator"))
    local_update(local, state, features, FixedEntropy("generator"))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpys


@pytest.mark.parametrize("cohort_size", [3, 4])
def test_noise_share_has_the_cohorts_variance(cohort_size: int) -> None:
    plan, _ = make_plan()
    update = QuantisedUpdate(np.zeros(40_000, dtype=np.int64))
    noise = share(plan, update, cohort_size).values.astype(np.float64)
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
    noise = share(plan, update, cohort_size).values.astype(np.float64)
    sigma = plan.privacy.noise_multiplier * plan.training.integer_clip
    assert abs(noise.std() * np.sqrt(cohort_size - 1 - lost) / sigma - 1) < 0.018
    if lost:  # the share of an atomic plan would be too small
        assert abs(noise.std() * np.sqrt(cohort_size - 1) / sigma - 1) > 0.1


def test_a_cohort_too_small_to_recover_gets_no_noise_and_no_update() -> None:
    plan, _ = make_plan(7, **recoverable(2))
    with pytest.raises(ProtocolError) as refusal:
        share(plan, QuantisedUpdate(np.zeros(5, np.int64)), 4)
    assert refusal.value.code is ErrorCode.COHORT_TOO_SMALL


def test_noise_is_added_to_the_sum_and_is_fresh_each_time() -> None:
    plan, _ = make_plan()
    update = QuantisedUpdate(np.arange(5, dtype=np.int64) * 10**9)
    entropy = FixedEntropy("fresh")
    first = noised_update(plan, plan.sum_terms(0), update, 4, entropy).values
    second = noised_update(plan, plan.sum_terms(0), update, 4, entropy).values
    assert (first != second).any()
    sigma = plan.privacy.noise_multiplier * plan.training.integer_clip
    assert np.abs(first - update.values).max() < 12 * sigma


@pytest.mark.parametrize("cohort_size", [-1, 0, 1, 2, 5])
def test_cohort_outside_the_plan_gets_no_noise_and_no_update(cohort_size: int) -> None:
    plan, _ = make_plan()
    with pytest.raises(ProtocolError) as refusal:
        share(plan, QuantisedUpdate(np.zeros(5, np.int64)), cohort_size)
    assert refusal.value.code is ErrorCode.COHORT_TOO_SMALL


def test_an_update_of_dp_fedavg_is_not_noised_again() -> None:
    plan = plan_for("logistic", **LOCAL)
    with pytest.raises(ValueError, match="noise already"):
        share(plan, QuantisedUpdate(np.zeros(5, np.int64)), 4)
