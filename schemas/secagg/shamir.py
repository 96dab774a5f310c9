"""How is a secret cut into shares, so that tau of them give it back and fewer say nothing?

Shamir 1979 over the prime field of 2^255 - 19 (the prime of RFC 7748, chosen because every
implementer has it): the secret is f(0), the share of a site is f(x) for its own x > 0, and f is a
uniform polynomial of degree tau - 1. Fewer than tau shares leave every secret equally likely.

A changed share gives a wrong secret without a word, so a combined secret means nothing until it
fits a commitment (`schemas.secagg.keys.self_mask_commitment`). Arithmetic on Python integers is not
constant in time; shares are made and combined once per attempt, on machines that nobody but their
owner can time so finely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

PRIME: Final = 2**255 - 19
SECRET_BYTES: Final = 32
COEFFICIENT_BYTES: Final = 64
"""Entropy per coefficient: 512 bits modulo the prime are uniform to within 2^-256."""


def split(entropy: bytes, points: Mapping[str, int]) -> tuple[bytes, dict[str, bytes]]:
    """Draw a secret and one share of it per site.

    Args:
        entropy: 64 uniform bytes for each of the tau coefficients; the first is the secret.
        points: each site's x, all different and in [1, PRIME).

    Returns:
        The secret and the share of every site, 32 bytes each, little-endian.
    """
    if not entropy or len(entropy) % COEFFICIENT_BYTES:
        raise ValueError("a coefficient takes 64 bytes of entropy")
    _check_points(tuple(points.values()))
    coefficients = [
        int.from_bytes(entropy[start : start + COEFFICIENT_BYTES], "little") % PRIME
        for start in range(0, len(entropy), COEFFICIENT_BYTES)
    ]
    shares = {site: write_element(_evaluate(coefficients, x)) for site, x in points.items()}
    return write_element(coefficients[0]), shares


def weights_at_zero(points: Sequence[int]) -> tuple[int, ...]:
    """Return Lagrange's weights: f(0) is the sum of weight times share (degree < len(points)).

    They depend on the points alone, so many secrets shared among the same sites need them once.
    """
    _check_points(points)
    weights = []
    for own in points:
        numerator = denominator = 1
        for other in points:
            if other != own:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - own) % PRIME
        weights.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(weights)


def combine(weights: Sequence[int], shares: Sequence[int]) -> bytes:
    """Return the secret that ``shares`` lie on, in the order of the weights' points (32 bytes).

    It is *some* secret for any shares at all: compare it with its commitment.
    """
    if len(weights) != len(shares):
        raise ValueError("one share for each weight")
    total = sum(weight * share for weight, share in zip(weights, shares, strict=True))
    return write_element(total % PRIME)


def read_element(raw: bytes) -> int:
    """Read a secret or share; one number has one spelling.

    Raises:
        ValueError: not 32 bytes, or not below the prime.
    """
    value = int.from_bytes(raw, "little")
    if len(raw) != SECRET_BYTES or value >= PRIME:
        raise ValueError("not an element of the field")
    return value


def write_element(value: int) -> bytes:
    """Write a field element as 32 bytes, little-endian."""
    return value.to_bytes(SECRET_BYTES, "little")


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    """Evaluate the polynomial with constant term first (Horner)."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def _check_points(points: Sequence[int]) -> None:
    # x = 0 would hand out the secret itself, and two sites at one x would hold one share.
    if not points or len(set(points)) != len(points):
        raise ValueError("every site needs a point of its own")
    if not all(0 < x < PRIME for x in points):
        raise ValueError("a point lies between 1 and the prime")
