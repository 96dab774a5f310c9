"""Is a step what the plan's formula says, the same everywhere, and is anything else refused?"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import TrainingTerms
from schemas.models import (
    OptimiserState,
    apply_step,
    apply_sum,
    final_parameters,
    initial_state,
    model_hash,
    state_hash,
)
from tests.support.learning import terms, training
from tests.support.prepared import prepared_plan

START = np.array([0.5, -0.25, 0.0, 1.0, 2.0])


def run(terms_: TrainingTerms, sums: list[list[int]]) -> OptimiserState:
    """Apply several steps from the start."""
    state = initial_state(terms("logistic"), START)
    for values in sums:
        state = apply_step(state, np.array(values, dtype=np.int64), terms_)
    return state


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=5, max_size=5), min_size=1, max_size=4
    ),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0.0, 0.01]),
)
def test_steps_follow_the_formula_in_exact_arithmetic(
    sums: list[list[int]], momentum: float, decay: float
) -> None:
    """Oracle: the docstring's formula in rational numbers."""
    plan = training(momentum=momentum, weight_decay=decay)
    state = run(plan, sums)
    weights, velocity = [Fraction(v) for v in START], [Fraction(0)] * 5
    kept: list[list[Fraction]] = []
    for step, values in enumerate(sums):
        for at, value in enumerate(values):
            gradient = Fraction(value) * Fraction(0.5) / 2**18 / 100 + Fraction(decay) * weights[at]
            velocity[at] = Fraction(momentum) * velocity[at] + gradient
            weights[at] -= 2 * velocity[at]
        if step >= 2:
            kept.append(list(weights))
    np.testing.assert_allclose(state.parameters, [float(w) for w in weights], rtol=1e-12, atol=1e-9)
    if kept:
        mean = [float(sum(column, Fraction(0)) / len(kept)) for column in zip(*kept, strict=True)]
        np.testing.assert_allclose(state.average, mean, rtol=1e-12, atol=1e-9)
    assert (state.step, state.averaged) == (len(sums), len(kept))


def test_bits_are_frozen_for_auditors() -> None:
    """Any change in the order of operations changes these hashes: of the numbers, of the state."""
    state = run(training(weight_decay=0.01), [[7, -3, 11, 2**30, -(2**30)]] * 4)
    numbers = np.concatenate([state.parameters, state.momentum, state.average])
    assert model_hash(numbers) == "ae7026cacf39fc554c0704d77e64111948d9965ef834136c341cd741fe0b210f"
    assert state_hash(state) == "96970e94008f59900c8c92182eaeb11e45975ba93bf2c74c8d39f6a87539a8f6"


ADAM = {"optimiser": "adam", "second_momentum": 0.99, "adam_epsilon": 1e-3, "learning_rate": 0.1}
FEDAVG = {
    "algorithm": "dp-fedavg", "local_steps": 3, "local_learning_rate": 0.1, "local_divisor": 20,
    "update_clip": 0.5, "divisor": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        (
            ADAM | {"weight_decay": 0.01},
            "fbb8f6decee388c8b08a05a8e152af374431c6930d6154be72eac9237df53b80",
        ),
        (FEDAVG, "838cc376b79f714639d11cb80b787881a62205550018af150e98a73ce6f2c1ce"),
    ],
    ids=["adam", "dp-fedavg"],
)
def test_bits_of_every_other_way_to_step_are_frozen(changes: dict[str, Any], digest: str) -> None:
    assert state_hash(run(training(**changes), [[7, -3, 11, 2**30, -(2**30)]] * 4)) == digest


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=5, max_size=5), min_size=1, max_size=4
    ),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0.0, 0.01]),
)
def test_adam_follows_its_algorithm(sums: list[list[int]], beta: float, decay: float) -> None:
    """Oracle: Kingma & Ba 2015, algorithm 1, in decimal arithmetic of 50 digits."""
    state = run(training(**ADAM, momentum=beta, weight_decay=decay), sums)
    with localcontext() as context:
        context.prec = 50
        weights = [Decimal(v) for v in START.tolist()]
        first, second = [Decimal(0)] * 5, [Decimal(0)] * 5
        one, b1, b2 = Decimal(1), Decimal(beta), Decimal("0.99")
        for step, values in enumerate(sums, start=1):
            for at, value in enumerate(values):
                gradient = Decimal(value) * Decimal("0.5") / 2**18 / 100
                gradient += Decimal(decay) * weights[at]
                first[at] = b1 * first[at] + (one - b1) * gradient
                second[at] = b2 * second[at] + (one - b2) * gradient**2
                mean, spread = first[at] / (one - b1**step), second[at] / (one - b2**step)
                weights[at] -= Decimal("0.1") * mean / (spread.sqrt() + Decimal("1e-3"))
    np.testing.assert_allclose(state.parameters, [float(w) for w in weights], rtol=1e-9, atol=1e-9)


def test_adam_without_bias_correction_would_be_noticed() -> None:
    """The first step of Adam is the learning rate, whatever the gradient's size (epsilon aside)."""
    state = run(training(**ADAM), [[2**20, -(2**20), 2**24, -(2**24), 2**28]])
    moved = START - state.parameters
    np.testing.assert_allclose(moved, [0.1, -0.1, 0.1, -0.1, 0.1], rtol=0.06)


def test_change_of_the_hospitals_is_added_and_not_subtracted() -> None:
    """dp-fedavg: two hospitals of four moved by +0.5 (the clip), so their mean is +0.25."""
    state = run(training(**FEDAVG, momentum=0, learning_rate=1), [[2 * 2**18, 0, 0, 0, 0]])
    np.testing.assert_allclose(state.parameters - START, [0.25, 0, 0, 0, 0], atol=1e-12)


def test_state_of_adam_survives_its_bytes() -> None:
    state = run(training(**ADAM), [[1, 2, 3, 4, 5]] * 3)
    again = OptimiserState.from_bytes(state.to_bytes())
    assert again.to_bytes() == state.to_bytes()
    assert again.second.tolist() == state.second.tolist() != []
    changed = replace(state, second=np.nextafter(state.second, 9))
    assert state_hash(changed) != state_hash(state)
    prepared = replace(state, prepared=np.array([-1, 2], dtype=np.int64))
    assert state_hash(prepared) != state_hash(state)
    assert OptimiserState.from_bytes(prepared.to_bytes()).prepared.tolist() == [-1, 2]


def test_preparation_is_kept_and_is_no_step() -> None:
    plan = prepared_plan()
    words = plan.sum_terms(0).words
    state = initial_state(plan.model, np.zeros(plan.model.parameters))
    with pytest.raises(ProtocolError) as refusal:
        apply_sum(state, np.zeros(words + 1, dtype=np.int64), plan)
    assert refusal.value.code is ErrorCode.SUM_MALFORMED
    after = apply_sum(state, np.arange(words), plan)
    assert (after.step, after.prepared.tolist()) == (0, list(range(words)))
    assert after.parameters.tolist() == state.parameters.tolist()
    stepped = apply_sum(after, np.ones(plan.model.parameters, dtype=np.int64), plan)
    assert (stepped.step, stepped.prepared.tolist()) == (1, list(range(words)))


def test_state_survives_its_bytes_and_every_part_is_in_the_hash() -> None:
    state = run(training(), [[1, 2, 3, 4, 5]] * 3)
    again = OptimiserState.from_bytes(state.to_bytes())
    assert again.to_bytes() == state.to_bytes()
    hashes = {state_hash(state)}
    for name in ("parameters", "momentum", "average"):
        changed = getattr(state, name).copy()
        changed[0] = np.nextafter(changed[0], 9)
        parts = {
            "parameters": state.parameters, "momentum": state.momentum, "average": state.average
        } | {name: changed}  # fmt: skip
        hashes.add(state_hash(OptimiserState(**parts, averaged=state.averaged, step=state.step)))
    p, m, a = state.parameters, state.momentum, state.average
    hashes.add(state_hash(OptimiserState(p, m, a, state.averaged, state.step + 1)))
    hashes.add(state_hash(OptimiserState(p, m, a, state.averaged + 1, state.step)))
    assert len(hashes) == 6


def test_an_input_state_is_never_changed() -> None:
    state = initial_state(terms("logistic"), START)
    before = state.to_bytes()
    apply_step(state, np.ones(5, dtype=np.int64), training(average_from_step=0))
    assert state.to_bytes() == before


def test_final_model_is_the_average_of_the_window() -> None:
    plan = training(momentum=0)
    state = run(plan, [[2**18] * 5] * 4)
    # each step moves by 2 * 0.5 / 100; steps 3 and 4 are averaged
    np.testing.assert_allclose(final_parameters(state, plan), START - 0.01 * 3.5, rtol=1e-12)


def test_final_model_without_a_window_or_before_it_is_the_last() -> None:
    without = training(average_from_step=4)
    state = run(without, [[5] * 5] * 4)
    assert final_parameters(state, without).tolist() == state.parameters.tolist()
    early = run(training(), [[5] * 5] * 2)
    assert final_parameters(early, training()).tolist() == early.parameters.tolist()


@pytest.mark.parametrize(
    "summed",
    [np.zeros(4, np.int64), np.zeros((1, 5), np.int64), np.zeros(5, np.int32), np.zeros(5)],
    ids=["short", "matrix", "int32", "float"],
)
def test_sum_of_another_shape_or_type_is_refused(summed: np.ndarray) -> None:
    with pytest.raises(ProtocolError) as refusal:
        apply_step(initial_state(terms("logistic"), START), summed, training())
    assert refusal.value.code is ErrorCode.SUM_MALFORMED


def test_step_beyond_the_plan_is_refused() -> None:
    state = run(training(), [[0] * 5] * 4)
    with pytest.raises(ProtocolError) as refusal:
        apply_step(state, np.zeros(5, np.int64), training())
    assert refusal.value.code is ErrorCode.ROUND_UNKNOWN


def test_model_that_leaves_the_finite_numbers_is_refused() -> None:
    model = initial_state(terms("logistic"), np.full(5, 1e308))
    with np.errstate(over="ignore"), pytest.raises(ProtocolError) as refusal:
        apply_step(model, np.zeros(5, np.int64), training(weight_decay=1e6, learning_rate=1e6))
    assert refusal.value.code is ErrorCode.VECTOR_NOT_FINITE


@pytest.mark.parametrize("flat", [np.zeros(4), np.full(5, np.nan)], ids=["short", "nan"])
def test_initial_weights_that_do_not_fit_are_refused(flat: np.ndarray) -> None:
    with pytest.raises(ProtocolError) as refusal:
        initial_state(terms("logistic"), flat)
    assert refusal.value.code is ErrorCode.WEIGHTS_MALFORMED


def _broken() -> list[bytes]:
    raw = run(training(), [[1] * 5]).to_bytes()
    nan = raw[:40] + b"\xff" * 8 + raw[48:]
    return [b"", raw[:20], raw[:-1], raw + b"\x00", b"X" + raw[1:], nan]


@pytest.mark.parametrize("raw", _broken(), ids=["empty", "header", "short", "long", "magic", "nan"])
def test_bytes_that_are_not_one_state_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        OptimiserState.from_bytes(raw)
