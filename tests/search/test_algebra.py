"""Does the algebra behind the search see what opens, and only that?"""

from __future__ import annotations

import itertools

import pytest

from tests.search.algebra import FIELDS, LARGE_PRIME, free_combinations, project, reduced


def test_pair_masks_cancel_over_the_whole_cohort_only() -> None:
    rows = [{"ab": 1, "ac": 1}, {"ab": -1, "bc": 1}, {"ac": -1, "bc": -1}]
    for prime in FIELDS:
        assert free_combinations(rows, prime) == [{0: 1, 1: 1, 2: 1}]
        assert free_combinations(rows[:2], prime) == []


def test_a_mask_used_twice_opens_a_difference() -> None:
    rows = [{"m": 1}, {"m": 1}]
    (free,) = free_combinations(rows, LARGE_PRIME)
    said = project(free, ["x", "y"], LARGE_PRIME)
    (coefficients,) = reduced([said], LARGE_PRIME)
    assert sorted(coefficients) == ["x", "y"] and sum(coefficients.values()) == LARGE_PRIME


def test_a_mask_that_is_doubled_keeps_no_bit_over_two() -> None:
    """y = x + 2m modulo 2^32: the lowest bit of x is plain, which the large field does not see."""
    assert free_combinations([{"m": 2}], LARGE_PRIME) == []
    assert free_combinations([{"m": 2}], 2) == [{0: 1}]


@pytest.mark.parametrize("prime", FIELDS)
def test_every_combination_found_is_free_and_every_free_one_is_spanned(prime) -> None:
    """By exhaustion over GF(2), on the edges of a graph on six sites with two components."""
    edges = [(0, 1), (1, 2), (0, 2), (3, 4)]
    rows = [{e: (1 if e[0] == v else -1) for e in edges if v in e} for v in range(6)]
    basis = reduced(free_combinations(rows, prime), prime)
    assert sorted(tuple(sorted(v)) for v in basis) == [(0, 1, 2), (3, 4), (5,)]
    if prime == 2:
        free = [
            chosen
            for count in range(1, 7)
            for chosen in itertools.combinations(range(6), count)
            if all(sum(rows[v].get(e, 0) for v in chosen) % 2 == 0 for e in edges)
        ]
        assert len(free) == 2 ** len(basis) - 1


def test_overlapping_sums_give_their_difference() -> None:
    said = reduced([{"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1}], LARGE_PRIME)
    assert {frozenset(v) for v in said} == {frozenset("ab"), frozenset("c")}


def test_contributions_that_repeat_are_added_up() -> None:
    assert project({0: 1, 1: 1, 2: 3}, ["x", "x", "y"], 5) == {"x": 2, "y": 3}
    assert project({0: 1, 1: -1}, ["x", "x"], 5) == {}
