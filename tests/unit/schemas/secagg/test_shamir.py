"""SECAGG-12: tau shares give the secret, fewer say nothing about it, a wrong one misleads."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.secagg.shamir import (
    PRIME,
    combine,
    read_element,
    split,
    weights_at_zero,
    write_element,
)
from tests.support.secure_sum import FixedEntropy


def cut(n_sites: int, threshold: int, seed: str = "shamir") -> tuple[bytes, dict[int, int]]:
    """A secret and its shares by x."""
    points = {f"site-{x}": x for x in range(1, n_sites + 1)}
    secret, shares = split(FixedEntropy(seed)(64 * threshold), points)
    return secret, {points[site]: read_element(share) for site, share in shares.items()}


def joined(shares: dict[int, int]) -> bytes:
    return combine(weights_at_zero(tuple(shares)), tuple(shares.values()))


@pytest.mark.parametrize(("n_sites", "threshold"), [(3, 2), (5, 4), (7, 5), (6, 1), (4, 4)])
def test_any_tau_shares_give_the_secret(n_sites: int, threshold: int) -> None:
    secret, shares = cut(n_sites, threshold)
    for chosen in itertools.permutations(shares, threshold):
        assert joined({x: shares[x] for x in chosen}) == secret


def test_more_shares_than_needed_agree() -> None:
    secret, shares = cut(7, 4)
    assert joined(shares) == secret


def test_the_largest_consortium_can_share() -> None:
    secret, shares = cut(200, 111)
    assert joined({x: shares[x] for x in range(90, 201)}) == secret


@given(st.integers(0, PRIME - 1), st.integers(2, 6))
def test_one_share_too_few_fits_every_secret_alike(other: int, threshold: int) -> None:
    """For any secret there is exactly one missing share: the others say nothing."""
    secret, shares = cut(6, threshold)
    few = {x: shares[x] for x in range(1, threshold)}
    weights = weights_at_zero((*few, threshold))
    rest = sum(w * share for w, share in zip(weights, few.values(), strict=False))
    missing = (other - rest) * pow(weights[-1], -1, PRIME) % PRIME
    assert joined({**few, threshold: missing}) == write_element(other)
    assert joined(few) != secret


@pytest.mark.parametrize("change", [1, -1, PRIME // 2])
@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_changed_share_gives_another_secret_without_a_word(change: int, place: int) -> None:
    """Therefore a secret is committed to."""
    secret, shares = cut(4, 4)
    assert joined({**shares, place: (shares[place] + change) % PRIME}) != secret


def test_a_known_polynomial() -> None:
    """f(x) = 7 + 3x + 2x²: by hand."""
    entropy = b"".join(value.to_bytes(64, "little") for value in (7, 3 + PRIME, 2 + 5 * PRIME))
    secret, shares = split(entropy, {"a": 1, "b": 2, "c": 10})
    assert secret == write_element(7)
    assert {site: read_element(raw) for site, raw in shares.items()} == {"a": 12, "b": 21, "c": 237}


def test_weights_sum_to_one() -> None:
    """A constant polynomial is its own value at zero."""
    for points in ((1,), (1, 2, 3), (5, 90, 200, 7)):
        assert sum(weights_at_zero(points)) % PRIME == 1


def test_secret_and_shares_come_from_the_entropy_alone() -> None:
    assert cut(5, 3) == cut(5, 3)
    assert cut(5, 3)[0] != cut(5, 3, "other")[0]
    assert len(set(cut(50, 3)[1].values())) == 50


@pytest.mark.parametrize("entropy", [b"", bytes(63), bytes(65)])
def test_entropy_of_another_length_is_refused(entropy: bytes) -> None:
    with pytest.raises(ValueError, match="entropy"):
        split(entropy, {"a": 1})


@pytest.mark.parametrize("points", [{"a": 0}, {"a": PRIME}, {"a": -1}, {"a": 1, "b": 1}, {}])
def test_a_point_that_would_betray_the_secret_is_refused(points: dict[str, int]) -> None:
    """At x = 0 (mod p) lies the secret itself."""
    with pytest.raises(ValueError, match="point"):
        split(bytes(64), points)
    with pytest.raises(ValueError, match="point"):
        weights_at_zero(tuple(points.values()))


def test_every_weight_needs_its_share() -> None:
    with pytest.raises(ValueError, match="one share"):
        combine(weights_at_zero((1, 2)), (5,))


@pytest.mark.parametrize(
    "raw",
    [b"", bytes(31), bytes(33), PRIME.to_bytes(32, "little"), b"\xff" * 32],
    ids=["empty", "short", "long", "the prime", "largest"],
)
def test_a_second_spelling_of_an_element_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="element"):
        read_element(raw)


@given(st.integers(0, PRIME - 1))
def test_elements_come_back(value: int) -> None:
    assert read_element(write_element(value)) == value
