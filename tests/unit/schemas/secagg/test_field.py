"""SECAGG-8: inner products in the field of 2^61 - 1 are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.secagg.field import PRIME, coefficients, inner_product, residue

WORD = st.integers(-(1 << 31), (1 << 31) - 1)
COEFFICIENT = st.integers(0, PRIME)


def exact(left: list[int], right: list[int]) -> int:
    return sum(a * b for a, b in zip(left, right, strict=True)) % PRIME


def as_array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(st.lists(st.tuples(COEFFICIENT, WORD), max_size=40))
def test_inner_product_is_exact(pairs: list[tuple[int, int]]) -> None:
    left, right = [a for a, _ in pairs], [q for _, q in pairs]
    assert inner_product(as_array(left), as_array(right)) == exact(left, right)


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 5000, 1 << 17])
@pytest.mark.parametrize("word", [-(1 << 31), (1 << 31) - 1])
def test_largest_values_do_not_overflow(length: int, word: int) -> None:
    largest = (1 << 61) - 1  # a coefficient as it comes from 61 bits
    got = inner_product(np.full(length, largest), np.full(length, word, dtype=np.int64))
    assert got == exact([largest] * length, [word] * length)


def test_limbs_of_the_largest_size_do_not_overflow() -> None:
    # Every 21-bit limb full and every word extreme: the block sum comes to 2^62.
    left = np.full(1 << 20, (1 << 61) - 1, dtype=np.int64)
    right = np.full(1 << 20, -(1 << 31), dtype=np.int64)
    assert inner_product(left, right) == (1 << 20) * ((1 << 61) - 1) * -(1 << 31) % PRIME


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
