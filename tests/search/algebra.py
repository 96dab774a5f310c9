"""Which combinations of masked vectors are free of unknown masks, and what do they say?

Every masked vector is a contribution plus known and unknown masks with coefficients. Whoever adds
and scales vectors learns about contributions exactly what the combinations without unknown masks
say: unknown masks are uniform and independent. Combinations are taken over a prime field and over
GF(2), because words live modulo 2^32, where a mask times 2^31 keeps one bit only.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final

LARGE_PRIME: Final = (1 << 61) - 1
FIELDS: Final = (LARGE_PRIME, 2)

Vector = dict[Hashable, int]


def free_combinations(rows: Sequence[Mapping[Hashable, int]], prime: int) -> list[Vector]:
    """Return a basis of the combinations of ``rows`` that vanish, as row number → coefficient.

    Args:
        rows: each vector's unknown masks with their coefficients.
        prime: of the field.
    """
    pivots: list[tuple[Hashable, Vector, Vector]] = []
    free = []
    for number, row in enumerate(rows):
        left = {key: value % prime for key, value in row.items() if value % prime}
        made: Vector = {number: 1}
        for column, other, others_made in pivots:  # in this order: see the module's tests
            factor = left.get(column, 0)
            if factor:
                _subtract(left, other, factor, prime)
                _subtract(made, others_made, factor, prime)
        if left:
            column, value = next(iter(left.items()))
            inverse = pow(value, -1, prime)
            pivots.append((column, _scaled(left, inverse, prime), _scaled(made, inverse, prime)))
        else:
            free.append(made)
    return free


def reduced(vectors: Iterable[Mapping[Hashable, int]], prime: int) -> list[Vector]:
    """Return the reduced row echelon form of the span: one basis for one space.

    A space spanned by indicators of disjoint sets has exactly those indicators as this basis.
    """
    basis: list[tuple[Hashable, Vector]] = []
    for vector in vectors:
        left = {key: value % prime for key, value in vector.items() if value % prime}
        for column, other in basis:
            factor = left.get(column, 0)
            if factor:
                _subtract(left, other, factor, prime)
        if not left:
            continue
        column, value = next(iter(left.items()))
        left = _scaled(left, pow(value, -1, prime), prime)
        for _, other in basis:
            factor = other.get(column, 0)
            if factor:
                _subtract(other, left, factor, prime)
        basis.append((column, left))
    return [vector for _, vector in basis]


def project(combination: Mapping[Hashable, int], symbols: Sequence[Hashable], prime: int) -> Vector:
    """Return what a combination of rows says about contributions: symbol → coefficient."""
    said: Vector = {}
    for row, value in combination.items():
        assert isinstance(row, int)
        symbol = symbols[row]
        said[symbol] = (said.get(symbol, 0) + value) % prime
    return {symbol: value for symbol, value in said.items() if value}


def _subtract(target: Vector, other: Mapping[Hashable, int], factor: int, prime: int) -> None:
    for key, value in other.items():
        left = (target.get(key, 0) - factor * value) % prime
        if left:
            target[key] = left
        else:
            target.pop(key, None)


def _scaled(vector: Mapping[Hashable, int], factor: int, prime: int) -> Vector:
    return {key: value * factor % prime for key, value in vector.items()}
