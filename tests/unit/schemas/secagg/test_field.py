"""SECAGG-8: inner products in the field of 2^61 - 1 are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.secagg.field import (
    BLOCK,
    LIMB_BITS,
    LIMBS,
    PRIME,
    coefficients,
    inner_product,
    inner_products,
    limbs,
    residue,
)

WORD = st.integers(-(1 << 31), (1 << 31) - 1)
COEFFICIENT = st.integers(0, PRIME)
LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1


def exact(left: list[int], right: list[int]) -> int:
    return sum(a * b for a, b in zip(left, right, strict=True)) % PRIME


def as_array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def coefficients_of(seed: str, length: int) -> np.ndarray:
    raw = np.random.default_rng(list(seed.encode())).bytes(8 * length)
    return coefficients(np.frombuffer(raw, dtype="<u8"))


@given(st.lists(st.tuples(COEFFICIENT, WORD), max_size=40))
def test_inner_product_is_exact(pairs: list[tuple[int, int]]) -> None:
    left, right = [a for a, _ in pairs], [q for _, q in pairs]
    assert inner_product(as_array(left), as_array(right)) == exact(left, right)


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5000])
@pytest.mark.parametrize("word", [LOWEST, HIGHEST])
def test_largest_values_stay_exact(length: int, word: int) -> None:
    """Every limb full and every word extreme: sums come to 2^52, which float64 still holds."""
    left = np.full(length, (1 << 61) - 1)  # a coefficient as it comes from 61 bits
    got = inner_product(left, np.full(length, word, dtype=np.int64))
    assert got == exact(left.tolist(), [word] * length)


@pytest.mark.parametrize("length", [1, 17, BLOCK, 10_000])
def test_random_values_agree_with_whole_numbers(length: int) -> None:
    left = coefficients_of("left", length)
    right = coefficients_of("right", length) % (1 << 32) - (1 << 31)
    assert inner_product(left, right) == exact(left.tolist(), right.tolist())


def test_odd_sums_of_the_largest_size_are_not_rounded() -> None:
    """Beyond 2^53 float64 knows even numbers only: a longer block would lose the last one."""
    left = np.full(BLOCK, (1 << LIMB_BITS) - 1)
    right = np.full(BLOCK, HIGHEST, dtype=np.int64)
    for change in range(4):
        right[0] = HIGHEST - change
        assert inner_product(left, right) == exact(left.tolist(), right.tolist())


def test_sums_that_cancel_are_exact() -> None:
    left = coefficients_of("cancel", BLOCK)
    left[1::2] = left[::2]
    right = np.full(BLOCK, HIGHEST, dtype=np.int64)
    right[1::2] = -HIGHEST
    right[-1] += 1
    assert inner_product(left, right) == int(left[-1])


@pytest.mark.parametrize("length", [0, 3, BLOCK + 5])
def test_each_column_has_its_own_product(length: int) -> None:
    left = coefficients_of("columns", length)
    right = coefficients_of("right", 3 * length).reshape(length, 3) % (1 << 32) - (1 << 31)
    columns = [exact(left.tolist(), right[:, k].tolist()) for k in range(3)]
    assert inner_products(left, right) == columns


def test_limbs_are_the_coefficient_lowest_first() -> None:
    left = as_array([0, 1, PRIME, 1 << 60, 0x0123456789ABCDEF])
    cut = limbs(left)
    assert cut.shape == (5, LIMBS) and cut.max() < 1 << LIMB_BITS
    whole = [sum(int(limb) << LIMB_BITS * k for k, limb in enumerate(row)) for row in cut.tolist()]
    assert whole == left.tolist()


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        inner_product(as_array([1]), as_array([1, 2]))


def test_coefficients_are_61_bits_wide() -> None:
    words = np.array([0, 1, (1 << 64) - 1, 1 << 61], dtype=np.uint64)
    assert coefficients(words).tolist() == [0, 1, PRIME, 0]


def test_residue_needs_spare_bytes() -> None:
    assert residue(b"\xff" * 16) == ((1 << 128) - 1) % PRIME
    with pytest.raises(ValueError, match="bias"):
        residue(bytes(8))
