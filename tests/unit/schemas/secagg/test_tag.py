"""SECAGG-8: the affine tag accepts the sum and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.secagg.field import PRIME
from schemas.secagg.tag import AffineTag

SECRET = bytes(range(64))
SITES = 4


def tags_of(tag: AffineTag, vectors: list[np.ndarray]) -> int:
    return sum(tag.evaluate(v, contributors=1) for v in vectors) % PRIME


VECTORS = [np.arange(-50, 50, dtype=np.int64) * (i + 1) for i in range(SITES)]
SUM = np.sum(VECTORS, axis=0)


@given(
    st.lists(
        st.lists(st.integers(-(1 << 29), 1 << 29), min_size=5, max_size=5), min_size=1, max_size=4
    )
)
def test_tags_add_up(rows: list[list[int]]) -> None:
    tag = AffineTag(SECRET)
    vectors = [np.array(row, dtype=np.int64) for row in rows]
    total = np.sum(vectors, axis=0)
    assert tags_of(tag, vectors) == tag.evaluate(total, contributors=len(vectors))


def test_long_vectors_are_tagged_piece_by_piece() -> None:
    tag = AffineTag(SECRET)
    vectors = [np.full(100_000, k, dtype=np.int64) for k in (1, -7)]
    assert tags_of(tag, vectors) == tag.evaluate(vectors[0] + vectors[1], contributors=2)


FORGERIES = {
    "zeroed": (0 * SUM, 0),
    "negated": (-SUM, -1),
    "doubled": (2 * SUM, 2),
    "scaled by seven": (7 * SUM, 7),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_homogeneous_forgeries_fail(name: str) -> None:
    tag = AffineTag(SECRET)
    forged, factor = FORGERIES[name]
    total = tags_of(tag, VECTORS)
    assert tag.evaluate(forged, contributors=SITES) != factor * total % PRIME


@pytest.mark.parametrize("name", FORGERIES)
def test_without_the_offset_every_one_of_them_would_pass(name: str) -> None:
    """The defence is necessary: the same rule with b = 0 accepts what must be refused."""
    tag = AffineTag(SECRET)
    forged, factor = FORGERIES[name]
    linear = sum(tag.evaluate(v, contributors=0) for v in VECTORS) % PRIME
    assert tag.evaluate(forged, contributors=0) == factor * linear % PRIME


def test_wrong_number_of_contributors_fails() -> None:
    tag = AffineTag(SECRET)
    assert tag.evaluate(SUM, contributors=SITES - 1) != tags_of(tag, VECTORS)


@pytest.mark.parametrize("bit", range(0, 512, 37))
def test_another_secret_gives_another_tag(bit: int) -> None:
    other = bytearray(SECRET)
    other[bit // 8] ^= 1 << (bit % 8)
    first = AffineTag(SECRET).evaluate(SUM, contributors=1)
    assert AffineTag(bytes(other)).evaluate(SUM, contributors=1) != first


def test_half_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        AffineTag(bytes(32))


def test_secret_does_not_show_in_a_traceback() -> None:
    assert repr(AffineTag(SECRET)) == "AffineTag(<secret>)"
