"""Is a step what the plan's formula says, the same everywhere, and is anything else refused?"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import TrainingTerms
from schemas.models import (
    OptimiserState,
    apply_step,
    final_parameters,
    initial_state,
    state_hash,
)
from tests.support.learning import terms, training

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
    """Any change in the order of operations changes this hash."""
    state = run(training(weight_decay=0.01), [[7, -3, 11, 2**30, -(2**30)]] * 4)
    assert state_hash(state) == "cb58b594f8fbc8e500041bb5f9503b1bcbae110cc2f8f3a19b517f787f82ccc4"


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
