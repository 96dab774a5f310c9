"""PRIVACY-18, PRIVACY-2: can any patient move the sum by more than the integer clip?

Patients made to hurt, through the whole site path: rows, gradients, mean, clip, grid, sum. The sum
with the patient minus the sum without is compared as integers, without any tolerance: its squared
norm is at most integer_clip squared, and nobody else's integers change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.governance.study import StudyPlan
from schemas.models import OptimiserState, initial_state
from site_node.cohort.features import Features
from site_node.training.dp_sgd import clipped_integer_sum
from tests.support.learning import plan_for, random_features

Rows = NDArray[np.float32]
TINY, HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
SUBNORMAL = float(np.finfo(np.float32).smallest_subnormal)
OTHERS = [1, 3, 1, 2, 1, 1, 4]  # rows of the patients who are there in any case


def extremes(
    shape: tuple[int, ...], many: int, several: tuple[int, ...] = (2, 127, 128, 129, 300)
) -> Iterator[tuple[str, Rows]]:
    """Rows of one patient: every extreme value alone, everywhere, mixed, and in many rows."""
    dice = np.random.default_rng(3)
    size = int(np.prod(shape))
    special = (
        0.0, -0.0, 1.0, -1.0, HUGE, -HUGE, HUGE / 2, 1e30, 1e20, 1e10, 1e5, 1e-5, 1e-20, TINY,
        -TINY, SUBNORMAL, -SUBNORMAL, float("inf"), float("-inf"), float("nan"),
    )  # fmt: skip
    for value in special:
        yield f"all {value}", np.full((1, *shape), value, dtype=np.float32)
        for rows in several:  # fewer and more than one batch
            yield f"{rows} rows of {value}", np.full((rows, *shape), value, dtype=np.float32)
        for place in {0, size // 2, size - 1}:
            one = np.zeros((1, size), dtype=np.float32)
            one[0, place] = value
            yield f"one-hot {value} at {place}", one.reshape(1, *shape)
    for number in range(many):
        scale = 10.0 ** dice.uniform(-44, 38)
        rows = dice.normal(size=(dice.integers(1, 6), *shape)) * scale
        with np.errstate(over="ignore"):
            drawn = rows.astype(np.float32)
        if number % 4 == 0:  # rows that point the same way, and rows against each other
            drawn = np.concatenate([drawn, drawn, -drawn if number % 8 else drawn])
        if number % 5 == 0:
            drawn[0].reshape(-1)[dice.integers(size)] = dice.choice(np.array(special))
        yield f"scale {scale:.1e} ({number})", drawn


def around_the_clip(plan: StudyPlan) -> Iterator[tuple[str, Rows]]:
    """Rows whose gradient, half of (x, 1) at zero weights, is as long as the clip but for ulps."""
    width = plan.model.input_width
    dice = np.random.default_rng(4)
    for number in range(60):
        direction = dice.normal(size=width) if number else np.eye(width)[0]
        wanted = np.sqrt(4 * plan.training.clip**2 - 1)
        row = (direction / np.linalg.norm(direction) * wanted).astype(np.float32)
        for ulps in range(-3, 4):
            moved = row
            for _ in range(abs(ulps)):
                moved = np.nextafter(moved, np.where(row * ulps > 0, np.inf, -np.inf))
            yield f"clip and {ulps} ulp ({number})", moved.astype(np.float32)[None]


def joined(others: Features, rows: Rows, label: int, place: int) -> Features:
    """The others and one more patient, who stands at `place` among them."""
    at = int(np.searchsorted(others.patient, place))
    owner = others.patient + (others.patient >= place)
    count = len(rows)
    time = others.time
    if time is not None:
        time = np.insert(time, at, np.full(count, 40.0, dtype=np.float32))
    return replace(
        others,
        x=np.concatenate([others.x[:at], rows, others.x[at:]]),
        y=np.insert(others.y, at, np.full(count, label)),
        patient=np.insert(owner, at, np.full(count, place)),
        patients=others.patients + 1,
        time=time,
    )


def worst(
    plan: StudyPlan, state: OptimiserState, patients: Iterator[tuple[str, Rows]]
) -> tuple[int, int]:
    """How many patients were tried, and the largest squared norm one of them had."""
    others = random_features(plan, OTHERS, seed=1)

    def summed(features: Features) -> NDArray[np.int64]:
        everyone = np.ones(features.patients, dtype=np.bool_)
        return clipped_integer_sum(plan, state, features, everyone).values

    without = summed(others)
    limit = plan.training.integer_clip**2
    largest = tried = 0
    for name, rows in patients:
        place = tried % (others.patients + 1)
        change = summed(joined(others, rows, tried % 2, place)) - without
        norm = sum(int(value) ** 2 for value in change)  # Python's integers: no overflow
        assert norm <= limit, name
        largest, tried = max(largest, norm), tried + 1
    return tried, largest


def starting(plan: StudyPlan, scale: float) -> OptimiserState:
    parameters = np.random.default_rng(2).normal(0, 1, plan.model.parameters) * scale
    return initial_state(plan.model, parameters)


@pytest.mark.parametrize("scale", [0.0, 0.3, 50.0])
def test_no_row_of_a_table_moves_the_sum_beyond_the_clip(scale: float) -> None:
    """PRIVACY-2: at the first model, at a trained one, and at one that has gone astray."""
    plan = plan_for("logistic")
    patients = extremes((plan.model.input_width,), 200)
    tried, largest = worst(plan, starting(plan, scale), patients)
    assert tried >= 350
    # The bound is no idle one: somebody comes within a thousandth of it.
    assert largest >= 0.999 * plan.training.integer_clip**2


def test_a_gradient_within_ulps_of_the_clip_stays_inside_it() -> None:
    """PRIVACY-2: where rounding of the clip would show first."""
    plan = plan_for("logistic")
    tried, largest = worst(plan, starting(plan, 0.0), around_the_clip(plan))
    assert tried >= 400
    assert largest >= 0.999 * plan.training.integer_clip**2


@pytest.mark.parametrize("architecture", ["mlp", "cox"])
def test_nor_does_one_of_another_table_model(architecture: str) -> None:
    """PRIVACY-2: hidden layers, and follow-up times."""
    plan = plan_for(architecture)
    tried, largest = worst(plan, starting(plan, 0.3), extremes((plan.model.input_width,), 150))
    assert tried >= 300
    assert largest >= 0.999 * plan.training.integer_clip**2


def test_nor_does_an_image() -> None:
    """PRIVACY-2: pixels no scanner would give, and one patient with 300 images."""
    plan = plan_for("small-cnn")
    tried, largest = worst(plan, starting(plan, 0.2), extremes((1, 12, 12), 60, (129,)))
    assert tried >= 140
    assert largest >= 0.99 * plan.training.integer_clip**2  # more coordinates, more truncated


def test_rounding_in_place_of_truncation_would_be_seen() -> None:
    """PRIVACY-18: the fault this test is for: to the nearest grid point, and the norm grows."""
    plan = plan_for("logistic", integer_clip=1 << 11)
    clip, grid = plan.training.clip, plan.training.integer_clip
    dice = np.random.default_rng(5)
    rows = dice.normal(size=(2000, plan.model.parameters))
    rows *= clip / np.linalg.norm(rows, axis=1)[:, None]
    nearest = np.rint(rows / clip * grid).astype(np.int64)
    truncated = np.trunc(rows / clip * grid).astype(np.int64)
    assert ((nearest**2).sum(axis=1) > grid**2).any()
    assert not ((truncated**2).sum(axis=1) > grid**2).any()
