"""PRIVACY-4: each patient is taken by an independent coin of the plan's rate."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from site_node.training.sampling import poisson_mask, sampled_room
from tests.support.secure_sum import FixedEntropy

MILLION = 1_000_000


def fits(chosen: np.ndarray, rate: float) -> bool:
    spread = math.sqrt(rate * (1 - rate) / len(chosen))
    return abs(chosen.mean() - rate) < 4 * spread


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.97])
def test_the_rate_is_kept(rate: float) -> None:
    """PRIVACY-4: the plan's one rate."""
    chosen = poisson_mask(MILLION, rate, FixedEntropy(f"rate/{rate}"))
    assert chosen.dtype == np.bool_
    assert fits(chosen, rate)


@pytest.mark.parametrize("wrong", [0.098, 0.102, 0.2])
def test_another_rate_is_rejected(wrong: float) -> None:
    assert not fits(poisson_mask(MILLION, wrong, FixedEntropy("wrong")), 0.1)


def test_batch_sizes_vary_as_coins_do() -> None:
    """A shuffled batch has a fixed size; the accountant does not know that mechanism."""
    sizes = [poisson_mask(400, 0.25, FixedEntropy(f"size/{i}")).sum() for i in range(2000)]
    variance = float(np.var(sizes))
    assert abs(variance / 75 - 1) < 5 * math.sqrt(2 / 2000)


def test_patients_are_independent() -> None:
    """PRIVACY-4: one coin for each patient."""
    chosen = poisson_mask(MILLION, 0.3, FixedEntropy("pairs")).astype(float)
    assert abs(float(np.corrcoef(chosen[:-1], chosen[1:])[0, 1])) < 4 / math.sqrt(MILLION)


def test_full_batch_takes_everyone() -> None:
    """PRIVACY-4: rate 1 tosses no coin."""
    assert poisson_mask(1000, 1.0, os.urandom).all()


def test_every_step_draws_anew() -> None:
    assert not np.array_equal(
        poisson_mask(500, 0.5, os.urandom), poisson_mask(500, 0.5, os.urandom)
    )


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_no_patients_give_an_empty_batch(rate: float) -> None:
    assert poisson_mask(0, rate, os.urandom).shape == (0,)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        poisson_mask(5, rate, os.urandom)


# --- room -----------------------------------------------------------------------------------


def exceeded_exactly(patients: int, rate: float, room: int) -> float:
    """P(more than ``room`` of so many patients), from the binomial distribution."""
    log = [
        math.lgamma(patients + 1)
        - math.lgamma(k + 1)
        - math.lgamma(patients - k + 1)
        + k * math.log(rate)
        + (patients - k) * math.log1p(-rate)
        for k in range(room + 1, patients + 1)
    ]
    return sum(map(math.exp, log))


@pytest.mark.parametrize("patients", [20, 200, 5000])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.3, 0.9])
def test_the_room_is_exceeded_less_often_than_promised(patients: int, rate: float) -> None:
    """PRIVACY-16: chance 2^-40 at most; a room of six standard deviations would not do."""
    room = sampled_room(np.ones(patients, dtype=np.int64), rate)
    assert exceeded_exactly(patients, rate, room) <= 2**-40
    if (patients, rate) == (200, 0.05):
        six = math.ceil(10 + 6 * math.sqrt(200 * 0.05 * 0.95))
        assert exceeded_exactly(patients, rate, six) > 2**-40


def test_the_room_is_not_wasteful() -> None:
    ones = np.ones(5000, dtype=np.int64)
    assert sampled_room(ones, 0.1) < 500 + 9 * math.sqrt(450)
    assert sampled_room(ones, 1.0) == 5000
    assert sampled_room(np.array([3, 4]), 0.01) == 7
    assert sampled_room(np.zeros(0, dtype=np.int64), 0.5) == 0


def test_one_patient_of_many_rows_widens_the_room() -> None:
    sizes = np.array([1] * 999 + [50])
    assert sampled_room(sizes, 0.1) > sampled_room(np.ones(1049, dtype=np.int64), 0.1) + 50
